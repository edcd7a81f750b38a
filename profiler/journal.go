package profiler

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// A journal keeps what has been measured while a measurement runs: a line of JSON per entry behind its checksum, each
// written at once when it is known. A process that is killed loses what was under way; the next one continues from
// there. A last line that was cut is no damage; anything else is.

// ErrJournal is wrapped by errors about a journal that cannot be continued.
var ErrJournal = errors.New("unfinished measurement")

const journalVersion = 2 // 2: rounds next to a busy accelerator name it busy

// heading is the first line of a journal: what it is a measurement of.
type heading struct {
	Journal int    `json:"terastal_profile_journal"` // version
	Key     string `json:"key"`                      // hash of everything that must be the same
	Created string `json:"created"`
	// Models are those measured, without their layers.
	Models []Model `json:"models,omitempty"`
	// Auto is the task's, and Machine tells where it was found out.
	Auto    map[string]int `json:"auto,omitempty"`
	Machine string         `json:"machine,omitempty"`
}

// entry is any later line. Exactly one of its parts is there.
type entry struct {
	Accelerator int `json:"k"`
	// Spent is the time that it took.
	Spent  time.Duration `json:"spent_ns,omitempty"`
	Places []place       `json:"places,omitempty"` // what all later entries count in
	Loaded *loaded       `json:"loaded,omitempty"`
	Failed *failure      `json:"failed,omitempty"`
	Peak   *Peak         `json:"peak,omitempty"`
	Gaps   Times         `json:"gaps_ns,omitempty"`
	Device *Device       `json:"device,omitempty"`
	// Round: the times of the places At, next to the accelerator Busy if that is not nil, and to so many other Streams of
	// the device.
	At      []int `json:"at,omitempty"`
	Times   Times `json:"times_ns,omitempty"`
	Busy    *int  `json:"busy,omitempty"`
	Streams int   `json:"streams,omitempty"`
}

// openJournal opens or makes the journal at path and returns what is in it. It is locked against other processes until
// it is closed.
func openJournal(path string, head heading) (*os.File, []entry, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, nil, fmt.Errorf("profile journal: %w", err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, nil, fmt.Errorf("profile journal: %w", err)
	}
	entries, err := continueJournal(f, head)
	if err != nil {
		f.Close()
		return nil, nil, fmt.Errorf("%w %s: %w", ErrJournal, path, err)
	}
	return f, entries, nil
}

// continueJournal checks and reads what there is, and goes to where the next line belongs.
func continueJournal(f *os.File, head heading) ([]entry, error) {
	if err := lock(f); err != nil {
		return nil, fmt.Errorf("another process is at it: %w", err)
	}
	was, entries, size, err := readJournal(f)
	if err != nil {
		return nil, err
	}
	if was != nil && was.Key != head.Key {
		return nil, fmt.Errorf("it is of %s, of other models, accelerators or settings: "+
			"finish it as it was begun, or remove it", was.Created)
	}
	if err := f.Truncate(size); err != nil {
		return nil, err
	}
	if _, err := f.Seek(size, io.SeekStart); err != nil {
		return nil, err
	}
	if was == nil {
		return nil, writeLine(f, head)
	}
	return entries, nil
}

// readJournal reads up to the last whole line, and says how many bytes that is.
func readJournal(f io.Reader) (*heading, []entry, int64, error) {
	var head *heading
	var entries []entry
	var size int64
	r := bufio.NewReader(f)
	for n := 1; ; n++ {
		line, err := r.ReadBytes('\n')
		if err == io.EOF {
			return head, entries, size, nil // what is left was cut
		}
		if err != nil {
			return nil, nil, 0, err
		}
		data, ok := checked(line)
		var e entry
		switch {
		case !ok:
			err = errors.New("its checksum does not match")
		case n == 1:
			head = &heading{}
			if err = strictly(data, head); err == nil && head.Journal != journalVersion {
				err = fmt.Errorf("it has version %d, this terastal reads %d", head.Journal, journalVersion)
			}
		default:
			if err = strictly(data, &e); err == nil {
				entries = append(entries, e)
			}
		}
		if err != nil {
			return nil, nil, 0, fmt.Errorf("line %d is damaged: %w: remove the file", n, err)
		}
		size += int64(len(line))
	}
}

func strictly(data []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	return d.Decode(v)
}

// sumLength is how much of a line's SHA-256, in hexadecimal, stands before it.
const sumLength = 16

func sum(data []byte) string { return fmt.Sprintf("%x", sha256.Sum256(data))[:sumLength] }

// checked takes the checksum off a line.
func checked(line []byte) ([]byte, bool) {
	line = bytes.TrimSuffix(line, []byte("\n"))
	if len(line) < sumLength+1 || line[sumLength] != ' ' {
		return nil, false
	}
	data := line[sumLength+1:]
	return data, string(line[:sumLength]) == sum(data)
}

// writeLine writes a line at once: a process that ends in between leaves all of it or a cut line.
func writeLine(f *os.File, v any) error {
	data, err := json.Marshal(v)
	if err == nil {
		_, err = fmt.Fprintf(f, "%s %s\n", sum(data), data)
	}
	if err != nil {
		return fmt.Errorf("profile journal: %w", err)
	}
	return nil
}

// RemoveJournal forgets the unfinished measurement at path, if there is one.
func RemoveJournal(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("profile journal: %w", err)
	}
	return nil
}

// PreviousCut is the cut of a model that a profile at path has, or the journal of an unfinished one, for the same model
// and granularity; empty if neither has it. Splitting by it makes the layers that were measured.
func PreviousCut(path, journal, sha256, granularity string) string {
	var all []Model
	if p, err := Read(path); err == nil {
		all = p.Models
	}
	if f, err := os.Open(journal); err == nil {
		if head, _, _, err := readJournal(f); err == nil && head != nil {
			all = append(all, head.Models...)
		}
		f.Close()
	}
	for _, m := range all {
		if m.SHA256 == sha256 && m.Granularity == granularity {
			return m.Cut
		}
	}
	return ""
}

// PreviousStreams is how many streams of a device [Streams] found to pay when a profile at path was made on this
// machine, or an unfinished one that has the journal was begun; 0 if neither knows.
func PreviousStreams(path, journal string, host Host, device string) int {
	if p, err := Read(path); err == nil && machine(p.Host) == machine(host) {
		for i := range p.Devices {
			if d := &p.Devices[i]; d.Name == device && d.Auto > 0 {
				return d.Auto
			}
		}
	}
	f, err := os.Open(journal)
	if err != nil {
		return 0
	}
	defer f.Close()
	head, _, _, err := readJournal(f)
	if err != nil || head == nil || head.Machine != machine(host) {
		return 0
	}
	return head.Auto[device]
}

// machine tells apart machines, and states of one, on which devices are not equally fast.
func machine(h Host) string {
	data, err := json.Marshal([]any{h.CPU, h.AllowedCores, h.Kernel, h.CUDA})
	if err != nil {
		panic("profiler: " + err.Error()) // facts that documents hold
	}
	return sum(data)
}

package ort

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"
)

// Profile is what ONNX Runtime's profiler recorded of a session.
type Profile struct {
	// Runs are the session's runs, in the order in which they began.
	Runs []ProfileEvent
	// Nodes are the nodes that ran in them and, with some providers, what these did on their devices, by start.
	Nodes []ProfileEvent
	// Unreadable counts events that were left out: ONNX Runtime does not escape names.
	Unreadable int
	// Full is true when the profiler stopped, having as many events as it keeps.
	Full bool
}

// ProfileEvent is one entry of a profile. ONNX Runtime cuts both times off to microseconds.
type ProfileEvent struct {
	Name     string
	Category string // "Session", "Node", "Kernel" or "Api"
	// Start is on the wall clock, as time.Time.UnixNano gives it.
	Start, Length time.Duration
	Operator      string // of nodes
	Provider      string // of nodes
	Inputs        string // of nodes: types and shapes, as ONNX Runtime writes them
}

// maxProfileEvents is how many events ONNX Runtime's profiler keeps of a session.
const maxProfileEvents = 1_000_000

// maxProfileLine bounds an event's text.
const maxProfileLine = 1 << 20

// wallClock separates nanoseconds since 1970 from those since a machine started.
const wallClock = uint64(1e18)

// EndProfiling ends the profile of a session that was opened with Config.Profile, reads it and removes its file. It can
// be done once, while the session does not run; runs after it are not recorded.
func (s *Session) EndProfiling() (p *Profile, err error) {
	defer func() {
		if err != nil && !errors.Is(err, ErrClosed) {
			err = fmt.Errorf("ending a profile: %w", err)
		}
	}()
	if !s.mu.TryLock() { // it may hang
		return nil, errors.New("the session is running")
	}
	defer s.mu.Unlock()
	if s.session == nil {
		return nil, ErrClosed
	}
	start, file, err := endProfiling(s.native)
	if err != nil {
		return nil, err
	}
	if file == "" {
		return nil, errors.New("the session has none: open it with Config.Profile")
	}
	defer os.Remove(file)
	if start < wallClock {
		return nil, errors.New("ONNX Runtime's profiler uses a clock here whose start is not known, " +
			"so that its times cannot be placed: leave ONNX Runtime's spans out on this system")
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readProfile(f, time.Duration(start))
}

// profileRun is the name of the event of a whole run.
const profileRun = "model_run"

// readProfile reads a profile that began at start: an array with an event per
// line. Lines that are not JSON are counted, not refused.
func readProfile(r io.Reader, start time.Duration) (*Profile, error) {
	in := bufio.NewReaderSize(r, maxProfileLine)
	p := &Profile{}
	for events := 0; ; {
		line, err := in.ReadSlice('\n')
		event, tooLong := len(line) > 0 && line[0] == '{', false // the line goes as the next piece comes
		for ; errors.Is(err, bufio.ErrBufferFull); _, err = in.ReadSlice('\n') {
			tooLong = true
		}
		if event {
			if events++; events >= maxProfileEvents {
				p.Full = true
			}
			if tooLong || !p.add(line, start) {
				p.Unreadable++
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			slices.SortStableFunc(p.Nodes, func(a, b ProfileEvent) int { return cmp.Compare(a.Start, b.Start) })
			return p, nil
		case err != nil:
			return nil, err
		}
	}
}

// add takes in an event's line; false if it is not readable.
func (p *Profile) add(line []byte, start time.Duration) bool {
	line = bytes.TrimRight(line, ",\r\n") // what follows an event in its array
	var e struct {
		Name     string `json:"name"`
		Category string `json:"cat"`
		TS       int64  `json:"ts"`  // microseconds from the profile's start
		Dur      int64  `json:"dur"` // microseconds
		Args     struct {
			Operator any             `json:"op_name"`
			Provider any             `json:"provider"`
			Inputs   json.RawMessage `json:"input_type_shape"`
		} `json:"args"`
	}
	const most = int64(1) << 50
	if json.Unmarshal(line, &e) != nil || e.TS < 0 || e.Dur < 0 || e.TS > most || e.Dur > most {
		return false
	}
	event := ProfileEvent{Name: e.Name, Category: e.Category, Start: start + time.Duration(e.TS)*time.Microsecond,
		Length: time.Duration(e.Dur) * time.Microsecond,
		Inputs: string(e.Args.Inputs)}
	event.Operator, _ = e.Args.Operator.(string)
	event.Provider, _ = e.Args.Provider.(string)
	switch {
	case e.Category == "Session" && e.Name == profileRun:
		p.Runs = append(p.Runs, event)
	case e.Category == "Node" || e.Category == "Kernel":
		p.Nodes = append(p.Nodes, event)
	}
	return true
}

package view

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/terastal/terastal/cmd/terastal/internal/comparison"
	"github.com/terastal/terastal/cmd/terastal/internal/result"
	"github.com/terastal/terastal/cmd/terastal/internal/validation"
	"github.com/terastal/terastal/internal/document"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/sched/eventlog"
	"github.com/terastal/terastal/sched/plan"
)

// ErrNothing is wrapped by the error about a folder without anything to show.
var ErrNothing = errors.New("nothing to report")

// Page is what a report is made from. What is nil or empty was not there.
type Page struct {
	// Title is what the report is of: the folder's name, or the log's.
	Title       string
	Results     []result.Result // the real one first
	Profile     *profiler.Profile
	Plan        *plan.Plan
	Logs        []NamedLog // in order of results and repeats, else of names
	Validations []validation.Document
	Curves      []comparison.Curves
	// Files are those that were read, Notes what was left out and why.
	Files []string
	Notes []string
}

// logsOf are the names of a result's logs: those that are shown, a policy's repeats one after the other, and those of
// runs of the baseline against itself, which are not.
func logsOf(r *result.Result) (shown, aside []string) {
	again := []*result.PolicyResult{r.Again}
	for n := range r.Policies {
		shown = append(shown, filepath.Base(r.Policies[n].Log))
		for _, l := range r.Later {
			if n < len(l.Policies) {
				shown = append(shown, filepath.Base(l.Policies[n].Log))
			}
		}
	}
	for _, l := range r.Later {
		again = append(again, l.Again)
	}
	for _, a := range again {
		if a != nil {
			aside = append(aside, filepath.Base(a.Log))
		}
	}
	return shown, aside
}

// NamedLog is an event log and the name of its file.
type NamedLog struct {
	File string
	*eventlog.Log
}

// Open reads what run, simulate, compare, demo, validate and sweep leave in a folder. Of logs it takes those that the
// folder's results name, so that those of earlier runs stay out; all, where there is no result. Other files are
// ignored; a document that is damaged is an error that names it.
func Open(dir string) (*Page, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("report %s: %w", dir, err)
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("report %s: %w", dir, err)
	}
	p := &Page{Title: filepath.Base(abs)}
	var logs []string
	for _, e := range entries {
		if e.IsDir() || !strings.HasSuffix(e.Name(), ".json") {
			continue
		}
		kind, err := kindOf(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		if kind == "log" {
			logs = append(logs, e.Name())
			continue
		}
		if err := p.read(kind, dir, e.Name()); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(p.Results, func(a, b result.Result) int { return cmp.Compare(a.Driver, b.Driver) }) // "real", "simulated"
	logs, stale := p.current(logs)
	if err := p.readLogs(dir, logs); err != nil {
		return nil, err
	}
	p.leaveOutOld(stale)
	if len(stale) > 0 {
		p.Notes = append(p.Notes, "Logs of other runs lie in the folder and are left out: "+strings.Join(stale, ", ")+".")
	}
	if len(p.Results) == 0 && len(p.Logs) == 0 && p.Profile == nil && len(p.Validations) == 0 && len(p.Curves) == 0 {
		return nil, fmt.Errorf("%w: %s holds no result.json, simulated.json, profile.json, event log (*.log.json) or other "+
			"terastal document; give the folder that `terastal run` or `terastal demo` wrote to", ErrNothing, dir)
	}
	return p, nil
}

// OpenLogs reads single event logs.
func OpenLogs(paths []string) (*Page, error) {
	p := &Page{Title: "event logs"}
	if len(paths) == 1 {
		p.Title = filepath.Base(paths[0])
	}
	return p, p.readLogs("", paths)
}

// kindResult is the kind of the files that hold results, which are no documents and do not name theirs.
const kindResult = "result"

// kindOf finds out what a file is from its first key. One that is cut before that is taken for what its name says, so
// that the damage is noticed; other JSON is of no concern.
func kindOf(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("report: %w", err)
	}
	defer f.Close()
	name := filepath.Base(path)
	if name == "result.json" || name == "simulated.json" {
		return kindResult, nil
	}
	d := json.NewDecoder(f)
	var first [3]json.Token // the brace, the key, the value
	for i := range first {
		if first[i], err = d.Token(); err != nil {
			return kindByName(name), nil
		}
	}
	if kind, ok := first[2].(string); ok && first[1] == "terastal" {
		return kind, nil
	}
	return "", nil
}

func kindByName(name string) string {
	stem := strings.TrimSuffix(name, ".json")
	switch {
	case slices.Contains([]string{"profile", "plan", "validation", comparison.CurvesKind}, stem):
		return stem
	case strings.HasSuffix(stem, ".log"):
		return "log"
	}
	return ""
}

// read reads one document other than a log; kinds that are not shown are ignored.
func (p *Page) read(kind, dir, name string) (err error) {
	path := filepath.Join(dir, name)
	switch kind {
	case kindResult:
		var r *result.Result
		if r, err = readResult(path); err == nil {
			p.Results = append(p.Results, *r)
		}
	case "profile":
		if name != "profile.json" {
			return nil // one of several that a folder may keep
		}
		p.Profile, err = profiler.Read(path)
	case "plan":
		if name != "plan.json" {
			return nil
		}
		p.Plan, _, err = plan.Read(path)
	case "validation":
		var d *validation.Document
		if d, err = validation.Read(path); err == nil {
			p.Validations = append(p.Validations, *d)
		}
	case comparison.CurvesKind:
		var c comparison.Curves
		err = document.Read(path, comparison.CurvesKind, comparison.CurvesVersion, &c)
		p.Curves = append(p.Curves, c)
	default:
		return nil
	}
	if err == nil {
		p.Files = append(p.Files, name)
	}
	return err
}

func readResult(path string) (*result.Result, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("report: %w", err)
	}
	var r result.Result
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, fmt.Errorf("read %s: %w: not the result of a run: %w", path, document.ErrDamaged, err)
	}
	if r.Driver != eventlog.Real && r.Driver != eventlog.Simulated {
		return nil, fmt.Errorf("read %s: %w: not the result of a run: its driver is %q", path, document.ErrDamaged, r.Driver)
	}
	return &r, nil
}

// current sorts log files by the results that name them; those that no result names are of other runs.
func (p *Page) current(names []string) (used, stale []string) {
	if len(p.Results) == 0 {
		return names, nil
	}
	var known []string
	for i := range p.Results {
		shown, aside := logsOf(&p.Results[i])
		for _, name := range shown {
			if slices.Contains(names, name) && !slices.Contains(used, name) {
				used = append(used, name)
			}
		}
		known = append(known, aside...)
	}
	for _, n := range names {
		if !slices.Contains(used, n) && !slices.Contains(known, n) {
			stale = append(stale, n)
		}
	}
	return used, stale
}

// leaveOutOld drops validations of runs whose logs other runs have replaced
// since, or whose logs are of other runs themselves.
func (p *Page) leaveOutOld(stale []string) {
	for i := range p.Validations {
		d := &p.Validations[i]
		before := len(d.Validations)
		d.Validations = slices.DeleteFunc(d.Validations, func(v validation.Validation) bool {
			name := filepath.Base(v.Log)
			n := slices.IndexFunc(p.Logs, func(l NamedLog) bool { return l.File == name })
			return slices.Contains(stale, name) || n >= 0 && !isOf(&v, p.Logs[n].Log)
		})
		if left := before - len(d.Validations); left > 0 {
			d.Order = nil // it may be of what is left out
			p.Notes = append(p.Notes, fmt.Sprintf("Validations of %s are left out, because the folder has other runs by now: "+
				"`terastal validate` makes new ones.", plural(left, "earlier run")))
		}
	}
	p.Validations = slices.DeleteFunc(p.Validations, func(d validation.Document) bool { return len(d.Validations) == 0 })
}

// isOf reports whether a validation can be of a log: whether requests ended as it says.
func isOf(v *validation.Validation, l *eventlog.Log) bool {
	return slices.EqualFunc(v.Models, l.Metrics().Models, func(a validation.Model, b eventlog.ModelMetrics) bool {
		return a.Model == b.Model && a.Real.Totals == b.Totals
	})
}

// readers is how many logs are decoded at the same time.
const readers = 4

func (p *Page) readLogs(dir string, names []string) error {
	logs := make([]*eventlog.Log, len(names))
	var g errgroup.Group
	g.SetLimit(readers)
	for i, name := range names {
		g.Go(func() (err error) {
			logs[i], err = eventlog.Read(filepath.Join(dir, name))
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for i, name := range names {
		p.Logs = append(p.Logs, NamedLog{filepath.Base(name), logs[i]})
		p.Files = append(p.Files, filepath.Base(name))
	}
	return nil
}

// Metrics summarises every log, in their order.
func (p *Page) Metrics() []eventlog.Metrics {
	var out []eventlog.Metrics
	for _, l := range p.Logs {
		out = append(out, l.Metrics())
	}
	return out
}

// maxRefreshBytes bounds the logs from which a verb that plays traffic makes the report by itself: reading them back
// takes a second per 20 MB or so, and several times their size in memory.
const maxRefreshBytes = 400 << 20

// Refresh makes the report of a folder, if it has results, and says so on out.
// What it cannot show is no fault of the run; notes says why.
func Refresh(dir string, out, notes io.Writer) {
	if !hasResult(dir) {
		return
	}
	if n := logBytes(dir); n > maxRefreshBytes {
		fmt.Fprintf(notes, "no %s was made, because the logs take %d MB: `terastal report %s` makes it\n", FileName, n>>20,
			dir)
		return
	}
	path := filepath.Join(dir, FileName)
	p, err := Open(dir)
	if err == nil {
		err = p.Write(path)
	}
	if err != nil {
		fmt.Fprintf(notes, "no %s was made: %v\n", FileName, err)
		return
	}
	fmt.Fprintf(out, "report: %s (open it in a browser)\n", path)
}

func hasResult(dir string) bool {
	return slices.ContainsFunc([]string{eventlog.Real, eventlog.Simulated}, func(driver string) bool {
		_, err := os.Stat(filepath.Join(dir, (&result.Result{Driver: driver}).FileName()))
		return err == nil
	})
}

// logBytes is the size of a folder's event logs.
func logBytes(dir string) (n int64) {
	folder := os.DirFS(dir)
	logs, _ := fs.Glob(folder, "*.log.json") // the pattern is fine
	for _, name := range logs {
		if info, err := fs.Stat(folder, name); err == nil {
			n += info.Size()
		}
	}
	return n
}

package page

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/terastal/terastal/internal/comparison"
	"github.com/terastal/terastal/internal/document"
	"github.com/terastal/terastal/internal/flow"
	"github.com/terastal/terastal/internal/validation"
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
	Results     []Result // the real one first
	Profile     *profiler.Profile
	Plan        *plan.Plan
	Logs        []NamedLog // in order of results and repeats, else of names
	Validations []validation.Validation
	Orders      []Order
	Comparisons []comparison.Comparison
	Curves      []Curves
	// Files are those that were read, Notes what was left out and why.
	Files []string
	Notes []string
}

// Result is result.json or simulated.json.
type Result struct {
	flow.Result
	// Comparison is there where policies were compared over repeats. Later are
	// the repeats after the first, Again the baseline's second run of the first.
	Comparison *comparison.Comparison `json:"comparison,omitempty"`
	Later      []Repeat               `json:"later_repeats,omitempty"`
	Again      *Played                `json:"a_a,omitempty"`
}

// Repeat is one repeat of a comparison.
type Repeat struct {
	Policies []Played `json:"policies"`
	Again    *Played  `json:"a_a,omitempty"`
}

// Played names the log of one run of a policy.
type Played struct {
	Log string `json:"log"`
}

// logs are the names of the logs that are shown, those of a policy's repeats one
// after the other, and of runs of the baseline against itself, which are not.
func (r *Result) logs() (shown, aside []string) {
	again := []*Played{r.Again}
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

// Validations is the body of a validation document.
type Validations struct {
	Validations []validation.Validation `json:"validations"`
	Orders      []Order                 `json:"order"`
}

// Order is whether a prediction orders two policies, by their mean miss rates, as
// the hardware did. Decided is false where their intervals overlap on the hardware.
type Order struct {
	Better          string  `json:"better"`
	Worse           string  `json:"worse"`
	RealBetter      float64 `json:"real_better"`
	RealWorse       float64 `json:"real_worse"`
	PredictedBetter float64 `json:"predicted_better"`
	PredictedWorse  float64 `json:"predicted_worse"`
	Decided         bool    `json:"decided"`
	Kept            bool    `json:"kept"`
}

// Curves is the body of a document of curves.
type Curves struct {
	comparison.Curves
	// Reasons say why the curves cannot support what they show.
	Reasons []string `json:"invalid_reasons"`
}

// NamedLog is an event log and the name of its file.
type NamedLog struct {
	File string
	*eventlog.Log
}

// Open reads what run, simulate, compare, demo, validate and sweep leave in a
// folder. Of logs it takes those that the folder's results name, so that those
// of earlier runs stay out; all, where there is no result. Other files are
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
	slices.SortFunc(p.Results, func(a, b Result) int { return cmp.Compare(a.Driver, b.Driver) }) // "real", "simulated"
	logs, stale := p.current(logs)
	if err := p.readLogs(dir, logs); err != nil {
		return nil, err
	}
	if len(stale) > 0 {
		p.Notes = append(p.Notes, "Logs of other runs lie in the folder and are left out: "+strings.Join(stale, ", ")+".")
	}
	if len(p.Results) == 0 && len(p.Logs) == 0 && p.Profile == nil && len(p.Validations) == 0 && len(p.Comparisons) == 0 && len(p.Curves) == 0 {
		return nil, fmt.Errorf("%w: %s holds no result.json, simulated.json, profile.json, event log (*.log.json) or other terastal document; give the folder that `terastal run` or `terastal demo` wrote to", ErrNothing, dir)
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

// Kinds of files that are no documents with a kind of their own.
const (
	kindResult  = "result"
	kindUnknown = ""
)

// kindOf finds out what a file is from its first key. One that is cut before
// that is taken for what its name says, so that the damage is noticed; other
// JSON is of no concern.
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
	return kindUnknown, nil
}

func kindByName(name string) string {
	stem := strings.TrimSuffix(name, ".json")
	switch {
	case slices.Contains([]string{"profile", "plan", "validation", "comparison", "curves"}, stem):
		return stem
	case strings.HasSuffix(stem, ".log"):
		return "log"
	}
	return kindUnknown
}

// read reads one document other than a log; kinds that are not shown are
// ignored.
func (p *Page) read(kind, dir, name string) (err error) {
	path := filepath.Join(dir, name)
	switch kind {
	case kindResult:
		var r Result
		if r, err = readResult(path); err == nil {
			p.Results = append(p.Results, r)
			if r.Comparison != nil {
				p.Comparisons = append(p.Comparisons, *r.Comparison)
			}
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
		var v Validations
		err = body(path, kind, &v)
		p.Validations, p.Orders = append(p.Validations, v.Validations...), append(p.Orders, v.Orders...)
	case "comparison":
		var c comparison.Comparison
		err = body(path, kind, &c)
		p.Comparisons = append(p.Comparisons, c)
	case "curves":
		var c Curves
		err = body(path, kind, &c)
		p.Curves = append(p.Curves, c)
	default:
		return nil
	}
	if err == nil {
		p.Files = append(p.Files, name)
	}
	return err
}

func readResult(path string) (Result, error) {
	var r Result
	data, err := os.ReadFile(path)
	if err != nil {
		return r, fmt.Errorf("report: %w", err)
	}
	if err := json.Unmarshal(data, &r); err != nil {
		return r, fmt.Errorf("read %s: %w: not the result of a run: %w", path, document.ErrDamaged, err)
	}
	if r.Driver != eventlog.Real && r.Driver != eventlog.Simulated {
		return r, fmt.Errorf("read %s: %w: not the result of a run: its driver is %q", path, document.ErrDamaged, r.Driver)
	}
	return r, nil
}

// schema is the version of the documents that body reads.
const schema = 1

// body reads a document. Keys that v does not have are ignored: the page shows
// what it understands.
func body(path, kind string, v any) error {
	var raw json.RawMessage
	if err := document.Read(path, kind, schema, &raw); err != nil {
		return err
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return fmt.Errorf("read %s %s: %w: %w", kind, path, document.ErrDamaged, err)
	}
	return nil
}

// current sorts log files by the results that name them; those that no result
// names are of other runs.
func (p *Page) current(names []string) (used, stale []string) {
	if len(p.Results) == 0 {
		return names, nil
	}
	var known []string
	for i := range p.Results {
		shown, aside := p.Results[i].logs()
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

// readers is how many logs are decoded at the same time.
const readers = 4

func (p *Page) readLogs(dir string, names []string) error {
	logs, errs := make([]*eventlog.Log, len(names)), make([]error, len(names))
	slots := make(chan struct{}, readers)
	var wg sync.WaitGroup
	for i, name := range names {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			logs[i], errs[i] = eventlog.Read(filepath.Join(dir, name))
		})
	}
	wg.Wait()
	for i, name := range names {
		if errs[i] != nil {
			return errs[i]
		}
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

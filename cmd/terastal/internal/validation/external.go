package validation

import (
	"cmp"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/eventlog"
)

// ErrExternal is wrapped by errors about predictions that a file brings.
var ErrExternal = errors.New("predictions")

// Bounds of a file of predictions.
const (
	maxBytes = 256 << 20
	maxRows  = 1 << 22
	maxTime  = float64(24 * time.Hour)
)

// LayerPrediction is how long somebody else says a layer takes.
type LayerPrediction struct {
	Model, Layer, Implementation, Accelerator string
	Latency                                   time.Duration
	at                                        string // file and line
}

// JobPrediction is what somebody else says a request gets.
type JobPrediction struct {
	Model string
	// Job is the request's number among those of its model, in the order of
	// their scheduled releases from 0; -1 where Release names it.
	Job     int
	Release time.Duration // scheduled, from the start of the run
	// Response is from the scheduled release to the end; of those that finish. Where the file has an end instead, Ends is
	// true and it counts from the start of the run.
	Response time.Duration
	Ends     bool
	// Outcome is sched.Pending where the deadline decides.
	Outcome sched.Outcome
	at      string
}

// row is a line of a table, or an object of a list.
type row struct {
	values map[string]string
	at     string
}

// ReadLayers reads predicted layer times, as CSV or JSON; see docs/VALIDATION.md.
// name is the file's, for errors, which wrap ErrExternal.
func ReadLayers(name string, r io.Reader) ([]LayerPrediction, error) {
	rows, err := readRows(name, r, "layers", []string{"model", "layer", "implementation", "accelerator", "latency_us"})
	if err != nil {
		return nil, err
	}
	var out []LayerPrediction
	for _, x := range rows {
		latency, ok, err := x.time("latency_us", time.Microsecond)
		if err != nil {
			return nil, err
		}
		if !ok || latency <= 0 {
			return nil, wrong(x.at, "latency_us is missing or not above 0")
		}
		out = append(out, LayerPrediction{x.values["model"], x.values["layer"],
			cmp.Or(x.values["implementation"], "original"), x.values["accelerator"], latency, x.at})
	}
	return out, nil
}

// ReadJobs reads predicted completions of requests, as CSV or JSON; see
// docs/VALIDATION.md. name is the file's, for errors, which wrap ErrExternal.
func ReadJobs(name string, r io.Reader) ([]JobPrediction, error) {
	rows, err := readRows(name, r, "requests", []string{"model", "request", "release_us", "response_ms", "completion_us",
		"outcome"})
	if err != nil {
		return nil, err
	}
	var out []JobPrediction
	for _, x := range rows {
		p, err := x.job()
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

// job reads a row of a file of jobs.
func (x *row) job() (p JobPrediction, err error) {
	p = JobPrediction{Model: x.values["model"], Job: -1, at: x.at}
	var released, responded, ended bool
	if s := x.values["request"]; s != "" {
		if p.Job, err = strconv.Atoi(s); err != nil || p.Job < 0 {
			return p, wrong(x.at, "request %q is not a whole number from 0", s)
		}
	}
	if p.Release, released, err = x.time("release_us", time.Microsecond); err != nil {
		return p, err
	}
	if released == (p.Job >= 0) {
		return p, wrong(x.at, "it needs either request or release_us to say which request it is about")
	}
	if p.Response, responded, err = x.time("response_ms", time.Millisecond); err != nil {
		return p, err
	}
	if !responded {
		if p.Response, ended, err = x.time("completion_us", time.Microsecond); err != nil {
			return p, err
		}
		p.Ends = ended
	} else if x.values["completion_us"] != "" {
		return p, wrong(x.at, "it has both response_ms and completion_us: leave one out")
	}
	return p, x.outcome(&p, responded || ended)
}

// outcome reads how the job ends and checks that it fits the rest.
func (x *row) outcome(p *JobPrediction, finishes bool) error {
	s := x.values["outcome"]
	for o := sched.Met; o <= sched.Failed; o++ {
		if o.String() == s {
			p.Outcome = o
		}
	}
	done := p.Outcome == sched.Met || p.Outcome == sched.Late
	switch {
	case s != "" && p.Outcome == sched.Pending:
		return wrong(x.at, "outcome %q, can be met, late, dropped or failed", s)
	case finishes && s != "" && !done:
		return wrong(x.at, "it is %s, and has a time at which it completes", s)
	case !finishes && (s == "" || done):
		return wrong(x.at, "it needs response_ms or completion_us, or outcome dropped or failed")
	}
	return nil
}

// wrong is an error about a place in a file.
func wrong(at, format string, args ...any) error {
	return fmt.Errorf("%w: %s: %w", ErrExternal, at, fmt.Errorf(format, args...))
}

// time reads a time in a unit; false if it is missing.
func (x *row) time(column string, unit time.Duration) (time.Duration, bool, error) {
	s := x.values[column]
	if s == "" {
		return 0, false, nil
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || !(f >= 0) || f*float64(unit) > maxTime {
		return 0, false, wrong(x.at, "%s %q is not a number from 0 to a day", column, s)
	}
	return time.Duration(math.Round(f * float64(unit))), true, nil
}

// readRows reads a table with a line of column names, or a JSON object with one list of objects.
func readRows(name string, r io.Reader, list string, columns []string) ([]row, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxBytes+1))
	if err != nil {
		return nil, wrong(name, "%w", err)
	}
	if len(data) > maxBytes {
		return nil, wrong(name, "larger than %d bytes", maxBytes)
	}
	text := strings.TrimPrefix(string(data), "\ufeff")
	var rows []row
	if strings.HasPrefix(strings.TrimSpace(text), "{") {
		rows, err = jsonRows(name, text, list, columns)
	} else {
		rows, err = csvRows(name, text, columns)
	}
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		return nil, wrong(name, "it predicts nothing: need %s", strings.Join(columns, ", "))
	}
	return rows, nil
}

func csvRows(name, text string, columns []string) ([]row, error) {
	c := csv.NewReader(strings.NewReader(text))
	c.Comment, c.TrimLeadingSpace = '#', true
	fail := func(line int, format string, args ...any) error {
		return wrong(fmt.Sprintf("%s:%d", name, line), format, args...)
	}
	var header []string
	var rows []row
	for {
		fields, err := c.Read()
		var parse *csv.ParseError
		switch {
		case errors.Is(err, io.EOF):
			return rows, nil
		case errors.As(err, &parse):
			return nil, fail(parse.Line, "%v", parse.Err)
		case err != nil:
			return nil, fail(1, "%v", err)
		}
		line, _ := c.FieldPos(0)
		if header == nil {
			if err := checkHeader(fields, columns); err != nil {
				return nil, fail(line, "%v", err)
			}
			header = fields
			continue
		}
		if len(rows) == maxRows {
			return nil, fail(line, "more than %d rows", maxRows)
		}
		x := row{values: map[string]string{}, at: fmt.Sprintf("%s:%d", name, line)}
		for i, column := range header {
			x.values[strings.TrimSpace(column)] = strings.TrimSpace(fields[i])
		}
		rows = append(rows, x)
	}
}

// checkHeader refuses columns that nobody reads, as those of other files; names that begin with x_ are anybody's.
func checkHeader(header, columns []string) error {
	seen := map[string]bool{}
	for _, c := range header {
		c = strings.TrimSpace(c)
		if err := checkKey(c, columns); err != nil {
			return err
		}
		if seen[c] {
			return fmt.Errorf("column %q is there twice", c)
		}
		seen[c] = true
	}
	if !seen["model"] {
		return errors.New("there is no column \"model\"")
	}
	return nil
}

func checkKey(key string, columns []string) error {
	if !slices.Contains(columns, key) && !strings.HasPrefix(key, "x_") {
		return fmt.Errorf("unknown column %q, can be %s, or x_ and anything for what is not read", key,
			strings.Join(columns, ", "))
	}
	return nil
}

// jsonRows reads {"layers": [{...}, ...]}.
func jsonRows(name, text, list string, columns []string) ([]row, error) {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	at := func() string {
		return fmt.Sprintf("%s:%d", name, 1+strings.Count(text[:min(int(d.InputOffset()), len(text))], "\n"))
	}
	fail := func(format string, args ...any) error { return wrong(at(), format, args...) }
	for _, want := range []json.Token{json.Delim('{'), list, json.Delim('[')} {
		if got, err := d.Token(); err != nil || got != want {
			return nil, fail("it has to be {%q: [...]}", list)
		}
	}
	var rows []row
	for d.More() {
		var object map[string]any
		if err := d.Decode(&object); err != nil {
			return nil, fail("%v", err)
		}
		if len(rows) == maxRows {
			return nil, fail("more than %d rows", maxRows)
		}
		x := row{values: map[string]string{}}
		for key, value := range object {
			if err := checkKey(key, columns); err != nil {
				return nil, fail("%v", err)
			}
			switch v := value.(type) {
			case string:
				x.values[key] = v
			case json.Number:
				x.values[key] = v.String()
			default:
				return nil, fail("%s is neither text nor a number", key)
			}
		}
		x.at = at()
		rows = append(rows, x)
	}
	for _, want := range []json.Token{json.Delim(']'), json.Delim('}')} {
		if got, err := d.Token(); err != nil || got != want {
			return nil, fail("it has to be {%q: [...]} and nothing else", list)
		}
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fail("something follows the list")
	}
	return rows, nil
}

// FromLayers predicts from a file of layer times. Those it leaves out take what
// decisions expected; those that the log ran have to be there. The name of a device stands for all its streams.
func FromLayers(name string, list []LayerPrediction, log *eventlog.Log) (*Predictor, error) {
	sys := &log.Header.System
	p := FromSystem(sys)
	p.Name = name
	given := map[place]bool{}
	list = byStream(sys, list)
	for i := range list {
		x := &list[i]
		at, err := find(sys, x)
		if err != nil {
			return nil, err
		}
		if given[at] {
			return nil, wrong(x.at, "layer %q of %q on %q is there twice", x.Layer, x.Model, x.Accelerator)
		}
		given[at] = true
		p.alone[at.model][at.layer][at.implementation][at.accelerator] = x.Latency
	}
	for _, r := range layerRuns(log) {
		if !given[r.place] {
			l := &sys.Models[r.model].Layers[r.layer]
			return nil, wrong(name, "nothing about layer %q of %q, implementation %q, on %q, which the log ran", l.Name,
				sys.Models[r.model].Name, l.Implementations[r.implementation].Name, sys.Accelerators[r.accelerator])
		}
	}
	// What the file says of a run is all of it.
	for m := range p.handoff {
		clear(p.handoff[m])
	}
	return p, nil
}

// byStream are predictions for every stream of a device in place of one for the device.
func byStream(sys *sched.System, list []LayerPrediction) (out []LayerPrediction) {
	for _, x := range list {
		of := slices.IndexFunc(sys.Devices, func(d sched.Device) bool { return d.Name == x.Accelerator })
		if of < 0 || slices.Contains(sys.Accelerators, x.Accelerator) {
			out = append(out, x)
			continue
		}
		for _, k := range sys.Devices[of].Accelerators {
			x.Accelerator = sys.Accelerators[k]
			out = append(out, x)
		}
	}
	return out
}

// find is where a prediction belongs.
func find(sys *sched.System, x *LayerPrediction) (at place, err error) {
	index := func(what, name string, have []string) int32 {
		n := slices.Index(have, name)
		if n < 0 && err == nil {
			err = wrong(x.at, "the log has no %s %q, it has %s", what, name, strings.Join(have[:min(len(have), 12)], ", "))
		}
		return int32(n)
	}
	at.accelerator = index("accelerator", x.Accelerator, sys.Accelerators)
	if at.model = index("model", x.Model, modelNames(sys)); err != nil {
		return at, err
	}
	layers := sys.Models[at.model].Layers
	if at.layer = index("layer", x.Layer, names(layers, func(l sched.Layer) string { return l.Name })); err != nil {
		return at, err
	}
	at.implementation = index("implementation", x.Implementation, implementationNames(&layers[at.layer]))
	return at, err
}

func names[T any](list []T, of func(T) string) (out []string) {
	for _, x := range list {
		out = append(out, of(x))
	}
	return out
}

func modelNames(sys *sched.System) []string {
	return names(sys.Models, func(m sched.Model) string { return m.Name })
}

func implementationNames(l *sched.Layer) []string {
	return names(l.Implementations, func(im sched.Implementation) string { return im.Name })
}

// compareGivenJobs fills in Models from somebody else's predictions.
func (v *Validation) compareGivenJobs(log *eventlog.Log, list []JobPrediction) error {
	sys := &log.Header.System
	real := endings(log)
	given, err := locate(sys, real, list)
	if err != nil {
		return err
	}
	for m := range real {
		sm := &sys.Models[m]
		v.Models = append(v.Models, Model{Model: sm.Name, Deadline: ms(sm.Deadline), Real: measured(real[m]),
			Predicted: measured(given[m]), Jobs: matched(real[m], [][]ending{given[m]})})
		if n := len(given[m]); n < len(real[m]) {
			v.invalid("%d of %d requests of %s are predicted: predict all that the log released", n, len(real[m]), sm.Name)
		}
	}
	return nil
}

// locate finds the job of every prediction, and makes it an ending of that.
func locate(sys *sched.System, real [][]ending, list []JobPrediction) ([][]ending, error) {
	out := make([][]ending, len(real))
	seen := map[int64]string{}
	for i := range list {
		x := &list[i]
		m := slices.Index(modelNames(sys), x.Model)
		if m < 0 {
			return nil, wrong(x.at, "the log has no model %q, it has %s", x.Model, strings.Join(modelNames(sys), ", "))
		}
		n := x.Job
		if n < 0 {
			n = nearest(real[m], x.Release)
		}
		if n < 0 || n >= len(real[m]) {
			return nil, wrong(x.at, "the log has no such request of %q: it has %d, from 0, and releases match to 1 us", x.Model,
				len(real[m]))
		}
		e := ending{job: real[m][n].job, release: real[m][n].release, response: x.Response, outcome: x.Outcome}
		if before := seen[e.job]; before != "" {
			return nil, wrong(x.at, "the request is there already, at %s", before)
		}
		seen[e.job] = x.at
		if x.Ends {
			if e.response -= e.release; e.response < 0 {
				return nil, wrong(x.at, "it completes before its release at %v", e.release)
			}
		}
		if e.outcome == sched.Pending {
			if e.outcome = sched.Met; e.response > sys.Models[m].Deadline {
				e.outcome = sched.Late
			}
		}
		out[m] = append(out[m], e)
	}
	for m := range out {
		slices.SortStableFunc(out[m], func(a, b ending) int { return cmp.Compare(a.release, b.release) })
	}
	return out, nil
}

// nearest is the job released closest to an instant, within a microsecond; -1 if no job is.
func nearest(jobs []ending, release time.Duration) int {
	order := func(e ending, t time.Duration) int { return cmp.Compare(e.release, t) }
	n, _ := slices.BinarySearchFunc(jobs, release-time.Microsecond, order)
	best := -1
	for ; n < len(jobs) && jobs[n].release <= release+time.Microsecond; n++ {
		if best < 0 || (jobs[n].release-release).Abs() < (jobs[best].release-release).Abs() {
			best = n
		}
	}
	return best
}

package eventlog

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/terastal/terastal/sched"
)

// Span is something that happened inside a layer while it ran, such as a node of
// ONNX Runtime's. Its instants are on the log's clock.
type Span struct {
	Accelerator int
	Start, End  time.Duration
	Name        string
	Args        map[string]string
}

// traceEvent is one entry of the Chrome trace event format, which Perfetto and
// chrome://tracing open. Times are microseconds.
type traceEvent struct {
	Name string         `json:"name"`
	Cat  string         `json:"cat,omitempty"`
	Ph   string         `json:"ph"`
	TS   float64        `json:"ts"`
	Dur  *float64       `json:"dur,omitempty"` // of spans, which are not shown without
	PID  int            `json:"pid"`
	TID  int            `json:"tid"`
	ID   string         `json:"id,omitempty"`
	S    string         `json:"s,omitempty"`
	BP   string         `json:"bp,omitempty"`
	Args map[string]any `json:"args,omitempty"`
}

// Process numbers of the trace, in the order in which they are shown. Tracks of a process are numbered from 1.
const (
	tracePIDModels       = 1 // a track per model
	tracePIDAccelerators = 2 // a track per accelerator
	tracePIDScheduler    = 3 // counters, and a track for searches
)

// traceTIDSearches is the track of the scheduler's searches.
const traceTIDSearches = 1

// Categories of trace events.
const (
	catRequest  = "request"
	catFlow     = "flow"
	catDispatch = "dispatch"
	catFailed   = "failed"
	catInside   = "inside"
	catMiss     = "miss"
	catDeadline = "deadline"
	catService  = "service"
	catSearch   = "search"
)

// WriteTrace writes the log in the Chrome trace event format, which
// ui.perfetto.dev and chrome://tracing open. It has three processes:
//
//   - requests: every request from its scheduled release to its end; on a track
//     per model an instant for every request that missed, and one at its deadline.
//   - accelerators: on a track per accelerator the layers it ran, the time from
//     each dispatch to the start of its layer, and attempts that failed; flows
//     link the layers of a request. Times out of service are spans, too.
//   - scheduler: counters of each model's waiting and running requests and misses, of what the last 100 finished
//     requests of a model kept of the accuracy where a floor is promised, and of the busy accelerators; the searches of
//     a policy that searches.
//
// Spans that happened inside layers are drawn below them, cut to the layer. Those that lie in no layer are left out.
func (l *Log) WriteTrace(w io.Writer, inside ...Span) error {
	b := bufio.NewWriter(w)
	accs := len(l.Header.System.Accelerators)
	t := &tracer{l: l, w: b, enc: json.NewEncoder(b), runs: map[*Record]Run{},
		layers: map[int64]int{}, flows: map[int64]int{}, down: make([]bool, accs), inside: l.nest(inside)}
	t.counters = counters{accounts: l.accounts(), used: map[int64]sched.VariantSet{},
		of: make([]modelCounts, len(l.Header.System.Models)), jobs: map[int64]int{}, on: make([]int, accs)}
	for _, r := range l.Runs() {
		t.runs[r.Ended] = r
	}
	t.start()
	for i := range l.Records {
		if r := &l.Records[i]; r.Kind == sched.Completed {
			t.layers[r.Job]++
		}
	}
	for i := range l.Records {
		r := &l.Records[i]
		t.count(r)
		t.record(r)
	}
	t.end()
	if t.err != nil {
		return fmt.Errorf("write trace: %w", t.err)
	}
	return b.Flush()
}

// tracer writes events as a JSON array and keeps the first error.
type tracer struct {
	l     *Log
	w     *bufio.Writer
	enc   *json.Encoder
	wrote bool
	err   error

	now      time.Duration
	runs     map[*Record]Run // by how they ended
	layers   map[int64]int   // by job: the layers that it completes
	flows    map[int64]int   // by job: those of them that a flow links so far
	down     []bool          // by accelerator
	searched time.Duration   // end of the last search
	inside   [][]Span        // by accelerator, by start; those to come
	counters counters
}

func (t *tracer) start() {
	h := &t.l.Header
	other := map[string]any{"policy": h.Policy, "driver": h.Driver, "seed": h.Seed}
	if h.Distorted != "" {
		other["distorted"] = h.Distorted
	}
	data, err := json.Marshal(other)
	t.err = err
	t.text(`{"displayTimeUnit":"ms","otherData":` + string(data) + `,"traceEvents":[`)
	for i, name := range []string{"requests", "accelerators", "scheduler"} {
		t.name("process", i+1, 0, i, name)
	}
	for m := range h.System.Models {
		t.name("thread", tracePIDModels, m+1, m, h.System.Models[m].Name)
	}
	for k, name := range h.System.Accelerators {
		t.name("thread", tracePIDAccelerators, k+1, k, name)
	}
	t.name("thread", tracePIDScheduler, traceTIDSearches, 0, "searches")
	t.counters.write(t, true)
}

func (t *tracer) end() {
	t.counters.write(t, false)
	for k, down := range t.down {
		if down {
			t.service("e", int32(k), nil)
		}
	}
	t.text("]}\n")
}

func (t *tracer) text(s string) {
	if t.err == nil {
		_, t.err = t.w.WriteString(s)
	}
}

func (t *tracer) add(e traceEvent) {
	if t.wrote {
		t.text(",")
	}
	t.wrote = true
	if t.err == nil {
		t.err = t.enc.Encode(e)
	}
}

// name names a process or thread, what, and gives it its place.
func (t *tracer) name(what string, pid, tid, place int, name string) {
	t.add(traceEvent{Name: what + "_name", Ph: "M", PID: pid, TID: tid, Args: map[string]any{"name": name}})
	t.add(traceEvent{Name: what + "_sort_index", Ph: "M", PID: pid, TID: tid, Args: map[string]any{"sort_index": place}})
}

// span writes one that has a length.
func (t *tracer) span(e traceEvent, from, to time.Duration) {
	e.Ph, e.TS = "X", us(from)
	dur := us(to - from)
	e.Dur = &dur
	t.add(e)
}

func (t *tracer) model(r *Record) *sched.Model { return &t.l.Header.System.Models[r.Model] }

// record writes what a record tells.
func (t *tracer) record(r *Record) {
	switch r.Kind {
	case sched.Released:
		t.request(r, "b", min(r.Start, r.At), map[string]any{"request": r.Job, "deadline_ms": ms(r.Until),
			"release_lag_us": us(r.At - r.Start)})
	case sched.Completed:
		t.layer(r)
	case sched.Requeued, sched.Doomed:
		t.attempt(r)
	case sched.Ended:
		t.ended(r)
	case sched.Down:
		if !t.down[r.Accelerator] {
			t.service("b", r.Accelerator, map[string]any{"reason": r.Detail})
		}
		t.down[r.Accelerator] = true
	case sched.Up:
		if t.down[r.Accelerator] {
			t.service("e", r.Accelerator, nil)
		}
		t.down[r.Accelerator] = false
	case sched.RuleFound:
		from := min(max(r.Start, t.searched), r.At)
		t.searched = r.At
		t.span(traceEvent{Name: fmt.Sprintf("rule %d", r.Implementation), Cat: catSearch, PID: tracePIDScheduler,
			TID: traceTIDSearches, Args: map[string]any{"rule": r.Implementation}}, from, r.At)
	case sched.Stopped:
		t.add(traceEvent{Name: "stopped", Ph: "i", S: "g", TS: us(r.At), PID: tracePIDScheduler, TID: traceTIDSearches})
	}
}

// request opens ("b") or closes ("e") a request's span.
func (t *tracer) request(r *Record, ph string, at time.Duration, args map[string]any) {
	t.add(traceEvent{Name: t.model(r).Name, Cat: catRequest, Ph: ph, TS: us(at),
		PID: tracePIDModels, TID: int(r.Model) + 1, ID: traceID(r.Job), Args: args})
}

// ended closes a request's span; one that missed leaves marks on its model's track.
func (t *tracer) ended(r *Record) {
	if r.Accelerator >= 0 {
		t.attempt(r)
	}
	args := map[string]any{"outcome": r.Outcome.String()}
	if r.Detail != "" {
		args["reason"] = r.Detail
	}
	if r.Outcome == sched.Met || r.Outcome == sched.Late {
		args["response_ms"], args["slack_ms"] = ms(r.At-r.Start), ms(r.Until-r.At)
	}
	t.request(r, "e", r.At, args)
	if r.Outcome != sched.Met {
		mark := traceEvent{Name: r.Outcome.String(), Cat: catMiss, Ph: "i", S: "t", TS: us(r.At),
			PID: tracePIDModels, TID: int(r.Model) + 1, Args: map[string]any{"request": r.Job, "reason": r.Detail}}
		t.add(mark)
		mark.Name, mark.Cat, mark.TS, mark.Args = "deadline", catDeadline, us(r.Until), map[string]any{"request": r.Job}
		t.add(mark)
	}
	delete(t.layers, r.Job)
	delete(t.flows, r.Job)
}

// service opens or closes the span of an accelerator that is out of service.
func (t *tracer) service(ph string, k int32, args map[string]any) {
	t.add(traceEvent{Name: t.l.Header.System.Accelerators[k] + " out of service", Cat: catService, Ph: ph, TS: us(t.now),
		PID: tracePIDAccelerators, TID: int(k) + 1, ID: traceID(int64(k)), Args: args})
}

// attempt writes a run of a layer that failed: the log says when it could begin, not when it did.
func (t *tracer) attempt(r *Record) {
	run := t.runs[r]
	d := run.Dispatched
	t.span(traceEvent{Name: t.l.label(d) + " failed", Cat: catFailed, PID: tracePIDAccelerators,
		TID: int(d.Accelerator) + 1, Args: map[string]any{"request": r.Job, "layer": d.Layer, "reason": r.Detail}},
		run.Begin, r.At)
}

// layer writes the span of one layer, what happened in it, and the flow that
// links it to the layers of its request before and after it.
func (t *tracer) layer(r *Record) {
	model, run := t.model(r), t.runs[r]
	d, layer := run.Dispatched, &model.Layers[r.Layer]
	clear := *r
	clear.Start = max(r.Start, run.Begin)
	r = &clear // of the runs before, whose ends were perhaps noticed late
	e := traceEvent{PID: tracePIDAccelerators, TID: int(r.Accelerator) + 1}
	args := map[string]any{"request": r.Job, "layer": r.Layer, "implementation": layer.Implementations[r.Implementation].Name,
		"predicted_us": us(run.Predicted()), "dispatch_us": us(r.Start - run.Begin), "reason": d.Reason.String()}
	if run.Begin > d.At {
		args["ahead_us"] = us(run.Begin - d.At)
	}
	if from := run.From; from >= 0 && from != r.Accelerator {
		args["from"] = t.l.Header.System.Accelerators[from]
		if layer.Handoff != nil {
			args["predicted_handoff_us"] = us(layer.Handoff[from][r.Accelerator])
		}
	}
	if r.Start > run.Begin {
		wait := e
		wait.Name, wait.Cat, wait.Args = "dispatch", catDispatch, map[string]any{"request": r.Job, "layer": r.Layer}
		t.span(wait, run.Begin, r.Start)
	}
	span := e
	span.Name, span.Cat, span.Args = t.l.label(r), model.Name, args
	t.span(span, r.Start, r.At)
	t.flow(r, e)
	t.within(r, e)
}

// flow binds to the span just written: flows start at a request's first layer and finish at the last that it completes.
func (t *tracer) flow(r *Record, e traceEvent) {
	n := t.layers[r.Job]
	if n < 2 {
		return // nothing to link
	}
	e.Name, e.Cat, e.TS, e.ID = "request", catFlow, us(r.Start), traceID(r.Job)
	i := t.flows[r.Job]
	t.flows[r.Job]++
	switch i {
	case 0:
		e.Ph = "s"
	case n - 1:
		e.Ph, e.BP = "f", "e"
	default:
		e.Ph, e.BP = "t", "e"
	}
	t.add(e)
}

// within writes the spans that happened in a layer. Spans of a track nest or follow each other; clocks and rounding may
// say otherwise by a little, and are overruled.
func (t *tracer) within(r *Record, e traceEvent) {
	list := t.inside[r.Accelerator]
	open := []time.Duration{r.At} // ends of the spans around
	free := r.Start               // since when the innermost has room
	for len(list) > 0 {
		s := list[0]
		middle := s.Start + (s.End-s.Start)/2
		if middle > r.At {
			break // of a later layer
		}
		list = list[1:]
		if middle < r.Start {
			continue // of no layer
		}
		s.Start = max(s.Start, r.Start)
		for len(open) > 1 && (open[len(open)-1] <= s.Start || s.End > open[len(open)-1]) {
			free = max(free, open[len(open)-1])
			open = open[:len(open)-1]
		}
		from, to := max(s.Start, free), min(s.End, open[len(open)-1])
		if to < from {
			continue
		}
		e.Name, e.Cat, e.Args = s.Name, catInside, map[string]any{}
		for k, v := range s.Args {
			e.Args[k] = v
		}
		t.span(e, from, to)
		open, free = append(open, to), from
	}
	t.inside[r.Accelerator] = list
}

// nest sorts spans by accelerator and start, what is around others first.
func (l *Log) nest(spans []Span) [][]Span {
	out := make([][]Span, len(l.Header.System.Accelerators))
	for _, s := range spans {
		if s.Accelerator >= 0 && s.Accelerator < len(out) && s.Start <= s.End {
			out[s.Accelerator] = append(out[s.Accelerator], s)
		}
	}
	for _, list := range out {
		slices.SortStableFunc(list, func(a, b Span) int {
			return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(b.End, a.End))
		})
	}
	return out
}

// counters are what the trace counts. They are written once per instant.
type counters struct {
	of       []modelCounts
	accounts []*Account
	used     map[int64]sched.VariantSet // by job, of those that used variants
	jobs     map[int64]int              // layers that each has on accelerators, one of them perhaps about to end
	on       []int                      // by accelerator: layers that it has, likewise
	busy     int
	changed  bool // busy
}

type modelCounts struct {
	waiting, running, missed int
	changed, more, finished  bool // the first two; missed; the account
}

// count follows a record, having written what was counted up to the instant before it.
func (t *tracer) count(r *Record) {
	if r.At != t.now {
		t.counters.write(t, false)
		t.now = r.At
	}
	c := &t.counters
	switch r.Kind {
	case sched.Released:
		c.move(r, 1, 0)
	case sched.Dispatched:
		c.occupy(r, 1)
	case sched.Completed, sched.Requeued, sched.Doomed:
		c.occupy(r, -1)
		if r.Kind == sched.Completed && r.Implementation > 0 {
			c.used[r.Job] |= variantOf(t.model(r), r)
		}
	case sched.Ended:
		if r.Accelerator >= 0 {
			c.occupy(r, -1)
		}
		c.move(r, -1, 0)
		delete(c.jobs, r.Job)
		if r.Outcome != sched.Met {
			c.of[r.Model].missed++
			c.of[r.Model].more = true
		}
		if r.Outcome == sched.Met || r.Outcome == sched.Late {
			c.accounts[r.Model].Finish(c.used[r.Job])
			c.of[r.Model].finished = true
		}
		delete(c.used, r.Job)
	}
}

// occupy changes how many layers a record's job and accelerator have, and with them who waits, runs and is busy.
func (c *counters) occupy(r *Record, by int) {
	job, k := c.jobs[r.Job], c.on[r.Accelerator]
	c.jobs[r.Job], c.on[r.Accelerator] = job+by, k+by
	if job == 0 || job+by == 0 {
		c.move(r, -by, by)
	}
	if k == 0 || k+by == 0 {
		c.busy += by
		c.changed = true
	}
}

// move changes how many requests of a record's model wait and run.
func (c *counters) move(r *Record, waiting, running int) {
	m := &c.of[r.Model]
	m.waiting += waiting
	m.running += running
	m.changed = true
}

// write writes the counters that changed, or all, at the current instant.
func (c *counters) write(t *tracer, all bool) {
	for i := range c.of {
		m, name := &c.of[i], t.l.Header.System.Models[i].Name
		if all || m.changed {
			t.counter(name+" requests", map[string]any{"waiting": m.waiting, "running": m.running})
		}
		if all || m.more {
			t.counter(name+" misses", map[string]any{"total": m.missed})
		}
		if kept := known(c.accounts[i].Recent()); kept != nil && (all || m.finished) && t.l.Header.System.Models[i].Floor > 0 {
			t.counter(name+" accuracy", map[string]any{"kept": max(0, *kept)})
		}
		m.changed, m.more, m.finished = false, false, false
	}
	if all || c.changed {
		t.counter("accelerators", map[string]any{"busy": c.busy})
	}
	c.changed = false
}

func (t *tracer) counter(name string, values map[string]any) {
	t.add(traceEvent{Name: name, Ph: "C", TS: us(t.now), PID: tracePIDScheduler, Args: values})
}

// traceID is an identifier as every viewer reads it: Perfetto takes digits for hexadecimal.
func traceID(n int64) string { return "0x" + strconv.FormatInt(n, 16) }

// us is an instant or duration in microseconds, such that a viewer that makes whole nanoseconds of it by cutting off
// the rest gets the same again: spans that touch must not overlap by one.
func us(d time.Duration) float64 {
	x := float64(d) / 1e3
	if time.Duration(x*1e3) < d {
		x = math.Nextafter(x, math.Inf(1))
	}
	return x
}

// Package eventlog keeps what a run did and computes every view of it: job outcomes, miss rates, latencies,
// utilisation, a Chrome trace, a replay of the decisions. The simulator and the real runtime write the same log, so
// that everything a user sees is computed in one way.
package eventlog

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/terastal/terastal/internal/document"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/policy"
)

// Drivers of a run.
const (
	Real      = "real"
	Simulated = "simulated"
)

// ErrInvalid is wrapped by errors about a log whose records contradict each other or its header.
var ErrInvalid = errors.New("invalid event log")

// Log is the complete record of one run of one policy.
type Log struct {
	Header  Header   `json:"header"`
	Records []Record `json:"records"`
}

// Header says what was run.
type Header struct {
	Driver string `json:"driver"` // Real or Simulated
	Policy string `json:"policy"`
	Drop   string `json:"drop"`
	Queue  int    `json:"queue"`
	Seed   uint64 `json:"seed"`
	// Adapt, ClosedLoop and Until are the engine's; see sched.Config.
	Adapt      bool          `json:"adapt,omitempty"`
	ClosedLoop bool          `json:"closed_loop,omitempty"`
	Until      time.Duration `json:"until_ns,omitempty"`
	// SearchDetached says that the driver ran the policy's searches on another goroutine; see sched.Searcher.
	SearchDetached bool         `json:"search_detached,omitempty"`
	System         sched.System `json:"system"`
	// Rates are the mean releases per second of each model.
	Rates []float64 `json:"rates"`
	// Duration is how long jobs were released.
	Duration time.Duration `json:"duration_ns"`
	// Machine is where the run took place, or where what it simulates was measured; empty where nobody said.
	Machine Machine `json:"machine,omitzero"`
	// Distorted says why the times of the run are not to be trusted; empty if nothing distorted them on purpose.
	Distorted string `json:"distorted,omitempty"`
}

// Machine says what a run computed on.
type Machine struct {
	OS       string `json:"os,omitempty"`
	Arch     string `json:"arch,omitempty"`
	CPU      string `json:"cpu,omitempty"`
	Governor string `json:"governor,omitempty"`
	ORT      string `json:"onnxruntime,omitempty"` // version
}

// Engine is the configuration of an engine that decides as the run's did. of makes the policy, where package policy
// does not know it by the header's name; nil where it does.
func (h *Header) Engine(r sched.Recorder, of sched.Constructor) (sched.Config, error) {
	t, err := sched.Compile(h.System)
	if err != nil {
		return sched.Config{}, err
	}
	if of == nil {
		of = policy.Named(h.Policy)
	}
	drop, err := sched.ParseDrop(h.Drop)
	if err != nil {
		return sched.Config{}, err
	}
	return sched.Config{Tables: t, Policy: of, Drop: drop, Queue: h.Queue, Recorder: r,
		Seed: h.Seed, Adapt: h.Adapt, ClosedLoop: h.ClosedLoop, Until: h.Until}, nil
}

// Record is a sched.Record with a compact JSON form; it has only the fields that its kind uses.
type Record sched.Record

// recordJSON is the file form of a record. Times are nanoseconds from the start of the run.
type recordJSON struct {
	Kind           string        `json:"kind"`
	At             time.Duration `json:"at"`
	Job            *int64        `json:"request,omitempty"`
	Model          int32         `json:"model,omitempty"`
	Layer          int32         `json:"layer,omitempty"`
	Implementation int32         `json:"impl,omitempty"`
	Accelerator    *int32        `json:"acc,omitempty"`
	Start          time.Duration `json:"start,omitempty"`
	Until          time.Duration `json:"until,omitempty"`
	Reason         uint8         `json:"reason,omitempty"`
	Outcome        string        `json:"outcome,omitempty"`
	Detail         string        `json:"detail,omitempty"`
}

func (r Record) MarshalJSON() ([]byte, error) {
	j := recordJSON{Kind: r.Kind.String(), At: r.At, Model: r.Model, Layer: r.Layer, Implementation: r.Implementation,
		Start: r.Start, Until: r.Until, Reason: uint8(r.Reason), Detail: r.Detail}
	if r.Kind < sched.Down || r.Kind == sched.Requeued {
		j.Job = &r.Job
	}
	if r.Accelerator >= 0 {
		j.Accelerator = &r.Accelerator
	}
	if r.Outcome != sched.Pending {
		j.Outcome = r.Outcome.String()
	}
	return json.Marshal(j)
}

func (r *Record) UnmarshalJSON(data []byte) error {
	var j recordJSON
	if err := json.Unmarshal(data, &j); err != nil {
		return err
	}
	*r = Record{At: j.At, Model: j.Model, Layer: j.Layer, Implementation: j.Implementation, Accelerator: -1,
		Start: j.Start, Until: j.Until, Reason: sched.Reason(j.Reason), Detail: j.Detail}
	if j.Job != nil {
		r.Job = *j.Job
	}
	if j.Accelerator != nil {
		r.Accelerator = *j.Accelerator
	}
	ok := false
	for k := sched.Released; k <= sched.Requeued; k++ {
		if k.String() == j.Kind {
			r.Kind, ok = k, true
		}
	}
	if !ok {
		return fmt.Errorf("unknown record kind %q", j.Kind)
	}
	if j.Outcome != "" {
		ok = false
		for o := sched.Met; o <= sched.Failed; o++ {
			if o.String() == j.Outcome {
				r.Outcome, ok = o, true
			}
		}
		if !ok {
			return fmt.Errorf("unknown outcome %q", j.Outcome)
		}
	}
	return nil
}

const (
	kind    = "log"
	version = 2
)

// Write writes the log to a file, atomically.
func (l *Log) Write(path string) error { return document.Write(path, kind, version, l) }

// Read reads a log and checks that it is complete and consistent.
func Read(path string) (*Log, error) {
	var l Log
	if err := document.Read(path, kind, version, &l); err != nil {
		return nil, err
	}
	if err := l.Validate(); err != nil {
		return nil, fmt.Errorf("read log %s: %w", path, err)
	}
	return &l, nil
}

// Validate checks that indices exist, time does not go back, every dispatch is of a released job whose next layer it is
// on an accelerator that is idle, in service and can run it, every completion or failed attempt ends a dispatch, and
// every job ends exactly once with the outcome that its layers and deadline say.
func (l *Log) Validate() error {
	if err := l.Header.System.Validate(); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if len(l.Header.Rates) != len(l.Header.System.Models) {
		return fmt.Errorf("%w: %d rates for %d models", ErrInvalid, len(l.Header.Rates), len(l.Header.System.Models))
	}
	c := checker{system: &l.Header.System, jobs: map[int64]*progress{},
		busy: make([]*progress, len(l.Header.System.Accelerators)), down: make([]bool, len(l.Header.System.Accelerators))}
	for i := range l.Records {
		if err := c.step(&l.Records[i]); err != nil {
			return fmt.Errorf("%w: record %d (%s): %w", ErrInvalid, i, l.Records[i].Kind, err)
		}
	}
	for id, p := range c.jobs {
		if !p.ended {
			return fmt.Errorf("%w: request %d has no outcome", ErrInvalid, id)
		}
	}
	return nil
}

// checker follows a log to find its first contradiction.
type checker struct {
	system *sched.System
	now    time.Duration
	jobs   map[int64]*progress
	busy   []*progress // by accelerator
	down   []bool
}

// latest bounds instants (18 years), far from where adding to them overflows.
const latest = time.Duration(1) << 59

type progress struct {
	model, layer, impl int32
	on                 int32
	release, deadline  time.Duration
	dispatch           time.Duration // of the layer that runs
	ended              bool
}

func (c *checker) step(r *Record) error {
	if r.At < c.now {
		return fmt.Errorf("at %v, after one at %v", r.At, c.now)
	}
	for _, x := range []time.Duration{r.At, r.Start, r.Until} {
		if x < 0 || x > latest {
			return fmt.Errorf("instant %d ns, need 0 to %d", x, latest)
		}
	}
	c.now = r.At
	switch r.Kind {
	case sched.Released:
		return c.released(r)
	case sched.Down, sched.Up:
		if err := c.accelerator(r); err != nil {
			return err
		}
		c.down[r.Accelerator] = r.Kind == sched.Down
		return nil
	case sched.Stopped, sched.RuleFound:
		return nil
	}
	p := c.jobs[r.Job]
	switch {
	case p == nil:
		return fmt.Errorf("request %d was not released", r.Job)
	case p.ended:
		return fmt.Errorf("request %d has ended", r.Job)
	case p.model != r.Model:
		return fmt.Errorf("request %d is of model %d, not %d", r.Job, p.model, r.Model)
	}
	switch r.Kind {
	case sched.Dispatched:
		return c.dispatched(r, p)
	case sched.Completed, sched.Requeued:
		return c.completed(r, p)
	default:
		return c.ended(r, p)
	}
}

func (c *checker) accelerator(r *Record) error {
	if r.Accelerator < 0 || int(r.Accelerator) >= len(c.busy) {
		return fmt.Errorf("no accelerator %d", r.Accelerator)
	}
	return nil
}

func (c *checker) released(r *Record) error {
	if r.Model < 0 || int(r.Model) >= len(c.system.Models) {
		return fmt.Errorf("no model %d", r.Model)
	}
	if r.Job < 0 || c.jobs[r.Job] != nil {
		return fmt.Errorf("request %d released twice", r.Job)
	}
	if r.Until <= r.Start {
		return fmt.Errorf("request %d has its deadline %v before its release %v", r.Job, r.Until, r.Start)
	}
	c.jobs[r.Job] = &progress{model: r.Model, on: -1, release: r.Start, deadline: r.Until}
	return nil
}

func (c *checker) dispatched(r *Record, p *progress) error {
	layers := c.system.Models[p.model].Layers
	switch {
	case p.on >= 0:
		return fmt.Errorf("request %d already runs", r.Job)
	case r.Layer != p.layer || int(r.Layer) >= len(layers):
		return fmt.Errorf("request %d is at layer %d of %d, not %d", r.Job, p.layer, len(layers), r.Layer)
	case r.Implementation < 0 || int(r.Implementation) >= len(layers[r.Layer].Implementations):
		return fmt.Errorf("layer %d has no implementation %d", r.Layer, r.Implementation)
	}
	if err := c.accelerator(r); err != nil {
		return err
	}
	if c.busy[r.Accelerator] != nil {
		return fmt.Errorf("accelerator %d is busy", r.Accelerator)
	}
	if c.down[r.Accelerator] {
		return fmt.Errorf("accelerator %d is out of service", r.Accelerator)
	}
	if layers[r.Layer].Implementations[r.Implementation].Latency[r.Accelerator] == sched.Unavailable {
		return fmt.Errorf("layer %d implementation %d cannot run on accelerator %d", r.Layer, r.Implementation, r.Accelerator)
	}
	c.busy[r.Accelerator], p.on, p.impl, p.dispatch = p, r.Accelerator, r.Implementation, r.At
	return nil
}

func (c *checker) completed(r *Record, p *progress) error {
	if err := c.accelerator(r); err != nil {
		return err
	}
	if c.busy[r.Accelerator] != p || r.Layer != p.layer || r.Implementation != p.impl {
		return fmt.Errorf("request %d layer %d does not run on accelerator %d", r.Job, r.Layer, r.Accelerator)
	}
	c.busy[r.Accelerator], p.on = nil, -1
	if r.Kind == sched.Requeued {
		return nil
	}
	if r.Start > r.At || r.Start < p.dispatch {
		return fmt.Errorf("request %d layer %d starts at %v, not between its dispatch at %v and its end at %v", r.Job, r.Layer,
			r.Start, p.dispatch, r.At)
	}
	p.layer++
	return nil
}

func (c *checker) ended(r *Record, p *progress) error {
	done := int(p.layer) == len(c.system.Models[p.model].Layers)
	switch {
	case r.Outcome == sched.Pending:
		return fmt.Errorf("request %d ends without an outcome", r.Job)
	case (r.Outcome == sched.Met || r.Outcome == sched.Late) && !done:
		return fmt.Errorf("request %d is %s after %d layers", r.Job, r.Outcome, p.layer)
	case (r.Outcome == sched.Met) != (done && r.At <= p.deadline) && (r.Outcome == sched.Met || r.Outcome == sched.Late):
		return fmt.Errorf("request %d is %s at %v with its deadline at %v", r.Job, r.Outcome, r.At, p.deadline)
	}
	if r.Start != p.release || r.Until != p.deadline || r.Layer != p.layer {
		return fmt.Errorf("request %d ends as one from %v to %v at layer %d, but is from %v to %v at layer %d", r.Job, r.Start,
			r.Until, r.Layer, p.release, p.deadline, p.layer)
	}
	if (p.on >= 0) != (r.Outcome == sched.Failed) || p.on != r.Accelerator {
		return fmt.Errorf("request %d is %s on accelerator %d, but runs on %d", r.Job, r.Outcome, r.Accelerator, p.on)
	}
	if p.on >= 0 {
		c.busy[p.on] = nil
	}
	p.ended = true
	return nil
}

// Buffer collects records in memory; it is a sched.Recorder.
type Buffer []Record

// Record appends r.
func (b *Buffer) Record(r sched.Record) { *b = append(*b, Record(r)) }

// label is the text a record is shown by.
func (l *Log) label(r *Record) string {
	m := &l.Header.System.Models[r.Model]
	layer := &m.Layers[r.Layer]
	if r.Implementation == 0 {
		return m.Name + " " + layer.Name
	}
	return m.Name + " " + layer.Name + " " + layer.Implementations[r.Implementation].Name
}

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
	"github.com/terastal/terastal/sched/sim"
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
	// Taken are the cores that others took from accelerators during a real run; predictions of it count them in.
	Taken []sim.Taken `json:"taken,omitempty"`
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
	if r.Kind < sched.Down || r.Kind >= sched.Requeued {
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
	for k := sched.Released; k <= sched.Doomed; k++ {
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

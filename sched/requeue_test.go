package sched_test

import (
	"testing"
	"time"

	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/internal/schedtest"
)

// A requeued job waits for the same layer, with its tensors where they were,
// and goes elsewhere while the accelerator it failed on is out of service.
func TestRequeue(t *testing.T) {
	sys := schedtest.Workload(2, 1)
	tables := schedtest.Compile(t, sys)
	var records []sched.Record
	e := newEngine(t, sched.Config{Tables: tables, Policy: sched.FCFS,
		Recorder: recorder(func(r sched.Record) { records = append(records, r) })})
	d := e.Step(sched.Event{Kind: sched.Release, Job: 7})
	if len(d) != 1 {
		t.Fatalf("%d dispatches", len(d))
	}
	first := d[0]
	ms := time.Millisecond
	if d = e.Step(sched.Event{Kind: sched.AcceleratorDown, At: ms, Accelerator: first.Accelerator}); len(d) != 0 {
		t.Fatalf("dispatches %+v", d)
	}
	d = e.Step(sched.Event{Kind: sched.Requeue, At: ms, Accelerator: first.Accelerator, Detail: "broken"})
	if len(d) != 1 || d[0].Job != 7 || d[0].Layer != 0 || d[0].Accelerator != 1-first.Accelerator ||
		d[0].From != sched.Idle {
		t.Fatalf("dispatches %+v, want layer 0 on the other accelerator", d)
	}
	r := records[len(records)-2]
	if r.Kind != sched.Requeued || r.Job != 7 || r.Detail != "broken" || int(r.Accelerator) != first.Accelerator ||
		r.Kind.String() != "requeue" {
		t.Errorf("record %+v", r)
	}
	d = e.Step(sched.Event{Kind: sched.Complete, At: 2 * ms, Accelerator: d[0].Accelerator})
	if len(d) != 1 || d[0].Layer != 1 {
		t.Errorf("dispatches %+v, want layer 1", d)
	}
}

type recorder func(sched.Record)

func (f recorder) Record(r sched.Record) { f(r) }

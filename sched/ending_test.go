package sched_test

import (
	"testing"
	"time"

	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/internal/schedtest"
)

// TestStateOfEnding: what policies see of a request whose last layer is about to end, before and after its accelerator
// has taken the next.
func TestStateOfEnding(t *testing.T) {
	const ms = time.Millisecond
	sys := sched.System{Accelerators: []string{"x"}, Devices: []sched.Device{{Name: "gpu", Accelerators: []int{0}, Lead: ms}},
		Models: []sched.Model{{Name: "m", Deadline: 50 * ms, Layers: []sched.Layer{{Name: "only",
			Implementations: []sched.Implementation{{Name: "original", Latency: []time.Duration{4 * ms}}}}}}}}
	e := newEngine(t, sched.Config{Tables: schedtest.Compile(t, sys), Policy: sched.FCFS})
	e.Step(sched.Event{Kind: sched.Release, Job: 0})
	if at := e.EndingAt(0); at != 3*ms {
		t.Errorf("the layer is to be announced at %v", at)
	}
	s := e.State()
	e.Step(sched.Event{Kind: sched.Ending, At: 3 * ms, Until: 5 * ms})
	if !s.Idle(0) || s.Free(0) != 5*ms || s.Jobs[0].Waiting() || s.End(&s.Jobs[0]) != 5*ms || e.EndingAt(0) != sched.Never {
		t.Errorf("about to end: %+v, announced next at %v", *s, e.EndingAt(0))
	}
	d := e.Step(sched.Event{Kind: sched.Release, At: 4 * ms, Start: 4 * ms, Job: 1})
	if len(d) != 1 || d[0].Start != 5*ms || d[0].Finish != 9*ms {
		t.Fatalf("dispatches %+v", d)
	}
	if s.Idle(0) || s.Free(0) != 9*ms || s.End(&s.Jobs[0]) != 5*ms || s.End(&s.Jobs[1]) != 9*ms || e.EndingAt(0) != sched.Never {
		t.Errorf("one layer behind: %+v, announced next at %v", *s, e.EndingAt(0))
	}
	e.Step(sched.Event{Kind: sched.Complete, At: 6 * ms})
	if s.Free(0) != 10*ms || e.EndingAt(0) != 9*ms {
		t.Errorf("after a late end: %+v, announced next at %v", *s, e.EndingAt(0))
	}
}

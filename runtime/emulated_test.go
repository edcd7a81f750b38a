package runtime_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/internal/testkit/rig"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/traffic"
)

// Emulated accelerators run next to a real one; those that compute give the
// right outputs, and no layer is shorter than its table says.
func TestEmulated(t *testing.T) {
	table := func(by time.Duration) func(u runtime.Unit) (time.Duration, bool) {
		return func(u runtime.Unit) (time.Duration, bool) {
			if u.Model == "" || u.Layer == "" || u.Implementation != runtime.Original {
				t.Errorf("unit %+v says not what it is", u)
			}
			return by, true
		}
	}
	b := &bench{}
	accs := rig.Accelerators(t, runtime.Spec{Name: "cpu"}, runtime.Spec{Name: "inner"})
	ws := testkit.Must(runtime.OpenEmulated(runtime.Emulation{Name: "ws", Latency: table(2 * time.Millisecond),
		Inner: accs[1]}))(t)
	b.accs = []runtime.Accelerator{accs[0], ws}
	b.add(t, network(t, "block"))
	e := b.executor(t, b.system(alternate))
	r, err := e.Run(context.Background(), runtime.Options{Policy: "fcfs", Traffic: released(1), Samples: 5, Queue: 1000})
	testkit.OK(t, err)
	check(t, r)
	if v, err := e.Verify(r.Samples); err != nil || v.Wrong > 0 || v.Verified == 0 || !e.Computes() {
		t.Errorf("%+v %v", v, err)
	}
	n := 0
	for _, rec := range r.Log.Records {
		if rec.Kind == sched.Completed && rec.Accelerator == 1 {
			n++
			if rec.At-rec.Start < 2*time.Millisecond {
				t.Errorf("a layer took %v", rec.At-rec.Start)
			}
		}
	}
	if n == 0 {
		t.Error("the emulated accelerator ran nothing")
	}
}

// An accelerator without an inner one says that its outputs mean nothing, and refuses what its table does not have.
func TestEmulatedWithoutComputing(t *testing.T) {
	n := network(t, "block")
	missing := n.Layers[1].Name
	cpu := rig.Accelerators(t, runtime.Spec{Name: "cpu"})[0]
	took := 2 * time.Millisecond // longer than what is expected
	os, err := runtime.OpenEmulated(runtime.Emulation{Name: "os", Latency: func(u runtime.Unit) (time.Duration, bool) {
		return time.Millisecond, u.Layer != missing
	}, Takes: func(u runtime.Unit) func(in, out []*runtime.Tensor) time.Duration {
		return func(in, out []*runtime.Tensor) time.Duration {
			if len(in) != len(u.Inputs) || len(out) != len(u.Outputs) {
				t.Errorf("%s runs on %d and %d tensors", u.Name, len(in), len(out))
			}
			return took
		}
	}})
	testkit.OK(t, err)
	b := &bench{accs: []runtime.Accelerator{cpu, os}}
	b.add(t, n)
	if b.programs[0].Runs(1, 0, 1) || !b.programs[0].Runs(0, 0, 1) ||
		!strings.Contains(b.programs[0].Refused(1, 0, 1).Error(), missing) {
		t.Errorf("refused: %v", b.programs[0].Refused(1, 0, 1))
	}
	e := b.executor(t, b.system(alternate))
	if e.Computes() {
		t.Error("the executor says that all outputs mean something")
	}
	r := testkit.Must(e.Run(context.Background(), runtime.Options{Policy: "edf", Traffic: released(1), Queue: 1000}))(t)
	if m := check(t, r); m.Met+m.Late != m.Released {
		t.Errorf("totals %+v", m.Totals)
	}
	for _, rec := range r.Log.Records {
		if rec.Kind == sched.Completed && rec.Accelerator == 1 && rec.At-rec.Start < took {
			t.Errorf("a layer took %v", rec.At-rec.Start)
		}
	}
	if _, err := runtime.OpenEmulated(runtime.Emulation{Name: "x"}); err == nil {
		t.Error("no latencies are accepted")
	}
}

// While the worker that waited for arrivals computes, another one that is idle
// waits for the next: it is noticed before the layer that runs has ended.
func TestIdleWorkerTakesOver(t *testing.T) {
	b := &bench{}
	for _, name := range []string{"a", "b"} {
		a, err := runtime.OpenEmulated(runtime.Emulation{Name: name, Latency: func(u runtime.Unit) (time.Duration, bool) {
			if u.Model == "kws-model" {
				return 400 * time.Millisecond, true
			}
			return time.Millisecond, true
		}})
		testkit.OK(t, err)
		b.accs = append(b.accs, a)
	}
	b.add(t, network(t, "model"))
	b.add(t, network(t, "block"))
	tr := traffic.Config{Rates: []float64{1, 1}, Process: traffic.Recorded, Duration: time.Second,
		Recorded: []traffic.Arrival{{At: time.Millisecond, Model: 0}, {At: 50 * time.Millisecond, Model: 1},
			{At: 90 * time.Millisecond, Model: 1}}}
	// Either worker may be the one that waits: each gets the long layer once.
	for fast := range 2 {
		e := b.executor(t, b.system(func(_, _, _, k int) time.Duration {
			if k == fast {
				return time.Microsecond
			}
			return time.Millisecond
		}))
		r := testkit.Must(e.Run(context.Background(), runtime.Options{Policy: "fcfs", Traffic: tr}))(t)
		check(t, r)
		var noticed time.Duration // when the last release was
		for _, rec := range r.Log.Records {
			switch {
			case rec.Kind == sched.Released:
				noticed = rec.At
			case rec.Kind == sched.Ended && rec.Model == 0 && noticed == rec.At:
				t.Error("a release was noticed only when the long layer ended")
			}
		}
	}
}

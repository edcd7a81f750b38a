package sched_test

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/terastal/terastal/sched"
	"pgregory.net/rapid"
)

// balance counts what an engine records, and fails where a job ends twice or
// without having been released.
type balance struct {
	t       failer
	active  map[int64]bool
	running map[int32]bool
}

func (b *balance) Record(r sched.Record) {
	switch r.Kind {
	case sched.Released:
		if b.active[r.Job] {
			b.t.Fatalf("job %d is released twice", r.Job)
		}
		b.active[r.Job] = true
	case sched.Dispatched:
		if b.running[r.Accelerator] || !b.active[r.Job] {
			b.t.Fatalf("%+v: the accelerator is busy, or the job is not there", r)
		}
		b.running[r.Accelerator] = true
	case sched.Completed:
		delete(b.running, r.Accelerator)
	case sched.Ended:
		if !b.active[r.Job] || r.Outcome == sched.Pending {
			b.t.Fatalf("%+v: it is not there to end", r)
		}
		delete(b.active, r.Job)
		if r.Outcome == sched.Failed {
			delete(b.running, r.Accelerator)
		}
	}
}

// anyEngine drives any system under any configuration and policy with any
// events: nothing panics and every request gets exactly one outcome.
func anyEngine(t failer, sys sched.System, p pick) {
	tables := compile(t, sys)
	names := allPolicies()
	policy := newWhole(t, names[p(len(names), "policy")], tables)
	if policy == nil {
		return
	}
	cfg := drawConfig(p)
	totals := &balance{t, map[int64]bool{}, map[int32]bool{}}
	cfg.Tables, cfg.Policy, cfg.Recorder = tables, policy, totals
	engine := newEngine(t, cfg)
	drive(p, &sys, engine)
	if n := engine.Active(); n != 0 || len(totals.active) != 0 || len(totals.running) != 0 {
		t.Fatalf("at the end the engine has %d jobs, the records %d and %d running layers", n, len(totals.active), len(totals.running))
	}
}

func TestAnyEngine(t *testing.T) {
	checkN(t, *cases, func(t *rapid.T) { anyEngine(t, drawRichSystem(t), drawn(t)) })
}

// FuzzEngine draws the system from a number, and decodes the rest from bytes.
func FuzzEngine(f *testing.F) {
	for seed := range 8 {
		rng := rand.New(rand.NewPCG(uint64(seed), 1))
		b := make([]byte, 300)
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		f.Add(uint16(seed), b)
	}
	systems := rapid.Custom(drawRichSystem)
	f.Fuzz(func(t *testing.T, system uint16, b []byte) { anyEngine(t, systems.Example(int(system)), bytesOf(b)) })
}

func FuzzReadArrivals(f *testing.F) {
	for _, s := range []string{
		"model,release_us\na,1\nb,0.5\na,0\n",
		"# recorded\nmodel, release_us\n\"a\", 1e3\n",
		"", "model\n", "model,release_us\nc,1\n", "model,release_us\na,-1\n", "model,release_us\na,NaN\n", "model,release_us\na,1e300\n",
		"model,release_us\na\n", "model,release_us\n\"a,1\n", "\ufeffmodel,release_us\na,1\n", "model,release_us\r\na,1\r\n",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		arrivals, err := sched.ReadArrivals(strings.NewReader(text), []string{"a", "b"})
		if err != nil {
			if !errors.Is(err, sched.ErrInvalidTraffic) {
				t.Fatalf("error %v", err)
			}
			return
		}
		if !slices.IsSortedFunc(arrivals, func(a, b sched.Arrival) int { return int(max(-1, min(1, a.At-b.At))) }) {
			t.Fatalf("out of order: %v", arrivals)
		}
		// What is read can be played.
		traffic := sched.Traffic{Rates: []float64{0, 0}, Process: sched.Recorded, Recorded: arrivals, Duration: 1 << 50}
		played, err := traffic.Arrivals()
		if err != nil || !slices.Equal(played, arrivals) {
			t.Fatalf("read %v, played %v (%v)", arrivals, played, err)
		}
	})
}

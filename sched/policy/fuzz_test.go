package policy

import (
	"math/rand/v2"
	"testing"

	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/internal/schedtest"
	"pgregory.net/rapid"
)

// balance counts what an engine records, and fails where a job ends twice or
// without having been released.
type balance struct {
	t       schedtest.T
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
func anyEngine(t schedtest.T, sys sched.System, p pick) {
	tables := schedtest.Compile(t, sys)
	names := allPolicies()
	name := names[p(len(names), "policy")]
	if !exists(name, tables) {
		return
	}
	cfg := drawConfig(p)
	totals := &balance{t, map[int64]bool{}, map[int32]bool{}}
	cfg.Tables, cfg.Policy, cfg.Recorder = tables, Named(name), totals
	engine := newEngine(t, cfg)
	drive(p, &sys, engine)
	if n := engine.Active(); n != 0 || len(totals.active) != 0 || len(totals.running) != 0 {
		t.Fatalf("at the end the engine has %d jobs, the records %d and %d running layers", n, len(totals.active),
			len(totals.running))
	}
}

func TestAnyEngine(t *testing.T) {
	schedtest.CheckN(t, *schedtest.Cases, func(t *rapid.T) { anyEngine(t, schedtest.RichSystem(t), drawn(t)) })
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
	systems := rapid.Custom(schedtest.RichSystem)
	f.Fuzz(func(t *testing.T, system uint16, b []byte) { anyEngine(t, systems.Example(int(system)), bytesOf(b)) })
}

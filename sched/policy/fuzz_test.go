package policy

import (
	"math/rand/v2"
	"testing"

	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/internal/schedtest"
	"pgregory.net/rapid"
)

// anyEngine drives any system under any configuration and policy with any
// events: nothing panics and the records hold together.
func anyEngine(t testkit.T, sys sched.System, p pick) {
	tables := schedtest.Compile(t, sys)
	names := allPolicies()
	name := names[p(len(names), "policy")]
	if !exists(name, tables) {
		return
	}
	cfg := drawConfig(p)
	var log records
	cfg.Tables, cfg.Policy, cfg.Recorder = tables, Named(name), &log
	engine := newEngine(t, cfg)
	drive(p, &sys, engine)
	if n := engine.Active(); n != 0 {
		t.Fatalf("%d jobs are left after the end", n)
	}
	listed := listedSets(sys)
	log.check(t, &listed, cfg)
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

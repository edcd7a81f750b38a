package sched_test

import (
	"fmt"
	"slices"
	"time"

	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/sim"
	"github.com/terastal/terastal/sched/traffic"
)

// shortest is a policy as anybody may write one: on every idle accelerator the
// request starts that has the least work left.
type shortest struct{ tables *sched.Tables }

func newShortest(c sched.Config) (sched.Policy, error) { return &shortest{c.Tables}, nil }

func (p *shortest) Select(s *sched.State, out []sched.Choice) []sched.Choice {
	for k := range s.Accelerators {
		if !s.Idle(k) {
			continue
		}
		best, least := -1, sched.Never
		for i := range s.Jobs {
			j := &s.Jobs[i]
			m := p.tables.Model(j.Model)
			taken := slices.ContainsFunc(out, func(c sched.Choice) bool { return c.Job == int32(i) })
			if !j.Waiting() || taken || m.Cost(j, 0, k) >= sched.Never {
				continue // it runs, or its original cannot run here
			}
			if left := m.Remaining(j.Layer); left < least {
				best, least = i, left
			}
		}
		if best >= 0 {
			out = append(out, sched.Choice{Job: int32(best), Accelerator: int32(k)})
		}
	}
	return out
}

// A policy is a constructor and a method. The simulator runs it as the real
// accelerators would.
func Example_policy() {
	const ms = time.Millisecond
	one := func(name string, latency time.Duration) sched.Model {
		return sched.Model{Name: name, Deadline: 10 * ms, Layers: []sched.Layer{
			{Name: "all", Implementations: []sched.Implementation{{Name: "original", Latency: []time.Duration{latency}}}}}}
	}
	tables, err := sched.Compile(sched.System{Accelerators: []string{"cpu"},
		Models: []sched.Model{one("long", 6*ms), one("short", 2*ms)}})
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, err := sim.Run(sim.Config{
		Engine:   sched.Config{Tables: tables, Policy: newShortest, Recorder: printer{}},
		Arrivals: []traffic.Arrival{{At: 0, Model: 0}, {At: ms, Model: 0}, {At: 2 * ms, Model: 1}},
	}); err != nil {
		fmt.Println(err)
	}
	// Output:
	// job 0: met after 6ms
	// job 2: met after 6ms
	// job 1: late after 13ms
}

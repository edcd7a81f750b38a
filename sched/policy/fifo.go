package policy

import (
	"time"

	"github.com/terastal/terastal/sched"
)

// FIFO is what a simple server does: each model is placed on one device, once (see newPlacement), each device has a
// queue that it serves in order of arrival, whole models, one at a time on each of its accelerators. What waits for a
// device waits for that device, even while it is out of service.
func FIFO(c sched.Config) (sched.Policy, error) {
	return served(func(whole *sched.Tables, on placement) sched.Policy {
		return &fifo{t: whole, on: on}
	})(c)
}

type fifo struct {
	t     *sched.Tables
	on    placement
	taken []bool // by accelerator: dispatched to in this decision
}

func (p *fifo) Select(s *sched.State, out []sched.Choice) []sched.Choice {
	idle := 0
	for k := range s.Accelerators {
		if s.Idle(k) {
			idle++
		}
	}
	p.taken = cleared(p.taken, len(s.Accelerators))
	for i := range s.Jobs {
		if idle == 0 {
			break
		}
		j := &s.Jobs[i]
		if !j.Waiting() {
			continue
		}
		k := soonest(s, p.t.Model(j.Model).Latency(0, 0), p.on[j.Model], p.taken)
		if k < 0 {
			continue
		}
		p.taken[k] = true
		idle--
		out = append(out, sched.Choice{Job: int32(i), Accelerator: k, Reason: sched.FastestIdle})
	}
	return out
}

// soonest is the idle accelerator among some that ends a model first; -1 where none is idle.
func soonest(s *sched.State, latency []time.Duration, on []int32, taken []bool) int32 {
	best, low := int32(-1), sched.Never
	for _, k := range on {
		if !s.Idle(int(k)) || taken[k] {
			continue
		}
		if end := s.Free(int(k)) + latency[k]; end < low {
			best, low = k, end
		}
	}
	return best
}

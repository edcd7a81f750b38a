package policy

import (
	"fmt"
	"math"

	"github.com/terastal/terastal/sched"
)

// TritonOptions are a [TritonLike] server's configuration. The zero value is its default.
type TritonOptions struct {
	// Priorities are the models' weights, from 1: an instance of priority 2 gets half the chances of one of priority 1. Nil
	// is 1 for all.
	Priorities []int
	// Instances bounds, by model, how many requests of it run at once; 0, or nil for all, is one on each accelerator of
	// the device that the model is placed on.
	Instances []int
	// ByDeadline takes, in place of Priorities, deadlines in units of the shortest, rounded.
	ByDeadline bool
}

// TritonLike is what a server does that schedules whole models by priorities and instance counts, after the rate
// limiter of NVIDIA's Triton Inference Server with a resource per accelerator: each model has a queue in order of
// arrival and instances on the accelerators of the device that it is placed on (see newPlacement), one of which runs
// there at a time. A free accelerator takes the instance with a request for which the number of requests that it has
// run, times its priority, is least, of equal ones that whose request came first. There are no batches: a request is
// one. Unlike there an instance that has to wait for its accelerator does not keep those of other devices from theirs.
func TritonLike(c sched.Config) (sched.Policy, error) { return TritonOptions{}.New(c) }

// New makes the policy.
func (o TritonOptions) New(c sched.Config) (sched.Policy, error) {
	n := len(c.Tables.System().Models)
	if o.Priorities != nil && len(o.Priorities) != n || o.Instances != nil && len(o.Instances) != n {
		return nil, fmt.Errorf("triton-like: %d priorities and %d instance counts, there are %d models", len(o.Priorities),
			len(o.Instances), n)
	}
	for m := range n {
		if o.Priorities != nil && o.Priorities[m] < 1 || o.Instances != nil && o.Instances[m] < 0 {
			return nil, fmt.Errorf("triton-like: model %q: a priority is 1 at least, an instance count not negative",
				c.Tables.System().Models[m].Name)
		}
	}
	return served(func(whole *sched.Tables, on placement) sched.Policy { return o.over(whole, on) })(c)
}

// over makes the policy of whole models.
func (o *TritonOptions) over(whole *sched.Tables, on placement) *triton {
	n, accs := len(on), len(whole.System().Accelerators)
	p := &triton{t: whole, on: on, priority: make([]float64, n), most: make([]int, n), ran: make([]float64, n*accs),
		runs: make([]int32, accs), at: make([]int, n)}
	shortest := whole.Model(0).Deadline()
	for m := range n {
		shortest = min(shortest, whole.Model(int32(m)).Deadline())
	}
	for m := range n {
		p.priority[m], p.most[m] = 1, len(on[m])
		switch {
		case o.ByDeadline:
			p.priority[m] = math.Round(float64(whole.Model(int32(m)).Deadline()) / float64(shortest))
		case o.Priorities != nil:
			p.priority[m] = float64(o.Priorities[m])
		}
		if o.Instances != nil && o.Instances[m] > 0 {
			p.most[m] = o.Instances[m]
		}
	}
	return p
}

type triton struct {
	t        *sched.Tables
	on       placement
	priority []float64 // by model
	most     []int     // by model: instances
	ran      []float64 // by model and accelerator: requests
	runs     []int32   // by accelerator: the model that it has run last
	taken    []bool    // by accelerator: dispatched to in this decision
	at       []int     // by model: the first request that waits
}

func (p *triton) Select(s *sched.State, out []sched.Choice) []sched.Choice {
	p.taken = cleared(p.taken, len(s.Accelerators))
	for m := range p.at {
		p.at[m] = len(s.Jobs)
	}
	for i := len(s.Jobs) - 1; i >= 0; i-- {
		if j := &s.Jobs[i]; j.Waiting() {
			p.at[j.Model] = i
		}
	}
	for {
		best, k := -1, int32(-1)
		low := math.Inf(1)
		for m, i := range p.at {
			if i == len(s.Jobs) || p.running(s, m) >= p.most[m] {
				continue
			}
			for _, on := range p.on[m] {
				if !s.Idle(int(on)) || p.taken[on] {
					continue
				}
				score := p.ran[m*len(s.Accelerators)+int(on)] * p.priority[m]
				if score < low || score == low && i < p.at[best] {
					best, k, low = m, on, score
				}
			}
		}
		if best < 0 {
			return out
		}
		out = append(out, sched.Choice{Job: int32(p.at[best]), Accelerator: k, Reason: sched.HighestScore})
		p.taken[k], p.runs[k] = true, int32(best)
		p.ran[best*len(s.Accelerators)+int(k)]++
		p.at[best] = p.waits(s, best, p.at[best]+1)
	}
}

// waits is the first request of a model that waits, from one on; the number of requests where none does.
func (p *triton) waits(s *sched.State, m, from int) int {
	for i := from; i < len(s.Jobs); i++ {
		if j := &s.Jobs[i]; int(j.Model) == m && j.Waiting() {
			return i
		}
	}
	return len(s.Jobs)
}

// running is how many instances of a model run.
func (p *triton) running(s *sched.State, m int) (n int) {
	for _, k := range p.on[m] {
		if int(p.runs[k]) == m && (p.taken[k] || s.Accelerators[k].Job != sched.Idle) {
			n++
		}
	}
	return n
}

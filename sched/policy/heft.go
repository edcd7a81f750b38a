package policy

import (
	"slices"
	"time"

	"github.com/terastal/terastal/sched"
)

// HEFT assigns by earliest finish time, after HEFT (Topcuoglu et al., TPDS 2002): waiting layers in falling order of
// upward rank (the mean latency of all layers left), each to the accelerator where it ends first, busy ones included. A
// layer whose best accelerator is busy waits for it and keeps it reserved against those of lower rank.
func HEFT(c sched.Config) (sched.Policy, error) { return &heft{t: c.Tables}, nil }

type heft struct {
	t     *sched.Tables
	ready []ranked // by falling rank
	free  []time.Duration
}

// ranked is a waiting job and its rank, in nanoseconds.
type ranked struct {
	rank float64
	job  int32
}

func (p *heft) Select(s *sched.State, out []sched.Choice) []sched.Choice {
	p.ready, p.free = p.ready[:0], p.free[:0]
	idle := 0
	for k := range s.Accelerators {
		p.free = append(p.free, s.Free(k))
		if s.Idle(k) {
			idle++
		}
	}
	if idle == 0 {
		return out
	}
	for i := range s.Jobs {
		if j := &s.Jobs[i]; j.Waiting() {
			x := ranked{p.t.Model(j.Model).MeanRemaining(j.Layer), int32(i)}
			at := len(p.ready) // behind those of the same rank
			for at > 0 && p.ready[at-1].rank < x.rank {
				at--
			}
			p.ready = slices.Insert(p.ready, at, x)
		}
	}
	for _, r := range p.ready {
		if idle == 0 {
			break
		}
		j := &s.Jobs[r.job]
		m := p.t.Model(j.Model)
		latency, handoff := m.Latency(j.Layer, 0), m.Handoff(j)
		at, finish := -1, sched.Never
		for k, f := range p.free {
			f = max(f, j.Ready) + latency[k]
			if handoff != nil {
				f += handoff[k]
			}
			if f < finish {
				at, finish = k, f
			}
		}
		if at < 0 {
			continue
		}
		// Idle now, and not reserved by a layer of higher rank.
		if s.Idle(at) && p.free[at] == s.Free(at) {
			out = append(out, sched.Choice{Job: r.job, Accelerator: int32(at), Reason: sched.EarliestFinish})
			idle--
		}
		p.free[at] = finish
	}
	return out
}

package sched

import "time"

// HEFT assigns by earliest finish time, after HEFT (Topcuoglu et al., TPDS 2002): waiting layers in falling order of
// upward rank (the mean latency of all layers left), each to the accelerator where it ends first, busy ones included. A
// layer whose best accelerator is busy waits for it and keeps it reserved against those of lower rank.
func HEFT(c Config) (Policy, error) { return &heft{t: c.Tables}, nil }

type heft struct {
	t           *Tables
	ready       []ready[float64]
	free, later []time.Duration
}

func (p *heft) Select(s *State, out []Choice) []Choice {
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
			p.ready = append(p.ready, ready[float64]{-p.t.models[j.Model].mean[j.Layer], int32(i)})
		}
	}
	sortReady(p.ready)
	for _, r := range p.ready {
		if idle == 0 {
			break
		}
		j := &s.Jobs[r.job]
		m := &p.t.models[j.Model]
		latency, handoff := m.Latency(j.Layer, 0), m.Handoff(j)
		at, finish := -1, Never
		for k, f := range j.starts(s.Now, p.free, &p.later) {
			f += latency[k]
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
			out = append(out, Choice{Job: r.job, Accelerator: int32(at), Reason: EarliestFinish})
			idle--
		}
		p.free[at] = finish
	}
	return out
}

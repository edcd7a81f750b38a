package sched

import "time"

// heft assigns by earliest finish time, after HEFT (Topcuoglu et al., TPDS
// 2002): waiting layers in falling order of upward rank (the mean latency of
// all layers left), each to the accelerator where it ends first, busy ones
// included. A layer whose best accelerator is busy waits for it and keeps it
// reserved against those of lower rank.
type heft struct {
	t     *Tables
	ready []ready[float64]
	free  []time.Duration
}

func newHEFT(t *Tables) Policy { return &heft{t: t} }

func (p *heft) Select(s *State, out []Choice) []Choice {
	p.ready, p.free = p.ready[:0], p.free[:0]
	idle := 0
	for k := range s.Accelerators {
		p.free = append(p.free, s.free(k))
		if s.idle(k) {
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
		latency, handoff := p.t.costs(m, j, int(m.row[j.Layer]))
		at, finish := -1, never
		for k, f := range p.free {
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
		if s.idle(at) && p.free[at] == s.Now {
			out = append(out, Choice{Job: r.job, Accelerator: int32(at), Reason: EarliestFinish})
			idle--
		}
		p.free[at] = finish
	}
	return out
}

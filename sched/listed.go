package sched

import "time"

// listed serves waiting jobs in the order of a key, each on the idle
// accelerator that is fastest for its next layer, originals only. Work
// conserving: an accelerator stays idle only when no waiting layer can run on
// it.
type listed struct {
	t     *Tables
	key   func(*Job) time.Duration
	order []int32
	taken []bool
}

// newFCFS is the first-come-first-served baseline.
func newFCFS(t *Tables) Policy {
	return &listed{t: t, key: func(j *Job) time.Duration { return j.Release }}
}

// newEDF is the earliest-deadline-first baseline: absolute deadlines.
func newEDF(t *Tables) Policy {
	return &listed{t: t, key: func(j *Job) time.Duration { return j.Deadline }}
}

func (p *listed) Select(s *State, out []Choice) []Choice {
	p.order, p.taken = p.order[:0], append(p.taken[:0], make([]bool, len(s.Accelerators))...)
	idle := 0
	for k := range s.Accelerators {
		if s.idle(k) {
			idle++
		}
	}
	for i := range s.Jobs {
		if s.Jobs[i].Waiting() {
			p.order = append(p.order, int32(i))
		}
	}
	sortBy(p.order, func(i int32) time.Duration { return p.key(&s.Jobs[i]) })
	for _, i := range p.order {
		if idle == 0 {
			break
		}
		j := &s.Jobs[i]
		m := &p.t.models[j.Model]
		fastest, low := -1, never
		for k := range s.Accelerators {
			if p.taken[k] || !s.idle(k) {
				continue
			}
			if c := p.t.cost(m, j, int(m.row[j.Layer]), k); c < low {
				fastest, low = k, c
			}
		}
		if fastest < 0 {
			continue
		}
		p.taken[fastest] = true
		idle--
		out = append(out, Choice{Job: i, Accelerator: int32(fastest), Reason: FastestIdle})
	}
	return out
}

// sortBy sorts indices by key, stably, so that ties keep the order of arrival.
// Insertion sort: the lists are short and nearly sorted, and nothing is
// allocated.
func sortBy(xs []int32, key func(int32) time.Duration) {
	for i := 1; i < len(xs); i++ {
		x := xs[i]
		k := key(x)
		at := i
		for at > 0 && key(xs[at-1]) > k {
			xs[at] = xs[at-1]
			at--
		}
		xs[at] = x
	}
}

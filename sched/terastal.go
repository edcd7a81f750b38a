package sched

import "time"

// terastal is Algorithm 2 of arXiv 2606.06818: waiting layers in order of their
// best-case slack against the virtual deadline; stage 1 gives each an idle
// accelerator on which the original stays within the budget, else one on which
// an allowed variant does; stage 2 fills the accelerators that are left. The
// published sources do not give stage 2's rule; ours takes the assignment that
// gains most against waiting for the best busy accelerator, and leaves an
// accelerator idle rather than lose by it.
type terastal struct {
	t       *Tables
	slack   []time.Duration // by job index
	pending []int32
	free    []time.Duration // by accelerator, as this decision goes on
	idle    []bool
}

func newTerastal(t *Tables) Policy { return &terastal{t: t} }

func (p *terastal) Select(s *State, out []Choice) []Choice {
	p.free, p.idle = p.free[:0], p.idle[:0]
	idle := 0
	for k := range s.Accelerators {
		p.free = append(p.free, s.free(k))
		p.idle = append(p.idle, s.idle(k))
		if p.idle[k] {
			idle++
		}
	}
	p.pending, p.slack = p.pending[:0], append(p.slack[:0], make([]time.Duration, len(s.Jobs))...)
	if idle == 0 {
		return out
	}
	for i := range s.Jobs {
		if s.Jobs[i].Waiting() {
			p.slack[i] = p.bestSlack(&s.Jobs[i])
			p.pending = append(p.pending, int32(i))
		}
	}
	sortBy(p.pending, func(i int32) time.Duration { return p.slack[i] })

	rest := p.pending[:0]
	for n, i := range p.pending {
		if idle == 0 {
			rest = append(rest, p.pending[n:]...)
			break
		}
		c, ok := p.withinBudget(&s.Jobs[i])
		if !ok {
			rest = append(rest, i)
			continue
		}
		c.Job = i
		out = append(out, p.take(s, c))
		idle--
	}
	p.pending = rest

	for idle > 0 && len(p.pending) > 0 {
		at, c, ok := p.largestGain(s)
		if !ok {
			break
		}
		out = append(out, p.take(s, c))
		idle--
		p.pending = append(p.pending[:at], p.pending[at+1:]...)
	}
	return out
}

// take books the choice's accelerator until its predicted finish.
func (p *terastal) take(s *State, c Choice) Choice {
	j := &s.Jobs[c.Job]
	m := &p.t.models[j.Model]
	k := int(c.Accelerator)
	p.free[k] += p.t.cost(m, j, int(m.row[j.Layer]+c.Implementation), k)
	p.idle[k] = false
	return c
}

// bestSlack is the largest slack of the job's layer over accelerators and
// allowed implementations: virtual deadline minus the earliest finish.
func (p *terastal) bestSlack(j *Job) time.Duration {
	m := &p.t.models[j.Model]
	finish := never
	for row := m.row[j.Layer]; row < m.row[j.Layer+1]; row++ {
		if m.allowed(j.Used, m.bit[row]) {
			_, f := p.earliest(m, j, row, false)
			finish = min(finish, f)
		}
	}
	return m.virtualDeadline(j) - finish
}

// earliest finds the accelerator, idle ones only if asked, on which the row
// would end first, and when; -1 and at least never if there is none.
func (p *terastal) earliest(m *modelTable, j *Job, row int32, onlyIdle bool) (int, time.Duration) {
	at, finish := -1, never
	for k := range p.free {
		if onlyIdle && !p.idle[k] {
			continue
		}
		if f := p.free[k] + p.t.cost(m, j, int(row), k); f < finish {
			at, finish = k, f
		}
	}
	return at, finish
}

// withinBudget is stage 1 for one layer: the original if it meets the virtual
// deadline on an idle accelerator, else the allowed variant that meets it and
// ends first.
func (p *terastal) withinBudget(j *Job) (Choice, bool) {
	m := &p.t.models[j.Model]
	v := m.virtualDeadline(j)
	first := m.row[j.Layer]
	if k, f := p.earliest(m, j, first, true); k >= 0 && f <= v {
		return Choice{Accelerator: int32(k), Reason: MeetsBudget}, true
	}
	best, low := Choice{Reason: VariantMeetsBudget}, never
	for row := first + 1; row < m.row[j.Layer+1]; row++ {
		if !m.allowed(j.Used, m.bit[row]) {
			continue
		}
		if k, f := p.earliest(m, j, row, true); k >= 0 && f <= v && f < low {
			best.Implementation, best.Accelerator, low = row-first, int32(k), f
		}
	}
	return best, low < never
}

// largestGain is one step of stage 2: over pending layers, allowed
// implementations and idle accelerators, the choice that ends earliest compared
// with waiting for the best busy accelerator, if that is a gain at all. It also
// returns the choice's place in the pending list.
func (p *terastal) largestGain(s *State) (int, Choice, bool) {
	at, best, gain := -1, Choice{Reason: Backfill}, time.Duration(0)
	for n, i := range p.pending {
		j := &s.Jobs[i]
		m := &p.t.models[j.Model]
		first := m.row[j.Layer]
		wait := never
		for k := range p.free {
			if !p.idle[k] {
				wait = min(wait, p.free[k]+p.t.cost(m, j, int(first), k))
			}
		}
		for row := first; row < m.row[j.Layer+1]; row++ {
			if !m.allowed(j.Used, m.bit[row]) {
				continue
			}
			if k, f := p.earliest(m, j, row, true); k >= 0 && wait-f > gain {
				at, gain = n, wait-f
				best.Job, best.Implementation, best.Accelerator = i, row-first, int32(k)
			}
		}
	}
	return at, best, at >= 0
}

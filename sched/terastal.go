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
	t *Tables
	terastalOptions
	pending []ready[time.Duration] // by best-case slack
	free    []time.Duration        // by accelerator, as this decision goes on
	idle    []bool
}

// terastalOptions switch parts of the method off or change them.
type terastalOptions struct {
	originals bool // never use variants
	deadlines bool // no budgets: every layer is due at the request's deadline
	// laxity is the share of the laxity-based virtual deadline (the request's
	// deadline minus the fastest time for the layers after) in the virtual
	// deadline; the rest comes from the budgets. Of 0, 0.25, 0.5, 0.75 and 1,
	// 0.75 won the most combinations of the grid of docs/EVALUATION.md and lost
	// the fewest (8 seeds, late requests dropped).
	laxity float64
}

func newTerastal(t *Tables) Policy { return &terastal{t: t} }

func newTerastalWith(o terastalOptions) func(*Tables) Policy {
	return func(t *Tables) Policy { return &terastal{t: t, terastalOptions: o} }
}

// due is the instant by which the job's current layer should end.
func (p *terastal) due(m *modelTable, j *Job) time.Duration {
	if p.deadlines {
		return j.Deadline
	}
	budget := m.virtualDeadline(j)
	if p.laxity == 0 {
		return budget
	}
	laxity := j.Deadline - m.remain[j.Layer+1]
	return budget + time.Duration(p.laxity*float64(laxity-budget))
}

// rows are the first row of the job's layer and the one after its last that
// may be used.
func (p *terastal) rows(m *modelTable, j *Job) (first, end int32) {
	first = m.row[j.Layer]
	if p.originals {
		return first, first + 1
	}
	return first, m.row[j.Layer+1]
}

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
	p.pending = p.pending[:0]
	if idle == 0 {
		return out
	}
	for i := range s.Jobs {
		if s.Jobs[i].Waiting() {
			p.pending = append(p.pending, ready[time.Duration]{p.bestSlack(&s.Jobs[i]), int32(i)})
		}
	}
	sortReady(p.pending)

	rest := p.pending[:0]
	for n, r := range p.pending {
		if idle == 0 {
			rest = append(rest, p.pending[n:]...)
			break
		}
		// Where nothing met the virtual deadline when the slack was taken,
		// nothing does now: accelerators have only become busier.
		c, ok := Choice{}, r.key >= 0
		if ok {
			c, ok = p.withinBudget(&s.Jobs[r.job])
		}
		if !ok {
			rest = append(rest, r)
			continue
		}
		c.Job = r.job
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
	first, end := p.rows(m, j)
	for row := first; row < end; row++ {
		if m.allowed(j.Used, m.bit[row]) {
			_, f := p.earliest(m, j, row, false)
			finish = min(finish, f)
		}
	}
	return p.due(m, j) - finish
}

// earliest finds the accelerator, idle ones only if asked, on which the row
// would end first, and when; -1 and at least never if there is none.
func (p *terastal) earliest(m *modelTable, j *Job, row int32, onlyIdle bool) (int, time.Duration) {
	at, finish := -1, never
	latency, handoff := p.t.costs(m, j, int(row))
	for k, f := range p.free {
		if onlyIdle && !p.idle[k] {
			continue
		}
		f += latency[k]
		if handoff != nil {
			f += handoff[k]
		}
		if f < finish {
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
	v := p.due(m, j)
	first, end := p.rows(m, j)
	if k, f := p.earliest(m, j, first, true); k >= 0 && f <= v {
		return Choice{Accelerator: int32(k), Reason: MeetsBudget}, true
	}
	best, low := Choice{Reason: VariantMeetsBudget}, never
	for row := first + 1; row < end; row++ {
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
	for n, r := range p.pending {
		j := &s.Jobs[r.job]
		m := &p.t.models[j.Model]
		first, end := p.rows(m, j)
		wait := never
		for k := range p.free {
			if !p.idle[k] {
				wait = min(wait, p.free[k]+p.t.cost(m, j, int(first), k))
			}
		}
		for row := first; row < end; row++ {
			if !m.allowed(j.Used, m.bit[row]) {
				continue
			}
			if k, f := p.earliest(m, j, row, true); k >= 0 && wait-f > gain {
				at, gain = n, wait-f
				best.Job, best.Implementation, best.Accelerator = r.job, row-first, int32(k)
			}
		}
	}
	return at, best, at >= 0
}

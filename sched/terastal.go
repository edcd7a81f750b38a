package sched

import "time"

// Terastal is Algorithm 2 of arXiv 2606.06818: waiting layers in order of their best-case slack against the virtual
// deadline; stage 1 gives each an idle accelerator on which the original stays within the budget, else one on which an
// allowed variant does; stage 2 fills the accelerators that are left. The published sources do not give stage 2's rule;
// ours takes the assignment that gains most against waiting for the best busy accelerator, and leaves an accelerator
// idle rather than lose by it.
func Terastal(c Config) (Policy, error) { return TerastalOptions{}.New(c) }

// TerastalOptions switch parts of the method off or change them.
type TerastalOptions struct {
	Originals bool // never use variants
	Deadlines bool // no budgets: every layer is due at the request's deadline
	// Laxity is the share of the laxity-based virtual deadline (the request's deadline minus the fastest time for the
	// layers after) in the virtual deadline; the rest comes from the budgets.
	Laxity float64
	// Accuracy prices what variants cost; nil uses them as published: where the original does not meet the virtual deadline.
	Accuracy Accuracy
}

// Accuracy weighs accuracy against time.
type Accuracy interface {
	// Price is what a variant of the job's next layer costs in accuracy, as time: at least [Never] if it may not be used.
	Price(now time.Duration, j *Job, implementation int32) time.Duration
	// Spend is told of a choice.
	Spend(j *Job, implementation int32)
}

// New is a [Constructor].
func (o TerastalOptions) New(c Config) (Policy, error) {
	return &terastal{t: c.Tables, TerastalOptions: o}, nil
}

type terastal struct {
	t *Tables
	TerastalOptions
	pending []ready // by best-case slack
	now     time.Duration
	// By accelerator, with what was decided so far: when it can start; able says Never where it is not idle.
	free, able, later []time.Duration
	detour            [MaxAccelerators]time.Duration
}

// due is the instant by which the job's current layer should end.
func (p *terastal) due(m *ModelTable, j *Job) time.Duration {
	if p.Deadlines {
		return j.Deadline
	}
	budget := m.VirtualDeadline(j)
	if p.Laxity == 0 {
		return budget
	}
	return budget + time.Duration(p.Laxity*float64(j.Deadline-m.Remaining(j.Layer+1)-budget))
}

// implementations is how many of the job's layer may be used.
func (p *terastal) implementations(m *ModelTable, j *Job) int32 {
	if p.Originals {
		return 1
	}
	return m.Implementations(j.Layer)
}

func (p *terastal) Select(s *State, out []Choice) []Choice {
	able, idle := s.able(p.able[:0])
	p.now, p.free, p.able = s.Now, p.free[:0], able
	for k := range s.Accelerators {
		p.free = append(p.free, s.Free(k))
	}
	p.pending = p.pending[:0]
	if idle == 0 {
		return out
	}
	for i := range s.Jobs {
		if s.Jobs[i].Waiting() {
			p.pending = append(p.pending, ready{p.bestSlack(&s.Jobs[i]), int32(i)})
		}
	}
	sortReady(p.pending)

	rest := p.pending[:0]
	for n, r := range p.pending {
		if idle == 0 {
			rest = append(rest, p.pending[n:]...)
			break
		}
		// What met no virtual deadline when the slack was taken meets none now: accelerators have only become busier.
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

// usable are the implementations of the job's next layer that accuracy has a price for, a bit each.
func (p *terastal) usable(m *ModelTable, j *Job) uint64 {
	if p.Accuracy == nil {
		return ^uint64(0)
	}
	set := uint64(1)
	for i := int32(1); i < p.implementations(m, j); i++ {
		if p.Accuracy.Price(p.now, j, i) < Never {
			set |= 1 << i
		}
	}
	return set
}

// take books the choice's accelerator until its predicted finish.
func (p *terastal) take(s *State, c Choice) Choice {
	j := &s.Jobs[c.Job]
	k := int(c.Accelerator)
	p.free[k] = max(p.free[k], j.Ready) + p.t.models[j.Model].Cost(j, c.Implementation, k)
	p.able[k] = Never
	if p.Accuracy != nil {
		p.Accuracy.Spend(j, c.Implementation)
	}
	return c
}

// bestSlack is the largest slack of the job's layer: its virtual deadline minus the earliest finish that is allowed.
func (p *terastal) bestSlack(j *Job) time.Duration {
	m := &p.t.models[j.Model]
	finish, free, detours, usable := Never, j.starts(p.now, p.free, &p.later), p.detours(m, j), p.usable(m, j)
	for i := range p.implementations(m, j) {
		if usable>>i&1 != 0 && m.Allowed(j.Used, m.Variant(j.Layer, i)) {
			_, f := earliest(free, m.Latency(j.Layer, i), detours)
			finish = min(finish, f)
		}
	}
	return p.due(m, j) - finish
}

// detours are, by accelerator, the handoff of a job's inputs to it and by how much longer the rest takes from there; nil
// where handoffs are free.
func (p *terastal) detours(m *ModelTable, j *Job) []time.Duration {
	if m.handoff == nil {
		return nil
	}
	for k := range m.accs {
		p.detour[k] = m.Cost(j, 0, k) - m.Latency(j.Layer, 0)[k] + m.Left(j.Layer+1, int32(k)) - m.Remaining(j.Layer+1)
	}
	return p.detour[:m.accs]
}

// earliest finds the accelerator on which an implementation would end first that can start there then, and when; -1 and
// at least Never where none can.
func earliest(free, latency, handoff []time.Duration) (int, time.Duration) {
	at, finish := -1, Never
	latency = latency[:len(free)] // no checks of bounds below
	for k, f := range free {
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

// withinBudget is stage 1 for one layer: of what meets the virtual deadline on an idle accelerator the original, else the
// allowed variant that ends first; with prices of accuracy whatever ends first, its price included.
func (p *terastal) withinBudget(j *Job) (Choice, bool) {
	m := &p.t.models[j.Model]
	v, detours, free := p.due(m, j), p.detours(m, j), j.starts(p.now, p.able, &p.later)
	best, low := Choice{Reason: MeetsBudget}, Never
	if k, f := earliest(free, m.Latency(j.Layer, 0), detours); k >= 0 && f <= v {
		if best.Accelerator, low = int32(k), f; p.Accuracy == nil {
			return best, true
		}
	}
	for i := int32(1); i < p.implementations(m, j); i++ {
		if !m.Allowed(j.Used, m.Variant(j.Layer, i)) {
			continue
		}
		price := time.Duration(0)
		if p.Accuracy != nil {
			price = p.Accuracy.Price(p.now, j, i)
		}
		if k, f := earliest(free, m.Latency(j.Layer, i), detours); k >= 0 && f <= v && f+price < low {
			best = Choice{Implementation: i, Accelerator: int32(k), Reason: VariantMeetsBudget}
			low = f + price
		}
	}
	return best, low < Never
}

// largestGain is one step of stage 2: over pending layers, allowed implementations and idle accelerators, the choice
// that ends earliest compared with waiting for the best busy accelerator, if that is a gain at all. It also returns the
// choice's place in the pending list.
func (p *terastal) largestGain(s *State) (int, Choice, bool) {
	at, best, gain := -1, Choice{Reason: Backfill}, time.Duration(0)
	for n, r := range p.pending {
		j := &s.Jobs[r.job]
		m := &p.t.models[j.Model]
		wait, free, detours, usable := Never, j.starts(p.now, p.able, &p.later), p.detours(m, j), p.usable(m, j)
		for k, f := range p.free {
			if p.able[k] >= Never {
				wait = min(wait, max(f, j.Ready)+m.Cost(j, 0, k)+m.Left(j.Layer+1, int32(k))-m.Remaining(j.Layer+1))
			}
		}
		for i := range p.implementations(m, j) {
			if usable>>i&1 == 0 || !m.Allowed(j.Used, m.Variant(j.Layer, i)) {
				continue
			}
			if k, f := earliest(free, m.Latency(j.Layer, i), detours); k >= 0 && wait-f > gain {
				at, gain = n, wait-f
				best.Job, best.Implementation, best.Accelerator = r.job, i, int32(k)
			}
		}
	}
	return at, best, at >= 0
}

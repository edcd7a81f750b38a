package sched

import (
	"cmp"
	"time"
)

// Lookahead is an engine that runs ahead of the real one, from a copy of its state, so that a policy can see what would
// come of a decision. Nothing arrives but what completions release by themselves, layers take as long as the tables
// say, unannounced; nothing is recorded, no [Observer] told. It allocates nothing once it has seen as many jobs.
//
//	ahead := sched.NewLookahead(cfg, ended) // in the constructor
//	...
//	ahead.Reset(s) // in Select
//	ahead.Decide(rule)
//	for k := ahead.Next(until); k >= 0; k = ahead.Next(until) {
//		ahead.Complete(k)
//	}
type Lookahead struct{ e Engine }

// What a lookahead draws and names is not what the real engine will.
const (
	aheadSeed = 0x726f6c6c
	aheadJobs = int64(1) << 60
)

// maxReserved bounds the jobs that memory is kept for from the start.
const maxReserved = 1024

// NewLookahead returns a lookahead for an engine with this configuration. ended is told how every job ends.
func NewLookahead(c Config, ended func(j Job, o Outcome, at time.Duration)) *Lookahead {
	c.Recorder, c.Adapt, c.Seed = nil, false, c.Seed^aheadSeed
	c.Queue = cmp.Or(c.Queue, DefaultQueue)
	l := &Lookahead{newEngine(c)}
	l.e.ended = ended
	// It may see more jobs than the real engine has seen.
	l.e.state.Jobs = make([]Job, 0, min(c.Queue*len(c.Tables.models), maxReserved))
	l.e.due = make([]int32, 0, len(c.Tables.models))
	l.e.choices = make([]Choice, 0, c.Tables.accs)
	return l
}

// State is the state that the lookahead is in. It may be read and copied.
func (l *Lookahead) State() *State { return &l.e.state }

// Reset makes the state equal to s, as if it had come there by events.
func (l *Lookahead) Reset(s *State) {
	e := &l.e
	e.state.CopyFrom(s)
	clear(e.active)
	e.own, e.due, e.overdue = aheadJobs, e.due[:0], Never
	for i := range s.Jobs {
		j := &s.Jobs[i]
		e.active[j.Model]++
		e.own = max(e.own, j.ID+1)
		e.overdue = min(e.overdue, j.Deadline)
	}
}

// Slow makes layers take so many times as long as the tables say from now on,
// those that run included. It holds until the next call, whatever Reset does.
func (l *Lookahead) Slow(by float64) {
	l.e.slow = by
	if by == 1 {
		return
	}
	for k := range l.e.state.Accelerators {
		if a := &l.e.state.Accelerators[k]; a.Job != Idle {
			a.Free = a.Started + time.Duration(by*float64(a.Free-a.Started))
		}
	}
}

// Apply starts what a policy chose.
func (l *Lookahead) Apply(choices []Choice) {
	for i := range choices {
		l.e.occupy(&choices[i])
	}
}

// Decide lets a policy decide, now and after every completion to come.
func (l *Lookahead) Decide(p Policy) {
	l.e.setPolicy(p)
	l.e.dispatch()
}

// Next returns the accelerator that completes its layer next, the lowest of several at one instant. If none does up to
// an instant, time moves to there and Next returns -1.
func (l *Lookahead) Next(until time.Duration) int {
	s := &l.e.state
	next, at := -1, until+1
	for k := range s.Accelerators {
		a := &s.Accelerators[k]
		f := a.Free
		if t := l.e.tail(k); t != nil {
			f = t.Until
		} else if a.Job == Idle {
			continue
		}
		if f = max(f, s.Now); f < at {
			next, at = k, f
		}
	}
	if next < 0 {
		s.Now = until
	}
	return next
}

// Complete moves to when the accelerator that Next returned completes its layer, and lets the policy decide there.
func (l *Lookahead) Complete(k int) {
	e := &l.e
	a := &e.state.Accelerators[k]
	job, end, last := a.Job, a.Free, true
	t := e.tail(k)
	if t != nil {
		job, end, last = t.Job, t.Until, t.Last
	}
	if e.state.Now = max(end, e.state.Now); t != nil {
		t.Job, t.Ended = Idle, e.state.Now
	} else {
		e.vacate(k)
	}
	if i := e.state.find(job); i >= 0 && last { // else the state does not show it, or it has moved on
		e.completed(i, k)
	}
	if len(e.due) > 0 {
		e.releaseOwn()
	}
	e.drop()
	e.dispatch()
}

package sched

import "time"

// Observed shows what a policy does, to tests that are not part of the package
// and so cannot wrap the optional parts of one.
type Observed struct {
	Policy
	// Selected is told the state before and after a decision, and the decision.
	Selected func(before, after *State, out []Choice)
	// Dropping is told whether the policy's own rule drops a waiting job.
	Dropping func(s *State, job int, drop bool)
}

func (o Observed) Select(s *State, out []Choice) []Choice {
	var before State
	before.CopyFrom(s)
	out = o.Policy.Select(s, out)
	o.Selected(&before, s, out)
	return out
}

func (o Observed) drops(s *State, job int) bool {
	d, ok := o.Policy.(dropper)
	drop := ok && d.drops(s, job)
	o.Dropping(s, job, drop)
	return drop
}

func (o Observed) ended(j Job, outcome Outcome, at time.Duration) {
	if w, ok := o.Policy.(watcher); ok {
		w.ended(j, outcome, at)
	}
}

func (o Observed) configure(cfg *Config) {
	if c, ok := o.Policy.(configured); ok {
		c.configure(cfg)
	}
}

// Timed measures the policy's searches.
func Timed(p Policy, took *[]time.Duration) Policy {
	p.(*rollout).timed = func(f func()) {
		start := time.Now()
		f()
		*took = append(*took, time.Since(start))
	}
	return p
}

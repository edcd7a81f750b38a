package sched

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// roller simulates ahead from a state: no future releases but those that its
// own completions cause, layers take what the tables say, one rule dispatches.
// It works on an engine of its own, which it makes equal to the state each time,
// and allocates nothing once that has seen as many requests.
type roller struct {
	*priced
	rollOptions
	engine *Engine
	cost   float64
	lost   []int64       // jobs that nothing can save
	ahead  time.Duration // the horizon
	fading []float64     // by model: the laxity by which the cost of a completion in time falls by e
}

// rollOptions say what a rolled schedule costs and where it ends.
type rollOptions struct {
	horizon float64 // how far ahead, in mean relative deadlines of the models
	tight   float64 // cost of a completion just in time, in those of a miss
	fade    float64 // its decay with laxity, in the model's relative deadlines
	variant float64 // cost of a variant used
}

// bounds end a roll early. They count down.
type bounds struct {
	events  int // completions
	touches int // active requests, summed over the completions
}

// spent reports whether a roll ended early for them.
func (b *bounds) spent() bool { return b.events < 0 || b.touches < 0 }

// rolledSeed and rolledJobs set apart what a rolled engine draws and names from
// what the real one will.
const (
	rolledSeed = 0x726f6c6c
	rolledJobs = int64(1) << 60
)

// maxReserved bounds the jobs that memory is kept for from the start.
const maxReserved = 1024

func newRoller(p *priced, cfg *Config, o rollOptions) *roller {
	r := &roller{priced: p, rollOptions: o}
	e, err := New(Config{Tables: p.t, Policy: idlePolicy{}, Drop: cfg.Drop, Queue: cfg.Queue, Seed: cfg.Seed ^ rolledSeed,
		ClosedLoop: cfg.ClosedLoop, Until: cfg.Until})
	if err != nil {
		broken("engine for rollouts: %v", err)
	}
	e.judge = r
	// What is rolled may be more than what the real engine has seen.
	most := min(cmp.Or(cfg.Queue, DefaultQueue)*len(p.t.models), maxReserved)
	e.state.Jobs = make([]Job, 0, most)
	e.due = make([]release, 0, len(p.t.models))
	e.choices = make([]Choice, 0, p.t.accs)
	r.engine = e
	mean := 0.0
	for i := range p.models {
		deadline := float64(p.t.models[i].deadline)
		r.fading = append(r.fading, o.fade*deadline)
		mean += deadline / float64(len(p.models))
	}
	r.ahead = time.Duration(o.horizon * mean)
	return r
}

// idlePolicy dispatches nothing.
type idlePolicy struct{}

func (idlePolicy) Select(_ *State, out []Choice) []Choice { return out }

// judge is told how jobs end.
type judge interface {
	judge(j Job, o Outcome, at time.Duration)
}

// judge adds the cost of an ended job.
func (r *roller) judge(j Job, o Outcome, at time.Duration) {
	if o != Met {
		r.miss(&j)
		return
	}
	r.cost += r.risk(&j, j.Deadline-at)
}

// miss adds the cost of a job that missed its deadline, or will, unless nothing
// could have saved it: rules are told apart sooner without what is the same for
// all.
func (r *roller) miss(j *Job) {
	if !slices.Contains(r.lost, j.ID) {
		r.cost += r.models[j.Model].weight
	}
}

// risk is the cost of a job that ends, or can end, this much before its
// deadline.
func (r *roller) risk(j *Job, laxity time.Duration) float64 {
	x := r.variant * float64(j.Used.Len())
	if r.tight > 0 {
		x += r.tight * r.models[j.Model].weight * math.Exp(-float64(laxity)/r.fading[j.Model])
	}
	return x
}

// laxity is what a job has to spare if nothing holds it up from now on.
func (r *roller) laxity(s *State, j *Job) time.Duration {
	at, l := s.Now, int(j.Layer)
	if !j.Waiting() {
		at, l = max(s.Now, s.Accelerators[j.On].Free), l+1
	}
	least := r.least(j.Model, j.Used, l)
	if r.engine.slow > 0 {
		least = time.Duration(r.engine.slow * float64(least))
	}
	return j.Deadline - at - least
}

// giveUp notes the jobs that no rule can save from a state on.
func (r *roller) giveUp(s *State) {
	r.lost = r.lost[:0]
	for i := range s.Jobs {
		if j := &s.Jobs[i]; r.laxity(s, j) < 0 {
			r.lost = append(r.lost, j.ID)
		}
	}
}

// pacedFrom makes the engine equal to a state, with layers as slow from now on,
// those that run included, as they have been lately.
func (r *roller) pacedFrom(s *State) {
	r.engine.adopt(s)
	if r.engine.slow = r.pace.slow(); r.engine.slow == 1 {
		r.engine.slow = 0
		return
	}
	for k := range s.Accelerators {
		a := &r.engine.state.Accelerators[k]
		if a.Job != Idle {
			a.Free = a.Started + time.Duration(r.engine.slow*float64(a.Free-a.Started))
		}
	}
}

// start makes the engine equal to the state, with a rule that dispatches from
// now on.
func (r *roller) start(s *State, rule Policy) {
	r.engine.adopt(s)
	r.engine.setPolicy(rule)
	r.cost = 0
	r.engine.dispatch()
}

// roll goes on to an instant, or until the schedule has cost more than the most
// or the bounds are reached, where it stops.
func (r *roller) roll(until time.Duration, most float64, b *bounds) {
	e := r.engine
	s := &e.state
	for r.cost <= most {
		next, at := -1, until+1
		for k := range s.Accelerators {
			if a := &s.Accelerators[k]; a.Job != Idle {
				if f := max(a.Free, s.Now); f < at {
					next, at = k, f
				}
			}
		}
		if next < 0 {
			s.Now = until
			return
		}
		b.events--
		b.touches -= len(s.Jobs)
		if b.spent() {
			return
		}
		i := s.find(s.Accelerators[next].Job)
		if i < 0 {
			// It runs what the state does not know (whole models).
			s.Accelerators[next].Job = Idle
			e.rolled(at)
			continue
		}
		s.Now = at
		e.completed(i, next)
		e.rolled(at)
	}
}

// finish rolls and returns the cost, that of the jobs that are left included; it
// is more than the most if the roll was given up for that.
func (r *roller) finish(until time.Duration, most float64, b *bounds) float64 {
	r.roll(until, most, b)
	s := &r.engine.state
	for i := range s.Jobs {
		if r.cost > most {
			break
		}
		j := &s.Jobs[i]
		if laxity := r.laxity(s, j); laxity < 0 {
			r.miss(j)
		} else {
			r.cost += r.risk(j, laxity)
		}
	}
	return r.cost
}

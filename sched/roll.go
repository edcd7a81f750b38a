package sched

import (
	"math"
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
	soft   []float64 // by model: the time over which the cost of finishing in time falls by e
}

// rollOptions say what a rolled schedule costs and where it ends.
type rollOptions struct {
	horizon time.Duration // how far ahead
	tight   float64       // cost of a completion just in time, against that of a miss
	fade    float64       // its decay, in periods
	variant float64       // cost of a variant used
}

// bounds end a roll early. They count down.
type bounds struct {
	events  int // completions
	touches int // active requests, summed over the completions
}

// rolledSeed and rolledJobs set apart what a rolled engine draws and names from
// what the real one will.
const (
	rolledSeed = 0x726f6c6c
	rolledJobs = int64(1) << 60
)

func newRoller(p *priced, cfg *Config, o rollOptions) *roller {
	r := &roller{priced: p, rollOptions: o}
	e, err := New(Config{Tables: p.t, Policy: idlePolicy{}, Drop: cfg.Drop, Queue: cfg.Queue, Seed: cfg.Seed ^ rolledSeed,
		ClosedLoop: cfg.ClosedLoop, Until: cfg.Until})
	if err != nil {
		broken("engine for rollouts: %v", err)
	}
	e.judge = r
	r.engine = e
	for i := range p.models {
		r.soft = append(r.soft, o.fade*p.models[i].period)
	}
	return r
}

// idlePolicy dispatches nothing.
type idlePolicy struct{}

func (idlePolicy) Select(_ *State, out []Choice) []Choice { return out }

// judge is told how jobs end.
type judge interface {
	judge(j *Job, o Outcome, at time.Duration)
}

// judge adds the cost of an ended job.
func (r *roller) judge(j *Job, o Outcome, at time.Duration) {
	w := r.models[j.Model].weight
	if o != Met {
		r.cost += w
		return
	}
	r.cost += r.risk(j, w, j.Deadline-at)
}

// risk is the cost of a job that ends this much before its deadline.
func (r *roller) risk(j *Job, w float64, laxity time.Duration) float64 {
	x := r.variant * float64(j.Used.Len())
	if r.tight > 0 {
		x += r.tight * w * math.Exp(-float64(laxity)/r.soft[j.Model])
	}
	return x
}

// leftover is the cost of a job that has not ended by the end of the roll.
func (r *roller) leftover(s *State, j *Job) float64 {
	m := r.models[j.Model].weight
	at, l := s.Now, int(j.Layer)
	if !j.Waiting() {
		at, l = max(s.Now, s.Accelerators[j.On].Free), l+1
	}
	laxity := j.Deadline - at - r.least(j.Model, j.Used, l)
	if laxity < 0 {
		return m
	}
	return r.risk(j, m, laxity)
}

// start makes the engine equal to the state, with a rule that dispatches from
// now on.
func (r *roller) start(s *State, rule Policy) {
	r.engine.adopt(s)
	r.engine.setPolicy(rule)
	r.cost = 0
	r.engine.dispatch()
}

// roll goes on to the horizon or the bounds, and returns the cost and where it
// ended; ok is false if it cost more than the most before that.
func (r *roller) roll(until time.Duration, most float64, b *bounds) (cost float64, end time.Duration, ok bool) {
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
			break
		}
		if b.events--; b.events < 0 {
			break
		}
		if b.touches -= len(s.Jobs); b.touches < 0 {
			break
		}
		i := s.find(s.Accelerators[next].Job)
		if i < 0 {
			// It runs what the state does not know (whole models).
			s.Now = at
			s.Accelerators[next].Job = Idle
			e.dispatch()
			continue
		}
		e.rolled(i, next, at)
	}
	for i := range s.Jobs {
		if r.cost > most {
			break
		}
		r.cost += r.leftover(s, &s.Jobs[i])
	}
	return r.cost, s.Now, r.cost <= most
}

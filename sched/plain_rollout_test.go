package sched_test

import (
	"fmt"
	"math"
	"time"

	"github.com/terastal/terastal/sched"
)

// plainRollout is the policy once more: every rule is a plain one, and schedules
// are rolled by events of an ordinary engine that starts from the state.
type plainRollout struct {
	sys    *sched.System
	tables *sched.Tables
	cfg    sched.Config
	o      sched.RolloutOptions
	rates  []float64
	rules  []plain
	cur    int
	next   int
	since  int
	alarm  bool
	plainPace
}

// paced tells the rules, too.
func (p *plainRollout) paced(predicted, took time.Duration) {
	p.plainPace.paced(predicted, took)
	for _, r := range p.rules {
		if c, ok := r.(pacer); ok {
			c.paced(predicted, took)
		}
	}
}

// longer is how long what is predicted to take so long will take.
func (p *plainRollout) longer(x time.Duration) time.Duration {
	if p.slow() == 1 {
		return x
	}
	return time.Duration(p.slow() * float64(x))
}

func newPlainRollout(sys *sched.System) *plainRollout {
	tables, err := sched.Compile(*sys)
	if err != nil {
		panic(err)
	}
	p := &plainRollout{sys: sys, tables: tables, o: sched.DefaultRollout()}
	for _, o := range sched.PortfolioRules() {
		p.rules = append(p.rules, newPlainRule(sys, o))
	}
	p.rates = p.rules[0].(*plainRule).rates
	for _, laxity := range []float64{0, 1, 0.5} {
		r := reference{sys, fmt.Sprint(laxityName, laxity)}
		p.rules = append(p.rules, memoryless{r, r.terastal})
	}
	p.rules = append(p.rules, newPlain(sys, "fcfs"), newPlain(sys, "edf"))
	return p
}

func (p *plainRollout) configure(cfg sched.Config) {
	p.cfg = cfg
	for _, r := range p.rules {
		if c, ok := r.(configured); ok {
			c.configure(cfg)
		}
	}
}

func (p *plainRollout) drops(*sched.State, int) bool { return false }
func (p *plainRollout) ended(_ int, o sched.Outcome) { p.alarm = p.alarm || o != sched.Met }
func (p *plainRollout) weight(m int32) float64       { return weightOf(p.rates, m) }

func (p *plainRollout) choices(s *sched.State) []sched.Choice {
	out := p.rules[p.cur].choices(s)
	p.since++
	arrived := false
	if n := len(s.Jobs); n > 0 {
		last := s.Jobs[n-1]
		arrived = last.Layer == 0 && last.On == sched.Idle && last.Ready == s.Now
	}
	if p.since < p.o.Every && !p.alarm && !arrived {
		return out
	}
	p.since, p.alarm = 0, false
	if len(s.Jobs) == 0 {
		return out
	}
	var base sched.State
	base.CopyFrom(s)
	for k := range base.Accelerators {
		if a := &base.Accelerators[k]; a.Job != sched.Idle {
			a.Free = a.Started + p.longer(a.Free-a.Started)
		}
	}
	for _, c := range out {
		j := &base.Jobs[c.Job]
		im := p.sys.Models[j.Model].Layers[j.Layer].Implementations[c.Implementation]
		took := im.Latency[c.Accelerator]
		if h := p.sys.Models[j.Model].Layers[j.Layer].Handoff; h != nil && j.At >= 0 {
			took += h[j.At][c.Accelerator]
		}
		if im.Variant > 0 {
			j.Used |= 1 << (im.Variant - 1)
		}
		j.On = c.Accelerator
		base.Accelerators[c.Accelerator].Job = j.ID
		base.Accelerators[c.Accelerator].Free = s.Now + p.longer(took)
	}
	if was := p.cur; p.search(&base) != was {
		out = append(out, p.rules[p.cur].choices(&base)...)
	}
	return out
}

func (p *plainRollout) search(base *sched.State) int {
	mean := 0.0
	for m := range p.sys.Models {
		mean += float64(p.sys.Models[m].Deadline) / float64(len(p.sys.Models))
	}
	left := [2]int{p.o.Events, p.o.Touches}
	best, until := p.roll(base, p.rules[p.cur], base.Now+time.Duration(p.o.Horizon*mean), math.Inf(1), &left)
	if left[0] < 0 || left[1] < 0 {
		p.cur = 0
		return p.cur
	}
	if best <= p.o.Good {
		return p.cur
	}
	begin, was := p.next, p.cur
	p.next = (p.next + 1) % len(p.rules)
	for n := range p.rules {
		i := (begin + n) % len(p.rules)
		if i == was {
			continue
		}
		cost, _ := p.roll(base, p.rules[i], until, best-p.o.Margin, &left)
		if left[0] < 0 || left[1] < 0 {
			break
		}
		if cost < best-p.o.Margin {
			if best, p.cur = cost, i; best <= p.o.Good {
				break
			}
		}
	}
	return p.cur
}

// laxity is what a job has to spare at the most.
func (p *plainRollout) laxity(s *sched.State, j sched.Job) time.Duration {
	m := p.sys.Models[j.Model]
	at, layers := s.Now, m.Layers[j.Layer:]
	if j.On != sched.Idle {
		at, layers = max(s.Now, s.Accelerators[j.On].Free), layers[1:]
	}
	return j.Deadline - at - p.longer(leastWith(m, layers, j.Used))
}

// roll returns the cost of a schedule and the instant at which it ended.
func (p *plainRollout) roll(base *sched.State, rule plain, until time.Duration, most float64, left *[2]int) (float64, time.Duration) {
	c := &costing{plainRollout: p, used: map[int64]sched.VariantSet{}, lost: map[int64]bool{}}
	for _, j := range base.Jobs {
		c.used[j.ID], c.lost[j.ID] = j.Used, p.laxity(base, j) < 0
	}
	cfg := p.cfg
	cfg.Recorder, cfg.Adapt, cfg.Seed = c, false, cfg.Seed^sched.RolledSeed
	cfg.Policy = plainPolicy{rule}
	cfg.Tables = p.tables
	e, err := sched.New(cfg)
	if err != nil {
		panic(err)
	}
	sched.Adopt(e, base, p.slow())
	s := sched.StateOf(e)
	for c.cost <= most {
		k := -1
		at := until + 1
		for i, a := range s.Accelerators {
			if a.Job != sched.Idle && max(a.Free, s.Now) < at {
				k, at = i, max(a.Free, s.Now)
			}
		}
		if k < 0 {
			s.Now = until
			break
		}
		left[0]--
		left[1] -= len(s.Jobs)
		if left[0] < 0 || left[1] < 0 {
			break
		}
		known := false
		for _, j := range s.Jobs {
			known = known || j.ID == s.Accelerators[k].Job
		}
		if !known {
			s.Accelerators[k].Job = sched.Idle
			kind := sched.AcceleratorUp // as it is
			if s.Accelerators[k].Down {
				kind = sched.AcceleratorDown
			}
			e.Step(sched.Event{Kind: kind, At: at, Accelerator: k})
			continue
		}
		e.Step(sched.Event{Kind: sched.Complete, At: at, Accelerator: k})
	}
	for _, j := range s.Jobs {
		if c.cost > most {
			break
		}
		if x := p.laxity(s, j); x < 0 {
			c.miss(j.ID, j.Model)
		} else {
			c.cost += p.risk(j.Model, c.used[j.ID], x)
		}
	}
	return c.cost, s.Now
}

func (p *plainRollout) risk(model int32, used sched.VariantSet, laxity time.Duration) float64 {
	x := p.o.Variant * float64(used.Len())
	return x + p.o.Tight*p.weight(model)*math.Exp(-float64(laxity)/(p.o.Fade*float64(p.sys.Models[model].Deadline)))
}

// costing adds up what a rolled schedule costs.
type costing struct {
	*plainRollout
	used map[int64]sched.VariantSet
	lost map[int64]bool
	cost float64
}

func (c *costing) Record(r sched.Record) {
	switch r.Kind {
	case sched.Dispatched:
		if v := c.sys.Models[r.Model].Layers[r.Layer].Implementations[r.Implementation].Variant; v > 0 {
			c.used[r.Job] |= 1 << (v - 1)
		}
	case sched.Ended:
		if r.Outcome == sched.Met {
			c.cost += c.risk(r.Model, c.used[r.Job], r.Until-r.At)
		} else {
			c.miss(r.Job, r.Model)
		}
	}
}

// miss counts a job unless it was lost from the start.
func (c *costing) miss(id int64, model int32) {
	if !c.lost[id] {
		c.cost += c.weight(model)
	}
}

// plainPolicy lets an engine dispatch by a plain policy.
type plainPolicy struct{ plain }

func (p plainPolicy) Select(s *sched.State, out []sched.Choice) []sched.Choice {
	return append(out, p.choices(s)...)
}

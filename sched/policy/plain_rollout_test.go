package policy

import (
	"math"
	"time"

	"github.com/terastal/terastal/sched"
)

// plainRollout is the policy once more: every rule is a plain one, and what
// schedules cost is added up from the system alone.
type plainRollout struct {
	sys   *sched.System
	cfg   sched.Config
	o     rolloutOptions
	rates []float64
	rules []plain
	cur   int
	next  int
	since int
	alarm bool
	plainPace
	accounts *plainAccounts // those of all rules
}

// paced tells the rules, too.
func (p *plainRollout) paced(predicted, took time.Duration) {
	p.plainPace.paced(predicted, took)
	for _, r := range p.rules {
		r.paced(predicted, took)
	}
}

// longer is how long what is predicted to take so long will take.
func (p *plainRollout) longer(x time.Duration) time.Duration {
	if p.slow() == 1 {
		return x
	}
	return time.Duration(p.slow() * float64(x))
}

func newPlainRollout(sys *sched.System, o rolloutOptions, c sched.Config) *plainRollout {
	c.Tables = compiled(sys) // for lookaheads
	p := &plainRollout{sys: sys, cfg: c, o: o}
	pricing := plainPricing(sys, o.originals)
	p.rates, p.accounts = pricing.Rates, newPlainAccounts(sys, pricing.Prices, o.originals)
	for _, r := range portfolioRules() {
		rule := newPlainRule(sys, r, c, o.originals)
		rule.accounts = p.accounts
		p.rules = append(p.rules, rule)
	}
	for _, laxity := range []float64{0, 1, 0.5} {
		rule := reference{sys, sched.TerastalOptions{Laxity: laxity, Originals: o.originals}, nil}
		if p.accounts.promises() {
			rule.accounts = p.accounts
		}
		p.rules = append(p.rules, memoryless(rule.terastal))
	}
	p.rules = append(p.rules, newPlain(sys, "fcfs", c), newPlain(sys, "edf", c))
	return p
}

func (p *plainRollout) drops(*sched.State, int) bool { return false }

func (p *plainRollout) ended(j sched.Job, o sched.Outcome, at time.Duration) {
	p.accounts.ended(j, o, at)
	p.alarm = p.alarm || o != sched.Met
}

func (p *plainRollout) weight(m int32) float64 { return weightOf(p.rates, m) }

func (p *plainRollout) choices(s *sched.State) []sched.Choice {
	out := p.rules[p.cur].choices(s)
	p.since++
	arrived := false
	if n := len(s.Jobs); n > 0 {
		last := s.Jobs[n-1]
		arrived = last.Layer == 0 && last.On == sched.Idle && last.Ready == s.Now
	}
	if p.since < p.o.every && !p.alarm && !arrived {
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
		a := &base.Accelerators[c.Accelerator]
		a.Job, a.Started = j.ID, max(s.Now, a.Free, j.Ready)
		a.Free = a.Started + p.longer(took)
	}
	p.accounts.rolls = base.Now
	was := p.cur
	found := p.search(&base)
	p.accounts.rolls = 0
	if found != was {
		out = append(out, p.rules[p.cur].choices(&base)...)
	}
	return out
}

func (p *plainRollout) search(base *sched.State) int {
	mean := 0.0
	for m := range p.sys.Models {
		mean += float64(p.sys.Models[m].Deadline) / float64(len(p.sys.Models))
	}
	left := [2]int{p.o.events, p.o.touches}
	best, until := p.roll(base, p.rules[p.cur], base.Now+time.Duration(p.o.horizon*mean), math.Inf(1), &left)
	if left[0] < 0 || left[1] < 0 {
		p.cur = 0
		return p.cur
	}
	if best <= p.o.good {
		return p.cur
	}
	begin, was := p.next, p.cur
	p.next = (p.next + 1) % len(p.rules)
	for n := range p.rules {
		i := (begin + n) % len(p.rules)
		if i == was {
			continue
		}
		cost, _ := p.roll(base, p.rules[i], until, best-p.o.margin, &left)
		if left[0] < 0 || left[1] < 0 {
			break
		}
		if cost < best-p.o.margin {
			if best, p.cur = cost, i; best <= p.o.good {
				break
			}
		}
	}
	return p.cur
}

// laxity is what a job has to spare at the most.
func (p *plainRollout) laxity(s *sched.State, j sched.Job) time.Duration {
	at, left := max(s.Now, j.Ready), rest{j.Model, j.Layer, j.At, j.Used}
	if j.On != sched.Idle {
		at, left.layer, left.at = ends(s, j), j.Layer+1, j.On
	}
	return j.Deadline - at - p.longer(p.accounts.least(left))
}

// roll returns the cost of a schedule and the instant at which it ended.
func (p *plainRollout) roll(base *sched.State, rule plain, until time.Duration, most float64, left *[2]int) (float64,
	time.Duration) {
	lost := map[int64]bool{}
	for _, j := range base.Jobs {
		lost[j.ID] = p.laxity(base, j) < 0
	}
	cost := 0.0
	miss := func(j sched.Job) {
		if !lost[j.ID] {
			cost += p.weight(j.Model)
		}
	}
	defer func() { clear(p.accounts.ahead) }()
	ahead := sched.NewLookahead(p.cfg, func(j sched.Job, o sched.Outcome, at time.Duration) {
		if o != sched.Dropped {
			loss, _ := p.accounts.loss(j.Model, j.Used)
			p.accounts.ahead[j.Model] += loss
		}
		if o == sched.Met {
			cost += p.risk(j, j.Deadline-at)
		} else {
			miss(j)
		}
	})
	ahead.Slow(p.slow())
	ahead.Reset(base)
	ahead.Decide(plainPolicy{rule})
	s := ahead.State()
	for cost <= most {
		k := ahead.Next(until)
		if k < 0 {
			break
		}
		cost += p.waste(s, k)
		left[0]--
		left[1] -= len(s.Jobs)
		if left[0] < 0 || left[1] < 0 {
			break
		}
		ahead.Complete(k)
	}
	for _, j := range s.Jobs {
		if cost > most {
			break
		}
		if x := p.laxity(s, j); x < 0 {
			miss(j)
		} else {
			cost += p.risk(j, x)
		}
	}
	return cost, s.Now
}

// waste is the cost of the time that the layer which ends next on an accelerator took beyond the cheapest.
func (p *plainRollout) waste(s *sched.State, k int) float64 {
	rule := p.rules[0].(*plainRule)
	useful := float64(rule.useful())
	value, work := 0.0, 0.0 // of a second: misses, and the time that all accelerators work
	for m, model := range p.sys.Models {
		period := 1e9 / p.rates[m]
		value += p.weight(int32(m)) / period
		work += workOf(rule.prices, model.Layers) / period
	}
	a := s.Accelerators[k]
	if len(s.Tails) > 0 && s.Tails[k].Job != sched.Idle {
		return 0 // what ends is not what the accelerator has now, and all schedules have it
	}
	for _, j := range s.Jobs {
		if j.ID == a.Job {
			layers := p.sys.Models[j.Model].Layers
			least := (workOf(rule.prices, layers[j.Layer:]) - workOf(rule.prices, layers[j.Layer+1:])) * useful
			return p.o.spill * (value / work) / useful * (rule.prices[k]*useful*float64(a.Free-a.Started) - least)
		}
	}
	return 0
}

func (p *plainRollout) risk(j sched.Job, laxity time.Duration) float64 {
	x := p.o.variant * float64(j.Used.Len())
	if p.accounts.spends(j.Model) {
		x = 0
	}
	return x + p.o.tight*p.weight(j.Model)*math.Exp(-float64(laxity)/(p.o.fade*float64(p.sys.Models[j.Model].Deadline)))
}

// plainPolicy lets a lookahead dispatch by a plain policy.
type plainPolicy struct{ plain }

func (p plainPolicy) Select(s *sched.State, out []sched.Choice) []sched.Choice {
	return append(out, p.choices(s)...)
}

package policy

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"sort"
	"time"

	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/fluid"
)

// plainRule is a priced rule written as plainly as possible, from the comment of the fast one.
type plainRule struct {
	reference
	ruleOptions
	prices []float64
	rates  []float64
	lost   bool // requests that nothing can save are served, last
	plainPace
}

// plainPace is how long layers took lately.
type plainPace struct{ predicted, took float64 }

func (p *plainPace) paced(predicted, took time.Duration) {
	if p.predicted == 0 {
		p.predicted, p.took = float64(predicted), float64(predicted)
	}
	p.predicted += (float64(predicted) - p.predicted) / 64
	p.took += (min(4*float64(predicted), float64(took)) - p.took) / 64
}

func (p *plainPace) slow() float64 {
	if p.predicted == p.took {
		return 1
	}
	return min(4, max(0.5, p.took/p.predicted))
}

// due is the time to the deadline, in predicted time.
func (p *plainPace) due(s *sched.State, j sched.Job) time.Duration {
	return time.Duration(float64(j.Deadline-s.Now) / p.slow())
}

// plainPricing is the system's, or that for one release of every model per deadline. Where only originals may run, no
// floor matters.
func plainPricing(sys *sched.System, originals bool) *sched.Pricing {
	if spends := func(m sched.Model) bool { return m.Floor > 0 && m.Floor < 1 }; originals &&
		slices.ContainsFunc(sys.Models, spends) {
		without := *sys
		without.Models, without.Pricing = slices.Clone(sys.Models), nil
		for m := range without.Models {
			without.Models[m].Floor = 0
		}
		if sys.Pricing == nil {
			return plainPricing(&without, false)
		}
		p, err := fluid.Price(compiled(&without), sys.Pricing.Rates)
		if err != nil {
			panic(err)
		}
		return p
	}
	var rates []float64
	for _, m := range sys.Models {
		rates = append(rates, 1/m.Deadline.Seconds())
	}
	p, err := fluid.Price(compiled(sys), rates)
	if err != nil {
		panic(err)
	}
	if sys.Pricing != nil {
		p = sys.Pricing
	}
	return p
}

func newPlainRule(sys *sched.System, o ruleOptions, c sched.Config, originals bool) *plainRule {
	p := plainPricing(sys, originals)
	lost := c.Drop == sched.DropNone || c.Drop == sched.DropSmart
	a := newPlainAccounts(sys, p.Prices, originals)
	return &plainRule{reference{sys: sys, accounts: a}, o, p.Prices, p.Rates, lost, plainPace{}}
}

func (p *plainRule) drops(*sched.State, int) bool     { return false }
func (p *plainRule) latest(j sched.Job) time.Duration { return shortest(p.left(j), j.At) }
func (p *plainRule) weight(model int32) float64       { return weightOf(p.rates, model) }

// weightOf is the weight of a miss: inverse to the model's rate, 1 on average.
func weightOf(rates []float64, model int32) (w float64) {
	sum := 0.0
	for _, r := range rates {
		sum += 1 / r / float64(len(rates))
	}
	return 1 / rates[model] / sum
}

// useful is how many accelerators run anything: originals, or variants that a floor gives a use.
func (p *plainRule) useful() int {
	n := 0
	for k := range p.sys.Accelerators {
		runs := false
		for _, m := range p.sys.Models {
			for _, l := range m.Layers {
				for i, im := range l.Implementations {
					spends := m.Floor > 0 && m.Floor < 1 && !p.accounts.originals
					runs = runs || im.Latency[k] != sched.Unavailable && (i == 0 || spends)
				}
			}
		}
		if runs {
			n++
		}
	}
	return n
}

func (p *plainRule) ended(j sched.Job, o sched.Outcome, at time.Duration) { p.accounts.ended(j, o, at) }

// workOf is the price-weighted work of the layers.
func workOf(prices []float64, layers []sched.Layer) float64 {
	sum := 0.0
	for _, l := range slices.Backward(layers) {
		low := math.Inf(1)
		for k, c := range usable(l) {
			low = min(low, prices[k]*float64(c))
		}
		sum += low
	}
	return sum
}

// deferred is Moore and Hodgson's rule.
func (p *plainRule) deferred(s *sched.State) map[int]bool {
	out := map[int]bool{}
	if !p.admission {
		return out
	}
	var jobs []int
	for i := range s.Jobs {
		jobs = append(jobs, i)
	}
	sort.SliceStable(jobs, func(a, b int) bool { return s.Jobs[jobs[a]].Deadline < s.Jobs[jobs[b]].Deadline })
	work := func(i int) float64 {
		layers := p.left(s.Jobs[i])
		if s.Jobs[i].On != sched.Idle {
			layers = layers[1:]
		}
		return workOf(p.prices, layers)
	}
	sum := 0.0
	for n, i := range jobs {
		sum += work(i)
		if sum <= float64(p.due(s, s.Jobs[i])) {
			continue
		}
		most := -1
		for _, o := range jobs[:n+1] {
			if !out[o] && (most < 0 || work(o)/p.weight(s.Jobs[o].Model) > work(most)/p.weight(s.Jobs[most].Model)) {
				most = o
			}
		}
		out[most] = true
		sum -= work(most)
	}
	return out
}

// entry is a waiting job, and what it is served by.
type entry struct {
	i, class int
	key      float64
}

// ready lists the waiting jobs in order, those that nothing can save if asked to.
func (p *plainRule) ready(s *sched.State, deferred map[int]bool, lost bool) []entry {
	var list []entry
	for _, i := range waiting(s) {
		j := s.Jobs[i]
		wait := max(0, j.Ready-s.Now)
		due, left := p.due(s, j), wait+p.latest(j)
		e := entry{i: i}
		switch {
		case wait+p.accounts.least(rest{j.Model, j.Layer, j.At, j.Used}) > due:
			if e.class = 3; !lost {
				continue
			}
		case left > due:
			e.class = 2
		case deferred[i]:
			e.class = 1
		}
		switch p.order {
		case byDeadline:
			e.key = float64(due)
		case byLaxity:
			e.key = float64(due - left)
		case byArrival:
			e.key = float64(j.Release - s.Now)
		case byRatio:
			e.key = float64(due) / float64(left)
		case byHalfLaxity:
			e.key = float64(due) - float64(left)/2
		case byMeanLaxity:
			e.key = float64(due) - toGo(p.left(j))
		}
		list = append(list, e)
	}
	sort.SliceStable(list, func(a, b int) bool {
		if list[a].class != list[b].class {
			return list[a].class < list[b].class
		}
		return list[a].key < list[b].key
	})
	return list
}

func (p *plainRule) choices(s *sched.State) []sched.Choice {
	free, idle := freeTimes(s)
	if !slices.Contains(slices.Collect(maps.Values(idle)), true) {
		return nil
	}
	for k, a := range s.Accelerators {
		if _, up := free[k]; up && a.Job != sched.Idle {
			free[k] += max(0, s.Now-a.Free) // as long again as it is overdue
		}
	}
	deferred := p.deferred(s)
	list := p.ready(s, deferred, p.lost)
	resting := !slices.ContainsFunc(s.Accelerators, func(a sched.Occupancy) bool { return a.Job != sched.Idle })
	if len(list) == 0 && resting {
		list = p.ready(s, deferred, true)
	}
	var out []sched.Choice
	var now sched.State // with what the choices use
	now.CopyFrom(s)
	for _, e := range list {
		j := s.Jobs[e.i]
		o, reason := p.best(p.weighed(&now, j, p.accounts.allowed(&now, j, p.options(j, free)), free), &now, j)
		if reason == sched.NoReason {
			continue
		}
		if idle[o.accelerator] {
			out = append(out, sched.Choice{Job: int32(e.i), Implementation: int32(o.implementation),
				Accelerator: int32(o.accelerator), Reason: reason})
			p.accounts.take(&now, out[len(out)-1])
			free[o.accelerator], idle[o.accelerator] = o.finish, false
			if !slices.Contains(slices.Collect(maps.Values(idle)), true) {
				return out
			}
		} else if e.class != 3 && !deferred[e.i] {
			free[o.accelerator] = o.finish
		}
	}
	return out
}

// weighed is an option, how early the request would be by it, when it would end and what that costs.
type weighed struct {
	option
	timely timeliness
	end    time.Duration
	cost   float64
}

// weighed weighs a job's options.
func (p *plainRule) weighed(now *sched.State, j sched.Job, options []option, free map[int]time.Duration) []weighed {
	due, left, after := p.due(now, j), p.latest(j), p.left(j)[1:]
	gain := p.gain
	if p.dynamic {
		gain *= min(3, max(0, float64(due-left)/float64(left)))
	}
	var out []weighed
	for _, o := range options {
		rest := shortest(after, int32(o.accelerator))
		if p.caution > 0 {
			rest = time.Duration((1-p.caution)*float64(rest) + p.caution*toGo(after))
		}
		took := o.finish - max(free[o.accelerator], j.Ready)
		w := weighed{option: o, end: o.finish - now.Now + rest, timely: goodTime}
		switch {
		case w.end > due:
			w.timely = noTime
		case w.end+time.Duration(p.margin*float64(took+rest)) > due:
			w.timely = justTime
		}
		w.cost = float64(w.end)
		if w.timely != justTime {
			w.cost += gain * (p.prices[o.accelerator] * float64(p.useful())) * float64(took)
		}
		if o.implementation > 0 {
			w.cost += p.accounts.toll(now, j, p.accounts.variant(j, o.implementation))
		}
		out = append(out, w)
	}
	return out
}

// best is the option to take of those allowed, and why: NoReason for none.
func (p *plainRule) best(all []weighed, now *sched.State, j sched.Job) (option, sched.Reason) {
	of := func(wanted func(weighed) bool) []weighed {
		return slices.DeleteFunc(slices.Clone(all), func(w weighed) bool { return !wanted(w) })
	}
	least := func(of []weighed, key func(weighed) float64) option { // of the earliest class
		top := slices.MaxFunc(of, func(a, b weighed) int { return int(a.timely) - int(b.timely) }).timely
		of = slices.DeleteFunc(of, func(w weighed) bool { return w.timely < top })
		return slices.MinFunc(of, func(a, b weighed) int { return cmp.Compare(key(a), key(b)) }).option
	}
	cost := func(w weighed) float64 { return w.cost }
	end := func(w weighed) float64 { return float64(w.end) }

	originals := of(func(w weighed) bool { return w.implementation == 0 })
	top := noTime
	for _, w := range originals {
		top = max(top, w.timely)
	}
	why := sched.Cheapest
	if top > noTime {
		why = sched.CheapestInTime
	}
	better := of(func(w weighed) bool { return w.implementation > 0 && w.timely > top })
	variant := why
	if top == noTime {
		variant = sched.VariantInTime
	}
	spends := p.accounts.spends(j.Model)
	switch {
	case len(all) == 0:
		return option{}, sched.NoReason
	case spends && (top == noTime || p.accounts.presses(now.Now, j.Model)):
		if len(better) > 0 {
			why = variant
		}
		return least(all, cost), why
	case !spends && top < goodTime && len(better) > 0:
		return least(better, end), variant
	case len(originals) > 0:
		return least(originals, cost), why
	}
	return option{}, sched.NoReason
}

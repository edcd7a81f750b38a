package policy

import (
	"math"
	"time"

	"github.com/terastal/terastal/sched"
)

// PEDF is priced EDF: earliest deadline first among the requests that admission lets in, each on the accelerator where
// finish time and price-weighted latency together are least; see pricedRule.
func PEDF(c sched.Config) (sched.Policy, error) { return newPEDF(c, false) }

func pedfOriginals(c sched.Config) (sched.Policy, error) { return newPEDF(c, true) }

func newPEDF(c sched.Config, originals bool) (sched.Policy, error) {
	p, err := newPriced(c.Tables, originals)
	if err != nil {
		return nil, err
	}
	return pedf{newPricedRule(p, &c, pricedEDF())}, nil
}

// pedf learns how long layers take.
type pedf struct{ *pricedRule }

func (p pedf) Completed(predicted, took time.Duration)              { p.pace.observe(predicted, took) }
func (p pedf) Ended(j sched.Job, o sched.Outcome, at time.Duration) { p.ended(&j, o, at) }
func (pedf) GiveUp(*sched.State, int) int                           { return -1 }

// pricedEDF is the rule of that name.
func pricedEDF() ruleOptions {
	return ruleOptions{order: byDeadline, gain: 2, admission: true, dynamic: true, margin: 0.6}
}

// pricedRule is a family of dispatch rules of our own. With k over accelerators, A of them, free[k] when each is free,
// D a request's deadline, left the fastest and mean the average latency of its layers from the next on:
//
//  1. With admission, Moore and Hodgson's rule over all requests by deadline (J.
//     M. Moore, "An n job, one machine sequencing algorithm for minimizing the
//     number of late jobs", Management Science 1968): price-weighted work is
//     added up, and where the sum exceeds the time to a deadline, the request
//     with the most work for its weight is deferred and its work taken out.
//  2. Waiting requests are served in order of a key; after them those deferred,
//     after these those that only variants can save. Those that nothing can
//     save come last, without anything being kept for them, and only if the
//     engine does not drop them or there is nothing else to do: a run in which
//     nothing happened would wait for ever.
//  3. Each takes the accelerator, busy ones included, with the least
//     end + gain * A * price[k] * latency, where end is the request's if
//     nothing holds it up after this layer: by the shortest path from there,
//     handoffs included. First it looks among those on which the request would
//     meet its deadline if all its work, from this layer on, took longer by the
//     margin; then, by end alone, among those on which it would just meet it;
//     else among all. A busy accelerator is waited for, and kept from those
//     that come after, unless the request is deferred. What is overdue there
//     is likely to take as long again.
//  4. Where the model has an accuracy floor and time presses (see accounts), its
//     variants compete with the original, each at the price of the accuracy
//     that it costs; so they do where the original cannot meet the deadline.
//     Without a floor, a request whose original cannot meet it by the margin
//     takes, of the allowed variants that do better, the one that ends first.
//
// Prices are those of Pricing. Time per decision grows with the active requests times those that are let in.
type pricedRule struct {
	*priced
	ruleOptions
	lost bool // serve requests that nothing can save, since nothing drops them

	free     []time.Duration // by accelerator, from now on, with what was decided so far
	ready    []candidate     // by key
	admitted []claim         // by deadline
	deferred []bool          // by job
	later    []time.Duration // free, for a job that is not ready now
}

// ruleOptions make one rule of the family.
type ruleOptions struct {
	order order
	gain  float64 // weight of prices against finish times
	// admission defers requests that would make others miss.
	admission bool
	// dynamic multiplies the gain by the request's laxity in units of left, at most 3.
	dynamic bool
	// caution is the share of the mean latency, rather than the fastest, in
	// what the layers after the next are expected to take.
	caution float64
	// margin is the share of the rest of its work by which a request should be early: later layers find accelerators busy,
	// and none takes exactly as long as predicted. At most 1.
	margin float64
}

// order is what waiting requests are served by.
type order uint8

const (
	byDeadline   order = iota // D
	byLaxity                  // D - left
	byArrival                 // release
	byRatio                   // (D - now) / left
	byHalfLaxity              // D - left / 2
	byMeanLaxity              // D - mean
)

// candidate is a waiting job. Lower classes go first.
type candidate struct {
	key   float64
	class class
	job   int32
}

type class int8

const (
	normal class = iota
	deferredJob
	savable // by variants only
	lostJob
)

// claim is what a job takes part in admission with.
type claim struct {
	due   float64 // time to the deadline
	work  float64
	ratio float64 // work by weight
	job   int32
}

// newPricedRule makes a rule for an engine with this configuration.
func newPricedRule(p *priced, c *sched.Config, o ruleOptions) *pricedRule {
	return &pricedRule{priced: p, ruleOptions: o, lost: c.Drop == sched.DropNone || c.Drop == sched.DropSmart}
}

func (p *pricedRule) Select(s *sched.State, out []sched.Choice) []sched.Choice {
	p.free = p.free[:0]
	idle, busy := 0, 0
	for k := range s.Accelerators {
		f := s.Free(k)
		if f < sched.Never {
			f -= s.Now
		}
		if a := &s.Accelerators[k]; a.Job != sched.Idle {
			if busy++; f < sched.Never {
				f += max(0, s.Now-a.Free)
			}
		} else if f < sched.Never {
			idle++
		}
		p.free = append(p.free, f)
	}
	if idle == 0 {
		return out
	}
	p.list(s, p.lost)
	if len(p.ready) == 0 && busy == 0 && !p.lost {
		p.list(s, true)
	}
	for i := range p.ready {
		c := &p.ready[i]
		choice, ok := p.serve(s, c)
		if !ok {
			continue
		}
		choice.Job = c.job
		out = append(out, choice)
		if idle--; idle == 0 {
			break
		}
	}
	return out
}

// list collects the waiting jobs in the order in which they are served.
func (p *pricedRule) list(s *sched.State, lost bool) {
	p.ready = p.ready[:0]
	for i := range s.Jobs {
		j := &s.Jobs[i]
		if !j.Waiting() {
			continue
		}
		m := p.t.Model(j.Model)
		due, wait := p.due(s, j), max(0, j.Ready-s.Now)
		left := wait + m.Left(j.Layer, j.At)
		c := candidate{job: int32(i)}
		if left > due {
			c.class = savable
			if wait+p.least(j.Model, j.Used, j.Layer, j.At) > due {
				if !lost {
					continue
				}
				c.class = lostJob
			}
		}
		switch p.order {
		case byDeadline:
			c.key = float64(due)
		case byLaxity:
			c.key = float64(due - left)
		case byArrival:
			c.key = float64(j.Release - s.Now)
		case byRatio:
			c.key = float64(due) / float64(left)
		case byHalfLaxity:
			c.key = float64(due) - float64(left)/2
		case byMeanLaxity:
			c.key = float64(due) - m.MeanRemaining(j.Layer)
		}
		p.ready = append(p.ready, c)
	}
	if len(p.ready) < 2 {
		if len(p.ready) == 1 && p.admission {
			p.deferred = cleared(p.deferred, len(s.Jobs))
		}
		return
	}
	if p.admission {
		p.admit(s)
		for i := range p.ready {
			if c := &p.ready[i]; c.class == normal && p.deferred[c.job] {
				c.class = deferredJob
			}
		}
	}
	ready := p.ready
	for i := 1; i < len(ready); i++ {
		x, at := ready[i], i
		for ; at > 0 && x.before(&ready[at-1]); at-- {
			ready[at] = ready[at-1]
		}
		ready[at] = x
	}
}

func (c *candidate) before(o *candidate) bool {
	return c.class < o.class || c.class == o.class && c.key < o.key
}

// admit marks jobs as deferred.
func (p *pricedRule) admit(s *sched.State) {
	p.admitted, p.deferred = p.admitted[:0], cleared(p.deferred, len(s.Jobs))
	all, soonest := 0.0, math.Inf(1)
	for i := range s.Jobs {
		j := &s.Jobs[i]
		m := &p.models[j.Model]
		l := j.Layer
		if !j.Waiting() {
			l++
		}
		c := claim{due: float64(p.due(s, j)), work: m.work[l] * p.stretch(j.Model), job: int32(i)}
		c.ratio = c.work / m.weight
		p.admitted = append(p.admitted, c)
		all, soonest = all+c.work, min(soonest, c.due)
	}
	if all*(1+1e-9) < soonest { // whatever the order they are added up in
		return
	}
	admitted := p.admitted
	for i := 1; i < len(admitted); i++ {
		c, at := admitted[i], i
		for ; at > 0 && admitted[at-1].due > c.due; at-- {
			admitted[at] = admitted[at-1]
		}
		admitted[at] = c
	}
	sum, kept := 0.0, admitted[:0] // in place: what is let in so far
	for _, c := range admitted {
		kept = append(kept, c)
		if sum += c.work; sum <= c.due {
			continue
		}
		most, high := 0, kept[0].ratio
		for n := range kept {
			if r := kept[n].ratio; r > high {
				most, high = n, r
			}
		}
		sum -= kept[most].work
		p.deferred[kept[most].job] = true
		kept = append(kept[:most], kept[most+1:]...)
	}
}

// starts is when a job can start on each accelerator that is ready so long from now.
func (p *pricedRule) starts(ready time.Duration) []time.Duration {
	if ready <= 0 {
		return p.free
	}
	p.later = append(p.later[:0], p.free...)
	for k, f := range p.later {
		p.later[k] = max(f, ready)
	}
	return p.later
}

// serve chooses for one job, and books the accelerator. Variants compete where time presses or the original is not early
// enough: where a floor is promised, in time at all, at the price of their accuracy; where none is, only to be in better
// time, and that which ends first is the best.
func (p *pricedRule) serve(s *sched.State, c *candidate) (sched.Choice, bool) {
	j := &s.Jobs[c.job]
	m := p.t.Model(j.Model)
	due, left := p.due(s, j), m.Left(j.Layer, j.At)
	gain := p.gain
	if p.dynamic {
		gain *= min(3, max(0, float64(due-left)/float64(left)))
	}
	handoff, free := m.Handoff(j), p.starts(j.Ready-s.Now)
	rest, places := p.rest(m, j.Layer+1, sched.Idle), p.models[j.Model].places
	at, finish, low, in := -1, sched.Never, math.Inf(1), noTime
	choice := sched.Choice{Reason: sched.Cheapest}
	rate, toll, allowed := 0.0, 0.0, true
	for i, n := int32(0), int32(1); i < n; i++ {
		if i > 0 {
			if toll, allowed = p.toll(j, i, rate); !allowed {
				continue
			}
		}
		latency := m.Latency(j.Layer, i)
		for k, f := range free {
			if f >= sched.Never || latency[k] >= sched.Never {
				continue
			}
			cost := latency[k]
			if handoff != nil {
				cost += handoff[k]
			}
			f += cost
			if places > 1 {
				rest = p.rest(m, j.Layer+1, int32(k))
			}
			x, spare, good := float64(f+rest), due-f-rest, goodTime
			if spare < 0 {
				good = noTime
			} else if spare < cost+rest && spare < time.Duration(p.margin*float64(cost+rest)) {
				good = justTime
			}
			if good != justTime {
				x += gain * p.prices[k] * float64(cost)
			}
			if x += toll; good > in || good == in && x < low {
				at, finish, low, in, choice.Implementation = k, f, x, good, i
			}
		}
		if i > 0 {
			continue
		}
		if in > noTime {
			choice.Reason = sched.CheapestInTime
		}
		spends := p.ledgers[j.Model].spends
		if (in == goodTime || spends && in == justTime) && !p.presses(s.Now, j.Model) {
			break
		}
		if n = m.Implementations(j.Layer); n > 1 && spends {
			rate = p.rate(s.Now, j)
		} else if n > 1 { // a last resort
			gain, low, in = 0, math.Inf(1), min(goodTime, in+1)
		}
	}
	if at < 0 {
		return choice, false
	}
	if choice.Implementation > 0 && in > noTime && choice.Reason == sched.Cheapest {
		choice.Reason = sched.VariantInTime
	}
	choice.Accelerator = int32(at)
	now := s.Idle(at) && p.free[at] == s.Free(at)-s.Now
	if now {
		p.Spend(j, choice.Implementation)
	}
	if now || c.class != lostJob && !(p.admission && p.deferred[c.job]) {
		p.free[at] = finish
	}
	return choice, now
}

// rest is how long the layers from one on are expected to take when its inputs lie at an accelerator.
func (p *pricedRule) rest(m *sched.ModelTable, l, at int32) time.Duration {
	left := m.Left(l, at)
	if p.caution > 0 {
		left = time.Duration((1-p.caution)*float64(left) + p.caution*m.MeanRemaining(l))
	}
	return left
}

// timeliness is how early a request would be.
type timeliness int8

const (
	noTime   timeliness = iota
	justTime            // in time if nothing holds it up
	goodTime            // by the margin
)

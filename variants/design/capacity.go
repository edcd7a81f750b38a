package design

import (
	"cmp"
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/fluid"
	"github.com/terastal/terastal/sched/plan"
	"github.com/terastal/terastal/variants"
	"github.com/terastal/terastal/variants/accuracy"
)

// Designing for capacity looks for variants that save accelerator time, whatever the accelerator. Time counts at its
// price: the shadow price of the accelerator in the fluid bound. What a request of a model costs is the sum over its
// layers of the least priced time of their implementations; what a set of variants is worth is how far it brings that
// down at the accuracy that the model has to keep.

// earns is the least share of what a request costs that a variant has to save, to be one of those in use.
const earns = 0.005

// most is how many variants a model gets, so that all of their combinations can be measured.
const most = 10

// lossOfError is the loss that is expected of an error, in case labels do not show it: of variants that lose as much as
// can be seen, the one with the least error for its time is better.
const lossOfError = 0.01

// errIdle is why a variant is not used that does not earn its place.
var errIdle = errors.New("the others buy as much without it")

// forCapacity reports whether variants of a model are designed for capacity: unless something else is asked for, where
// its requests may lose something.
func (r *run) forCapacity(m *Model) bool {
	return !m.Off && m.Floor > 0 && m.Floor < 1 && !r.All && r.Speedup == 0
}

// buy wants variants of every layer that save priced time on any accelerator.
func (r *run) buy(t *sched.Tables) error {
	if !slices.ContainsFunc(r.Models, r.forCapacity) {
		return nil
	}
	p, err := fluid.PricesOf(t)
	if err != nil {
		return err
	}
	r.tables, r.pricing = t, p
	r.eachOriginal(t, func(m, l, k int, _, _ time.Duration) {
		if x := r.drafts[m]; r.forCapacity(x.Model) {
			x.prices = p.Prices
			x.wanting(l)[k] = wanted{faster: true}
		}
	})
	return nil
}

// priced is the least priced time of an implementation, in seconds, whose times are given by accelerator.
func (x *draft) priced(times []time.Duration) float64 {
	least := math.Inf(1)
	for k, d := range times {
		if d > 0 {
			least = min(least, x.prices[k]*d.Seconds())
		}
	}
	return least
}

// demand is the priced time of a request that uses originals only.
func (x *draft) demand() (sum float64) {
	for l := range x.Network.Layers {
		sum += x.priced(x.originals[l])
	}
	return sum
}

// worth is how long a variant of a layer may take on an accelerator at most to earn its place there.
func (x *draft) worth(l, accelerator int) time.Duration {
	now := x.priced(x.originals[l])
	goal := min(now/variants.Worthwhile, now-earns*x.demand())
	if goal <= 0 || x.prices[accelerator] == 0 {
		return 0
	}
	return time.Duration(goal / x.prices[accelerator] * float64(time.Second))
}

// shorten keeps the fitted candidates of a layer that something is to be said for: no other one loses as little and is as
// fast on all accelerators. Of those that lose next to nothing, only time counts.
func (x *draft) shorten(list []*variants.Candidate, wants []variants.Want) (out []*variants.Candidate) {
	for _, c := range list {
		if c.Refusal == nil && c.Error <= variants.Lossy && slices.ContainsFunc(wants, func(w variants.Want) bool {
			return w.Faster && c.Fits(w)
		}) {
			out = append(out, c)
		}
	}
	slices.SortStableFunc(out, func(a, b *variants.Candidate) int {
		return cmp.Or(cmp.Compare(max(a.Error, variants.Lossless), max(b.Error, variants.Lossless)),
			cmp.Compare(x.priced(a.Latency), x.priced(b.Latency)))
	})
	kept := out[:0]
	for _, c := range out {
		if !slices.ContainsFunc(kept, func(better *variants.Candidate) bool { return x.asFast(better, c) }) {
			kept = append(kept, c)
		}
	}
	return kept
}

// asFast reports whether one candidate is about as fast as another, or faster, on every accelerator that costs anything.
func (x *draft) asFast(a, b *variants.Candidate) bool {
	for k, price := range x.prices {
		if d := b.Latency[k]; price > 0 && d > 0 &&
			(a.Latency[k] == 0 || float64(a.Latency[k]) > variants.Worthwhile*float64(d)) {
			return false
		}
	}
	return true
}

// option is an implementation of a layer: what it costs, in seconds of priced time, and what it loses.
type option struct{ cost, loss float64 }

// spend is the least mean cost of requests that may each take any option of every layer, if on the mean they lose at
// most so much, where losses add up. Each layer's first option is its original.
func spend(layers [][]option, loss float64) (cost float64) {
	type step struct{ saves, loses float64 }
	var steps []step
	for _, options := range layers {
		at := option{cost: math.Inf(1)}
		for _, o := range options {
			if o.loss <= 0 && o.cost < at.cost {
				at = option{cost: o.cost}
			}
		}
		cost += at.cost
		for { // along the lower hull of what is left
			best, rate := at, 0.0
			for _, o := range options {
				if by := (at.cost - o.cost) / (o.loss - at.loss); o.loss > at.loss && by > rate {
					best, rate = o, by
				}
			}
			if rate == 0 {
				break
			}
			steps = append(steps, step{at.cost - best.cost, best.loss - at.loss})
			at = best
		}
	}
	slices.SortStableFunc(steps, func(a, b step) int { return cmp.Compare(b.saves*a.loses, a.saves*b.loses) })
	for _, s := range steps {
		share := min(1, loss/s.loses)
		cost, loss = cost-share*s.saves, loss-share*s.loses
		if loss <= 0 {
			break
		}
	}
	return cost
}

// mixed is the least mean cost of requests that take combinations of these costs and losses, if on the mean they lose
// at most so much.
func mixed(combinations []option, loss float64) float64 { return spend([][]option{combinations}, loss) }

// valued is the mean of what requests cost where they may lose all that the floor allows, and a tenth of it: variants
// that lose nothing are worth more than the floor alone tells.
func (x *draft) valued(cost func(loss float64) float64) float64 {
	return (cost(1-x.Floor) + cost((1-x.Floor)/10)) / 2
}

// compareAlone measures what the candidates lose that capacity may be bought with, each alone.
func (r *run) compareAlone(ctx context.Context, x *draft, progress func(float64)) error {
	list := x.shortlist()
	if len(list) == 0 {
		return nil
	}
	n, err := x.with(list)
	if err != nil {
		return err
	}
	proof, _, err := r.prove(ctx, x.Model, n, accuracy.Options{Alone: true, Progress: progress})
	if err != nil {
		return err
	}
	for i, c := range list {
		c.Alone, _ = proof.Of(1 << i)
	}
	return nil
}

// shortlist is what capacity may be bought with, in order of layers.
func (x *draft) shortlist() (list []*variants.Candidate) {
	for l := range x.Network.Layers {
		list = append(list, x.short[l]...)
	}
	return list[:min(len(list), sched.MaxBoundedVariants)]
}

// choose chooses the variants that are designed for capacity. Prices move with what is chosen, so that is done again.
func (r *run) choose() error {
	if !slices.ContainsFunc(r.drafts, func(x *draft) bool { return x.prices != nil && x.err == nil }) {
		return nil
	}
	for range 3 {
		sys := *r.tables.System()
		sys.Models, sys.Pricing = slices.Clone(sys.Models), nil
		for i, x := range r.drafts {
			if x.prices != nil && x.err == nil {
				x.choose(r.Limits)
				sys.Models[i].Layers = x.fastest(sys.Models[i].Layers)
			}
		}
		t, err := sched.Compile(sys)
		if err != nil {
			return err
		}
		p, err := fluid.Price(t, r.pricing.Rates)
		if err != nil {
			return err
		}
		for _, x := range r.drafts {
			if x.prices != nil {
				x.prices = p.Prices
			}
		}
	}
	return nil
}

// measureChosen measures the variants that are chosen for capacity once more, in the company of originals only, as they
// run. Among other candidates of their layer they are faster: those have warmed up what they need.
func (r *run) measureChosen(ctx context.Context, b Bench) error {
	var list []*draft
	var networks []*runtime.Network
	for _, x := range r.drafts {
		if len(x.bought) == 0 {
			continue
		}
		n, err := x.with(x.chosen)
		if err != nil {
			return err
		}
		list, networks = append(list, x), append(networks, n)
	}
	if len(list) == 0 {
		return nil
	}
	p, err := b.Measure(ctx, networks, nil)
	if err != nil {
		return err
	}
	for i, x := range list {
		x.take(p, i)
		number := map[int]int{}
		for _, c := range x.chosen {
			number[c.Layer]++
			c.Original, c.Latency = x.originals[c.Layer], p.Medians(i, c.Layer, number[c.Layer])
			for _, w := range x.wants(c.Layer) {
				if c.Fits(w) {
					c.Wanted = append(c.Wanted, r.Accelerators[w.Accelerator].Name)
				}
			}
			if len(c.Wanted) == 0 {
				c.Refusal = variants.ErrSlow
			}
		}
		slow := func(c *variants.Candidate) bool { return c.Refusal != nil }
		x.chosen, x.bought = slices.DeleteFunc(x.chosen, slow), slices.DeleteFunc(x.bought, slow)
	}
	return nil
}

// fastest are layers whose implementation takes on every accelerator what the fastest of those chosen does.
func (x *draft) fastest(layers []sched.Layer) []sched.Layer {
	layers = slices.Clone(layers)
	for l := range layers {
		one := layers[l].Implementations[0]
		one.Latency = slices.Clone(one.Latency)
		for _, c := range x.chosen {
			for k, d := range c.Latency {
				if c.Layer == l && d > 0 && one.Latency[k] != sched.Unavailable {
					one.Latency[k] = min(one.Latency[k], d)
				}
			}
		}
		layers[l].Implementations = []sched.Implementation{one}
	}
	return layers
}

// choose takes the variants that are worth most, one after the other, as long as each earns its place. Losses are
// expected to add up.
func (x *draft) choose(o Limits) {
	x.chosen, x.bought = nil, nil
	layers := make([][]option, len(x.Network.Layers))
	for l := range layers {
		layers[l] = []option{{cost: x.priced(x.originals[l])}}
	}
	list, demand := x.shortlist(), x.demand()
	worth := func() float64 { return x.valued(func(loss float64) float64 { return spend(layers, loss) }) }
	for len(x.chosen) < most {
		best, least := -1, worth()-earns*demand
		for i, c := range list {
			if slices.Contains(x.chosen, c) || c.Alone < max(x.Theta, 1-o.MaxLoss) {
				continue
			}
			before := layers[c.Layer]
			layers[c.Layer] = append(slices.Clip(before), x.option(c))
			if cost := worth(); cost <= least {
				best, least = i, cost
			}
			layers[c.Layer] = before
		}
		if best < 0 {
			break
		}
		c := list[best]
		layers[c.Layer] = append(layers[c.Layer], x.option(c))
		x.chosen, _ = insert(x.chosen, c)
	}
	x.bought = slices.Clone(x.chosen)
}

// option is what a candidate costs and is expected to lose.
func (x *draft) option(c *variants.Candidate) option {
	return option{x.priced(c.Latency), max(0, 1-c.Alone) + lossOfError*c.Error}
}

// earning leaves out the proven variants that do not earn their place, now that the accuracy of all combinations is
// known: one after the other the one without which requests cost next to nothing more. Others than those chosen for
// capacity stay.
func (x *draft) earning(list []*variants.Candidate, p *plan.Proof, drop map[int]bool) {
	if !p.Exhaustive || len(x.bought) == 0 {
		return
	}
	var gone sched.VariantSet
	for v := range drop {
		gone |= 1 << v
	}
	costs := x.costs(list, p.Sets)
	without := func(gone sched.VariantSet, loss float64) float64 {
		var options []option
		for i, s := range p.Sets {
			if s&gone == 0 && (s == 0 || p.Accuracy[i] >= x.Theta) {
				options = append(options, option{costs[i], max(0, 1-p.Accuracy[i])})
			}
		}
		return mixed(options, loss)
	}
	valued := func(gone sched.VariantSet) float64 {
		return x.valued(func(loss float64) float64 { return without(gone, loss) })
	}
	for {
		now, best, least := valued(gone), -1, math.Inf(1)
		for v, c := range list {
			if gone>>v&1 == 0 && slices.Contains(x.bought, c) {
				if more := valued(gone|1<<v) - now; more < least {
					best, least = v, more
				}
			}
		}
		if best < 0 || least >= earns*x.demand() {
			break
		}
		gone |= 1 << best
		list[best].Refusal, drop[best] = errIdle, true
	}
	x.note("designed for capacity: with these variants a request costs %.0f %% of the originals' accelerator time "+
		"at an accuracy of %v, and %.0f %% where nothing may be lost",
		100*without(gone, 1-x.Floor)/x.demand(), x.Floor, 100*without(gone, 0)/x.demand())
}

// costs are what a request costs that uses combinations of variants.
func (x *draft) costs(list []*variants.Candidate, sets []sched.VariantSet) []float64 {
	costs := slices.Repeat([]float64{x.demand()}, len(sets))
	for v, c := range list {
		saves := x.priced(x.originals[c.Layer]) - x.priced(c.Latency)
		for i, s := range sets {
			if s>>v&1 != 0 {
				costs[i] -= saves
			}
		}
	}
	return costs
}

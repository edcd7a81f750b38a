package fluid

import (
	"math"
	"slices"

	"github.com/terastal/terastal/sched"
)

// CapacityPaying is the capacity of originals where a change of accelerator is paid for: a layer whose inputs lie at
// another accelerator occupies its own for the handoff, too, as it does in runs. It is at most that of [CapacityOf], which
// every load is a share of, and tells how much of that is left when requests really move. Columns are paths over the
// accelerators, so that prices alone prove the bound only with the handoffs on each path.
func CapacityPaying(t *sched.Tables, rates []float64) (Capacity, error) {
	if _, err := newProgram(t, rates, nil); err != nil { // what is wrong with the rates
		return Capacity{}, err
	}
	p := &paying{t: t, rates: EffectiveRates(t, rates), accs: len(t.System().Accelerators), unit: 1}
	dual, near := make([]float64, p.accs), make([]float64, p.accs)
	for k := range dual {
		dual[k] = 1 / float64(p.accs)
	}
	start, _ := p.cheapest(dual)
	p.unit = slices.Max(start)
	for k := range start {
		start[k] /= p.unit
	}
	mix, bound, best, scale := newMixture(start, p.accs), math.Inf(1), slices.Clone(dual), 0.0
	try := func(prices []float64) []float64 {
		column, cost := p.cheapest(prices)
		if cost > 0 && 1/cost < bound {
			bound = 1 / cost
			copy(best, prices)
		}
		return column
	}
	try(dual)
	for range capacityRounds {
		_, busiest := mix.sums()
		scale = max(scale, 1/busiest)
		if bound <= scale*(1+capacityGap) {
			break
		}
		if k := mix.prices(dual); k >= 0 {
			mix.enter(mixed{slack: k})
			continue
		}
		for k, x := range dual {
			near[k] = capacityStay*best[k] + (1-capacityStay)*x
		}
		column := try(near)
		if !mix.improvedBy(column, dual) {
			column = try(dual)
		}
		mix.enter(mixed{column: column})
	}
	return Capacity{Scale: scale / p.unit, Bound: max(bound, scale) / p.unit, Prices: best}, nil
}

// paying finds cheapest paths with their handoffs.
type paying struct {
	t     *sched.Tables
	rates []float64
	accs  int
	unit  float64 // of work
}

// cheapest is the work per second, by accelerator, of the paths that cost least at the prices, and its cost.
func (p *paying) cheapest(prices []float64) (column []float64, cost float64) {
	column = make([]float64, p.accs)
	for i, rate := range p.rates {
		m := p.t.Model(int32(i))
		least, via := p.paths(m, prices)
		at := 0
		for k, c := range least {
			if c < least[at] {
				at = k
			}
		}
		cost += least[at] * rate / p.unit
		for l := int32(m.Layers()) - 1; l >= 0; l-- {
			from := via[l][at]
			column[at] += p.seconds(m, l, from, at) * rate / p.unit
			at = from
		}
	}
	return column, cost
}

// paths is the least cost of a request that ends at an accelerator, and by layer and accelerator where the layer before
// runs on the way there; -1 for the first.
func (p *paying) paths(m *sched.ModelTable, prices []float64) (least []float64, via [][]int) {
	for l := range int32(m.Layers()) {
		here, from := make([]float64, p.accs), make([]int, p.accs)
		for k := range p.accs {
			here[k], from[k] = math.Inf(1), -1
			if l == 0 {
				here[k] = priced(prices[k], p.seconds(m, l, -1, k))
				continue
			}
			for o := range p.accs {
				if c := least[o] + priced(prices[k], p.seconds(m, l, o, k)); c < here[k] || from[k] < 0 {
					here[k], from[k] = c, o
				}
			}
		}
		least, via = here, append(via, from)
	}
	return least, via
}

// priced is what a time costs at a price: what cannot run costs more than anything at any price.
func priced(price, seconds float64) float64 {
	if math.IsInf(seconds, 1) {
		return seconds
	}
	return price * seconds
}

// seconds is how long a layer occupies accelerator k when its inputs lie at another, -1 for those of a request.
func (p *paying) seconds(m *sched.ModelTable, layer int32, from, k int) float64 {
	c := m.Cost(&sched.Job{Layer: layer, At: int32(from)}, 0, k)
	if c >= sched.Never {
		return math.Inf(1)
	}
	return c.Seconds()
}

package fluid

import (
	"math"
	"slices"

	"github.com/terastal/terastal/sched"
)

// CapacityPaying is the capacity of originals where a change of accelerator is paid for: a layer whose inputs lie at
// another accelerator occupies its own for the handoff, too, as it does in runs. It is at most that of [CapacityOf], of
// which every load is a share, and tells what is left of that when requests really move. Requests meet their deadlines,
// but for models that can meet theirs nowhere. Where deadlines bind, Scale is what the search found, and Bound may lie
// above it.
func CapacityPaying(t *sched.Tables, rates []float64) (Capacity, error) {
	if _, err := newProgram(t, rates, nil, nil); err != nil { // what is wrong with the rates
		return Capacity{}, err
	}
	p := newPaying(t, EffectiveRates(t, rates))
	dual, near := make([]float64, p.accs), make([]float64, p.accs)
	for k := range dual {
		dual[k] = 1 / float64(p.accs)
	}
	start, _ := p.cheapest(dual)
	p.unit = slices.Max(start.rows)
	start, _ = p.cheapest(dual)
	mix, best, scale := newMixture(&start, p.accs), proven{bound: math.Inf(1), dual: slices.Clone(dual)}, 0.0
	for range capacityRounds {
		_, busiest, _ := mix.sums()
		scale = max(scale, 1/busiest)
		if best.bound <= scale*(1+capacityGap) {
			break
		}
		if k := mix.prices(dual); k >= 0 {
			mix.enter(mixed{slack: k})
			continue
		}
		for k, x := range dual {
			near[k] = capacityStay*best.dual[k] + (1-capacityStay)*x
		}
		column := best.pay(p, near)
		if !mix.improvedBy(column.rows, dual) {
			if column = best.pay(p, dual); !mix.improvedBy(column.rows, dual) {
				break
			}
		}
		mix.enter(mixed{column: &column})
	}
	return Capacity{Scale: scale / p.unit, Bound: max(best.bound, scale) / p.unit, Prices: best.dual}, nil
}

// pay is try for paths with their handoffs.
func (b *proven) pay(p *paying, dual []float64) column {
	c, cost := p.cheapest(dual)
	if bound := 1 / cost; cost > 0 && bound < b.bound {
		b.bound = bound
		copy(b.dual, dual)
	}
	return c
}

// paying finds cheapest paths with their handoffs.
type paying struct {
	accs   int
	rates  []float64
	models [][][]float64 // seconds by model, layer, and the accelerators before and on; the last before is none
	due    []float64     // seconds; infinite where no path meets the deadline
	unit   float64       // of work
}

func newPaying(t *sched.Tables, rates []float64) *paying {
	p := &paying{accs: len(t.System().Accelerators), rates: rates, unit: 1}
	for i := range rates {
		m := t.Model(int32(i))
		var layers [][]float64
		for l := range int32(m.Layers()) {
			on := make([]float64, 0, (p.accs+1)*p.accs)
			for from := range p.accs + 1 {
				at := int32(from)
				if from == p.accs {
					at = sched.Idle
				}
				for k := range p.accs {
					c := m.Cost(&sched.Job{Layer: l, At: at}, 0, k)
					seconds := c.Seconds()
					if c >= sched.Never {
						seconds = math.Inf(1)
					}
					on = append(on, seconds)
				}
			}
			layers = append(layers, on)
		}
		p.models = append(p.models, layers)
		p.due = append(p.due, math.Inf(1))
		due := t.System().Models[i].Deadline.Seconds() + 0.5e-9 // times are whole nanoseconds, but for rounding
		if _, time, _ := p.path(i, make([]float64, p.accs), 1); time <= due {
			p.due[i] = due
		}
	}
	return p
}

// cheapest is the work per second, by accelerator, of paths that cost little at the prices and meet their deadlines, and a
// cost that none is below.
func (p *paying) cheapest(prices []float64) (c column, cost float64) {
	c = column{rows: make([]float64, p.accs)}
	for i, rate := range p.rates {
		on, low := p.within(i, prices)
		for k, x := range on {
			c.rows[k] += x * rate / p.unit
		}
		cost += low * rate / p.unit
	}
	return c, cost
}

// tolls is how often the toll on time is halved.
const tolls = 20

// within is the cheapest path of a model that a toll on its time makes short enough: the seconds that it occupies the
// accelerators, and a cost that no path is below that meets the deadline.
func (p *paying) within(i int, prices []float64) (on []float64, low float64) {
	on, time, low := p.path(i, prices, 0)
	if time <= p.due[i] {
		return on, low
	}
	slow, quick := 0.0, 0.0
	for toll := 1.0; ; toll *= 4 {
		path, time, cost := p.path(i, prices, toll)
		low = max(low, cost-toll*p.due[i])
		if time <= p.due[i] {
			on, quick = path, toll
			break
		}
		if slow = toll; toll > 1e12 { // of paths that take equally long
			on, _, _ = p.path(i, make([]float64, p.accs), 1)
			return on, low
		}
	}
	for range tolls {
		toll := (slow + quick) / 2
		path, time, cost := p.path(i, prices, toll)
		low = max(low, cost-toll*p.due[i])
		if time <= p.due[i] {
			on, quick = path, toll
		} else {
			slow = toll
		}
	}
	return on, low
}

// path is the path of a model that costs least at prices with a toll on all of its time: the seconds that it occupies
// each accelerator, their sum, and the cost, toll included.
func (p *paying) path(i int, prices []float64, toll float64) (on []float64, time, cost float64) {
	var least []float64
	var via [][]int
	for l, seconds := range p.models[i] {
		here, from := make([]float64, p.accs), make([]int, p.accs)
		for k := range p.accs {
			here[k], from[k] = math.Inf(1), p.accs
			price := prices[k] + toll
			if l == 0 {
				here[k] = priced(price, seconds[p.accs*p.accs+k])
				continue
			}
			for o, before := range least {
				if c := before + priced(price, seconds[o*p.accs+k]); c < here[k] || from[k] == p.accs {
					here[k], from[k] = c, o
				}
			}
		}
		least, via = here, append(via, from)
	}
	cost = slices.Min(least)
	at := slices.Index(least, cost)
	on = make([]float64, p.accs)
	for l := len(via) - 1; l >= 0; l-- {
		from := via[l][at]
		seconds := p.models[i][l][from*p.accs+at]
		on[at] += seconds
		time += seconds
		at = from
	}
	return on, time, cost
}

// priced is what a time costs at a price: what cannot run costs more than anything at any price.
func priced(price, seconds float64) float64 {
	if math.IsInf(seconds, 1) {
		return seconds
	}
	return price * seconds
}

package sched

import (
	"fmt"
	"math"
)

// Capacity is how much traffic a system can sustain when every layer may be
// split over the accelerators in any proportion and nothing ever waits: the
// fluid bound. Real schedules stay below it.
type Capacity struct {
	// Scale is the largest factor by which all rates can be multiplied. It is
	// certified from both sides: a feasible placement reaches Scale, none
	// exceeds Bound.
	Scale float64 `json:"scale"`
	Bound float64 `json:"bound"`
	// Prices are the accelerators' shadow prices; they sum to 1. The bound is
	// 1 / sum over models of rate times sum over layers of the cheapest
	// price-weighted latency.
	Prices []float64 `json:"prices"`
}

// capacityGap is the relative gap between the two sides at which the search
// stops; capacityRounds bounds it.
const (
	capacityGap    = 1e-3
	capacityRounds = 200_000
)

// FluidCapacity computes the capacity of the system for the given rates
// (releases per second of each model) with original implementations and free
// handoffs. It is a linear program; its dual has one price per accelerator and
// is solved by multiplicative weights, which also yields the placement.
func (t *Tables) FluidCapacity(rates []float64) (Capacity, error) {
	if len(rates) != len(t.models) {
		return Capacity{}, fmt.Errorf("%d rates for %d models", len(rates), len(t.models))
	}
	type demand struct{ lat []float64 } // seconds of work per second, by accelerator
	var work []demand
	for mi := range t.models {
		if !(rates[mi] > 0) || math.IsInf(rates[mi], 0) {
			return Capacity{}, fmt.Errorf("rate %v of model %q, must be positive", rates[mi], t.system.Models[mi].Name)
		}
		m := &t.models[mi]
		for l := range m.layers {
			d := demand{make([]float64, t.accs)}
			for k := range d.lat {
				if c := m.latency[int(m.row[l])*t.accs+k]; c < never {
					d.lat[k] = rates[mi] * c.Seconds()
				} else {
					d.lat[k] = math.Inf(1)
				}
			}
			work = append(work, d)
		}
	}

	best := Capacity{Bound: math.Inf(1)}
	price := make([]float64, t.accs)
	weight := make([]float64, t.accs) // logarithms
	load := make([]float64, t.accs)   // summed over rounds
	round := make([]float64, t.accs)
	for n := 1; n <= capacityRounds; n++ {
		normalise(price, weight)
		clear(round)
		cheapest := 0.0
		for _, d := range work {
			at, low := 0, math.Inf(1)
			for k, c := range d.lat {
				if x := price[k] * c; !math.IsInf(c, 1) && x < low {
					at, low = k, x
				}
			}
			round[at] += d.lat[at]
			cheapest += low
		}
		if bound := 1 / cheapest; bound < best.Bound {
			best.Bound = bound
			best.Prices = append(best.Prices[:0], price...)
		}
		busiest, top := 0.0, 0.0
		for k, x := range round {
			load[k] += x
			busiest = max(busiest, load[k]/float64(n))
			top = max(top, x)
		}
		best.Scale = max(best.Scale, 1/busiest)
		if best.Bound <= best.Scale*(1+capacityGap) {
			break
		}
		step := 1 / math.Sqrt(float64(n))
		for k, x := range round {
			weight[k] += step * x / top
		}
	}
	return best, nil
}

// normalise sets price to the softmax of the logarithmic weights.
func normalise(price, weight []float64) {
	top := weight[0]
	for _, w := range weight {
		top = max(top, w)
	}
	sum := 0.0
	for k, w := range weight {
		price[k] = math.Exp(w - top)
		sum += price[k]
	}
	for k := range price {
		price[k] /= sum
	}
}

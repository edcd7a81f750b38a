// Package fluid bounds what any schedule can do by linear programs in which work is a fluid: every layer may be split
// over the accelerators in any proportion, and nothing ever waits, as long as every request meets its deadline. It
// computes capacities, with original implementations and with variants at a floor on the accuracy, the models that meet
// their deadline nowhere, the shadow prices that policies use, and the least share of requests that has to miss.
package fluid

import (
	"math"
	"slices"

	"github.com/terastal/terastal/sched"
)

// Capacity is how much traffic a system can sustain when every layer may be split over the accelerators in any
// proportion, nothing ever waits, and every request meets its deadline: the fluid bound. No schedule that misses nothing
// is above it, by the times in the tables.
type Capacity struct {
	// Scale is the largest factor by which all rates can be multiplied. It is certified from both sides: a feasible
	// mixture reaches Scale, none exceeds Bound.
	Scale float64 `json:"scale"`
	Bound float64 `json:"bound"`
	// Prices are the accelerators' shadow prices; they sum to 1. With originals, the bound is 1 / sum over models of rate
	// times the price-weighted latencies of the cheapest path that meets the deadline.
	Prices []float64 `json:"prices"`
	// Accuracy is, by model, the shadow price of accuracy, in seconds of priced accelerator time for all of a request's:
	// a loss of x is worth x times as much. It is 0 where the floor does not bind, and nil where no floor can.
	Accuracy []float64 `json:"accuracy_prices,omitempty"`
}

// capacityGap is the relative gap between the two sides at which the search stops; capacityRounds bounds it (8
// accelerators take about 50, 64 about 4000). capacityStay is how close to the best prices known a search stays;
// without that it takes several times as many rounds.
const (
	capacityGap    = 1e-6
	capacityRounds = 20_000
	capacityStay   = 0.8
)

// CapacityOf computes the capacity of a system for the given rates (releases per second of each model; of triggered
// ones, what their parents cause) with original implementations. It is a linear program over mixtures of paths, which
// say where every layer of a request runs, solved by column generation: the shadow prices of the best mixture so far say
// which paths would improve it most.
//
// Only paths count that take no longer than the model's deadline: their latencies and their handoffs, which take time but
// occupy nothing. Where the best mixture of all paths has none that is too slow, no deadline binds. A model of whose
// originals no path meets its deadline counts as if it had none; see [Hopeless].
func CapacityOf(t *sched.Tables, rates []float64) (Capacity, error) {
	return CapacityAt(t, rates, nil)
}

// CapacityAt is CapacityOf with variants: the mixtures are of combinations of implementations, too, such that the mean
// normalised accuracy of each model is at least its floor and every request's combination is valid. A combination that is
// better than the original earns no credit. One of unknown accuracy is used at floor 0 only, which asks for nothing but
// valid ones; floor 1 is originals only. Without floors all are 1. Where there are too many paths to search, Bound holds,
// but Scale may be somewhat below it.
func CapacityAt(t *sched.Tables, rates, floors []float64) (Capacity, error) {
	c, late, err := capacity(t, rates, floors, false, false)
	if err != nil || !late {
		return c, err
	}
	d, _, err := capacity(t, rates, floors, true, false)
	if err != nil || d.Scale*(1+capacityGap) >= c.Scale {
		return c, err
	}
	if d.Bound > c.Bound { // searches took too long
		d.Bound, d.Prices, d.Accuracy = c.Bound, c.Prices, c.Accuracy
	}
	return d, nil
}

// CapacityPaying is CapacityOf where a handoff occupies the accelerator that it goes to for as long as it takes, as it
// does in runs.
func CapacityPaying(t *sched.Tables, rates []float64) (Capacity, error) {
	c, _, err := capacity(t, rates, nil, true, true)
	return c, err
}

// capacity is that of paths within their deadlines, or of all, where handoffs are paid for or not. It reports whether
// requests miss their deadline at it.
func capacity(t *sched.Tables, rates, floors []float64, within, paying bool) (c Capacity, late bool, err error) {
	p, err := newProgram(t, rates, floors, nil)
	if err != nil {
		return c, false, err
	}
	p.within, p.paying = within, paying
	p.limit(t)
	c, late = p.solve()
	return c, late, nil
}

// Same are floors, or whatever else, that are the same for every model of a system.
func Same(t *sched.Tables, floor float64) []float64 {
	return slices.Repeat([]float64{floor}, len(t.System().Models))
}

// solve changes the unit of work. It reports whether requests miss their deadline in the mixture that reaches Scale.
func (p *program) solve() (c Capacity, late bool) {
	dual, near := make([]float64, p.accs+p.rows), make([]float64, p.accs+p.rows)
	for k := range p.accs {
		dual[k] = 1 / float64(p.accs)
	}
	// In units of the first placement's busiest load, so that what counts as zero does not hang on the rates.
	unit := slices.Max(p.originals(dual).rows[:p.accs])
	p.divide(unit)
	start := p.originals(dual)
	mix := newMixture(&start, p.accs)
	best := proven{bound: math.Inf(1), dual: slices.Clone(dual)}
	best.try(p, dual)
	scale := 0.0
	for range capacityRounds {
		if load, misses := p.repaired(mix, &start); 1/load > scale {
			scale, late = 1/load, misses
		}
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
		column := best.try(p, near)
		if !mix.improvedBy(column.rows, dual) {
			column = best.try(p, dual)
			if p.inexact && !mix.improvedBy(column.rows, dual) {
				if !p.within || p.labels {
					break // as good as it gets with what the searches find
				}
				p.labels, p.inexact = true, false
				continue
			}
		}
		mix.enter(mixed{column: &column})
	}
	return Capacity{Scale: scale / unit, Bound: max(best.bound, scale) / unit, Prices: best.dual[:p.accs:p.accs],
		Accuracy: p.accuracyPrices(best.dual, unit)}, late
}

// proven is the least bound that prices have proved, and these.
type proven struct {
	bound float64
	dual  []float64
}

// try notes the bound that the prices prove and returns the cheapest column at them.
func (b *proven) try(p *program, dual []float64) column {
	column, cost := p.cheapest(dual)
	if bound := 1 / cost; cost >= 0 && bound < b.bound {
		b.bound = bound
		copy(b.dual, dual)
	}
	return column
}

// repaired is the load of the busiest accelerator of a mixture in which originals make up for what rounding took from
// the accuracy, and whether some of its requests miss their deadline.
func (p *program) repaired(m *mixture, originals *column) (load float64, late bool) {
	sums, busiest, late := m.sums()
	share := 0.0
	for r, x := range sums[p.accs:] {
		if x > 0 {
			share = max(share, x/(x-originals.rows[p.accs+r]))
		}
	}
	if share == 0 {
		return busiest, late
	}
	return busiest + share*slices.Max(originals.rows[:p.accs]), late || originals.late
}

// accuracyPrices are the prices of accuracy by model, from those of the rows; nil without floors.
func (p *program) accuracyPrices(dual []float64, unit float64) []float64 {
	var out []float64
	for i := range p.models {
		m := &p.models[i]
		if m.options != nil && m.floor > 0 && out == nil {
			out = make([]float64, len(p.models))
		}
		if m.row >= 0 {
			out[i] = dual[p.accs+m.row] / m.most * unit / m.rate
		}
	}
	return out
}

// EffectiveRates are the releases per second of every model when those without
// a trigger are released at the given rates and every request completes.
func EffectiveRates(t *sched.Tables, rates []float64) []float64 {
	out, models := slices.Clone(rates), t.System().Models
	index := func(name string) int {
		return slices.IndexFunc(models, func(m sched.Model) bool { return m.Name == name })
	}
	for i := range models {
		if models[i].Trigger == nil {
			continue
		}
		rate, m := 1.0, i
		for tr := models[m].Trigger; tr != nil; tr = models[m].Trigger {
			rate *= tr.Probability
			m = index(tr.Parent)
		}
		out[i] = rate * rates[m]
	}
	return out
}

// Package fluid bounds what any schedule can do by linear programs in which work is a fluid: every layer may be split
// over the accelerators in any proportion, and nothing ever waits. It computes capacities, the shadow prices of
// accelerators that policies use, and the least share of requests that has to miss.
package fluid

import (
	"fmt"
	"math"
	"slices"

	"github.com/terastal/terastal/sched"
)

// Capacity is how much traffic a system can sustain when every layer may be split over the accelerators in any
// proportion and nothing ever waits: the fluid bound. Real schedules stay below it.
type Capacity struct {
	// Scale is the largest factor by which all rates can be multiplied. It is certified from both sides: a feasible
	// placement reaches Scale, none exceeds Bound.
	Scale float64 `json:"scale"`
	Bound float64 `json:"bound"`
	// Prices are the accelerators' shadow prices; they sum to 1. The bound is 1 / sum over models of rate times sum over
	// layers of the cheapest price-weighted latency.
	Prices []float64 `json:"prices"`
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
// ones, what their parents cause) with original implementations and free handoffs. It is a linear program over mixtures
// of placements of all layers, solved by column generation: the shadow prices of the best mixture so far say which
// placement would improve it most.
func CapacityOf(t *sched.Tables, rates []float64) (Capacity, error) {
	work, err := workOf(t, rates)
	if err != nil {
		return Capacity{}, err
	}
	return solve(work, len(t.System().Accelerators)), nil
}

// solve changes the unit of work.
func solve(work [][]float64, accs int) Capacity {
	price, near := make([]float64, accs), make([]float64, accs)
	for k := range price {
		price[k] = 1 / float64(accs)
	}
	// In units of the first placement's busiest load, so that what counts as zero does not hang on the rates.
	load, _ := cheapestPlacement(work, price)
	unit := slices.Max(load)
	for _, on := range work {
		for k := range on {
			on[k] /= unit
		}
	}
	load, cost := cheapestPlacement(work, price)
	best := Capacity{Bound: 1 / cost, Prices: slices.Clone(price)}
	mix := newMixture(load)
	for range capacityRounds {
		best.Scale = max(best.Scale, 1/mix.busiest())
		if best.Bound <= best.Scale*(1+capacityGap) {
			break
		}
		if k := mix.prices(price); k >= 0 {
			mix.enter(mixed{slack: k})
			continue
		}
		for k, p := range price {
			near[k] = capacityStay*best.Prices[k] + (1-capacityStay)*p
		}
		load := best.try(work, near)
		if !mix.improvedBy(load, price) {
			load = best.try(work, price)
		}
		mix.enter(mixed{load: load})
	}
	best.Bound = max(best.Bound, best.Scale) / unit
	best.Scale /= unit
	return best
}

// try notes the bound that the prices prove and returns their placement.
func (c *Capacity) try(work [][]float64, price []float64) []float64 {
	load, cost := cheapestPlacement(work, price)
	if bound := 1 / cost; bound < c.Bound {
		c.Bound = bound
		copy(c.Prices, price)
	}
	return load
}

// workOf is the seconds of work per second that each layer of each model puts on
// each accelerator, if it runs there alone; infinite where it cannot.
func workOf(t *sched.Tables, rates []float64) ([][]float64, error) {
	sys := t.System()
	if len(rates) != len(sys.Models) {
		return nil, fmt.Errorf("%d rates for %d models", len(rates), len(sys.Models))
	}
	rates = EffectiveRates(t, rates)
	var work [][]float64
	for i, rate := range rates {
		if !(rate > 0) || math.IsInf(rate, 0) {
			return nil, fmt.Errorf("rate %v of model %q, must be positive", rate, sys.Models[i].Name)
		}
		m := t.Model(int32(i))
		for l := range int32(m.Layers()) {
			on := make([]float64, len(sys.Accelerators))
			for k, c := range m.Latency(l, 0) {
				on[k] = math.Inf(1)
				if c < sched.Never {
					on[k] = rate * c.Seconds()
				}
			}
			work = append(work, on)
		}
	}
	return work, nil
}

// cheapestPlacement puts every layer where its price-weighted work is least, of
// equals where it is quickest, and returns the accelerators' loads and the cost.
func cheapestPlacement(work [][]float64, price []float64) (load []float64, cost float64) {
	load = make([]float64, len(price))
	for _, on := range work {
		at, low := -1, 0.0
		for k, c := range on {
			if math.IsInf(c, 1) {
				continue
			}
			if x := price[k] * c; at < 0 || x < low || (x == low && c < on[at]) {
				at, low = k, x
			}
		}
		load[at] += on[at]
		cost += low
	}
	return load, cost
}

// mixture is the best mixture of the placements entered so far: shares s >= 0 that sum to 1 and minimise z, with
//
//	sum over placements of s * load[k] + slack[k] = z for every accelerator k.
//
// It is the revised simplex method: inverse is that of the basis, whose row i
// belongs to basis[i]; the last row is that of the shares' sum.
type mixture struct {
	inverse [][]float64
	basis   []mixed
	z       int // the row in which z is basic; it never leaves
}

// mixed is a variable: the share of a placement with this load, or, without one, the slack of an accelerator.
type mixed struct {
	load  []float64
	slack int
}

// newMixture starts with one placement.
func newMixture(load []float64) *mixture {
	n := len(load)
	m := &mixture{inverse: make([][]float64, n+1), basis: make([]mixed, n+1)}
	for k, x := range load {
		if x > load[m.z] {
			m.z = k
		}
	}
	for k := range n {
		m.inverse[k] = make([]float64, n+1)
		m.inverse[k][k]++
		m.inverse[k][m.z]--
		m.inverse[k][n] = load[m.z] - load[k]
		m.basis[k].slack = k
	}
	m.inverse[m.z][m.z], m.inverse[m.z][n] = -1, load[m.z]
	m.inverse[n] = make([]float64, n+1)
	m.inverse[n][n] = 1
	m.basis[n].load = load
	return m
}

// busiest is the load of the busiest accelerator, added up from the shares.
func (m *mixture) busiest() float64 {
	n := len(m.basis) - 1
	loads, shares := make([]float64, n), 0.0
	for i, v := range m.basis {
		s := max(0, m.inverse[i][n])
		if i == m.z || v.load == nil {
			continue
		}
		shares += s
		for k, x := range v.load {
			loads[k] += s * x
		}
	}
	return slices.Max(loads) / shares
}

// prices sets price to the shadow prices, which sum to 1, and returns -1. If an accelerator's price is negative, it
// returns that one instead: its slack wants to grow.
func (m *mixture) prices(price []float64) int {
	const zero = 1e-12
	lowest, sum := 0, 0.0
	for k := range price {
		price[k] = -m.inverse[m.z][k]
		if price[k] < price[lowest] {
			lowest = k
		}
	}
	if price[lowest] < -zero {
		return lowest
	}
	for k, p := range price {
		price[k] = max(0, p)
		sum += price[k]
	}
	for k := range price {
		price[k] /= sum
	}
	return -1
}

// improvedBy reports whether a placement costs less at the shadow prices than the mixture.
func (m *mixture) improvedBy(load, price []float64) bool {
	cost := 0.0
	for k, x := range load {
		cost += price[k] * x
	}
	return cost < m.inverse[m.z][len(load)]*(1-1e-9)
}

// enter brings a variable into the basis in place of the one that reaches zero first.
func (m *mixture) enter(v mixed) {
	n := len(m.basis) - 1
	change := make([]float64, n+1)
	for i, row := range m.inverse {
		if v.load == nil {
			change[i] = row[v.slack]
			continue
		}
		change[i] = row[n]
		for k, x := range v.load {
			change[i] += row[k] * x
		}
	}
	// Among equals the largest change, which divides best.
	const zero = 1e-12
	out, least := -1, math.Inf(1)
	for i, c := range change {
		if i == m.z || c <= zero {
			continue
		}
		ratio := max(0, m.inverse[i][n]) / c
		if ratio < least-zero || (ratio <= least+zero && c > change[out]) {
			out, least = i, ratio
		}
	}
	if out < 0 { // only rounding says that it helps
		return
	}
	pivot := m.inverse[out]
	for j := range pivot {
		pivot[j] /= change[out]
	}
	for i, row := range m.inverse {
		if i != out && change[i] != 0 {
			for j := range row {
				row[j] -= change[i] * pivot[j]
			}
		}
	}
	m.basis[out] = v
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

package sched

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// Pricing is what policies that weigh accelerators and models against each other
// know of the traffic. It is computed offline, as part of a plan; without it
// they assume that every model is released once per relative deadline.
type Pricing struct {
	// Rates are the releases per second of each model; of triggered ones, what
	// their parents cause. Only their ratios matter.
	Rates []float64 `json:"rates_per_s"`
	// Prices are the accelerators' shadow prices at these rates; they sum to 1.
	// See Tables.FluidCapacity.
	Prices []float64 `json:"prices"`
}

// priceStep is what prices are rounded to, so that rounding errors in the
// search for them decide nothing.
const priceStep = 1e-4

// NewPricing computes prices for the given rates (releases per second of each
// model; those of triggered models follow from their parents'): the dual of the
// fluid linear program that splits layers over accelerators, which maximises
//
//	g(price) = sum over models of rate * sum over layers of min over k of price[k] * latency[k].
//
// Accelerators that no layer runs on cost nothing.
func (t *Tables) NewPricing(rates []float64) (*Pricing, error) {
	useful := t.usefulAccelerators()
	work, err := t.work(rates)
	if err != nil {
		return nil, err
	}
	for i, on := range work {
		kept := make([]float64, len(useful))
		for n, k := range useful {
			kept[n] = on[k]
		}
		work[i] = kept
	}
	c := fluidCapacity(work, len(useful))
	p := &Pricing{Rates: t.EffectiveRates(rates), Prices: make([]float64, t.accs)}
	sum := 0.0
	for n, k := range useful {
		p.Prices[k] = math.Round(c.Prices[n]/priceStep) * priceStep
		sum += p.Prices[k]
	}
	for k := range p.Prices {
		p.Prices[k] /= sum
	}
	return p, nil
}

// usefulAccelerators are those that some layer's original runs on.
func (t *Tables) usefulAccelerators() []int {
	var out []int
	for k := range t.accs {
		if slices.ContainsFunc(t.models, func(m modelTable) bool { return m.runsOn(t.accs, k) }) {
			out = append(out, k)
		}
	}
	return out
}

func (m *modelTable) runsOn(accs, k int) bool {
	for l := range m.layers {
		if m.latency[int(m.row[l])*accs+k] < never {
			return true
		}
	}
	return false
}

// pricing is the system's, or what it is without one: every model once per
// relative deadline.
func (t *Tables) pricing() *Pricing {
	if t.system.Pricing != nil {
		return t.system.Pricing
	}
	rates := make([]float64, len(t.models))
	for i := range rates {
		rates[i] = 1 / t.models[i].deadline.Seconds()
	}
	p, err := t.NewPricing(rates)
	if err != nil {
		broken("prices of a compiled system: %v", err)
	}
	return p
}

func (p *Pricing) validate(s *System) error {
	if len(p.Rates) != len(s.Models) || len(p.Prices) != len(s.Accelerators) {
		return fmt.Errorf("pricing of %d models and %d accelerators, want %d and %d", len(p.Rates), len(p.Prices), len(s.Models), len(s.Accelerators))
	}
	for m, r := range p.Rates {
		if !(r > 0) || math.IsInf(r, 0) {
			return fmt.Errorf("pricing: rate %v of model %q, must be positive", r, s.Models[m].Name)
		}
	}
	sum := 0.0
	for k, x := range p.Prices {
		if !(x >= 0) {
			return fmt.Errorf("pricing: price %v of accelerator %q, must not be negative", x, s.Accelerators[k])
		}
		sum += x
	}
	if !(math.Abs(sum-1) < 1e-6) {
		return fmt.Errorf("pricing: prices sum to %v, want 1", sum)
	}
	return nil
}

// priced holds what priced rules look up, beside the tables. Rules only read it.
type priced struct {
	t      *Tables
	prices []float64 // by accelerator, times the number of useful ones: 1 on average
	models []pricedModel
	pace   pace
}

// pace is how long layers have taken lately against what was predicted, all
// together: what drift, interference and the overhead of dispatching have in
// common. Corrections of single latencies (Config.Adapt) make accelerators that
// are seldom used look better than they are, because nothing corrects them.
type pace struct{ predicted, took float64 }

// paceShare is the share of the last layer in the pace.
const paceShare = 1.0 / 64

func (p *pace) observe(predicted, took time.Duration) {
	if p.predicted == 0 {
		p.predicted, p.took = float64(predicted), float64(predicted)
	}
	p.predicted += paceShare * (float64(predicted) - p.predicted)
	p.took += paceShare * (float64(took) - p.took)
}

// slow is how many times as long as predicted layers take, from 1/2 to 4.
func (p *pace) slow() float64 {
	if p.took == p.predicted {
		return 1
	}
	return max(0.5, min(4, p.took/p.predicted))
}

// due is the time from now to the job's deadline, as long as layers would take
// that run as predicted.
func (p *priced) due(s *State, j *Job) time.Duration {
	due := j.Deadline - s.Now
	if p.pace.took == p.pace.predicted {
		return due
	}
	return time.Duration(float64(due) / p.pace.slow())
}

// paced notes how long a layer took.
func (p *priced) paced(predicted, took time.Duration) { p.pace.observe(predicted, took) }

// pricedModel is one model's part.
type pricedModel struct {
	weight float64       // of a miss in the mean over models of miss rates; 1 on average
	period float64       // in nanoseconds, between releases
	work   []float64     // by layer: price-weighted latency from it on, 0 at the end
	whole  time.Duration // what the latencies were then: remain[0]
	// saving is, by set of variants used and layer, how much less than remain
	// the rest of a request can take with the variants that it may still use;
	// nil with too many sets.
	saving []time.Duration
}

// maxSavingVariants bounds the sets that savings are listed for.
const maxSavingVariants = 8

func newPriced(t *Tables) *priced {
	pr := t.pricing()
	p := &priced{t: t, models: make([]pricedModel, len(t.models))}
	n := float64(len(t.usefulAccelerators()))
	for _, x := range pr.Prices {
		p.prices = append(p.prices, x*n)
	}
	mean := 0.0
	for _, r := range pr.Rates {
		mean += 1 / r / float64(len(pr.Rates))
	}
	for i := range p.models {
		m := &t.models[i]
		p.models[i] = pricedModel{weight: 1 / pr.Rates[i] / mean, period: 1e9 / pr.Rates[i], whole: m.remain[0],
			work: m.pricedWork(pr.Prices), saving: m.savings(t.accs, t.system.Models[i].Variants)}
	}
	return p
}

// pricedWork is the cheapest price-weighted latency of all layers from each on.
func (m *modelTable) pricedWork(prices []float64) []float64 {
	out := make([]float64, m.layers+1)
	for l := m.layers - 1; l >= 0; l-- {
		low := math.Inf(1)
		for k, x := range prices {
			if c := m.latency[int(m.row[l])*len(prices)+k]; c < never {
				low = min(low, x*float64(c))
			}
		}
		out[l] = out[l+1] + low
	}
	return out
}

// savings computes pricedModel.saving, from the last layer back: the rest of a
// request that used a set takes the least, over what layer l may run, of that
// and the rest after it.
func (m *modelTable) savings(accs, variants int) []time.Duration {
	if variants > maxSavingVariants || len(m.bit) == m.layers {
		return nil
	}
	n := m.layers + 1
	out := make([]time.Duration, n<<variants)
	for l := m.layers - 1; l >= 0; l-- {
		for used := range VariantSet(1) << variants {
			least := never
			for row := m.row[l]; row < m.row[l+1]; row++ {
				if m.allowed(used, m.bit[row]) {
					after := m.remain[l+1] - out[int(used|m.bit[row])*n+l+1]
					least = min(least, smallest(m.latency[int(row)*accs:][:accs])+after)
				}
			}
			out[int(used)*n+l] = m.remain[l] - least
		}
	}
	return out
}

// least is the least that a request can still take from layer l on, when it used
// these variants.
func (p *priced) least(model int32, used VariantSet, l int) time.Duration {
	m := &p.t.models[model]
	if saving := p.models[model].saving; saving != nil {
		return m.remain[l] - saving[int(used)*(m.layers+1)+l]
	}
	return m.best[l]
}

// stretch is how much longer the model takes now than when its work was
// computed.
func (p *priced) stretch(model int32) float64 {
	if now, then := p.t.models[model].remain[0], p.models[model].whole; now != then {
		return float64(now) / float64(then)
	}
	return 1
}

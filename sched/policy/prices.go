package policy

import (
	"math"
	"slices"
	"time"

	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/fluid"
)

// priced holds what priced rules look up besides the tables. Rules only read it.
type priced struct {
	t      *sched.Tables
	prices []float64 // by accelerator, times the number of useful ones: 1 on average
	useful float64   // that number
	models []pricedModel
	pace   pace
	*accounts
}

// pace is how long layers have taken lately against what was predicted, all together: what drift, interference and the
// overhead of dispatching have in common. Corrections of single latencies (Config.Adapt) make accelerators that are
// seldom used look better than they are, because nothing corrects them.
type pace struct{ predicted, took float64 }

// paceShare is the share of the last layer in the pace.
const paceShare = 1.0 / 64

func (p *pace) observe(predicted, took time.Duration) {
	if p.predicted == 0 {
		p.predicted, p.took = float64(predicted), float64(predicted)
	}
	p.predicted += paceShare * (float64(predicted) - p.predicted)
	p.took += paceShare * (min(slowest*float64(predicted), float64(took)) - p.took)
}

// slowest is how many times as long as predicted layers count at most: one that stalls says nothing about the next.
const slowest = 4

// slow is how many times as long as predicted layers take, from 1/2 to slowest.
func (p *pace) slow() float64 {
	if p.took == p.predicted {
		return 1
	}
	return max(0.5, min(slowest, p.took/p.predicted))
}

// due is the time from now to the job's deadline, as long as layers would take that run as predicted.
func (p *priced) due(s *sched.State, j *sched.Job) time.Duration {
	due := j.Deadline - s.Now
	if p.pace.took == p.pace.predicted {
		return due
	}
	return time.Duration(float64(due) / p.pace.slow())
}

// pricedModel is one model's part.
type pricedModel struct {
	weight float64       // of a miss in the mean over models of miss rates; 1 on average
	period float64       // in nanoseconds, between releases
	work   []float64     // by layer: price-weighted latency from it on, 0 at the end
	whole  time.Duration // what the latencies were then: remain[0]
	// saving is, by set of variants used, layer and place, how much less than by originals the rest of a request can take
	// with the variants that it may still use; nil with too many sets.
	saving []time.Duration
	places int // 1 if handoffs are free; else that where a release puts inputs, and one for each accelerator
}

// saved is what variants can still save a request that used these, from a layer on whose inputs lie at an accelerator.
func (m *pricedModel) saved(used sched.VariantSet, l, at int32) time.Duration {
	return m.saving[(int(used)*len(m.work)+int(l))*m.places+min(int(at)+1, m.places-1)]
}

// maxSavingVariants bounds the sets that savings are listed for.
const maxSavingVariants = 8

func newPriced(t *sched.Tables, originals bool) (*priced, error) {
	of, err := pricedTables(t, originals)
	if err != nil {
		return nil, err
	}
	pr, err := fluid.PricesOf(of)
	if err != nil {
		return nil, err
	}
	sys := t.System()
	p := &priced{t: t, accounts: newAccounts(t, originals), models: make([]pricedModel, len(sys.Models))}
	p.useful = float64(len(fluid.Useful(of)))
	for _, x := range pr.Prices {
		p.prices = append(p.prices, x*p.useful)
	}
	mean := 0.0
	for _, r := range pr.Rates {
		mean += 1 / r / float64(len(pr.Rates))
	}
	for i := range p.models {
		m := t.Model(int32(i))
		p.models[i] = pricedModel{weight: 1 / pr.Rates[i] / mean, period: 1e9 / pr.Rates[i], whole: m.Remaining(0),
			work: pricedWork(m, pr.Prices), places: 1}
		if m.Handoff(&sched.Job{}) != nil {
			p.models[i].places += len(sys.Accelerators)
		}
		p.models[i].save(m, sys.Models[i].Variants)
	}
	return p, nil
}

// pricedTables are those that prices are of: where only originals may run, without floors.
func pricedTables(t *sched.Tables, originals bool) (*sched.Tables, error) {
	sys := *t.System()
	spends := func(m sched.Model) bool { return m.Floor > 0 && m.Floor < 1 }
	if !originals || !slices.ContainsFunc(sys.Models, spends) {
		return t, nil
	}
	sys.Models = slices.Clone(sys.Models)
	for i := range sys.Models {
		sys.Models[i].Floor = 0
	}
	pricing := sys.Pricing
	sys.Pricing = nil
	without, err := sched.Compile(sys)
	if err != nil || pricing == nil {
		return without, err
	}
	if sys.Pricing, err = fluid.Price(without, pricing.Rates); err != nil {
		return nil, err
	}
	return sched.Compile(sys)
}

// pricedWork is the cheapest price-weighted latency of all layers from each on.
func pricedWork(m *sched.ModelTable, prices []float64) []float64 {
	out := make([]float64, m.Layers()+1)
	for l := m.Layers() - 1; l >= 0; l-- {
		low := math.Inf(1)
		for k, c := range m.Latency(int32(l), 0) {
			if c < sched.Never {
				low = min(low, prices[k]*float64(c))
			}
		}
		out[l] = out[l+1] + low
	}
	return out
}

// save computes the saving, from the last layer back: the rest of a request that used a set takes the least, over what
// layer l may run and where, of the handoff, that and the rest after it.
func (p *pricedModel) save(m *sched.ModelTable, variants int) {
	if variants == 0 || variants > maxSavingVariants {
		return
	}
	p.saving = make([]time.Duration, len(p.work)*p.places<<variants)
	on := make([]time.Duration, len(m.Latency(0, 0))) // from layer l on, once it starts there
	for l := int32(m.Layers() - 1); l >= 0; l-- {
		for used := range sched.VariantSet(1) << variants {
			for k := range on {
				on[k] = sched.Never
				for i := range m.Implementations(l) {
					if v := m.Variant(l, i); m.Allowed(used, v) {
						at := int32(k)
						on[k] = min(on[k], m.Latency(l, i)[k]+m.Left(l+1, at)-p.saved(used|v, l+1, at))
					}
				}
			}
			for place := range p.places {
				j, least := sched.Job{Layer: l, At: int32(place - 1)}, slices.Min(on)
				if handoff := m.Handoff(&j); handoff != nil {
					least = sched.Never
					for k, h := range handoff {
						least = min(least, h+on[k])
					}
				}
				p.saving[(int(used)*len(p.work)+int(l))*p.places+place] = m.Left(l, j.At) - least
			}
		}
	}
}

// least is the least that a request can still take from layer l on with the variants that it may use then, when it used
// these and the layer's inputs lie at an accelerator.
func (p *priced) least(model int32, used sched.VariantSet, l, at int32) time.Duration {
	m := p.t.Model(model)
	if p.ledgers[model].originals {
		return m.Left(l, at)
	}
	if p.models[model].saving != nil {
		return m.Left(l, at) - p.models[model].saved(used, l, at)
	}
	return m.LeastLeft(l, at)
}

// stretch is how much longer the model takes now than when its work was computed.
func (p *priced) stretch(model int32) float64 {
	if now, then := p.t.Model(model).Remaining(0), p.models[model].whole; now != then {
		return float64(now) / float64(then)
	}
	return 1
}

// density is how many misses, weighted by model, a nanosecond of all accelerators prevents.
func (p *priced) density() float64 {
	value, work := 0.0, 0.0
	for i := range p.models {
		m := &p.models[i]
		value += m.weight / m.period
		work += m.work[0] / m.period
	}
	return value / work
}

// ended takes note of what a request offered and owed.
func (p *priced) ended(j *sched.Job, o sched.Outcome, at time.Duration) {
	p.ledgers[j.Model].ended(j.Used, o)
	p.offered.add(p.models[j.Model].work[0], at)
}

package fluid

import (
	"math"
	"strconv"

	"github.com/terastal/terastal/sched"
)

// priceStep is what prices are rounded to, so that rounding errors in the search for them decide nothing.
const priceStep = 1e-4

// Price computes prices for the given rates (releases per second of each model; those of triggered models follow from
// their parents'): the dual of the fluid linear program that splits layers over accelerators, which maximises
//
//	g(price) = sum over models of rate * sum over layers of min over k of price[k] * latency[k].
//
// Accelerators that no layer runs on cost nothing. Where models have an accuracy floor it is the dual of [CapacityAt]
// without deadlines: each may use its variants down to its floor, those without a floor originals, and accuracy has
// prices too.
func Price(t *sched.Tables, rates []float64) (*sched.Pricing, error) {
	useful := Useful(t)
	program, err := newProgram(t, rates, FloorsOf(t), useful)
	if err != nil {
		return nil, err
	}
	c, _ := program.solve()
	p := &sched.Pricing{Rates: EffectiveRates(t, rates), Prices: make([]float64, len(t.System().Accelerators))}
	sum := 0.0
	for n, k := range useful {
		p.Prices[k] = math.Round(c.Prices[n]/priceStep) * priceStep
		sum += p.Prices[k]
	}
	for k := range p.Prices {
		p.Prices[k] /= sum
	}
	for _, x := range c.Accuracy {
		p.Accuracy = append(p.Accuracy, rounded(x))
	}
	return p, nil
}

// rounded rounds to four digits: accuracy's prices have no common scale.
func rounded(x float64) float64 {
	x, _ = strconv.ParseFloat(strconv.FormatFloat(x, 'e', 3, 64), 64)
	return x
}

// FloorsOf are the accuracy floors of the system's models: 1, originals only, for those that promise nothing, since
// variants are a last resort there; nil where none has any.
func FloorsOf(t *sched.Tables) []float64 {
	var out []float64
	models := t.System().Models
	for i := range models {
		if f := models[i].Floor; f > 0 {
			if out == nil {
				out = Same(t, 1)
			}
			out[i] = f
		}
	}
	return out
}

// Useful lists the accelerators that some layer's original runs on, or a variant that an accuracy floor gives a use.
func Useful(t *sched.Tables) []int {
	sys := t.System()
	runs := make([]bool, len(sys.Accelerators))
	for i := range sys.Models {
		spends := sys.Models[i].Floor > 0 && sys.Models[i].Floor < 1
		for l := range sys.Models[i].Layers {
			for n, im := range sys.Models[i].Layers[l].Implementations {
				for k, c := range im.Latency {
					runs[k] = runs[k] || c != sched.Unavailable && (n == 0 || spends)
				}
			}
		}
	}
	var out []int
	for k, is := range runs {
		if is {
			out = append(out, k)
		}
	}
	return out
}

// PricesOf are the system's own prices; without any, those for every model once per relative deadline.
func PricesOf(t *sched.Tables) (*sched.Pricing, error) {
	sys := t.System()
	if sys.Pricing != nil {
		return sys.Pricing, nil
	}
	rates := make([]float64, len(sys.Models))
	for i := range rates {
		rates[i] = 1 / sys.Models[i].Deadline.Seconds()
	}
	return Price(t, rates)
}

// MissBound is a lower bound on the mean over models of their miss rates, in the long run, when requests come at the
// given rates: the dual of the fluid linear program that serves as many requests of each model as fit the accelerators,
//
//	max over mu of  sum over models of min(1 / models, rate * cost at prices mu * price) - mu,
//
// with the prices of p and the fastest implementation of each layer whatever the
// accuracy. Bursts, deadlines and whole layers make real schedules miss more.
func MissBound(t *sched.Tables, p *sched.Pricing, rates []float64) float64 {
	rates = EffectiveRates(t, rates)
	n := float64(len(rates))
	cost := make([]float64, len(rates)) // load at the prices
	var steps []float64                 // the mu at which a model is given up
	for i := range rates {
		m := t.Model(int32(i))
		for l := range int32(m.Layers()) {
			low := math.Inf(1)
			for im := range m.Implementations(l) {
				for k, c := range m.Latency(l, im) {
					if c < sched.Never {
						low = min(low, p.Prices[k]*c.Seconds())
					}
				}
			}
			cost[i] += rates[i] * low
		}
		if cost[i] > 0 {
			steps = append(steps, 1/n/cost[i])
		}
	}
	// Concave and piecewise linear in mu: the best is at 0 or a step.
	best := 0.0
	for _, mu := range steps {
		bound := -mu
		for _, c := range cost {
			bound += min(1/n, mu*c)
		}
		best = max(best, bound)
	}
	return best
}

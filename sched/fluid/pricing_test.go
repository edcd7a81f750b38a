package fluid_test

import (
	"math"
	"slices"
	"testing"

	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/fluid"
	"github.com/terastal/terastal/sched/internal/schedtest"
	"github.com/terastal/terastal/sched/scenario"
	"pgregory.net/rapid"
)

// TestPrices: the prices prove a bound on the capacity that a feasible placement
// reaches, but for what rounding them costs.
func TestPrices(t *testing.T) {
	schedtest.CheckSome(t, 5, func(t *rapid.T) {
		sys := schedtest.System(t)
		tables := schedtest.Compile(t, sys)
		var rates []float64
		for range sys.Models {
			rates = append(rates, float64(1+schedtest.Number(t, 50, "rate")))
		}
		p := testkit.Must(fluid.Price(tables, rates))(t)
		c := testkit.Must(fluid.CapacityOf(tables, rates))(t)
		sys.Pricing = p
		schedtest.Compile(t, sys)
		g := 0.0
		for m, model := range sys.Models {
			for _, l := range model.Layers {
				low := math.Inf(1)
				for k, c := range l.Implementations[0].Latency {
					if c == sched.Unavailable {
						continue
					}
					low = min(low, p.Prices[k]*c.Seconds())
				}
				g += rates[m] * low
			}
		}
		if bound := 1 / g; bound < c.Scale*(1-1e-9) || bound > c.Bound*1.01 {
			t.Fatalf("prices %v prove %v, the capacity is %v to %v", p.Prices, bound, c.Scale, c.Bound)
		}
	})
}

// TestPublishedPrices are those of ROLLOUT's first table: weight-stationary, then
// output-stationary twice.
func TestPublishedPrices(t *testing.T) {
	for name, want := range map[string][]float64{
		"paper/mcv_light": {.52, .24, .24}, "paper/mcv_heavy": {.47, .27, .27}, "paper/ar_social@4K": {.51, .25, .25},
		"paper/ar_social@6K": {.47, .26, .26}} {
		s := testkit.Must(scenario.Load(name))(t)
		p := testkit.Must(fluid.Price(schedtest.Compile(t, s.System), s.Rates))(t)
		for k, x := range p.Prices {
			if math.Abs(x-want[k]) > .011 {
				t.Errorf("%s: prices %.3f, want %v", name, p.Prices, want)
			}
		}
	}
}

// TestPricingRefused: what does not fit the system does not compile.
func TestPricingRefused(t *testing.T) {
	sys := schedtest.Workload(2, 1)
	good := testkit.Must(fluid.Price(schedtest.Compile(t, sys), []float64{1, 1, 1, 1, 1}))(t)
	for name, change := range map[string]func(p *sched.Pricing){
		"a rate too few":        func(p *sched.Pricing) { p.Rates = p.Rates[1:] },
		"a price too many":      func(p *sched.Pricing) { p.Prices = append(p.Prices, 0) },
		"a rate of zero":        func(p *sched.Pricing) { p.Rates[0] = 0 },
		"a rate without number": func(p *sched.Pricing) { p.Rates[0] = math.NaN() },
		"a negative price":      func(p *sched.Pricing) { p.Prices = []float64{-1, 2} },
		"prices of another sum": func(p *sched.Pricing) { p.Prices = []float64{.5, .6} },
	} {
		p := sched.Pricing{Rates: slices.Clone(good.Rates), Prices: slices.Clone(good.Prices)}
		change(&p)
		sys.Pricing = &p
		if _, err := sched.Compile(sys); err == nil {
			t.Errorf("%s: it compiles", name)
		}
	}
}

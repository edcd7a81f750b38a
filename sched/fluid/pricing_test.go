package fluid_test

import (
	"math"
	"slices"
	"testing"

	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/fluid"
	"github.com/terastal/terastal/sched/internal/schedtest"
	"pgregory.net/rapid"
)

// TestPrices: the prices prove a bound on the capacity that a feasible placement
// reaches, but for what rounding them costs.
func TestPrices(t *testing.T) {
	schedtest.CheckSome(t, 5, func(t *rapid.T) {
		sys := unhurried(schedtest.System(t))
		tables := schedtest.Compile(t, sys)
		var rates []float64
		for range sys.Models {
			rates = append(rates, float64(1+schedtest.Number(t, 50, "rate")))
		}
		p := testkit.Must(fluid.Price(tables, rates))(t)
		c := testkit.Must(fluid.CapacityOf(tables, rates))(t)
		sys.Pricing = p
		schedtest.Compile(t, sys)
		if bound := 1 / cheapest(sys, rates, p.Prices); bound < c.Scale*(1-1e-9) || bound > c.Bound*1.01 {
			t.Fatalf("prices %v prove %v, the capacity is %v to %v", p.Prices, bound, c.Scale, c.Bound)
		}
	})
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

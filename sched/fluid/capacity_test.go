package fluid_test

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/sequential"
	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/fluid"
	"github.com/terastal/terastal/sched/internal/schedtest"
	"gonum.org/v1/gonum/mat"
	"gonum.org/v1/gonum/optimize/convex/lp"
	"pgregory.net/rapid"
)

// exactCapacity solves the linear program behind CapacityOf: over the shares x of every layer on every accelerator that
// can run it, minimise the load z of the busiest; 1/z is the capacity.
func exactCapacity(t testkit.T, sys sched.System, rates []float64) float64 {
	type share struct {
		layer, acc int
		work       float64
	}
	var shares []share
	layers := 0
	for m, model := range sys.Models {
		for _, layer := range model.Layers {
			for k, c := range layer.Implementations[0].Latency {
				if c != sched.Unavailable {
					shares = append(shares, share{layers, k, rates[m] * c.Seconds()})
				}
			}
			layers++
		}
	}
	// Variables: the shares, z, and a slack per accelerator.
	accs := len(sys.Accelerators)
	z := len(shares)
	c := make([]float64, z+1+accs)
	c[z] = 1
	a := mat.NewDense(layers+accs, len(c), nil)
	b := make([]float64, layers+accs)
	for i, s := range shares {
		a.Set(s.layer, i, 1)
		a.Set(layers+s.acc, i, s.work)
	}
	for l := range layers {
		b[l] = 1
	}
	for k := range accs {
		a.Set(layers+k, z, -1)
		a.Set(layers+k, z+1+k, 1)
	}
	load, _, err := lp.Simplex(c, a, b, 1e-10, nil)
	if err != nil {
		t.Fatalf("simplex: %v", err)
	}
	return 1 / load
}

// unhurried gives every model time enough for whatever it may do.
func unhurried(sys sched.System) sched.System {
	for i := range sys.Models {
		sys.Models[i].Deadline = time.Minute
	}
	return sys
}

// TestCapacityExact holds the fluid capacity against an exact solver.
func TestCapacityExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sys := unhurried(schedtest.System(t))
		rates := make([]float64, len(sys.Models))
		for m := range rates {
			rates[m] = rapid.Float64Range(1, 100).Draw(t, "rate")
		}
		got := testkit.Must(fluid.CapacityOf(schedtest.Compile(t, sys), rates))(t)
		want := exactCapacity(t, sys, rates)
		if got.Scale > want*(1+1e-9) || got.Bound < want*(1-1e-9) {
			t.Fatalf("capacity %v is not between the certificates %v and %v", want, got.Scale, got.Bound)
		}
		checkCertificate(t, sys, rates, got)
	})
}

// checkCertificate checks the two sides' distance and that the prices prove the bound.
func checkCertificate(t testkit.T, sys sched.System, rates []float64, c fluid.Capacity) {
	t.Helper()
	if c.Scale > c.Bound*(1+1e-12) || c.Bound > c.Scale*1.001*(1+1e-12) {
		t.Fatalf("scale %v and bound %v are not within 0.1 %%", c.Scale, c.Bound)
	}
	sum := 0.0
	for _, p := range c.Prices {
		if p < 0 {
			t.Fatalf("negative price: %v", c.Prices)
		}
		sum += p
	}
	if math.Abs(sum-1) > 1e-9 || math.Abs(c.Bound*cheapest(sys, rates, c.Prices)-1) > 1e-9 {
		t.Fatalf("the prices %v do not prove the bound %v", c.Prices, c.Bound)
	}
}

// cheapest is the price-weighted work per second when every layer runs where it costs least.
func cheapest(sys sched.System, rates, prices []float64) float64 {
	sum := 0.0
	for m, model := range sys.Models {
		for _, layer := range model.Layers {
			low := math.Inf(1)
			for k, c := range layer.Implementations[0].Latency {
				if c != sched.Unavailable {
					low = min(low, prices[k]*rates[m]*c.Seconds())
				}
			}
			sum += low
		}
	}
	return sum
}

func capacitySystem(latencies ...[]time.Duration) sched.System {
	m := sched.Model{Name: "m", Deadline: time.Second}
	for _, l := range latencies {
		m.Layers = append(m.Layers, sched.Layer{Implementations: []sched.Implementation{{Latency: l}}})
	}
	sys := sched.System{Models: []sched.Model{m}}
	for k := range latencies[0] {
		sys.Accelerators = append(sys.Accelerators, string(rune('a'+k)))
	}
	return sys
}

// TestCapacityByHand: systems whose capacity is plain.
func TestCapacityByHand(t *testing.T) {
	const ms, none = time.Millisecond, sched.Unavailable
	for _, c := range []struct {
		name  string
		sys   sched.System
		rate  float64
		scale float64
	}{
		{"one accelerator at half its load", capacitySystem([]time.Duration{5 * ms}), 100, 2},
		{"two equal ones share", capacitySystem([]time.Duration{5 * ms, 5 * ms}), 100, 4},
		{"1 and 2 ms: 1000 + 500 per second", capacitySystem([]time.Duration{ms, 2 * ms}), 100, 15},
		{"opposite tastes do not share", capacitySystem([]time.Duration{ms, 100 * ms}, []time.Duration{100 * ms, ms}), 100,
			10},
		{"each can run one layer only", capacitySystem([]time.Duration{ms, none}, []time.Duration{none, 2 * ms}), 100, 5},
		{"an accelerator that can run nothing", capacitySystem([]time.Duration{5 * ms, none}), 100, 2},
	} {
		got := testkit.Must(fluid.CapacityOf(schedtest.Compile(t, c.sys), []float64{c.rate}))(t)
		if got.Scale > c.scale*(1+1e-9) || got.Scale < c.scale*(1-1e-3) {
			t.Errorf("%s: scale %v, want %v", c.name, got.Scale, c.scale)
		}
	}
}

// TestCapacityLarge: more accelerators and layers than the exact solver takes.
func TestCapacityLarge(t *testing.T) {
	sequential.Skip(t)
	for _, accs := range []int{2, 8, sched.MaxAccelerators} {
		for _, rate := range []float64{1e-6, 1, 1e6} {
			sys := schedtest.Workload(accs, 1)
			rates := []float64{rate, 2 * rate, 3 * rate, 4 * rate, 5 * rate}
			c := testkit.Must(fluid.CapacityOf(schedtest.Compile(t, sys), rates))(t)
			checkCertificate(t, sys, rates, c)
		}
	}
}

func TestCapacityErrors(t *testing.T) {
	tables := schedtest.Compile(t, capacitySystem([]time.Duration{1}))
	for _, c := range []struct {
		rates []float64
		want  string
	}{
		{nil, "0 rates for 1 models"},
		{[]float64{0}, "must be positive"},
		{[]float64{-1}, "must be positive"},
		{[]float64{math.NaN()}, "must be positive"},
		{[]float64{math.Inf(1)}, "must be positive"},
	} {
		testkit.Refused(fluid.CapacityOf(tables, c.rates))(t, c.want)
	}
}

// BenchmarkCapacity is the cost for 100 layers on 4 accelerators.
func BenchmarkCapacity(b *testing.B) {
	tables := schedtest.Compile(b, schedtest.Workload(4, 1))
	for b.Loop() {
		testkit.Must(fluid.CapacityOf(tables, []float64{10, 20, 30, 40, 50}))(b)
	}
}

// TestEffectiveRates: along a chain of triggers probabilities multiply.
func TestEffectiveRates(t *testing.T) {
	layers := []sched.Layer{{Implementations: []sched.Implementation{{Latency: []time.Duration{1}}}}}
	sys := sched.System{Accelerators: []string{"x"}, Models: []sched.Model{
		{Name: "c", Deadline: 1, Layers: layers, Trigger: &sched.Trigger{Parent: "b", Probability: 0.25}},
		{Name: "a", Deadline: 1, Layers: layers},
		{Name: "b", Deadline: 1, Layers: layers, Trigger: &sched.Trigger{Parent: "a", Probability: 0.5}},
	}}
	rates := []float64{7, 80, 0}
	got := fluid.EffectiveRates(schedtest.Compile(t, sys), rates)
	if !slices.Equal(got, []float64{10, 80, 40}) || rates[0] != 7 {
		t.Errorf("rates %v from %v", got, rates)
	}
}

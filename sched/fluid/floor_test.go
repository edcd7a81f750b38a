package fluid_test

import (
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/sequential"
	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/eventlog"
	"github.com/terastal/terastal/sched/fluid"
	"github.com/terastal/terastal/sched/internal/schedtest"
	"gonum.org/v1/gonum/mat"
	"gonum.org/v1/gonum/optimize/convex/lp"
	"pgregory.net/rapid"
)

// combination is an implementation for every layer of a model, and what it loses.
type combination struct {
	implementations []int
	loss            float64
}

// combinations enumerates what a request of a model may use.
func combinations(t *sched.Tables, model int, floor float64) []combination {
	m, table := &t.System().Models[model], t.Model(int32(model))
	var out []combination
	var from func(l int, used sched.VariantSet, path []int)
	from = func(l int, used sched.VariantSet, path []int) {
		if l == len(m.Layers) {
			loss := max(0, 1-eventlog.AccuracyOf(m, used))
			if floor == 0 || used == 0 {
				loss = 0
			}
			if !math.IsNaN(loss) && (floor < 1 || used == 0) {
				out = append(out, combination{slices.Clone(path), loss})
			}
			return
		}
		for i := range m.Layers[l].Implementations {
			if v := table.Variant(int32(l), int32(i)); table.Allowed(used, v) {
				from(l+1, used|v, append(path, i))
			}
		}
	}
	from(0, 0, nil)
	return out
}

// dense is a linear program in standard form that is built up variable by variable.
type dense struct {
	cost []float64
	cols []map[int]float64
	rhs  []float64
}

func (d *dense) row(rhs float64) int {
	d.rhs = append(d.rhs, rhs)
	return len(d.rhs) - 1
}

func (d *dense) variable(cost float64, rows map[int]float64) {
	d.cost, d.cols = append(d.cost, cost), append(d.cols, rows)
}

func (d *dense) solve(t testkit.T) float64 {
	a := mat.NewDense(len(d.rhs), len(d.cols), nil)
	for j, rows := range d.cols {
		for i, x := range rows {
			a.Set(i, j, x)
		}
	}
	z, _, err := lp.Simplex(d.cost, a, d.rhs, 1e-10, nil)
	if err != nil {
		t.Fatalf("simplex: %v", err)
	}
	return z
}

// exactCapacityAt solves the program with every combination written out: its share, and the shares of it that run a
// layer on an accelerator.
func exactCapacityAt(t testkit.T, tables *sched.Tables, rates, floors []float64) float64 {
	sys := tables.System()
	var d dense
	var load []int
	z := map[int]float64{}
	for k := range sys.Accelerators {
		load = append(load, d.row(0))
		z[load[k]] = -1
		d.variable(0, map[int]float64{load[k]: 1})
	}
	d.variable(1, z)
	unit := 0.0 // so that the solver gets numbers near 1
	for i := range sys.Models {
		for l := range sys.Models[i].Layers {
			for _, im := range sys.Models[i].Layers[l].Implementations {
				unit = max(unit, rates[i]*slices.Max(im.Latency).Seconds())
			}
		}
	}
	for i := range sys.Models {
		all, share := d.row(1), d.row(1-floors[i])
		d.variable(0, map[int]float64{share: 1})
		for _, c := range combinations(tables, i, floors[i]) {
			of := map[int]float64{all: 1, share: c.loss}
			for l, im := range c.implementations {
				row := d.row(0)
				of[row] = -1
				for k, latency := range sys.Models[i].Layers[l].Implementations[im].Latency {
					if latency != sched.Unavailable {
						d.variable(0, map[int]float64{row: 1, load[k]: rates[i] * latency.Seconds() / unit})
					}
				}
			}
			d.variable(0, of)
		}
	}
	return 1 / (d.solve(t) * unit)
}

// spending draws a system whose models may have accuracies, measured or bounded, rates and floors for it.
func spending(t *rapid.T) (*sched.Tables, []float64, []float64) {
	sys, rates, floors := hurriedSpending(t)
	return schedtest.Compile(t, unhurried(sys)), rates, floors
}

// hurriedSpending is spending with deadlines that some paths miss.
func hurriedSpending(t *rapid.T) (sched.System, []float64, []float64) {
	sys := schedtest.System(t)
	sys.Models = sys.Models[:min(2, len(sys.Models))]
	for i := range sys.Models { // the exact solver is slow
		sys.Models[i].Layers = sys.Models[i].Layers[:min(3, len(sys.Models[i].Layers))]
	}
	var rates, floors []float64
	for i := range sys.Models {
		m := &sys.Models[i]
		for range m.Variants * schedtest.Number(t, 3, "more sets") {
			if set := sched.VariantSet(schedtest.Number(t, 1<<m.Variants, "set")); !slices.Contains(m.Valid, set) {
				m.Valid = append(m.Valid, set)
			}
		}
		switch schedtest.Number(t, 8, "accuracies") {
		case 0: // unknown
		case 1, 2, 3:
			if m.Variants > 0 {
				m.Valid, m.MaxLoss = nil, float64(schedtest.Number(t, 16, "most"))/64
				for range m.Variants {
					m.Loss = append(m.Loss, float64(schedtest.Number(t, 8, "loss"))/64)
				}
			}
		default:
			for range m.Valid {
				m.Accuracy = append(m.Accuracy, 1+float64(2-schedtest.Number(t, 10, "loss"))/64)
			}
		}
		rates = append(rates, rapid.Float64Range(1, 100).Draw(t, "rate"))
		floors = append(floors, rapid.SampledFrom([]float64{0, 0.9, 0.95, 0.98, 0.99, 0.999, 1}).Draw(t, "floor"))
	}
	return sys, rates, floors
}

// TestCapacityAtExact holds the capacity with variants against an exact solver.
func TestCapacityAtExact(t *testing.T) {
	schedtest.CheckSome(t, 10, func(t *rapid.T) {
		tables, rates, floors := spending(t)
		got := testkit.Must(fluid.CapacityAt(tables, rates, floors))(t)
		want := exactCapacityAt(t, tables, rates, floors)
		if got.Scale > want*(1+1e-9) || got.Bound < want*(1-1e-9) || got.Bound > got.Scale*(1+2e-6) {
			t.Fatalf("capacity %v is not between the certificates %v and %v", want, got.Scale, got.Bound)
		}
		if proof := bound(tables, rates, floors, got.Prices, got.Accuracy); math.Abs(proof/got.Bound-1) > 1e-9 {
			t.Fatalf("the prices %v and %v prove %v, not the bound %v", got.Prices, got.Accuracy, proof, got.Bound)
		}
	})
}

// bound is what prices prove, by the cheapest of all combinations.
func bound(tables *sched.Tables, rates, floors, prices, accuracies []float64) float64 {
	sum := 0.0
	for i := range tables.System().Models {
		m := &tables.System().Models[i]
		accuracy, low := 0.0, math.Inf(1)
		if accuracies != nil {
			accuracy = accuracies[i]
		}
		for _, x := range combinations(tables, i, floors[i]) {
			cost := accuracy * (x.loss - (1 - floors[i]))
			for l, im := range x.implementations {
				least := math.Inf(1)
				for k, latency := range m.Layers[l].Implementations[im].Latency {
					if latency != sched.Unavailable {
						least = min(least, prices[k]*latency.Seconds())
					}
				}
				cost += least
			}
			low = min(low, cost)
		}
		sum += rates[i] * low
	}
	return 1 / sum
}

// TestFloors: what must hold of the capacity at a floor, whatever the system.
func TestFloors(t *testing.T) {
	schedtest.CheckSome(t, 10, func(t *rapid.T) {
		tables, rates, floors := spending(t)
		at := func(rates, floors []float64) fluid.Capacity {
			return testkit.Must(fluid.CapacityAt(tables, rates, floors))(t)
		}
		originals := testkit.Must(fluid.CapacityOf(tables, rates))(t)
		if got := at(rates, fluid.Same(tables, 1)); !reflect.DeepEqual(got, originals) {
			t.Fatalf("at floor 1 %+v, of originals %+v", got, originals)
		}
		before := originals
		for _, f := range []float64{0.999, 0.99, 0.95, 0.9, 0} {
			c := at(rates, fluid.Same(tables, f))
			if c.Bound < before.Scale*(1-1e-9) {
				t.Fatalf("at floor %v at most %v, at a higher one %v", f, c.Bound, before.Scale)
			}
			before = c
		}
		c, tenfold := at(rates, floors), slices.Clone(rates)
		for i := range tenfold {
			tenfold[i] *= 10
		}
		if d := at(tenfold, floors); d.Bound*10 < c.Scale*(1-1e-9) || d.Scale*10 > c.Bound*(1+1e-9) {
			t.Fatalf("scale %v, of ten times the rates %v", c.Scale, d.Scale)
		}
	})
}

// TestFloorsWithoutVariants: floors change nothing where there are only originals, not even the last bit; nor do
// variants in systems without floors.
func TestFloorsWithoutVariants(t *testing.T) {
	schedtest.CheckSome(t, 5, func(t *rapid.T) {
		tables, rates, floors := spending(t)
		sys := *tables.System()
		priced := testkit.Must(fluid.Price(tables, rates))(t)
		plain := slices.Clone(sys.Models)
		for i := range plain {
			m := &plain[i]
			m.Valid, m.Accuracy, m.Loss, m.Variants = nil, nil, nil, 0
			m.Layers = slices.Clone(m.Layers)
			for l := range m.Layers {
				m.Layers[l].Implementations = m.Layers[l].Implementations[:1]
			}
		}
		sys.Models = plain
		tables = schedtest.Compile(t, sys)
		if got := testkit.Must(fluid.Price(tables, rates))(t); !reflect.DeepEqual(got, priced) {
			t.Fatalf("prices %v without variants, %v with", got, priced)
		}
		want := testkit.Must(fluid.CapacityOf(tables, rates))(t)
		if got := testkit.Must(fluid.CapacityAt(tables, rates, floors))(t); !reflect.DeepEqual(got, want) {
			t.Fatalf("capacity %v at floors, %v without", got, want)
		}
	})
}

// TestPriceAtFloors: with floors the prices are those of the capacity at them, but for rounding; originals only of a
// model without.
func TestPriceAtFloors(t *testing.T) {
	schedtest.CheckSome(t, 5, func(t *rapid.T) {
		tables, rates, floors := spending(t)
		sys := *tables.System()
		for i := range sys.Models {
			if sys.Models[i].Floor = floors[i]; floors[i] == 0 {
				floors[i] = 1
			}
		}
		tables = schedtest.Compile(t, sys)
		sys.Pricing = testkit.Must(fluid.Price(tables, rates))(t)
		schedtest.Compile(t, sys)
		c := testkit.Must(fluid.CapacityAt(tables, rates, floors))(t)
		if (c.Accuracy == nil) != (sys.Pricing.Accuracy == nil) {
			t.Fatalf("accuracy costs %v, in the capacity %v", sys.Pricing.Accuracy, c.Accuracy)
		}
		if c.Bound = bound(tables, rates, floors, sys.Pricing.Prices, sys.Pricing.Accuracy); c.Bound < c.Scale*(1-1e-9) ||
			c.Bound > c.Scale*1.01 {
			t.Fatalf("prices %v prove %v, the capacity is %v", sys.Pricing, c.Bound, c.Scale)
		}
	})
}

// TestFloorsByHand: one model of one layer, 10 ms, on one accelerator, whose variants take 5 and 8 ms.
func TestFloorsByHand(t *testing.T) {
	const ms = time.Millisecond
	model := func(accuracies ...float64) sched.Model {
		m := sched.Model{Name: "m", Deadline: time.Second, Variants: 2, Valid: []sched.VariantSet{1, 2}, Accuracy: accuracies,
			Layers: []sched.Layer{{Implementations: []sched.Implementation{{Latency: []time.Duration{10 * ms}},
				{Variant: 1, Latency: []time.Duration{5 * ms}}, {Variant: 2, Latency: []time.Duration{8 * ms}}}}}}
		return m
	}
	limited := model()
	limited.Valid, limited.Loss, limited.MaxLoss = nil, []float64{0.1, 0.02}, 0.05
	wide := limited
	wide.MaxLoss = 0.1
	for _, c := range []struct {
		name     string
		model    sched.Model
		floor    float64
		capacity float64
		price    float64 // of accuracy, in ms for all of it
	}{
		{"originals only", model(1, 1), 1, 100, 0},
		{"what costs nothing is always used", model(1, 1), 0.999, 200, 0},
		{"the fastest when nothing is promised", model(0.5, 1), 0, 200, 0},
		{"every second request", model(0.9, 0.5), 0.95, 1000 / 7.5, 50},
		{"as many as the better of two ways allows", model(0.9, 0.99), 0.995, 100 / 0.9, 200},
		{"both ways, no originals", model(0.9, 0.99), 0.9775, 1000 / (8 - 3*0.0125/0.09), 3 / 0.09},
		{"what is better than the original earns no credit", model(0.9, 1.5), 0.95, 1000 / 6.5, 30},
		{"unknown accuracies", model(), 0.5, 100, 0},
		{"unknown accuracies, nothing promised", model(), 0, 200, 0},
		{"one unknown accuracy", model(math.NaN(), 1), 0.5, 125, 0},
		{"a bound excludes the fastest", limited, 0.98, 125, 0},
		{"a bound excludes the fastest whatever the floor", limited, 0, 125, 0},
		{"a bound is what is spent", wide, 0.95, 1000 / (8 - 3*0.03/0.08), 3 / 0.08},
	} {
		tables := schedtest.Compile(t, sched.System{Accelerators: []string{"a"}, Models: []sched.Model{c.model}})
		got := testkit.Must(fluid.CapacityAt(tables, []float64{1}, []float64{c.floor}))(t)
		price := 0.0
		if got.Accuracy != nil {
			price = got.Accuracy[0] * 1000
		}
		if math.Abs(got.Scale/c.capacity-1) > 2e-6 || math.Abs(price-c.price) > 1e-6*c.price {
			t.Errorf("%s: capacity %v at an accuracy price of %v ms, want %v at %v ms", c.name, got.Scale, price, c.capacity,
				c.price)
		}
	}
}

// TestFloorsPrefix: a set that no request can get to through valid ones is no help.
func TestFloorsPrefix(t *testing.T) {
	const ms = time.Millisecond
	layer := func(variant int) sched.Layer {
		return sched.Layer{Implementations: []sched.Implementation{{Latency: []time.Duration{10 * ms}},
			{Variant: variant, Latency: []time.Duration{5 * ms}}}}
	}
	m := sched.Model{Name: "m", Deadline: time.Second, Variants: 2, Layers: []sched.Layer{layer(1), layer(2)},
		Valid: []sched.VariantSet{3}, Accuracy: []float64{1}}
	for _, c := range []struct {
		valid    []sched.VariantSet
		capacity float64
	}{{[]sched.VariantSet{3}, 50}, {[]sched.VariantSet{3, 2}, 1000 / 15.}, {[]sched.VariantSet{3, 1}, 100}} {
		m.Valid, m.Accuracy = c.valid, []float64{1, 1}[:len(c.valid)]
		tables := schedtest.Compile(t, sched.System{Accelerators: []string{"a"}, Models: []sched.Model{m}})
		got := testkit.Must(fluid.CapacityAt(tables, []float64{1}, []float64{0.9}))(t)
		if math.Abs(got.Scale/c.capacity-1) > 2e-6 {
			t.Errorf("valid %v: capacity %v, want %v", c.valid, got.Scale, c.capacity)
		}
	}
}

// manyVariants is a workload of five models of 20 layers with three variants each, more than can be listed.
func manyVariants(accs int) sched.System {
	rng, sys := rand.New(rand.NewPCG(1, 2)), schedtest.Workload(accs, 1)
	for i := range sys.Models {
		m := &sys.Models[i]
		m.Valid, m.MaxLoss = nil, 0.1
		for l := range m.Layers {
			all := &m.Layers[l].Implementations
			for range 3 {
				m.Variants++
				im, faster := sched.Implementation{Variant: m.Variants}, 1+rng.Float64()
				for _, c := range (*all)[0].Latency {
					im.Latency = append(im.Latency, time.Duration(float64(c)/faster))
				}
				*all, m.Loss = append(*all, im), append(m.Loss, rng.Float64()*0.03)
			}
		}
	}
	return sys
}

// TestFloorsLarge: both sides agree where there are more combinations than anybody can write out.
func TestFloorsLarge(t *testing.T) {
	sequential.Skip(t)
	for _, accs := range []int{2, 8} {
		tables := schedtest.Compile(t, manyVariants(accs))
		for _, f := range []float64{0.999, 0.99, 0.95, 0.9, 0} {
			c := testkit.Must(fluid.CapacityAt(tables, []float64{1, 2, 3, 4, 5}, fluid.Same(tables, f)))(t)
			if c.Scale > c.Bound*(1+1e-12) || c.Bound > c.Scale*(1+2e-6) {
				t.Errorf("%d accelerators, floor %v: scale %v, bound %v", accs, f, c.Scale, c.Bound)
			}
		}
	}
}

// BenchmarkCapacityAt is the cost of one floor for 100 layers with 300 variants on 4 accelerators.
func BenchmarkCapacityAt(b *testing.B) {
	tables := schedtest.Compile(b, manyVariants(4))
	for b.Loop() {
		testkit.Must(fluid.CapacityAt(tables, []float64{10, 20, 30, 40, 50}, fluid.Same(tables, 0.99)))(b)
	}
}

// sharedVariants is a workload of five models of 20 layers that share two variants each, whose loss is bounded.
func sharedVariants() sched.System {
	rng, sys := rand.New(rand.NewPCG(1, 2)), schedtest.Workload(4, 3)
	for i := range sys.Models {
		m := &sys.Models[i]
		m.Floor, m.Valid, m.MaxLoss = 0.99, nil, 0.05
		for range m.Variants {
			m.Loss = append(m.Loss, 0.03*rng.Float64())
		}
	}
	return sys
}

// BenchmarkPrice is the cost of prices where layers share variants.
func BenchmarkPrice(b *testing.B) {
	tables := schedtest.Compile(b, sharedVariants())
	for b.Loop() {
		testkit.Must(fluid.PricesOf(tables))(b)
	}
}

// TestFloorsShared: both sides agree where many layers share variants.
func TestFloorsShared(t *testing.T) {
	tables := schedtest.Compile(t, sharedVariants())
	for _, f := range []float64{0.999, 0.99, 0.95, 0} {
		c := testkit.Must(fluid.CapacityAt(tables, []float64{1, 2, 3, 4, 5}, fluid.Same(tables, f)))(t)
		if c.Scale > c.Bound*(1+1e-12) || c.Bound > c.Scale*(1+2e-6) {
			t.Errorf("floor %v: scale %v, bound %v", f, c.Scale, c.Bound)
		}
	}
}

func TestFloorsRefused(t *testing.T) {
	tables := schedtest.Compile(t, capacitySystem([]time.Duration{1}))
	testkit.Refused(fluid.CapacityAt(tables, []float64{1}, []float64{1, 1}))(t, "2 accuracy floors for 1 models")
	for _, floor := range []float64{-0.1, 1.1, math.NaN()} {
		testkit.Refused(fluid.CapacityAt(tables, []float64{1}, []float64{floor}))(t, "must be 0 to 1")
	}
}

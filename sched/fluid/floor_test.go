package fluid_test

import (
	"math"
	"slices"
	"testing"

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
						d.variable(0, map[int]float64{row: 1, load[k]: rates[i] * latency.Seconds()})
					}
				}
			}
			d.variable(0, of)
		}
	}
	return 1 / d.solve(t)
}

// spending draws a system whose models may have accuracies, measured or bounded, rates and floors for it.
func spending(t *rapid.T) (*sched.Tables, []float64, []float64) {
	sys := schedtest.System(t)
	sys.Models = sys.Models[:min(2, len(sys.Models))]
	var rates, floors []float64
	for i := range sys.Models {
		m := &sys.Models[i]
		for range m.Variants * schedtest.Number(t, 3, "more sets") {
			m.Valid = append(m.Valid, sched.VariantSet(schedtest.Number(t, 1<<m.Variants, "set")))
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
	return schedtest.Compile(t, sys), rates, floors
}

// TestCapacityAtExact holds the capacity with variants against an exact solver.
func TestCapacityAtExact(t *testing.T) {
	schedtest.CheckSome(t, 5, func(t *rapid.T) {
		tables, rates, floors := spending(t)
		got := testkit.Must(fluid.CapacityAt(tables, rates, floors))(t)
		want := exactCapacityAt(t, tables, rates, floors)
		if got.Scale > want*(1+1e-9) || got.Bound < want*(1-1e-9) || got.Bound > got.Scale*(1+2e-6) {
			t.Fatalf("capacity %v is not between the certificates %v and %v", want, got.Scale, got.Bound)
		}
		checkPrices(t, tables, rates, floors, got)
	})
}

// checkPrices checks that the prices prove the bound: no combination is cheaper.
func checkPrices(t testkit.T, tables *sched.Tables, rates, floors []float64, c fluid.Capacity) {
	t.Helper()
	sum := 0.0
	for i := range tables.System().Models {
		m := &tables.System().Models[i]
		accuracy, low := 0.0, math.Inf(1)
		if c.Accuracy != nil {
			accuracy = c.Accuracy[i]
		}
		for _, x := range combinations(tables, i, floors[i]) {
			cost := accuracy * (x.loss - (1 - floors[i]))
			for l, im := range x.implementations {
				least := math.Inf(1)
				for k, latency := range m.Layers[l].Implementations[im].Latency {
					if latency != sched.Unavailable {
						least = min(least, c.Prices[k]*latency.Seconds())
					}
				}
				cost += least
			}
			low = min(low, cost)
		}
		sum += rates[i] * low
	}
	if math.Abs(c.Bound*sum-1) > 1e-9 {
		t.Fatalf("the prices %v and %v prove %v, not the bound %v", c.Prices, c.Accuracy, 1/sum, c.Bound)
	}
}

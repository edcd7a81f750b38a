package fluid_test

import (
	"math"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/sequential"
	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/fluid"
	"github.com/terastal/terastal/sched/internal/schedtest"
	"pgregory.net/rapid"
)

// route is a path written out: the load per request on every accelerator, what it loses and how long it takes.
type route struct {
	load []float64
	loss float64
	time time.Duration
}

// routes enumerates all paths of a model: combinations, and an accelerator for each layer. Where handoffs are paid for they
// are part of the load.
func routes(t *sched.Tables, model int, floor float64, pays bool) []route {
	sys, table := t.System(), t.Model(int32(model))
	var out []route
	for _, c := range combinations(t, model, floor) {
		var from func(l, at int, r route)
		from = func(l, at int, r route) {
			if l == len(c.implementations) {
				out = append(out, r)
				return
			}
			j := sched.Job{Layer: int32(l), At: int32(at)}
			for k := range sys.Accelerators {
				takes := table.Latency(int32(l), int32(c.implementations[l]))[k]
				if takes >= sched.Never {
					continue
				}
				cost := table.Cost(&j, int32(c.implementations[l]), k)
				next := route{slices.Clone(r.load), r.loss, r.time + cost}
				if pays {
					takes = cost
				}
				next.load[k] += takes.Seconds()
				from(l+1, k, next)
			}
		}
		from(0, sched.Idle, route{make([]float64, len(sys.Accelerators)), c.loss, 0})
	}
	return out
}

// inTime are the routes that count: those that meet the deadline, or all where no originals do.
func inTime(t *sched.Tables, model int, floor float64, pays bool) []route {
	late := func(r route) bool { return r.time > t.System().Models[model].Deadline }
	all := routes(t, model, floor, pays)
	if originals := routes(t, model, 1, pays); !slices.ContainsFunc(originals, func(r route) bool { return !late(r) }) {
		return all
	}
	return slices.DeleteFunc(all, late)
}

// exactWithin solves the program of all paths that meet their deadline.
func exactWithin(t testkit.T, tables *sched.Tables, rates, floors []float64, pays bool) float64 {
	var d dense
	var load []int
	z := map[int]float64{}
	for k := range tables.System().Accelerators {
		load = append(load, d.row(0))
		z[load[k]] = -1
		d.variable(0, map[int]float64{load[k]: 1})
	}
	d.variable(1, z)
	unit := 0.0 // so that the solver gets numbers near 1
	for i := range rates {
		for _, r := range inTime(tables, i, floors[i], pays) {
			unit = max(unit, rates[i]*slices.Max(r.load))
		}
	}
	for i := range rates {
		all, share := d.row(1), d.row(1-floors[i])
		d.variable(0, map[int]float64{share: 1})
		for _, r := range inTime(tables, i, floors[i], pays) {
			rows := map[int]float64{all: 1, share: r.loss}
			for k, x := range r.load {
				rows[load[k]] = rates[i] * x / unit
			}
			d.variable(0, rows)
		}
	}
	return 1 / (d.solve(t) * unit)
}

// boundWithin is what prices prove, by the cheapest of all paths.
func boundWithin(tables *sched.Tables, rates, floors, prices, accuracies []float64) float64 {
	sum := 0.0
	for i := range rates {
		accuracy, low := 0.0, math.Inf(1)
		if accuracies != nil {
			accuracy = accuracies[i]
		}
		for _, r := range inTime(tables, i, floors[i], false) {
			cost := accuracy * (r.loss - (1 - floors[i]))
			for k, x := range r.load {
				cost += prices[k] * x
			}
			low = min(low, cost)
		}
		sum += rates[i] * low
	}
	return 1 / sum
}

// moving makes changes of the accelerator cost time more often.
func moving(t *rapid.T, sys *sched.System) {
	for i := range sys.Models {
		unit := max(1, sys.Models[i].Deadline/8)
		for l := range sys.Models[i].Layers {
			if schedtest.Chance(t, 50, "free") {
				continue
			}
			var handoff [][]time.Duration
			for from := range sys.Accelerators {
				row := make([]time.Duration, len(sys.Accelerators))
				for to := range row {
					if to != from {
						row[to] = unit * time.Duration(schedtest.Number(t, 4, "handoff"))
					}
				}
				handoff = append(handoff, row)
			}
			sys.Models[i].Layers[l].Handoff = handoff
		}
	}
}

// TestCapacityWithinDeadlines holds the capacity against a solver that has all paths written out, with handoffs and
// variants. It is never above the capacity without deadlines, and the prices prove its bound.
func TestCapacityWithinDeadlines(t *testing.T) {
	schedtest.CheckSome(t, 10, func(t *rapid.T) {
		sys, rates, floors := hurriedSpending(t)
		if len(sys.Accelerators) > 3 {
			t.Skip("too much to write out")
		}
		if schedtest.Chance(t, 30, "originals") {
			floors = fluid.Same(schedtest.Compile(t, sys), 1)
		}
		if schedtest.Chance(t, 50, "moving") {
			moving(t, &sys)
		}
		tables := schedtest.Compile(t, sys)
		got := testkit.Must(fluid.CapacityAt(tables, rates, floors))(t)
		want := exactWithin(t, tables, rates, floors, false)
		if got.Scale > want*(1+2e-6) || got.Bound < want*(1-1e-9) || got.Bound > got.Scale*(1+3e-6) {
			t.Fatalf("capacity %v is not between the certificates %v and %v", want, got.Scale, got.Bound)
		}
		if proof := boundWithin(tables, rates, floors, got.Prices, got.Accuracy); proof < got.Bound*(1-1e-9) &&
			proof < want*(1-1e-9) || proof > got.Bound*(1+1e-6) {
			t.Fatalf("the prices %v and %v prove %v, not the bound %v", got.Prices, got.Accuracy, proof, got.Bound)
		}
		free := testkit.Must(fluid.CapacityAt(schedtest.Compile(t, unhurried(sys)), rates, floors))(t)
		if got.Scale > free.Scale*(1+1e-6) || got.Bound > free.Bound {
			t.Fatalf("%+v with deadlines, %+v without", got, free)
		}
		if want > free.Scale*(1-1e-9) && !reflect.DeepEqual(got, free) {
			t.Fatalf("no deadline binds, but %+v with them, %+v without", got, free)
		}
	})
}

// TestHopeless holds the models that meet their deadline nowhere against all their paths written out.
func TestHopeless(t *testing.T) {
	schedtest.CheckSome(t, 10, func(t *rapid.T) {
		sys, _, floors := hurriedSpending(t)
		moving(t, &sys)
		for i := range sys.Models {
			sys.Models[i].Deadline = max(1, sys.Models[i].Deadline/2)
			if sys.Models[i].Variants > 0 {
				sys.Models[i].Floor = floors[i]
			}
		}
		tables := schedtest.Compile(t, sys)
		var want []fluid.Needed
		for i := range sys.Models {
			floor := 0.0
			if sys.Models[i].Floor == 1 {
				floor = 1
			}
			quickest := slices.MinFunc(routes(tables, i, floor, false), func(a, b route) int { return int(a.time - b.time) })
			if quickest.time > sys.Models[i].Deadline {
				want = append(want, fluid.Needed{Model: i, Needs: quickest.time})
			}
		}
		testkit.Equal(t, want, fluid.Hopeless(tables))
	})
}

// TestCapacityPaying is the same where handoffs occupy accelerators. It is never above the capacity where they do not.
func TestCapacityPaying(t *testing.T) {
	schedtest.CheckSome(t, 10, func(t *rapid.T) {
		sys, rates, _ := hurriedSpending(t)
		if len(sys.Accelerators) > 3 {
			t.Skip("too much to write out")
		}
		moving(t, &sys)
		tables := schedtest.Compile(t, sys)
		got := testkit.Must(fluid.CapacityPaying(tables, rates))(t)
		want := exactWithin(t, tables, rates, fluid.Same(tables, 1), true)
		if got.Scale > want*(1+2e-6) || got.Bound < want*(1-1e-9) || got.Bound > got.Scale*(1+3e-6) {
			t.Fatalf("capacity %v is not between the certificates %v and %v", want, got.Scale, got.Bound)
		}
		if free := testkit.Must(fluid.CapacityOf(tables, rates))(t); got.Scale > free.Bound*(1+1e-9) {
			t.Fatalf("%+v where handoffs are paid for, %+v where they are free", got, free)
		}
	})
}

// TestDeadlinesByHand: systems in which it is plain what deadlines leave.
func TestDeadlinesByHand(t *testing.T) {
	const ms = time.Millisecond
	two := capacitySystem([]time.Duration{ms, 10 * ms}, []time.Duration{ms, 10 * ms})
	moved := capacitySystem([]time.Duration{ms, 10 * ms}, []time.Duration{10 * ms, ms})
	moved.Models[0].Layers[1].Handoff = [][]time.Duration{{0, 10 * ms}, {0, 0}}
	streams := capacitySystem([]time.Duration{12 * ms, 12 * ms, 9 * ms})
	streams.Devices = []sched.Device{{Name: "gpu", Accelerators: []int{0, 1}, Contention: []float64{0, 0.5}}}
	for _, c := range []struct {
		name     string
		sys      sched.System
		deadline time.Duration
		capacity float64 // requests per second
	}{
		{"time enough: the slow one helps", two, 20 * ms, 500 + 50},
		{"one layer on the slow one: it helps as much", two, 11 * ms, 500 + 50},
		{"no time for the slow one", two, 11*ms - 1, 500},
		{"no time at all counts as enough", two, 2*ms - 1, 500 + 50},
		{"a handoff in time", moved, 12 * ms, 1000},
		{"no time for the handoff", moved, 12*ms - 1, 2000 / 11.},
		{"a stream alone is quicker than its latency", streams, 8 * ms, 2000 / 12.},
	} {
		c.sys.Models[0].Deadline = c.deadline
		got := testkit.Must(fluid.CapacityOf(schedtest.Compile(t, c.sys), []float64{1}))(t)
		if math.Abs(got.Scale/c.capacity-1) > 2e-6 || math.Abs(got.Bound/c.capacity-1) > 2e-6 {
			t.Errorf("%s: capacity %v to %v, want %v", c.name, got.Scale, got.Bound, c.capacity)
		}
	}
}

// TestWithinLarge: both sides agree where there are more paths than anybody can write out: accelerators that differ, with
// and without handoffs and variants, and deadlines that leave more and less time.
func TestWithinLarge(t *testing.T) {
	sequential.Skip(t)
	const us = time.Microsecond
	for name, sys := range map[string]sched.System{"originals": schedtest.Workload(4, 1), "own variants": manyVariants(4),
		"shared variants": sharedVariants()} {
		for i := range sys.Models {
			for l := range sys.Models[i].Layers {
				layer := &sys.Models[i].Layers[l]
				for j := range layer.Implementations {
					layer.Implementations[j].Latency[2] *= time.Duration(5 + l%7)
					layer.Implementations[j].Latency[3] *= time.Duration(5 + l%11)
				}
			}
		}
		tables := schedtest.Compile(t, sys) // deadlines are multiples of the least time without handoffs
		for i := range sys.Models {
			for l := range sys.Models[i].Layers {
				if name != "own variants" {
					sys.Models[i].Layers[l].Handoff = [][]time.Duration{{0, 9 * us, 9 * us, 9 * us}, {9 * us, 0, 9 * us, 9 * us},
						{9 * us, 9 * us, 0, 0}, {0, 0, 0, 0}}
				}
			}
		}
		before := math.Inf(1)
		for _, tight := range []float64{100, 3, 1.5, 1.2, 1.05} {
			for i := range sys.Models {
				sys.Models[i].Deadline = time.Duration(tight * float64(tables.Model(int32(i)).Remaining(0)))
			}
			c := testkit.Must(fluid.CapacityAt(schedtest.Compile(t, sys), []float64{1, 2, 3, 4, 5}, fluid.Same(tables, 0.99)))(t)
			if c.Scale > c.Bound*(1+1e-12) || c.Bound > c.Scale*1.01 || c.Scale > before*(1+1e-6) {
				t.Errorf("%s at %v times the least time: scale %v, bound %v, with longer deadlines at most %v", name, tight, c.Scale,
					c.Bound, before)
			}
			before = c.Bound
		}
		if free := testkit.Must(fluid.CapacityAt(tables, []float64{1, 2, 3, 4, 5}, fluid.Same(tables, 0.99)))(t); before >
			free.Scale*0.99 {
			t.Errorf("%s: %v is not below the capacity with time enough, %v", name, before, free.Scale)
		}
	}
}

// BenchmarkCapacityWithin is the cost for 100 layers on 4 accelerators, two of them slower, where deadlines bind.
func BenchmarkCapacityWithin(b *testing.B) {
	sys := schedtest.Workload(4, 1)
	tables := schedtest.Compile(b, sys)
	for i := range sys.Models {
		for l := range sys.Models[i].Layers {
			latency := sys.Models[i].Layers[l].Implementations[0].Latency
			latency[2], latency[3] = 9*latency[2], 12*latency[3]
		}
		sys.Models[i].Deadline = tables.Model(int32(i)).Remaining(0) * 3 / 2
	}
	tables = schedtest.Compile(b, sys)
	for b.Loop() {
		testkit.Must(fluid.CapacityOf(tables, []float64{10, 20, 30, 40, 50}))(b)
	}
}

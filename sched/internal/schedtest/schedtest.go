// Package schedtest draws task systems for the tests of sched and the packages
// under it, and has plain forms of what they compute.
package schedtest

import (
	"flag"
	"fmt"
	"math/big"
	"math/rand/v2"
	"slices"
	"sort"
	"strconv"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/sequential"
	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/traffic"
	"pgregory.net/rapid"
)

var Cases = flag.Int("cases", 5000, "random systems per policy and property (a tenth of it with -short)")

// CheckN runs a property on n random Cases; under the race detector, which finds
// nothing where there are no goroutines, on a twentieth of them.
func CheckN(t *testing.T, n int, property func(*rapid.T)) {
	t.Helper()
	if sequential.Race {
		n /= 20
	}
	checks := flag.Lookup("rapid.checks")
	before := checks.Value.String()
	testkit.OK(t, checks.Value.Set(strconv.Itoa(max(1, n))))
	defer checks.Value.Set(before)
	rapid.Check(t, property)
}

// Check runs a property on -Cases random Cases.
func Check(t *testing.T, property func(*rapid.T)) {
	t.Helper()
	CheckSome(t, 1, property)
}

// CheckSome runs a property on one in so many of -Cases random Cases.
func CheckSome(t *testing.T, in int, property func(*rapid.T)) {
	t.Helper()
	n := *Cases / in
	if testing.Short() {
		n /= 10
	}
	CheckN(t, n, property)
}

// Number draws an integer from 0 to n-1.
func Number(t *rapid.T, n int, label string) int { return rapid.IntRange(0, n-1).Draw(t, label) }

// Chance draws true with probability percent/100.
func Chance(t *rapid.T, percent int, label string) bool {
	return Number(t, 20, label) >= 20-percent/5
}

// System draws a small task system. Latencies are few multiples of the unit,
// so that ties, exact fits and impossible deadlines are all common.
func System(t *rapid.T) sched.System {
	unit := rapid.SampledFrom([]time.Duration{time.Millisecond, time.Millisecond, 333}).Draw(t, "unit")
	var sys sched.System
	for k := range 1 + Number(t, 4, "accelerators") {
		sys.Accelerators = append(sys.Accelerators, fmt.Sprintf("acc%d", k))
	}
	for m := range 1 + Number(t, 3, "models") {
		sys.Models = append(sys.Models, Model(t, fmt.Sprintf("m%d", m), len(sys.Accelerators), unit))
	}
	return sys
}

func Model(t *rapid.T, name string, accs int, unit time.Duration) sched.Model {
	m := sched.Model{Name: name}
	var work time.Duration
	for l := range 1 + Number(t, 4, "layers") {
		layer := sched.Layer{Name: fmt.Sprintf("l%d", l),
			Implementations: []sched.Implementation{{Name: "original", Latency: drawLatency(t, accs, unit)}}}
		for range Number(t, 3, "variants") {
			v := 1 + Number(t, m.Variants+1, "variant")
			m.Variants = max(m.Variants, v)
			layer.Implementations = append(layer.Implementations,
				sched.Implementation{Name: fmt.Sprint("v", v), Variant: v, Latency: drawLatency(t, accs, unit)})
		}
		if Chance(t, 40, "handoff") {
			for range accs {
				row := make([]time.Duration, accs)
				for k := range row {
					row[k] = time.Duration(Number(t, 3, "cost")) * unit
				}
				layer.Handoff = append(layer.Handoff, row)
			}
		}
		work += slices.Max(layer.Implementations[0].Latency)
		m.Layers = append(m.Layers, layer)
	}
	for range Number(t, 6, "valid sets") {
		if set := sched.VariantSet(Number(t, 64, "set")) & (1<<m.Variants - 1); !slices.Contains(m.Valid, set) {
			m.Valid = append(m.Valid, set)
		}
	}
	m.Deadline = max(unit, work*time.Duration(1+Number(t, 8, "tightness"))/4)
	return m
}

// drawLatency draws latencies of which at least one is available.
func drawLatency(t *rapid.T, accs int, unit time.Duration) []time.Duration {
	out := make([]time.Duration, accs)
	sure := Number(t, accs, "sure")
	for k := range out {
		if out[k] = time.Duration(1+Number(t, 8, "latency")) * unit; k != sure && Chance(t, 15, "unavailable") {
			out[k] = sched.Unavailable
		}
	}
	return out
}

// Arrivals draws releases within a time in which they queue up.
func Arrivals(t *rapid.T, sys *sched.System) []traffic.Arrival {
	unit := sys.Models[0].Deadline / 8
	var out []traffic.Arrival
	var now time.Duration
	for range Number(t, 16, "arrivals") {
		now += time.Duration(Number(t, 4, "gap")) * unit
		out = append(out, traffic.Arrival{At: now, Model: Number(t, len(sys.Models), "model")})
	}
	return out
}

// RichSystem draws a system that may have energies, triggers and additive accuracy bounds, too.
func RichSystem(t *rapid.T) sched.System {
	sys := System(t)
	for m := range sys.Models {
		model := &sys.Models[m]
		if Chance(t, 40, "energy") {
			for range model.Layers {
				row := make([]float64, len(sys.Accelerators))
				for k := range row {
					row[k] = float64(Number(t, 5, "energy"))
				}
				model.Energy = append(model.Energy, row)
			}
		}
		if m > 0 && Chance(t, 25, "trigger") {
			model.Trigger = &sched.Trigger{Parent: sys.Models[Number(t, m, "parent")].Name,
				Probability: []float64{0.25, 0.5, 1}[Number(t, 3, "probability")]}
		}
		if model.Variants > 0 && Chance(t, 30, "bound") {
			model.Valid, model.MaxLoss = nil, float64(Number(t, 16, "most"))/64
			for range model.Variants {
				model.Loss = append(model.Loss, float64(Number(t, 8, "loss"))/64)
			}
		}
	}
	return sys
}

// Floors draws accuracy floors for a system, and what sets of variants keep of the accuracy: more with more variants,
// more than all of it, or nobody knows.
func Floors(t *rapid.T, sys *sched.System) {
	for m := range sys.Models {
		model := &sys.Models[m]
		if model.Variants == 0 {
			continue
		}
		model.Floor = rapid.SampledFrom([]float64{0, 0.25, 0.5, 0.9, 0.9776, 0.99, 1}).Draw(t, "floor")
		if model.Loss != nil || Chance(t, 10, "unknown") {
			continue
		}
		slices.Sort(model.Valid)
		for range model.Valid {
			model.Accuracy = append(model.Accuracy,
				rapid.SampledFrom([]float64{0.5, 0.9, 0.95, 0.97, 31.0 / 32, 0.999, 1, 1.02}).Draw(t, "accuracy"))
		}
	}
}

// Devices draws devices for a system: some accelerators share one, some have one alone, some none. Leads are shorter and
// longer than layers.
func Devices(t *rapid.T, sys *sched.System) {
	unit := sys.Models[0].Layers[0].Implementations[0].Latency
	least := max(2, slices.Max(unit)) / 2
	var of [3][]int
	for k := range sys.Accelerators {
		if d := Number(t, 4, "device"); d < 3 {
			of[d] = append(of[d], k)
		}
	}
	for d, accs := range of {
		if accs == nil {
			continue
		}
		device := sched.Device{Name: fmt.Sprint("device", d), Accelerators: accs,
			Lead: least * time.Duration(Number(t, 4, "lead")) / 2}
		var idle time.Duration
		for range Number(t, 3, "wakings") {
			idle += least * time.Duration(1+Number(t, 3, "idle"))
			device.Waking = append(device.Waking, sched.Waking{Idle: idle, Extra: least * time.Duration(Number(t, 4, "extra")) / 2})
		}
		for n := range Number(t, 4, "contention") {
			device.Contention = append(device.Contention, float64(n*Number(t, 3, "slower"))/2)
		}
		sys.Devices = append(sys.Devices, device)
	}
}

// Workload is a system of several models with the given numbers of accelerators and implementations, from a fixed seed.
func Workload(accs, implementations int) sched.System {
	rng := rand.New(rand.NewPCG(1, 2))
	var sys sched.System
	for k := range accs {
		sys.Accelerators = append(sys.Accelerators, fmt.Sprint("acc", k))
	}
	for m := range 5 {
		model := sched.Model{Name: fmt.Sprint("m", m), Variants: implementations - 1}
		for l := range 20 {
			layer := sched.Layer{Name: fmt.Sprint("l", l)}
			for i := range implementations {
				im := sched.Implementation{Name: fmt.Sprint("i", i), Variant: i}
				for range accs {
					im.Latency = append(im.Latency, time.Duration(100+rng.IntN(900))*time.Microsecond/time.Duration(1+i))
				}
				layer.Implementations = append(layer.Implementations, im)
			}
			model.Layers = append(model.Layers, layer)
			model.Deadline += slices.Max(layer.Implementations[0].Latency) * 8 / 10
		}
		for set := range sched.VariantSet(1) << model.Variants {
			model.Valid = append(model.Valid, set)
		}
		sys.Models = append(sys.Models, model)
	}
	return sys
}

func Compile(t testkit.T, sys sched.System) *sched.Tables {
	t.Helper()
	return testkit.Must(sched.Compile(sys))(t)
}

// VirtualDeadline is the release plus the shares of the job's window that
// Algorithm 1 gives the layers up to the current one.
func VirtualDeadline(sys *sched.System, j sched.Job) time.Duration {
	selected := SelectLevels(sys.Models[j.Model])
	upTo, all := new(big.Int), new(big.Int)
	for l, c := range selected {
		all.Add(all, big.NewInt(int64(c)))
		if l <= int(j.Layer) {
			upTo.Add(upTo, big.NewInt(int64(c)))
		}
	}
	share := big.NewInt(int64(j.Deadline - j.Release))
	share.Mul(share, upTo).Quo(share, all)
	return j.Release + time.Duration(share.Int64())
}

// SelectLevels is Algorithm 1 up to the division: the latency of each layer's original at the first level at which
// their sum fits the deadline, or at the last.
func SelectLevels(m sched.Model) []time.Duration {
	for rho := 1; ; rho++ {
		var selected []time.Duration
		var sum time.Duration
		more := false
		for _, layer := range m.Layers {
			distinct := map[time.Duration]bool{}
			var slowestFirst []time.Duration
			for _, c := range layer.Implementations[0].Latency {
				if c != sched.Unavailable && !distinct[c] {
					distinct[c] = true
					slowestFirst = append(slowestFirst, c)
				}
			}
			sort.Slice(slowestFirst, func(a, b int) bool { return slowestFirst[a] > slowestFirst[b] })
			c := slowestFirst[min(rho, len(slowestFirst))-1]
			more = more || rho < len(slowestFirst)
			selected = append(selected, c)
			sum += c
		}
		if sum <= m.Deadline || !more {
			return selected
		}
	}
}

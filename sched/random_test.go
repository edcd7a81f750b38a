package sched_test

import (
	"flag"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/traffic"
	"pgregory.net/rapid"
)

var cases = flag.Int("cases", 5000, "random systems per policy and property (a tenth of it with -short)")

// check runs a property on -cases random cases.
func check(t *testing.T, property func(*rapid.T)) {
	t.Helper()
	checkSome(t, 1, property)
}

// checkSome runs a property on one in so many of -cases random cases.
func checkSome(t *testing.T, in int, property func(*rapid.T)) {
	t.Helper()
	n := *cases / in
	if testing.Short() {
		n /= 10
	}
	checkN(t, n, property)
}

// number draws an integer from 0 to n-1.
func number(t *rapid.T, n int, label string) int {
	return rapid.IntRange(0, n-1).Draw(t, label)
}

// chance draws true with probability percent/100.
func chance(t *rapid.T, percent int, label string) bool {
	return number(t, 20, label) >= 20-percent/5
}

// drawSystem draws a small task system. Latencies are few multiples of the unit,
// so that ties, exact fits and impossible deadlines are all common.
func drawSystem(t *rapid.T) sched.System {
	unit := rapid.SampledFrom([]time.Duration{time.Millisecond, time.Millisecond, 333}).Draw(t, "unit")
	var sys sched.System
	for k := range 1 + number(t, 4, "accelerators") {
		sys.Accelerators = append(sys.Accelerators, fmt.Sprintf("acc%d", k))
	}
	for m := range 1 + number(t, 3, "models") {
		sys.Models = append(sys.Models, drawModel(t, fmt.Sprintf("m%d", m), len(sys.Accelerators), unit))
	}
	return sys
}

func drawModel(t *rapid.T, name string, accs int, unit time.Duration) sched.Model {
	m := sched.Model{Name: name}
	var work time.Duration
	for l := range 1 + number(t, 4, "layers") {
		layer := sched.Layer{Name: fmt.Sprintf("l%d", l), Implementations: []sched.Implementation{{Name: "original", Latency: drawLatency(t, accs, unit)}}}
		for range number(t, 3, "variants") {
			v := 1 + number(t, m.Variants+1, "variant")
			m.Variants = max(m.Variants, v)
			layer.Implementations = append(layer.Implementations, sched.Implementation{Name: fmt.Sprint("v", v), Variant: v, Latency: drawLatency(t, accs, unit)})
		}
		if chance(t, 20, "handoff") {
			for range accs {
				row := make([]time.Duration, accs)
				for k := range row {
					row[k] = time.Duration(number(t, 3, "cost")) * unit
				}
				layer.Handoff = append(layer.Handoff, row)
			}
		}
		work += slices.Max(layer.Implementations[0].Latency)
		m.Layers = append(m.Layers, layer)
	}
	for range number(t, 6, "valid sets") {
		m.Valid = append(m.Valid, sched.VariantSet(number(t, 64, "set"))&(1<<m.Variants-1))
	}
	m.Deadline = max(unit, work*time.Duration(1+number(t, 8, "tightness"))/4)
	return m
}

// drawLatency draws latencies of which at least one is available.
func drawLatency(t *rapid.T, accs int, unit time.Duration) []time.Duration {
	out := make([]time.Duration, accs)
	sure := number(t, accs, "sure")
	for k := range out {
		if out[k] = time.Duration(1+number(t, 8, "latency")) * unit; k != sure && chance(t, 15, "unavailable") {
			out[k] = sched.Unavailable
		}
	}
	return out
}

// drawArrivals draws releases within a time in which they queue up.
func drawArrivals(t *rapid.T, sys *sched.System) []traffic.Arrival {
	unit := sys.Models[0].Deadline / 8
	var out []traffic.Arrival
	var now time.Duration
	for range number(t, 16, "arrivals") {
		now += time.Duration(number(t, 4, "gap")) * unit
		out = append(out, traffic.Arrival{At: now, Model: number(t, len(sys.Models), "model")})
	}
	return out
}

// drawEvents drives the engine with random events that respect its contract.
// Layers take any time, more or less than predicted.
func drawEvents(t *rapid.T, sys *sched.System, engine *sched.Engine) {
	unit := max(1, sys.Models[0].Deadline/8)
	busy := make([]bool, len(sys.Accelerators))
	var now time.Duration
	released := int64(0)
	step := func(ev sched.Event) {
		for _, d := range engine.Step(ev) {
			busy[d.Accelerator] = true
		}
	}
	for range 4 + number(t, 40, "events") {
		now += time.Duration(number(t, 4, "later")) * unit
		k := number(t, len(busy), "accelerator")
		switch what := number(t, 20, "event"); {
		case what < 9 && !busy[k] || what < 3:
			ev := sched.Event{Kind: sched.Release, At: now, Start: now, Job: released, Model: number(t, len(sys.Models), "model")}
			if chance(t, 20, "lag") {
				ev.Start = max(0, now-unit*time.Duration(number(t, 3, "by")))
			}
			if chance(t, 20, "own deadline") {
				ev.Deadline = ev.Start + unit*time.Duration(1+number(t, 16, "window"))
			}
			released++
			step(ev)
		case what < 16 && busy[k]:
			busy[k] = false
			step(sched.Event{Kind: sched.Complete, At: now, Start: now, Accelerator: k})
		case what < 17 && busy[k]:
			busy[k] = false
			step(sched.Event{Kind: sched.Fail, At: now, Accelerator: k, Detail: "drawn"})
		case what == 17:
			step(sched.Event{Kind: sched.AcceleratorDown, At: now, Accelerator: k})
		case what == 18:
			step(sched.Event{Kind: sched.AcceleratorUp, At: now, Accelerator: k})
		case what == 19 && chance(t, 10, "stop"):
			step(sched.Event{Kind: sched.Stop, At: now})
		}
	}
	// To the end: everything that runs completes, what is left is dropped.
	for ran := true; ran; {
		ran = false
		for k := range busy {
			if busy[k] {
				now++
				busy[k], ran = false, true
				step(sched.Event{Kind: sched.Complete, At: now, Start: now, Accelerator: k})
			}
		}
	}
	step(sched.Event{Kind: sched.Stop, At: now})
}

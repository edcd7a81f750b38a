package fluid_test

import (
	"math"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/fluid"
	"github.com/terastal/terastal/sched/internal/schedtest"
	"pgregory.net/rapid"
)

// pathsPaying enumerates what a request of a model can occupy the accelerators for, in seconds, within its deadline;
// all where none meets that.
func pathsPaying(m *sched.Model, accs int) [][]float64 {
	var in, all [][]float64
	var from func(l, at int, on []time.Duration)
	from = func(l, at int, on []time.Duration) {
		if l == len(m.Layers) {
			sum, path := time.Duration(0), []float64{}
			for _, d := range on {
				sum += d
				path = append(path, d.Seconds())
			}
			if all = append(all, path); sum <= m.Deadline {
				in = append(in, path)
			}
			return
		}
		for k, c := range m.Layers[l].Implementations[0].Latency {
			if c == sched.Unavailable {
				continue
			}
			if h := m.Layers[l].Handoff; h != nil && at >= 0 {
				c += h[at][k]
			}
			next := append([]time.Duration(nil), on...)
			next[k] += c
			from(l+1, k, next)
		}
	}
	from(0, -1, make([]time.Duration, accs))
	if len(in) == 0 {
		return all
	}
	return in
}

// TestCapacityPaying holds it against a linear program over all paths, handoffs and deadlines included: exactly where no
// deadline binds, from both sides where one does.
func TestCapacityPaying(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sys, rates := payingSystem(t)
		tables := schedtest.Compile(t, sys)
		got := testkit.Must(fluid.CapacityPaying(tables, rates))(t)
		var d dense
		accs := len(sys.Accelerators)
		load := map[int]float64{}
		for k := range accs {
			load[d.row(0)] = -1
			d.variable(0, map[int]float64{k: 1})
		}
		d.variable(1, load)
		binds := false
		for i := range sys.Models {
			all := pathsPaying(&sys.Models[i], accs)
			one := sys.Models[i]
			one.Deadline = time.Hour
			binds = binds || len(all) < len(pathsPaying(&one, accs))
			row := d.row(1)
			for _, path := range all {
				x := map[int]float64{row: 1}
				for k, s := range path {
					x[k] = s * rates[i]
				}
				d.variable(0, x)
			}
		}
		want := 1 / d.solve(t)
		if got.Scale > want*(1+1e-6) || got.Bound < want*(1-1e-6) {
			t.Fatalf("%v is not between %v and %v", want, got.Scale, got.Bound)
		}
		if !binds && got.Bound > got.Scale*(1+1e-5) {
			t.Fatalf("%v and %v are apart without deadlines", got.Scale, got.Bound)
		}
		free := testkit.Must(fluid.CapacityOf(tables, rates))(t)
		if got.Scale > free.Bound*(1+1e-6) {
			t.Fatalf("%v with handoffs paid for, %v without", got.Scale, free.Bound)
		}
	})
}

// payingSystem draws a tiny system with handoffs and deadlines of about what paths take.
func payingSystem(t *rapid.T) (sys sched.System, rates []float64) {
	number := func(from, to int, label string) int { return rapid.IntRange(from, to).Draw(t, label) }
	accs := number(1, 3, "accelerators")
	for k := range accs {
		sys.Accelerators = append(sys.Accelerators, string(rune('a'+k)))
	}
	for i := range number(1, 2, "models") {
		m := sched.Model{Name: string(rune('m' + i)), Deadline: time.Duration(number(1, 60, "deadline")) * time.Millisecond}
		for range number(1, 4, "layers") {
			var latency []time.Duration
			for range accs {
				latency = append(latency, time.Duration(number(1, 20, "latency"))*time.Millisecond)
			}
			l := sched.Layer{Implementations: []sched.Implementation{{Latency: latency}}}
			for from := range accs {
				row := make([]time.Duration, accs)
				for k := range row {
					if k != from {
						row[k] = time.Duration(number(0, 5, "handoff")) * time.Millisecond
					}
				}
				l.Handoff = append(l.Handoff, row)
			}
			m.Layers = append(m.Layers, l)
		}
		sys.Models, rates = append(sys.Models, m), append(rates, float64(number(1, 50, "rate")))
	}
	return sys, rates
}

// TestCapacityPayingByHand: two accelerators that are each ten times as fast for one of two layers.
func TestCapacityPayingByHand(t *testing.T) {
	const ms = time.Millisecond
	sys := capacitySystem([]time.Duration{ms, 10 * ms}, []time.Duration{10 * ms, ms})
	for _, c := range []struct {
		handoff time.Duration
		scale   float64 // of 100 requests per second
	}{
		{0, 10},
		{ms, 60. / 11},      // the second takes 2 ms for each request, and the first takes over one whole model in twelve
		{20 * ms, 20. / 11}, // whole models on both
	} {
		sys.Models[0].Layers[1].Handoff = [][]time.Duration{{0, c.handoff}, {c.handoff, 0}}
		got := testkit.Must(fluid.CapacityPaying(schedtest.Compile(t, sys), []float64{100}))(t)
		if math.Abs(got.Scale-c.scale) > 1e-3*c.scale || got.Bound < got.Scale || got.Bound > got.Scale*1.001 {
			t.Errorf("handoff %v: %v to %v, want %v", c.handoff, got.Scale, got.Bound, c.scale)
		}
	}
	testkit.Refused(fluid.CapacityPaying(schedtest.Compile(t, sys), nil))(t, "0 rates for 1 models")
}

package fluid_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/fluid"
	"github.com/terastal/terastal/sched/internal/schedtest"
)

// TestSavings: the order, and what is said of each variant.
func TestSavings(t *testing.T) {
	const ms = time.Millisecond
	variant := func(n int, latency ...time.Duration) sched.Implementation {
		return sched.Implementation{Variant: n, Latency: latency}
	}
	layer := func(variants ...sched.Implementation) sched.Layer {
		return sched.Layer{Implementations: append([]sched.Implementation{variant(0, 10*ms, 40*ms)}, variants...)}
	}
	tables := schedtest.Compile(t, sched.System{Accelerators: []string{"a", "b"}, Models: []sched.Model{
		{Name: "measured", Deadline: time.Second, Variants: 5, Valid: []sched.VariantSet{1, 2, 4, 24, 8},
			Accuracy: []float64{0.9, 0.98, 1.01, 1, math.NaN()},
			Layers: []sched.Layer{layer(variant(1, 2*ms, sched.Unavailable), variant(2, 8*ms, 8*ms)),
				layer(variant(3, 9*ms, 40*ms)), layer(variant(4, 4*ms, 40*ms), variant(5, ms, ms))}},
		{Name: "bounded", Deadline: time.Second, Variants: 2, Loss: []float64{0.01, 0.2}, MaxLoss: 0.1,
			Layers: []sched.Layer{layer(variant(1, 12*ms, 44*ms), variant(2, ms, ms))}},
	}})
	var got []string
	// At these prices the originals cost 7.5 ms on the first accelerator and 10 on the second.
	for _, s := range fluid.Savings(tables, []float64{0.75, 0.25}) {
		got = append(got, fmt.Sprintf("%d/%d/%d %.3f ms for %.3f", s.Model, s.Layer, s.Implementation, s.Time*1e3, s.Loss))
	}
	testkit.Equal(t, []string{
		"0/1/1 0.750 ms for 0.000", // better than the original counts as no loss
		"0/0/2 5.500 ms for 0.020",
		"0/0/1 6.000 ms for 0.100",
		"0/2/2 7.250 ms for NaN", // not valid alone
		"1/0/2 7.250 ms for NaN",
		"0/2/1 4.500 ms for NaN", // not measured
		"1/0/1 -1.500 ms for 0.010",
	}, got)
}

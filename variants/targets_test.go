package variants_test

import (
	"slices"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/variants"
)

func TestTargets(t *testing.T) {
	const ms, none = time.Millisecond, sched.Unavailable
	layer := func(latency ...time.Duration) sched.Layer {
		return sched.Layer{Implementations: []sched.Implementation{{Latency: latency}}}
	}
	tables, err := sched.Compile(sched.System{Accelerators: []string{"fast", "slow", "slowest"}, Models: []sched.Model{
		// Level 1 fits: nothing is excluded.
		{Name: "easy", Deadline: 100 * ms, Layers: []sched.Layer{layer(1*ms, 2*ms, 50*ms)}},
		// Level 2 (4 + 3 of 14) gives 8 and 6 ms. Of what level 2 excludes, a is
		// too slow on slowest only, and b, 6 ms there, fits all the same.
		{Name: "tight", Deadline: 14 * ms, Layers: []sched.Layer{layer(2*ms, 4*ms, 12*ms), layer(3*ms, none, 6*ms)}},
		// Level 3 (1 + 1 of 3): on slow and slowest both layers exceed 1.5 ms.
		{Name: "hard", Deadline: 3 * ms, Layers: []sched.Layer{layer(1*ms, 3*ms, 9*ms), layer(1*ms, 2*ms, 6*ms)}},
	}})
	testkit.OK(t, err)
	want := []variants.Target{ // by speedup: 6, 4, 2, 1.5, 1.33
		{Model: 2, Layer: 0, Accelerator: 2, Latency: 9 * ms, Selected: ms, Budget: 1500 * time.Microsecond},
		{Model: 2, Layer: 1, Accelerator: 2, Latency: 6 * ms, Selected: ms, Budget: 1500 * time.Microsecond},
		{Model: 2, Layer: 0, Accelerator: 1, Latency: 3 * ms, Selected: ms, Budget: 1500 * time.Microsecond},
		{Model: 1, Layer: 0, Accelerator: 2, Latency: 12 * ms, Selected: 4 * ms, Budget: 8 * ms},
		{Model: 2, Layer: 1, Accelerator: 1, Latency: 2 * ms, Selected: ms, Budget: 1500 * time.Microsecond},
	}
	got := variants.Targets(tables)
	if !slices.Equal(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
	for i, speedup := range []float64{6, 4, 2, 1.5, 4.0 / 3} {
		if s := got[i].Speedup(); s < speedup-1e-9 || s > speedup+1e-9 {
			t.Errorf("target %d: speedup %v, want %v", i, s, speedup)
		}
	}
}

package profiler_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
)

// A calibration finds what layers take on accelerators that all work, without the variants and without whole models, and
// how much more streams get done. A layer that does not run somewhere, and an accelerator that does not open, are said.
func TestCalibrate(t *testing.T) {
	d := sharing()
	d.contention = []float64{0, 0.1, 0.2, 0.3}
	tk := on(t, d, 1)
	tk.Accelerators[1].Provider = "cuda"
	layers := len(tk.Networks[0].Layers)
	tk.Networks[0].Variants = map[int][]runtime.Unit{0: {{Name: "broken"}}}
	got := testkit.Must(profiler.Calibrate(t.Context(), tk, 4, options(20*time.Millisecond)))(t)
	for l, took := range got[1].Latency[0] {
		want := 50 * us
		if l == 0 || l == layers-1 {
			want = 60 * us // with a copy
		}
		if took != want {
			t.Errorf("layer %d takes %v on the device, want %v", l, took, want)
		}
	}
	if len(got[0].Latency) != 1 || slices.Min(got[0].Latency[0]) <= 0 || got[0].Rates != nil || got[0].Streams() != 1 {
		t.Errorf("on the CPU: %+v", got[0])
	}
	if r := got[1].Rates; len(r) != 3 || r[2] < 2*r[0] || got[1].Streams() != 4 {
		t.Errorf("rates of streams: %v", r)
	}
	if len(tk.Networks[0].Variants) != 1 {
		t.Error("the networks were changed")
	}
	for _, b := range got {
		testkit.OK(t, b.Check([]int{layers}))
		if b.Check([]int{layers + 1}) == nil || b.Check(nil) == nil {
			t.Error("it is of another model")
		}
		b.Rates = []float64{1, 0}
		testkit.Fails(t, b.Check([]int{layers}), "0 requests per second")
		b.Latency[0][0] = 0
		testkit.Fails(t, b.Check([]int{layers}), "a layer of model 0 takes 0s")
	}

	d = sharing()
	d.fails = tk.Networks[0].Layers[2].Name
	tk = on(t, d, 1)
	got = testkit.Must(profiler.Calibrate(t.Context(), tk, 1, options(20*time.Millisecond)))(t)
	if x := got[1].Latency[0]; got[1].Failed == "" && (x[2] != sched.Unavailable || x[1] <= 0) || got[0].Failed != "" {
		t.Errorf("a layer fails: %+v", got[1])
	}
	tk = on(t, sharing(), 1)
	cpu := tk.Open
	tk.Open = func(s runtime.Spec) (runtime.Accelerator, error) {
		if s.Name == "gpu" {
			return nil, errors.New("no driver")
		}
		return cpu(s)
	}
	got = testkit.Must(profiler.Calibrate(t.Context(), tk, 1, options(20*time.Millisecond)))(t)
	if testkit.OK(t, got[1].Check(nil)); got[1].Failed == "" || got[0].Failed != "" || got[0].Latency[0][0] <= 0 {
		t.Errorf("one does not open: %+v", got)
	}
}

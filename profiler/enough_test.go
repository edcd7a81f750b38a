package profiler_test

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/runtime"
)

// What was timed enough is timed no more, on that accelerator; originals are never asked about.
func TestEnough(t *testing.T) {
	tk := task(t)
	n := tk.Networks[0]
	data := testkit.Must(n.Layers[0].ONNX())(t)
	n.Variants = map[int][]runtime.Unit{0: {{Name: "again", ONNX: data, Inputs: n.Layers[0].Inputs,
		Outputs: n.Layers[0].Outputs}}}
	o := options(300 * time.Millisecond)
	var mu sync.Mutex
	asked := map[[4]int]int{}
	o.Enough = func(model, layer, implementation, accelerator int, times []time.Duration) bool {
		mu.Lock()
		defer mu.Unlock()
		asked[[4]int{model, layer, implementation, accelerator}]++
		if !slices.IsSorted(times) || len(times) < 3 {
			t.Errorf("asked with %v", times)
		}
		return accelerator == 0
	}
	p := testkit.Must(profiler.Measure(t.Context(), tk, o))(t)
	count := map[[2]int]int{} // by implementation and accelerator, of the first layer
	for _, c := range p.Cells {
		if c.Layer == 0 {
			count[[2]int{c.Implementation, c.Accelerator}] = c.N
		}
	}
	if stopped := count[[2]int{1, 0}]; stopped < 3 || stopped >= 12 {
		t.Errorf("the variant was timed %d times where that was enough", stopped)
	}
	for _, k := range [][2]int{{0, 0}, {0, 1}, {1, 1}} {
		if count[k] < 12 {
			t.Errorf("implementation %d on accelerator %d was timed %d times", k[0], k[1], count[k])
		}
	}
	if len(asked) != 2 || asked[[4]int{0, 0, 1, 0}] != 1 || asked[[4]int{0, 0, 1, 1}] < 2 {
		t.Errorf("asked about %v", asked)
	}
}

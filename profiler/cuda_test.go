package profiler_test

import (
	"cmp"
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/ort/orttest"
	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/internal/testkit/rig"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/runtime"
)

// The profile of a CUDA device's streams has a time for every layer, captured as a graph, what the streams cost each
// other, and chains that take about as long as their layers. GPU_NETWORKS names other networks of the zoo.
func TestMeasureStreamsCUDA(t *testing.T) {
	orttest.CUDA(t)
	runtime.RoomFor(8)
	tk := profiler.Task{Accelerators: append([]runtime.Spec{{Name: "cpu"}},
		runtime.Spec{Name: "gpu", Provider: "cuda"}.Streams(4)...)}
	for name := range strings.FieldsSeq(cmp.Or(os.Getenv("GPU_NETWORKS"), "ds_cnn_kws glyph_resnet")) {
		tk.Networks = append(tk.Networks, testkit.Must(rig.Build(name, "block"))(t))
	}
	begin := time.Now()
	p := roundTrip(t, testkit.Must(profiler.Measure(context.Background(), tk, options(4*time.Second)))(t))
	t.Logf("measured in %v, of that %v timing", time.Since(begin).Round(time.Millisecond), p.Took.Round(time.Millisecond))
	for _, c := range p.Cells {
		if !c.Measured() {
			t.Errorf("%v: %s", p.Name(&c), c.Refused)
		}
	}
	for _, c := range p.Chains {
		if c.Accelerator > 1 {
			continue // as the first stream
		}
		m := &p.Models[c.Model]
		t.Logf("%s on %s: layers %v in sum, chain %v (%d of %d captured), plain %v, whole %v, as one graph %v", m.Name,
			p.Accelerators[c.Accelerator].Name, c.Sum, c.Chained, c.Captured, len(m.Layers), c.Plain, c.Whole, c.Graph)
		if c.Accelerator == 1 && (c.Captured == 0 || c.Graph == 0 || c.Sum > 3*c.Chained/2) {
			t.Errorf("%+v", c)
		}
	}
	d := p.Devices[0]
	t.Logf("contention %.3f, lead %v, waking %v, memory %d MB, %.0f W idle, %.0f W kept warm", d.Contention, d.Lead,
		d.Waking, d.Memory>>20, d.IdleW, d.WarmW)
	if len(d.Contention) != 4 || d.Lead <= 0 || d.Memory <= 0 {
		t.Errorf("%+v", d)
	}
	tk.Accelerators = []runtime.Spec{{Name: "gpu", Provider: "cuda"}}
	begin = time.Now()
	n := testkit.Must(profiler.Streams(t.Context(), tk, 0, 8, options(0)))(t)
	t.Logf("%d streams pay, found out in %v", n, time.Since(begin).Round(time.Millisecond))
}

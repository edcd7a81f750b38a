package profiler_test

import (
	"context"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/ort/orttest"
	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/runtime"
)

// The profile of a CPU and a GPU has a time for every layer on both, what the copies between their memories cost in
// both directions at every cut, and the chain of the GPU's layers and the whole model.
func TestMeasureWebGPU(t *testing.T) {
	orttest.WebGPU(t)
	n := testkit.Must(network())(t)
	tk := profiler.Task{Networks: []*runtime.Network{n},
		Accelerators: []runtime.Spec{{Name: "cpu", Optimization: "basic"}, {Name: "gpu", Provider: "webgpu"}}}
	p := testkit.Must(profiler.Measure(context.Background(), tk, options(time.Second)))(t)
	layers := len(p.Models[0].Layers)
	if len(p.Cells) != 2*layers {
		t.Fatalf("%d cells", len(p.Cells))
	}
	for _, c := range p.Cells {
		if c.Refused != "" || c.N == 0 || c.P50 <= 0 {
			t.Errorf("%+v", c)
		}
	}
	// One tensor is alive at every cut of this network.
	costs := map[[3]int]profiler.Handoff{}
	for _, h := range p.Handoffs {
		costs[[3]int{h.Layer, h.From, h.To}] = h
	}
	for l := 1; l < layers; l++ {
		for _, way := range [][2]int{{0, 1}, {1, 0}} {
			if h := costs[[3]int{l, way[0], way[1]}]; h.Tensors != 1 || h.P50 <= 0 {
				t.Errorf("layer %d, %v: %+v", l, way, h)
			}
		}
	}
	if len(p.Handoffs) != 2*(layers-1) {
		t.Errorf("%d handoffs, want one in each direction at each of %d cuts", len(p.Handoffs), layers-1)
	}
	var gpu bool
	for _, c := range p.Chains {
		gpu = gpu || c.Accelerator == 1
	}
	if !gpu {
		t.Errorf("no chain on the GPU: %+v", p.Chains)
	}
	if len(p.Devices) != 1 || p.Devices[0].Name != "gpu" || p.Devices[0].Lead <= 0 || p.Devices[0].Contention != nil {
		t.Errorf("devices %+v, want one that takes a while to wait for", p.Devices)
	}
	testkit.OK(t, p.Write(t.TempDir()+"/p.json"))
}

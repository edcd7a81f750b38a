package runtime_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/ort/orttest"
	"github.com/terastal/terastal/runtime"
)

// inHostMemory hides an accelerator's own memory: every layer takes its inputs
// from host memory and leaves its outputs there.
type inHostMemory struct{ runtime.Accelerator }

// BenchmarkDeviceChain runs a network on WebGPU in layers whose tensors stay on
// the device, in layers that exchange them through host memory, and as a whole,
// in turn, and reports the medians and their ratios.
func BenchmarkDeviceChain(b *testing.B) {
	orttest.WebGPU(b)
	for _, layout := range []string{"NHWC", "NCHW"} {
		for _, net := range []string{"ds_cnn_kws", "glyph_resnet"} {
			for _, granularity := range []string{"block", "op"} {
				b.Run(fmt.Sprint(net, "/", granularity, "/", layout), func(b *testing.B) { deviceChain(b, net, granularity, layout) })
			}
		}
	}
}

func deviceChain(b *testing.B, net, granularity, layout string) {
	a, err := runtime.OpenORT(runtime.Spec{Name: "gpu", Provider: "webgpu", Options: map[string]string{"preferredLayout": layout}})
	if err != nil {
		b.Fatal(err)
	}
	defer a.Close()
	var ways []func() time.Duration
	for _, c := range []struct {
		accelerator runtime.Accelerator
		granularity string
	}{{a, granularity}, {inHostMemory{a}, granularity}, {a, "model"}} {
		n := zooNetwork(b, net, c.granularity)
		p, err := runtime.Prepare(n, []runtime.Accelerator{c.accelerator}, nil)
		if err != nil {
			b.Fatal(err)
		}
		defer p.Close()
		s, err := p.NewSlot()
		if err != nil {
			b.Fatal(err)
		}
		defer s.Close()
		in, err := n.Inputs(1)
		if err != nil {
			b.Fatal(err)
		}
		ways = append(ways, func() time.Duration {
			s.SetInputs(in)
			start := time.Now()
			for l := range n.Layers {
				if err := s.Run(l, 0, 0); err != nil {
					b.Fatal(err)
				}
			}
			return time.Since(start)
		})
	}
	times := make([][]time.Duration, len(ways))
	for n := -2; n < max(b.N, 15); n++ {
		for w, run := range ways {
			if t := run(); n >= 0 {
				times[w] = append(times[w], t)
			}
		}
	}
	medians := make([]float64, len(ways))
	for w := range times {
		slices.Sort(times[w])
		medians[w] = times[w][len(times[w])/2].Seconds() * 1e3
	}
	b.ReportMetric(medians[0], "chain-ms")
	b.ReportMetric(medians[1], "through-host-ms")
	b.ReportMetric(medians[2], "whole-ms")
	b.ReportMetric(medians[0]/medians[2], "x-whole")
	b.ReportMetric(medians[1]/medians[2], "x-whole-through-host")
}

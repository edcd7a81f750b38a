package runtime_test

import (
	"slices"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/ort/orttest"
	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/internal/testkit/rig"
	"github.com/terastal/terastal/runtime"
)

// inHostMemory hides an accelerator's own memory: every layer takes its inputs
// from host memory and leaves its outputs there.
type inHostMemory struct{ runtime.Accelerator }

// BenchmarkDeviceChain runs a network in blocks on WebGPU, in the layout that layers get and in the provider's default:
// with tensors that stay on the device, through host memory, and as a whole. All are run in turn, and the medians are
// reported with their ratios.
func BenchmarkDeviceChain(b *testing.B) {
	orttest.WebGPU(b)
	for _, net := range []string{"ds_cnn_kws", "glyph_resnet"} {
		b.Run(net, func(b *testing.B) { deviceChain(b, net) })
	}
}

func deviceChain(b *testing.B, net string) {
	var names []string
	var ways []func() time.Duration
	for _, layout := range []string{"NCHW", "NHWC"} {
		a := testkit.Must(runtime.OpenORT(runtime.Spec{Name: "gpu", Provider: "webgpu",
			Options: map[string]string{"preferredLayout": layout}}))(b)
		defer a.Close()
		for _, c := range []struct {
			name        string
			accelerator runtime.Accelerator
			granularity string
		}{{"chain", a, "block"}, {"through-host", inHostMemory{a}, "block"}, {"whole", a, "model"}} {
			n := rig.Network(b, net, c.granularity)
			p := testkit.Must(runtime.Prepare(n, []runtime.Accelerator{c.accelerator}, nil))(b)
			defer p.Close()
			s := testkit.Must(p.NewSlot())(b)
			defer s.Close()
			in := testkit.Must(n.Inputs(1))(b)
			names = append(names, c.name+"-"+layout)
			ways = append(ways, func() time.Duration {
				s.SetInputs(in)
				start := time.Now()
				for l := range n.Layers {
					testkit.OK(b, s.Run(l, 0, 0))
				}
				return time.Since(start)
			})
		}
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
	for w, name := range names {
		b.ReportMetric(medians[w], name+"-ms")
	}
	for _, first := range []int{0, 3} {
		b.ReportMetric(medians[first]/medians[first+2], names[first]+"/whole")
	}
}

package variants

import (
	"slices"
	"strings"
	"testing"

	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/internal/ort/orttest"
	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/variants/internal/chain"
)

// Half-precision variants run on WebGPU between layers in single precision, and
// compute nearly the same; on a device without half precision they are refused.
func TestHalfOnWebGPU(t *testing.T) {
	orttest.WebGPU(t)
	a := testkit.Must(runtime.OpenORT(runtime.Spec{Name: "gpu", Provider: "webgpu"}))(t)
	defer a.Close()
	b := newNet(1, 8, 8, 8)
	x := b.conv("x", 8, 8, 3, 1, 1, 1, nil)
	x = b.node("Relu", []string{x})
	b.conv(x, 8, 8, 3, 1, 1, 1, nil)
	n := b.network(t, "op")
	n.Variants = map[int][]runtime.Unit{}
	for l := range n.Layers {
		list, _ := Candidates(&n.Layers[l], Exact, "webgpu")
		i := slices.IndexFunc(list, func(c *Candidate) bool { return c.Family == "fp16" })
		if i < 0 {
			t.Fatalf("layer %d has no half-precision candidate", l)
		}
		u := testkit.Must(list[i].Unit())(t)
		n.Variants[l] = []runtime.Unit{u}
	}
	p := testkit.Must(runtime.Prepare(n, []runtime.Accelerator{a}, nil))(t)
	defer p.Close()
	slot := testkit.Must(p.NewSlot())(t)
	defer slot.Close()
	in := testkit.Must(n.Inputs(1))(t)
	want := testkit.Must(n.Reference([][]*runtime.Tensor{in}))(t)
	for bits := range 1 << len(n.Layers) {
		slot.SetInputs(in)
		for l := range n.Layers {
			i := bits >> l & 1
			if !p.Runs(l, i, 0) {
				if reason := p.Refused(l, i, 0); i > 0 && strings.Contains(reason.Error(), "f16") {
					t.Skipf("the device does not compute in half precision, which the variant is refused for: %v", reason)
				}
				t.Fatalf("layer %d implementation %d: %v", l, i, p.Refused(l, i, 0))
			}
			testkit.OK(t, slot.Run(l, i, 0))
		}
		testkit.OK(t, slot.Wait())
		out := slot.Outputs()[0]
		d := testkit.Must(models.Compare(out.Type, out.Data, want[0][0]))(t)
		if limit := 1e-2; bits == 0 && !(d.MaxRel <= runtime.Tolerance) || !(d.MaxRel <= limit) {
			t.Errorf("variants %b: differs by %g of the largest magnitude", bits, d.MaxRel)
		} else if bits > 0 && d.MaxRel <= 1e-6 {
			t.Errorf("variants %b: no difference, so that nothing was computed in half precision", bits)
		}
	}
}

// What is for one provider is computed there again and again, in the device's own memory.
func TestComputedOnWebGPU(t *testing.T) {
	orttest.WebGPU(t)
	n := residual(t, 17)
	on := NewAccelerators(func(provider string) (runtime.Accelerator, error) {
		return runtime.OpenORT(runtime.Spec{Name: "gpu", Provider: provider})
	})
	r := testkit.Must(chain.OpenUnit(&n.Layers[0], runtime.Unit{Name: "own", Provider: "webgpu"}, on))(t)
	original := testkit.Must(chain.OpenLayer(&n.Layers[0], nil))(t)
	defer original.Close()
	for i := range 3 {
		in := map[string][]byte{"x": raw(noise{size: 288}.numbers(i))}
		testkit.OK(t, r.Run(in))
		testkit.OK(t, original.Run(in))
		d := testkit.Must(models.Compare(ort.Float, r.Results[0], original.Results[0]))(t)
		if !(d.MaxRel <= runtime.Tolerance) {
			t.Errorf("input %d differs by %g", i, d.MaxRel)
		}
	}
	r.Close()
	testkit.OK(t, on.Close())
}

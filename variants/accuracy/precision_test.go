package accuracy

import (
	"errors"
	"maps"
	"slices"
	"testing"

	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/internal/testkit/rig"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/variants"
)

// Combinations with variants for one provider are computed there, among others on the CPU, with the same results
// however many requests are computed at once.
func TestProveOnAnAccelerator(t *testing.T) {
	n := rig.Network(t, network, "op")
	give(t, n)
	list, _ := variants.Candidates(&n.Layers[2], variants.Exact, "cuda")
	tf32 := list[slices.IndexFunc(list, func(c *variants.Candidate) bool { return c.Family == "tf32" })]
	u := testkit.Must(tf32.Unit())(t)
	n.Variants = maps.Clone(n.Variants)
	n.Variants[2] = append(n.Variants[2], u) // variant 3 of 5
	device := rig.Precise(t, "gpu", "cuda")
	on := variants.NewAccelerators(func(string) (runtime.Accelerator, error) { return device, nil })
	defer on.Close()
	data := noise{n: 12, size: size, classes: classes}
	sum := Metric{Name: "sum", Score: func(out, _ [][]float32, label int) float64 { return float64(out[0][label]) + 10 }}
	p := testkit.Must(Prove(t.Context(), n, data, sum, Options{Workers: 3, Accelerators: on}))(t)
	again := testkit.Must(Prove(t.Context(), n, data, sum, Options{Accelerators: on}))(t)
	testkit.Equal(t, again, p)
	if len(p.Sets) != 2*4*2 {
		t.Errorf("%d sets", len(p.Sets))
	}
	for _, with := range []sched.VariantSet{1 << 3, 1<<3 | 1} {
		a, measured := p.Of(with)
		b, _ := p.Of(with &^ (1 << 3))
		if off := a - b; !measured || off == 0 || off > 1e-3 || off < -1e-3 {
			t.Errorf("%b: accuracy %v, %v without: TF32 has to make a small difference", with, a, b)
		}
	}
	testkit.Refused(Prove(t.Context(), n, data, sum, Options{}))(t, "no accelerator to compute it on", "tf32 cuda")
	none := variants.NewAccelerators(func(string) (runtime.Accelerator, error) { return nil, errors.New("not here") })
	defer none.Close()
	testkit.Refused(Prove(t.Context(), n, data, sum, Options{Accelerators: none}))(t, "not here")
}

package runtime_test

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/internal/testkit/rig"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/plan"
)

// A variant without a file is the layer's own model with options of one provider; other accelerators refuse it and say
// why.
func TestUnitsOfOneProvider(t *testing.T) {
	n := rig.Network(t, "ds_cnn_kws", "block")
	accs := rig.Accelerators(t, runtime.Spec{Name: "cpu"})
	own := plan.Variant{Layer: 1, Name: "own", SHA256: n.Layers[1].SHA256, Provider: "CPUExecutionProvider",
		Options: map[string]string{"session.disable_prepacking": "1"}}
	elsewhere, unknown, address := own, own, own
	elsewhere.Name, elsewhere.Provider = "elsewhere", "cuda"
	elsewhere.Options = map[string]string{"use_tf32": "1"}
	unknown.Name, unknown.Options = "unknown", map[string]string{"nonesuch": "1"}
	address.Name, address.Options = "address", map[string]string{"user_compute_stream": "1"}
	noFiles := func(string) ([]byte, error) { t.Fatal("a file is read"); return nil, nil }
	testkit.OK(t, n.Attach([]plan.Variant{own, elsewhere, unknown, address}, noFiles))
	p := testkit.Must(runtime.Prepare(n, accs, nil))(t)
	defer p.Close()
	for i, want := range []any{2: runtime.ErrProvider, 3: "no option \"nonesuch\"", 4: "an address in memory"} {
		if want != nil {
			testkit.Fails(t, p.Refused(1, i, 0), want)
		}
	}
	testkit.Fails(t, p.Refused(1, 2, 0), "without options of cuda it is the same as the original")
	slot := testkit.Must(p.NewSlot())(t)
	defer slot.Close()
	slot.SetInputs(testkit.Must(n.Inputs(1))(t))
	var out [2][]byte
	for i := range out {
		for l := range n.Layers {
			implementation := 0
			if l == 1 {
				implementation = i
			}
			testkit.OK(t, slot.Run(l, implementation, 0))
		}
		out[i] = bytes.Clone(slot.Outputs()[0].Data)
	}
	testkit.Equal(t, out[0], out[1])

	own.SHA256 = n.Layers[0].SHA256
	testkit.Fails(t, n.Attach([]plan.Variant{own}, noFiles), "is not the plan's")
	if len(n.Variants[1]) != 4 {
		t.Errorf("the variants are %v after one was refused", n.Variants)
	}
	u := runtime.Unit{Provider: "cuda"}
	testkit.OK(t, u.Suits("CUDA"))
	testkit.Fails(t, u.Suits("webgpu"), runtime.ErrProvider, "its accuracy was measured on cuda")
}

// What ran in lower precision is held against the same run again, since it is further from the original than float32
// may be; what did not is held against the whole model.
func TestVerifyLowerPrecision(t *testing.T) {
	n := network(t, "block")
	testkit.OK(t, n.Attach([]plan.Variant{{Layer: 1, Name: "tf32", SHA256: n.Layers[1].SHA256, Provider: "cuda",
		Options: map[string]string{"use_tf32": "1"}}}, nil))
	b := &bench{accs: []runtime.Accelerator{rig.Precise(t, "gpu", "cuda")}}
	b.add(t, n)
	s := b.system(func(_, layer, implementation, _ int) time.Duration {
		if layer == 1 && implementation == 0 {
			return 2 * time.Minute // never meets its budget of the deadline
		}
		return time.Millisecond
	})
	s.Models[0].Valid, s.Models[0].Deadline = []sched.VariantSet{1}, time.Minute
	e := b.executor(t, s)
	o := runtime.Options{Policy: "terastal", Traffic: released(1), Samples: 3}
	lower := testkit.Must(e.Run(t.Context(), o))(t)
	o.Policy = "fcfs" // which uses no variants
	exact := testkit.Must(e.Run(t.Context(), o))(t)
	for i, r := range []*runtime.Result{lower, exact} {
		if v := testkit.Must(e.Verify(r.Samples))(t); v.Verified != 3 || v.WithVariants != 3-3*i {
			t.Errorf("run %d: %+v", i, v)
		}
	}
	x := lower.Samples[0]
	x.Ran = slices.Clone(x.Ran)
	x.Ran[1].Implementation = 0 // what it was not computed with
	if v := testkit.Must(e.Verify([]runtime.Sample{x}))(t); v.Wrong != 1 {
		t.Errorf("TF32 taken for float32: %+v", v)
	}
}

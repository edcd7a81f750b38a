package runtime_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/internal/testkit/rig"
	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/runtime"
)

// Whatever accelerators the layers of a request run on, in blocked or plain layouts, the outputs are the whole model's.
// The slot is used again and again, as requests do.
func TestAnySequenceOfAccelerators(t *testing.T) {
	accs := rig.Accelerators(t, append([]runtime.Spec{{Name: "layout", Optimization: "layout"},
		{Name: "extended", Optimization: "extended"}}, levels...)...)
	sequences := 12
	for _, c := range []struct{ net, granularity string }{
		{"ds_cnn_kws", "op"}, {"mobilenetv2_ssdlite", "op"}, {"fbnetc", "block"}, {"resnet18", "op"}, {"sp2dense", "block"},
	} {
		t.Run(c.net+"/"+c.granularity, func(t *testing.T) {
			if testing.Short() && c.net != "ds_cnn_kws" {
				t.Skip("large")
			}
			n := rig.Network(t, c.net, c.granularity)
			p := testkit.Must(runtime.Prepare(n, accs, nil))(t)
			defer p.Close()
			in := testkit.Must(n.Inputs(3))(t)
			want := testkit.Must(n.Reference([][]*runtime.Tensor{in}))(t)
			slot := testkit.Must(p.NewSlot())(t)
			defer slot.Close()
			rng := rand.New(rand.NewPCG(1, 2))
			converted := 0
			for s := range sequences {
				slot.SetInputs(in)
				at, text := rng.IntN(len(accs)), ""
				for l := range n.Layers {
					if rng.IntN(3) == 0 {
						before := at
						at = rng.IntN(len(accs))
						if l > 0 {
							_, convert, _ := p.Moves(l, before, at)
							converted += len(convert)
						}
					}
					text += fmt.Sprint(at)
					testkit.OK(t, slot.Run(l, 0, at))
				}
				for i, out := range slot.Outputs() {
					d := testkit.Must(models.Compare(out.Type, out.Data, want[0][i]))(t)
					if !(d.MaxRel <= runtime.Tolerance) {
						t.Errorf("sequence %d (%s): output %d differs by %g of its largest magnitude", s, text, i, d.MaxRel)
					}
				}
			}
			if converted == 0 {
				t.Error("no tensor changed its layout: the test tests nothing")
			}
		})
	}
}

// A variant that runs between originals on an accelerator with blocked layouts
// leaves what these would have left, in their layout.
func TestRunBetween(t *testing.T) {
	a := rig.Accelerators(t, runtime.Spec{Name: "all"})[0]
	n := rig.Network(t, "ds_cnn_kws", "op")
	n.Variants = map[int][]runtime.Unit{}
	for l := range n.Layers {
		data := testkit.Must(n.Layers[l].ONNX())(t)
		n.Variants[l] = []runtime.Unit{{Name: "copy", ONNX: data, Inputs: n.Layers[l].Inputs, Outputs: n.Layers[l].Outputs}}
	}
	p := testkit.Must(runtime.Prepare(n, []runtime.Accelerator{a}, nil))(t)
	defer p.Close()
	slot := testkit.Must(p.NewSpreadSlot())(t)
	defer slot.Close()
	for seed := range uint64(2) {
		in := testkit.Must(n.Inputs(seed))(t)
		want := testkit.Must(n.Reference([][]*runtime.Tensor{in}))(t)
		if seed == 0 { // everything is computed once, as the profiler does
			slot.SetInputs(in)
			for l := range n.Layers {
				for i := range 2 {
					testkit.OK(t, slot.Run(l, i, 0))
				}
			}
			continue
		}
		slot.SetInputs(in)
		for l := range n.Layers {
			run := slot.Run
			if l%2 == 1 {
				run = slot.RunBetween
			}
			testkit.OK(t, run(l, l%2, 0))
		}
		d, err := models.Compare(slot.Outputs()[0].Type, slot.Outputs()[0].Data, want[0][0])
		if err != nil || !(d.MaxRel <= runtime.Tolerance) {
			t.Errorf("outputs differ by %g of their largest magnitude, %v", d.MaxRel, err)
		}
	}
}

package runtime_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/terastal/terastal/internal/ort/orttest"
	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/models/zoo"
	"github.com/terastal/terastal/runtime"
)

// Whatever accelerators the layers of a request run on, in blocked or plain
// layouts, the outputs are the whole model's. The slot is used again and again,
// as requests do.
func TestAnySequenceOfAccelerators(t *testing.T) {
	orttest.Start(t)
	var accs []runtime.Accelerator
	for _, level := range []string{"all", "basic", "layout", "extended"} {
		a, err := runtime.OpenORT(runtime.Spec{Name: level, Optimization: level})
		if err != nil {
			t.Fatal(err)
		}
		accs = append(accs, a)
	}
	sequences := 12
	for _, c := range []struct{ net, granularity string }{
		{"ds_cnn_kws", "op"}, {"mobilenetv2_ssdlite", "op"}, {"fbnetc", "block"}, {"resnet18", "op"}, {"sp2dense", "block"},
	} {
		t.Run(c.net+"/"+c.granularity, func(t *testing.T) {
			if testing.Short() && c.net != "ds_cnn_kws" {
				t.Skip("large")
			}
			n := zooNetwork(t, c.net, c.granularity)
			p, err := runtime.Prepare(n, accs, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			in, err := n.Inputs(3)
			if err != nil {
				t.Fatal(err)
			}
			want, err := n.Reference([][]*runtime.Tensor{in})
			if err != nil {
				t.Fatal(err)
			}
			slot, err := p.NewSlot()
			if err != nil {
				t.Fatal(err)
			}
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
					if err := slot.Run(l, 0, at); err != nil {
						t.Fatal(err)
					}
				}
				for i, out := range slot.Outputs() {
					d, err := models.Compare(out.Type, out.Data, want[0][i])
					if err != nil {
						t.Fatal(err)
					}
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

func zooNetwork(t testing.TB, name, granularity string) *runtime.Network {
	t.Helper()
	data, err := zoo.Build(name, 1)
	if err != nil {
		t.Fatal(err)
	}
	m, err := models.Parse(name, data, models.Options{})
	if err != nil {
		t.Fatal(err)
	}
	g, err := models.ParseGranularity(granularity)
	if err != nil {
		t.Fatal(err)
	}
	layers, err := m.Split(g)
	if err != nil {
		t.Fatal(err)
	}
	return &runtime.Network{Name: name, Model: m, Layers: layers}
}

// A variant that runs between originals on an accelerator with blocked layouts
// leaves what these would have left, in their layout.
func TestRunBetween(t *testing.T) {
	orttest.Start(t)
	a, err := runtime.OpenORT(runtime.Spec{Name: "all"})
	if err != nil {
		t.Fatal(err)
	}
	n := zooNetwork(t, "ds_cnn_kws", "op")
	n.Variants = map[int][]runtime.Unit{}
	for l := range n.Layers {
		data, err := n.Layers[l].ONNX()
		if err != nil {
			t.Fatal(err)
		}
		n.Variants[l] = []runtime.Unit{{Name: "copy", ONNX: data, Inputs: n.Layers[l].Inputs, Outputs: n.Layers[l].Outputs}}
	}
	p, err := runtime.Prepare(n, []runtime.Accelerator{a}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	slot, err := p.NewSpreadSlot()
	if err != nil {
		t.Fatal(err)
	}
	defer slot.Close()
	for seed := range uint64(2) {
		in, err := n.Inputs(seed)
		if err != nil {
			t.Fatal(err)
		}
		want, err := n.Reference([][]*runtime.Tensor{in})
		if err != nil {
			t.Fatal(err)
		}
		if seed == 0 { // everything is computed once, as the profiler does
			slot.SetInputs(in)
			for l := range n.Layers {
				for i := range 2 {
					if err := slot.Run(l, i, 0); err != nil {
						t.Fatal(err)
					}
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
			if err := run(l, l%2, 0); err != nil {
				t.Fatal(err)
			}
		}
		d, err := models.Compare(slot.Outputs()[0].Type, slot.Outputs()[0].Data, want[0][0])
		if err != nil || !(d.MaxRel <= runtime.Tolerance) {
			t.Errorf("outputs differ by %g of their largest magnitude, %v", d.MaxRel, err)
		}
	}
}

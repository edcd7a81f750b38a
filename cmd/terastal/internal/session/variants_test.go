package session

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/terastal/terastal/cmd/terastal/internal/config"
	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/internal/testkit/rig"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/plan"
	"github.com/terastal/terastal/variants"
	"github.com/terastal/terastal/variants/design"
)

// taken are the variants of one network that nothing is opened for, which takes an 8-bit variant that saturates on some
// processors, proven where it does not. There are no data but those given.
func taken(t *testing.T, data config.Data) (*Variants, *[]string) {
	t.Helper()
	n := rig.Network(t, "glyph_vgg", "op")
	n.Name = "net"
	var notes []string
	c := &config.Config{Out: t.TempDir(), Arithmetic: "saturating", Models: []config.Model{
		{Name: "net", Theta: 0.5, Granularity: "op", Metric: "error", Calibration: data}}}
	w := &Workspace{Config: c, stages: stages{open: Discard}, options: Options{Progress: Discard,
		Note: func(format string, args ...any) { notes = append(notes, fmt.Sprintf(format, args...)) }}}
	w.Models = []*Model{{Model: &c.Models[0], Network: n}}
	w.Variants = newVariants(w)
	list, _ := variants.Candidates(&n.Layers[0], variants.Exact)
	x := list[slices.IndexFunc(list, func(c *variants.Candidate) bool { return c.Family == "int8" })]
	file := testkit.Must(x.ONNX())(t)
	text := testkit.Must(json.Marshal(plan.Variants{SHA256: n.Model.SHA256(), Granularity: "op",
		Proof:  plan.Proof{Metric: "error", Arithmetic: "exact"},
		Chosen: []plan.Variant{{Name: x.String(), File: "v.onnx", SHA256: variants.SHA256(file)}}}))(t)
	testkit.OK(t, w.Variants.Take(0, fstest.MapFS{design.FittedFile: {Data: text}, "v.onnx": {Data: file}}))
	return w.Variants, &notes
}

// A proof of another arithmetic is made again where there are data. Until then nothing is planned.
func TestProveAgain(t *testing.T) {
	v, notes := taken(t, config.Data{Source: "random", Count: 8})
	testkit.Refused(v.w.Plan())(t, "terastal variants accuracy")
	testkit.Must(os.Stat(filepath.Join(v.w.Config.Out, "variants", "net", "v.onnx")))(t)
	testkit.OK(t, v.ProveAgain(t.Context()))
	if u := v.designer.Models[0].InUse; u.Arithmetic != "saturating" || u.Requests != 8 || u.Data != "random" ||
		len(v.designer.Stale()) > 0 {
		t.Errorf("proven again: %+v", v.designer.Models[0].InUse)
	}
	if len(*notes) == 0 || !strings.Contains((*notes)[0],
		"proven for 8-bit arithmetic that is exact, here it is saturating: proving them again") {
		t.Errorf("notes %q", *notes)
	}
	list, err := v.Prove(t.Context(), nil)
	if err != nil || len(list) != 1 || list[0].Model != "net" || list[0].Requests != 8 {
		t.Errorf("proven: %+v, %v", list, err)
	}
}

// What a run's requests kept is measured by the combinations that they used, each as often as it was.
func TestDelivered(t *testing.T) {
	p := &plan.Proof{Sets: []sched.VariantSet{0, 1, 2}, Accuracy: []float64{1, 0.96, 0.9}, StandardError: []float64{0, 0.02, 0.03}}
	a := delivered(&plan.Variants{Model: "net"}, p, map[sched.VariantSet]int{0: 1, 1: 3}, 0.99)
	if a.Finished != 4 || a.Floor != 0.99 || a.Delivered == nil || a.Low == nil || a.High == nil {
		t.Fatalf("%+v", a)
	}
	if reach := 1.959964 * 0.015; math.Abs(*a.Delivered-0.97) > 1e-9 || math.Abs(*a.Low-0.97+reach) > 1e-9 ||
		math.Abs(*a.High-0.97-reach) > 1e-9 {
		t.Errorf("%v, %v to %v", *a.Delivered, *a.Low, *a.High)
	}
	p.StandardError = nil
	if a := delivered(&plan.Variants{}, p, map[sched.VariantSet]int{1: 1}, 0); a.Low != nil || *a.Delivered != 0.96 {
		t.Errorf("without standard errors: %+v", a)
	}
	if a := delivered(&plan.Variants{}, p, nil, 0); a.Delivered != nil {
		t.Errorf("without a run: %v", *a.Delivered)
	}
}

// Without data the variants are left out, in one line, and stay in the plan.
func TestProofsOfAnotherArithmeticAreRefused(t *testing.T) {
	v, notes := taken(t, config.Data{})
	testkit.OK(t, v.ProveAgain(t.Context()))
	if list := v.designer.Documents(nil); v.designer.Models[0].InUse != nil || v.w.Models[0].Network.Variants != nil ||
		len(list) != 1 || !list[0].Off {
		t.Errorf("in use %+v, documents %+v", v.designer.Models[0].InUse, list)
	}
	if len(*notes) != 1 || !strings.Contains((*notes)[0],
		"here it is saturating: they are not used; name labelled or calibration data") {
		t.Errorf("notes %q", *notes)
	}
	// Data that are not there are an error, with what to do.
	v, _ = taken(t, config.Data{Source: "nowhere.npy"})
	testkit.Fails(t, v.ProveAgain(t.Context()), "`variants: off`")
}

// Variants in TF32 are left out, in one line, where no accelerator computes them, and proven again on another graphics
// processor. Measuring processes get them without a file.
func TestLowerPrecisionElsewhere(t *testing.T) {
	n := rig.Network(t, "ds_cnn_kws", "op")
	n.Name = "net"
	list, _ := variants.Candidates(&n.Layers[0], variants.Exact, "cuda")
	c := list[slices.IndexFunc(list, func(c *variants.Candidate) bool { return c.Family == "tf32" })]
	v := plan.Variants{Model: "net", SHA256: n.Model.SHA256(), Granularity: "op", Accelerators: []string{"gpu"},
		Chosen: []plan.Variant{c.Variant},
		Proof:  plan.Proof{Metric: "error", Arithmetic: "exact", Device: "NVIDIA other"}}
	v.Chosen[0].Name, v.Chosen[0].SHA256 = "tf32", n.Layers[0].SHA256
	for name, x := range map[string]struct {
		specs []runtime.Spec
		data  config.Data
		note  string
		off   bool
	}{
		"no such accelerator": {[]runtime.Spec{{Name: "cpu"}}, config.Data{Source: "random", Count: 4},
			"proven on cuda, which no accelerator here is: they are not used; add such an accelerator, or run", true},
		"no data": {[]runtime.Spec{{Name: "gpu", Provider: "cuda"}}, config.Data{},
			"proven on NVIDIA other, here is NVIDIA this: they are not used; name labelled or calibration data", true},
		"another device": {[]runtime.Spec{{Name: "gpu", Provider: "cuda"}}, config.Data{Source: "random", Count: 4},
			"proven on NVIDIA other, here is NVIDIA this: proving them again", false},
	} {
		var notes []string
		own := *n
		cfg := &config.Config{Out: t.TempDir(), Arithmetic: "exact",
			Models: []config.Model{{Name: "net", Theta: 0.5, Granularity: "op", Metric: "error", Calibration: x.data}}}
		w := &Workspace{Config: cfg, stages: stages{open: Discard}, options: Options{Progress: Discard,
			Note: func(format string, args ...any) { notes = append(notes, fmt.Sprintf(format, args...)) }}}
		w.Machine.Specs, w.Models = x.specs, []*Model{{Model: &cfg.Models[0], Network: &own}}
		w.Variants = newVariants(w)
		d := &w.Variants.designer
		d.Device = "NVIDIA this"
		d.Open = func(s runtime.Spec) (runtime.Accelerator, error) { return rig.Precise(t, s.Name, s.Provider), nil }
		testkit.Must(d.Use([]plan.Variants{v}, nil))(t)
		testkit.OK(t, w.Variants.ProveAgain(t.Context()))
		if len(notes) != 1 || !strings.Contains(notes[0], x.note) {
			t.Errorf("%s: notes %q", name, notes)
		}
		if docs := d.Documents(nil); len(docs) != 1 || docs[0].Off != x.off || !x.off && docs[0].Device != "NVIDIA this" {
			t.Errorf("%s: documents %+v", name, docs)
		}
		if x.off {
			continue
		}
		sent := testkit.Must(written(&own, filepath.Join(cfg.Out, "v")))(t)
		testkit.OK(t, own.Attach(sent, nil))
		if u := own.Variants[0][0]; len(sent) != 1 || sent[0].File != "" || u.Options["use_tf32"] != "1" || u.Provider != "cuda" {
			t.Errorf("%s: sent %+v, attached %+v", name, sent, u)
		}
	}
}

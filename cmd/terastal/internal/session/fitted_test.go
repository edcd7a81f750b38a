package session

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/terastal/terastal/cmd/terastal/internal/config"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched/plan"
	"github.com/terastal/terastal/variants"
)

// fittedFolder is a folder of one variant of the network, as it is shipped.
func fittedFolder(t *testing.T, n *runtime.Network) (fstest.MapFS, plan.Variants) {
	t.Helper()
	list, _ := variants.Candidates(&n.Layers[0], true, variants.Saturating)
	data, err := list[0].ONNX()
	if err != nil {
		t.Fatal(err)
	}
	v := plan.Variants{Model: "other name", SHA256: n.Model.SHA256(), Granularity: "op", Chosen: []plan.Variant{
		{Name: list[0].Name(), File: "v.onnx", SHA256: variants.SHA256(data)}}}
	folder := fstest.MapFS{"v.onnx": {Data: data}}
	describe(t, folder, v)
	return folder, v
}

func describe(t *testing.T, folder fstest.MapFS, v plan.Variants) {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	folder[FittedFile] = &fstest.MapFile{Data: text}
}

// Variants that were fitted elsewhere are taken, with files of their own, and
// are of no use before they are proven here.
func TestTakeVariants(t *testing.T) {
	n := productNetwork(t)
	folder, _ := fittedFolder(t, n)
	f := bare(t, n)
	if err := f.TakeVariants(0, folder); err != nil {
		t.Fatal(err)
	}
	if err := f.Plan(); err == nil || !strings.Contains(err.Error(), "not proven") {
		t.Errorf("planned with unproven variants: %v", err)
	}
	if _, err := os.Stat(filepath.Join(f.Config.Out, "variants", "net", "v.onnx")); err != nil || len(f.Networks[0].Variants[0]) != 1 {
		t.Errorf("%v, variants %v", err, f.Networks[0].Variants)
	}
	f.Config.Models[0].Labelled = config.Data{Source: "random", Count: 8}
	f.Config.Models[0].Metric = "error"
	list, err := f.Prove(t.Context(), nil)
	if err != nil || len(list) != 1 || list[0].Model != "net" || list[0].Requests != 8 || len(f.stale) > 0 {
		t.Fatalf("proven: %+v, %v, unproven %v", list, err, f.stale)
	}
	// What they take here is what the profile says.
	f.Specs = []runtime.Spec{{Name: "a"}, {Name: "b"}}
	f.Profile = &profiler.Profile{Cells: []profiler.Cell{
		{Accelerator: 0, P50: 50 * time.Microsecond}, {Accelerator: 1, P50: 20 * time.Microsecond},
		{Implementation: 1, Accelerator: 0, P50: 10 * time.Microsecond}, {Implementation: 1, Accelerator: 1, P50: 40 * time.Microsecond}}}
	v := f.known[0]
	f.timed(0, &v)
	if c := &v.Chosen[0]; c.Gain(0) != 5 || c.Gain(1) != 0.5 || len(c.Wanted) != 1 || c.Wanted[0] != "a" {
		t.Errorf("timed: %+v", c)
	}
}

// bare is a flow of one network that nothing is opened for.
func bare(t *testing.T, n *runtime.Network) *Flow {
	one := *n
	return &Flow{Config: &config.Config{Out: t.TempDir(), Models: []config.Model{{Name: "net", Theta: 0.5, Granularity: "op"}}},
		Networks: []*runtime.Network{&one}, sources: []source{{}}, opts: Options{Progress: Discard, Note: NoteTo(os.Stderr)}}
}

// What does not fit is refused in one line.
func TestTakenVariantsHaveToFit(t *testing.T) {
	n := productNetwork(t)
	for name, c := range map[string]struct {
		spoil func(folder fstest.MapFS, v *plan.Variants)
		says  string
	}{
		"another model":       {func(_ fstest.MapFS, v *plan.Variants) { v.SHA256 = "0" }, "another model"},
		"another granularity": {func(_ fstest.MapFS, v *plan.Variants) { v.Granularity = "block" }, `granularity "block"`},
		"a damaged file":      {func(d fstest.MapFS, _ *plan.Variants) { d["v.onnx"].Data[0]++ }, "SHA-256"},
		"a missing file":      {func(d fstest.MapFS, _ *plan.Variants) { delete(d, "v.onnx") }, "v.onnx"},
		"a file outside":      {func(_ fstest.MapFS, v *plan.Variants) { v.Chosen[0].File = "../v.onnx" }, "../v.onnx"},
		"no such layer":       {func(_ fstest.MapFS, v *plan.Variants) { v.Chosen[0].Layer = 7 }, "layer 7"},
	} {
		folder, v := fittedFolder(t, n)
		c.spoil(folder, &v)
		describe(t, folder, v)
		if err := bare(t, n).TakeVariants(0, folder); !says(err, c.says) || err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
	if err := bare(t, n).TakeVariants(0, fstest.MapFS{}); err == nil || !says(err, fs.ErrNotExist.Error()) {
		t.Errorf("an empty folder: %v", err)
	}
	if err := bare(t, n).TakeVariants(0, fstest.MapFS{FittedFile: {Data: []byte("{")}}); err == nil {
		t.Error("a torn description was taken")
	}
}

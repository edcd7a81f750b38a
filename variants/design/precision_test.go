package design

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/internal/testkit/rig"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/variants"
	"github.com/terastal/terastal/variants/accuracy"
)

// lowered stands in for a machine with a GPU that is the fastest for every layer: TF32 is the faster one in even layers,
// half precision in odd ones, but in the last one they save next to nothing, and bfloat16 is refused.
type lowered struct{ network *runtime.Network }

func (b lowered) Originals(ctx context.Context) (*profiler.Profile, *sched.Tables, error) {
	p, err := b.Measure(ctx, []*runtime.Network{b.network}, nil)
	if err != nil {
		return nil, nil, err
	}
	system, err := p.System([]time.Duration{time.Second}, profiler.P50)
	if err != nil {
		return nil, nil, err
	}
	tables, err := sched.Compile(system)
	return p, tables, err
}

func (b lowered) Measure(_ context.Context, networks []*runtime.Network, _ Enough) (*profiler.Profile, error) {
	var table strings.Builder
	fmt.Fprintln(&table, "model,layer,implementation,accelerator,latency_us")
	for _, n := range networks {
		for l := range n.Layers {
			name := n.Name + "," + n.Layers[l].Name
			fmt.Fprintf(&table, "%s,original,gpu,300\n%[1]s,original,cpu,1000\n", name)
			for _, u := range n.Variants[l] {
				took := map[string]int{"tf32": 200, "fp16": 250 - l%2*100}[u.Name[:4]]
				if took > 0 && l == len(n.Layers)-1 {
					took = 290
				}
				if took > 0 {
					fmt.Fprintf(&table, "%s,%s,gpu,%d\n", name, u.Name, took)
				} else { // what is not in the table is refused
					fmt.Fprintf(&table, "%s,%s,cpu,900\n", name, u.Name)
				}
			}
		}
	}
	return profiler.ReadTable(strings.NewReader(table.String()), profiler.TableOptions{})
}

// gpuDesigner is a designer on the CPU and a pretended CUDA device.
func gpuDesigner(t *testing.T, n *runtime.Network) (*Designer, *Model) {
	t.Helper()
	d, m := designer(n, variants.Exact)
	d.Accelerators = []runtime.Spec{{Name: "gpu", Provider: "cuda"}, {Name: "cpu"}}
	d.Device = "NVIDIA pretended"
	d.Open = func(s runtime.Spec) (runtime.Accelerator, error) { return rig.Precise(t, s.Name, s.Provider), nil }
	m.Calibration = inputs(n, 10)
	m.Metric = func(bool) (accuracy.Metric, error) { return accuracy.Fidelity(), nil } // tells apart any two outputs
	return d, m
}

// Lower precision is designed for CUDA devices where the original is fastest already, measured on them, proven, and
// written into the plan with what it needs to run; the layer's own model is not stored again.
func TestDesignLowerPrecision(t *testing.T) {
	n := network(t)
	d, m := gpuDesigner(t, n)
	limits := Limits{MaxLoss: 0.01, Together: 0.03}
	testkit.OK(t, d.Design(t.Context(), lowered{m.Network}, Options{Limits: limits}))
	chosen := m.InUse.Chosen
	families := map[int]string{}
	for i := range chosen {
		c := &chosen[i]
		families[c.Layer] = c.Family
		if len(c.Wanted) != 1 || c.Wanted[0] != "gpu" || c.Provider != "cuda" || !(c.Error > 0 && c.Error < 1e-4) ||
			c.Alone == 1 || c.Gain(0) < variants.Worthwhile || c.Gain(1) != 0 {
			t.Errorf("chosen: %+v", c)
		}
		if own := c.Family == "tf32"; own != (c.File == "") || own != (c.Options["use_tf32"] == "1") || own != (c.Bytes == 0) ||
			own && c.SHA256 != n.Layers[c.Layer].SHA256 {
			t.Errorf("%s: file %q, SHA-256 %s, options %v", c.Name, c.File, c.SHA256, c.Options)
		}
	}
	last := len(n.Layers) - 1
	if families[0] != "tf32" || families[1] != "fp16" || families[last] != "" || m.InUse.Device != d.Device {
		t.Errorf("families by layer %v, device %q", families, m.InUse.Device)
	}
	if len(m.InUse.Notes) != 2 || !strings.Contains(m.InUse.Notes[0], "gpu refuses bf16 cuda of layer \"conv1\", and maybe") {
		t.Errorf("notes %q", m.InUse.Notes)
	}
	for _, c := range m.InUse.Candidates {
		if c.Family == "bf16" && !strings.Contains(c.Refused, "gpu refuses it") {
			t.Errorf("%s is refused because %s", c.Parameters, c.Refused)
		}
		if !variants.Lower(c.Family) {
			t.Errorf("%s is considered on a device where the original is not too slow", c.Name)
		}
	}
	// The plan's variants are the same when they are read again.
	folder := t.TempDir()
	testkit.OK(t, d.Save(folder))
	files := testkit.Must(os.ReadDir(filepath.Join(folder, "variants", "net")))(t)
	stored := 0
	for _, family := range families {
		if family == "fp16" {
			stored++
		}
	}
	if len(files) != stored || stored == 0 {
		t.Errorf("%d files of %d variants in half precision", len(files), stored)
	}
	read := func(file string) ([]byte, error) { return os.ReadFile(filepath.Join(folder, file)) }
	again, same := gpuDesigner(t, n)
	testkit.Must(again.Use(d.Documents(nil), read))(t)
	if len(again.Stale()) > 0 || !again.Computes(same) {
		t.Errorf("read again: %s", again.WhyStale(same))
	}
	testkit.Equal(t, m.Network.Variants, same.Network.Variants, cmp.Comparer(bytes.Equal)) // quick on models
	p := testkit.Must(again.Prove(t.Context(), same, nil))(t)
	testkit.Equal(t, m.InUse.Accuracy, p.Accuracy)
	testkit.Equal(t, m.InUse.Device, p.Device)

	elsewhere, other := gpuDesigner(t, n)
	elsewhere.Device = "NVIDIA other"
	testkit.Must(elsewhere.Use(d.Documents(nil), read))(t)
	if len(elsewhere.Stale()) != 1 ||
		!strings.Contains(elsewhere.WhyStale(other), "proven on NVIDIA pretended, here is NVIDIA other") {
		t.Errorf("on another device: %s", elsewhere.WhyStale(other))
	}
	testkit.Must(elsewhere.Prove(t.Context(), other, nil))(t)
	if len(elsewhere.Stale()) > 0 || other.InUse.Device != "NVIDIA other" {
		t.Errorf("proven again on %q", other.InUse.Device)
	}

	without, left := gpuDesigner(t, n)
	without.Accelerators = without.Accelerators[1:]
	testkit.Must(without.Use(d.Documents(nil), read))(t)
	if without.Computes(left) || !strings.Contains(without.WhyStale(left), "proven on cuda, which no accelerator here is") {
		t.Errorf("without the device: %s", without.WhyStale(left))
	}
	testkit.Refused(without.Prove(t.Context(), left, nil))(t, "no accelerator is of the provider cuda")
}

// Where an accelerator computes TF32 anyway it is no variant, and other providers get none where originals are fast
// enough. Other families alone leave such layers alone.
func TestWhereLowerPrecisionIsNotDesigned(t *testing.T) {
	for name, c := range map[string]struct {
		gpu      runtime.Spec
		families []string
		want     int // families found
	}{
		"as it is":       {runtime.Spec{Name: "gpu", Provider: "cuda"}, []string{"tf32"}, 1},
		"TF32 already":   {runtime.Spec{Name: "gpu", Provider: "cuda", Options: map[string]string{"use_tf32": "1"}}, []string{"tf32"}, 0},
		"WebGPU":         {runtime.Spec{Name: "gpu", Provider: "webgpu"}, nil, 0},
		"other families": {runtime.Spec{Name: "gpu", Provider: "cuda"}, []string{"lowrank"}, 0},
		"emulated":       {runtime.Spec{Name: "gpu", Provider: runtime.EmulatedProvider}, nil, 0},
	} {
		d, m := gpuDesigner(t, network(t))
		d.Accelerators[0] = c.gpu
		testkit.OK(t, d.Design(t.Context(), lowered{m.Network}, Options{Families: c.families,
			Limits: Limits{MaxLoss: 0.01, Together: 0.03}}))
		found := map[string]bool{}
		for _, v := range d.Documents(nil) {
			for _, x := range v.Candidates {
				found[x.Family] = true
			}
		}
		if len(found) != c.want {
			t.Errorf("%s: candidates of %v", name, found)
		}
	}
}

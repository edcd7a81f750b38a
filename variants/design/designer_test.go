package design

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"gorgonia.org/tensor"

	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/internal/testkit/rig"
	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/models/dense"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/plan"
	"github.com/terastal/terastal/variants"
	"github.com/terastal/terastal/variants/accuracy"
)

const us = time.Microsecond

// noise is inputs of small numbers that are always the same.
type noise struct {
	n     int
	model *models.Model
}

func (d noise) Len() int      { return d.n }
func (d noise) Label(int) int { return -1 }

func (d noise) Inputs(i int) ([]*tensor.Dense, error) {
	var data [][]byte
	for _, t := range d.model.Inputs() {
		v := make([]float32, t.Elements())
		for k := range v {
			v[k] = float32(math.Sin(float64(i*7919 + k)))
		}
		data = append(data, ort.Data(v))
	}
	return dense.All(d.model.Inputs(), data)
}

// network is a small network in layers.
func network(t *testing.T) *runtime.Network {
	t.Helper()
	n := rig.Network(t, "glyph_vgg", "op")
	n.Name = "net"
	return n
}

// designer is one for a network on two accelerators, without data.
func designer(n *runtime.Network, here variants.Arithmetic) (*Designer, *Model) {
	one := *n
	m := &Model{Network: &one, Theta: 0.5}
	return &Designer{Models: []*Model{m}, Accelerators: []runtime.Spec{{Name: "a"}, {Name: "b"}}, Arithmetic: here}, m
}

func inputs(n *runtime.Network, count int) Data {
	return Data{Source: "noise", Open: func() (accuracy.Data, error) { return noise{count, n.Model}, nil }}
}

// varied is the layer that tests have variants of: all families apply to it.
const varied = 1

// folder is a folder of one variant of a layer, of a family and made for an arithmetic, and what a plan says of it.
func folder(t *testing.T, n *runtime.Network, family string, made variants.Arithmetic) (fstest.MapFS, plan.Variants) {
	t.Helper()
	list, _ := variants.Candidates(&n.Layers[varied], made)
	i := slices.IndexFunc(list, func(c *variants.Candidate) bool { return c.Family == family })
	if i < 0 {
		t.Fatalf("no %s", family)
	}
	data := testkit.Must(list[i].ONNX())(t)
	v := plan.Variants{Model: "net", SHA256: n.Model.SHA256(), Granularity: "op", Proof: plan.Proof{Metric: "error"},
		Chosen: []plan.Variant{{Layer: varied, Name: list[i].String(), File: "v.onnx", SHA256: variants.SHA256(data),
			Alone: 2}}}
	return fstest.MapFS{"v.onnx": {Data: data}}, v
}

func reader(from fs.FS) func(string) ([]byte, error) {
	return func(file string) ([]byte, error) { return fs.ReadFile(from, file) }
}

// Where 8-bit weights compute something else than where they were proven, the proof is of no use; weights that cannot
// saturate, and float ones, compute the same everywhere.
func TestProofsAreForAnArithmetic(t *testing.T) {
	n := network(t)
	for _, c := range []struct {
		family       string
		made         variants.Arithmetic
		proven, here variants.Arithmetic
		stale        bool
	}{
		{"int8", variants.Exact, "exact", "exact", false},
		{"int8", variants.Exact, "saturating", "saturating", false},
		{"int8", variants.Exact, "exact", "saturating", true},
		{"int8", variants.Exact, "saturating", "exact", true},
		{"int8", variants.Exact, "", "exact", true},
		{"int8", variants.Saturating, "saturating", "exact", false},
		{"int8", variants.Saturating, "exact", "saturating", false},
		{"int8", variants.Saturating, "", "exact", false},
		{"pruned-int8", variants.Exact, "exact", "saturating", true},
		{"pruned-int8", variants.Saturating, "saturating", "exact", false},
		{"lowrank", variants.Exact, "exact", "saturating", false},
		{"lowrank", variants.Exact, "", "saturating", false},
	} {
		d, m := designer(n, c.here)
		files, v := folder(t, n, c.family, c.made)
		v.Arithmetic = string(c.proven)
		if misfits, err := d.Use([]plan.Variants{v}, reader(files)); err != nil || len(misfits) > 0 {
			t.Fatal(misfits, err)
		}
		if stale := len(d.Stale()) == 1; stale != c.stale {
			t.Errorf("%s for %s, proven for %q, here %s: to be proven again: %v", c.family, c.made, c.proven, c.here, stale)
		}
		if c.stale && !strings.Contains(d.WhyStale(m), "here it is "+string(c.here)) {
			t.Errorf("%+v: %s", c, d.WhyStale(m))
		}
	}
}

// A proof of another arithmetic is made again where there are data; what is left out stays in the documents.
func TestProveAgainOrLeaveOut(t *testing.T) {
	d, m := designer(network(t), variants.Saturating)
	files, v := folder(t, m.Network, "int8", variants.Exact)
	v.Arithmetic = "exact"
	testkit.Must(d.Use([]plan.Variants{v}, reader(files)))(t)
	testkit.Refused(d.Prove(t.Context(), m, nil))(t, ErrNoData)
	m.Calibration = inputs(m.Network, 8)
	testkit.Must(d.Prove(t.Context(), m, nil))(t)
	if v := m.InUse; len(d.Stale()) > 0 || v.Arithmetic != "saturating" || v.Requests != 8 || v.Data != "noise" ||
		len(v.Sets) != 2 || v.Chosen[0].Alone == 2 {
		t.Errorf("proven again: %+v, stale %v", v, d.Stale())
	}
	d.LeaveOut(m)
	if list := d.Documents(nil); m.InUse != nil || m.Network.Variants != nil || len(list) != 1 || !list[0].Off {
		t.Errorf("left out: %+v, documents %+v", m.InUse, list)
	}
}

// What an earlier plan has for models that are off, gone or another is kept.
func TestUseKeepsWhatItCannotUse(t *testing.T) {
	d, m := designer(network(t), variants.Exact)
	files, v := folder(t, m.Network, "lowrank", variants.Exact)
	gone, other := v, v
	gone.Model, other.SHA256 = "gone", "0"
	misfits, err := d.Use([]plan.Variants{gone, other}, reader(files))
	list := d.Documents(nil)
	if err != nil || len(misfits) != 1 || misfits[0] != "net" || m.InUse != nil || len(list) != 2 || !list[0].Off ||
		!list[1].Off {
		t.Errorf("%v, %v, documents %+v", misfits, err, list)
	}
	m.Off = true
	if misfits, err := d.Use([]plan.Variants{v}, reader(files)); err != nil || len(misfits) > 0 || m.InUse != nil {
		t.Errorf("off: %v, %v", misfits, err)
	}
}

func describe(t *testing.T, files fstest.MapFS, v plan.Variants) {
	t.Helper()
	text := testkit.Must(json.Marshal(v))(t)
	files[FittedFile] = &fstest.MapFile{Data: text}
}

// Variants that were fitted elsewhere are taken, with files of their own, and
// are of no use before they are proven here.
func TestTake(t *testing.T) {
	d, m := designer(network(t), "")
	files, v := folder(t, m.Network, "lowrank", variants.Exact)
	v.Model, v.Metric = "other name", ""
	describe(t, files, v)
	testkit.OK(t, d.Take(m, files))
	if len(d.Stale()) != 1 || !strings.Contains(d.WhyStale(m), "not proven") {
		t.Error("unproven variants may be used")
	}
	out := t.TempDir()
	testkit.OK(t, d.Save(out))
	data, err := os.ReadFile(filepath.Join(out, "variants", "net", "v.onnx"))
	if err != nil || variants.SHA256(data) != v.Chosen[0].SHA256 || len(m.Network.Variants[varied]) != 1 {
		t.Errorf("%v, variants %v", err, m.Network.Variants)
	}
	m.Labelled = inputs(m.Network, 8)
	if _, err := d.Prove(t.Context(), m, nil); err != nil || m.InUse.Model != "net" || m.InUse.Requests != 8 ||
		len(d.Stale()) > 0 {
		t.Fatalf("proven: %+v, %v, unproven %v", m.InUse, err, d.Stale())
	}
	// What they take here is what the profile says.
	of := func(variant int, a, b time.Duration) sched.Implementation {
		return sched.Implementation{Name: fmt.Sprint(variant), Variant: variant, Latency: []time.Duration{a * us, b * us}}
	}
	profile, err := profiler.FromSystem(&sched.System{Accelerators: []string{"a", "b"},
		Models: []sched.Model{{Name: "net", Deadline: us, Variants: 1,
			Layers: []sched.Layer{{Name: "0", Implementations: []sched.Implementation{of(0, 1, 1)}},
				{Name: "1", Implementations: []sched.Implementation{of(0, 50, 20), of(1, 10, 40)}}}}}}, profiler.TableOptions{})
	testkit.OK(t, err)
	list := d.Documents(profile)
	if c := &list[0].Chosen[0]; c.Gain(0) != 5 || c.Gain(1) != 0.5 || len(c.Wanted) != 1 || c.Wanted[0] != "a" {
		t.Errorf("timed: %+v", c)
	}
	m.InUse.Chosen[0].File = "../v.onnx"
	testkit.Fails(t, d.Save(out), "cannot be a folder's")
}

// What does not fit is refused in one line.
func TestTakenVariantsHaveToFit(t *testing.T) {
	n := network(t)
	take := func(files fs.FS) error {
		d, m := designer(n, "")
		return d.Take(m, files)
	}
	for _, c := range map[string]struct {
		spoil func(files fstest.MapFS, v *plan.Variants)
		says  string
	}{
		"another model":       {func(_ fstest.MapFS, v *plan.Variants) { v.SHA256 = "0" }, "another model"},
		"another granularity": {func(_ fstest.MapFS, v *plan.Variants) { v.Granularity = "block" }, `granularity "block"`},
		"a damaged file":      {func(d fstest.MapFS, _ *plan.Variants) { d["v.onnx"].Data[0]++ }, "SHA-256"},
		"a missing file":      {func(d fstest.MapFS, _ *plan.Variants) { delete(d, "v.onnx") }, "v.onnx"},
		"a file outside":      {func(_ fstest.MapFS, v *plan.Variants) { v.Chosen[0].File = "../v.onnx" }, "../v.onnx"},
		"another order": {func(_ fstest.MapFS, v *plan.Variants) {
			v.Chosen = append(v.Chosen, v.Chosen[0])
			v.Chosen[1].Layer--
		}, "order of layers"},
		"no such layer": {func(_ fstest.MapFS, v *plan.Variants) { v.Chosen[0].Layer = 77 }, "layer 77"},
	} {
		files, v := folder(t, n, "lowrank", variants.Saturating)
		c.spoil(files, &v)
		describe(t, files, v)
		testkit.Fails(t, take(files), c.says)
	}
	testkit.Fails(t, take(fstest.MapFS{}), fs.ErrNotExist.Error())
	if err := take(fstest.MapFS{FittedFile: {Data: []byte("{")}}); err == nil {
		t.Error("a torn description was taken")
	}
}

// What is added comes behind the variants of its layer, so that variants stay in
// the order in which the scheduler numbers them.
func TestInsert(t *testing.T) {
	of := func(layers ...int) (list []*variants.Candidate) {
		for i, l := range layers {
			list = append(list, &variants.Candidate{Variant: plan.Variant{Layer: l, Parameters: string(rune('a' + i))}})
		}
		return list
	}
	for _, c := range []struct {
		list        []*variants.Candidate
		layer, want int
	}{{nil, 3, 0}, {of(1, 3, 3, 5), 3, 3}, {of(1, 3, 3, 5), 0, 0}, {of(1, 3, 3, 5), 9, 4}, {of(1, 3, 3, 5), 2, 1}} {
		list, at := insert(c.list, &variants.Candidate{Variant: plan.Variant{Layer: c.layer, Family: variants.Added}})
		if at != c.want || list[at].Family != variants.Added || len(list) != len(c.list)+1 ||
			!slices.IsSortedFunc(list, func(a, b *variants.Candidate) int { return a.Layer - b.Layer }) {
			t.Errorf("layer %d: at %d, want %d: %v", c.layer, at, c.want, list)
		}
	}
}

// A plan's columns follow the accelerators' names.
func TestRealign(t *testing.T) {
	d := Designer{Accelerators: []runtime.Spec{{Name: "new"}, {Name: "b"}, {Name: "a"}}}
	m := &Model{InUse: &plan.Variants{
		Accelerators: []string{"a", "b"},
		Chosen:       []plan.Variant{{Latency: []time.Duration{1 * us, 2 * us}, Original: []time.Duration{3 * us, 4 * us}}},
		Candidates:   []plan.Variant{{Latency: []time.Duration{5 * us}}},
	}}
	before := m.InUse.Chosen
	d.realign(m)
	want := &plan.Variants{
		Accelerators: []string{"new", "b", "a"},
		Chosen: []plan.Variant{
			{Latency: []time.Duration{0, 2 * us, 1 * us}, Original: []time.Duration{0, 4 * us, 3 * us}}},
		Candidates: []plan.Variant{{Latency: []time.Duration{0, 0, 5 * us}, Original: []time.Duration{0, 0, 0}}},
	}
	testkit.Equal(t, want, m.InUse)
	if before[0].Latency[0] != us {
		t.Error("it changed the plan that was read")
	}
	d.realign(&Model{}) // has none
}

// One that ties with the original is not faster; one that runs where the original cannot is.
func TestFaster(t *testing.T) {
	d := &Designer{Accelerators: []runtime.Spec{{Name: "a"}, {Name: "b"}}}
	for _, c := range []struct {
		latency, original []time.Duration
		refused           map[int]string
		wanted            []string
		says              string
	}{
		{[]time.Duration{9 * us, 5 * us}, []time.Duration{10 * us, 5 * us}, nil, []string{"a"}, ""},
		{[]time.Duration{10 * us, 5 * us}, []time.Duration{10 * us, 0}, nil, []string{"b"}, ""},
		{[]time.Duration{10 * us, 0}, []time.Duration{10 * us, 5 * us}, map[int]string{1: "no such operator"}, nil,
			"on no accelerator: 10.0 us on a, the original 10.0 us; b refuses it (no such operator)"},
		{[]time.Duration{0, 0}, []time.Duration{0, 5 * us}, map[int]string{0: "no", 1: "no"}, nil,
			"a refuses it (no); b refuses it (no)"},
		{[]time.Duration{0, 9 * us}, []time.Duration{0, 5 * us}, nil, nil, "it was not measured on a; 9.0 us on b"},
	} {
		x := &variants.Candidate{Variant: plan.Variant{Latency: c.latency, Original: c.original}}
		testkit.Says(t, d.faster(x, func(k int) string { return c.refused[k] }), c.says)
		if !slices.Equal(x.Wanted, c.wanted) {
			t.Errorf("%v: for %v, want %v", c, x.Wanted, c.wanted)
		}
	}
}

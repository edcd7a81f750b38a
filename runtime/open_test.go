package runtime_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/internal/testkit/rig"
	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/models/dense"
	"github.com/terastal/terastal/models/zoo"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/plan"
	"github.com/terastal/terastal/sched/traffic"
)

// deployed is a folder with a plan of the keyword-spotting network in blocks: on the CPU and on an emulated accelerator
// that computes, with a variant of layer 1 that computes what the original does.
func deployed(t *testing.T) (folder string, p *plan.Plan) {
	t.Helper()
	folder = t.TempDir()
	data, err := zoo.Build("ds_cnn_kws", 1)
	testkit.OK(t, err)
	testkit.Write(t, filepath.Join(folder, "models", "kws.onnx"), data)
	n := rig.Network(t, "ds_cnn_kws", "block")
	variant := testkit.Must(n.Layers[1].ONNX())(t)
	testkit.Write(t, filepath.Join(folder, "variants", "copy.onnx"), variant)
	sum := sha256.Sum256(variant)
	n.Variants = map[int][]runtime.Unit{1: {{Name: "copy"}}}
	slow := func(runtime.Unit) (time.Duration, bool) { return time.Millisecond, true }
	times := runtime.Emulated([]*runtime.Network{n}, slow)

	m := sched.Model{Name: n.Name, Deadline: time.Second, Variants: 1, Valid: []sched.VariantSet{0, 1}}
	for l, layer := range n.Layers {
		x := sched.Layer{Name: layer.Name,
			Implementations: []sched.Implementation{{Name: "original",
				Latency: []time.Duration{time.Millisecond, time.Millisecond}}}}
		if l == 1 {
			x.Implementations = append(x.Implementations, sched.Implementation{Name: "copy", Variant: 1,
				Latency: []time.Duration{time.Microsecond, time.Microsecond}})
		}
		m.Layers = append(m.Layers, x)
	}
	p, _, err = plan.New(sched.System{Accelerators: []string{"cpu", "array"}, Models: []sched.Model{m}},
		[]plan.Model{{Source: "models/kws.onnx", SHA256: n.Model.SHA256(), Granularity: "block",
			Cut: models.Cut(n.Layers).String(), Rate: 10}},
		[]plan.Accelerator{{Name: "cpu", Optimization: "basic"},
			{Name: "array", Provider: runtime.EmulatedProvider, Options: map[string]string{"compute": "true"}, Emulated: times}})
	testkit.OK(t, err)
	p.Variants = []plan.Variants{{Model: n.Name, Proof: plan.Proof{Arithmetic: "exact"}, Chosen: []plan.Variant{
		{Layer: 1, Name: "copy", File: "variants/copy.onnx", SHA256: hex.EncodeToString(sum[:])}}}}
	return folder, p
}

// Loading ends when its context does, between two layers or while everything is warmed up, and leaves nothing behind.
func TestOpenInterrupted(t *testing.T) {
	folder, p := deployed(t)
	path := filepath.Join(folder, "plan.json")
	testkit.OK(t, p.Write(path))
	for _, at := range []float64{0.5, 1} {
		ctx, stop := context.WithCancel(context.Background())
		leaks := goleak.IgnoreCurrent()
		loaded := 0.0
		_, err := runtime.Open(path, runtime.OpenOptions{Arithmetic: "exact", Context: ctx, Loaded: func(share float64) {
			if loaded = share; share >= at {
				stop()
			}
		}})
		if !errors.Is(err, context.Canceled) || loaded > at+0.2 {
			t.Errorf("interrupted at %v: %v, %v was loaded", at, err, loaded)
		}
		goleak.VerifyNone(t, leaks)
		stop()
	}
}

// A plan that was written is all that is needed to run: requests by name get
// the whole model's outputs, and traffic runs as well.
func TestOpen(t *testing.T) {
	folder, p := deployed(t)
	path := filepath.Join(folder, "plan.json")
	testkit.OK(t, p.Write(path))
	loaded := 0.0
	e := testkit.Must(runtime.Open(path, runtime.OpenOptions{Arithmetic: "exact", Seed: 5,
		Loaded: func(share float64) { loaded = share }}))(t)
	ctx := context.Background()
	defer e.Close(ctx)
	if loaded != 1 {
		t.Errorf("%v of the layers were loaded", loaded)
	}
	n := rig.Network(t, "ds_cnn_kws", "block")
	in := testkit.Must(n.Inputs(9))(t)
	want := testkit.Must(n.Reference([][]*runtime.Tensor{in}))(t)
	pending := testkit.Must(e.Submit(ctx, "ds_cnn_kws", byName(t, in), runtime.RequestOptions{}))(t)
	r, err := pending.Wait(ctx)
	if err != nil || r.Outcome != sched.Met {
		t.Fatal(r, err)
	}
	got := testkit.Must(dense.Bytes(r.Outputs["output"]))(t)
	if d, err := models.Compare(n.Model.Outputs()[0].Type, got, want[0][0]); err != nil ||
		!(d.MaxRel <= runtime.Tolerance) {
		t.Errorf("outputs differ: %+v %v", d, err)
	}
	if s := e.Stats(); s.Models[0].Met != 1 || s.Models[0].Name != "ds_cnn_kws" {
		t.Errorf("stats %+v", s)
	}
	o := runtime.Options{Policy: "terastal", Traffic: traffic.Config{Rates: []float64{50},
		Duration: 200 * time.Millisecond}, Samples: 2}
	testkit.Refused(e.Run(ctx, o))(t, runtime.ErrBusy)
	if r := e.Stop(ctx); r == nil || r.Stats.Models[0].Met != 1 {
		t.Errorf("served %+v", r)
	}
	testkit.OK(t, e.SetInputs(n.Name, []runtime.Tensors{byName(t, in)}))
	for _, err := range []error{e.SetInputs("other", []runtime.Tensors{{}}), e.SetInputs(n.Name, nil),
		e.SetInputs(n.Name, []runtime.Tensors{{}})} {
		if err == nil {
			t.Error("inputs that do not fit are taken")
		}
	}
	run := testkit.Must(e.Run(ctx, o))(t)
	check(t, run)
	for _, s := range run.Samples {
		if d, err := models.Compare(n.Model.Outputs()[0].Type, s.Outputs[0], want[0][0]); err != nil ||
			!(d.MaxRel <= runtime.Tolerance) {
			t.Errorf("a request did not use the inputs that were set: %+v %v", d, err)
		}
	}
	if v, err := e.Verify(run.Samples); err != nil || v.Verified != 2 {
		t.Errorf("%+v %v", v, err)
	}
}

// The same plan opens where the models lie elsewhere, or are made.
func TestOpenSources(t *testing.T) {
	folder, p := deployed(t)
	path, root := filepath.Join(folder, "out", "plan.json"), folder
	p.Variants, p.System.Models[0].Layers[1].Implementations = nil, p.System.Models[0].Layers[1].Implementations[:1]
	for _, source := range []string{"models/kws.onnx", "zoo:ds_cnn_kws"} {
		p.Models[0].Source = source
		planned, _, err := plan.New(p.System, p.Models, p.Accelerators)
		if err == nil {
			err = planned.Write(path)
		}
		testkit.OK(t, err)
		e, err := runtime.Open(path, runtime.OpenOptions{Root: root,
			Load: func(source string, o models.Options) (*models.Model, error) {
				name, built := strings.CutPrefix(source, "zoo:")
				if !built {
					return nil, nil
				}
				data, err := zoo.Build(name, 1)
				if err != nil {
					return nil, err
				}
				return models.Parse("made", data, o)
			}})
		if err != nil {
			t.Fatalf("%s: %v", source, err)
		}
		e.Close(context.Background())
	}
	other := testkit.Must(models.Parse("other", testkit.Must(zoo.Build("ds_cnn_kws", 2))(t), models.Options{}))(t)
	testkit.Refused(runtime.Open(path, runtime.OpenOptions{Root: root,
		Load: func(string, models.Options) (*models.Model, error) { return other, nil }}))(t, "plan again")
}

// What does not fit the plan, or leads out of its folder, is refused with a line that says what to do.
func TestPlansRefused(t *testing.T) {
	folder, p := deployed(t)
	whole := testkit.Must(os.ReadFile(filepath.Join(folder, "models", "kws.onnx")))(t)
	outside := filepath.Join(t.TempDir(), "kws.onnx")
	testkit.Write(t, outside, whole)
	testkit.OK(t, os.Symlink(outside, filepath.Join(folder, "link.onnx")))
	testkit.Write(t, filepath.Join(folder, "variants", "damaged.onnx"), []byte("damaged"))
	type parts struct {
		m *plan.Model
		a []plan.Accelerator
		v *plan.Variants
	}
	for _, c := range []struct {
		name, want string
		spoil      func(x *parts)
	}{
		{"no file", "can only be simulated", func(x *parts) { x.m.Source = "" }},
		{"a missing file", "there is no file models/none.onnx", func(x *parts) { x.m.Source = "models/none.onnx" }},
		{"a file outside", "escapes", func(x *parts) { x.m.Source = "../kws.onnx" }},
		{"an absolute path", "escapes", func(x *parts) { x.m.Source = outside }},
		{"a link that leads outside", "escapes", func(x *parts) { x.m.Source = "link.onnx" }},
		{"another model", "plan again", func(x *parts) { x.m.SHA256 = strings.Repeat("0", 64) }},
		{"a source that nobody opens", "OpenOptions.Load", func(x *parts) { x.m.Source = "zoo:ds_cnn_kws" }},
		{"another cut", "it splits into 1 layers", func(x *parts) { x.m.Cut = "model" }},
		{"no cut", "granularity", func(x *parts) { x.m.Cut = "" }},
		{"a damaged variant", "its SHA-256 is not the plan's", func(x *parts) { x.v.Chosen[0].File = "variants/damaged.onnx" }},
		{"a variant outside", "escapes", func(x *parts) { x.v.Chosen[0].File = "../copy.onnx" }},
		{"a variant of no layer", "is of layer 99", func(x *parts) { x.v.Chosen[0].Layer = 99 }},
		{"a variant that is not the system's", "not the plan's implementations", func(x *parts) { x.v.Chosen[0].Name = "other" }},
		{"variants that are off", "not the plan's implementations", func(x *parts) { x.v.Off = true }},
		{"another arithmetic", "prove them again", func(x *parts) { x.v.Arithmetic = "saturating" }},
		{"another graphics processor", "proven on NVIDIA none, this machine has",
			func(x *parts) { x.v.Device = "NVIDIA none" }},
		{"a provider that is not there", "nonesuch", func(x *parts) { x.a[0].Provider = "nonesuch" }},
		{"latencies of a table", "table", func(x *parts) { x.a[0].Provider = "table" }},
		{"no latency", "has no latency for", func(x *parts) { x.a[1].Emulated = nil }},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := *p
			x.Models, x.Accelerators = []plan.Model{p.Models[0]}, append([]plan.Accelerator(nil), p.Accelerators...)
			x.Variants = []plan.Variants{p.Variants[0]}
			x.Variants[0].Chosen = append([]plan.Variant(nil), p.Variants[0].Chosen...)
			c.spoil(&parts{&x.Models[0], x.Accelerators, &x.Variants[0]})
			path := filepath.Join(folder, "plan.json")
			testkit.OK(t, x.Write(path))
			e, err := runtime.Open(path, runtime.OpenOptions{Arithmetic: "exact"})
			if err == nil {
				e.Close(context.Background())
				t.Fatal("it opens")
			}
			testkit.Fails(t, err, runtime.ErrPlan, c.want)
		})
	}
}

// A plan holds every setting of an accelerator that documents hold.
func TestSpecsInPlans(t *testing.T) {
	s := runtime.Spec{Name: "a", Provider: "b", Options: map[string]string{"c": "d"}, Optimization: "e", Threads: 1,
		Cores: []int{2}, Device: "f", LibrarySHA256: "g", Of: "h", Stream: 3, KeepWarm: true}
	a, spec := reflect.ValueOf(s.Plan()), reflect.ValueOf(s)
	for i := range spec.NumField() {
		f := spec.Type().Field(i)
		if f.Tag.Get("json") == "-" {
			continue
		}
		if x := a.FieldByName(f.Name); !x.IsValid() || !reflect.DeepEqual(x.Interface(), spec.Field(i).Interface()) ||
			spec.Field(i).IsZero() {
			t.Errorf("a plan does not hold %s", f.Name)
		}
	}
}

// closing tells how often it was closed, and may refuse everything.
type closing struct {
	runtime.Accelerator
	closed  *int
	refuses bool
}

func (c closing) Prepare(u runtime.Unit) (runtime.Kernel, error) {
	if c.refuses {
		return nil, errors.New("refused by the test")
	}
	return c.Accelerator.Prepare(u)
}

func (c closing) Close() error { *c.closed++; return c.Accelerator.Close() }

// What Open opens is wrapped as asked, and closed once: with the executor, or when the plan does not open.
func TestOpenOwnsAccelerators(t *testing.T) {
	folder, p := deployed(t)
	path := filepath.Join(folder, "plan.json")
	testkit.OK(t, p.Write(path))
	for _, refuses := range []bool{false, true} {
		wrapped, closed := 0, 0
		e, err := runtime.Open(path, runtime.OpenOptions{Wrap: func(a runtime.Accelerator) runtime.Accelerator {
			wrapped++
			return closing{a, &closed, refuses}
		}})
		if (err != nil) != refuses || !refuses && closed != 0 {
			t.Fatalf("refusing %v: %v, %d closed", refuses, err, closed)
		}
		if !refuses {
			e.Close(context.Background())
		}
		if wrapped != 2 || closed != 2 {
			t.Errorf("refusing %v: %d wrapped, %d closed, want both twice", refuses, wrapped, closed)
		}
	}
}

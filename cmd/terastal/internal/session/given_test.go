package session

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/terastal/terastal/cmd/terastal/internal/config"
	"github.com/terastal/terastal/internal/document"
	"github.com/terastal/terastal/internal/ort/orttest"
	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/fluid"
	"github.com/terastal/terastal/sched/plan"
)

const ms = time.Millisecond

// elsewherePlan is a plan of a machine that is not here: of a model with a variant and a handoff, and one that it
// triggers.
func elsewherePlan(t testing.TB) string {
	t.Helper()
	layer := func(name string, d ...time.Duration) sched.Layer {
		return sched.Layer{Name: name, Implementations: []sched.Implementation{{Name: "original", Latency: d}}}
	}
	first := sched.Model{Name: "net", Deadline: 30 * ms, Variants: 1, Valid: []sched.VariantSet{0, 1},
		Accuracy: []float64{1, 0.97}, Floor: 0.98, Layers: []sched.Layer{layer("a", 2*ms, 4*ms), layer("b", 6*ms, ms)}}
	first.Layers[1].Handoff = [][]time.Duration{{0, 3 * ms}, {ms, 0}}
	first.Layers[1].Implementations = append(first.Layers[1].Implementations,
		sched.Implementation{Name: "fast", Variant: 1, Latency: []time.Duration{2 * ms, ms / 2}})
	then := sched.Model{Name: "then", Deadline: 20 * ms, Layers: []sched.Layer{layer("c", ms, sched.Unavailable)},
		Trigger: &sched.Trigger{Parent: "net", Probability: 1}}
	p, _ := testkit.Must2(plan.New(sched.System{Accelerators: []string{"cpu", "npu"}, Models: []sched.Model{first, then}},
		[]plan.Model{{Source: builtIn + "ds_cnn_kws.onnx", SHA256: "0", Granularity: "op", Rate: 40}, {Source: "then.onnx"}},
		[]plan.Accelerator{{Cores: []int{70}}, {Provider: "qnn"}}))(t)
	path := filepath.Join(t.TempDir(), "plan.json")
	testkit.OK(t, p.Write(path))
	return path
}

// packed is a gzipped copy of a file.
func packed(t *testing.T, path string) string {
	t.Helper()
	f := testkit.Must(os.Create(path + document.Gzipped))(t)
	defer f.Close()
	z := gzip.NewWriter(f)
	testkit.Must(z.Write(testkit.Must(os.ReadFile(path))(t)))(t)
	testkit.OK(t, z.Close())
	return path + document.Gzipped
}

// unconfigured is what flags alone say.
func unconfigured(t *testing.T, args ...string) *config.Config {
	t.Helper()
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	config.AddFlags(flags, "load", "scale", "duration", "policies", "accuracy", "seed")
	testkit.OK(t, flags.Parse(append([]string{"--duration", "1s", "--policies", "edf"}, args...)))
	c := testkit.Must(config.Load("", flags))(t)
	c.Out = t.TempDir()
	return c
}

// A plan says everything: it is planned again at other rates and floors, and simulated, with its handoffs, triggers and
// variants, and nothing of its machine is there.
func TestPlanElsewhere(t *testing.T) {
	path := elsewherePlan(t)
	was, _ := testkit.Must2(plan.Read(path))(t)
	for _, path := range []string{path, packed(t, path)} {
		s := testkit.Must(Prepare(context.Background(), unconfigured(t), true, quietly(t, path)))(t)
		testkit.Equal(t, was, s.Plan.Document)
		r := testkit.Must(s.Simulate())(t)
		for _, m := range r.Policies[0].Models {
			if m.Met != 40 || m.Released != 40 {
				t.Errorf("%s: %+v", m.Model, m.Totals)
			}
		}
		// 2 ms, then 3 ms of handoff and 1 ms: both are idle, and edf takes the earliest end.
		if m := r.Policies[0].Models[0]; math.Abs(m.P50MS-6) > 1e-9 {
			t.Errorf("it takes %v ms", m.P50MS)
		}
		if !strings.Contains(r.Hardware, "cpu, npu from "+path) {
			t.Errorf("hardware: %s", r.Hardware)
		}
	}
	s := testkit.Must(Prepare(context.Background(), unconfigured(t, "--load", "0.5", "--accuracy", "0.5"), true,
		quietly(t, path)))(t)
	d := s.Plan.Document
	if math.Abs(1/d.Capacity.Scale-0.5) > 1e-6 || s.Plan.Load != 0.5 || d.System.Models[0].Floor != 0.5 ||
		d.Models[0].Source != builtIn+"ds_cnn_kws.onnx" || d.Accelerators[1].Provider != "qnn" {
		t.Errorf("planned again: %+v", d)
	}
	written := testkit.Must(s.WritePlan())(t)
	testkit.Must2(plan.Read(written))(t)
	if _, err := os.Stat(filepath.Join(s.Config.Out, d.Models[0].Source)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a network of the other machine was made: %v", err)
	}
	again, _ := testkit.Must2(plan.Read(path))(t)
	testkit.Equal(t, was, again)
}

// A configuration chooses models of a plan, which brings their variants; of a profile these are left out.
func TestConfiguredPlanElsewhere(t *testing.T) {
	path := elsewherePlan(t)
	const text = "models: [{name: net, rate: 10, deadline: 15ms}]\npolicies: [edf]\naccuracy: 0.9"
	s := testkit.Must(Prepare(context.Background(), configured(t, text), true, quietly(t, path)))(t)
	m := s.Plan.Tables.System().Models
	if len(m) != 1 || m[0].Deadline != 15*ms || m[0].Floor != 0.9 || len(m[0].Valid) != 2 || m[0].Accuracy[1] != 0.97 {
		t.Errorf("models %+v", m)
	}
	g := testkit.Must(ReadGiven(path))(t)
	alone := filepath.Join(t.TempDir(), "profile.json")
	testkit.OK(t, g.Profile.Write(alone))
	var notes []string
	o := quietly(t, alone)
	o.Note = func(format string, args ...any) { notes = append(notes, format) }
	s = testkit.Must(Prepare(context.Background(), configured(t, text), true, o))(t)
	if m := s.Plan.Tables.System().Models[0]; m.Floor != 0 || len(m.Valid) > 0 || len(notes) != 2 {
		t.Errorf("model %+v, notes %q", m, notes)
	}
	if text := testkit.Must(ReadGiven(alone))(t).variants(); !strings.Contains(text, "variants are left out") {
		t.Errorf("variants: %q", text)
	}
}

func TestGivenRefused(t *testing.T) {
	profile, made := foreign(t), elsewherePlan(t)
	log := testkit.Write(t, filepath.Join(t.TempDir(), "log.json"), testkit.Must(document.Encode("log", 2, 1))(t))
	testkit.Refused(ReadGiven(log))(t, document.ErrKind, `need "profile", or a plan`)
	_, err := ReadGiven(filepath.Join(t.TempDir(), "none.json"))
	testkit.Fails(t, err, os.ErrNotExist, "none.json")
	var usage UsageError
	_, err = Prepare(context.Background(), unconfigured(t), true, quietly(t, profile))
	if testkit.Says(t, err, "no rates and deadlines"); !errors.As(err, &usage) {
		t.Errorf("no usage error: %v", err)
	}
	for _, path := range []string{profile, made} {
		_, err = Prepare(context.Background(), configured(t, "models: [{name: net, rate: 5}]"), false, quietly(t, path))
		if testkit.Says(t, err, "--emulated"); !errors.As(err, &usage) {
			t.Errorf("%s: no usage error: %v", path, err)
		}
	}
	// What is named and is neither is not measured again over it.
	_, err = Prepare(context.Background(), configured(t, "models: [{name: net, rate: 5}]"), true, quietly(t, log))
	testkit.Fails(t, err, document.ErrKind)
	for name, want := range map[string]string{"profile:" + log: "or a plan", "profile:nowhere": "nowhere",
		"hw/none": "or profile:FILE", "profile:": "read profile"} {
		_, err := LoadScenario(name)
		testkit.Says(t, err, want)
	}
}

// The rates and deadlines that a profile gets: all models demand the same share, in all the capacity.
func TestScenarioOfProfile(t *testing.T) {
	s := testkit.Must(LoadScenario("profile:" + packed(t, foreign(t))))(t)
	tables := testkit.Must(sched.Compile(s.System))(t)
	c := testkit.Must(fluid.CapacityOf(tables, s.Rates))(t)
	if math.Abs(c.Scale-1) > 1e-6 || s.System.Models[0].Deadline != 5*ms || !strings.Contains(s.Note, "chosen") ||
		!strings.Contains(s.Source, "another processor with 1000 cores on 2026-01-01") {
		t.Errorf("%+v, capacity %v", s, c.Scale)
	}
	made := elsewherePlan(t)
	s = testkit.Must(LoadScenario("profile:" + made))(t)
	testkit.Equal(t, []float64{40, 0}, s.Rates)
	// The plan's floor stays unless another is given.
	for _, c := range []struct {
		args  []string
		floor float64
	}{{nil, 0.98}, {[]string{"--accuracy", "0"}, 0}, {[]string{"--accuracy", "0.5"}, 0.5}} {
		s := testkit.Must(OpenScenario(unconfigured(t, c.args...), "profile:"+made, true, quietly(t, "")))(t)
		if got := s.Plan.Tables.System().Models[0].Floor; got != c.floor {
			t.Errorf("%v: floor %v, want %v", c.args, got, c.floor)
		}
		if r := testkit.Must(s.Simulate())(t); r.Policies[0].Met != 80 {
			t.Errorf("%v: %+v", c.args, r.Policies[0].Totals)
		}
	}
	// A load scales the rates of a scenario.
	_, cell, _, err := ofScenario("profile:"+made, unconfigured(t, "--load", "0.5"))
	testkit.OK(t, err)
	s = testkit.Must(LoadScenario("profile:" + made))(t)
	own := testkit.Must(fluid.CapacityOf(testkit.Must(sched.Compile(s.System))(t), s.Rates))(t)
	if math.Abs(cell.Scale-0.5*own.Scale) > 1e-9 {
		t.Errorf("scale %v, capacity %v", cell.Scale, own.Scale)
	}
}

// TestSimulateWithoutModels: a profile that this machine measured is simulated without its models' files.
func TestSimulateWithoutModels(t *testing.T) {
	p := testkit.Must(profiler.Read(foreign(t)))(t)
	p.Host = profiler.ThisHost()
	p.Accelerators, p.Cells, p.Devices = p.Accelerators[:1], p.Cells[:1], nil
	path := filepath.Join(t.TempDir(), "here.json")
	testkit.OK(t, p.Write(path))
	const text = "accelerators: [{name: cpu}]\nmodels: [{name: net, source: gone.onnx, rate: 50}]\n" +
		"traffic: {duration: 1s}\npolicies: [edf]"
	o := quietly(t, path)
	o.ORT = "" // there or not
	s := testkit.Must(Prepare(context.Background(), configured(t, text), true, o))(t)
	if r := testkit.Must(s.Simulate())(t); r.Policies[0].Met != 50 {
		t.Errorf("%+v", r.Policies[0].Totals)
	}
	if _, err := Prepare(context.Background(), configured(t, text), false, o); err == nil {
		t.Error("it would run without the file")
	}
}

// Emulated accelerators take as long as the profile says, handoffs included: a run on them is what the simulator
// predicts, where nothing is drawn and no layer waits for another.
func TestEmulatedElsewhere(t *testing.T) {
	orttest.Start(t)
	for _, path := range []string{elsewherePlan(t), foreign(t)} {
		c := unconfigured(t, "--scale", "0.5")
		if strings.HasSuffix(path, "foreign.json") {
			c = configured(t, "models: [{name: net, rate: 20}]\ntraffic: {duration: 1s}\npolicies: [edf]")
		}
		o := quietly(t, path)
		o.Emulated, o.ORT = true, ""
		s := testkit.Must(Prepare(context.Background(), c, false, o))(t)
		r := testkit.Must(s.Run(context.Background(), Real{}))(t)
		p := &r.Policies[0]
		if p.Released == 0 || p.Failed > 0 || p.Verification != nil {
			t.Errorf("%s: %+v", path, p)
		}
		for _, a := range r.Accelerators {
			if a.Provider != runtime.EmulatedProvider {
				t.Errorf("%s: accelerator %+v", path, a)
			}
		}
		if m := p.Models[0]; strings.HasSuffix(path, "plan.json") && m.P50MS < 6 {
			t.Errorf("layers of 3 ms and a handoff of 3 ms took %v ms", m.P50MS)
		}
		if !strings.Contains(r.Hardware, "Nothing is computed") {
			t.Errorf("hardware: %s", r.Hardware)
		}
		c.Policies = []string{runtime.UnscheduledCPU}
		_, err := emulate(s, path)
		testkit.Says(t, err, "leave it out")
	}
}

// TestCrowd: layers take longer by what is busy when they begin.
func TestCrowd(t *testing.T) {
	c := newCrowd(&profiler.Profile{Accelerators: make([]runtime.Spec, 4),
		Interference: []profiler.Interference{{Accelerator: 0, Busy: 1, Slowdown: 0.5}},
		Devices:      []profiler.Device{{Name: "gpu", Accelerators: []int{1, 2, 3}, Contention: []float64{0, 0.25, 1}}}})
	for _, x := range []struct {
		k    int
		want time.Duration
	}{{0, time.Hour}, {1, time.Hour}, {0, 3 * time.Hour / 2}, {2, 5 * time.Hour / 4}, {3, 2 * time.Hour},
		{2, 2 * time.Hour}} {
		if got := c.stretch(x.k, time.Hour); got != x.want {
			t.Errorf("a layer on %d takes %v, want %v", x.k, got, x.want)
		}
	}
}

// FuzzGiven: whatever a profile or a plan holds, it is refused, or becomes a scenario that can be simulated.
func FuzzGiven(f *testing.F) {
	for _, path := range []string{foreign(f), elsewherePlan(f)} {
		var envelope struct {
			Kind    string          `json:"terastal"`
			Version int             `json:"version"`
			SHA256  string          `json:"sha256"`
			Body    json.RawMessage `json:"body"`
		}
		testkit.OK(f, json.Unmarshal(testkit.Must(os.ReadFile(path))(f), &envelope))
		f.Add([]byte(envelope.Body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, kind := range []string{"profile", "plan"} {
			data, err := document.Encode(kind, 3, json.RawMessage(body))
			if err != nil {
				return
			}
			path := testkit.Write(t, filepath.Join(t.TempDir(), "given.json"), data)
			s, err := LoadScenario(fileScenario + path)
			if err != nil {
				continue
			}
			tables, err := sched.Compile(s.System)
			testkit.OK(t, err)
			if _, err := fluid.CapacityOf(tables, s.Rates); err != nil {
				t.Errorf("%s: %v", kind, err)
			}
		}
	})
}

package profiler_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/terastal/terastal/internal/ort/orttest"
	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/internal/testkit/rig"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
)

// refusing is a real accelerator that refuses one layer.
type refusing struct {
	runtime.Accelerator
	layer string
}

func (r refusing) Prepare(u runtime.Unit) (runtime.Kernel, error) {
	if strings.Contains(u.Name, r.layer) {
		return nil, errors.New("refused by the test")
	}
	return r.Accelerator.Prepare(u)
}

var specs = []runtime.Spec{{Name: "all"}, {Name: "basic", Optimization: "basic"}}

// network is a small one in blocks.
func network() (*runtime.Network, error) { return rig.Build("ds_cnn_kws", "block") }

// task measures the network on two accelerators in this process, the second of which refuses the third layer.
func task(t *testing.T) profiler.Task {
	t.Helper()
	orttest.Start(t)
	n := testkit.Must(network())(t)
	return profiler.Task{Accelerators: specs, Networks: []*runtime.Network{n},
		Open: func(s runtime.Spec) (runtime.Accelerator, error) {
			a, err := runtime.OpenORT(s)
			if err == nil && s.Name == specs[1].Name {
				a = refusing{a, n.Layers[2].Name}
			}
			return a, err
		}}
}

var host = profiler.Host{CPU: "test", LogicalCores: 2}

func options(budget time.Duration) profiler.Options {
	return profiler.Options{Budget: budget, Now: time.Unix(1700000000, 0), Host: host}
}

func measure(t *testing.T, budget time.Duration) *profiler.Profile {
	t.Helper()
	return testkit.Must(profiler.Measure(context.Background(), task(t), options(budget)))(t)
}

// Every cell is there with plausible order statistics, or says why not; so is what is measured in between; the document
// survives a round trip; the task system follows from it.
func TestMeasure(t *testing.T) {
	p := measure(t, 100*time.Millisecond)
	layers := p.Models[0].Layers
	if want := 2 * len(layers); len(p.Cells) != want {
		t.Fatalf("%d cells, want %d", len(p.Cells), want)
	}
	for _, c := range p.Cells {
		if c.Accelerator == 1 && c.Layer == 2 {
			if c.Refused != "refused by the test" || c.N != 0 {
				t.Errorf("the refused cell is %+v", c)
			}
			continue
		}
		if c.N < 12 || c.Min <= 0 || c.Min > c.P50 || c.P50 > c.P90 || c.P90 > c.P95 || c.P95 > c.P99 || c.Low > c.P50 ||
			c.High < c.P50 || c.Mean < c.Min {
			t.Errorf("cell %+v", c)
		}
		if len(c.Samples) != min(c.N, 128) || c.Load <= 0 {
			t.Errorf("%d samples of %d, loaded in %v", len(c.Samples), c.N, c.Load)
		}
	}
	if len(p.Interference) != 2 || p.Interference[0].Accelerator == p.Interference[1].Accelerator ||
		p.Interference[0].N < 1 {
		t.Errorf("interference %+v", p.Interference)
	}
	if len(p.Chains) != 1 || p.Chains[0].Accelerator != 0 || p.Chains[0].Sum <= 0 || p.Chains[0].Chained <= 0 ||
		p.Chains[0].Whole <= 0 {
		t.Errorf("chains %+v, want one, on the accelerator that runs all layers", p.Chains)
	}
	if len(p.Dispatches) != 1 || p.Dispatches[0].P50 <= 0 || p.Dispatches[0].P99 < p.Dispatches[0].P50 {
		t.Errorf("dispatches %+v", p.Dispatches)
	}
	if len(p.Peaks) != 2 || !(p.Peaks[1].GMACs > 0) || !(p.Peaks[1].CopyGB > 0) {
		t.Errorf("peaks %+v", p.Peaks)
	}
	if p.Noise == nil || p.Noise.P90 < p.Noise.Median {
		t.Errorf("noise %+v", p.Noise)
	}
	path := filepath.Join(t.TempDir(), "new", "profile.json")
	testkit.OK(t, p.Write(path))
	back := testkit.Must(profiler.Read(path))(t)
	testkit.Equal(t, p, back, ignoreIndex)
	if _, ok := back.Latency(0, 1); ok {
		t.Error("the whole model has a latency on an accelerator that refuses a layer")
	}
	if d, ok := back.Latency(0, profiler.Fastest); !ok || d <= 0 {
		t.Errorf("fastest latency %v %v", d, ok)
	}
	if err := back.Refusals(0)(2, 0, 1); err == nil || back.Refusals(0)(2, 0, 0) != nil {
		t.Errorf("refusal %v", err)
	}
}

// plain sets every cell to the same times, and leaves out what is measured in between.
func plain(p *profiler.Profile, each time.Duration) {
	p.Interference, p.Dispatches = nil, nil
	for i := range p.Cells {
		if c := &p.Cells[i]; c.Measured() {
			c.Min, c.Mean, c.P50, c.P90, c.P95, c.P99, c.Samples = each, each, each, each, each, each, nil
		}
	}
}

// What the scheduler reckons with is stretched by busy neighbours and has the dispatch in it; what the simulator draws
// has the dispatch only, since it stretches by itself.
func TestSystem(t *testing.T) {
	p := measure(t, time.Millisecond)
	plain(p, time.Second)
	p.Interference = []profiler.Interference{{Accelerator: 0, Busy: 1, Slowdown: 0.25},
		{Accelerator: 1, Busy: 0, Slowdown: -0.5}}
	p.Dispatches = []profiler.Dispatch{{Accelerator: 0, N: 1, P50: time.Millisecond}}
	sys, err := p.System([]time.Duration{time.Minute}, profiler.P50)
	testkit.OK(t, err)
	for l, layer := range sys.Models[0].Layers {
		want := []time.Duration{1251 * time.Millisecond, time.Second}
		if l == 2 {
			want[1] = sched.Unavailable
		}
		if got := layer.Implementations[0].Latency; !slices.Equal(got, want) {
			t.Errorf("layer %d takes %v, want %v", l, got, want)
		}
	}
	durations := testkit.Must(p.Durations(1))(t)
	for k, want := range []time.Duration{1001 * time.Millisecond, time.Second} {
		if took := durations(0, sched.Dispatch{Layer: 1, Accelerator: k, From: sched.Idle}); took != want {
			t.Errorf("drawn on %d: %v, want %v", k, took, want)
		}
	}
	if got, want := p.Slowdowns(), [][]float64{{0, 0.25}, {0, 0}}; !cmp.Equal(got, want) {
		t.Errorf("slowdowns %v, want %v", got, want)
	}
	p.Cells[0].Samples = make(profiler.Times, 20)
	for i := range p.Cells[0].Samples {
		p.Cells[0].Samples[i] = 2 * time.Second
	}
	if durations, err = p.Durations(1); err != nil {
		t.Fatal(err)
	}
	if took := durations(0, sched.Dispatch{From: sched.Idle}); took != 2001*time.Millisecond {
		t.Errorf("drawn %v of samples of 2 s and a dispatch of 1 ms", took)
	}
}

// A profile is used for what it was made for only.
func TestMatches(t *testing.T) {
	p := measure(t, time.Millisecond)
	whole := task(t)
	type state struct {
		host profiler.Host
		task profiler.Task
		net  *runtime.Network
		p    profiler.Profile
	}
	for want, change := range map[string]func(*state){
		"":                                  func(*state) {},
		"ONNX Runtime":                      func(s *state) { s.p.ORT = "1.28.0" },
		"this is other":                     func(s *state) { s.host.CPU = "other" },
		"1 models, there are 2 and 2":       func(s *state) { s.task.Networks = append(s.task.Networks, s.net) },
		`accelerator "basic"`:               func(s *state) { s.task.Accelerators[1].Threads = 2 },
		`accelerator "renamed"`:             func(s *state) { s.task.Accelerators[0].Name = "renamed" },
		`model "ds_cnn_kws" has changed`:    func(s *state) { s.net.Granularity = "op" },
		`of model "ds_cnn_kws" has changed`: func(s *state) { s.net.Layers[3].SHA256 = "0" },
		`implementations "original", "v", measured were "original"`: func(s *state) {
			s.net.Variants = map[int][]runtime.Unit{1: {{Name: "v"}}}
		},
	} {
		net := *whole.Networks[0]
		net.Layers = slices.Clone(net.Layers)
		s := state{host, whole, &net, *p}
		s.task.Accelerators, s.task.Networks = slices.Clone(specs), []*runtime.Network{&net}
		change(&s)
		err := s.p.Matches(s.host, s.task)
		if want == "" && err == nil {
			continue
		}
		testkit.Fails(t, err, profiler.ErrStale, want)
	}
}

// What is damaged or incomplete is refused.
func TestReadRefuses(t *testing.T) {
	p := measure(t, time.Millisecond)
	dir := t.TempDir()
	good := filepath.Join(dir, "good.json")
	testkit.OK(t, p.Write(good))
	data := testkit.Must(os.ReadFile(good))(t)
	write := func(name string, change func(*profiler.Profile)) {
		changed := *p
		changed.Cells, changed.Interference = slices.Clone(p.Cells), slices.Clone(p.Interference)
		change(&changed)
		testkit.OK(t, changed.Write(filepath.Join(dir, name)))
	}
	write("incomplete.json", func(p *profiler.Profile) { p.Cells = p.Cells[1:] })
	write("double.json", func(p *profiler.Profile) { p.Cells = append(p.Cells, p.Cells[0]) })
	write("unmeasured.json", func(p *profiler.Profile) { p.Cells[0].N = 0 })
	write("busy.json", func(p *profiler.Profile) { p.Interference = []profiler.Interference{{Busy: 2}} })
	for name, content := range map[string][]byte{
		"cut.json":     data[:len(data)/2],
		"altered.json": bytes.Replace(data, []byte(`"logical_cores": 2`), []byte(`"logical_cores": 3`), 1),
	} {
		testkit.Write(t, filepath.Join(dir, name), content)
	}
	for name, want := range map[string]string{"cut.json": "damaged", "altered.json": "checksum",
		"incomplete.json": "cells are there", "double.json": "twice",
		"unmeasured.json": "not marked partial", "busy.json": "interference 0", "none.json": "no such file"} {
		testkit.Refused(profiler.Read(filepath.Join(dir, name)))(t, want)
	}
}

// A measurement that is cancelled before it has anything gives no profile; one that has something gives that, marked,
// which can be read and shown but not planned with while cells are missing, and is continued.
func TestMeasureCancelled(t *testing.T) {
	tk := task(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if p, err := profiler.Measure(ctx, tk, options(time.Millisecond)); !errors.Is(err, context.Canceled) || p != nil {
		t.Errorf("%v, %v", p, err)
	}
	ctx, cancel = context.WithCancel(context.Background())
	o := options(time.Hour)
	o.Precision = 1e-9
	o.Journal = filepath.Join(t.TempDir(), "p.journal")
	n := 0
	o.Progress = func(what string, share float64) {
		if what == "measuring" {
			if n++; n == 5 {
				cancel()
			}
		}
	}
	p, err := profiler.Measure(ctx, tk, o)
	if !errors.Is(err, context.Canceled) || p == nil || !p.Partial {
		t.Fatalf("%+v, %v: want a partial profile", p, err)
	}
	path := filepath.Join(t.TempDir(), "p.json")
	testkit.OK(t, p.Write(path))
	testkit.Must(profiler.Read(path))(t)
	p.Cells[0].N = 0
	testkit.Refused(p.System([]time.Duration{time.Second}, profiler.P50))(t, profiler.ErrPartial)
	o.Budget, o.Progress = time.Millisecond, nil
	whole := testkit.Must(profiler.Measure(context.Background(), tk, o))(t)
	for i, c := range p.Cells {
		if len(c.Samples) > 0 && !slices.Equal(c.Samples, whole.Cells[i].Samples[:len(c.Samples)]) {
			t.Fatalf("cell %d begins with %v, was %v before the interrupt", i, whole.Cells[i].Samples, c.Samples)
		}
	}
	if len(p.Cells[1].Samples) == 0 {
		t.Error("nothing was kept")
	}
}

// A change of accelerator between blocked and plain layouts is measured, and is part of what the scheduler and the
// simulator reckon with.
func TestHandoffs(t *testing.T) {
	p := measure(t, 100*time.Millisecond)
	at := map[[3]int]time.Duration{}
	for _, h := range p.Handoffs {
		if h.Tensors < 1 || h.P50 <= 0 || h.From == h.To || h.Layer == 0 {
			t.Errorf("handoff %+v", h)
		}
		at[[3]int{h.Layer, h.From, h.To}] = h.P50
	}
	there, back := at[[3]int{1, 0, 1}], at[[3]int{1, 1, 0}]
	if there == 0 || back == 0 {
		t.Fatalf("no handoff into layer 1, or only one way: %v", at)
	}
	system := testkit.Must(p.System([]time.Duration{time.Second}, profiler.P50))(t)
	if h := system.Models[0].Layers[1].Handoff; h[0][1] != there || h[1][0] != back || h[0][0] != 0 {
		t.Errorf("the system's handoffs are %v, measured %v and %v", h, there, back)
	}
	plain(p, time.Second)
	durations := testkit.Must(p.Durations(1))(t)
	for from, want := range map[int]time.Duration{sched.Idle: 0, 0: there, 1: 0} {
		if took := durations(0, sched.Dispatch{Layer: 1, Accelerator: 1, From: from}); took != time.Second+want {
			t.Errorf("from accelerator %d the layer takes %v, want a second and %v", from, took, want)
		}
	}
	p.Handoffs[0].To = 2
	path := filepath.Join(t.TempDir(), "profile.json")
	testkit.OK(t, p.Write(path))
	testkit.Refused(profiler.Read(path))(t, "handoff 0")
}

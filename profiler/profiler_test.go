package profiler_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/terastal/terastal/internal/hostinfo"
	"github.com/terastal/terastal/internal/ort/orttest"
	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/models/zoo"
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

type setup struct {
	specs    []runtime.Spec
	accs     []runtime.Accelerator
	network  *runtime.Network
	program  *runtime.Program
	host     hostinfo.Info
	measured *profiler.Profile
}

func measure(t *testing.T, o profiler.Options) *setup {
	t.Helper()
	orttest.Start(t)
	s := &setup{specs: []runtime.Spec{{Name: "all"}, {Name: "basic", Optimization: "basic"}}, host: hostinfo.Info{CPU: "test", LogicalCores: 2}}
	data, err := zoo.Build("ds_cnn_kws", 1)
	if err != nil {
		t.Fatal(err)
	}
	m, err := models.Parse("kws", data, models.Options{})
	if err != nil {
		t.Fatal(err)
	}
	g, err := models.ParseGranularity("block")
	if err != nil {
		t.Fatal(err)
	}
	layers, err := m.Split(g)
	if err != nil {
		t.Fatal(err)
	}
	s.network = &runtime.Network{Name: "kws", Model: m, Layers: layers}
	for _, spec := range s.specs {
		a, err := runtime.OpenORT(spec)
		if err != nil {
			t.Fatal(err)
		}
		s.accs = append(s.accs, a)
	}
	s.accs[1] = refusing{s.accs[1], layers[2].Name}
	if s.program, err = runtime.Prepare(s.network, s.accs, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.program.Close)
	o.Now, o.Host, o.ORT = time.Unix(1700000000, 0), s.host, "1.29.0"
	s.measured, err = profiler.Measure(context.Background(), s.accs, s.specs, []*runtime.Program{s.program}, []string{"block"}, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Every cell is there with plausible order statistics, or says why not; the
// document survives a round trip; the task system follows from it.
func TestMeasure(t *testing.T) {
	for _, solo := range []bool{false, true} {
		s := measure(t, profiler.Options{Budget: 100 * time.Millisecond, Solo: solo})
		p := s.measured
		if want := 2 * len(s.network.Layers); len(p.Cells) != want {
			t.Fatalf("%d cells, want %d", len(p.Cells), want)
		}
		for _, c := range p.Cells {
			if c.Accelerator == 1 && c.Layer == 2 {
				if c.Refused != "refused by the test" || c.N != 0 {
					t.Errorf("the refused cell is %+v", c)
				}
				continue
			}
			if c.N < 12 || c.Min <= 0 || c.Min > c.P50 || c.P50 > c.P90 || c.P90 > c.P95 || c.P95 > c.P99 || c.Low > c.P50 || c.High < c.P50 || c.Mean < c.Min {
				t.Errorf("cell %+v", c)
			}
		}
		path := filepath.Join(t.TempDir(), "new", "profile.json")
		if err := p.Write(path); err != nil {
			t.Fatal(err)
		}
		back, err := profiler.Read(path)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(p, back); d != "" {
			t.Errorf("round trip: %s", d)
		}
		sys, err := back.System([]time.Duration{time.Second}, profiler.P50)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range p.Cells {
			got := sys.Models[0].Layers[c.Layer].Implementations[0].Latency[c.Accelerator]
			if want := c.P50; c.Refused != "" && got != sched.Unavailable || c.Refused == "" && got != want {
				t.Errorf("latency of cell %+v is %v", c, got)
			}
		}
		if _, ok := back.Latency(0, 1); ok {
			t.Error("the whole model has a latency on an accelerator that refuses a layer")
		}
		if d, ok := back.Latency(0, profiler.Fastest); !ok || d <= 0 {
			t.Errorf("fastest latency %v %v", d, ok)
		}
	}
}

// A profile is used for what it was made for only.
func TestMatches(t *testing.T) {
	s := measure(t, profiler.Options{Budget: time.Millisecond})
	matches := func(change func(h *hostinfo.Info, ort *string, specs []runtime.Spec, n *runtime.Network, g []string)) error {
		h, ort, specs, n, g := s.host, "1.29.0", append([]runtime.Spec(nil), s.specs...), *s.network, []string{"block"}
		n.Layers = append([]models.Layer(nil), n.Layers...)
		change(&h, &ort, specs, &n, g)
		return s.measured.Matches(h, ort, specs, []*runtime.Network{&n}, g)
	}
	type change = func(h *hostinfo.Info, ort *string, specs []runtime.Spec, n *runtime.Network, g []string)
	if err := matches(func(*hostinfo.Info, *string, []runtime.Spec, *runtime.Network, []string) {}); err != nil {
		t.Errorf("unchanged: %v", err)
	}
	for want, c := range map[string]change{
		"ONNX Runtime":  func(_ *hostinfo.Info, ort *string, _ []runtime.Spec, _ *runtime.Network, _ []string) { *ort = "1.28.0" },
		"this is other": func(h *hostinfo.Info, _ *string, _ []runtime.Spec, _ *runtime.Network, _ []string) { h.CPU = "other" },
		`accelerator "basic"`: func(_ *hostinfo.Info, _ *string, specs []runtime.Spec, _ *runtime.Network, _ []string) {
			specs[1].Threads = 2
		},
		`accelerator "renamed"`: func(_ *hostinfo.Info, _ *string, specs []runtime.Spec, _ *runtime.Network, _ []string) {
			specs[0].Name = "renamed"
		},
		`model "kws" has changed`: func(_ *hostinfo.Info, _ *string, _ []runtime.Spec, _ *runtime.Network, g []string) { g[0] = "op" },
		"of model \"kws\" has chan": func(_ *hostinfo.Info, _ *string, _ []runtime.Spec, n *runtime.Network, _ []string) {
			n.Layers[3].SHA256 = "0"
		},
	} {
		if err := matches(c); !errors.Is(err, profiler.ErrStale) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want ErrStale with %q", err, want)
		}
	}
}

// What is damaged or incomplete is refused.
func TestReadRefuses(t *testing.T) {
	s := measure(t, profiler.Options{Budget: time.Millisecond})
	dir := t.TempDir()
	good := filepath.Join(dir, "good.json")
	if err := s.measured.Write(good); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	changed := *s.measured
	changed.Cells = changed.Cells[1:]
	if err := changed.Write(filepath.Join(dir, "incomplete.json")); err != nil {
		t.Fatal(err)
	}
	changed.Cells = append(append([]profiler.Cell(nil), s.measured.Cells...), s.measured.Cells[0])
	if err := changed.Write(filepath.Join(dir, "double.json")); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		"cut.json":     data[:len(data)/2],
		"altered.json": bytes.Replace(data, []byte(`"n": 1`), []byte(`"n": 2`), 1),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{"cut.json": "damaged", "altered.json": "checksum", "incomplete.json": "cells are there", "double.json": "twice", "none.json": "no such file"} {
		if _, err := profiler.Read(filepath.Join(dir, name)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
}

// A cancelled measurement gives no profile.
func TestMeasureCancelled(t *testing.T) {
	s := measure(t, profiler.Options{Budget: time.Millisecond})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if p, err := profiler.Measure(ctx, s.accs, s.specs, []*runtime.Program{s.program}, []string{"block"}, profiler.Options{}); !errors.Is(err, context.Canceled) || p != nil {
		t.Errorf("%v, %v", p, err)
	}
}

// A change of accelerator between blocked and plain layouts is measured, and is
// part of what the scheduler and the simulator reckon with.
func TestHandoffs(t *testing.T) {
	s := measure(t, profiler.Options{Budget: 100 * time.Millisecond})
	p := s.measured
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
	system, err := p.System([]time.Duration{time.Second}, profiler.P50)
	if err != nil {
		t.Fatal(err)
	}
	if h := system.Models[0].Layers[1].Handoff; h[0][1] != there || h[1][0] != back || h[0][0] != 0 {
		t.Errorf("the system's handoffs are %v, measured %v and %v", h, there, back)
	}
	for i := range p.Cells { // every layer takes exactly a second
		c := &p.Cells[i]
		c.Min, c.P50, c.P90, c.P95, c.P99 = time.Second, time.Second, time.Second, time.Second, time.Second
	}
	durations, err := p.Durations(1)
	if err != nil {
		t.Fatal(err)
	}
	for from, want := range map[int]time.Duration{sched.Idle: 0, 0: there, 1: 0} {
		if took := durations(0, sched.Dispatch{Layer: 1, Accelerator: 1, From: from}); took != time.Second+want {
			t.Errorf("from accelerator %d the layer takes %v, want a second and %v", from, took, want)
		}
	}
	p.Handoffs[0].To = 2
	path := filepath.Join(t.TempDir(), "profile.json")
	if err := p.Write(path); err != nil {
		t.Fatal(err)
	}
	if _, err := profiler.Read(path); err == nil || !strings.Contains(err.Error(), "handoff 0") {
		t.Errorf("a handoff to no accelerator: %v", err)
	}
}

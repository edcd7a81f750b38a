package profiler_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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

var specs = []runtime.Spec{{Name: "all"}, {Name: "basic", Optimization: "basic"}}

// network is a small one in six layers.
func network() (*runtime.Network, error) {
	data, err := zoo.Build("ds_cnn_kws", 1)
	if err != nil {
		return nil, err
	}
	m, err := models.Parse("kws", data, models.Options{})
	if err != nil {
		return nil, err
	}
	g, err := models.ParseGranularity("block")
	if err != nil {
		return nil, err
	}
	layers, err := m.Split(g)
	return &runtime.Network{Name: "kws", Model: m, Layers: layers}, err
}

// task measures the network on two accelerators in this process, the second of
// which refuses the third layer.
func task(t *testing.T) profiler.Task {
	t.Helper()
	orttest.Start(t)
	n, err := network()
	if err != nil {
		t.Fatal(err)
	}
	tk := profiler.Task{Specs: specs, Networks: []*runtime.Network{n}, Granularity: []string{"block"}}
	for _, spec := range specs {
		a, err := runtime.OpenORT(spec)
		if err != nil {
			t.Fatal(err)
		}
		tk.Accelerators = append(tk.Accelerators, a)
	}
	tk.Accelerators[1] = refusing{tk.Accelerators[1], n.Layers[2].Name}
	return tk
}

var host = hostinfo.Info{CPU: "test", LogicalCores: 2}

func options(budget time.Duration) profiler.Options {
	return profiler.Options{Budget: budget, Now: time.Unix(1700000000, 0), Host: host, ORT: "1.29.0"}
}

func measure(t *testing.T, budget time.Duration) *profiler.Profile {
	t.Helper()
	p, err := profiler.Measure(context.Background(), task(t), options(budget))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Every cell is there with plausible order statistics, or says why not; so is
// what is measured beside; the document survives a round trip; the task system
// follows from it.
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
		if c.N < 12 || c.Min <= 0 || c.Min > c.P50 || c.P50 > c.P90 || c.P90 > c.P95 || c.P95 > c.P99 || c.Low > c.P50 || c.High < c.P50 || c.Mean < c.Min {
			t.Errorf("cell %+v", c)
		}
		if len(c.Samples) != min(c.N, 128) || c.Load <= 0 {
			t.Errorf("%d samples of %d, loaded in %v", len(c.Samples), c.N, c.Load)
		}
	}
	if len(p.Interference) != 2 || p.Interference[0].Accelerator == p.Interference[1].Accelerator || p.Interference[0].N < 1 {
		t.Errorf("interference %+v", p.Interference)
	}
	if len(p.Chains) != 1 || p.Chains[0].Accelerator != 0 || p.Chains[0].Sum <= 0 || p.Chains[0].Chained <= 0 || p.Chains[0].Whole <= 0 {
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

// plain sets every cell to the same times, and leaves out what is measured
// beside.
func plain(p *profiler.Profile, each time.Duration) {
	p.Interference, p.Dispatches = nil, nil
	for i := range p.Cells {
		if c := &p.Cells[i]; c.Measured() {
			c.Min, c.Mean, c.P50, c.P90, c.P95, c.P99, c.Samples = each, each, each, each, each, each, nil
		}
	}
}

// What the scheduler reckons with is stretched by busy neighbours and has the
// dispatch in it; what the simulator draws has the dispatch only, since it
// stretches by itself.
func TestSystem(t *testing.T) {
	p := measure(t, time.Millisecond)
	plain(p, time.Second)
	p.Interference = []profiler.Interference{{Accelerator: 0, Busy: 1, Slowdown: 0.25}, {Accelerator: 1, Busy: 0, Slowdown: -0.5}}
	p.Dispatches = []profiler.Dispatch{{Accelerator: 0, N: 1, P50: time.Millisecond}}
	sys, err := p.System([]time.Duration{time.Minute}, profiler.P50)
	if err != nil {
		t.Fatal(err)
	}
	for l, layer := range sys.Models[0].Layers {
		want := []time.Duration{1251 * time.Millisecond, time.Second}
		if l == 2 {
			want[1] = sched.Unavailable
		}
		if got := layer.Implementations[0].Latency; !slices.Equal(got, want) {
			t.Errorf("layer %d takes %v, want %v", l, got, want)
		}
	}
	durations, err := p.Durations(1)
	if err != nil {
		t.Fatal(err)
	}
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
	tk := task(t)
	matches := func(change func(h *hostinfo.Info, ort *string, specs []runtime.Spec, n *runtime.Network, g []string)) error {
		h, ort, specs, n, g := host, "1.29.0", slices.Clone(specs), *tk.Networks[0], []string{"block"}
		n.Layers = slices.Clone(n.Layers)
		change(&h, &ort, specs, &n, g)
		return p.Matches(h, ort, specs, []*runtime.Network{&n}, g)
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
	p := measure(t, time.Millisecond)
	dir := t.TempDir()
	good := filepath.Join(dir, "good.json")
	if err := p.Write(good); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string, change func(*profiler.Profile)) {
		changed := *p
		changed.Cells, changed.Interference = slices.Clone(p.Cells), slices.Clone(p.Interference)
		change(&changed)
		if err := changed.Write(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	write("incomplete.json", func(p *profiler.Profile) { p.Cells = p.Cells[1:] })
	write("double.json", func(p *profiler.Profile) { p.Cells = append(p.Cells, p.Cells[0]) })
	write("unmeasured.json", func(p *profiler.Profile) { p.Cells[0].N = 0 })
	write("beside.json", func(p *profiler.Profile) { p.Interference = []profiler.Interference{{Busy: 2}} })
	for name, content := range map[string][]byte{
		"cut.json":     data[:len(data)/2],
		"altered.json": bytes.Replace(data, []byte(`"logical_cores": 2`), []byte(`"logical_cores": 3`), 1),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{"cut.json": "damaged", "altered.json": "checksum", "incomplete.json": "cells are there", "double.json": "twice",
		"unmeasured.json": "not marked partial", "beside.json": "interference 0", "none.json": "no such file"} {
		if _, err := profiler.Read(filepath.Join(dir, name)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
}

// A measurement that is cancelled before it has anything gives no profile; one
// that has something gives that, marked, which can be read and shown but not
// planned with while cells are missing, and is gone on with.
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
	if err := p.Write(path); err != nil {
		t.Fatal(err)
	}
	if _, err := profiler.Read(path); err != nil {
		t.Error(err)
	}
	p.Cells[0].N = 0
	if _, err := p.System([]time.Duration{time.Second}, profiler.P50); !errors.Is(err, profiler.ErrPartial) {
		t.Errorf("planned with a partial profile: %v", err)
	}
	o.Budget, o.Progress = time.Millisecond, nil
	whole, err := profiler.Measure(context.Background(), tk, o)
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range p.Cells {
		if len(c.Samples) > 0 && !slices.Equal(c.Samples, whole.Cells[i].Samples[:len(c.Samples)]) {
			t.Fatalf("cell %d begins with %v, was %v before the interrupt", i, whole.Cells[i].Samples, c.Samples)
		}
	}
	if len(p.Cells[1].Samples) == 0 {
		t.Error("nothing was kept")
	}
}

// A change of accelerator between blocked and plain layouts is measured, and is
// part of what the scheduler and the simulator reckon with.
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
	system, err := p.System([]time.Duration{time.Second}, profiler.P50)
	if err != nil {
		t.Fatal(err)
	}
	if h := system.Models[0].Layers[1].Handoff; h[0][1] != there || h[1][0] != back || h[0][0] != 0 {
		t.Errorf("the system's handoffs are %v, measured %v and %v", h, there, back)
	}
	plain(p, time.Second)
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

// What this test binary does instead of its tests when a test starts it.
const role = "PROFILER_TEST_ROLE"

func TestMain(m *testing.M) {
	var err error
	switch os.Getenv(role) {
	case "":
		os.Exit(m.Run())
	case "worker":
		err = serveFaulty()
	case "bench":
		err = serveBench()
	case "measure":
		err = measureAndPrint()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// as is a command that runs this binary in a role.
func as(r string, env ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), role+"="+r), env...)
	return cmd
}

// faulty is an accelerator with a layer that takes the process with it, hangs
// or fails, as the environment says.
type faulty struct {
	runtime.Accelerator
	layer string
}

const (
	faultWhat  = "PROFILER_TEST_FAULT"  // crash, hang, fail or load
	faultTimes = "PROFILER_TEST_MARKER" // a folder: happens once only
)

func (f faulty) due(what string) bool {
	if os.Getenv(faultWhat) != what {
		return false
	}
	if dir := os.Getenv(faultTimes); dir != "" {
		return os.Mkdir(filepath.Join(dir, "done"), 0o755) == nil
	}
	return true
}

func (f faulty) Prepare(u runtime.Unit) (runtime.Kernel, error) {
	k, err := f.Accelerator.Prepare(u)
	if !strings.Contains(u.Name, f.layer) {
		return k, err
	}
	if f.due("load") {
		os.Exit(-1)
	}
	return faultyKernel{k, f}, err
}

type faultyKernel struct {
	runtime.Kernel
	f faulty
}

func (k faultyKernel) Run(in, out []*runtime.Tensor) error {
	switch {
	case k.f.due("crash"):
		os.Exit(-1)
	case k.f.due("hang"):
		select {}
	case k.f.due("fail"):
		return errors.New("failed by the test")
	}
	return k.Kernel.Run(in, out)
}

func serveFaulty() error {
	if _, err := runtime.Start(""); err != nil {
		return err
	}
	n, err := network()
	if err != nil {
		return err
	}
	a, err := runtime.OpenORT(specs[1])
	if err != nil {
		return err
	}
	return profiler.Serve(os.Stdin, profiler.Output(), profiler.Setup{Networks: []*runtime.Network{n}, Specs: specs[1:], Accelerator: faulty{a, n.Layers[2].Name}})
}

func faultyTask(t *testing.T, env ...string) profiler.Task {
	orttest.Start(t)
	n, err := network()
	if err != nil {
		t.Fatal(err)
	}
	return profiler.Task{Specs: specs[1:], Networks: []*runtime.Network{n}, Granularity: []string{"block"},
		Start: func(int) (profiler.Conn, error) { return profiler.Start(as("worker", env...)) }}
}

// A layer that takes its process with it, hangs or fails costs its cell and
// nothing else; one that does it once costs nothing.
func TestFaults(t *testing.T) {
	for what, reason := range map[string]string{"crash": "crashed", "hang": "hung", "fail": "failed by the test", "load": "crashed"} {
		for _, once := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/once=%v", what, once), func(t *testing.T) {
				t.Parallel() // they wait for processes that start, and for one that hangs
				env := []string{faultWhat + "=" + what}
				if once {
					env = append(env, faultTimes+"="+t.TempDir())
				}
				o := options(time.Millisecond)
				o.Timeout = 2 * time.Second
				p, err := profiler.Measure(context.Background(), faultyTask(t, env...), o)
				if err != nil {
					t.Fatal(err)
				}
				for _, c := range p.Cells {
					switch {
					case c.Layer == 2 && !once:
						if c.Measured() || !strings.Contains(c.Refused, reason) {
							t.Errorf("the faulty cell is %+v, want refused with %q", c, reason)
						}
					case !c.Measured():
						t.Errorf("cell %+v was lost", c)
					}
				}
				if warned := slices.ContainsFunc(p.Warnings, func(w profiler.Warning) bool { return w.Code == profiler.WarnFailed }); warned == once {
					t.Errorf("warnings %v", p.Warnings)
				}
			})
		}
	}
}

const journalPath = "PROFILER_TEST_JOURNAL"

// measureAndPrint measures with a worker in another process, until killed.
func measureAndPrint() error {
	if _, err := runtime.Start(""); err != nil {
		return err
	}
	n, err := network()
	if err != nil {
		return err
	}
	o := options(time.Hour)
	o.Precision, o.Journal = 1e-9, os.Getenv(journalPath)
	_, err = profiler.Measure(context.Background(), profiler.Task{Specs: specs[1:], Networks: []*runtime.Network{n}, Granularity: []string{"block"},
		Start: func(int) (profiler.Conn, error) { return profiler.Start(as("worker")) }}, o)
	return err
}

// A process that is killed while it measures loses nothing that it had written:
// the next goes on, and the one after that.
func TestKilled(t *testing.T) {
	tk := faultyTask(t)
	path := filepath.Join(t.TempDir(), "p.journal")
	var before []byte
	for n := range 3 {
		cmd := as("measure", journalPath+"="+path)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		// Killed when the journal has grown by some, at no particular place.
		for want := len(before) + 3000 + 777*n; ; {
			if data, _ := os.ReadFile(path); len(data) >= want {
				break
			}
			select {
			case err := <-ended:
				t.Fatalf("it ended by itself: %v", err)
			default:
			}
		}
		cmd.Process.Kill()
		<-ended
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		whole := before[:bytes.LastIndexByte(before, '\n')+1]
		if !bytes.HasPrefix(data, whole) {
			t.Fatal("what was there before was not kept")
		}
		before = data
	}
	lines := bytes.Count(before, []byte("\n"))
	o := options(time.Millisecond)
	o.Journal = path
	p, err := profiler.Measure(context.Background(), tk, o)
	if err != nil {
		t.Fatal(err)
	}
	// Most lines are rounds, each of which has a time of every cell.
	if got := p.Cells[0].N; got < 12 || got < lines-60 {
		t.Errorf("%d samples of a cell after a journal of %d lines", got, lines)
	}
}

// A journal of something else, or that was damaged, is refused and left alone;
// one that another process writes is not touched.
func TestJournalRefused(t *testing.T) {
	tk := task(t)
	path := filepath.Join(t.TempDir(), "p.journal")
	o := options(time.Millisecond)
	o.Journal = path
	if _, err := profiler.Measure(context.Background(), tk, o); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	refused := func(o profiler.Options, content []byte, want string) {
		t.Helper()
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := profiler.Measure(context.Background(), tk, o); !errors.Is(err, profiler.ErrJournal) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want ErrJournal with %q", err, want)
		}
		if now, _ := os.ReadFile(path); !bytes.Equal(now, content) {
			t.Error("it was changed")
		}
	}
	other := o
	other.Seed = 7
	refused(other, good, "other models, accelerators or settings")
	refused(o, bytes.Replace(good, []byte(`"times_ns":"`), []byte(`"times_ns":"1`), 1), "damaged")
	refused(o, []byte("notes of mine\n"), "line 1 is damaged")
	if err := os.WriteFile(path, good[:len(good)-5], 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := profiler.Measure(context.Background(), tk, o); err != nil {
		t.Errorf("a cut last line: %v", err)
	}
	if err := profiler.RemoveJournal(path); err != nil {
		t.Error(err)
	}
	if err := profiler.RemoveJournal(path); err != nil {
		t.Errorf("there is none any more: %v", err)
	}
}

// With time for it, every accelerator is measured by two workers, one after the
// other, which both contribute.
func TestRenewed(t *testing.T) {
	tk := faultyTask(t)
	started, start := 0, tk.Start
	tk.Start = func(k int) (profiler.Conn, error) {
		started++
		return start(k)
	}
	o := options(time.Hour)
	o.Precision = 1000
	p, err := profiler.Measure(context.Background(), tk, o)
	if err != nil {
		t.Fatal(err)
	}
	if started != 2 {
		t.Errorf("%d workers, want 2", started)
	}
	if p.Cells[0].N < 24 || p.Noise == nil {
		t.Errorf("%d samples of a cell, noise %v", p.Cells[0].N, p.Noise)
	}
}

package profiler_test

import (
	"context"
	"errors"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/ort/orttest"
	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/internal/testkit/rig"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
)

const us = time.Microsecond

// sharing is a device with streams that cost each other something, and that rests.
func sharing() *pretended {
	return &pretended{layer: 100 * us, copies: 10 * us, first: 5 * time.Millisecond, notice: 7 * us,
		contention: []float64{0, 0.25, 0.5},
		waking:     []sched.Waking{{Idle: time.Millisecond, Extra: 30 * us}, {Idle: 10 * time.Millisecond, Extra: 80 * us}}}
}

// enough are options to measure as often as it takes, whatever else the machine does.
func enough() profiler.Options {
	o := options(4 * time.Second)
	o.Precision = 1000
	return o
}

// on is the task to measure the network on a CPU accelerator and streams of the device.
func on(t *testing.T, d *pretended, streams int) profiler.Task {
	t.Helper()
	orttest.Start(t)
	tk := profiler.Task{Networks: []*runtime.Network{testkit.Must(network())(t)},
		Accelerators: append([]runtime.Spec{{Name: "cpu", Optimization: "basic"}}, runtime.Spec{Name: "gpu"}.Streams(streams)...),
		Open: func(s runtime.Spec) (runtime.Accelerator, error) {
			if s.Name == "cpu" {
				return runtime.OpenORT(s)
			}
			return d.open(s)
		}}
	profiler.SetClock(&tk, 1, d.now, d.sleep)
	return tk
}

// What a device was given comes out of its profile: what layers take on its clock, also those that are captured, what
// streams cost each other, what waking and noticing an end cost. First runs do not show. All streams have the cells of
// the first, and there is nothing to hand over between them.
func TestMeasureStreams(t *testing.T) {
	d := sharing()
	d.event = us // one follows every layer in a run
	tk := on(t, d, 3)
	layers := len(tk.Networks[0].Layers)
	d.uncaptured = tk.Networks[0].Layers[3].Name
	tk.Auto = map[string]int{"gpu": 3}
	o := enough()
	o.Progress = func(string, float64) { d.sleep(20 * time.Millisecond) } // it rests between rounds
	p := roundTrip(t, testkit.Must(profiler.Measure(context.Background(), tk, o))(t))
	for _, c := range p.Cells {
		want := 51 * us
		switch c.Layer {
		case 0, layers - 1:
			want = 61 * us // with a copy
		case 3:
			want = 101 * us
		}
		if c.Accelerator > 0 && (c.P50 != want || c.Min != want || c.P99 != want) {
			t.Errorf("%+v, want %v", p.Name(&c), want)
		}
	}
	if len(p.Devices) != 1 {
		t.Fatalf("devices %+v", p.Devices)
	}
	got := p.Devices[0]
	if got.Memory <= 0 || got.Memory >= roomy {
		t.Errorf("it needs %d bytes", got.Memory)
	}
	got.Memory = 0
	for n := range got.Contention {
		got.Contention[n] = math.Round(got.Contention[n]*20) / 20 // events take what they always take
	}
	testkit.Equal(t, profiler.Device{Name: "gpu", Accelerators: []int{1, 2, 3}, Contention: d.contention, Waking: d.waking,
		Lead: 8 * us, Auto: 3}, got)
	compute := time.Duration(layers+1) * 50 * us
	marked := time.Duration(layers) * us // a chain has an event at its end only
	for _, c := range p.Chains {
		want := profiler.Chain{Accelerator: c.Accelerator, N: c.N, Sum: compute + marked + 20*us, Chained: compute + 8*us,
			Captured: layers - 1, Plain: time.Duration(layers)*100*us + 8*us, Whole: 108 * us, Graph: 58 * us}
		if c.Accelerator > 0 && c != want {
			t.Errorf("chain %+v, want %+v", c, want)
		}
	}
	if len(p.Chains) != 4 || len(p.Peaks) != 4 {
		t.Fatalf("%d chains, %d peaks", len(p.Chains), len(p.Peaks))
	}
	// Ten milliseconds for 256 x 256 matrices, and for a copy of 2^24 numbers.
	if x := p.Peaks[1]; math.Abs(x.GMACs-1.678) > 0.01 || math.Abs(x.CopyGB-13.42) > 0.1 {
		t.Errorf("peak %+v", x)
	}
	sameStreams(t, p)
}

// sameStreams checks that handoffs and interference are those of the first stream for all.
func sameStreams(t *testing.T, p *profiler.Profile) {
	t.Helper()
	handoffs := map[[3]int]time.Duration{}
	for _, h := range p.Handoffs {
		if h.From > 0 && h.To > 0 {
			t.Errorf("between streams: %+v", h)
		}
		handoffs[[3]int{h.Layer, h.From, h.To}] = h.P50
	}
	for at, took := range handoffs {
		for k := 1; k <= 3; k++ {
			other := at
			if at[1] > 0 {
				other[1] = k
			} else {
				other[2] = k
			}
			if handoffs[other] != took || took < 10*us {
				t.Errorf("handoff %v takes %v, %v %v", at, took, other, handoffs[other])
			}
		}
	}
	if want := 6 * (len(p.Models[0].Layers) - 1); len(handoffs) != want {
		t.Errorf("%d handoffs, want %d", len(handoffs), want)
	}
	cost := map[int]float64{}
	for _, x := range p.Interference {
		if (x.Accelerator > 0) == (x.Busy > 0) {
			t.Errorf("interference %+v", x)
		}
		if x.Busy > 0 {
			cost[x.Busy] = x.Slowdown
		}
	}
	if len(cost) != 3 || cost[1] != cost[2] || cost[2] != cost[3] {
		t.Errorf("what streams cost the CPU: %v", cost)
	}
}

// An interrupted measurement keeps what was measured of a device.
func TestStreamsJournal(t *testing.T) {
	d := sharing()
	tk := on(t, d, 2)
	o := enough()
	o.Journal, tk.Auto = filepath.Join(t.TempDir(), "p.journal"), map[string]int{"gpu": 2}
	first := testkit.Must(profiler.Measure(context.Background(), tk, o))(t)
	if n := profiler.PreviousStreams("", o.Journal, host, "gpu"); n != 2 {
		t.Errorf("%d streams in the journal", n)
	}
	d.waking, d.contention, d.notice = nil, nil, 0 // not measured again
	o.Budget = time.Millisecond
	second := testkit.Must(profiler.Measure(context.Background(), tk, o))(t)
	if x, y := first.Devices[0], second.Devices[0]; len(x.Waking) != 2 || !slices.Equal(x.Waking, y.Waking) ||
		x.Lead != y.Lead || math.Abs(x.Contention[1]-0.25) > 1e-6 || math.Abs(y.Contention[1]-0.25) > 1e-6 {
		t.Errorf("%+v, continued %+v", x, y)
	}
	path := filepath.Join(t.TempDir(), "p.json")
	testkit.OK(t, second.Write(path))
	other := host
	other.CPU = "another"
	for i, n := range []int{profiler.PreviousStreams(path, "", host, "gpu"), profiler.PreviousStreams(path, "", other, "gpu"),
		profiler.PreviousStreams(path, o.Journal, host, "npu"), profiler.PreviousStreams("", o.Journal, other, "gpu")} {
		if want := []int{2, 0, 0, 0}[i]; n != want {
			t.Errorf("%d: %d streams of before, want %d", i, n, want)
		}
	}
}

// As many streams are taken as bring at least 1.15 times what half of them do.
func TestStreams(t *testing.T) {
	for want, contention := range map[int][]float64{
		1: {0, 0.9},
		2: {0, 0.1, 1, 1.2},
		4: {0, 0.1, 0.2, 0.3, 2, 2, 2, 2},
		8: {0},
	} {
		d := sharing()
		d.layer, d.contention = 2*time.Millisecond, contention
		tk := on(t, d, 1)
		if n := testkit.Must(profiler.Streams(t.Context(), tk, 1, 8, options(0)))(t); n != want {
			t.Errorf("contention %v: %d streams, want %d", contention, n, want)
		}
	}
	d := sharing()
	d.layer, d.contention = 2*time.Millisecond, nil
	if n := testkit.Must(profiler.Streams(t.Context(), on(t, d, 1), 1, 3, options(0)))(t); n != 2 {
		t.Errorf("of at most 3: %d", n)
	}
	if n := testkit.Must(profiler.Streams(t.Context(), on(t, d, 1), 1, 1, options(0)))(t); n != 1 {
		t.Errorf("of at most 1: %d", n)
	}
	tk := on(t, d, 1)
	d.fails = tk.Networks[0].Layers[2].Name
	if n, err := profiler.Streams(t.Context(), tk, 1, 8, options(0)); n != 1 || err == nil ||
		!strings.Contains(err.Error(), "failed by the test") {
		t.Errorf("of a device that fails: %d, %v", n, err)
	}
	tk.Open = func(runtime.Spec) (runtime.Accelerator, error) { return nil, errors.New("no driver") }
	if n, err := profiler.Streams(t.Context(), tk, 1, 8, options(0)); n != 1 || err == nil {
		t.Errorf("of no device: %d, %v", n, err)
	}
}

// Of a device that cannot tell when a layer has ended, layers have the times that they take when nobody waits in
// between: what waiting costs is the lead.
func TestMeasureSilent(t *testing.T) {
	d := sharing()
	d.silent, d.notice = true, 400*us
	tk := on(t, d, 1)
	p := testkit.Must(profiler.Measure(context.Background(), tk, enough()))(t)
	layers := len(p.Models[0].Layers)
	for _, c := range p.Cells {
		want := 100 * us
		if c.Layer == layers-1 {
			want = 510 * us // the copy home waits
		}
		if c.Accelerator > 0 && (c.P50 < want*80/100 || c.P50 > want*140/100) {
			t.Errorf("%v takes %v, want about %v", p.Name(&c), c.P50, want)
		}
	}
	compute := time.Duration(layers)*100*us + 20*us + 400*us
	for _, c := range p.Chains {
		if c.Accelerator > 0 && (c.Chained != compute+400*us || c.Whole != 920*us || c.Sum < compute*97/100 ||
			c.Sum > compute*103/100) {
			t.Errorf("chain %+v, want %v", c, compute)
		}
	}
	got := p.Devices[0]
	got.Memory = 0
	testkit.Equal(t, profiler.Device{Name: "gpu", Accelerators: []int{1}, Waking: d.waking, Lead: 400 * us}, got)
}

// What is interrupted while a device rests does not go on to run the executor.
func TestMeasureInterruptedAtRest(t *testing.T) {
	d := sharing()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var last string
	o := enough()
	o.Progress = func(what string, _ float64) {
		if last = what; what == "resting and waking devices" {
			cancel()
		}
	}
	p, err := profiler.Measure(ctx, on(t, d, 1), o)
	if !errors.Is(err, context.Canceled) || p == nil || last != "resting and waking devices" {
		t.Errorf("%v, the last it did was %q", err, last)
	}
}

// What is kept warm does not wake.
func TestMeasureKeptWarm(t *testing.T) {
	d := sharing()
	tk := on(t, d, 1)
	tk.Accelerators = tk.Accelerators[1:]
	tk.Accelerators[0].KeepWarm = true
	profiler.SetClock(&tk, 0, d.now, d.sleep)
	p := testkit.Must(profiler.Measure(context.Background(), tk, enough()))(t)
	if got := p.Devices[0]; got.Waking != nil || got.Lead != 7*us {
		t.Errorf("%+v", got)
	}
}

// Everything of a stream is done by one thread, and layers are captured there after they have run.
func TestStreamsThreads(t *testing.T) {
	orttest.Start(t)
	d := rig.NewDevice("gpu", 7)
	tk := profiler.Task{Networks: []*runtime.Network{testkit.Must(network())(t)},
		Accelerators: runtime.Spec{Name: "gpu"}.Streams(3),
		Open: func(s runtime.Spec) (runtime.Accelerator, error) {
			a, err := runtime.OpenORT(runtime.Spec{Name: s.Name, Optimization: "basic"})
			if err != nil {
				return nil, err
			}
			return d.Stream(s.Name, a), nil
		}}
	d.Watch()
	p := testkit.Must(profiler.Measure(context.Background(), tk, enough()))(t)
	if c := p.Chains[0]; c.Captured != len(p.Models[0].Layers) || c.Graph == 0 || c.Plain == 0 || len(p.Devices[0].Contention) != 3 {
		t.Errorf("chain %+v, devices %+v", c, p.Devices)
	}
	if _, strangers, _ := d.Seen(); len(strangers) > 0 {
		t.Errorf("%d uses by another thread, first: %s", len(strangers), strangers[0])
	}
}

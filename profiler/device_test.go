package profiler_test

import (
	"bytes"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/sim"
)

// streamed is a profile of a CPU accelerator and a device with three streams.
func streamed() *profiler.Profile {
	p := &profiler.Profile{Created: "2026-01-01T00:00:00Z", ORT: "1.29.0",
		Accelerators: []runtime.Spec{{Name: "gpu.0"}, {Name: "cpu"}, {Name: "gpu.1"}, {Name: "gpu.2"}},
		Models: []profiler.Model{{Name: "net", Granularity: "op", Layers: []profiler.Layer{
			{Name: "conv", Implementations: []string{"original"}}}}},
		Devices: []profiler.Device{{Name: "gpu", Accelerators: []int{0, 2, 3}, Contention: []float64{0, 0.125, 0.25},
			Waking: []sched.Waking{{Idle: time.Millisecond, Extra: 10 * time.Microsecond},
				{Idle: 10 * time.Millisecond, Extra: 50 * time.Microsecond}},
			Lead: 20 * time.Microsecond, Memory: 1 << 30, IdleW: 70, WarmW: 120}}}
	for k := range p.Accelerators {
		const ms = time.Millisecond
		p.Cells = append(p.Cells, profiler.Cell{Accelerator: k, N: 12, Min: ms, Mean: ms, P50: ms, P90: ms, P95: ms, P99: ms})
	}
	return p
}

// Devices survive a round trip and are found by their streams.
func TestDevices(t *testing.T) {
	p := roundTrip(t, streamed())
	for k, want := range []bool{true, false, true, true} {
		if d := p.Device(k); (d != nil) != want || want && d.Name != "gpu" {
			t.Errorf("accelerator %d is of %+v", k, d)
		}
	}
}

// A device that cannot be is refused.
func TestDevicesRefused(t *testing.T) {
	for want, change := range map[string]func(*profiler.Device){
		"needs a name":                 func(d *profiler.Device) { d.Name = "" },
		"and accelerators":             func(d *profiler.Device) { d.Accelerators = nil },
		"does not exist":               func(d *profiler.Device) { d.Accelerators = []int{0, 4, 2} },
		`devices "gpu" and "gpu"`:      func(d *profiler.Device) { d.Accelerators = []int{0, 2, 0} },
		"4 contentions of 3":           func(d *profiler.Device) { d.Contention = []float64{0, 1, 1, 1} },
		"contention [0.1 1]":           func(d *profiler.Device) { d.Contention = []float64{0.1, 1} },
		"contention [0 1 0.5]":         func(d *profiler.Device) { d.Contention = []float64{0, 1, 0.5} },
		"contention [0 2000]":          func(d *profiler.Device) { d.Contention = []float64{0, 2000} },
		"a lead of -1ns":               func(d *profiler.Device) { d.Lead = -1 },
		"its memory, its power":        func(d *profiler.Device) { d.Memory = -1 },
		"power or its number":          func(d *profiler.Device) { d.WarmW = -1 },
		"waking costs 10µs after -1ns": func(d *profiler.Device) { d.Waking[0].Idle = -1 },
		"waking costs 50µs after 1ms":  func(d *profiler.Device) { d.Waking[1].Idle = d.Waking[0].Idle },
		"waking costs -1ns after 1ms":  func(d *profiler.Device) { d.Waking[0].Extra = -1 },
		"waking costs 1h0m0s after 10": func(d *profiler.Device) { d.Waking[1].Extra = time.Hour },
		"idle times must rise":         func(d *profiler.Device) { slices.Reverse(d.Waking) },
		"its number of streams":        func(d *profiler.Device) { d.Auto = -1 },
	} {
		path := t.TempDir() + "/p.json"
		p := streamed()
		change(&p.Devices[0])
		testkit.OK(t, p.Write(path))
		testkit.Refused(profiler.Read(path))(t, want)
	}
	path := t.TempDir() + "/p.json"
	p := streamed()
	p.Devices = append(p.Devices, profiler.Device{Name: "gpu", Accelerators: []int{1}})
	testkit.OK(t, p.Write(path))
	testkit.Refused(profiler.Read(path))(t, `device "gpu" is there twice`)
	p.Devices[1].Name, p.Devices[0].IdleW = "cpu", math.Inf(1)
	if p.Write(path) == nil {
		t.Error("an infinite power was written")
	}
}

// A part of a profile has the part of the device that belongs to it.
func TestSelectStreams(t *testing.T) {
	for _, c := range []struct {
		names        []string
		accelerators []int
		contention   []float64
	}{
		{[]string{"gpu.2", "gpu.0"}, []int{1, 0}, []float64{0, 0.125}},
		{[]string{"cpu", "gpu.1"}, []int{1}, nil},
		{[]string{"cpu"}, nil, nil},
	} {
		p := testkit.Must(streamed().Select([]string{"net"}, c.names))(t)
		if c.accelerators == nil {
			if len(p.Devices) != 0 {
				t.Errorf("%v: %+v", c.names, p.Devices)
			}
			continue
		}
		d := p.Devices[0]
		if !slices.Equal(slices.Sorted(slices.Values(d.Accelerators)), slices.Sorted(slices.Values(c.accelerators))) ||
			!slices.Equal(d.Contention, c.contention) || len(d.Waking) != 2 {
			t.Errorf("%v: %+v", c.names, d)
		}
	}
	if d := streamed().Devices[0]; len(d.Accelerators) != 3 || len(d.Contention) != 3 {
		t.Errorf("the whole profile was changed: %+v", d)
	}
}

// The scheduler reckons with all streams busy, with the lead and with what waking costs; the simulator is told how many
// streams cost how much.
func TestSystemOfDevices(t *testing.T) {
	p := streamed()
	p.Interference = []profiler.Interference{{Accelerator: 0, Busy: 1, Slowdown: 0.5}}
	sys := testkit.Must(p.System([]time.Duration{time.Second}, profiler.P50))(t)
	const us = time.Microsecond
	want := []time.Duration{1750 * us, 1000 * us, 1250 * us, 1250 * us}
	if got := sys.Models[0].Layers[0].Implementations[0].Latency; !slices.Equal(got, want) {
		t.Errorf("the layer takes %v, want %v", got, want)
	}
	testkit.Equal(t, []sched.Device{{Name: "gpu", Accelerators: []int{0, 2, 3}, Lead: 20 * us, Contention: []float64{0, 0.125, 0.25},
		Waking: []sched.Waking{{Idle: time.Millisecond, Extra: 10 * us}, {Idle: 10 * time.Millisecond, Extra: 50 * us}}}},
		sys.Devices)
	testkit.Equal(t, []sim.Contention{{Accelerators: []int{0, 2, 3}, Slowdown: []float64{0, 0.125, 0.25}}}, p.Contentions())
	q := testkit.Must(profiler.FromSystem(&sys, profiler.TableOptions{}))(t)
	testkit.Equal(t, []profiler.Device{{Name: "gpu", Accelerators: []int{0, 2, 3}, Lead: 20 * us,
		Waking: sys.Devices[0].Waking}}, q.Devices)
}

// A table says which accelerators are streams of a device, and merged its devices come after the profile's.
func TestTableOfStreams(t *testing.T) {
	const rows = "model,layer,accelerator,latency_us,device\nnet,conv,a,1,\nnet,conv,b,2,npu\nnet,conv,c,2,npu\n"
	q := readTable(t, rows, profiler.TableOptions{})
	testkit.Equal(t, []profiler.Device{{Name: "npu", Accelerators: []int{1, 2}}}, q.Devices)
	if a := q.Accelerators; a[0].Of != "" || a[1].Of != "npu" || a[1].Stream != 0 || a[2].Of != "npu" || a[2].Stream != 1 {
		t.Errorf("accelerators %+v", a)
	}
	p := testkit.Must(streamed().Merge(q, profiler.MergeOptions{}))(t)
	if d := p.Devices; len(d) != 2 || d[0].Name != "gpu" || !slices.Equal(d[1].Accelerators, []int{5, 6}) {
		t.Errorf("merged: %+v", d)
	}
	var b bytes.Buffer
	testkit.OK(t, p.WriteCSV(&b))
	if text := b.String(); !strings.Contains(text, ",device\n") || strings.Count(text, ",npu\n") != 2 {
		t.Errorf("as CSV:\n%s", text)
	}
	_, err := profiler.ReadTable(strings.NewReader(rows+"kws,in,b,1,dsp\n"), profiler.TableOptions{})
	testkit.Fails(t, err, profiler.ErrTable, `accelerator "b" is of device "dsp" here and of "npu" before`)
}

// What differs in the streams is told.
func TestCompareStreams(t *testing.T) {
	a, b := streamed(), testkit.Must(streamed().Select([]string{"net"}, []string{"gpu.0", "gpu.1"}))(t)
	c := testkit.Must(profiler.Compare(a, b))(t)
	if !slices.Contains(c.Differences, profiler.Difference{What: "streams of gpu", A: "3", B: "2"}) {
		t.Errorf("%+v", c.Differences)
	}
}

package profiler_test

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/runtime"
)

// streamed is a profile of a CPU accelerator and a device with three streams.
func streamed() *profiler.Profile {
	p := &profiler.Profile{Created: "2026-01-01T00:00:00Z", ORT: "1.29.0",
		Accelerators: []runtime.Spec{{Name: "gpu.0"}, {Name: "cpu"}, {Name: "gpu.1"}, {Name: "gpu.2"}},
		Models: []profiler.Model{{Name: "net", Granularity: "op", Layers: []profiler.Layer{
			{Name: "conv", Implementations: []string{"original"}}}}},
		Devices: []profiler.Device{{Name: "gpu", Accelerators: []int{0, 2, 3}, Contention: []float64{0, 0.125, 0.25},
			Waking: []profiler.Waking{{Idle: time.Millisecond, Extra: 10 * time.Microsecond},
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
		"its memory or power":          func(d *profiler.Device) { d.Memory = -1 },
		"power is not":                 func(d *profiler.Device) { d.WarmW = -1 },
		"waking 10µs after 0s":         func(d *profiler.Device) { d.Waking[0].Idle = 0 },
		"waking 50µs after 1ms":        func(d *profiler.Device) { d.Waking[1].Idle = d.Waking[0].Idle },
		"waking 0s after 1ms":          func(d *profiler.Device) { d.Waking[0].Extra = 0 },
		"waking 1µs after 10ms":        func(d *profiler.Device) { d.Waking[1].Extra = time.Microsecond },
		"waking 1h0m0s after 10ms":     func(d *profiler.Device) { d.Waking[1].Extra = time.Hour },
		"both must be positive and ri": func(d *profiler.Device) { slices.Reverse(d.Waking) },
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

package profiler

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/sim"
)

// Device is what was measured of a device that several accelerators, its streams, share, or that one has to itself. An
// accelerator that computes in host memory has none.
type Device struct {
	Name string `json:"name"`
	// Accelerators are the device's streams, by index.
	Accelerators []int `json:"accelerators"`
	// Contention is by how much longer layers take on one stream while so many others are busy, by their number, as a
	// share of the time alone: the first is 0, and none is less than the one before. Nil with one stream.
	Contention []float64 `json:"contention,omitempty"`
	// Waking is what a layer takes longer that starts when the device has rested, kept warm or not as it is in a run,
	// rising in Idle.
	Waking []sched.Waking `json:"waking,omitempty"`
	// Lead is what noticing the end of a layer costs the host.
	Lead time.Duration `json:"lead_ns,omitempty"`
	// Memory is how much of the device's memory measuring took in all: weights, streams, tensors, graphs, and the whole
	// models besides. Runs have more graphs and tensors in place of these. Zero where the device does not tell.
	Memory int64 `json:"memory_bytes,omitempty"`
	// IdleW and WarmW are the power that the device draws, in watts, when it rests and when it is kept warm. Zero where
	// it does not tell.
	IdleW float64 `json:"idle_w,omitempty"`
	WarmW float64 `json:"warm_w,omitempty"`
	// Auto is how many streams [Streams] found to pay; zero if it was not asked.
	Auto int `json:"auto_streams,omitempty"`
}

// Device returns the device of an accelerator, by index; nil if it has none.
func (p *Profile) Device(accelerator int) *Device {
	for i := range p.Devices {
		if slices.Contains(p.Devices[i].Accelerators, accelerator) {
			return &p.Devices[i]
		}
	}
	return nil
}

// checkDevices fails if a device is not one that can be.
func (p *Profile) checkDevices() error {
	owner, names := map[int]string{}, map[string]bool{}
	for n := range p.Devices {
		d := &p.Devices[n]
		if err := d.check(); err != nil {
			return fmt.Errorf("device %d, %q: %w", n, d.Name, err)
		}
		if names[d.Name] {
			return fmt.Errorf("device %q is there twice", d.Name)
		}
		names[d.Name] = true
		for _, k := range d.Accelerators {
			if !p.has(k) {
				return fmt.Errorf("device %q has an accelerator that does not exist", d.Name)
			}
			if other, twice := owner[k]; twice {
				return fmt.Errorf("accelerator %q is of the devices %q and %q", p.Accelerators[k].Name, other, d.Name)
			}
			owner[k] = d.Name
		}
	}
	return nil
}

// maxExtra bounds what waking and noticing an end may cost.
const maxExtra = time.Minute

func (d *Device) check() error {
	switch {
	case d.Name == "" || len(d.Accelerators) == 0:
		return errors.New("it needs a name, and accelerators")
	case len(d.Contention) > len(d.Accelerators):
		return fmt.Errorf("%d contentions of %d streams", len(d.Contention), len(d.Accelerators))
	case d.Lead < 0 || d.Lead > maxExtra:
		return fmt.Errorf("a lead of %v, must be 0 to %v", d.Lead, maxExtra)
	case d.Memory < 0 || d.Auto < 0 || !possible(d.IdleW) || !possible(d.WarmW):
		return errors.New("its memory, its power or its number of streams is less than 0")
	}
	last := 0.0
	for n, x := range d.Contention {
		if !(x >= last && x <= maxSlowdown) || n == 0 && x != 0 {
			return fmt.Errorf("contention %v, must rise from 0 and be at most %v", d.Contention, maxSlowdown)
		}
		last = x
	}
	before := time.Duration(-1)
	for _, w := range d.Waking {
		if w.Idle <= before || w.Extra < 0 || w.Extra > maxExtra {
			return fmt.Errorf("waking costs %v after %v idle: idle times must rise, and the cost be 0 to %v", w.Extra,
				w.Idle, maxExtra)
		}
		before = w.Idle
	}
	return nil
}

// possible reports whether x is a quantity.
func possible(x float64) bool { return x >= 0 && !math.IsInf(x, 1) }

// only is the device with those of its accelerators that renumber keeps, under the indices that it gives them; false if
// none is left. What fewer streams share is less.
func (d Device) only(renumber func(*int) bool) (Device, bool) {
	d.Accelerators = kept(d.Accelerators, renumber)
	d.Contention = d.Contention[:min(len(d.Contention), len(d.Accelerators))]
	if len(d.Accelerators) < 2 {
		d.Contention = nil
	}
	return d, len(d.Accelerators) > 0
}

// Contentions are what the streams of the devices cost each other, in the form that the simulator takes ([sim.Config]).
func (p *Profile) Contentions() []sim.Contention {
	var out []sim.Contention
	for i := range p.Devices {
		if d := &p.Devices[i]; len(d.Contention) > 1 {
			out = append(out, sim.Contention{Accelerators: d.Accelerators, Slowdown: d.Contention})
		}
	}
	return out
}

// devices are the profile's devices as the scheduler takes them.
func (p *Profile) devices() []sched.Device {
	var out []sched.Device
	for i := range p.Devices {
		d := &p.Devices[i]
		out = append(out, sched.Device{Name: d.Name, Accelerators: slices.Clone(d.Accelerators), Lead: d.Lead,
			Waking: slices.Clone(d.Waking), Contention: slices.Clone(d.Contention)})
	}
	return out
}

// moved are devices whose accelerators have indices that are larger by n.
func moved(devices []Device, n int) []Device {
	devices = slices.Clone(devices)
	for i := range devices {
		d := &devices[i]
		d.Accelerators = slices.Clone(d.Accelerators)
		for j := range d.Accelerators {
			d.Accelerators[j] += n
		}
	}
	return devices
}

// streamsOf lists the accelerators on the same device as one of them, by index; that one alone if it is no stream.
func streamsOf(specs []runtime.Spec, accelerator int) []int {
	of := specs[accelerator].Of
	if of == "" {
		return []int{accelerator}
	}
	var out []int
	for k := range specs {
		if specs[k].Of == of {
			out = append(out, k)
		}
	}
	return out
}

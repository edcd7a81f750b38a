package profiler

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
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
	// Waking is what a layer takes longer that starts when the device has rested, rising in Idle and in Extra.
	Waking []Waking `json:"waking,omitempty"`
	// Lead is what noticing the end of a layer costs the host.
	Lead time.Duration `json:"lead_ns,omitempty"`
	// Memory is how much of the device's memory the whole task takes: weights, streams, tensors and graphs. Zero where
	// the device does not tell.
	Memory int64 `json:"memory_bytes,omitempty"`
	// IdleW and WarmW are the power that the device draws, in watts, when it rests and when it is kept warm. Zero where
	// it does not tell.
	IdleW float64 `json:"idle_w,omitempty"`
	WarmW float64 `json:"warm_w,omitempty"`
}

// Waking is by how much longer a layer takes that starts when its device has been idle for at least Idle.
type Waking struct {
	Idle  time.Duration `json:"idle_ns"`
	Extra time.Duration `json:"extra_ns"`
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
	case d.Memory < 0 || !possible(d.IdleW) || !possible(d.WarmW):
		return errors.New("its memory or power is not a number from 0")
	}
	last := 0.0
	for n, x := range d.Contention {
		if !(x >= last && x <= maxSlowdown) || n == 0 && x != 0 {
			return fmt.Errorf("contention %v, must rise from 0 and be at most %v", d.Contention, maxSlowdown)
		}
		last = x
	}
	before := Waking{}
	for _, w := range d.Waking {
		if w.Idle <= before.Idle || w.Extra < max(1, before.Extra) || w.Extra > maxExtra {
			return fmt.Errorf("waking %v after %v idle: both must be positive and rise, to at most %v", w.Extra, w.Idle,
				maxExtra)
		}
		before = w
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

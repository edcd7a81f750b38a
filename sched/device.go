package sched

import (
	"fmt"
	"time"
)

// Device is what several accelerators, its streams, or one share.
type Device struct {
	Name string `json:"name"`
	// Accelerators are its streams; each accelerator is of at most one device.
	Accelerators []int `json:"accelerators"`
	// Lead is how long before the predicted end of a layer the next one may be decided: as long as noticing an end takes.
	// Zero means that it is decided when the one before has ended.
	Lead time.Duration `json:"lead_ns,omitempty"`
	// Waking is what it costs to start when the device rested, rising in Idle.
	Waking []Waking `json:"waking,omitempty"`
}

// Waking is by how much longer a layer takes that starts when the device has been idle for at least Idle.
type Waking struct {
	Idle  time.Duration `json:"idle_ns"`
	Extra time.Duration `json:"extra_ns"`
}

// Extra is by how much longer a layer takes that starts when the device has been idle for so long.
func (d *Device) Extra(idle time.Duration) time.Duration {
	for i := len(d.Waking) - 1; i >= 0; i-- {
		if idle >= d.Waking[i].Idle {
			return d.Waking[i].Extra
		}
	}
	return 0
}

// validateDevices checks that devices are told apart and share no accelerator.
func (s *System) validateDevices() error {
	names := make([]string, len(s.Devices))
	for i := range s.Devices {
		names[i] = s.Devices[i].Name
	}
	if err := distinct("device", names); err != nil {
		return err
	}
	var of [MaxAccelerators]string
	for i := range s.Devices {
		d := &s.Devices[i]
		if len(d.Accelerators) == 0 {
			return fmt.Errorf("device %q has no accelerators", d.Name)
		}
		for _, k := range d.Accelerators {
			if k < 0 || k >= len(s.Accelerators) {
				return fmt.Errorf("device %q has accelerator %d, must be 0 to %d", d.Name, k, len(s.Accelerators)-1)
			}
			if of[k] != "" {
				return fmt.Errorf("accelerator %q is of device %q and of %q", s.Accelerators[k], of[k], d.Name)
			}
			of[k] = d.Name
		}
		if err := d.validate(); err != nil {
			return fmt.Errorf("device %q: %w", d.Name, err)
		}
	}
	return nil
}

func (d *Device) validate() error {
	if d.Lead < 0 || d.Lead > maxLatency {
		return fmt.Errorf("lead %v, must be 0 to %v", d.Lead, maxLatency)
	}
	for i, w := range d.Waking {
		if w.Idle < 0 || i > 0 && w.Idle <= d.Waking[i-1].Idle {
			return fmt.Errorf("waking after %v idle: must not be negative, and rise", w.Idle)
		}
		if w.Extra < 0 || w.Extra > maxLatency {
			return fmt.Errorf("waking costs %v after %v idle, must be 0 to %v", w.Extra, w.Idle, maxLatency)
		}
	}
	return nil
}

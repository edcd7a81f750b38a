package sched

import (
	"fmt"
	"slices"
	"time"
)

// Device is what several accelerators, its streams, or one share.
type Device struct {
	Name string `json:"name"`
	// Accelerators are its streams; each accelerator is of at most one device.
	Accelerators []int `json:"accelerators"`
	// Lead is how long before the predicted end of a layer the next may be decided: what noticing an end takes, or 0.
	Lead time.Duration `json:"lead_ns,omitempty"`
	// Contention is how much longer layers take by how many of the other accelerators are busy, 0.1 for 10 %. Latencies are
	// those with all of them busy, the last entry; the lead is taken from an earlier end where fewer are.
	Contention []float64 `json:"contention,omitempty"`
	// Waking is what it costs to start when the device rested, rising in Idle.
	Waking []Waking `json:"waking,omitempty"`
}

// Waking is by how much longer a layer takes that starts when the device has been idle for at least Idle. One that starts
// before that time is over, on another stream, takes longer by the rest of it.
type Waking struct {
	Idle  time.Duration `json:"idle_ns"`
	Extra time.Duration `json:"extra_ns"`
}

// Extra is by how much longer a layer takes that starts when the device has been idle for so long.
func (d *Device) Extra(idle time.Duration) (extra time.Duration) {
	for i := range d.Waking {
		if idle >= d.Waking[i].Idle {
			extra = d.Waking[i].Extra
		}
	}
	return extra
}

// validateDevices checks that devices are told apart, share no accelerator, and have times that can be.
func (s *System) validateDevices() error {
	var names []string
	var of [MaxAccelerators]string
	for _, d := range s.Devices {
		names = append(names, d.Name)
		if len(d.Accelerators) == 0 || d.Lead < 0 || d.Lead > maxLatency {
			return fmt.Errorf("device %q has %d accelerators and a lead of %v, need one at least, and 0 to %v", d.Name,
				len(d.Accelerators), d.Lead, maxLatency)
		}
		for _, k := range d.Accelerators {
			if k < 0 || k >= len(s.Accelerators) || of[k] != "" {
				return fmt.Errorf("device %q has accelerator %d, must be 0 to %d and of no other device", d.Name, k,
					len(s.Accelerators)-1)
			}
			of[k] = d.Name
		}
		if slices.ContainsFunc(d.Contention, func(x float64) bool { return !(x >= 0 && x <= 1000) }) {
			return fmt.Errorf("device %q: contention %v, must be 0 to 1000 each", d.Name, d.Contention)
		}
		for i, w := range d.Waking {
			if w.Idle < 0 || i > 0 && w.Idle <= d.Waking[i-1].Idle || w.Extra < 0 || w.Extra > maxLatency {
				return fmt.Errorf("device %q: waking costs %v after %v idle, must be 0 to %v, after times that rise from 0",
					d.Name, w.Extra, w.Idle, maxLatency)
			}
		}
	}
	return distinct("device", names)
}

// Lead is how long before the predicted end of a layer on accelerator k the next may be decided.
func (s *System) Lead(k int) time.Duration {
	i := slices.IndexFunc(s.Devices, func(d Device) bool { return slices.Contains(d.Accelerators, k) })
	if i < 0 {
		return 0
	}
	return s.Devices[i].Lead
}

package result

import (
	"fmt"
	"time"

	"github.com/terastal/terastal/runtime"
)

// noteStalled is the share of a run above which first uses and stalls of an accelerator are worth a note.
const noteStalled = 0.01

// Worker is what held an accelerator up, and how it ran its layers.
type Worker struct {
	Accelerator string `json:"accelerator"`
	// FirstUses are first runs of layers that took more than three times their prediction and a millisecond, Stalls the
	// other runs that did; the times are those beyond the predictions.
	FirstUses  int   `json:"first_uses,omitempty"`
	FirstUseNS int64 `json:"first_use_ns,omitempty"`
	Stalls     int   `json:"stalls,omitempty"`
	StallNS    int64 `json:"stall_ns,omitempty"`
	// Share is what both are of the run.
	Share float64 `json:"stalled_share,omitempty"`
	// Captured counts layers that were replayed as captured graphs, Plain others, where any were captured.
	Captured int `json:"captured,omitempty"`
	Plain    int `json:"plain,omitempty"`
}

// Device is what a run says of a device with a memory.
type Device struct {
	Name         string   `json:"name"`
	Accelerators []string `json:"accelerators"`
	// Needed is what models, streams and graphs take of the device's memory, in bytes; Free is what they leave of Total.
	Needed int64 `json:"needed_bytes,omitempty"`
	Free   int64 `json:"free_bytes,omitempty"`
	Total  int64 `json:"total_bytes,omitempty"`
	// KeepWarm says that the device is kept from falling asleep; IdleW and WarmW are what it draws at rest and kept warm,
	// by the profile, in W.
	KeepWarm bool    `json:"keep_warm,omitempty"`
	IdleW    float64 `json:"idle_w,omitempty"`
	WarmW    float64 `json:"warm_w,omitempty"`
	// Uncaptured are the implementations of layers that could not be captured.
	Uncaptured []Uncaptured `json:"uncaptured,omitempty"`
}

// Uncaptured is an implementation of a layer that runs uncaptured, and why.
type Uncaptured struct {
	Model          string `json:"model"`
	Layer          string `json:"layer"`
	Implementation string `json:"implementation"`
	Why            string `json:"why"`
}

// workers and devices are those of a run that there is something to tell about.
func (e *Execution) workers(r *runtime.Result) {
	onDevice := map[string]bool{}
	for i := range r.Devices {
		d := &r.Devices[i]
		x := Device{Name: d.Name, Needed: d.Needed, Free: d.Free, Total: d.Total}
		for _, k := range d.Accelerators {
			if k >= len(r.Stats.Accelerators) { // lanes are not accelerators
				continue
			}
			name := r.Stats.Accelerators[k].Name
			x.Accelerators, onDevice[name] = append(x.Accelerators, name), true
		}
		for _, u := range d.Uncaptured {
			x.Uncaptured = append(x.Uncaptured, Uncaptured(u))
		}
		e.Devices = append(e.Devices, x)
	}
	for i := range r.Workers {
		w := &r.Workers[i]
		x := Worker{Accelerator: w.Accelerator, FirstUses: w.FirstUse.N, FirstUseNS: int64(w.FirstUse.Took),
			Stalls: w.Stalls.N, StallNS: int64(w.Stalls.Took), Share: ratio(w.FirstUse.Took+w.Stalls.Took, r.Stats.At)}
		if w.Captured > 0 {
			x.Captured, x.Plain = w.Captured, w.Plain
		}
		if x == (Worker{Accelerator: w.Accelerator}) {
			continue
		}
		e.Workers = append(e.Workers, x)
		if onDevice[w.Accelerator] && x.Share > noteStalled {
			e.Notes = append(e.Notes, fmt.Sprintf("accelerator %q was held up for %.1f %% of the run: %d first uses took %v "+
				"and %d stalls %v beyond their predictions; profile again if longer runs show that, too", w.Accelerator,
				100*x.Share, w.FirstUse.N, w.FirstUse.Took.Round(time.Microsecond), w.Stalls.N,
				w.Stalls.Took.Round(time.Microsecond)))
		}
	}
}

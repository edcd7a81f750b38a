package result

import (
	"fmt"
	"time"

	"github.com/terastal/terastal/internal/hostinfo"
	"github.com/terastal/terastal/runtime"
)

// notePreempted is the share of its processor time above which an accelerator that does not get it is worth a note.
const notePreempted = 0.05

// Execution says how well the machine and the executor carried the schedule out.
type Execution struct {
	// Gaps are the times between two layers of a saturated accelerator.
	GapP50NS int64 `json:"gap_ns_p50"`
	GapP99NS int64 `json:"gap_ns_p99"`
	// Preempted is, by accelerator, the share of the time its thread wanted a processor, or its layers ran elsewhere
	// meanwhile, in which it had none: what other threads and processes took.
	Preempted map[string]float64 `json:"preempted,omitempty"`
	// Taken are the cores that others took from accelerators.
	Taken []Taken `json:"taken,omitempty"`
	// Machine is by how much the counters of the machine grew during the run, and ElapsedNS how long it took.
	Machine   hostinfo.Counters `json:"machine"`
	ElapsedNS int64             `json:"elapsed_ns"`
	// Searches are those of a policy that searches next to the engine.
	Searches    int     `json:"searches,omitempty"`
	SearchP50US float64 `json:"search_us_p50,omitempty"`
	SearchP99US float64 `json:"search_us_p99,omitempty"`
	// Handoffs are conversions of tensors between layouts.
	Handoffs     int     `json:"handoffs"`
	HandoffP50US float64 `json:"handoff_us_p50"`
	HandoffP99US float64 `json:"handoff_us_p99"`
	Collections  int     `json:"gc_collections"`
	GCPausesUS   float64 `json:"gc_pauses_us"`
	GCLongestUS  float64 `json:"gc_longest_us"`
	AllocatedKiB uint64  `json:"allocated_kib"`
	LateSlots    int     `json:"late_tensor_allocations"`
	// Lost are the accelerators that a hanging layer took out of service.
	Lost []string `json:"lost,omitempty"`
	// Workers are what held accelerators up; those that nothing did are left out.
	Workers []Worker `json:"workers,omitempty"`
	// Devices are those with a memory apart from the host's.
	Devices []Device `json:"devices,omitempty"`
	// Wholes are where models ran as a whole in a run without a scheduler, Ignored what of the options means nothing then.
	Wholes  []Whole  `json:"wholes,omitempty"`
	Ignored []string `json:"ignored,omitempty"`
	// Notes are doubts about the run.
	Notes []string `json:"notes,omitempty"`
}

// NewExecution is what a run and the counters of the machine, by how much they grew, come to.
func NewExecution(r *runtime.Result, machine hostinfo.Counters) *Execution {
	busy := map[string]time.Duration{}
	for _, a := range r.Stats.Accelerators {
		busy[a.Name] = a.Busy
	}
	e := &Execution{Machine: machine, ElapsedNS: int64(r.Stats.At), Preempted: map[string]float64{},
		Ignored: r.Ignored, LateSlots: r.LateSlots, Lost: r.Lost, Notes: r.Notes, Collections: r.GC.Collections,
		GCPausesUS: r.GC.Pauses.Seconds() * 1e6, GCLongestUS: r.GC.Longest.Seconds() * 1e6, AllocatedKiB: r.GC.Bytes >> 10}
	var gaps, handoffs runtime.Histogram
	for i := range r.Workers {
		w := &r.Workers[i]
		gaps.Merge(&w.Gaps)
		handoffs.Merge(&w.Handoffs)
		// A thread that waits for a graphics processor, or for an emulated layer,
		// wants no processor and loses little when it has to wait for one.
		if all := max(w.Ran+w.Waited, busy[w.Accelerator]); w.Ran > 0 {
			share := float64(w.Waited) / float64(all)
			e.Preempted[w.Accelerator] = share
			if share > notePreempted {
				e.Notes = append(e.Notes, fmt.Sprintf("other threads and processes took %.0f %% of the processor time of "+
					"accelerator %q, which its layers took longer for: stop what else runs, or give it real-time priority "+
					"(--realtime)", 100*share, w.Accelerator))
			}
		}
	}
	e.workers(r)
	for _, x := range r.Places {
		e.Wholes = append(e.Wholes, Whole{x.Model, x.On, int64(x.Took)})
	}
	if n := r.Searches.N(); n > 0 {
		e.Searches, e.SearchP50US, e.SearchP99US = n, r.Searches.Quantile(.5).Seconds()*1e6,
			r.Searches.Quantile(.99).Seconds()*1e6
	}
	e.GapP50NS, e.GapP99NS = int64(gaps.Quantile(.5)), int64(gaps.Quantile(.99))
	e.Handoffs, e.HandoffP50US, e.HandoffP99US = handoffs.N(), handoffs.Quantile(.5).Seconds()*1e6,
		handoffs.Quantile(.99).Seconds()*1e6
	return e
}

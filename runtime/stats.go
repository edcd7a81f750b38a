package runtime

import (
	goruntime "runtime"
	"runtime/debug"
	"time"

	"github.com/terastal/terastal/sched"
)

// Stats is how a run stands.
type Stats struct {
	At           time.Duration // since the start
	Models       []ModelStats
	Accelerators []AcceleratorStats
}

// ModelStats counts a model's requests.
type ModelStats struct {
	Name                                 string
	Released, Met, Late, Dropped, Failed int
	// Active are in the system; Started have tensors.
	Active, Started int
	// Variants is how many layers ran as a variant.
	Variants int
	Kept     Kept
	// Latency is from the scheduled release to the end, of finished requests.
	Latency Histogram
}

// MissRate is the share of ended requests that did not meet their deadline.
func (m *ModelStats) MissRate() float64 {
	if ended := m.Met + m.Late + m.Dropped + m.Failed; ended > 0 {
		return 1 - float64(m.Met)/float64(ended)
	}
	return 0
}

// AcceleratorStats is what an accelerator has done.
type AcceleratorStats struct {
	Name   string
	Layers int
	// Busy is the time its kernels ran; with the time of the run it gives the utilisation.
	Busy time.Duration
	Down bool
}

// WorkerStats is what an accelerator's thread did.
type WorkerStats struct {
	Accelerator string
	// Ran is the time its thread had a processor, Waited the time it was ready to run and had none: what other threads
	// took from it. Zero where the system does not count them.
	Ran, Waited time.Duration
	// Absent is how much of that was in layers, where the system counts it and tensors are in host memory.
	Absent Absences
	// Straggled is what layers lost otherwise, where that was much and no first run: waiting for other threads of the
	// accelerator.
	Straggled Absences
	// Gaps are the times between the end of a layer and the start of the next one on a saturated accelerator.
	Gaps Histogram
	// Handoffs are the conversions of tensors to the accelerator's layout, and their copies to and from its own memory;
	// on a device, what submitting those takes.
	Handoffs Histogram
	// FirstUse is by how much the first run of an implementation of a layer exceeded its prediction, where it was a stall:
	// a run of more than three times its predicted time and a millisecond. Stalls are the others.
	FirstUse, Stalls Spent
	// Captured is how many layers were replayed as captured, Plain how many others ran.
	Captured, Plain int
}

// Spent is time that was lost, and in how many layers.
type Spent struct {
	N    int
	Took time.Duration
}

// DeviceStats describes a device with a memory.
type DeviceStats struct {
	Name         string
	Accelerators []int // its streams, by index
	// Needed is what the programs, their tensors and graphs have taken of the device's memory, in bytes; Free is what is
	// left of Total. All are zero where the device does not tell.
	Needed, Free, Total int64
	// Uncaptured are the layers that are not captured, each once for all streams.
	Uncaptured []Uncaptured
}

// Uncaptured is an implementation of a layer that a device runs uncaptured, and why.
type Uncaptured struct{ Model, Layer, Implementation, Why string }

// GCStats is what Go's garbage collector did.
type GCStats struct {
	Collections int
	// Pauses are the times during which it stopped the world.
	Pauses, Longest time.Duration
	// Objects and Bytes are what the process allocated, on all threads.
	Objects, Bytes uint64
}

// count keeps the totals current.
func (s *Stats) count(rec *sched.Record) {
	m := &s.Models[max(0, rec.Model)]
	var a *AcceleratorStats
	if k := int(rec.Accelerator); k >= 0 && k < len(s.Accelerators) {
		a = &s.Accelerators[k]
	}
	switch rec.Kind {
	case sched.Released:
		m.Released++
		m.Active++
	case sched.Completed:
		if a != nil {
			a.Layers++
			a.Busy += rec.At - rec.Start
		}
		if rec.Implementation > 0 {
			m.Variants++
		}
	case sched.Down, sched.Up:
		a.Down = rec.Kind == sched.Down
	case sched.Ended:
		m.end(rec)
	}
}

// end counts a request that has ended.
func (m *ModelStats) end(rec *sched.Record) {
	m.Active--
	switch rec.Outcome {
	case sched.Met:
		m.Met++
	case sched.Late:
		m.Late++
	case sched.Dropped:
		m.Dropped++
	case sched.Failed:
		m.Failed++
	}
	if rec.Outcome == sched.Met || rec.Outcome == sched.Late {
		m.Latency.Add(rec.At - rec.Start)
	}
}

func (e *Executor) newStats() Stats {
	var s Stats
	for m, p := range e.models {
		s.Models = append(s.Models, ModelStats{Name: p.Network.Name,
			Kept: Kept{Floor: e.tables.System().Models[m].Floor, Mean: 1, Recent: 1, Worst: 1}})
	}
	for _, a := range e.accs {
		s.Accelerators = append(s.Accelerators, AcceleratorStats{Name: a.Name()})
	}
	return s
}

// snapshot copies the totals into s. The caller holds the lock.
func (d *driver) snapshot(s *Stats) {
	s.At = d.since()
	s.Models = append(s.Models[:0], d.journal.stats.Models...)
	s.Accelerators = append(s.Accelerators[:0], d.journal.stats.Accelerators...)
	for _, x := range d.slots.bound {
		for m, p := range d.models {
			if x.program == p.Program {
				s.Models[m].Started++
			}
		}
	}
}

// calm lets the garbage collector rest: it runs only when the heap has grown by
// calmHeap. The function returned undoes it.
func calm() (undo func()) {
	goruntime.GC()
	var m goruntime.MemStats
	goruntime.ReadMemStats(&m)
	limit := debug.SetMemoryLimit(-1)
	percent := debug.SetGCPercent(-1)
	debug.SetMemoryLimit(min(limit, int64(m.Sys-m.HeapReleased)+calmHeap))
	return func() {
		debug.SetGCPercent(percent)
		debug.SetMemoryLimit(limit)
	}
}

const calmHeap = 512 << 20

// gcMeter is the memory's state before a run.
type gcMeter goruntime.MemStats

func newGCMeter() *gcMeter {
	var m goruntime.MemStats
	goruntime.ReadMemStats(&m)
	return (*gcMeter)(&m)
}

// read is what the garbage collector has done since.
func (g *gcMeter) read() GCStats {
	m := newGCMeter()
	s := GCStats{Collections: int(m.NumGC - g.NumGC), Pauses: time.Duration(m.PauseTotalNs - g.PauseTotalNs),
		Objects: m.Mallocs - g.Mallocs, Bytes: m.TotalAlloc - g.TotalAlloc}
	// The last 256 pauses are kept.
	for n := range min(s.Collections, len(m.PauseNs)) {
		s.Longest = max(s.Longest, time.Duration(m.PauseNs[(int(m.NumGC)-1-n)%len(m.PauseNs)]))
	}
	return s
}

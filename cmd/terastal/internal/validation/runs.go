package validation

import (
	"cmp"
	"slices"
	"time"

	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/eventlog"
)

// place is an implementation of a layer on an accelerator, by index.
type place struct{ model, layer, implementation, accelerator int32 }

// layerRun is one layer that ran to its end, with the state of the machine that it met.
type layerRun struct {
	place
	from int32 // the accelerator of the layer before, sched.Idle for the first
	// Begin is when it could begin: when the policy decided or, if that was before, when what it was decided behind had
	// ended. Started is when the kernel or the conversion before it began.
	begin, started, ended time.Duration
	// Overlap is the share of the time from started to ended during which each
	// accelerator ran something else; its own entry is zero.
	overlap []float64
	// Streams is the share of that time in which so many others of its device were busy, by their number; nil where its
	// device has no others.
	streams []float64
	// Rested is how long its device had been idle before it last began to work, woken how long that was before the run.
	rested, woken time.Duration
	// Lag is how long the job's release went unnoticed while an accelerator was idle; of first layers only.
	lag time.Duration
}

// occupied is how long the run kept its accelerator.
func (r *layerRun) occupied() time.Duration { return r.ended - r.begin }

// layerRuns lists the completed layers of a log, in the order of their ends.
func layerRuns(log *eventlog.Log) []layerRun {
	accs := len(log.Header.System.Accelerators)
	lags := log.IdleLags()
	var runs []layerRun
	busy := make([][]span, accs)
	for _, run := range log.Runs() {
		r := run.Ended
		if r.Kind != sched.Completed {
			continue
		}
		x := layerRun{place: place{r.Model, r.Layer, r.Implementation, r.Accelerator}, from: run.From,
			begin: run.Begin, started: max(r.Start, run.Begin), ended: r.At} // the end before may have been noticed late
		if run.From == sched.Idle {
			x.lag = lags[r.Job]
		}
		busy[r.Accelerator] = append(busy[r.Accelerator], span{x.started, r.At})
		runs = append(runs, x)
	}
	overlaps(runs, busy, log.Header.System.Devices)
	for i := range log.Header.System.Devices {
		rests(runs, log.Header.System.Devices[i].Accelerators)
	}
	return runs
}

// rests fills in how long a device of these accelerators rested before each run.
func rests(runs []layerRun, accelerators []int) {
	var on []*layerRun
	for i := range runs {
		if slices.Contains(accelerators, int(runs[i].accelerator)) {
			on = append(on, &runs[i])
		}
	}
	slices.SortStableFunc(on, func(a, b *layerRun) int { return cmp.Compare(a.started, b.started) })
	var last, woken, rested time.Duration
	for _, r := range on {
		if r.started > last {
			woken, rested = r.started, r.started-last
		}
		r.rested, r.woken = rested, r.started-woken // it may still be waking up
		last = max(last, r.ended)
	}
}

type span struct{ from, to time.Duration }

// overlaps fills in what else ran during each run. Spans of an accelerator are in order and apart.
func overlaps(runs []layerRun, busy [][]span, devices []sched.Device) {
	accs := len(busy)
	of := make([][]int, accs) // by accelerator: all of its device
	for i := range devices {
		for _, k := range devices[i].Accelerators {
			of[k] = devices[i].Accelerators
		}
	}
	var parts []span // of others of the device, within the run
	shares := make([]float64, len(runs)*accs)
	next := make([]int, accs*accs) // by accelerator and other: the first span that may still matter
	for i := range runs {
		r := &runs[i]
		r.overlap, shares = shares[:accs:accs], shares[accs:]
		length := r.ended - r.started
		if length <= 0 {
			continue
		}
		parts = parts[:0]
		for o := range busy {
			if o == int(r.accelerator) {
				continue
			}
			n := &next[int(r.accelerator)*accs+o]
			for *n < len(busy[o]) && busy[o][*n].to <= r.started {
				*n++
			}
			both := time.Duration(0)
			for _, s := range busy[o][*n:] {
				if s.from >= r.ended {
					break
				}
				part := span{max(s.from, r.started), min(s.to, r.ended)}
				both += part.to - part.from
				if slices.Contains(of[r.accelerator], o) {
					parts = append(parts, part)
				}
			}
			r.overlap[o] = float64(both) / float64(length)
		}
		if n := len(of[r.accelerator]); n > 1 {
			r.streams = crowds(span{r.started, r.ended}, parts, n)
		}
	}
}

// crowds is the share of a span in which 0, 1, ... fewer than n of some others, which lie in it, are busy.
func crowds(whole span, others []span, n int) []float64 {
	var steps []step
	for _, o := range others {
		steps = append(steps, step{o.from, 1}, step{o.to, -1})
	}
	slices.SortFunc(steps, func(a, b step) int { return cmp.Compare(a.at, b.at) })
	out := make([]float64, n)
	at, busy := whole.from, 0
	for _, s := range append(steps, step{whole.to, 0}) {
		out[max(0, min(busy, n-1))] += float64(s.at-at) / float64(whole.to-whole.from)
		at, busy = s.at, busy+s.by
	}
	return out
}

// step is when so many more are busy.
type step struct {
	at time.Duration
	by int
}

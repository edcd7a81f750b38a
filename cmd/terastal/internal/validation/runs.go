package validation

import (
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
	// Dispatched is when the policy decided, started when the kernel or the conversion before it began.
	dispatched, started, ended time.Duration
	// Beside is the share of the time from started to ended during which each
	// accelerator ran something else; its own entry is zero.
	overlap []float64
	// Lag is how long the job's release went unnoticed while an accelerator was idle; of first layers only.
	lag time.Duration
}

// occupied is how long the run kept its accelerator.
func (r *layerRun) occupied() time.Duration { return r.ended - r.dispatched }

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
			dispatched: run.Dispatched.At, started: r.Start, ended: r.At}
		if run.From == sched.Idle {
			x.lag = lags[r.Job]
		}
		busy[r.Accelerator] = append(busy[r.Accelerator], span{r.Start, r.At})
		runs = append(runs, x)
	}
	overlaps(runs, busy)
	return runs
}

type span struct{ from, to time.Duration }

// overlaps fills in what else ran during each run. Spans of an accelerator are in order and apart.
func overlaps(runs []layerRun, busy [][]span) {
	accs := len(busy)
	shares := make([]float64, len(runs)*accs)
	next := make([]int, accs*accs) // by accelerator and other: the first span that may still matter
	for i := range runs {
		r := &runs[i]
		r.overlap, shares = shares[:accs:accs], shares[accs:]
		length := r.ended - r.started
		if length <= 0 {
			continue
		}
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
				both += min(s.to, r.ended) - max(s.from, r.started)
			}
			r.overlap[o] = float64(both) / float64(length)
		}
	}
}

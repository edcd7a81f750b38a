package eventlog

import (
	"time"

	"github.com/terastal/terastal/sched"
)

// Run is one run of a layer, to its end or to a failure.
type Run struct {
	// Dispatched is the decision. Ended is of kind Completed, or Requeued where the layer failed and is run again, or Ended
	// where its job failed with it, or Doomed where its job fails later.
	Dispatched, Ended *Record
	From              int32 // the accelerator of the job's layer before, sched.Idle for the first
	// Begin is when it could begin: at the decision, or when what it was decided behind had ended, the layer before on the
	// accelerator and the one before in its job.
	Begin time.Duration
}

// Predicted is how long it was expected to take from Begin, handoff and waking included.
func (r *Run) Predicted() time.Duration {
	if r.Begin > r.Dispatched.At {
		return r.Dispatched.Until - max(r.Dispatched.At, r.Dispatched.Start)
	}
	return r.Dispatched.Until - r.Dispatched.At
}

// Runs lists the runs of layers in the order in which they ended.
func (l *Log) Runs() (out []Run) {
	type layer struct {
		job   int64
		index int32
	}
	type end struct {
		accelerator int32
		at          time.Duration
	}
	running, last := map[layer]*Record{}, map[int64]end{}
	free := make([]time.Duration, len(l.Header.System.Accelerators)) // when each last ended a layer
	for i := range l.Records {
		r := &l.Records[i]
		switch r.Kind {
		case sched.Dispatched:
			running[layer{r.Job, r.Layer}] = r
		case sched.Completed, sched.Requeued, sched.Doomed, sched.Ended:
			if d := running[layer{r.Job, r.Layer}]; d != nil {
				before, moved := last[r.Job]
				if !moved {
					before.accelerator = sched.Idle
				}
				out = append(out, Run{d, r, before.accelerator, max(d.At, before.at, free[d.Accelerator])})
				free[d.Accelerator] = r.At
			}
			delete(running, layer{r.Job, r.Layer})
			if r.Kind == sched.Completed || r.Kind == sched.Doomed {
				last[r.Job] = end{r.Accelerator, r.At}
			} else if r.Kind == sched.Ended {
				delete(last, r.Job)
			}
		}
	}
	return out
}

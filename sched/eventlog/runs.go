package eventlog

import "github.com/terastal/terastal/sched"

// Run is one run of a layer, to its end or to a failure.
type Run struct {
	// Dispatched is the decision. Ended is of kind Completed, or Requeued where the layer failed and is run again, or
	// Ended where its job failed with it.
	Dispatched, Ended *Record
	From              int32 // the accelerator of the job's layer before, sched.Idle for the first
}

// Runs lists the runs of layers in the order in which they ended.
func (l *Log) Runs() (out []Run) {
	running, last := map[int64]*Record{}, map[int64]int32{}
	for i := range l.Records {
		r := &l.Records[i]
		switch r.Kind {
		case sched.Dispatched:
			running[r.Job] = r
		case sched.Completed, sched.Requeued, sched.Ended:
			if d := running[r.Job]; d != nil {
				from, moved := last[r.Job]
				if !moved {
					from = sched.Idle
				}
				out = append(out, Run{d, r, from})
			}
			delete(running, r.Job)
			if r.Kind == sched.Completed {
				last[r.Job] = r.Accelerator
			} else if r.Kind == sched.Ended {
				delete(last, r.Job)
			}
		}
	}
	return out
}

package view

import (
	"time"

	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/eventlog"
)

// job is one request of a log.
type job struct {
	id       int64
	model    int
	release  time.Duration // scheduled
	noticed  time.Duration
	deadline time.Duration
	end      time.Duration
	outcome  sched.Outcome
	detail   string
	ran      time.Duration // sum of its layers
}

func (j *job) missed() bool { return j.outcome != sched.Met }

// span is one run of a layer to its end.
type span struct {
	job            int // index of the job
	layer          int
	implementation int
	accelerator    int
	dispatched     time.Duration
	begin          time.Duration // it could begin: after what it was decided behind
	start          time.Duration
	end            time.Duration
	predicted      time.Duration // finish, from begin on
	reason         sched.Reason
}

// outage is when an accelerator was out of service.
type outage struct {
	accelerator int
	from, to    time.Duration
}

// history is a log by requests: jobs in order of their release records, spans in order of their ends.
type history struct {
	*eventlog.Log
	jobs    []job
	spans   []span
	outages []outage
}

func newHistory(l *eventlog.Log) *history {
	h := &history{Log: l}
	index := map[int64]int{}
	down := map[int32]time.Duration{}
	var last time.Duration
	for i := range l.Records {
		r := &l.Records[i]
		last = r.At
		switch r.Kind {
		case sched.Released:
			index[r.Job] = len(h.jobs)
			h.jobs = append(h.jobs, job{id: r.Job, model: int(r.Model), release: r.Start, noticed: r.At, deadline: r.Until})
		case sched.Ended:
			j := &h.jobs[index[r.Job]]
			j.end, j.outcome, j.detail = r.At, r.Outcome, r.Detail
		case sched.Down:
			down[r.Accelerator] = r.At
		case sched.Up:
			if from, is := down[r.Accelerator]; is {
				h.outages = append(h.outages, outage{int(r.Accelerator), from, r.At})
				delete(down, r.Accelerator)
			}
		}
	}
	free := make([]time.Duration, len(l.Header.System.Accelerators)) // when each last ended a layer
	for _, run := range l.Runs() {
		if d, r := run.Dispatched, run.Ended; r.Kind == sched.Completed {
			n := index[r.Job]
			start := max(r.Start, free[r.Accelerator]) // the end before may have been noticed late
			free[r.Accelerator] = r.At
			h.jobs[n].ran += r.At - start
			h.spans = append(h.spans, span{job: n, layer: int(r.Layer), implementation: int(r.Implementation),
				accelerator: int(r.Accelerator), dispatched: d.At, begin: run.Begin, start: start, end: r.At,
				predicted: run.Begin + run.Predicted(), reason: d.Reason})
		}
	}
	for k := range l.Header.System.Accelerators {
		if from, is := down[int32(k)]; is {
			h.outages = append(h.outages, outage{k, from, last})
		}
	}
	return h
}

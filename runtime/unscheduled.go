package runtime

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/eventlog"
	"github.com/terastal/terastal/sched/traffic"
)

// Names of the baselines that RunUnscheduled plays.
const (
	// Unscheduled is what users do without a scheduler: each model runs as a whole where it is fastest.
	Unscheduled = "unscheduled"
	// UnscheduledCPU is the same on the CPU only.
	UnscheduledCPU = "unscheduled-cpu"
)

// RunUnscheduled plays the traffic as there is no scheduler: an ordinary session per model, each request started at its
// release on another thread, several at once on a GPU too, nothing dropped but what the queue has no room for. With the
// policy UnscheduledCPU models run on the CPU with a thread for every core, with any other name each where a few runs of
// the whole model take the least time, of the places that the accelerators offer ([Ordinary]): the CPU, and providers
// with their defaults. An executor chooses once.
//
// In the log a request is one layer, and the accelerators are as many lanes as requests ran at once, up to the most that
// a log can have; what finds no lane is dropped like what finds the queue full. Retries run a failed request again. The
// options Drop, Adapt and Realtime mean nothing without a scheduler: Result.Ignored names those that were set. FreeCore
// and Hang do not apply. A drill that is on is refused.
func (e *Executor) RunUnscheduled(ctx context.Context, o Options) (*Result, error) {
	if !e.busy.CompareAndSwap(false, true) {
		return nil, ErrBusy
	}
	defer e.busy.Store(false)
	o.Policy = cmp.Or(o.Policy, Unscheduled)
	arrivals, err := o.Traffic.Arrivals()
	if err == nil {
		err = e.struck()
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.Policy, err)
	}
	u := &unscheduled{Executor: e, opts: o, clock: clock{start: time.Now()},
		journal: journal{log: newRecording(0), stats: e.newStats(), keeper: e.newKeeper()},
		stopped: func() bool { return ctx.Err() != nil },
		own:     sched.FirstOwnJob, rng: rand.New(rand.NewPCG(o.Traffic.Seed, 0x0500))}
	u.journal.samples.plan(arrivals, len(e.models), o.samples)
	u.opts.Queue = cmp.Or(o.Queue, sched.DefaultQueue)
	u.journal.stats.Accelerators = nil
	defer u.close()
	if err := u.open(); err != nil {
		return nil, fmt.Errorf("%s: %w", o.Policy, err)
	}
	meter := newGCMeter()
	u.start = time.Now()
	for n, a := range arrivals {
		if !u.wait(ctx, a.At) {
			break
		}
		u.mu.Lock()
		u.release(int64(n), a.Model, a.At)
		u.mu.Unlock()
		if o.Progress != nil && n%64 == 0 {
			u.progress()
		}
	}
	u.requests.Wait()
	r := &Result{Log: u.log(), Started: u.start, Stats: u.journal.stats, Samples: u.journal.samples.kept,
		Interrupted: ctx.Err() != nil, GC: meter.read(), Places: whereWholes(e.models, u.wholes), Ignored: o.without()}
	r.Stats.At = u.since()
	return r, u.failed
}

// unscheduled is the state of one such run.
type unscheduled struct {
	*Executor
	opts     Options
	wholes   []wholeOf // by model
	requests sync.WaitGroup
	stopped  func() bool // ends of requests release no more

	mu sync.Mutex // guards all below
	clock
	journal journal
	lanes   []*lane // as many as there were requests at once, and those that were made ready
	most    int     // lanes in use at once
	own     int64
	rng     *rand.Rand
	failed  error
}

// lane is a thread that runs a request at a time: providers keep handles for each thread.
type lane struct {
	*thread
	busy bool
}

func newLane() *lane { return &lane{thread: startThread()} }

// readyLanes is how many lanes have run every model before the traffic begins, where first runs of a thread take longer.
const readyLanes = 8

// open loads every model into an ordinary session.
func (u *unscheduled) open() (err error) {
	if u.wholes, err = u.openWholes(u.opts.Policy == UnscheduledCPU); err != nil {
		return err
	}
	if !slices.ContainsFunc(u.wholes, func(w wholeOf) bool { return w.PerThread }) {
		return nil
	}
	for range readyLanes {
		l := newLane()
		u.lanes = append(u.lanes, l)
		l.do(func() {
			for m, w := range u.wholes {
				if w.PerThread && err == nil {
					err = u.models[m].once(w)
				}
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (u *unscheduled) close() {
	for _, l := range u.lanes {
		close(l.work)
		<-l.closed
	}
	for _, w := range u.wholes {
		w.Close()
	}
}

// wait sleeps until an instant; false if ctx ended first.
func (u *unscheduled) wait(ctx context.Context, at time.Duration) bool {
	if left := at - u.since(); left > 0 {
		select {
		case <-time.After(left):
		case <-ctx.Done():
		}
	}
	return ctx.Err() == nil
}

func (u *unscheduled) progress() {
	u.mu.Lock()
	s := u.journal.stats
	s.Models = slices.Clone(s.Models)
	u.mu.Unlock()
	s.At = u.since()
	u.opts.Progress(s)
}

// record keeps a record at the current time, which never goes back. The caller holds the mutex.
func (u *unscheduled) record(r sched.Record) {
	u.now = max(u.now, u.since())
	r.At = u.now
	u.journal.add(&r)
}

// release starts a request, or drops it where there is no room. The caller holds the mutex.
func (u *unscheduled) release(job int64, model int, at time.Duration) {
	r := sched.Record{Kind: sched.Released, Job: job, Model: int32(model), Accelerator: sched.Idle, Start: at,
		Until: at + u.tables.System().Models[model].Deadline}
	u.record(r)
	lane := slices.IndexFunc(u.lanes, func(l *lane) bool { return !l.busy })
	if lane < 0 && len(u.lanes) < sched.MaxAccelerators {
		lane = len(u.lanes)
		u.lanes = append(u.lanes, newLane())
	}
	if lane < 0 || u.journal.stats.Models[model].Active > u.opts.Queue {
		r.Kind, r.Outcome, r.Detail = sched.Ended, sched.Dropped, sched.DropReasonQueueFull
		u.record(r)
		return
	}
	u.lanes[lane].busy, u.most = true, max(u.most, lane+1)
	u.record(sched.Record{Kind: sched.Dispatched, Job: job, Model: r.Model, Accelerator: int32(lane), Until: r.Until})
	u.requests.Add(1)
	u.lanes[lane].start(func() {
		defer u.requests.Done()
		u.request(r, lane)
	})
}

// request runs one, released by r.
func (u *unscheduled) request(r sched.Record, lane int) {
	m := u.models[r.Model]
	in := values(m.sets[m.set(r.Job)])
	out := make([]ort.Value, len(m.outputs))
	begin := u.since()
	err := u.wholes[r.Model].Run(in, out)
	for n := 0; err != nil && n < u.opts.Retries; n++ {
		err = u.wholes[r.Model].Run(in, out)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.lanes[lane].busy = false
	end := r
	end.Kind, end.Accelerator, end.Outcome = sched.Ended, int32(lane), sched.Failed
	if err == nil {
		u.record(sched.Record{Kind: sched.Completed, Job: r.Job, Model: r.Model, Accelerator: int32(lane), Start: begin})
		end.Accelerator, end.Layer, end.Outcome = sched.Idle, 1, sched.Met
		if u.now > r.Until {
			end.Outcome = sched.Late
		}
		u.sample(r.Job, int(r.Model), out)
	} else {
		end.Detail = err.Error()
	}
	end.At = u.now
	u.journal.add(&end)
	u.follow(int(r.Model), err == nil)
}

// follow releases what the end of a request does.
func (u *unscheduled) follow(model int, completed bool) {
	t := &u.opts.Traffic
	if u.stopped() || u.now >= t.Duration {
		return
	}
	sys := u.tables.System()
	if t.Process == traffic.ClosedLoop && sys.Models[model].Trigger == nil {
		u.release(u.own, model, u.now)
		u.own++
	}
	for m := range sys.Models {
		if tr := sys.Models[m].Trigger; completed && tr != nil && tr.Parent == sys.Models[model].Name &&
			u.rng.Float64() < tr.Probability {
			u.release(u.own, m, u.now)
			u.own++
		}
	}
}

// sample keeps the outputs of a request every now and then, and frees them.
func (u *unscheduled) sample(job int64, model int, out []ort.Value) {
	data, err := take(out)
	u.failed = errors.Join(u.failed, err)
	if s := &u.journal.samples; s.due(model, job) != nil {
		s.kept = append(s.kept, Sample{Model: model, Job: job, Input: u.models[model].set(job), Outputs: data,
			Tolerance: u.wholes[model].Tolerance})
	}
}

// log has one layer per model and a lane for every request that ran at once.
func (u *unscheduled) log() *eventlog.Log {
	given, t := u.tables.System(), &u.opts.Traffic
	var sys sched.System
	for n := range max(1, u.most) {
		sys.Accelerators = append(sys.Accelerators, fmt.Sprintf("lane %d", n+1))
	}
	for m := range given.Models {
		g := &given.Models[m]
		im := sched.Implementation{Name: u.wholes[m].Name}
		took := cmp.Or(u.wholes[m].took, u.tables.Model(int32(m)).Remaining(0)) // for readers: nothing is predicted from it
		for range sys.Accelerators {
			im.Latency = append(im.Latency, took)
		}
		sys.Models = append(sys.Models, sched.Model{Name: g.Name, Deadline: g.Deadline, Trigger: g.Trigger,
			Layers: []sched.Layer{{Name: "whole", Implementations: []sched.Implementation{im}}}})
	}
	return &eventlog.Log{Records: u.journal.log.all(), Header: eventlog.Header{Driver: eventlog.Real, Policy: u.opts.Policy,
		Drop: sched.DropNone.String(), Queue: u.opts.Queue,
		Seed: t.Seed, ClosedLoop: t.Process == traffic.ClosedLoop, Until: t.Duration, System: sys,
		Rates: t.Rates, Duration: t.Duration}}
}

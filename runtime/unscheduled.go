package runtime

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	goruntime "runtime"
	"slices"
	"sync"
	"time"

	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/eventlog"
	"github.com/terastal/terastal/sched/traffic"
)

// Unscheduled is the name of the baseline that RunUnscheduled plays.
const Unscheduled = "unscheduled"

// RunUnscheduled plays the traffic as there is no scheduler: an ordinary session per model on the CPU with a thread for
// every core, each request started at its release by another goroutine, nothing dropped but what the queue has no room
// for. In the log a request is one layer, and the accelerators are as many lanes as requests ran at once, up to the
// most that a log can have; what finds no lane is dropped like what finds the queue full. The options Policy, Drop,
// Adapt, FreeCore, Realtime, Retries and Hang do not apply.
func (e *Executor) RunUnscheduled(ctx context.Context, o Options) (*Result, error) {
	if !e.busy.CompareAndSwap(false, true) {
		return nil, ErrBusy
	}
	defer e.busy.Store(false)
	arrivals, err := o.Traffic.Arrivals()
	if err != nil {
		return nil, err
	}
	u := &unscheduled{Executor: e, opts: o, clock: clock{start: time.Now()},
		journal: journal{log: newRecording(0), stats: e.newStats(), keeper: e.newKeeper()},
		stopped: func() bool { return ctx.Err() != nil },
		lanes:   make([]bool, sched.MaxAccelerators), own: sched.FirstOwnJob,
		rng: rand.New(rand.NewPCG(o.Traffic.Seed, 0x0500))}
	u.journal.samples.plan(arrivals, len(e.models), o.samples)
	u.opts.Queue = cmp.Or(o.Queue, sched.DefaultQueue)
	u.journal.stats.Accelerators = nil
	defer u.close()
	if err := u.open(); err != nil {
		return nil, fmt.Errorf("%s: %w", Unscheduled, err)
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
		Interrupted: ctx.Err() != nil, GC: meter.read()}
	r.Stats.At = u.since()
	return r, u.failed
}

// unscheduled is the state of one such run.
type unscheduled struct {
	*Executor
	opts     Options
	sessions []*ort.Session
	requests sync.WaitGroup
	stopped  func() bool // ends of requests release no more

	mu sync.Mutex // guards all below
	clock
	journal journal
	lanes   []bool // in use
	most    int    // lanes in use at once
	own     int64
	rng     *rand.Rand
	failed  error
}

// open loads every model into an ordinary session.
func (u *unscheduled) open() error {
	for _, p := range u.models {
		s, err := p.Network.whole(goruntime.NumCPU())
		if err != nil {
			return err
		}
		u.sessions = append(u.sessions, s)
	}
	return nil
}

func (u *unscheduled) close() {
	for _, s := range u.sessions {
		s.Close()
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
	lane := slices.Index(u.lanes, false)
	if lane < 0 || u.journal.stats.Models[model].Active > u.opts.Queue {
		r.Kind, r.Outcome, r.Detail = sched.Ended, sched.Dropped, sched.DropReasonQueueFull
		u.record(r)
		return
	}
	u.lanes[lane], u.most = true, max(u.most, lane+1)
	u.record(sched.Record{Kind: sched.Dispatched, Job: job, Model: r.Model, Accelerator: int32(lane), Until: r.Until})
	u.requests.Go(func() { u.request(r, lane) })
}

// request runs one, released by r.
func (u *unscheduled) request(r sched.Record, lane int) {
	m := u.models[r.Model]
	in := values(m.sets[m.set(r.Job)])
	out := make([]ort.Value, len(m.outputs))
	begin := u.since()
	err := u.sessions[r.Model].Run(in, out)
	u.mu.Lock()
	defer u.mu.Unlock()
	u.lanes[lane] = false
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
		s.kept = append(s.kept, Sample{Model: model, Job: job, Input: u.models[model].set(job), Outputs: data})
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
		im := sched.Implementation{Name: "whole"}
		var fastest time.Duration // nothing is predicted from it: the layers' sum is for readers
		for _, l := range g.Layers {
			least := sched.Unavailable
			for _, c := range l.Implementations[0].Latency {
				if c != sched.Unavailable && (least == sched.Unavailable || c < least) {
					least = c
				}
			}
			fastest += least
		}
		for range sys.Accelerators {
			im.Latency = append(im.Latency, fastest)
		}
		sys.Models = append(sys.Models, sched.Model{Name: g.Name, Deadline: g.Deadline, Trigger: g.Trigger,
			Layers: []sched.Layer{{Name: "whole", Implementations: []sched.Implementation{im}}}})
	}
	return &eventlog.Log{Records: u.journal.log.all(), Header: eventlog.Header{Driver: eventlog.Real, Policy: Unscheduled,
		Drop: sched.DropNone.String(), Queue: u.opts.Queue,
		Seed: t.Seed, ClosedLoop: t.Process == traffic.ClosedLoop, Until: t.Duration, System: sys,
		Rates: t.Rates, Duration: t.Duration}}
}

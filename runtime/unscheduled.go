package runtime

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	goruntime "runtime"
	"sync"
	"time"

	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/eventlog"
	"github.com/terastal/terastal/sched/traffic"
)

// Unscheduled is the name of the baseline that RunUnscheduled plays.
const Unscheduled = "unscheduled"

// RunUnscheduled plays the traffic as there is no scheduler: an ordinary
// session per model on the CPU with a thread for every core, each request
// started at its release by a goroutine of its own, nothing dropped but what
// the queue has no room for. In the log a request is one layer, and the
// accelerators are as many lanes as requests ran at once, up to the most that
// a log can have; what finds no lane is dropped like what finds the queue full.
// The options Policy, Drop, Adapt, FreeCore, Realtime, Retries and Hang do not
// apply.
func (e *Executor) RunUnscheduled(ctx context.Context, o Options) (*Result, error) {
	if !e.busy.CompareAndSwap(false, true) {
		return nil, ErrBusy
	}
	defer e.busy.Store(false)
	arrivals, err := o.Traffic.Arrivals()
	if err != nil {
		return nil, err
	}
	u := &unscheduled{Executor: e, opts: o, active: make([]int, len(e.programs)), taken: make([]int, len(e.programs)), lanes: make([]bool, sched.MaxAccelerators), own: sched.FirstOwnJob,
		rng: rand.New(rand.NewPCG(o.Traffic.Seed, 0x0500))}
	if o.Queue == 0 {
		u.opts.Queue = sched.DefaultQueue
	}
	if err := u.open(); err != nil {
		u.close()
		return nil, fmt.Errorf("%s: %w", Unscheduled, err)
	}
	defer u.close()
	u.stats = (&driver{Executor: e}).newStats()
	u.stats.Accelerators = nil
	meter := newGCMeter()
	u.start = time.Now()
	for n, a := range arrivals {
		if !u.wait(ctx, a.At) {
			break
		}
		u.release(int64(n), a.Model, a.At)
		if o.Progress != nil && n%64 == 0 {
			u.progress()
		}
	}
	u.stopAt(ctx)
	u.requests.Wait()
	r := &Result{Log: u.log(), Started: u.start, Stats: u.stats, Samples: u.samples, Interrupted: ctx.Err() != nil, GC: meter.read()}
	r.Stats.At = time.Since(u.start)
	return r, u.failed
}

// unscheduled is the state of one such run.
type unscheduled struct {
	*Executor
	opts     Options
	sessions []*ort.Session
	start    time.Time
	requests sync.WaitGroup

	mu      sync.Mutex
	now     time.Duration // of the last record
	records eventlog.Buffer
	stats   Stats
	active  []int // by model
	taken   []int // samples, by model
	lanes   []bool
	most    int // lanes in use at once
	own     int64
	stopped bool
	rng     *rand.Rand
	samples []Sample
	failed  error
}

// open loads every model into an ordinary session.
func (u *unscheduled) open() error {
	folder, err := os.MkdirTemp("", "terastal-whole-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	for _, p := range u.programs {
		n := p.Network
		file := filepath.Join(folder, "model.onnx")
		if err := n.Model.WriteFile(file); err != nil {
			return err
		}
		s, err := ort.NewSessionFromFile(file, names(n.Model.Inputs()), names(n.Model.Outputs()), ort.Config{Threads: goruntime.NumCPU()})
		if err != nil {
			return fmt.Errorf("model %q: %w", n.Name, err)
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
	left := at - time.Since(u.start)
	if left <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// stopAt keeps completions from releasing more once releases are over or ctx
// has ended.
func (u *unscheduled) stopAt(ctx context.Context) {
	if u.opts.Traffic.Process == traffic.ClosedLoop {
		u.wait(ctx, u.opts.Traffic.Duration)
	}
	if ctx.Err() != nil {
		u.mu.Lock()
		u.stopped = true
		u.mu.Unlock()
	}
}

func (u *unscheduled) progress() {
	u.mu.Lock()
	s := u.stats
	s.Models = append([]ModelStats(nil), s.Models...)
	u.mu.Unlock()
	s.At = time.Since(u.start)
	u.opts.Progress(s)
}

// record keeps a record at the current time, which never goes back. The caller
// holds the mutex.
func (u *unscheduled) record(r eventlog.Record) time.Duration {
	u.now = max(u.now, time.Since(u.start))
	r.At = u.now
	u.records = append(u.records, r)
	return u.now
}

// release starts a request, or drops it where there is no room.
func (u *unscheduled) release(job int64, model int, at time.Duration) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.releaseLocked(job, model, at)
}

func (u *unscheduled) releaseLocked(job int64, model int, at time.Duration) {
	deadline := at + u.tables.System().Models[model].Deadline
	stats := &u.stats.Models[model]
	stats.Released++
	u.record(eventlog.Record{Kind: sched.Released, Job: job, Model: int32(model), Accelerator: sched.Idle, Start: at, Until: deadline})
	lane := 0
	for lane < len(u.lanes) && u.lanes[lane] {
		lane++
	}
	if lane == len(u.lanes) || u.active[model] >= u.opts.Queue {
		stats.Dropped++
		u.record(eventlog.Record{Kind: sched.Ended, Job: job, Model: int32(model), Accelerator: sched.Idle, Outcome: sched.Dropped,
			Start: at, Until: deadline, Detail: sched.DropReasonQueueFull})
		return
	}
	u.lanes[lane], u.most = true, max(u.most, lane+1)
	u.active[model]++
	stats.Active++
	u.record(eventlog.Record{Kind: sched.Dispatched, Job: job, Model: int32(model), Accelerator: int32(lane), Until: deadline})
	u.requests.Go(func() { u.request(job, model, lane, at, deadline) })
}

// request runs one.
func (u *unscheduled) request(job int64, model, lane int, at, deadline time.Duration) {
	in, out := u.inputs[model][job%int64(len(u.inputs[model]))], make([]ort.Value, len(u.programs[model].outputs))
	values := make([]ort.Value, len(in))
	for i, t := range in {
		values[i] = t.value
	}
	begin := time.Since(u.start)
	err := u.sessions[model].Run(values, out)
	u.mu.Lock()
	defer u.mu.Unlock()
	stats := &u.stats.Models[model]
	stats.Active--
	u.active[model]--
	u.lanes[lane] = false
	end := eventlog.Record{Kind: sched.Ended, Job: job, Model: int32(model), Accelerator: int32(lane), Outcome: sched.Failed, Start: at, Until: deadline}
	if err == nil {
		now := u.record(eventlog.Record{Kind: sched.Completed, Job: job, Model: int32(model), Accelerator: int32(lane), Start: begin})
		end.Accelerator, end.Layer, end.Outcome = sched.Idle, 1, sched.Met
		stats.Latency.Add(now - at)
		if now > deadline {
			end.Outcome = sched.Late
		}
		u.sample(job, model, out)
	} else {
		end.Detail = err.Error()
	}
	end.At = u.now
	u.records = append(u.records, end)
	switch end.Outcome {
	case sched.Met:
		stats.Met++
	case sched.Late:
		stats.Late++
	default:
		stats.Failed++
	}
	u.follow(model, err == nil)
}

// follow releases what the end of a request does.
func (u *unscheduled) follow(model int, completed bool) {
	t := &u.opts.Traffic
	if u.stopped || u.now >= t.Duration {
		return
	}
	sys := u.tables.System()
	if t.Process == traffic.ClosedLoop && sys.Models[model].Trigger == nil {
		u.releaseLocked(u.own, model, u.now)
		u.own++
	}
	for m := range sys.Models {
		if tr := sys.Models[m].Trigger; completed && tr != nil && tr.Parent == sys.Models[model].Name && u.rng.Float64() < tr.Probability {
			u.releaseLocked(u.own, m, u.now)
			u.own++
		}
	}
}

// sample keeps the outputs of a request every now and then, and frees them.
func (u *unscheduled) sample(job int64, model int, out []ort.Value) {
	every := max(1, int(u.opts.Traffic.Rates[model]*u.opts.Traffic.Duration.Seconds())/max(1, u.opts.Samples))
	done := u.stats.Models[model].Met + u.stats.Models[model].Late
	if keep := u.taken[model] < u.opts.Samples && done >= u.taken[model]*every; keep {
		u.taken[model]++
		s := Sample{Model: model, Job: job, Input: int(job % int64(len(u.inputs[model])))}
		for _, v := range out {
			b, err := ort.Bytes(v)
			if err != nil {
				u.failed = errors.Join(u.failed, err)
				continue
			}
			s.Outputs = append(s.Outputs, append([]byte(nil), b...))
		}
		u.samples = append(u.samples, s)
	}
	for _, v := range out {
		v.Destroy()
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
		var fastest time.Duration // nobody predicts: the layers' sum is for readers
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
	return &eventlog.Log{Records: u.records, Header: eventlog.Header{Driver: eventlog.Real, Policy: Unscheduled, Drop: sched.DropNone.String(), Queue: u.opts.Queue,
		Seed: t.Seed, ClosedLoop: t.Process == traffic.ClosedLoop, Until: t.Duration, System: sys, Rates: t.Rates, Duration: t.Duration}}
}

package runtime

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/eventlog"
	"github.com/terastal/terastal/sched/policy"
	"github.com/terastal/terastal/sched/traffic"
)

// ErrBusy is what an executor answers that already runs or serves.
var ErrBusy = errors.New("the executor is in use")

// driver steps one engine in real time, for a run of traffic or for requests as they are submitted. Its parts have a
// file each. From begin on, the lock guards all that changes in them; each step of the engine is made under it.
type driver struct {
	*Executor
	clock
	ending
	opts     Options
	engine   *sched.Engine
	header   eventlog.Header
	releases releases
	crew     crew
	slots    slots
	journal  journal
	seeker   seeker
	leads    bool // layers are announced before they end

	mu lock
}

// clock is the time of a run.
type clock struct {
	start time.Time
	now   time.Duration // of the last event
}

func (c *clock) since() time.Duration { return time.Since(c.start) }

// ending is how a run ends, and what has to be undone then.
type ending struct {
	over    bool
	done    chan struct{} // closed when over
	helpers sync.WaitGroup
	meter   *gcMeter
	undo    []func()
}

// newDriver prepares a run: nothing is started yet.
func (e *Executor) newDriver(o Options, arrivals []traffic.Arrival, open bool) (*driver, error) {
	if !e.busy.CompareAndSwap(false, true) {
		return nil, ErrBusy
	}
	d, err := e.prepareDriver(o, arrivals, open)
	if err != nil {
		e.busy.Store(false)
	}
	return d, err
}

func (e *Executor) prepareDriver(o Options, arrivals []traffic.Arrival, open bool) (*driver, error) {
	of := o.NewPolicy
	if of == nil {
		o.Policy = cmp.Or(o.Policy, DefaultPolicy)
		of = policy.Named(o.Policy)
	}
	o.Policy = cmp.Or(o.Policy, "unnamed")
	o.FreeCore = o.FreeCore || e.freeCore
	if o.Hang == nil {
		o.Hang = func(x sched.Dispatch) time.Duration { return max(time.Second, 10*e.tables.Cost(x)) }
	}
	d := &driver{Executor: e, opts: o, ending: ending{done: make(chan struct{})},
		journal:  journal{stats: e.newStats(), keeper: e.newKeeper()},
		releases: releases{arrivals: arrivals, waiter: sched.Idle, open: open, pending: map[int64]*Pending{}}}
	if err := d.slots.stock(e, cmp.Or(o.Queue, sched.DefaultQueue)); err != nil {
		return nil, err
	}
	tr := &o.Traffic
	closed := tr.Process == traffic.ClosedLoop
	var err error
	d.engine, err = sched.New(sched.Config{Tables: e.tables, Policy: of, Drop: o.Drop, Queue: o.Queue, Recorder: d,
		Seed: tr.Seed, Adapt: o.Adapt, ClosedLoop: closed, Until: tr.Duration})
	if err != nil {
		return nil, err
	}
	for k := range e.accs {
		d.leads = d.leads || e.tables.System().Lead(k) > 0
	}
	d.seeker.use(d.engine.Policy(), o.FreeCore, len(e.accs))
	d.header = eventlog.Header{Driver: eventlog.Real, Policy: o.Policy, Drop: o.Drop.String(), Queue: d.slots.queue,
		Seed: tr.Seed, Adapt: o.Adapt, ClosedLoop: closed, Until: tr.Duration, System: *e.tables.System(), Rates: tr.Rates,
		Duration: tr.Duration, SearchDetached: d.seeker.search != nil}
	if o.Log {
		d.journal.log = newRecording(e.expectedRecords(arrivals))
	}
	d.journal.samples.plan(arrivals, len(e.models), o.samples)
	for m := range e.models {
		if n := o.samples(m); n > o.Samples {
			d.journal.samples.provide(m, n, e.models[m].Program)
		}
	}
	return d, nil
}

// begin starts the workers and the helpers.
func (d *driver) begin() error {
	d.meter = newGCMeter()
	ready := make(chan error, len(d.accs))
	for k := range d.accs {
		w := d.hire(k)
		d.crew.all = append(d.crew.all, w)
		if w.lost {
			ready <- nil
		} else {
			w.thread.start(func() { w.work(ready) })
		}
	}
	var failed error
	for range d.accs {
		failed = errors.Join(failed, <-ready)
	}
	if d.opts.Quiet {
		d.undo = append(d.undo, quieten(d.crew.threads()), calm())
	}
	d.start = time.Now()
	d.mu.Lock()
	if failed == nil {
		for k, w := range d.crew.all {
			if w.lost { // since an earlier run
				d.step(sched.Event{Kind: sched.AcceleratorDown, Accelerator: k, Detail: "it hangs"}, sched.Idle)
			}
		}
		d.settle()
	} else {
		d.over = true
		close(d.done)
	}
	d.unlock()
	for _, w := range d.crew.all {
		close(w.begin)
	}
	d.helpers.Go(func() { d.restock() })
	if failed != nil {
		d.end()
		return failed
	}
	if d.journal.log != nil {
		d.helpers.Go(func() { d.journal.log.make(d.done) })
	}
	d.helpers.Go(d.watch)
	if d.seeker.search != nil {
		d.helpers.Go(d.seek)
	}
	if d.opts.FreeCore && len(d.releases.arrivals) > 0 {
		d.helpers.Go(d.release)
	}
	return nil
}

// hire makes the worker of an accelerator.
func (d *driver) hire(k int) *worker {
	a := d.accs[k]
	w := &worker{d: d, k: k, accelerator: a, memory: MemoryOf(a), thread: d.threads[k],
		spin: spins(d.accs, k, d.opts.FreeCore), ended: make(chan struct{}), begin: make(chan struct{}),
		queue: make([]submission, 0, 2),
		lost:  d.lost[k].Load()}
	w.stats.Accelerator = a.Name()
	w.endingAt.Store(int64(forever))
	if w.memory != nil {
		w.device, w.lead = w.memory.Device(), d.tables.System().Lead(k)
	}
	return w
}

// wait returns what the run gave once it is over, stopped when ctx ends.
func (d *driver) wait(ctx context.Context) *Result {
	unwatch := context.AfterFunc(ctx, d.stop)
	<-d.done
	unwatch()
	r := d.end()
	r.Interrupted = ctx.Err() != nil
	return r
}

// end waits for what begin started, hanging workers excepted, and gives the executor back.
func (d *driver) end() *Result {
	for _, w := range d.crew.all {
		d.mu.Lock()
		lost := w.lost
		d.unlock()
		if !lost {
			<-w.ended
		}
	}
	d.helpers.Wait()
	for i := len(d.undo) - 1; i >= 0; i-- {
		d.undo[i]()
	}
	r := d.result()
	d.busy.Store(false)
	return r
}

// unlock releases the lock and wakes the threads that were given something.
func (d *driver) unlock() {
	wakes, seeker := d.crew.wakes, d.seeker.wake
	d.crew.wakes, d.seeker.wake = 0, false
	d.mu.Unlock()
	if seeker {
		d.seeker.mail.wake()
	}
	for k := 0; wakes != 0; k++ {
		if wakes&1 != 0 {
			d.crew.all[k].mail.wake()
		}
		wakes >>= 1
	}
}

// stop ends the run early.
func (d *driver) stop() {
	d.mu.Lock()
	defer d.unlock()
	d.releases.end()
	if !d.over {
		d.step(sched.Event{Kind: sched.Stop, At: d.since()}, sched.Idle)
	}
	d.settle()
}

// step gives the engine an event, hands the dispatches to the workers, and returns the one for accelerator own. An
// event that another thread's has overtaken happens with it. The caller holds the lock.
func (d *driver) step(ev sched.Event, own int) (mine assignment, ok bool) {
	ev.At = max(ev.At, d.now)
	d.now = ev.At
	before := d.since()
	dispatches := d.engine.Step(ev)
	d.prepareSearch()
	d.journal.steps.Add(d.since() - before)
	for _, x := range dispatches {
		a := d.assign(x)
		w := d.crew.all[x.Accelerator]
		w.given[w.running] = given{dispatch: x, slot: a.slot, from: d.now}
		w.running++
		d.crew.running++
		if d.releases.waiter == x.Accelerator {
			d.releases.waiter = sched.Idle
		}
		if x.Accelerator == own {
			mine, ok = a, true
		} else {
			w.next = a
			d.crew.post(w, mailLayer)
		}
	}
	if len(dispatches) > 0 {
		d.appoint()
	}
	if d.leads {
		for _, w := range d.crew.all {
			if w.memory != nil {
				w.endingAt.Store(int64(d.engine.EndingAt(w.k)))
			}
		}
	}
	return mine, ok
}

// assign completes a dispatch with the request's tensors; without, when none are left.
func (d *driver) assign(x sched.Dispatch) assignment {
	a := assignment{Dispatch: x, slot: d.slots.of(x.Job)}
	a.last = d.models[x.Model].last(x.Layer)
	if a.last || a.slot == nil {
		a.pending = d.releases.pending[x.Job]
	}
	if a.slot == nil {
		if s := d.slots.take(x.Model); s != nil {
			d.slots.bind(s, &a)
		}
	}
	if a.last {
		a.sample = d.journal.samples.due(x.Model, x.Job)
	}
	return a
}

// settle ends the run when no job is left, and drops what no accelerator will ever serve.
func (d *driver) settle() {
	if d.over || d.releases.expected() || d.crew.running > 0 {
		return
	}
	if d.engine.Active() > 0 {
		if d.crew.resting() {
			return // it will be back in service
		}
		d.engine.Step(sched.Event{Kind: sched.Stop, At: d.now})
	}
	d.over = true
	d.seeker.tell(seekNoMore)
	for _, w := range d.crew.all {
		d.crew.post(w, mailLook)
	}
	close(d.done)
}

// finished reports whether the run is over. It takes no lock.
func (d *driver) finished() bool {
	select {
	case <-d.done:
		return true
	default:
		return false
	}
}

package runtime

import (
	"fmt"
	goruntime "runtime"
	"slices"
	"time"

	"github.com/terastal/terastal/sched"
)

// assignment is a layer for a worker to run.
type assignment struct {
	sched.Dispatch
	slot   *Slot // nil when the request's tensors are yet to be allocated
	sample bool  // keep the outputs
}

// worker is the thread of one accelerator. The driver's lock guards the fields
// below it.
type worker struct {
	k           int
	accelerator Accelerator
	spin        time.Duration // how long it looks for work before it sleeps
	thread      int
	begin       chan struct{} // closed when everybody is ready
	ended       chan struct{} // closed when the thread is done
	stats       WorkerStats   // the worker's own
	mail        word
	next        assignment    // the one that mailLayer announces
	last        time.Duration // end of the layer just before; 0 after a rest

	running  bool
	lost     bool           // its layer hangs
	dispatch sched.Dispatch // that it runs
	from     time.Duration  // since when
	errors   int            // layers that failed in a row
	back     time.Duration  // when it is back in service; 0 if it is in service
}

// What a worker's mail says.
const (
	mailNone   = 0 // nothing; the worker is awake
	mailLayer  = 1 // there is a layer in next
	mailLook   = 2 // something has changed: look under the lock
	mailAsleep = 3 // nothing, and the worker sleeps
)

// spinFor is how long an idle worker on a core of its own looks for work
// before it sleeps: about as long as waking it takes.
const spinFor = 50 * time.Microsecond

// wakeEarly is how long before an arrival a worker that waits for it stops
// sleeping.
const wakeEarly = 80 * time.Microsecond

// spins is how long the worker of an accelerator may spin: not at all where it
// would take its core from another.
func (d *driver) spins(k int) time.Duration {
	cores := d.accs[k].Cores()
	if d.opts.FreeCore {
		return spinFor
	}
	if len(cores) == 0 {
		return 0
	}
	for o, a := range d.accs {
		if o != k && slices.ContainsFunc(a.Cores(), func(c int) bool { return slices.Contains(cores, c) }) {
			return 0
		}
	}
	return spinFor
}

// lockThread ties the goroutine to its thread for good: the thread, which may
// be pinned, ends with it.
func lockThread() { goruntime.LockOSThread() }

// work runs the layers dispatched to one accelerator.
func (d *driver) work(w *worker, ready chan<- error) {
	defer close(w.ended)
	lockThread()
	w.thread = threadID()
	if err := Pin(w.accelerator.Cores()); err != nil {
		ready <- fmt.Errorf("accelerator %q: %w", w.accelerator.Name(), err)
		<-w.begin
		return
	}
	sharpen()
	if d.opts.Realtime > 0 {
		if err := realtime(d.opts.Realtime); err != nil {
			d.mu.Lock()
			d.note("accelerator %q runs without: %v", w.accelerator.Name(), err)
			d.unlock()
		}
	}
	ran, waited := threadTimes()
	ready <- nil
	<-w.begin
	for {
		a, ok := d.idle(w)
		if !ok {
			break
		}
		for ok {
			a, ok = d.execute(w, &a)
		}
	}
	ranAt, waitedAt := threadTimes()
	d.mu.Lock()
	w.stats.Ran, w.stats.Waited = ranAt-ran, waitedAt-waited
	d.unlock()
}

// execute runs one layer, reports its end, and returns the accelerator's next
// layer if the engine has one. What the layer left in the accelerator's own
// memory is brought home before another request's layer runs there: so nobody
// else has to use the accelerator, or waits for it, to go on with the request.
func (d *driver) execute(w *worker, a *assignment) (assignment, bool) {
	if a.slot == nil {
		if err := d.lateSlot(a); err != nil {
			// The same tensors were made when the executor was: only memory
			// can be missing.
			panic(fmt.Sprintf("runtime: %v", err))
		}
	}
	start := d.since()
	if w.last != 0 {
		w.stats.Gaps.Add(start - w.last)
	}
	err := compute(a)
	end := d.since()
	w.last = end
	if a.slot.handing > 0 {
		w.stats.Handoffs.Add(a.slot.handing)
	}
	if err == nil && a.sample {
		d.keep(a)
	}
	if err == nil && a.slot.pending != nil && a.Layer == len(d.programs[a.Model].Network.Layers)-1 {
		err = a.slot.pending.collect(a.slot)
	}
	if a.slot.at == nil {
		return d.report(w, a, start, end, err)
	}
	s := a.slot
	if err != nil { // the layer may run elsewhere
		d.homecoming(w, s, a.Layer)
		return d.report(w, a, start, end, err)
	}
	s.moving.Lock()
	next, ok := d.report(w, a, start, end, nil)
	if !ok || next.slot != s {
		d.homecoming(w, s, a.Layer+1)
	}
	s.moving.Unlock()
	return next, ok
}

// homecoming brings a request's tensors home. An error waits in the slot for
// who needs them.
func (d *driver) homecoming(w *worker, s *Slot, next int) {
	start := d.since()
	n, err := s.home(next)
	w.last = d.since()
	if n > 0 || err != nil {
		w.stats.Handoffs.Add(w.last - start)
	}
}

// report tells the engine how a layer ended.
func (d *driver) report(w *worker, a *assignment, start, end time.Duration, err error) (assignment, bool) {
	ev := sched.Event{Kind: sched.Complete, At: end, Start: start, Accelerator: w.k}
	d.mu.Lock()
	defer d.unlock()
	if w.lost {
		d.returned(w, a)
		return assignment{}, false
	}
	d.due(end, sched.Idle)
	d.running--
	w.running = false
	var next assignment
	var ok bool
	if err != nil {
		next, ok = d.failed(w, a, ev, err)
	} else {
		w.errors, a.slot.attempts = 0, 0
		next, ok = d.step(ev, w.k)
	}
	d.settle()
	return next, ok
}

// compute runs a layer; a panic of a kernel is an error of the layer.
func compute(a *assignment) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return a.slot.Run(a.Layer, a.Implementation, a.Accelerator)
}

// idle waits for the worker's next layer; false when there will be none. The
// first idle worker leads: it waits for the next arrival, releases it, and
// takes the layer itself where the policy gives it to its accelerator.
func (d *driver) idle(w *worker) (assignment, bool) {
	w.last = 0
	for {
		d.mu.Lock()
		if w.mail.v.Load() == mailLayer {
			d.unlock()
			return w.receive(), true
		}
		w.mail.v.Store(mailNone)
		if d.over || w.lost {
			d.unlock()
			return assignment{}, false
		}
		now := d.since()
		until := forever
		var a assignment
		ok := false
		switch {
		case w.back != 0 && now >= w.back:
			w.back = 0
			a, ok = d.step(sched.Event{Kind: sched.AcceleratorUp, At: now, Accelerator: w.k}, w.k)
			d.settle()
			until = 0
		case w.back != 0:
			until = w.back
		case d.next < len(d.arrivals) && (d.leader == sched.Idle || d.leader == w.k):
			d.leader = w.k
			if until = d.arrivals[d.next].At; until <= now {
				a, ok = d.due(now, w.k)
				d.settle()
			}
		}
		d.unlock()
		if ok {
			return a, true
		}
		if until > now && d.park(w, until) {
			return w.receive(), true
		}
	}
}

// receive takes the layer that the mail announces.
func (w *worker) receive() assignment {
	a := w.next
	w.mail.v.Store(mailNone)
	return a
}

// park waits for mail until an instant; true if it is a layer.
func (d *driver) park(w *worker, until time.Duration) bool {
	awake := d.since() + w.spin
	for {
		for range 16 {
			if m := w.mail.v.Load(); m != mailNone {
				return m == mailLayer
			}
		}
		now := d.since()
		if now >= until {
			return false
		}
		if now < awake || until-now < wakeEarly {
			continue
		}
		if w.mail.v.CompareAndSwap(mailNone, mailAsleep) {
			most := time.Duration(0)
			if until != forever {
				most = until - now - wakeEarly + 1
			}
			w.mail.wait(mailAsleep, most)
			w.mail.v.CompareAndSwap(mailAsleep, mailNone)
		}
	}
}

// post tells a worker something. The caller holds the lock.
func (d *driver) post(w *worker, what uint32) {
	for {
		was := w.mail.v.Load()
		if was == mailLayer { // which it will find first
			return
		}
		if w.mail.v.CompareAndSwap(was, what) {
			if was == mailAsleep {
				d.wakes |= 1 << w.k
			}
			return
		}
	}
}

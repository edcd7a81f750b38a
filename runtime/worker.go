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
	slot    *Slot    // nil when the request's tensors still have to be allocated
	pending *Pending // the request, at its first and last layer, if it was submitted
	sample  bool     // keep the outputs
}

// worker is the thread of one accelerator.
type worker struct {
	d           *driver
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

	// The driver's lock guards these.
	running   bool
	answering bool           // its layer is done, results are being copied out
	lost      bool           // its layer hangs
	dispatch  sched.Dispatch // that it runs
	from      time.Duration  // since when
	errors    int            // layers that failed in a row
	back      time.Duration  // when it is back in service; 0 if it is in service
}

// inService reports whether the accelerator takes layers.
func (w *worker) inService() bool { return !w.lost && w.back == 0 }

// crew are the workers of a run.
type crew struct {
	all     []*worker
	running int    // layers
	wakes   uint64 // workers to wake once the lock is released
}

// inService reports whether any accelerator takes layers.
func (c *crew) inService() bool { return slices.ContainsFunc(c.all, (*worker).inService) }

// resting reports whether an accelerator will be back in service.
func (c *crew) resting() bool {
	return slices.ContainsFunc(c.all, func(w *worker) bool { return w.back != 0 })
}

// threads are the workers' threads.
func (c *crew) threads() (ids []int) {
	for _, w := range c.all {
		ids = append(ids, w.thread)
	}
	return ids
}

// What a worker's mail says.
const (
	mailNone   = 0 // nothing; the worker is awake
	mailLayer  = 1 // there is a layer in next
	mailLook   = 2 // something has changed: look under the lock
	mailAsleep = 3 // nothing, and the worker sleeps
)

// spinFor is how long an idle worker that shares no core looks for work
// before it sleeps: about as long as waking it takes.
const spinFor = 50 * time.Microsecond

// wakeEarly is how long before an arrival a worker that waits for it stops sleeping.
const wakeEarly = 80 * time.Microsecond

// spins is how long the worker of an accelerator may spin: not at all where it would take its core from another.
func spins(accs []Accelerator, k int, freeCore bool) time.Duration {
	cores := accs[k].Cores()
	if freeCore {
		return spinFor
	}
	if len(cores) == 0 {
		return 0
	}
	for o, a := range accs {
		if o != k && slices.ContainsFunc(a.Cores(), func(c int) bool { return slices.Contains(cores, c) }) {
			return 0
		}
	}
	return spinFor
}

// Quieten keeps the other threads of this process from interrupting the calling one, to which its goroutine must be
// locked, where the system can: Go's own threads wake up thousands of times a second while it computes. The function
// returned undoes it.
func Quieten() (undo func()) { return quieten([]int{threadID()}) }

// lockThread ties the goroutine to its thread for ever: the thread, which may be pinned, ends with it.
func lockThread() { goruntime.LockOSThread() }

// work runs the layers dispatched to one accelerator.
func (w *worker) work(ready chan<- error) {
	defer close(w.ended)
	lockThread()
	d := w.d
	w.thread, w.stats.Accelerator = threadID(), w.accelerator.Name()
	if err := Pin(w.accelerator.Cores()); err != nil {
		ready <- fmt.Errorf("accelerator %q: %w", w.accelerator.Name(), err)
		<-w.begin
		return
	}
	sharpen()
	if d.opts.Realtime > 0 {
		if err := realtime(d.opts.Realtime); err != nil {
			d.mu.Lock()
			d.journal.note("accelerator %q runs without: %v", w.accelerator.Name(), err)
			d.unlock()
		}
	}
	ran, waited := threadTimes()
	ready <- nil
	<-w.begin
	for {
		a, ok := w.idle()
		if !ok {
			break
		}
		for ok {
			a, ok = w.execute(&a)
		}
	}
	ranAt, waitedAt := threadTimes()
	d.mu.Lock()
	w.stats.Ran, w.stats.Waited = ranAt-ran, waitedAt-waited
	d.unlock()
}

// execute runs one layer, reports its end, and returns the accelerator's next layer if the engine has one. What the
// layer left in the accelerator's own memory is copied home before another request's layer runs there: so no other
// thread has to use the accelerator, or waits for it, to continue with the request.
func (w *worker) execute(a *assignment) (assignment, bool) {
	d := w.d
	if a.slot == nil {
		if err := w.lateSlot(a); err != nil {
			// The same tensors were made when the executor was: only memory can be missing.
			panic(fmt.Sprintf("runtime: %v", err))
		}
	}
	s := a.slot
	start := d.since()
	if w.last != 0 {
		w.stats.Gaps.Add(start - w.last)
	}
	err := compute(a)
	end := d.since()
	w.last = end
	if s.handing > 0 {
		w.stats.Handoffs.Add(s.handing)
	}
	if err == nil && a.sample {
		w.keep(a)
	}
	if err == nil && a.pending != nil && d.models[a.Model].last(a.Layer) && w.answers() {
		err = a.pending.collect(s)
	}
	if s.by == nil {
		return w.report(a, start, end, err)
	}
	if err != nil { // the layer may run elsewhere
		w.copyHome(s, a.Layer)
		return w.report(a, start, end, err)
	}
	s.moving.Lock()
	next, ok := w.report(a, start, end, nil)
	if !ok || next.slot != s {
		w.copyHome(s, a.Layer+1)
	}
	s.moving.Unlock()
	return next, ok
}

// lateSlot makes a slot for a request that found none. Called without the lock: only this request waits.
func (w *worker) lateSlot(a *assignment) error {
	d := w.d
	s, err := d.models[a.Model].NewSlot()
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.unlock()
	d.models[a.Model].made.Add(1)
	d.slots.late++
	d.slots.bind(s, a)
	return nil
}

// answers says that the request's results are about to be copied out, unless its layer was given up meanwhile: the
// request has its response then, and its submitter the memory.
func (w *worker) answers() bool {
	w.d.mu.Lock()
	defer w.d.unlock()
	w.answering = !w.lost
	return w.answering
}

// keep copies the outputs of a request that is to be verified.
func (w *worker) keep(a *assignment) {
	d := w.d
	s := Sample{Model: a.Model, Job: a.Job, Input: d.models[a.Model].set(a.Job),
		Outputs: a.slot.copyOutputs(), Ran: slices.Clone(a.slot.ran)}
	d.mu.Lock()
	defer d.unlock()
	d.journal.samples.kept = append(d.journal.samples.kept, s)
}

// copyHome copies the tensors that layer next and later ones need to host
// memory. An error stays in the slot, for the layer that needs them.
func (w *worker) copyHome(s *Slot, next int) {
	start := w.d.since()
	n, err := s.copyHome(next)
	w.last = w.d.since()
	if n > 0 || err != nil {
		w.stats.Handoffs.Add(w.last - start)
	}
}

// report tells the engine how a layer ended.
func (w *worker) report(a *assignment, start, end time.Duration, err error) (assignment, bool) {
	d := w.d
	ev := sched.Event{Kind: sched.Complete, At: end, Start: start, Accelerator: w.k}
	d.mu.Lock()
	defer d.unlock()
	if w.lost {
		w.returned(a)
		return assignment{}, false
	}
	d.due(end, sched.Idle)
	d.crew.running--
	w.running, w.answering = false, false
	var next assignment
	var ok bool
	if err != nil {
		next, ok = w.failed(a, ev, err)
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

// idle waits for the worker's next layer; false when there will be none. One idle worker waits for the next arrival,
// releases it, and takes the layer itself where the policy gives it to its accelerator.
func (w *worker) idle() (assignment, bool) {
	d := w.d
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
		case d.releases.at() != forever && (d.releases.waiter == sched.Idle || d.releases.waiter == w.k):
			d.releases.waiter = w.k
			if until = d.releases.at(); until <= now {
				a, ok = d.due(now, w.k)
				d.settle()
			}
		}
		d.unlock()
		if ok {
			return a, true
		}
		if until > now && w.park(until) {
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
func (w *worker) park(until time.Duration) bool {
	awake := w.d.since() + w.spin
	for {
		for range 16 {
			if m := w.mail.v.Load(); m != mailNone {
				return m == mailLayer
			}
		}
		now := w.d.since()
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

// post tells a worker something. The caller holds the driver's lock.
func (c *crew) post(w *worker, what uint32) {
	for {
		was := w.mail.v.Load()
		if was == mailLayer { // which it will find first
			return
		}
		if w.mail.v.CompareAndSwap(was, what) {
			if was == mailAsleep {
				c.wakes |= 1 << w.k
			}
			return
		}
	}
}

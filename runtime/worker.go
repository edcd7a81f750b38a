package runtime

import (
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/terastal/terastal/sched"
)

// assignment is a layer for a worker to run.
type assignment struct {
	sched.Dispatch
	slot    *Slot    // nil when the request's tensors still have to be allocated
	pending *Pending // the request, at its first and last layer, if it was submitted
	last    bool     // the request ends with it
	sample  *Sample  // where to keep the outputs; nil if they are not kept
}

// cost is how long the layer is predicted to take.
func (a *assignment) cost() time.Duration { return a.Finish - a.Dispatch.Start }

// worker is what an accelerator's thread does in a run.
type worker struct {
	d           *driver
	k           int
	accelerator Accelerator
	memory      Memory        // nil where it computes in host memory
	device      string        // of the memory; "" for the host's
	spin        time.Duration // how long it looks for work before it sleeps
	thread      *thread
	begin       chan struct{} // closed when everybody is ready
	ended       chan struct{} // closed when the thread is done
	stats       WorkerStats   // the worker's own
	queue       []submission  // what it has submitted, the first one first
	taken       int           // layers that it has seen the end of
	lead        time.Duration // see sched.Device
	warmer      *Warmer       // nil where the device is not kept warm
	mail        word
	next        assignment    // the one that mailLayer announces
	last        time.Duration // end of the layer just before; 0 after a rest
	endingAt    atomic.Int64  // when its layer is to be announced, as of the last step
	times       threadTimes   // of its thread
	waited      time.Duration // as of the last look at them

	// The driver's lock guards these.
	given     [2]given      // dispatched to it and not ended, the first one first
	running   int           // how many that are
	completed int           // layers of it that have ended
	answering bool          // its layer is done, results are being copied out
	lost      bool          // its layer hangs
	stuck     []*Slot       // of layers that hang
	errors    int           // layers that failed in a row
	back      time.Duration // when it is back in service; 0 if it is in service
}

// given is a layer that a worker has.
type given struct {
	dispatch  sched.Dispatch
	slot      *Slot
	from      time.Duration // when it was dispatched, or the layer before it ended
	start     time.Duration // when it began, once it was announced
	announced bool          // its end: the worker may have the next layer
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
		ids = append(ids, w.thread.id)
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

// work runs the layers dispatched to one accelerator, on its thread.
func (w *worker) work(ready chan<- error) {
	defer close(w.ended)
	d := w.d
	if w.thread.err != nil {
		ready <- w.thread.err
		<-w.begin
		return
	}
	if d.opts.Realtime > 0 {
		defer priority()()
		if err := realtime(d.opts.Realtime); err != nil {
			d.mu.Lock()
			d.journal.note("accelerator %q runs without: %v", w.accelerator.Name(), err)
			d.unlock()
		}
	}
	if w.memory != nil && keepsWarm(w.accelerator) {
		var err error
		if w.warmer, err = NewWarmer(w.memory); err != nil {
			ready <- fmt.Errorf("accelerator %q: keeping it warm: %w", w.accelerator.Name(), err)
			<-w.begin
			return
		}
		defer w.cool()
	}
	w.times.open()
	defer w.times.close()
	ran, waited := w.times.read()
	ready <- nil
	<-w.begin
	for {
		a, ok := w.idle()
		if !ok {
			break
		}
		if w.memory != nil {
			w.drive(&a)
			continue
		}
		w.begins()
		for ok {
			a, ok = w.execute(&a)
		}
	}
	ranAt, waitedAt := w.times.read()
	d.mu.Lock()
	w.stats.Ran, w.stats.Waited = ranAt-ran, waitedAt-waited
	w.stats.Absent.end()
	w.stats.Straggled.end()
	d.unlock()
}

// cool stops keeping the device warm. Of a device that hangs nothing is freed: that would wait for the device, and the
// run for this thread.
func (w *worker) cool() {
	if !slices.ContainsFunc(w.d.models, func(m *loaded) bool { return m.hangs() }) {
		w.warmer.Close()
	}
}

// execute runs one layer in host memory, reports its end, and returns the accelerator's next layer if the engine has
// one.
func (w *worker) execute(a *assignment) (assignment, bool) {
	d := w.d
	start := d.since()
	if w.last != 0 {
		w.stats.Gaps.Add(start - w.last)
	}
	err := w.compute(a)
	end := d.since()
	w.last = end
	if a.slot != nil {
		start += a.slot.waited
	}
	if err == nil {
		w.account(a.cost(), end-start, a.slot.first, a.slot.replayed)
		w.absent(a.cost(), end-start, end, a.slot.first)
		err = w.answer(a)
	}
	next, ok, _ := w.report(a, start, end, err)
	return next, ok
}

// compute runs or submits a layer; it allocates the request's tensors where there were none left.
func (w *worker) compute(a *assignment) error {
	if a.slot == nil {
		if err := w.lateSlot(a); err != nil {
			return err
		}
	}
	err := compute(a)
	if a.slot.handing > 0 {
		w.stats.Handoffs.Add(a.slot.handing)
	}
	return err
}

// answer copies out what a request is to give, once its last layer is complete.
func (w *worker) answer(a *assignment) error {
	if a.sample != nil {
		w.keep(a)
	}
	if a.last && a.pending != nil && w.answers() {
		return a.pending.collect(a.slot)
	}
	return nil
}

// account counts a layer that ran, and time that was lost in it.
func (w *worker) account(cost, took time.Duration, first, replayed bool) {
	if replayed {
		w.stats.Captured++
	} else {
		w.stats.Plain++
	}
	if stalls(took, cost) {
		lost := &w.stats.Stalls
		if first {
			lost = &w.stats.FirstUse
		}
		lost.N++
		lost.Took += took - cost
	}
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
	for i := range w.running {
		if w.given[i].dispatch.Job == a.Job {
			w.given[i].slot = s
		}
	}
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
	s := a.sample
	s.Model, s.Job, s.Input = a.Model, a.Job, d.models[a.Model].set(a.Job)
	s.Outputs, s.Ran = a.slot.copyOutputs(s.Outputs), append(s.Ran[:0], a.slot.ran...)
	d.mu.Lock()
	defer d.unlock()
	d.journal.samples.kept = append(d.journal.samples.kept, *s)
}

// report tells the engine how the worker's first layer ended. stays says that the request was given to an accelerator
// of the same device at once.
func (w *worker) report(a *assignment, start, end time.Duration, err error) (next assignment, ok, stays bool) {
	d := w.d
	d.mu.Lock()
	defer d.unlock()
	w.answering = false
	if w.lost {
		w.returned(a)
		return assignment{}, false, false
	}
	w.taken++
	if w.completed >= w.taken {
		return assignment{}, false, true // another worker has reported it
	}
	d.due(end, sched.Idle)
	announced := w.given[0].announced
	if err != nil {
		next, ok = w.failed(a, sched.Event{At: end, Start: start}, err, announced)
	} else {
		w.errors = 0
		if !announced {
			a.slot.attempts = 0
		}
		next, ok = d.finish(w, sched.Event{Kind: sched.Complete, At: end, Start: start}, w.k)
	}
	stays = w.memory == nil || announced || d.stays(a.Job, w.k)
	d.settle()
	return next, ok, stays
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
			a := w.receive()
			if w.lost { // a layer before it hung
				w.returned(&a)
			}
			lost := w.lost
			d.unlock()
			return a, !lost
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
		if until <= now {
			continue
		}
		if w.park(w.warmer.sooner(until, now)) {
			return w.receive(), true
		}
		w.warmer.Touch()
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

package runtime

import (
	"time"

	"github.com/terastal/terastal/sched"
)

// submission is a layer that a worker has submitted to a device.
type submission struct {
	assignment
	start     time.Duration // when it was submitted, or the layer before it ended
	cell      *cell         // what runs
	mark      mark          // after it; zero where the memory has no events
	known     bool          // it has ended, or failed with err
	err       error
	announced bool
	first     bool // in this run
	replayed  bool // as captured
}

// drive runs layers on a device, from the first one until there is none. While one runs the next can be submitted
// behind it: shortly before its predicted end, as early as the device's lead says.
//
// What a layer left on the device is copied home when its request does not stay there: no other thread uses the stream,
// and who continues with the request waits for a mark in it.
func (w *worker) drive(first *assignment) {
	w.submit(first)
	for len(w.queue) > 0 {
		now := w.d.since()
		if ended, err := w.queue[0].ended(now); ended || err != nil {
			if next, ok := w.complete(err); ok {
				w.submit(&next)
			}
			continue
		}
		if now >= w.due() {
			if next, ok := w.announce(); ok {
				w.submit(&next)
				continue
			}
		}
		hangs := w.d.lost[w.k].Load()
		switch m := w.mail.v.Load(); {
		case hangs:
			sleep(time.Millisecond)
			if w.d.closing.Load() {
				return
			}
		case m == mailLayer:
			next := w.receive()
			w.submit(&next)
		case m == mailLook:
			w.mail.v.CompareAndSwap(mailLook, mailNone) // idle looks
		case w.spin == 0:
			w.rest(now)
		}
	}
}

// submit submits a layer behind what the worker has submitted.
func (w *worker) submit(a *assignment) {
	d := w.d
	x := submission{assignment: *a, start: d.since(), cell: d.models[a.Model].at(&a.Dispatch)}
	if w.last != 0 && len(w.queue) == 0 {
		w.stats.Gaps.Add(x.start - w.last)
	}
	x.err = w.compute(&x.assignment)
	x.known = x.err != nil
	if !x.known {
		x.start += x.slot.waited
		x.mark, x.first, x.replayed = x.slot.behind, x.slot.first, x.slot.replayed
		if x.mark.stream == nil { // without events: a request's last outputs are at home by now
			if w.lead == 0 {
				x.err = w.memory.Wait()
			}
			x.known = x.last || x.err != nil || w.lead == 0
			for i := range w.queue {
				w.queue[i].known = w.queue[i].known || x.known && x.err == nil
			}
		}
	}
	w.queue = append(w.queue, x)
}

// ended reports whether the layer has ended. Where only waiting would tell it has when that is predicted.
func (x *submission) ended(now time.Duration) (bool, error) {
	switch {
	case x.known:
		return true, x.err
	case x.mark.stream != nil:
		return x.mark.done()
	}
	return now >= x.start+x.cost(), nil
}

// until is when the layer is expected to end: as predicted, or earlier if it has taken less of late. Predictions count
// on other streams being busy.
func (x *submission) until() time.Duration {
	if x.mark.stream != nil && x.cell.took > 0 {
		return x.start + min(x.cost(), x.cell.took)
	}
	return x.start + x.cost()
}

// average takes in how long the implementation took.
func (c *cell) average(took time.Duration) {
	if c.took == 0 {
		c.took = took
	}
	c.took += (took - c.took) / 4
}

// due is when the first layer is to be announced: by the engine's prediction, or before by the worker's own. After each
// step the engine says whether it may be.
func (w *worker) due() time.Duration {
	at := time.Duration(w.endingAt.Load())
	if at >= sched.Never {
		return at
	}
	return min(at, w.queue[0].until()-w.lead)
}

// complete takes in the end of the first layer.
func (w *worker) complete(err error) (next assignment, ok bool) {
	x := w.queue[0]
	w.queue = w.queue[:copy(w.queue, w.queue[1:])]
	end := w.d.since()
	w.last = end
	if len(w.queue) > 0 {
		w.stats.Gaps.Add(0)
		w.queue[0].start = max(w.queue[0].start, end)
	}
	if err == nil {
		w.account(x.cost(), end-x.start, x.first, x.replayed)
		x.cell.average(end - x.start)
		err = w.answer(&x.assignment)
	}
	s := x.slot
	if s == nil || x.announced {
		next, ok, _ = w.report(&x.assignment, x.start, end, err)
		return next, ok
	}
	if err != nil { // the layer may run elsewhere
		w.copyHome(s, x.Layer)
	}
	if s.by == nil {
		next, ok, _ = w.report(&x.assignment, x.start, end, err)
		return next, ok
	}
	s.moving.Lock()
	defer s.moving.Unlock()
	next, ok, stays := w.report(&x.assignment, x.start, end, err)
	if !stays {
		w.copyHome(s, x.Layer+1)
	}
	return next, ok
}

// announce tells the engine that the first layer is about to end, unless that has changed meanwhile, and returns the
// accelerator's next layer if the engine has one. The request moves on, unless it was its last layer.
func (w *worker) announce() (next assignment, ok bool) {
	d, x := w.d, &w.queue[0]
	if !x.last {
		x.slot.moving.Lock()
		defer x.slot.moving.Unlock()
	}
	d.mu.Lock()
	now := d.since()
	d.due(now, sched.Idle)
	at := d.engine.EndingAt(w.k)
	if w.lost || w.completed != w.taken { // another worker has reported its end
		at = forever
	}
	w.endingAt.Store(int64(at))
	if w.due() > max(now, d.now) {
		d.unlock()
		return assignment{}, false
	}
	x.announced = true
	w.given[0].announced, w.given[0].start = true, x.start
	if !x.last {
		x.slot.attempts = 0
	}
	next, ok = d.step(sched.Event{Kind: sched.Ending, At: now, Accelerator: w.k, Until: max(now, x.until())}, w.k)
	stays := d.stays(x.Job, w.k)
	d.unlock()
	if !x.last && !stays {
		w.copyHome(x.slot, x.Layer+1)
		x.known = x.mark.stream == nil // the copies were waited for
	}
	return next, ok
}

// rest sleeps, on a core that others need, until shortly before something is predicted to happen, or there is mail.
func (w *worker) rest(now time.Duration) {
	x := &w.queue[0]
	left := min(x.until(), w.due()) - now - wakeEarly
	w.doze(max(left, eventSleep))
}

// doze sleeps for at most so long, or until there is mail.
func (w *worker) doze(most time.Duration) {
	if w.mail.v.CompareAndSwap(mailNone, mailAsleep) {
		w.mail.wait(mailAsleep, most)
		w.mail.v.CompareAndSwap(mailAsleep, mailNone)
	}
}

// copyHome submits the copies to host memory of the tensors that layer next and later ones need. An error stays in the
// slot, for the layer that needs them.
func (w *worker) copyHome(s *Slot, next int) {
	start := w.d.since()
	if n, err := s.copyHome(next, s.program.streams[w.k]); n > 0 || err != nil {
		w.last = w.d.since()
		w.stats.Handoffs.Add(w.last - start)
	}
}

// stays reports whether a request's next layer was given to an accelerator on the same device as accelerator k, or can
// be given to no other. The caller holds the lock.
func (d *driver) stays(job int64, k int) bool {
	device, others := d.crew.all[k].device, false
	for _, w := range d.crew.all {
		if w.device != device {
			others = true
			continue
		}
		for i := range w.running {
			if w.given[i].dispatch.Job == job && !w.given[i].announced {
				return true
			}
		}
	}
	return !others
}

// finishBefore completes the layer before x of the same request, if its worker has yet to notice that it has ended.
func (d *driver) finishBefore(x *sched.Dispatch, w *worker, at time.Duration) {
	for _, o := range d.crew.all {
		g := &o.given[0]
		if o != w && o.running > 0 && g.announced && g.dispatch.Job == x.Job && g.dispatch.Layer < x.Layer {
			d.finish(o, sched.Event{Kind: sched.Complete, At: at, Start: g.start}, sched.Idle)
		}
	}
}

// finish takes the first layer off a worker and gives the engine the event of its end.
func (d *driver) finish(w *worker, ev sched.Event, own int) (assignment, bool) {
	if d.leads {
		d.finishBefore(&w.given[0].dispatch, w, ev.At)
	}
	w.running--
	w.completed++
	d.crew.running--
	if w.running > 0 {
		w.given[0] = w.given[1]
		w.given[0].from = max(w.given[0].from, ev.At)
	}
	ev.Accelerator = w.k
	return d.step(ev, own)
}

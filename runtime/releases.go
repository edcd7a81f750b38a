package runtime

import (
	"math"
	"time"

	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/traffic"
)

// forever is later than any instant.
const forever = time.Duration(math.MaxInt64)

// releases are the requests to come: those of the traffic, and those that will be submitted.
type releases struct {
	arrivals []traffic.Arrival
	next     int                // the first arrival that has not been released
	waiter   int                // the idle worker that waits for it, or sched.Idle
	open     bool               // requests may be submitted
	jobs     int64              // submitted so far
	pending  map[int64]*Pending // submitted and not ended, by job
}

// at is when the next arrival is due; forever without one.
func (r *releases) at() time.Duration {
	if r.next >= len(r.arrivals) {
		return forever
	}
	return r.arrivals[r.next].At
}

// expected reports whether there may be more.
func (r *releases) expected() bool { return r.open || r.next < len(r.arrivals) }

// end lets no more come.
func (r *releases) end() { r.next, r.open = len(r.arrivals), false }

// due releases every arrival up to now, and returns the layer that accelerator own is given. Workers call it before
// they report a completion, idle ones when it is time: no other thread is needed for a release to be acted on.
func (d *driver) due(now time.Duration, own int) (mine assignment, ok bool) {
	r := &d.releases
	for ; r.at() <= now; r.next++ {
		a := r.arrivals[r.next]
		x, is := d.step(sched.Event{Kind: sched.Release, At: now, Start: a.At, Job: int64(r.next), Model: a.Model}, own)
		if is {
			mine, ok = x, true
		}
	}
	return mine, ok
}

// appoint makes an idle worker wait for the next arrival when none does.
func (d *driver) appoint() {
	if d.releases.waiter != sched.Idle || d.releases.at() == forever {
		return
	}
	for _, w := range d.crew.all {
		if w.running == 0 && w.inService() {
			d.releases.waiter = w.k
			d.crew.post(w, mailLook)
			return
		}
	}
}

// submit hands a request to the engine.
func (d *driver) submit(model int, p *Pending) error {
	d.mu.Lock()
	defer d.unlock()
	r := &d.releases
	if !r.open {
		return ErrStopped
	}
	job := r.jobs
	r.jobs++
	r.pending[job] = p
	now := max(d.since(), d.now)
	ev := sched.Event{Kind: sched.Release, At: now, Start: now, Job: job, Model: model}
	if p.deadline > 0 {
		ev.Deadline = now + p.deadline
	}
	d.step(ev, sched.Idle)
	return nil
}

// release is the thread that notices arrivals on a free core.
func (d *driver) release() {
	lockThread()
	sharpen()
	for {
		d.mu.Lock()
		d.due(d.since(), sched.Idle)
		d.settle()
		over, at := d.over, d.releases.at()
		d.unlock()
		if over || at == forever {
			return
		}
		for left := at - d.since(); left > 0; left = at - d.since() {
			if left > releaseSpin {
				sleep(min(left-releaseSpin, watchEvery))
				if d.finished() {
					return
				}
			}
		}
	}
}

// releaseSpin is how long before an arrival the release thread stops sleeping: sleeps end late by up to some 50 us.
const releaseSpin = 100 * time.Microsecond

package runtime

import "github.com/terastal/terastal/sched"

// What the searching thread's mail says.
const (
	seekNothing = 0
	seekNow     = 1
	seekNoMore  = 2
)

// beside prepares the policy's next search, if it wants one and none runs. The
// caller holds the lock; the thread is woken when it is released.
func (d *driver) beside() {
	if d.search == nil || d.searching || d.over || !d.searcher.Prepare(d.engine.State()) {
		return
	}
	d.searching, d.searchFrom = true, d.now
	d.tellSeeker(seekNow)
}

// tellSeeker leaves mail for the searching thread. The caller holds the lock.
func (d *driver) tellSeeker(what uint32) {
	d.seeker.v.Store(what)
	d.wakeSeeker = true
}

// seek is the thread that searches: on a spare core if there is one, else
// wherever the kernel finds room. Dispatching does not wait for it.
func (d *driver) seek() {
	lockThread()
	for {
		switch d.seeker.v.Load() {
		case seekNothing:
			d.seeker.wait(seekNothing, 0)
			continue
		case seekNoMore:
			return
		}
		began := d.since()
		found := d.search()
		took := d.since() - began
		d.mu.Lock()
		d.searching = false
		d.searches.Add(took)
		if d.over {
			d.unlock()
			return
		}
		d.seeker.v.Store(seekNothing)
		d.step(sched.Event{Kind: sched.Searched, At: d.since(), Start: d.searchFrom, Found: found}, sched.Idle)
		d.settle()
		d.unlock()
	}
}

package runtime

import (
	"time"

	"github.com/terastal/terastal/sched"
)

// seeker is the thread that searches for a better schedule next to the engine, if the policy does that.
type seeker struct {
	policy  sched.Searcher
	search  func() int // nil for policies that do not
	running bool
	from    time.Duration // when the state was taken that it starts from
	mail    word
	wake    bool // once the lock is released
	took    Histogram
}

// What the seeker's mail says.
const (
	seekNothing = 0
	seekNow     = 1
	seekNoMore  = 2
)

// use takes searches out of the policy's decisions, if it searches at all.
func (s *seeker) use(p sched.Policy, freeCore bool, accelerators int) {
	var is bool
	if s.policy, is = p.(sched.Searcher); !is {
		return
	}
	share := 0.0
	if !freeCore { // searches run on the accelerators' cores
		share = 1 / float64(accelerators)
	}
	s.search = s.policy.Detach(share)
}

// tell leaves mail for the thread. The caller holds the lock.
func (s *seeker) tell(what uint32) {
	s.mail.v.Store(what)
	s.wake = true
}

// prepareSearch prepares the policy's next search, if it wants one and none
// runs. The caller holds the lock; the thread is woken when it is released.
func (d *driver) prepareSearch() {
	s := &d.seeker
	if s.search == nil || s.running || d.over || !s.policy.Prepare(d.engine.State()) {
		return
	}
	s.running, s.from = true, d.now
	s.tell(seekNow)
}

// seek is the thread: on a spare core if there is one, else wherever the kernel
// finds room. Dispatching does not wait for it.
func (d *driver) seek() {
	lockThread()
	s := &d.seeker
	for {
		switch s.mail.v.Load() {
		case seekNothing:
			s.mail.wait(seekNothing, 0)
			continue
		case seekNoMore:
			return
		}
		began := d.since()
		found := s.search()
		took := d.since() - began
		d.mu.Lock()
		s.running = false
		s.took.Add(took)
		if d.over {
			d.unlock()
			return
		}
		s.mail.v.Store(seekNothing)
		d.step(sched.Event{Kind: sched.Searched, At: d.since(), Start: s.from, Found: found}, sched.Idle)
		d.settle()
		d.unlock()
	}
}

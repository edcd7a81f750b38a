//go:build invariants || race

package sched

// invariants checks, after every step, that the engine's state is one that it may be in and that it follows from the
// state before. It is there in builds with the tag "invariants" and under the race detector only.
type invariants struct {
	before State
}

// check panics at the first broken invariant.
func (v *invariants) check(e *Engine) {
	s := &e.state
	if s.Now < v.before.Now {
		broken("invariant: time went back from %v to %v", v.before.Now, s.Now)
	}
	for _, d := range e.dispatches {
		if a := &s.Accelerators[d.Accelerator]; a.Down || a.Job != d.Job || a.Free != d.Finish || a.Started != d.Start || d.Start < s.Now {
			broken("invariant: dispatch %+v left accelerator %+v", d, *a)
		}
	}
	var active [MaxModels]int32
	for i := range s.Jobs {
		e.checkJob(&s.Jobs[i])
		active[s.Jobs[i].Model]++
	}
	for m, n := range e.active {
		if n != active[m] || int(n) > e.cfg.Queue {
			broken("invariant: %d jobs of model %d counted, %d there, at most %d allowed", n, m, active[m], e.cfg.Queue)
		}
	}
	for k, a := range s.Accelerators {
		if i := s.find(a.Job); a.Job != Idle && (i < 0 || int(s.Jobs[i].On) != k) {
			broken("invariant: accelerator %d runs job %d, which is not on it", k, a.Job)
		}
	}
	for k, t := range s.Tails {
		if i := s.find(t.Job); t.Job != Idle && (i < 0 || t.Last && (int(s.Jobs[i].On) != k || s.Jobs[i].Layer != t.Layer) ||
			!t.Last && (int(s.Jobs[i].At) != k || s.Jobs[i].Layer != t.Layer+1)) {
			broken("invariant: accelerator %d ends %+v, which is no layer of its job", k, t)
		}
	}
	v.checkOrder(s, e.event == Requeue)
	v.before.CopyFrom(s)
}

// checkJob checks a job against its model and its accelerator.
func (e *Engine) checkJob(j *Job) {
	m := &e.t.models[j.Model]
	if j.Layer < 0 || int(j.Layer) >= m.layers {
		broken("invariant: job %d is at layer %d of %d", j.ID, j.Layer, m.layers)
	}
	if !m.Allowed(0, j.Used) {
		broken("invariant: job %d has used variants %#x, which is not a valid set", j.ID, j.Used)
	}
	if j.On == Idle {
		return
	}
	a := &e.state.Accelerators[j.On]
	i := a.Implementation
	if t := e.tail(int(j.On)); t != nil && t.Last && t.Job == j.ID {
		i = t.Implementation
	} else if a.Job != j.ID {
		broken("invariant: job %d is on accelerator %d, which runs %d", j.ID, j.On, a.Job)
	}
	if i < 0 || i >= m.Implementations(j.Layer) {
		broken("invariant: accelerator %d runs implementation %d, which layer %d of job %d has not", j.On, i, j.Layer, j.ID)
	}
	if v := m.Variant(j.Layer, i); j.Used&v != v || m.Latency(j.Layer, i)[j.On] >= Never {
		broken("invariant: job %d (variants %#x) runs implementation %d on accelerator %d", j.ID, j.Used, i, j.On)
	}
}

// checkOrder checks that jobs stay in order of arrival, new ones at the end, and
// that each has run its layers one after the other.
func (v *invariants) checkOrder(s *State, requeued bool) {
	at := 0
	for i := range v.before.Jobs {
		was := &v.before.Jobs[i]
		if at == len(s.Jobs) || s.Jobs[at].ID != was.ID {
			if s.find(was.ID) >= 0 {
				broken("invariant: job %d is no longer in order of arrival", was.ID)
			}
			continue
		}
		is := &s.Jobs[at]
		at++
		switch ran := was.On != Idle; {
		case is.Model != was.Model || is.Release != was.Release || is.Deadline != was.Deadline ||
			is.Used&was.Used != was.Used:
			broken("invariant: job %+v became %+v", *was, *is)
		// Without a completion a job leaves its accelerator only by Requeue.
		case is.Layer == was.Layer && (is.At != was.At || ran && is.On != was.On && !requeued):
			broken("invariant: job %+v became %+v without a completion", *was, *is)
		case is.Layer != was.Layer && (is.Layer != was.Layer+1 || !ran || is.At != was.On):
			broken("invariant: job %+v became %+v, out of order", *was, *is)
		}
	}
	for ; at < len(s.Jobs); at++ {
		if j := &s.Jobs[at]; j.Layer != 0 || j.At != Idle || j.Ready != s.Now {
			broken("invariant: job %+v is new", *j)
		}
	}
}

package sched

import (
	"cmp"
	"slices"
	"time"
)

// Tail is a layer that an accelerator is about to end, while it may take the next one.
type Tail struct {
	Occupancy               // of the layer; Job is Idle where there is no such layer
	Until     time.Duration // when it is predicted to end, as of the event that announced it
	Ended     time.Duration // when the accelerator last ended a layer
	Model     int32
	Layer     int32
	From      int32 // the accelerator that ran the job's layer before, or Idle
	Last      bool  // the job ends with it, and is on the accelerator until then; else it has moved on
}

// tail returns what accelerator k is about to end, or nil.
func (e *Engine) tail(k int) *Tail {
	if k >= len(e.state.Tails) || e.state.Tails[k].Job == Idle {
		return nil
	}
	return &e.state.Tails[k]
}

// trails reports whether the layer before the job's current one has yet to end.
func (s *State) trails(j *Job) bool {
	return len(s.Tails) > 0 && j.At >= 0 && s.Tails[j.At].Job == j.ID && !s.Tails[j.At].Last
}

// likely is when what accelerator k runs ends if as many others of its device are busy as now.
func (e *Engine) likely(k int) time.Duration {
	a, slow := &e.state.Accelerators[k], 1.0
	for _, d := range e.t.system.Devices {
		if n := len(d.Contention); n > 0 && slices.Contains(d.Accelerators, k) {
			others := -1
			for _, o := range d.Accelerators {
				if e.state.Accelerators[o].Job != Idle || e.state.Tails[o].Job != Idle {
					others++
				}
			}
			slow = (1 + d.Contention[min(others, n-1)]) / (1 + d.Contention[n-1])
		}
	}
	return a.Started + time.Duration(slow*float64(a.Free-a.Started))
}

// EndingAt is when the driver is to send the Ending of what accelerator k runs: its device's lead before the end that is
// predicted now, but not before it has begun. [Never] says not at all, or not before another event.
func (e *Engine) EndingAt(k int) time.Duration {
	a := &e.state.Accelerators[k]
	lead := e.t.system.Lead(k)
	if lead == 0 || a.Job == Idle || a.Down || e.tail(k) != nil || e.state.trails(&e.state.Jobs[e.state.find(a.Job)]) {
		return Never
	}
	return max(e.state.Now, e.likely(k)-lead)
}

// current describes the layer that accelerator k was given last, until the next step, and returns its job's index.
func (e *Engine) current(k int) (int, *Tail) {
	a := &e.state.Accelerators[k]
	i := e.state.find(a.Job)
	if i < 0 {
		broken("accelerator %d ended a layer but runs none", k)
	}
	j := &e.state.Jobs[i]
	if e.state.trails(j) {
		broken("accelerator %d ends layer %d of job %d, whose layer before has not ended", k, j.Layer, j.ID)
	}
	t := &e.done // field by field, which is quicker than a whole one
	t.Occupancy, t.Model, t.Layer, t.From, t.Last = *a, j.Model, j.Layer, j.At, true
	return i, t
}

// ending lets the accelerator take one more layer, and the job move on to its next.
func (e *Engine) ending(ev *Event) {
	k := ev.Accelerator
	i, t := e.current(k)
	if len(e.state.Tails) == 0 || e.tail(k) != nil {
		broken("accelerator %d is of no device, or ends two layers", k)
	}
	t.Until, t.Ended = max(ev.At, cmp.Or(ev.Until, e.likely(k))), e.state.Tails[k].Ended
	e.record(Record{Kind: Announced, Model: t.Model, Job: t.Job, Layer: t.Layer, Implementation: t.Implementation,
		Accelerator: int32(k), Until: t.Until})
	_, doomed := e.doomed[t.Job]
	t.Last = doomed || int(t.Layer)+1 == e.t.models[t.Model].layers
	e.state.Tails[k] = *t
	e.state.Accelerators[k] = Occupancy{Job: Idle, Down: t.Down, Free: t.Until}
	if !t.Last {
		j := &e.state.Jobs[i]
		j.On, j.At, j.Ready = Idle, int32(k), t.Until
		j.Layer++
	}
}

// finish takes the layer off accelerator k that ends there first, and returns it and its job's index.
func (e *Engine) finish(k int) (i int, t *Tail) {
	tail := e.tail(k)
	if tail == nil {
		i, t = e.current(k)
		e.vacate(k)
		return i, t
	}
	e.done = *tail
	t, tail.Job, tail.Ended = &e.done, Idle, e.state.Now
	e.settle(k, t.Until)
	i = e.state.find(t.Job)
	if j := &e.state.Jobs[i]; !t.Last {
		if j.Ready = e.state.Now; !j.Waiting() {
			e.settle(int(j.On), t.Until)
		}
	}
	return i, t
}

// settle says once more when the layer starts that accelerator k has taken, since something ended that it waits for, and
// that was predicted to end at an instant.
func (e *Engine) settle(k int, predicted time.Duration) {
	a, start := &e.state.Accelerators[k], e.state.Now
	if t := e.tail(k); t != nil {
		start = max(start, t.Until)
	}
	if a.Job == Idle {
		a.Free = start
		return
	}
	if j := &e.state.Jobs[e.state.find(a.Job)]; e.state.trails(j) {
		start = max(start, e.state.Tails[j.At].Until)
	}
	if a.Started > predicted { // for another layer, or the device to wake up
		start = max(start, a.Started)
	}
	a.Started, a.Free = start, start+a.Free-a.Started
}

// failBehind fails a job that has moved on from the layer that failed: at once, or when what it runs has ended.
func (e *Engine) failBehind(i int, t *Tail, ev *Event) {
	if j := &e.state.Jobs[i]; j.Waiting() {
		j.Layer, j.On = t.Layer, int32(ev.Accelerator)
		e.end(i, Failed, ev.Detail)
		return
	}
	e.record(Record{Kind: Doomed, Model: t.Model, Job: t.Job, Layer: t.Layer, Implementation: t.Implementation,
		Accelerator: int32(ev.Accelerator), Detail: ev.Detail})
	e.doomed[t.Job] = ev.Detail
}

// wake says when the idle accelerators of devices that rest could start a layer as long as the tables say.
func (e *Engine) wake() {
	s := &e.state
	for i := range e.t.system.Devices {
		d := &e.t.system.Devices[i]
		if len(d.Waking) == 0 {
			continue
		}
		awake, since := Never, time.Duration(0)
		for _, k := range d.Accelerators {
			if since = max(since, s.Tails[k].Ended); s.Tails[k].Job != Idle {
				awake = 0
			} else if a := &s.Accelerators[k]; a.Job != Idle {
				awake = min(awake, a.Started) // in the future if it rested before
			}
		}
		if awake == Never {
			awake = s.Now + d.Extra(s.Now-since)
		}
		for _, k := range d.Accelerators {
			if a := &s.Accelerators[k]; a.Job == Idle && s.Tails[k].Job == Idle {
				a.Free = awake
			}
		}
	}
}

// fall fails the job at index i, whose layer has ended, if one before has failed, and reports whether.
func (e *Engine) fall(i int) bool {
	detail, doomed := e.doomed[e.state.Jobs[i].ID]
	if doomed {
		e.state.Jobs[i].On = Idle
		e.end(i, Failed, detail)
	}
	return doomed
}

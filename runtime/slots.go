package runtime

import "fmt"

// slotMemory is up to how many bytes of tensors are set aside per model before
// a run, beyond what the accelerators need at least.
const slotMemory = 32 << 20

// slots are the tensors of the requests that have started. Those that no
// request uses are the executor's, which keeps them from run to run.
type slots struct {
	queue  int // most requests of a model in the system
	bound  []*Slot
	wanted chan int // models that need another slot
	late   int      // requests that found none
}

// stock sets slots aside until a model has n, their memory touched so that no
// request pays for that. The caller has the executor for itself.
func (e *Executor) stock(model, n int) error {
	for e.made[model].Load() < int64(n) {
		s, err := e.programs[model].NewSlot()
		if err != nil {
			return err
		}
		if err := s.prefault(); err != nil {
			s.Close()
			return err
		}
		e.made[model].Add(1)
		e.free[model] = append(e.free[model], s)
	}
	return nil
}

// stock sets aside what a run with the given bound on requests in the system
// will need in all likelihood: two requests more than can run at once, and as
// many as fit in slotMemory.
func (s *slots) stock(e *Executor, queue int) error {
	s.queue = queue
	s.wanted = make(chan int, len(e.programs))
	s.bound = make([]*Slot, 0, queue*len(e.programs))
	for m, p := range e.programs {
		n := max(len(e.accs)+2, int(slotMemory/max(1, p.size)))
		if err := e.stock(m, min(n, queue)); err != nil {
			return fmt.Errorf("executor: %w", err)
		}
		// The list of free slots does not grow either.
		if cap(e.free[m]) < queue {
			e.free[m] = append(make([]*Slot, 0, queue), e.free[m]...)
		}
	}
	return nil
}

// restock makes slots for models that run out of them, until the run is over.
func (d *driver) restock() {
	for {
		select {
		case <-d.done:
			return
		case m := <-d.slots.wanted:
			s, err := d.programs[m].NewSlot()
			if err != nil {
				continue // only memory can be missing: lateSlot will say so
			}
			s.touch()
			d.mu.Lock()
			d.made[m].Add(1)
			d.free[m] = append(d.free[m], s)
			d.unlock()
		}
	}
}

// take returns a slot for a request of the model, or nil if none is free; the
// last one has the next made in the background.
func (d *driver) take(model int) *Slot {
	free := d.free[model]
	if len(free) == 0 {
		return nil
	}
	s := free[len(free)-1]
	d.free[model] = free[:len(free)-1]
	if len(free) == 1 && d.made[model].Load() < int64(d.slots.queue) {
		select {
		case d.slots.wanted <- model:
		default: // it is about to
		}
	}
	return s
}

// lateSlot makes a slot for a request that found none. Called without the lock:
// only this request waits.
func (d *driver) lateSlot(a *assignment) error {
	s, err := d.programs[a.Model].NewSlot()
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.unlock()
	d.made[a.Model].Add(1)
	d.slots.late++
	d.bind(s, a)
	return nil
}

// bind gives a starting request its tensors.
func (d *driver) bind(s *Slot, a *assignment) {
	a.slot = s
	s.job, s.attempts, s.pending = a.Job, 0, d.releases.pending[a.Job]
	in := d.inputs[a.Model][a.Job%int64(len(d.inputs[a.Model]))]
	if s.pending != nil && s.pending.inputs != nil {
		in = s.pending.inputs
	}
	s.SetInputs(in)
	d.slots.bound = append(d.slots.bound, s)
}

// of is the slot of a request that has started, or nil.
func (s *slots) of(job int64) *Slot {
	for _, x := range s.bound {
		if x.job == job {
			return x
		}
	}
	return nil
}

// unbind takes a request's slot back; nil if it has none.
func (s *slots) unbind(job int64) *Slot {
	for i, x := range s.bound {
		if x.job == job {
			last := len(s.bound) - 1
			s.bound[i] = s.bound[last]
			s.bound[last] = nil
			s.bound = s.bound[:last]
			x.pending = nil
			return x
		}
	}
	return nil
}

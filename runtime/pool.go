package runtime

import "fmt"

// slotMemory is up to how many bytes of tensors are set aside per model before
// a run, beyond what the accelerators need at least.
const slotMemory = 32 << 20

// stock sets slots aside until a model has n, their memory touched so that no
// request pays for that. The caller has the executor for itself.
func (e *Executor) stock(model, n int) error {
	for e.made[model].Load() < int64(n) {
		s, err := e.programs[model].NewSlot()
		if err != nil {
			return err
		}
		s.touch()
		if err := s.touchAbroad(); err != nil {
			s.Close()
			return err
		}
		e.made[model].Add(1)
		e.free[model] = append(e.free[model], s)
	}
	return nil
}

// stockAll sets aside what a run with the given bound on requests in the
// system will need in all likelihood: two requests more than can run at once,
// and as many as fit in slotMemory.
func (e *Executor) stockAll(queue int) error {
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

// restock makes slots in the background for models that have run out of them.
func (d *driver) restock() {
	defer close(d.restocked)
	for m := range d.wanted {
		s, err := d.programs[m].NewSlot()
		if err != nil {
			continue // only memory can be missing: who needs it will say so
		}
		s.touch()
		d.mu.Lock()
		d.made[m].Add(1)
		d.free[m] = append(d.free[m], s)
		d.unlock()
	}
}

// take returns a slot for a request of the model, or nil where there is none;
// the last one has the next made in the background.
func (d *driver) take(model int) *Slot {
	free := d.free[model]
	if len(free) == 0 {
		return nil
	}
	s := free[len(free)-1]
	d.free[model] = free[:len(free)-1]
	if len(free) == 1 && d.made[model].Load() < int64(d.queue) {
		select {
		case d.wanted <- model:
		default: // it is about to
		}
	}
	return s
}

// lateSlot makes a slot for a request that found none. Called without the lock:
// nobody else waits.
func (d *driver) lateSlot(a *assignment) error {
	s, err := d.programs[a.Model].NewSlot()
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.unlock()
	d.made[a.Model].Add(1)
	d.lateSlots++
	d.board(s, a)
	return nil
}

// board gives a starting request its tensors.
func (d *driver) board(s *Slot, a *assignment) {
	a.slot = s
	s.job, s.attempts, s.pending = a.Job, 0, d.pending[a.Job]
	in := d.inputs[a.Model][a.Job%int64(len(d.inputs[a.Model]))]
	if s.pending != nil && s.pending.inputs != nil {
		in = s.pending.inputs
	}
	s.SetInputs(in)
	d.flights = append(d.flights, s)
}

// flight is the slot of a request that has started, or nil.
func (d *driver) flight(job int64) *Slot {
	for _, s := range d.flights {
		if s.job == job {
			return s
		}
	}
	return nil
}

// land takes a request's slot back; nil if it has none.
func (d *driver) land(job int64) *Slot {
	for i, s := range d.flights {
		if s.job == job {
			last := len(d.flights) - 1
			d.flights[i] = d.flights[last]
			d.flights[last] = nil
			d.flights = d.flights[:last]
			s.pending = nil
			return s
		}
	}
	return nil
}

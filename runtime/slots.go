package runtime

import (
	"errors"
	"fmt"
	"slices"
)

// slotMemory is up to how many bytes of tensors are set aside per model before
// a run, beyond what the accelerators need at least.
const slotMemory = 32 << 20

// slots are the tensors of the requests that have started. Those that no
// request uses are the executor's, which keeps them from run to run.
type slots struct {
	models []*loaded
	queue  int // most requests of a model in the system
	bound  []*Slot
	wanted chan int // models that need another slot
	run    uint64   // of the executor
	late   int      // requests that found none
}

// stock sets slots aside until there are n, their memory touched so that no
// request pays for that. Nothing else may use the model meanwhile.
func (m *loaded) stock(n int) error {
	for m.made.Load() < int64(n) {
		s, err := m.NewSlot()
		if err != nil {
			return err
		}
		if err := s.prefault(); err != nil {
			s.Close()
			if errors.Is(err, ErrNoRoom) && m.made.Load() > 0 {
				return nil // those beyond fail when they are needed, if there is no room then
			}
			return err
		}
		m.made.Add(1)
		m.free = append(m.free, s)
	}
	return nil
}

// stock sets aside what a run with the given bound on requests in the system will need in all likelihood: two requests
// more than can run at once, and as many as fit in slotMemory.
func (s *slots) stock(e *Executor, queue int) error {
	e.runs++
	*s = slots{models: e.models, run: e.runs, queue: queue, wanted: make(chan int, len(e.models)),
		bound: make([]*Slot, 0, queue*len(e.models))}
	for _, m := range e.models {
		n := max(len(e.accs)+2, int(slotMemory/max(1, m.size)))
		if err := m.stock(min(n, queue)); err != nil {
			return fmt.Errorf("executor: %w", err)
		}
		m.free = slices.Grow(m.free, queue) // it does not grow either
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
			s, err := d.models[m].NewSlot()
			if err != nil {
				continue // only memory can be missing: lateSlot will say so
			}
			s.touch()
			d.mu.Lock()
			d.models[m].made.Add(1)
			d.models[m].free = append(d.models[m].free, s)
			d.unlock()
		}
	}
}

// give takes back a slot that no request uses any more.
func (m *loaded) give(s *Slot) {
	if s.captured != nil {
		m.fixed = append(m.fixed, s)
	} else {
		m.free = append(m.free, s)
	}
}

// take returns a slot for a request of the model, one with captured kernels first, or nil if none is free; the
// last one has the next made in the background.
func (s *slots) take(model int) *Slot {
	m := s.models[model]
	if n := len(m.fixed); n > 0 {
		x := m.fixed[n-1]
		m.fixed = m.fixed[:n-1]
		return x
	}
	if len(m.free) == 0 {
		return nil
	}
	x := m.free[len(m.free)-1]
	m.free = m.free[:len(m.free)-1]
	if len(m.free) == 0 && m.made.Load() < int64(s.queue) {
		select {
		case s.wanted <- model:
		default: // it is about to
		}
	}
	return x
}

// bind gives a starting request its tensors.
func (s *slots) bind(x *Slot, a *assignment) {
	a.slot = x
	x.job, x.attempts, x.run, x.owner = a.Job, 0, s.run, s.models[a.Model]
	if a.pending != nil && a.pending.inputs != nil {
		x.SetInputs(a.pending.inputs)
	} else {
		m := s.models[a.Model]
		x.SetInputs(m.sets[m.set(a.Job)])
	}
	s.bound = append(s.bound, x)
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
	i := slices.IndexFunc(s.bound, func(x *Slot) bool { return x.job == job })
	if i < 0 {
		return nil
	}
	x, last := s.bound[i], len(s.bound)-1
	s.bound[i], s.bound[last] = s.bound[last], nil
	s.bound = s.bound[:last]
	return x
}

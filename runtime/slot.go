package runtime

import (
	"fmt"
	"slices"
	"time"
	"unsafe"
)

// Slot holds the boundary tensors of one request.
type Slot struct {
	program *Program
	tensors []*Tensor // in host memory
	valid   []bool    // tensors that hold the request's data
	in, out []*Tensor // scratch for one run
	arena   []byte
	unpin   func() // frees the arena if it is pinned
	spread  bool
	away
	bound
}

// away is what a slot has in programs with accelerators that have memories of their own.
type away struct {
	devices []*deviceTensors // by device of the program
	by      *stream          // that has what the last layer left; nil for host memory
	behind  mark             // after all that was submitted for the slot
	stale   bool             // for a request before this one
	quiet   bool             // see Quiet
	inputs  []*Tensor        // of a request that has not run yet: fresh
	fresh   bool
	unfit   error // why the inputs cannot be copied to a device
	lost    error // why the tensors are nowhere
	moving  lock  // held while copies home are submitted after a layer
	// captured are kernels that are fixed to the slot's tensors, by accelerator and row; nil without.
	captured [][]Kernel
	waited   time.Duration // what the last Run waited for other accelerators' work
}

// bound is the request that an executor runs in a slot.
type bound struct {
	owner    *loaded
	run      uint64 // of the executor
	first    bool   // the last Run was the first of its implementation in the executor's run
	replayed bool   // it was captured
	job      int64
	attempts int           // runs of its current layer that failed
	hanging  bool          // a kernel may still write to the slot
	handing  time.Duration // what the last Run spent on conversions and copies
	kernel   Kernel        // that the last Run ran
	ran      []Ran         // by layer
}

// Ran is what computed a layer of a request, by index.
type Ran struct{ Implementation, Accelerator int }

// NewSlot allocates the tensors of one request; tensors whose lifetimes do not overlap share memory.
func (p *Program) NewSlot() (*Slot, error) {
	return p.newSlot(func(i int) int64 { return p.tensors[i].place }, p.size, false)
}

// NewSpreadSlot allocates tensors that share no memory, but those that a layer computes in place: once all layers have
// run in order, they can be run again in any order, in the time that they always take. What they compute then means
// nothing.
func (p *Program) NewSpreadSlot() (*Slot, error) {
	place, size := make([]int64, len(p.tensors)), int64(0)
	for i := range p.tensors {
		t := &p.tensors[i]
		if t.place >= 0 && t.from < 0 {
			place[i] = size
			size += (t.Bytes() + alignment - 1) / alignment * alignment
		}
	}
	return p.newSlot(func(i int) int64 {
		if p.tensors[i].place < 0 {
			return -1
		}
		for p.tensors[i].from >= 0 {
			i = p.tensors[i].from
		}
		return place[i]
	}, size, true)
}

func (p *Program) newSlot(place func(tensor int) int64, size int64, spread bool) (*Slot, error) {
	s := &Slot{program: p, tensors: make([]*Tensor, len(p.tensors)), valid: make([]bool, len(p.tensors)),
		spread: spread, bound: bound{ran: make([]Ran, len(p.Network.Layers))}}
	if err := s.allocate(place, size); err != nil {
		s.Close()
		return nil, fmt.Errorf("model %q: %w", p.Network.Name, err)
	}
	return s, nil
}

// allocate makes the tensors in an arena, which is in pinned memory where an accelerator wants that.
func (s *Slot) allocate(place func(tensor int) int64, size int64) (err error) {
	for _, d := range s.program.devices {
		if size == 0 || s.arena != nil {
			continue
		}
		if s.arena, s.unpin, err = d.memory.NewPinned(int(size + alignment)); err != nil {
			return err
		}
	}
	if s.arena == nil {
		s.arena = make([]byte, size+alignment)
	}
	s.arena = align(s.arena)
	for i := range s.program.tensors {
		if at := place(i); at >= 0 {
			info := s.program.tensors[i].Tensor
			if s.tensors[i], err = NewTensor(info, s.arena[at:at+info.Bytes()]); err != nil {
				return err
			}
		}
	}
	return s.addDevices()
}

// align is raw from the first multiple of the alignment on.
func align(raw []byte) []byte {
	at := int(uintptr(unsafe.Pointer(unsafe.SliceData(raw))))
	return raw[(alignment-at%alignment)%alignment:]
}

// touch makes the system provide the slot's memory. Otherwise it does so page
// by page when the first request writes there.
func (s *Slot) touch() { clear(s.arena) }

// prefault is touch for the memories of accelerators too. None of their kernels may run meanwhile.
func (s *Slot) prefault() error {
	s.touch()
	for _, d := range s.devices {
		if err := d.open(s.program, s.spread); err != nil {
			return fmt.Errorf("model %q: %w", s.program.Network.Name, err)
		}
	}
	return nil
}

// SetInputs starts a request: the slot reads the model's inputs from the given
// tensors, which stay the caller's and may be shared between slots.
func (s *Slot) SetInputs(in []*Tensor) {
	s.inputs, s.fresh = in, true
	s.unfit = s.flatten(in)
	if s.devices == nil { // else a worker may still be copying the last request's tensors home
		s.restart()
	}
}

// restart forgets the request before.
func (s *Slot) restart() {
	clear(s.valid)
	for _, d := range s.devices {
		clear(d.valid)
	}
	for n, i := range s.program.inputs {
		s.tensors[i] = s.inputs[n]
		s.valid[i] = true
	}
	s.by, s.lost, s.inputs, s.fresh = nil, s.unfit, nil, false
	s.stale = s.behind.stream != nil
}

// Run computes one layer of the request on one accelerator, from the thread that may use it. Inputs that an earlier
// layer left in another layout or another memory are converted and copied first. On an accelerator with a memory the
// layer is submitted, and after the last layer the copies of the model's outputs to host memory: see Wait.
func (s *Slot) Run(layer, implementation, accelerator int) error {
	c := &s.program.cells[layer][implementation][accelerator]
	s.kernel, s.in, s.out, s.handing, s.waited = c.kernel, s.in[:0], s.out[:0], 0, 0
	var on *stream
	var there *deviceTensors
	if s.devices != nil {
		on = s.program.streams[accelerator]
		if err := s.begin(layer, on); err != nil {
			return s.failed(on, err)
		}
		if on != nil {
			there = s.devices[on.device]
		}
	}
	if err := s.arguments(c, there); err != nil {
		return s.failed(on, err)
	}
	k := s.fixed(layer, implementation, accelerator)
	s.replayed = k != nil
	if !s.replayed {
		k = c.kernel
	}
	if err := k.Run(s.in, s.out); err != nil {
		return s.failed(on, err)
	}
	for _, i := range c.out {
		if there != nil && there.tensors[i] != nil {
			there.valid[i] = true
		} else {
			s.valid[i] = true
		}
	}
	s.ran[layer] = Ran{implementation, accelerator}
	s.first, c.met = c.met != s.run, s.run
	if on == nil {
		return nil
	}
	return s.submitted(layer, on)
}

// arguments collects the tensors that a kernel reads and writes, on a device or in host memory.
func (s *Slot) arguments(c *cell, there *deviceTensors) error {
	for _, i := range c.in {
		if there != nil && there.tensors[i] != nil {
			s.in = append(s.in, there.tensors[i])
			continue
		}
		if other := s.program.tensors[i].twin; !s.valid[i] && other >= 0 && s.valid[other] {
			start := time.Now()
			if err := s.Convert(i); err != nil {
				return err
			}
			s.handing += time.Since(start)
		}
		s.in = append(s.in, s.tensors[i])
	}
	for _, i := range c.out {
		if there != nil && there.tensors[i] != nil {
			s.out = append(s.out, there.tensors[i])
		} else {
			s.out = append(s.out, s.tensors[i])
		}
	}
	return nil
}

// submitted notes what was submitted to a stream.
func (s *Slot) submitted(layer int, on *stream) (err error) {
	s.by, s.stale = on, false
	if last := len(s.program.cells); layer == last-1 {
		if n, err := s.copyHome(last, on); n > 0 || err != nil {
			return err // the copies have set the mark
		}
	}
	if s.quiet && layer < len(s.program.cells)-1 {
		s.behind = mark{}
		return nil
	}
	s.behind, err = on.mark()
	return err
}

// Quiet has Run leave no event behind layers but the last: it takes the device about a microsecond, and nobody asks
// where all layers of a request run on one accelerator and are waited for together. For measuring.
func (s *Slot) Quiet() { s.quiet = true }

// failed leaves a mark behind what a layer that failed has submitted, and behind what the layers before it have: it may
// have failed before it waited for them.
func (s *Slot) failed(on *stream, err error) error {
	if on != nil && on.follow(s.behind) == nil {
		if m, broken := on.mark(); broken == nil && m.stream != nil {
			s.behind = m
		}
	}
	return err
}

// Capture fixes a layer's kernel to the slot's tensors on the accelerator's device: from then on Run replays it. The
// layer has run there before. The error wraps ErrUncaptured where the layer cannot be captured. It is called by the
// accelerator's thread, while no accelerator of the device does anything.
func (s *Slot) Capture(layer, implementation, accelerator int) error {
	p := s.program
	c := &p.cells[layer][implementation][accelerator]
	from, is := c.kernel.(Capturer)
	if p.streams == nil || p.streams[accelerator] == nil || !is {
		return fmt.Errorf("%w: the provider has no graphs", ErrUncaptured)
	}
	there := s.devices[p.streams[accelerator].device]
	if err := there.open(p, s.spread); err != nil {
		return err
	}
	s.in, s.out = s.in[:0], s.out[:0]
	for _, i := range slices.Concat(c.in, c.out) {
		if there.tensors[i] == nil {
			return fmt.Errorf("%w: %s is in host memory", ErrUncaptured, p.tensors[i])
		}
	}
	if err := s.arguments(c, there); err != nil {
		return err
	}
	k, err := from.Capture(slices.Clone(s.in), slices.Clone(s.out))
	if err != nil {
		return err
	}
	if s.captured == nil {
		s.captured = make([][]Kernel, len(p.accs))
	}
	if s.captured[accelerator] == nil {
		s.captured[accelerator] = make([]Kernel, p.rows[len(p.cells)])
	}
	at := &s.captured[accelerator][p.rows[layer]+implementation]
	if *at != nil {
		(*at).Close()
	}
	*at = k
	return nil
}

// fixed is a layer's kernel that was captured for the slot, or nil.
func (s *Slot) fixed(layer, implementation, accelerator int) Kernel {
	if s.captured == nil || s.captured[accelerator] == nil {
		return nil
	}
	return s.captured[accelerator][s.program.rows[layer]+implementation]
}

// release frees what was captured on an accelerator.
func (s *Slot) release(accelerator int) {
	if s.captured == nil {
		return
	}
	for _, k := range s.captured[accelerator] {
		if k != nil {
			k.Close()
		}
	}
	s.captured[accelerator] = nil
}

// RunBetween is Run of a variant with the conversions that it causes between originals on the same accelerator: of
// inputs that these leave in another layout, and of outputs that these read in another. For measuring; the tensors must
// have been computed before.
func (s *Slot) RunBetween(layer, implementation, accelerator int) error {
	p := s.program
	variant, original := &p.cells[layer][implementation][accelerator], &p.cells[layer][0][accelerator]
	for _, i := range variant.in {
		t := &p.tensors[i]
		if t.twin >= 0 && t.place >= 0 && s.valid[t.twin] && slices.Contains(original.in, t.twin) {
			s.valid[i] = false
		}
	}
	if err := s.Run(layer, implementation, accelerator); err != nil {
		return err
	}
	for _, i := range variant.out {
		if other := p.tensors[i].twin; other >= 0 && slices.Contains(original.out, other) &&
			!slices.Contains(original.out, i) {
			if err := s.Convert(other); err != nil {
				return err
			}
		}
	}
	return nil
}

// Convert makes a tensor from what it is in its other layout.
func (s *Slot) Convert(tensor int) error {
	t := &s.program.tensors[tensor]
	if err := t.convert.Run(s.tensors[t.twin].arg[:], s.tensors[tensor].arg[:]); err != nil {
		return fmt.Errorf("model %q: converting %s: %w", s.program.Network.Name, t, err)
	}
	s.valid[tensor] = true
	return nil
}

// Outputs returns the tensors that hold the model's outputs after its last layer.
func (s *Slot) Outputs() []*Tensor {
	out := make([]*Tensor, 0, len(s.program.outputs))
	for _, i := range s.program.outputs {
		out = append(out, s.tensors[i])
	}
	return out
}

// copyOutputs are copies of what the outputs hold, in the memory of others like them, or nil.
func (s *Slot) copyOutputs(out [][]byte) [][]byte {
	for i, t := range s.Outputs() {
		if i == len(out) {
			out = append(out, nil)
		}
		out[i] = append(out[i][:0], t.Data...)
	}
	return out
}

// Close frees the slot's native values, unless it has some on a device that hangs: freeing them would wait for the
// device. Input tensors are the caller's.
func (s *Slot) Close() {
	if s.program.hangs() {
		return
	}
	_ = s.behind.wait() // what failed has ended, too
	for k := range s.captured {
		s.release(k)
	}
	for i, t := range s.tensors {
		if t != nil && s.program.tensors[i].place >= 0 {
			t.Close()
		}
	}
	for _, d := range s.devices {
		d.close()
	}
	s.by = nil
	if s.unpin != nil {
		s.unpin()
		s.unpin = nil
	}
}

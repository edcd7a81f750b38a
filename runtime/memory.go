package runtime

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/sched"
)

// Memory is memory that an accelerator has of its own. The tensors between a
// request's layers stay there for as long as its layers run there, one after
// the other; only the model's inputs and outputs are always in host memory, and
// the provider moves those as part of the layer. All methods are called by the
// thread that runs the accelerator's kernels, or while none runs.
type Memory interface {
	// NewBuffer allocates there, NewPinned host memory that is copied without a
	// detour; nil where there is none.
	NewBuffer(size int) (*ort.Buffer, error)
	NewPinned(size int) (*ort.Buffer, error)
	// Copy copies between int32 tensors on either side. It returns when the
	// copy is complete, if that is in host memory.
	Copy(from, to []ort.Value) error
	// Wait returns when everything submitted is complete.
	Wait() error
	// Queue names the queue that only one accelerator may submit to; "" if any
	// number may.
	Queue() string
}

// ErrTensorsLost is wrapped by the error of a layer whose inputs were in the
// memory of an accelerator that does not give them back.
var ErrTensorsLost = errors.New("the request's tensors are lost with the accelerator that had them")

// memoryOf is an accelerator's own memory, nil if it computes in the host's.
func memoryOf(a Accelerator) Memory {
	m, has := a.(interface{ Memory() Memory })
	if !has {
		return nil
	}
	return m.Memory()
}

// stay says which tensors of a program stay in an accelerator's memory, and in
// which buffers: tensors whose lifetimes do not overlap share one.
type stay struct {
	memory  Memory
	tensors []int
	buffer  []int // by tensors
	sizes   []int // of the buffers
	last    []int // by tensor of the program: the last layer that reads it there
}

// lives computes, for each tensor, the first layer that makes it in any layout
// and the last that reads it, or is the first.
func (p *Program) lives() {
	first, last := map[string]int{}, map[string]int{}
	p.each(func(l, _ int, x *ports) {
		for _, i := range x.out {
			if name := p.tensors[i].Name; !has(first, name) {
				first[name], last[name] = l, l
			}
		}
		for _, i := range x.in {
			last[p.tensors[i].Name] = max(last[p.tensors[i].Name], l)
		}
	})
	for _, t := range p.tensors {
		p.first, p.last = append(p.first, first[t.Name]), append(p.last, last[t.Name])
	}
}

func has(m map[string]int, key string) bool { _, ok := m[key]; return ok }

// each calls f with the ports of every implementation of every layer on every
// accelerator.
func (p *Program) each(f func(layer, accelerator int, x *ports)) {
	for l, layer := range p.ports {
		for _, implementation := range layer {
			for k, x := range implementation {
				f(l, k, x)
			}
		}
	}
}

// settleIn decides which tensors stay in the accelerators' memories.
func (p *Program) settleIn(accs []Accelerator) {
	p.lives()
	for k, a := range accs {
		var s *stay
		if m := memoryOf(a); m != nil {
			s = p.newStay(k, m)
		}
		p.stays = append(p.stays, s)
		p.abroad = p.abroad || s != nil
	}
}

func (p *Program) newStay(k int, m Memory) *stay {
	s := &stay{memory: m, last: make([]int, len(p.tensors))}
	p.each(func(l, accelerator int, x *ports) {
		if accelerator != k {
			return
		}
		for _, i := range slices.Concat(x.in, x.out) {
			// Copies are in words of four bytes.
			n := p.tensors[i].Bytes()
			if p.place[i] < 0 || n == 0 || n%4 != 0 || slices.Contains(p.outputs, i) || slices.Contains(s.tensors, i) {
				continue
			}
			s.tensors = append(s.tensors, i)
		}
		for _, i := range x.in {
			s.last[i] = max(s.last[i], l)
		}
	})
	slices.SortStableFunc(s.tensors, func(a, b int) int { return p.first[a] - p.first[b] })
	var free []int // by buffer: the last layer that needs what it holds
	for _, i := range s.tensors {
		n := int(p.tensors[i].Bytes())
		best := -1
		for b := range s.sizes {
			if free[b] < p.first[i] && (best < 0 || closer(n, s.sizes[b], s.sizes[best])) {
				best = b
			}
		}
		if best < 0 {
			best = len(s.sizes)
			s.sizes, free = append(s.sizes, 0), append(free, 0)
		}
		s.sizes[best] = max(s.sizes[best], n)
		free[best] = p.last[i]
		s.buffer = append(s.buffer, best)
	}
	return s
}

// closer reports whether size a suits n bytes better than size b: the smallest
// that is large enough, else the largest.
func closer(n, a, b int) bool {
	if (a >= n) != (b >= n) {
		return a >= n
	}
	if a >= n {
		return a < b
	}
	return a > b
}

// Moves lists what has to be done when a layer runs on accelerator to and those
// before it ran on accelerator from: the tensors to copy from the memory of the
// one to host memory, to convert there, and to copy to the memory of the other,
// as Slot.Download, Convert and Upload take them.
func (p *Program) Moves(layer, from, to int) (download, convert, upload []int) {
	if from == to {
		return nil, nil, nil
	}
	left := map[int]bool{}
	for l := range layer {
		for _, i := range p.ports[l][0][from].out {
			left[i] = true
		}
	}
	if s := p.stays[from]; s != nil {
		for _, i := range s.tensors {
			if left[i] && p.last[i] >= layer {
				download = append(download, i)
			}
		}
	}
	wanted := p.ports[layer][0][to].in
	if s := p.stays[to]; s != nil {
		for _, i := range s.tensors {
			if p.first[i] < layer && s.last[i] >= layer {
				upload = append(upload, i)
			}
		}
		wanted = slices.Compact(slices.Sorted(slices.Values(slices.Concat(wanted, upload))))
	}
	for _, i := range wanted {
		if p.twin[i] >= 0 && !left[i] {
			convert = append(convert, i)
		}
	}
	return download, convert, upload
}

// warm runs everything once on the accelerators that have memories of their
// own: such providers compile a kernel when it first runs, which can take longer
// than a layer may. What fails now will say so when it is asked to.
func (p *Program) warm(s *Slot, in []*Tensor) {
	for k, stay := range p.stays {
		if stay == nil {
			continue
		}
		s.SetInputs(in)
		for l := range p.kernels {
			for i := len(p.kernels[l]) - 1; i >= 0; i-- {
				if p.Runs(l, i, k) {
					compute(&assignment{Dispatch: sched.Dispatch{Layer: l, Implementation: i, Accelerator: k}, slot: s})
				}
			}
		}
	}
}

// abroad is a request's tensors in the memory of an accelerator.
type abroad struct {
	*stay
	buffers []*ort.Buffer
	tensors []*Tensor // by tensor of the program; nil for those that are always in host memory
	valid   []bool    // by tensor: it holds the request's data
}

// goAbroad prepares a slot for the accelerators that have memories of their own.
func (s *Slot) goAbroad() error {
	if !s.program.abroad {
		return nil
	}
	for _, stay := range s.program.stays {
		var a *abroad
		if stay != nil {
			a = &abroad{stay: stay, valid: make([]bool, len(s.tensors))}
			for _, i := range stay.tensors {
				if t := s.tensors[i]; t.flat[0] == nil {
					var err error
					if t.flat[0], err = ort.NewTensor(ort.Int32, []int64{int64(len(t.Data) / 4)}, t.Data); err != nil {
						return err
					}
				}
			}
		}
		s.abroad = append(s.abroad, a)
	}
	return nil
}

// open allocates in the accelerator's memory, once. With spread no tensors share
// a buffer.
func (a *abroad) open(p *Program, spread bool) error {
	if a.tensors != nil {
		return nil
	}
	sizes, buffer := a.sizes, a.buffer
	if spread {
		sizes, buffer = nil, nil
		for n, i := range a.stay.tensors {
			sizes, buffer = append(sizes, int(p.tensors[i].Bytes())), append(buffer, n)
		}
	}
	a.tensors = make([]*Tensor, len(p.tensors))
	for _, n := range sizes {
		b, err := a.memory.NewBuffer(n)
		if err != nil {
			a.close()
			return err
		}
		a.buffers = append(a.buffers, b)
	}
	for n, i := range a.stay.tensors {
		t := &Tensor{Tensor: p.tensors[i], memory: a.memory}
		a.tensors[i] = t
		var err error
		if t.value, err = a.buffers[buffer[n]].NewTensor(t.Type, t.Stored()); err == nil {
			t.arg[0] = t.value
			t.flat[0], err = a.buffers[buffer[n]].NewTensor(ort.Int32, []int64{t.Bytes() / 4})
		}
		if err != nil {
			a.close()
			return err
		}
	}
	return nil
}

func (a *abroad) close() {
	for _, t := range a.tensors {
		if t != nil {
			t.Close()
		}
	}
	for _, b := range a.buffers {
		b.Close()
	}
	a.tensors, a.buffers = nil, nil
}

// begin gets the slot ready for a layer on an accelerator: it waits until the
// worker that ran the layer before has brought the tensors home, and takes them
// to the accelerator's memory.
func (s *Slot) begin(layer, accelerator int) error {
	s.moving.Lock()
	fresh := s.fresh
	s.moving.Unlock()
	if fresh {
		s.restart()
	}
	if s.lost != nil {
		return s.lost
	}
	to := s.abroad[accelerator]
	if s.at == to {
		return nil
	}
	start := time.Now()
	defer func() { s.handing += time.Since(start) }()
	if _, err := s.home(layer); err != nil {
		return err
	}
	if to == nil {
		return nil
	}
	if err := to.open(s.program, s.spread); err != nil {
		return fmt.Errorf("model %q: %w", s.program.Network.Name, err)
	}
	for _, i := range to.stay.tensors {
		if to.valid[i] || to.last[i] < layer {
			continue
		}
		if !s.valid[i] {
			if other := s.program.twin[i]; other < 0 || !s.valid[other] {
				continue // yet to be computed
			}
			if err := s.Convert(i); err != nil {
				return err
			}
		}
		if err := to.memory.Copy(s.tensors[i].flat[:], to.tensors[i].flat[:]); err != nil {
			return fmt.Errorf("model %q: taking %s to an accelerator: %w", s.program.Network.Name, s.program.tensors[i], err)
		}
		to.valid[i] = true
	}
	s.at = to
	return nil
}

// home brings the tensors that layer next and later ones need to host memory,
// and says how many.
func (s *Slot) home(next int) (n int, err error) {
	from := s.at
	if from == nil {
		return 0, nil
	}
	s.at = nil
	for _, i := range from.stay.tensors {
		if !from.valid[i] || s.valid[i] || s.program.last[i] < next {
			continue
		}
		if err := from.memory.Copy(from.tensors[i].flat[:], s.tensors[i].flat[:]); err != nil {
			clear(from.valid)
			s.lost = fmt.Errorf("%w: %w", ErrTensorsLost, err)
			return n, s.lost
		}
		s.valid[i] = true
		n++
	}
	return n, nil
}

// restart forgets the request before.
func (s *Slot) restart() {
	clear(s.valid)
	for _, a := range s.abroad {
		if a != nil {
			clear(a.valid)
		}
	}
	for n, i := range s.program.inputs {
		s.tensors[i] = s.inputs[n]
		s.valid[i] = true
	}
	s.at, s.lost, s.inputs, s.fresh = nil, nil, nil, false
}

// Upload copies a tensor to the memory of an accelerator, complete when it
// returns, and Download one from there. For measuring: a request's own runs do
// this where it is needed.
func (s *Slot) Upload(tensor, accelerator int) error {
	a := s.abroad[accelerator]
	if err := a.open(s.program, s.spread); err != nil {
		return err
	}
	if err := a.memory.Copy(s.tensors[tensor].flat[:], a.tensors[tensor].flat[:]); err != nil {
		return err
	}
	return a.memory.Wait()
}

// Download is described at Upload.
func (s *Slot) Download(tensor, accelerator int) error {
	a := s.abroad[accelerator]
	if err := a.open(s.program, s.spread); err != nil {
		return err
	}
	return a.memory.Copy(a.tensors[tensor].flat[:], s.tensors[tensor].flat[:])
}

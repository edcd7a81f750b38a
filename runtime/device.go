package runtime

import (
	"fmt"
	"slices"
	"time"

	"github.com/terastal/terastal/sched"
)

// device says which tensors of a program stay in an accelerator's memory, and in which buffers.
type device struct {
	memory  Memory
	tensors []placed
	sizes   []int // of the buffers
	last    []int // by tensor of the program: the last layer that reads it there
}

// placed is a tensor of the program in a buffer of a device.
type placed struct{ tensor, buffer int }

// placeOnDevices decides which tensors stay in the accelerators' memories.
func (p *Program) placeOnDevices() {
	devices := make([]*device, len(p.accs))
	for k, a := range p.accs {
		if m := memoryOf(a); m != nil {
			devices[k] = p.newDevice(k, m)
			p.devices = devices
		}
	}
}

func (p *Program) newDevice(k int, m Memory) *device {
	d := &device{memory: m, last: make([]int, len(p.tensors))}
	seen := make([]bool, len(p.tensors))
	var stay []int
	p.each(func(l, accelerator int, c *cell) {
		if accelerator != k {
			return
		}
		for _, i := range slices.Concat(c.in, c.out) {
			// Copies are in words of four bytes.
			n := p.tensors[i].Bytes()
			if !seen[i] && p.tensors[i].place >= 0 && n > 0 && n%4 == 0 && !slices.Contains(p.outputs, i) {
				stay = append(stay, i)
			}
			seen[i] = true
		}
		for _, i := range c.in {
			d.last[i] = max(d.last[i], l)
		}
	})
	slices.SortStableFunc(stay, func(a, b int) int { return p.tensors[a].first - p.tensors[b].first })
	var free []int // by buffer: the last layer that needs what it holds
	for _, i := range stay {
		t := &p.tensors[i]
		n := int(t.Bytes())
		best := -1
		for b := range d.sizes {
			if free[b] < t.first && (best < 0 || closer(n, d.sizes[b], d.sizes[best])) {
				best = b
			}
		}
		if best < 0 {
			best = len(d.sizes)
			d.sizes, free = append(d.sizes, 0), append(free, 0)
		}
		d.sizes[best] = max(d.sizes[best], n)
		free[best] = t.last
		d.tensors = append(d.tensors, placed{i, best})
	}
	return d
}

// closer reports whether size a suits n bytes better than size b: the smallest that is large enough, else the largest.
func closer(n, a, b int) bool {
	if (a >= n) != (b >= n) {
		return a >= n
	}
	if a >= n {
		return a < b
	}
	return a > b
}

// Moves lists what has to be done when a layer runs on accelerator to and those before it ran on accelerator from: the
// tensors to copy from the memory of the one to host memory, to convert there, and to copy to the memory of the other,
// as Slot.Download, Convert and Upload take them.
func (p *Program) Moves(layer, from, to int) (download, convert, upload []int) {
	if from == to {
		return nil, nil, nil
	}
	left := map[int]bool{}
	for l := range layer {
		for _, i := range p.cells[l][0][from].out {
			left[i] = true
		}
	}
	wanted := p.cells[layer][0][to].in
	if p.devices != nil {
		if d := p.devices[from]; d != nil {
			for _, x := range d.tensors {
				if left[x.tensor] && p.tensors[x.tensor].last >= layer {
					download = append(download, x.tensor)
				}
			}
		}
		if d := p.devices[to]; d != nil {
			for _, x := range d.tensors {
				if p.tensors[x.tensor].first < layer && d.last[x.tensor] >= layer {
					upload = append(upload, x.tensor)
				}
			}
			wanted = slices.Compact(slices.Sorted(slices.Values(slices.Concat(wanted, upload))))
		}
	}
	for _, i := range wanted {
		if p.tensors[i].twin >= 0 && !left[i] {
			convert = append(convert, i)
		}
	}
	return download, convert, upload
}

// warm runs everything once on the accelerators that have memories of their own: such providers compile a kernel when
// it first runs, which can take longer than a layer may. What fails now fails again when it is needed.
func (p *Program) warm(s *Slot, in []*Tensor) {
	for k, d := range p.devices {
		if d == nil {
			continue
		}
		s.SetInputs(in)
		for l := range p.cells {
			for i := len(p.cells[l]) - 1; i >= 0; i-- {
				if p.Runs(l, i, k) {
					compute(&assignment{Dispatch: sched.Dispatch{Layer: l, Implementation: i, Accelerator: k}, slot: s})
				}
			}
		}
	}
}

// deviceTensors are a request's tensors in the memory of an accelerator.
type deviceTensors struct {
	*device
	buffers []Buffer
	tensors []*Tensor // by tensor of the program; nil for those that are always in host memory
	valid   []bool    // by tensor: it holds the request's data
}

// addDevices prepares a slot for the accelerators that have memories of their own.
func (s *Slot) addDevices() error {
	if s.program.devices == nil {
		return nil
	}
	s.devices = make([]*deviceTensors, len(s.program.devices))
	for k, d := range s.program.devices {
		if d == nil {
			continue
		}
		s.devices[k] = &deviceTensors{device: d, valid: make([]bool, len(s.tensors))}
		for _, x := range d.tensors {
			if err := s.tensors[x.tensor].flatten(); err != nil {
				return err
			}
		}
	}
	return nil
}

// open allocates in the accelerator's memory, once. With spread no tensors share a buffer.
func (d *deviceTensors) open(p *Program, spread bool) error {
	if d.tensors != nil {
		return nil
	}
	sizes, tensors := d.sizes, d.device.tensors
	if spread {
		sizes, tensors = nil, nil
		for n, x := range d.device.tensors {
			sizes, tensors = append(sizes, int(p.tensors[x.tensor].Bytes())), append(tensors, placed{x.tensor, n})
		}
	}
	d.tensors = make([]*Tensor, len(p.tensors))
	for _, n := range sizes {
		b, err := d.memory.NewBuffer(n)
		if err != nil {
			d.close()
			return err
		}
		d.buffers = append(d.buffers, b)
	}
	for _, x := range tensors {
		t := &Tensor{Tensor: p.tensors[x.tensor].Tensor, memory: d.memory}
		d.tensors[x.tensor] = t
		if err := d.buffers[x.buffer].Bind(t); err != nil {
			d.close()
			return err
		}
	}
	return nil
}

func (d *deviceTensors) close() {
	for _, t := range d.tensors {
		if t != nil {
			t.Close()
		}
	}
	for _, b := range d.buffers {
		b.Close()
	}
	d.tensors, d.buffers = nil, nil
}

// begin gets the slot ready for a layer on an accelerator: it waits until the worker that ran the layer before has
// copied the tensors home, and copies them to the accelerator's memory.
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
	to := s.devices[accelerator]
	if s.at == to {
		return nil
	}
	start := time.Now()
	defer func() { s.handing += time.Since(start) }()
	if _, err := s.copyHome(layer); err != nil {
		return err
	}
	if to == nil {
		return nil
	}
	p := s.program
	if err := to.open(p, s.spread); err != nil {
		return fmt.Errorf("model %q: %w", p.Network.Name, err)
	}
	for _, x := range to.device.tensors {
		i := x.tensor
		if to.valid[i] || to.last[i] < layer {
			continue
		}
		if !s.valid[i] {
			if other := p.tensors[i].twin; other < 0 || !s.valid[other] {
				continue // not computed yet
			}
			if err := s.Convert(i); err != nil {
				return err
			}
		}
		if err := to.memory.Copy(s.tensors[i], to.tensors[i]); err != nil {
			return fmt.Errorf("model %q: copying %s to an accelerator: %w", p.Network.Name, p.tensors[i], err)
		}
		to.valid[i] = true
	}
	s.at = to
	return nil
}

// copyHome copies the tensors that layer next and later ones need to host memory, and says how many.
func (s *Slot) copyHome(next int) (n int, err error) {
	from := s.at
	if from == nil {
		return 0, nil
	}
	s.at = nil
	for _, x := range from.device.tensors {
		i := x.tensor
		if !from.valid[i] || s.valid[i] || s.program.tensors[i].last < next {
			continue
		}
		if err := from.memory.Copy(from.tensors[i], s.tensors[i]); err != nil {
			clear(from.valid)
			s.lost = fmt.Errorf("%w: %w", ErrTensorsLost, err)
			return n, s.lost
		}
		s.valid[i] = true
		n++
	}
	return n, nil
}

// Upload copies a tensor to the memory of an accelerator, complete when it returns, and Download one from there. For
// measuring: a request's own runs do this where it is needed.
func (s *Slot) Upload(tensor, accelerator int) error {
	d := s.devices[accelerator]
	if err := d.open(s.program, s.spread); err != nil {
		return err
	}
	if err := d.memory.Copy(s.tensors[tensor], d.tensors[tensor]); err != nil {
		return err
	}
	return d.memory.Wait()
}

// Download is described at Upload.
func (s *Slot) Download(tensor, accelerator int) error {
	d := s.devices[accelerator]
	if err := d.open(s.program, s.spread); err != nil {
		return err
	}
	return d.memory.Copy(d.tensors[tensor], s.tensors[tensor])
}

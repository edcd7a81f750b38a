package runtime

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// device says which tensors of a program stay in a device's memory, and in which buffers.
type device struct {
	memory  Memory // as its first stream sees it
	tensors []placed
	sizes   []int // of the buffers
	last    []int // by tensor of the program: the last layer that reads it there
}

// placed is a tensor of the program in a buffer of a device.
type placed struct{ tensor, buffer int }

// placeOnDevices decides which tensors stay in the devices' memories.
func (p *Program) placeOnDevices() {
	numbers := map[string]int{}
	for k, a := range p.accs {
		m := MemoryOf(a)
		if m == nil {
			continue
		}
		d, known := numbers[m.Device()]
		if !known {
			d = len(p.devices)
			numbers[m.Device()] = d
			p.devices = append(p.devices, &device{memory: m})
		}
		if p.streams == nil {
			p.streams = make([]*stream, len(p.accs))
		}
		p.streams[k] = &stream{memory: m, device: d}
	}
	for d := range p.devices {
		p.place(d)
	}
}

// on is the device of an accelerator, nil for one that computes in host memory.
func (p *Program) on(accelerator int) *device {
	if p.streams == nil || p.streams[accelerator] == nil {
		return nil
	}
	return p.devices[p.streams[accelerator].device]
}

// place decides for a device.
func (p *Program) place(number int) {
	d := p.devices[number]
	d.last = make([]int, len(p.tensors))
	seen := make([]bool, len(p.tensors))
	var stay []int
	grain := int64(d.memory.Grain())
	p.each(func(l, accelerator int, c *cell) {
		if p.on(accelerator) != d {
			return
		}
		for _, i := range slices.Concat(c.in, c.out) {
			if n := p.tensors[i].Bytes(); !seen[i] && n > 0 && n%grain == 0 {
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
// as Slot.Download, Convert and Upload take them. Between streams of a device there is nothing to do.
func (p *Program) Moves(layer, from, to int) (download, convert, upload []int) {
	source, target := p.on(from), p.on(to)
	if from == to || source != nil && source == target {
		return nil, nil, nil
	}
	left := map[int]bool{}
	for l := range layer {
		for _, i := range p.cells[l][0][from].out {
			left[i] = true
		}
	}
	wanted := p.cells[layer][0][to].in
	if source != nil {
		for _, x := range source.tensors {
			if left[x.tensor] && p.tensors[x.tensor].last >= layer {
				download = append(download, x.tensor)
			}
		}
	}
	if target != nil {
		for _, x := range target.tensors {
			if p.tensors[x.tensor].first < layer && target.last[x.tensor] >= layer {
				upload = append(upload, x.tensor)
			}
		}
		wanted = slices.Compact(slices.Sorted(slices.Values(slices.Concat(wanted, upload))))
	}
	for _, i := range wanted {
		if p.tensors[i].twin >= 0 && !left[i] {
			convert = append(convert, i)
		}
	}
	return download, convert, upload
}

// deviceTensors are a request's tensors in the memory of a device.
type deviceTensors struct {
	*device
	buffers []Buffer
	tensors []*Tensor // by tensor of the program; nil for those that are always in host memory
	valid   []bool    // by tensor: it holds the request's data, or will once what was submitted is complete
}

// addDevices prepares a slot for the devices.
func (s *Slot) addDevices() error {
	if s.program.devices == nil {
		return nil
	}
	for _, d := range s.program.devices {
		s.devices = append(s.devices, &deviceTensors{device: d, valid: make([]bool, len(s.tensors))})
	}
	return s.flatten(s.tensors)
}

// flatten gets host tensors ready to be copied to devices.
func (s *Slot) flatten(ts []*Tensor) error {
	words := slices.ContainsFunc(s.program.devices, func(d *device) bool { return d.memory.Grain() > 1 })
	for _, t := range ts {
		if words && t != nil {
			if err := t.flatten(); err != nil {
				return err
			}
		}
	}
	return nil
}

// open allocates in the device's memory, once. With spread no tensors share a buffer.
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

// begin gets the slot ready for a layer on an accelerator: what was submitted for it to other streams comes first, and
// what the accelerator does not have is copied to its memory. A worker that ran the layer before may be submitting the
// copies home: that comes first, too.
func (s *Slot) begin(layer int, to *stream) error {
	s.moving.Lock()
	fresh := s.fresh
	s.moving.Unlock()
	if fresh {
		s.restart()
	}
	if s.lost != nil {
		return s.lost
	}
	from := s.by
	if from == to && (to != nil || s.behind.stream == nil) {
		return nil
	}
	start := time.Now()
	defer func() { s.handing += time.Since(start) }()
	stays := from != nil && to != nil && from.device == to.device
	if !stays {
		if _, err := s.copyHome(layer, to); err != nil {
			return err
		}
	}
	if err := s.follow(to); err != nil {
		return err
	}
	if to == nil || stays {
		return nil
	}
	return s.upload(layer, to)
}

// follow puts what comes next after all that was submitted for the slot. Work for an earlier request that failed does
// no harm.
func (s *Slot) follow(to *stream) error {
	start := time.Now()
	err := to.follow(s.behind)
	s.waited += time.Since(start)
	if err != nil && (!s.stale || errors.Is(err, ErrTensorsLost)) {
		s.lost = fmt.Errorf("%w: %w", ErrTensorsLost, err)
		return s.lost
	}
	if to == nil || s.behind.stream != nil && s.behind.stream.device != to.device {
		s.behind, s.stale = mark{}, false // it was waited for
	}
	return nil
}

// upload copies what layers from this one on read on the stream's device, and what is not there.
func (s *Slot) upload(layer int, on *stream) error {
	p, to := s.program, s.devices[on.device]
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
		if err := on.memory.Copy(s.tensors[i], to.tensors[i]); err != nil {
			return fmt.Errorf("model %q: copying %s to an accelerator: %w", p.Network.Name, p.tensors[i], err)
		}
		to.valid[i] = true
	}
	return nil
}

// copyHome submits copies to host memory of what layer next and later ones, or the model's outputs, need, and says how
// many. They are complete when the slot's mark is. They are submitted to the caller's stream if that is one of the
// device, which may not be the one that computed them: the request may have failed on its way to another stream.
func (s *Slot) copyHome(next int, on *stream) (n int, err error) {
	by := s.by
	if by == nil {
		return 0, nil
	}
	s.by = nil
	if on != nil && on.device == by.device {
		err = on.follow(s.behind)
		by = on
	}
	from := s.devices[by.device]
	for _, x := range from.device.tensors {
		i := x.tensor
		if err != nil {
			break
		}
		if !from.valid[i] || s.valid[i] || s.program.tensors[i].last < next {
			continue
		}
		if err = by.memory.Copy(from.tensors[i], s.tensors[i]); err == nil {
			s.valid[i] = true
			n++
		}
	}
	if n > 0 && err == nil {
		s.behind, err = by.mark()
	}
	if err != nil {
		clear(from.valid)
		s.lost = fmt.Errorf("%w: %w", ErrTensorsLost, err)
		return n, s.lost
	}
	return n, nil
}

// Wait returns when everything that was submitted for the slot is complete, the model's outputs in host memory after
// the last layer included.
func (s *Slot) Wait() error {
	if s.behind.stream != nil {
		return s.behind.wait()
	}
	if s.by != nil {
		return s.by.memory.Wait()
	}
	return nil
}

// Upload submits the copy of a tensor to the memory of an accelerator, and Download that from there: Wait on the
// accelerator's memory tells when it is complete. For measuring: a request's own runs do this where it is needed.
func (s *Slot) Upload(tensor, accelerator int) error {
	on := s.program.streams[accelerator]
	d := s.devices[on.device]
	if err := d.open(s.program, s.spread); err != nil {
		return err
	}
	return on.memory.Copy(s.tensors[tensor], d.tensors[tensor])
}

// Download is described at Upload.
func (s *Slot) Download(tensor, accelerator int) error {
	on := s.program.streams[accelerator]
	d := s.devices[on.device]
	if err := d.open(s.program, s.spread); err != nil {
		return err
	}
	return on.memory.Copy(d.tensors[tensor], s.tensors[tensor])
}

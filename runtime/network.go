package runtime

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/sched"
)

// alignment of tensors in an arena: a cache line, and enough for any vector
// load.
const alignment = 64

// Network is a model in layers, as an executor loads it.
type Network struct {
	Name   string
	Model  *models.Model
	Layers []models.Layer
	// Granularity names how the layers were cut, for documents; empty stands for the cut itself ([models.Cut]).
	Granularity string
	// Variants[l] are further implementations of layer l, after the original:
	// ONNX models with the same inputs and outputs.
	Variants map[int][]Unit
	// Skip, if not nil, is asked before each implementation of a layer is loaded
	// on an accelerator, all by index, in that order: where it returns an error
	// it is not loaded, as if the accelerator had refused it.
	Skip func(layer, implementation, accelerator int) error
}

// prepare loads a unit unless it is to be skipped.
func (n *Network) prepare(a Accelerator, u Unit, layer, implementation, accelerator int) (Kernel, error) {
	if n.Skip != nil {
		if err := n.Skip(layer, implementation, accelerator); err != nil {
			return nil, err
		}
	}
	return a.Prepare(u)
}

// Original names the implementation of a layer that is no variant.
const Original = "original"

// unit is the layer's original, in a form.
func (n *Network) unit(l int, f *models.Form) (Unit, error) {
	name := n.Layers[l].Name
	data, err := f.ONNX()
	if err != nil {
		return Unit{}, fmt.Errorf("model %q layer %q: %w", n.Name, name, err)
	}
	return Unit{Name: fmt.Sprintf("%s layer %q", n.Name, name), Implementation: Original, ONNX: data, Inputs: f.Inputs, Outputs: f.Outputs, Optimized: f.Optimized}, nil
}

// Program is a network prepared on a set of accelerators.
type Program struct {
	Network *Network
	// Refused says, per layer, implementation and accelerator, why it cannot
	// run there; nil where it can.
	Refused [][][]error

	accs    []Accelerator
	forms   map[string][]models.Form // the layers' forms by level
	levels  []string                 // by accelerator
	kernels [][][]Kernel             // by layer, implementation and accelerator
	ports   [][][]*ports             // the same
	tensors []models.Tensor          // every boundary tensor in every layout
	twin    []int                    // the tensor in its other layout, or -1
	convert []*ort.Session           // makes a tensor from its twin
	place   []int64                  // offset in the arena by tensor; -1 for model inputs
	size    int64
	shared  map[int]int // tensors computed in place of others
	inputs  []int       // the model's inputs among the tensors
	outputs []int       // the model's outputs
	first   []int       // the layer that makes a tensor, in any layout
	last    []int       // the last layer that reads it
	stays   []*stay     // by accelerator; nil for those that compute in host memory
	abroad  bool        // there is one that does not

	mu     sync.Mutex
	stuck  map[Kernel]bool // kernels that hang: nobody may close them
	closed bool
}

// ports are the tensors that a kernel reads and writes.
type ports struct{ in, out []int }

// Prepare loads every implementation of every layer on every accelerator, the
// original in the form that suits it. progress, if not nil, is called after
// each.
func Prepare(n *Network, accs []Accelerator, progress func()) (*Program, error) {
	p := &Program{Network: n, accs: accs, forms: make(map[string][]models.Form), shared: make(map[int]int)}
	if err := p.prepare(accs, progress); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

func (p *Program) prepare(accs []Accelerator, progress func()) error {
	for _, a := range accs {
		if err := p.form(a.Level()); err != nil {
			return err
		}
		p.levels = append(p.levels, a.Level())
	}
	if err := p.form(models.Portable); err != nil {
		return err
	}
	index := p.layout()
	if err := p.converters(); err != nil {
		return err
	}
	for l := range p.Network.Layers {
		if err := p.load(l, accs, index, progress); err != nil {
			return err
		}
	}
	p.settleIn(accs)
	// The optimised models are not needed any more, and large.
	p.forms = nil
	return nil
}

func (p *Program) form(level string) error {
	if p.forms[level] != nil {
		return nil
	}
	forms, err := p.Network.Model.Forms(p.Network.Layers, level)
	if err != nil {
		return fmt.Errorf("model %q: %w", p.Network.Name, err)
	}
	p.forms[level] = forms
	return nil
}

// load prepares one layer.
func (p *Program) load(l int, accs []Accelerator, index map[string]int, progress func()) error {
	n := p.Network
	implementations := 1 + len(n.Variants[l])
	kernels, reasons := make([][]Kernel, implementations), make([][]error, implementations)
	wiring := make([][]*ports, implementations)
	originals := make(map[string]Unit)
	for i := range implementations {
		for k, a := range accs {
			var u Unit
			if i > 0 {
				u = n.Variants[l][i-1]
				u.Implementation = u.Name
			} else if original, made := originals[p.levels[k]]; made {
				u = original
			} else {
				var err error
				if u, err = n.unit(l, &p.forms[p.levels[k]][l]); err != nil {
					return err
				}
				originals[p.levels[k]] = u
			}
			u.Model, u.Layer = n.Name, n.Layers[l].Name
			kernel, err := n.prepare(a, u, l, i, k)
			kernels[i], reasons[i] = append(kernels[i], kernel), append(reasons[i], err)
			wiring[i] = append(wiring[i], wire(u.Inputs, u.Outputs, index))
			if progress != nil {
				progress()
			}
		}
	}
	p.kernels, p.Refused, p.ports = append(p.kernels, kernels), append(p.Refused, reasons), append(p.ports, wiring)
	if err := somewhere(reasons[0]); err != nil {
		return fmt.Errorf("model %q layer %q runs on no accelerator: %w", n.Name, n.Layers[l].Name, err)
	}
	return nil
}

func wire(in, out []models.Tensor, index map[string]int) *ports {
	p := &ports{}
	for _, t := range in {
		p.in = append(p.in, index[t.ID()])
	}
	for _, t := range out {
		p.out = append(p.out, index[t.ID()])
	}
	return p
}

// somewhere returns the last reason if every accelerator refused.
func somewhere(refused []error) error {
	var last error
	for _, err := range refused {
		if err == nil {
			return nil
		}
		last = err
	}
	return last
}

// chain is every form that may run as each layer.
func (p *Program) chain() [][]models.Form {
	chain := make([][]models.Form, len(p.Network.Layers))
	for l := range chain {
		for _, level := range p.used(l) {
			chain[l] = append(chain[l], p.forms[level][l])
		}
	}
	return chain
}

// used lists the levels whose forms of a layer are loaded; variants have the
// portable form's tensors.
func (p *Program) used(l int) []string {
	levels := p.levels
	if len(p.Network.Variants[l]) > 0 {
		levels = append(slices.Clone(levels), models.Portable)
	}
	return slices.Compact(slices.Sorted(slices.Values(levels)))
}

// layout numbers the boundary tensors by ID and places them in the arena.
func (p *Program) layout() map[string]int {
	n, chain := p.Network, p.chain()
	offsets, size := models.Buffers(chain, alignment)
	p.size = size
	index := map[string]int{}
	number := func(t models.Tensor) int {
		i, ok := index[t.ID()]
		if !ok {
			i = len(p.tensors)
			index[t.ID()] = i
			p.tensors = append(p.tensors, t)
			at, placed := offsets[t.ID()]
			if !placed {
				at = -1
			}
			p.place = append(p.place, at)
		}
		return i
	}
	for _, t := range n.Model.Inputs() {
		p.inputs = append(p.inputs, number(t))
	}
	for _, forms := range chain {
		for _, f := range forms {
			for _, t := range slices.Concat(f.Inputs, f.Outputs) {
				number(t)
			}
		}
		for _, f := range forms {
			for o, i := range f.InPlace {
				if i >= 0 && offsets[f.Inputs[i].ID()] == offsets[f.Outputs[o].ID()] {
					p.shared[index[f.Outputs[o].ID()]] = index[f.Inputs[i].ID()]
				}
			}
		}
	}
	for _, t := range n.Model.Outputs() {
		p.outputs = append(p.outputs, number(t))
	}
	byName := map[string]int{}
	p.twin = slices.Repeat([]int{-1}, len(p.tensors))
	for i, t := range p.tensors {
		if other, ok := byName[t.Name]; ok {
			p.twin[i], p.twin[other] = other, i
		}
		byName[t.Name] = i
	}
	return index
}

// converters loads what makes a tensor from its twin, once for each shape.
func (p *Program) converters() error {
	p.convert = make([]*ort.Session, len(p.tensors))
	loaded := map[string]*ort.Session{}
	for i, t := range p.tensors {
		if p.twin[i] < 0 || p.place[i] < 0 {
			continue
		}
		from := p.tensors[p.twin[i]]
		key := fmt.Sprint(from.Block, t.Block, t.Shape)
		if loaded[key] == nil {
			f, err := models.Reorder(from, t)
			if err != nil {
				return err
			}
			data, err := f.ONNX()
			if err != nil {
				return err
			}
			if loaded[key], err = ort.NewSession(data, nil, nil, ort.Config{Optimization: "none", Threads: 1}); err != nil {
				return fmt.Errorf("model %q: converting %s: %w", p.Network.Name, t, err)
			}
		}
		p.convert[i] = loaded[key]
	}
	return nil
}

// Accelerators is how many accelerators the program is prepared on.
func (p *Program) Accelerators() int { return len(p.accs) }

// Runs reports whether an implementation of a layer can run on an accelerator.
func (p *Program) Runs(layer, implementation, accelerator int) bool {
	return p.kernels[layer][implementation][accelerator] != nil
}

// Implementations is how many implementations the layer has.
func (p *Program) Implementations(layer int) int { return len(p.kernels[layer]) }

// intact reports whether the inputs of a layer are as they were when an
// attempt to run it has failed: where it computes an output in the memory of
// an input they are not.
func (p *Program) intact(d *sched.Dispatch) bool {
	ports := p.ports[d.Layer][d.Implementation][d.Accelerator]
	for _, o := range ports.out {
		if from, inPlace := p.shared[o]; inPlace && slices.Contains(ports.in, from) {
			return false
		}
	}
	return true
}

// hang notes that a kernel hangs, or no longer does; one that outlived the
// program is then closed.
func (p *Program) hang(k Kernel, hangs bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case hangs && p.stuck == nil:
		p.stuck = map[Kernel]bool{k: true}
	case hangs:
		p.stuck[k] = true
	default:
		delete(p.stuck, k)
		if p.closed {
			k.Close()
		}
	}
}

// Close frees all kernels but those that hang. The lists stay: who hangs may
// read them yet.
func (p *Program) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.closed = true
	for _, layer := range p.kernels {
		for _, im := range layer {
			for _, k := range im {
				if k != nil && !p.stuck[k] {
					k.Close()
				}
			}
		}
	}
	for _, s := range p.convert {
		if s != nil {
			s.Close()
		}
	}
}

// Slot holds the boundary tensors of one request in flight.
type Slot struct {
	program *Program
	tensors []*Tensor
	valid   []bool    // tensors that hold the request's data
	in, out []*Tensor // scratch for one run
	arena   []byte
	pinned  *ort.Buffer // what the arena is in, if it is pinned
	spread  bool
	// In programs with accelerators that have memories of their own.
	abroad []*abroad // by accelerator
	at     *abroad   // where the tensors are; nil for host memory
	inputs []*Tensor // of a request that has not run yet: fresh
	fresh  bool
	lost   error // why the tensors are nowhere
	moving lock  // held while they are brought home after a layer

	// Of the request that an executor runs in it.
	job      int64
	attempts int           // runs of its current layer that failed
	pending  *Pending      // who waits for it, if anybody
	hanging  bool          // a kernel may still write to it
	handing  time.Duration // what the last Run spent on conversions and copies
	kernel   Kernel        // that the last Run ran
	ran      []Ran         // by layer
}

// Ran is what computed a layer of a request, by index.
type Ran struct{ Implementation, Accelerator int }

// NewSlot allocates the tensors of one request; tensors whose lifetimes do not
// overlap share memory.
func (p *Program) NewSlot() (*Slot, error) { return p.newSlot(p.place, p.size, false) }

// NewSpreadSlot allocates tensors that share no memory, but those that a layer
// computes in place: once all layers have run in order, they can be run again
// in any order, in the time that they always take. What they compute then
// means nothing.
func (p *Program) NewSpreadSlot() (*Slot, error) {
	place, size := make([]int64, len(p.tensors)), int64(0)
	for i, t := range p.tensors {
		place[i] = -1
		if p.place[i] < 0 {
			continue
		}
		if _, inPlace := p.shared[i]; inPlace {
			continue
		}
		place[i] = size
		size += (t.Bytes() + alignment - 1) / alignment * alignment
	}
	for i := range p.tensors {
		if p.place[i] < 0 {
			continue
		}
		first := i
		for from, ok := p.shared[first]; ok; from, ok = p.shared[first] {
			first = from
		}
		place[i] = place[first]
	}
	return p.newSlot(place, size, true)
}

func (p *Program) newSlot(place []int64, size int64, spread bool) (*Slot, error) {
	s := &Slot{program: p, tensors: make([]*Tensor, len(p.tensors)), valid: make([]bool, len(p.tensors)), ran: make([]Ran, len(p.Network.Layers)), spread: spread}
	arena, err := s.allocate(size)
	if err != nil {
		return nil, fmt.Errorf("model %q: %w", p.Network.Name, err)
	}
	s.arena = arena
	for i, info := range p.tensors {
		if place[i] < 0 {
			continue
		}
		t, err := NewTensor(info, arena[place[i]:place[i]+info.Bytes()])
		if err != nil {
			s.Close()
			return nil, fmt.Errorf("model %q: %w", p.Network.Name, err)
		}
		s.tensors[i] = t
	}
	if err := s.goAbroad(); err != nil {
		s.Close()
		return nil, fmt.Errorf("model %q: %w", p.Network.Name, err)
	}
	return s, nil
}

// allocate makes the arena, in pinned memory where an accelerator wants that.
func (s *Slot) allocate(size int64) ([]byte, error) {
	for _, stay := range s.program.stays {
		if stay == nil || size == 0 {
			continue
		}
		pinned, err := stay.memory.NewPinned(int(size + alignment))
		if err != nil {
			return nil, err
		}
		if pinned != nil {
			s.pinned = pinned
			return align(pinned.Bytes()), nil
		}
	}
	return align(make([]byte, size+alignment)), nil
}

// touch makes the system provide the slot's memory, which it else does page by
// page when the first request writes there.
func (s *Slot) touch() { clear(s.arena) }

// touchAbroad has the accelerators with memories of their own provide them.
// None of their kernels may run meanwhile.
func (s *Slot) touchAbroad() error {
	for _, a := range s.abroad {
		if a != nil {
			if err := a.open(s.program, s.spread); err != nil {
				return fmt.Errorf("model %q: %w", s.program.Network.Name, err)
			}
		}
	}
	return nil
}

// align is raw from the first multiple of the alignment on.
func align(raw []byte) []byte { return raw[(alignment-address(raw)%alignment)%alignment:] }

// SetInputs starts a request: the slot reads the model's inputs from the given
// tensors, which stay the caller's and may be shared between slots.
func (s *Slot) SetInputs(in []*Tensor) {
	if s.abroad != nil {
		s.inputs, s.fresh = in, true // a worker may yet bring the last request's tensors home
		return
	}
	clear(s.valid)
	for n, i := range s.program.inputs {
		s.tensors[i] = in[n]
		s.valid[i] = true
	}
}

// Run computes one layer of the request on one accelerator. Inputs that an
// earlier layer left in another layout or another memory are converted and
// copied first, on the calling thread.
func (s *Slot) Run(layer, implementation, accelerator int) error {
	p := s.program
	s.kernel = p.kernels[layer][implementation][accelerator]
	ports := p.ports[layer][implementation][accelerator]
	s.in, s.out, s.handing = s.in[:0], s.out[:0], 0
	var there *abroad
	if s.abroad != nil {
		if err := s.begin(layer, accelerator); err != nil {
			return err
		}
		there = s.abroad[accelerator]
	}
	for _, i := range ports.in {
		if there != nil && there.tensors[i] != nil {
			s.in = append(s.in, there.tensors[i])
			continue
		}
		if other := p.twin[i]; !s.valid[i] && other >= 0 && s.valid[other] {
			start := time.Now()
			if err := s.Convert(i); err != nil {
				return err
			}
			s.handing += time.Since(start)
		}
		s.in = append(s.in, s.tensors[i])
	}
	for _, i := range ports.out {
		if there != nil && there.tensors[i] != nil {
			s.out = append(s.out, there.tensors[i])
			continue
		}
		s.out = append(s.out, s.tensors[i])
	}
	if err := s.kernel.Run(s.in, s.out); err != nil {
		return err
	}
	for _, i := range ports.out {
		if there != nil && there.tensors[i] != nil {
			there.valid[i] = true
			continue
		}
		s.valid[i] = true
	}
	s.ran[layer] = Ran{implementation, accelerator}
	return nil
}

// RunBetween is Run of a variant with the conversions that it causes between
// originals on the same accelerator: of inputs that these leave in another
// layout, and of outputs that these read in another. For measuring; the tensors
// must have been computed before.
func (s *Slot) RunBetween(layer, implementation, accelerator int) error {
	p := s.program
	own, original := p.ports[layer][implementation][accelerator], p.ports[layer][0][accelerator]
	for _, i := range own.in {
		if other := p.twin[i]; other >= 0 && p.place[i] >= 0 && s.valid[other] && slices.Contains(original.in, other) {
			s.valid[i] = false
		}
	}
	if err := s.Run(layer, implementation, accelerator); err != nil {
		return err
	}
	for _, i := range own.out {
		if other := p.twin[i]; other >= 0 && slices.Contains(original.out, other) && !slices.Contains(original.out, i) {
			if err := s.Convert(other); err != nil {
				return err
			}
		}
	}
	return nil
}

// Convert makes a tensor from what it is in its other layout.
func (s *Slot) Convert(tensor int) error {
	p := s.program
	if err := p.convert[tensor].Run(s.tensors[p.twin[tensor]].arg[:], s.tensors[tensor].arg[:]); err != nil {
		return fmt.Errorf("model %q: converting %s: %w", p.Network.Name, p.tensors[tensor], err)
	}
	s.valid[tensor] = true
	return nil
}

// Outputs returns the tensors that hold the model's outputs after its last
// layer.
func (s *Slot) Outputs() []*Tensor {
	out := make([]*Tensor, 0, len(s.program.outputs))
	for _, i := range s.program.outputs {
		out = append(out, s.tensors[i])
	}
	return out
}

// Close frees the slot's native values. Input tensors are the caller's.
func (s *Slot) Close() {
	for i, t := range s.tensors {
		if t != nil && s.program.place[i] >= 0 {
			t.Close()
		}
	}
	for _, a := range s.abroad {
		if a != nil {
			a.close()
		}
	}
	s.at = nil
	s.pinned.Close()
}

// Inputs makes a deterministic set of input tensors for the network: random
// values in a range that suits each type.
func (n *Network) Inputs(seed uint64) ([]*Tensor, error) {
	data := models.RandomInputs(n.Model, seed)
	var out []*Tensor
	for i, info := range n.Model.Inputs() {
		t, err := NewTensor(info, data[i])
		if err != nil {
			return nil, fmt.Errorf("model %q: %w", n.Name, err)
		}
		out = append(out, t)
	}
	return out, nil
}

// Reference computes the whole model, not in layers, in an ordinary session and
// returns copies of its outputs.
func (n *Network) Reference(inputs [][]*Tensor) ([][][]byte, error) {
	folder, err := os.MkdirTemp("", "terastal-reference-")
	if err != nil {
		return nil, fmt.Errorf("model %q: %w", n.Name, err)
	}
	defer os.RemoveAll(folder)
	file := filepath.Join(folder, "model.onnx")
	if err := n.Model.WriteFile(file); err != nil {
		return nil, err
	}
	s, err := ort.NewSessionFromFile(file, names(n.Model.Inputs()), names(n.Model.Outputs()), ort.Config{Threads: 1})
	if err != nil {
		return nil, fmt.Errorf("model %q: %w", n.Name, err)
	}
	defer s.Close()
	var all [][][]byte
	for _, set := range inputs {
		in, out := make([]ort.Value, len(set)), make([]ort.Value, len(n.Model.Outputs()))
		for i, t := range set {
			in[i] = t.value
		}
		if err := s.Run(in, out); err != nil {
			return nil, fmt.Errorf("model %q: %w", n.Name, err)
		}
		var results [][]byte
		for _, v := range out {
			b, err := ort.Bytes(v)
			if err != nil {
				return nil, fmt.Errorf("model %q: %w", n.Name, err)
			}
			results = append(results, append([]byte(nil), b...))
			v.Destroy()
		}
		all = append(all, results)
	}
	return all, nil
}

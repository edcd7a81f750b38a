package runtime

import (
	"fmt"

	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/models"
)

// alignment of tensors in an arena: a cache line, and enough for any vector
// load.
const alignment = 64

// Network is a model in layers, as an executor loads it.
type Network struct {
	Name   string
	Model  *models.Model
	Layers []models.Layer
	// Variants[l] are further implementations of layer l, after the original:
	// ONNX models with the same inputs and outputs.
	Variants map[int][]Unit
}

// units returns the implementations of a layer, the original first.
func (n *Network) units(l int) ([]Unit, error) {
	layer := &n.Layers[l]
	data, err := layer.ONNX()
	if err != nil {
		return nil, fmt.Errorf("model %q layer %q: %w", n.Name, layer.Name, err)
	}
	original := Unit{Name: fmt.Sprintf("%s layer %q", n.Name, layer.Name), ONNX: data, Inputs: layer.Inputs, Outputs: layer.Outputs}
	return append([]Unit{original}, n.Variants[l]...), nil
}

// Program is a network prepared on a set of accelerators.
type Program struct {
	Network *Network
	// Refused says, per layer, implementation and accelerator, why it cannot
	// run there; nil where it can.
	Refused [][][]error

	kernels [][][]Kernel // by layer, implementation and accelerator
	tensors []models.Tensor
	place   []int64 // offset in the arena by tensor; -1 for model inputs
	size    int64
	inputs  []int   // the model's inputs among the tensors
	outputs []int   // the model's outputs
	in, out [][]int // by layer
}

// Prepare loads every implementation of every layer on every accelerator.
// progress, if not nil, is called after each.
func Prepare(n *Network, accs []Accelerator, progress func()) (*Program, error) {
	p := &Program{Network: n}
	p.layout()
	for l := range n.Layers {
		units, err := n.units(l)
		if err != nil {
			p.Close()
			return nil, err
		}
		var kernels [][]Kernel
		var refused [][]error
		for _, u := range units {
			ks, errs := make([]Kernel, len(accs)), make([]error, len(accs))
			for k, a := range accs {
				ks[k], errs[k] = a.Prepare(u)
				if progress != nil {
					progress()
				}
			}
			kernels, refused = append(kernels, ks), append(refused, errs)
		}
		p.kernels, p.Refused = append(p.kernels, kernels), append(p.Refused, refused)
		if err := somewhere(refused[0]); err != nil {
			p.Close()
			return nil, fmt.Errorf("model %q layer %q runs on no accelerator: %w", n.Name, n.Layers[l].Name, err)
		}
	}
	return p, nil
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

// layout numbers the boundary tensors and places them in the arena.
func (p *Program) layout() {
	n := p.Network
	offsets, size := models.Buffers(n.Layers, alignment)
	p.size = size
	index := map[string]int{}
	number := func(t models.Tensor) int {
		i, ok := index[t.Name]
		if !ok {
			i = len(p.tensors)
			index[t.Name] = i
			p.tensors = append(p.tensors, t)
			at, placed := offsets[t.Name]
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
	for l := range n.Layers {
		var in, out []int
		for _, t := range n.Layers[l].Inputs {
			in = append(in, number(t))
		}
		for _, t := range n.Layers[l].Outputs {
			out = append(out, number(t))
		}
		p.in, p.out = append(p.in, in), append(p.out, out)
	}
	for _, t := range n.Model.Outputs() {
		p.outputs = append(p.outputs, number(t))
	}
}

// Runs reports whether an implementation of a layer can run on an accelerator.
func (p *Program) Runs(layer, implementation, accelerator int) bool {
	return p.kernels[layer][implementation][accelerator] != nil
}

// Implementations is how many implementations the layer has.
func (p *Program) Implementations(layer int) int { return len(p.kernels[layer]) }

// Close frees all kernels.
func (p *Program) Close() {
	for _, layer := range p.kernels {
		for _, im := range layer {
			for _, k := range im {
				if k != nil {
					k.Close()
				}
			}
		}
	}
	p.kernels = nil
}

// Slot holds the boundary tensors of one request in flight.
type Slot struct {
	program *Program
	tensors []*Tensor
	in, out []*Tensor // scratch for one run
}

// NewSlot allocates the tensors of one request; tensors whose lifetimes do not
// overlap share memory.
func (p *Program) NewSlot() (*Slot, error) { return p.newSlot(p.place, p.size) }

// NewSpreadSlot allocates tensors that share no memory: once all layers have
// run in order, they can be run again in any order.
func (p *Program) NewSpreadSlot() (*Slot, error) {
	place, size := make([]int64, len(p.tensors)), int64(0)
	for i, t := range p.tensors {
		place[i] = -1
		if p.place[i] >= 0 {
			place[i] = size
			size += (t.Bytes() + alignment - 1) / alignment * alignment
		}
	}
	return p.newSlot(place, size)
}

func (p *Program) newSlot(place []int64, size int64) (*Slot, error) {
	s := &Slot{program: p, tensors: make([]*Tensor, len(p.tensors))}
	arena := aligned(size)
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
	return s, nil
}

// aligned allocates size bytes that start at a multiple of the alignment.
func aligned(size int64) []byte {
	raw := make([]byte, size+alignment)
	return raw[(alignment-address(raw)%alignment)%alignment:]
}

// SetInputs makes the slot read the model's inputs from the given tensors,
// which stay the caller's and may be shared between slots.
func (s *Slot) SetInputs(in []*Tensor) {
	for n, i := range s.program.inputs {
		s.tensors[i] = in[n]
	}
}

// Run computes one layer of the request on one accelerator.
func (s *Slot) Run(layer, implementation, accelerator int) error {
	p := s.program
	s.in, s.out = s.in[:0], s.out[:0]
	for _, i := range p.in[layer] {
		s.in = append(s.in, s.tensors[i])
	}
	for _, i := range p.out[layer] {
		s.out = append(s.out, s.tensors[i])
	}
	return p.kernels[layer][implementation][accelerator].Run(s.in, s.out)
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
	data, err := n.Model.ONNX()
	if err != nil {
		return nil, fmt.Errorf("model %q: %w", n.Name, err)
	}
	s, err := ort.NewSession(data, names(n.Model.Inputs()), names(n.Model.Outputs()), ort.Config{Threads: 1})
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

package runtime

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/sched"
)

// alignment of tensors in an arena: a cache line, and enough for any vector load.
const alignment = 64

// Program is a network prepared on a set of accelerators.
type Program struct {
	Network *Network

	accs    []Accelerator
	cells   [][][]cell // by layer, implementation and accelerator
	rows    []int      // by layer: the implementations of those before it; last, of all
	tensors []boundary // every boundary tensor in every layout
	inputs  []int      // the model's inputs among the tensors
	outputs []int      // the model's outputs
	size    int64      // of an arena for the tensors of one request
	devices []*device  // that accelerators have memories on
	streams []*stream  // by accelerator, nil where it computes in host memory; nil if all do

	mu     sync.Mutex
	stuck  map[Kernel]bool // kernels that hang: they must not be closed
	closed bool
	gone   []bool // by accelerator: its kernels are closed
}

// cell is an implementation of a layer on an accelerator.
type cell struct {
	kernel  Kernel // nil where it cannot run
	refused error  // why not
	in, out []int  // the tensors that the kernel reads and writes
	met     uint64 // the run of an executor in which it has run last
	// took is how long it has taken on a device of late, on average; zero if it has not run there. The accelerator's
	// thread uses it.
	took time.Duration
}

// boundary is a tensor between layers, in one layout.
type boundary struct {
	models.Tensor
	place   int64        // offset in the arena; -1 for model inputs
	twin    int          // the tensor in its other layout, or -1
	convert *ort.Session // makes it from its twin
	from    int          // the tensor in whose place it is computed, or -1
	first   int          // the layer that makes it, in any layout
	last    int          // the last layer that reads it; for the model's outputs, the number of layers
}

// Prepare loads every implementation of every layer on every accelerator, the original in the form that suits it.
// progress, if not nil, is called after each.
func Prepare(n *Network, accs []Accelerator, progress func()) (*Program, error) {
	if progress == nil {
		progress = func() {}
	}
	p := &Program{Network: n, accs: accs, gone: make([]bool, len(accs))}
	b := builder{Program: p, forms: map[string][]models.Form{}, index: map[string]int{}, progress: progress}
	if err := b.build(); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// builder makes a program. The optimised models that it holds are large.
type builder struct {
	*Program
	forms    map[string][]models.Form // the layers' forms by level
	index    map[string]int           // of the tensors, by ID
	progress func()
}

func (b *builder) build() error {
	for _, level := range append(b.levels(), models.Portable) {
		if b.forms[level] != nil {
			continue
		}
		forms, err := b.Network.Model.Forms(b.Network.Layers, level)
		if err != nil {
			return fmt.Errorf("model %q: %w", b.Network.Name, err)
		}
		b.forms[level] = forms
	}
	b.layout()
	if err := b.converters(); err != nil {
		return err
	}
	for l := range b.Network.Layers {
		if err := b.load(l); err != nil {
			return err
		}
	}
	b.rows = append(b.rows, 0)
	for l, layer := range b.cells {
		b.rows = append(b.rows, b.rows[l]+len(layer))
	}
	b.lives()
	b.placeOnDevices()
	return nil
}

// levels are the accelerators' optimisation levels.
func (b *builder) levels() []string {
	var out []string
	for _, a := range b.accs {
		out = append(out, a.Level())
	}
	return out
}

// load prepares one layer.
func (b *builder) load(l int) error {
	n := b.Network
	name := n.Layers[l].Name
	cells := make([][]cell, 1+len(n.Variants[l]))
	made := map[string]Unit{}
	var refused error
	for i := range cells {
		for k, a := range b.accs {
			u, err := b.unit(l, i, a.Level(), made)
			if err != nil {
				return err
			}
			u.Model, u.Layer = n.Name, name
			c := cell{in: b.indices(u.Inputs), out: b.indices(u.Outputs)}
			if c.kernel, c.refused = n.prepare(a, u, l, i, k); c.refused != nil {
				refused = c.refused
			}
			cells[i] = append(cells[i], c)
			b.progress()
		}
	}
	b.cells = append(b.cells, cells)
	if !slices.ContainsFunc(cells[0], func(c cell) bool { return c.refused == nil }) {
		return fmt.Errorf("model %q layer %q runs on no accelerator: %w", n.Name, name, refused)
	}
	return nil
}

// unit is an implementation of a layer as accelerators of a level take it; made holds those of the layer made before.
// Variants are the same at all levels.
func (b *builder) unit(l, i int, level string, made map[string]Unit) (u Unit, err error) {
	if i > 0 {
		level = ""
	}
	key := fmt.Sprint(i, level)
	if u, ok := made[key]; ok {
		return u, nil
	}
	if i > 0 {
		u, err = b.Network.variant(l, i-1)
	} else {
		u, err = b.Network.unit(l, &b.forms[level][l])
	}
	made[key] = u
	return u, err
}

func (b *builder) indices(ts []models.Tensor) []int {
	var out []int
	for _, t := range ts {
		out = append(out, b.index[t.ID()])
	}
	return out
}

// chain is every form that may run as each layer. Variants have the portable form's tensors.
func (b *builder) chain() [][]models.Form {
	chain := make([][]models.Form, len(b.Network.Layers))
	for l := range chain {
		levels := b.levels()
		if len(b.Network.Variants[l]) > 0 {
			levels = append(levels, models.Portable)
		}
		for _, level := range slices.Compact(slices.Sorted(slices.Values(levels))) {
			chain[l] = append(chain[l], b.forms[level][l])
		}
	}
	return chain
}

// layout numbers the boundary tensors by ID and places them in the arena.
func (b *builder) layout() {
	n, chain := b.Network, b.chain()
	offsets, size := models.Buffers(chain, alignment)
	b.size = size
	number := func(t models.Tensor) int {
		i, ok := b.index[t.ID()]
		if !ok {
			i = len(b.tensors)
			b.index[t.ID()] = i
			at, placed := offsets[t.ID()]
			if !placed {
				at = -1
			}
			b.tensors = append(b.tensors, boundary{Tensor: t, place: at, twin: -1, from: -1})
		}
		return i
	}
	for _, t := range n.Model.Inputs() {
		b.inputs = append(b.inputs, number(t))
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
					b.tensors[b.index[f.Outputs[o].ID()]].from = b.index[f.Inputs[i].ID()]
				}
			}
		}
	}
	for _, t := range n.Model.Outputs() {
		b.outputs = append(b.outputs, number(t))
	}
	byName := map[string]int{}
	for i := range b.tensors {
		name := b.tensors[i].Name
		if other, ok := byName[name]; ok {
			b.tensors[i].twin, b.tensors[other].twin = other, i
		}
		byName[name] = i
	}
}

// converters loads what makes a tensor from its twin, once for each shape.
func (b *builder) converters() error {
	loaded := map[string]*ort.Session{}
	for i := range b.tensors {
		t := &b.tensors[i]
		if t.twin < 0 || t.place < 0 {
			continue
		}
		from := &b.tensors[t.twin]
		key := fmt.Sprint(from.Block, t.Block, t.Shape)
		if loaded[key] == nil {
			f, err := models.Reorder(from.Tensor, t.Tensor)
			if err != nil {
				return err
			}
			data, err := f.ONNX()
			if err != nil {
				return err
			}
			if loaded[key], err = ort.NewSession(data, nil, nil, ort.Config{Optimization: "none", Threads: 1}); err != nil {
				return fmt.Errorf("model %q: converting %s: %w", b.Network.Name, t, err)
			}
		}
		t.convert = loaded[key]
	}
	return nil
}

// lives computes, for each tensor, the first layer that makes it in any layout
// and the last that reads it, or is the first.
func (b *builder) lives() {
	first, last := map[string]int{}, map[string]int{}
	b.each(func(l, _ int, c *cell) {
		for _, o := range c.out {
			name := b.tensors[o].Name
			if _, made := first[name]; !made {
				first[name], last[name] = l, l
			}
		}
		for _, i := range c.in {
			name := b.tensors[i].Name
			last[name] = max(last[name], l)
		}
	})
	for i := range b.tensors {
		t := &b.tensors[i]
		t.first, t.last = first[t.Name], last[t.Name]
	}
	for _, i := range b.inputs {
		b.tensors[i].first = -1
	}
	for _, i := range b.outputs {
		b.tensors[i].last = len(b.Network.Layers)
	}
}

// each calls f with every implementation of every layer on every accelerator.
func (p *Program) each(f func(layer, accelerator int, c *cell)) {
	for l, layer := range p.cells {
		for _, implementation := range layer {
			for k := range implementation {
				f(l, k, &implementation[k])
			}
		}
	}
}

// Runs reports whether an implementation of a layer can run on an accelerator.
func (p *Program) Runs(layer, implementation, accelerator int) bool {
	return p.cells[layer][implementation][accelerator].kernel != nil
}

// Refused says why an implementation of a layer cannot run on an accelerator; nil where it can.
func (p *Program) Refused(layer, implementation, accelerator int) error {
	return p.cells[layer][implementation][accelerator].refused
}

// Implementations is how many implementations the layer has.
func (p *Program) Implementations(layer int) int { return len(p.cells[layer]) }

// at is what a dispatch runs.
func (p *Program) at(d *sched.Dispatch) *cell {
	return &p.cells[d.Layer][d.Implementation][d.Accelerator]
}

// intact reports whether the inputs of a layer are as they were when an attempt to run it has failed: where it computes
// an output in the memory of an input they are not.
func (p *Program) intact(d *sched.Dispatch) bool {
	c := p.at(d)
	for _, o := range c.out {
		if from := p.tensors[o].from; from >= 0 && slices.Contains(c.in, from) {
			return false
		}
	}
	return true
}

// hang notes that a kernel hangs, or no longer does; one that outlived the program is then closed.
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

// unstick says that nothing hangs on the stream of an accelerator any more.
func (p *Program) unstick(accelerator int) {
	if p.streams != nil && p.streams[accelerator] != nil {
		p.streams[accelerator].stuck.Store(false)
	}
}

// Close frees all kernels but those that hang. The lists stay: a kernel that hangs may still need them.
func (p *Program) Close() {
	for k := range p.accs {
		p.closeOn(k)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.closed = true
	for i := range p.tensors {
		if s := p.tensors[i].convert; s != nil {
			s.Close()
		}
	}
}

// closeOn frees what the program has on an accelerator.
func (p *Program) closeOn(accelerator int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone[accelerator] {
		return
	}
	p.gone[accelerator] = true
	stuck := false
	p.each(func(_, k int, c *cell) {
		if k == accelerator && c.kernel != nil {
			if p.stuck[c.kernel] {
				stuck = true
			} else {
				c.kernel.Close()
			}
		}
	})
	if p.streams != nil && p.streams[accelerator] != nil && !stuck {
		p.streams[accelerator].close()
	}
}

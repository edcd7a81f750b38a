package models

import (
	"bytes"
	"fmt"
	"slices"
	"time"
	"unsafe"

	"github.com/terastal/terastal/internal/ort"
)

// Verification is what Verify found.
type Verification struct {
	Identical  bool    // every output byte is equal
	MaxAbsDiff float64 // largest absolute difference of any output element; see Difference
	MaxRelDiff float64 // the same as a share of the largest magnitude in its tensor
	Argmax     bool    // every output's largest element is at the same place
	WholeMS    float64 // median time of the whole model, milliseconds
	ChainedMS  float64 // median time of all layers in order, milliseconds
	Ratio      float64 // ChainedMS / WholeMS
}

// Holds tells whether the chain counts as equal to the whole model at the given optimisation level: bit-identical
// without optimisation, else within 1e-5 of each output's largest magnitude and with the same largest elements.
func (v Verification) Holds(optimization string) bool {
	if optimization == "none" {
		return v.Identical
	}
	return v.Identical || v.MaxRelDiff <= 1e-5 && v.Argmax
}

const (
	verifyRuns   = 30              // timed runs of each side, interleaved
	verifyBudget = 2 * time.Second // no further timed run starts after it
	arenaAlign   = 64              // a cache line, and what vector loads like best
)

// Verify runs the whole model and the chain of its layers on the same inputs (one []byte per model input, as
// RandomInputs makes them) in CPU sessions of one thread at an optimisation level ("none", "basic", "extended", "all"),
// and compares the outputs. Timed, it also times both, interleaved in this process; else WholeMS, ChainedMS and Ratio
// are 0.
//
// Layers are cut from the basic-optimised model. So that the same arithmetic is compared, level "none" means: layers
// exactly as they are, against the whole model at level "basic". Outputs are then bit-identical.
func Verify(m *Model, layers []Layer, inputs [][]byte, optimization string, timed bool) (Verification, error) {
	whole, err := newWhole(m, inputs, optimization)
	if err != nil {
		return Verification{}, err
	}
	defer whole.close()
	chained, err := newChain(m, layers, inputs, optimization)
	if err != nil {
		return Verification{}, err
	}
	defer chained.close()
	for _, c := range []*chain{whole, chained, whole, chained} { // the second run is the first in steady state
		if err := c.run(nil); err != nil {
			return Verification{}, fail(ErrRuntime, m.source, "%w", err)
		}
	}
	v := Verification{Identical: true, Argmax: true}
	for i, t := range m.outputs {
		d, err := Compare(t.Type, chained.results[i], whole.results[i])
		if err != nil {
			return Verification{}, fail(ErrRuntime, m.source, "output %s: %w", t, err)
		}
		v.Identical = v.Identical && bytes.Equal(chained.results[i], whole.results[i])
		v.MaxAbsDiff, v.MaxRelDiff = max(v.MaxAbsDiff, d.MaxAbs), max(v.MaxRelDiff, d.MaxRel)
		v.Argmax = v.Argmax && d.Argmax
	}
	if timed {
		if err := v.time(whole, chained); err != nil {
			return Verification{}, fail(ErrRuntime, m.source, "%w", err)
		}
	}
	return v, nil
}

// time runs both sides in turn and keeps their medians.
func (v *Verification) time(whole, chained *chain) error {
	var times [2][]time.Duration
	for begin := time.Now(); len(times[0]) == 0 || len(times[0]) < verifyRuns && time.Since(begin) < verifyBudget; {
		for i, side := range []*chain{whole, chained} {
			start := time.Now()
			if err := side.run(nil); err != nil {
				return err
			}
			times[i] = append(times[i], time.Since(start))
		}
	}
	v.WholeMS, v.ChainedMS = median(times[0]).Seconds()*1e3, median(times[1]).Seconds()*1e3
	v.Ratio = v.ChainedMS / v.WholeMS
	return nil
}

func median(times []time.Duration) time.Duration {
	slices.Sort(times)
	return times[len(times)/2]
}

// chain is a sequence of sessions over fixed buffers: the layers of a model,
// or the whole model as a chain of one. Nothing is allocated when it runs.
type chain struct {
	steps   []step
	values  map[string]ort.Value
	buffers map[string][]byte
	results [][]byte // memory of the model's outputs, in order
}

type step struct {
	session *ort.Session
	what    string
	in, out []ort.Value
}

func newWhole(m *Model, inputs [][]byte, optimization string) (*chain, error) {
	if optimization == "none" {
		optimization = basic
	}
	buffers := make(map[string][]byte)
	for _, t := range m.outputs {
		buffers[t.Name] = aligned(t.Bytes())
	}
	open := func(inputs, outputs []string, c ort.Config) (*ort.Session, error) {
		return m.whole.session(maxProtobufSize, inputs, outputs, c) // from memory, as the layers are
	}
	return m.chain(inputs, buffers, []part{{"the whole model", open, m.inputs, m.outputs, optimization}})
}

func newChain(m *Model, layers []Layer, inputs [][]byte, optimization string) (*chain, error) {
	forms, err := m.Forms(layers, optimization)
	if err != nil {
		return nil, err
	}
	offsets, size := Buffers(Chain(forms), arenaAlign)
	arena := aligned(size)
	buffers := make(map[string][]byte)
	parts := make([]part, len(forms))
	for i, f := range forms {
		for _, t := range f.Outputs {
			at, n := offsets[t.ID()], t.Bytes()
			buffers[t.ID()] = arena[at : at+n : at+n]
		}
		open := func(inputs, outputs []string, c ort.Config) (*ort.Session, error) {
			data, err := f.ONNX()
			if err != nil {
				return nil, err
			}
			return ort.NewSession(data, inputs, outputs, c)
		}
		level := optimization
		if f.Optimized {
			level = "none"
		}
		parts[i] = part{fmt.Sprintf("layer %d (%s)", i, layers[i].Name), open, f.Inputs, f.Outputs, level}
	}
	return m.chain(inputs, buffers, parts)
}

// part is what becomes a step of a chain.
type part struct {
	what            string
	open            func(inputs, outputs []string, c ort.Config) (*ort.Session, error)
	inputs, outputs []Tensor
	optimization    string
}

// chain opens the parts on the given buffers and the model's inputs.
func (m *Model) chain(inputs [][]byte, buffers map[string][]byte, parts []part) (*chain, error) {
	if len(inputs) != len(m.inputs) {
		return nil, fail(ErrInput, m.source, "%d inputs given, it takes %d", len(inputs), len(m.inputs))
	}
	c := &chain{values: make(map[string]ort.Value), buffers: buffers}
	for i, t := range m.inputs {
		if int64(len(inputs[i])) != t.Bytes() {
			return nil, fail(ErrInput, m.source, "input %s takes %d bytes, got %d", t, t.Bytes(), len(inputs[i]))
		}
		c.buffers[t.Name] = aligned(t.Bytes())
		copy(c.buffers[t.Name], inputs[i])
	}
	for _, t := range m.outputs {
		c.results = append(c.results, c.buffers[t.Name])
	}
	for _, p := range parts {
		if err := c.add(p); err != nil {
			c.close()
			return nil, fail(ErrRuntime, m.source, "%s: %w", p.what, err)
		}
	}
	return c, nil
}

func (c *chain) add(p part) (err error) {
	s := step{what: p.what}
	if s.in, err = c.bind(p.inputs); err != nil {
		return err
	}
	if s.out, err = c.bind(p.outputs); err != nil {
		return err
	}
	config := ort.Config{Provider: "CPU", Optimization: p.optimization, Threads: 1}
	if s.session, err = p.open(names(p.inputs), names(p.outputs), config); err != nil {
		return err
	}
	c.steps = append(c.steps, s)
	return nil
}

// bind makes the values of tensors, once each.
func (c *chain) bind(tensors []Tensor) (list []ort.Value, err error) {
	for _, t := range tensors {
		v, ok := c.values[t.ID()]
		if !ok {
			if v, err = ort.NewTensor(t.Type, t.Stored(), c.buffers[t.ID()]); err != nil {
				return nil, fmt.Errorf("tensor %s: %w", t, err)
			}
			c.values[t.ID()] = v
		}
		list = append(list, v)
	}
	return list, nil
}

// run runs the steps in order and, where times is given, adds each step's duration.
func (c *chain) run(times []time.Duration) error {
	for i, s := range c.steps {
		start := time.Now()
		if err := s.session.Run(s.in, s.out); err != nil {
			return fmt.Errorf("%s: %w", s.what, err)
		}
		if times != nil {
			times[i] = time.Since(start)
		}
	}
	return nil
}

func (c *chain) close() {
	for _, s := range c.steps {
		s.session.Close()
	}
	for _, v := range c.values {
		v.Destroy()
	}
}

func names(tensors []Tensor) []string {
	list := make([]string, len(tensors))
	for i, t := range tensors {
		list[i] = t.ID()
	}
	return list
}

// aligned allocates memory that starts at a multiple of arenaAlign.
func aligned(size int64) []byte {
	data := make([]byte, size+arenaAlign)
	skip := -int(uintptr(unsafe.Pointer(&data[0]))) & (arenaAlign - 1)
	return data[skip : int64(skip)+size : int64(skip)+size]
}

const costRuns = 5 // timed runs of each layer for granularity auto, after one to warm up

// costly runs op layers on one CPU core and returns the cuts between them that
// are left when neighbours are merged until each group costs at least least.
func (m *Model) costly(layers []Layer, least time.Duration) ([]int, error) {
	c, err := newChain(m, layers, RandomInputs(m, 1), "all")
	if err != nil {
		return nil, err
	}
	defer c.close()
	runs := make([][]time.Duration, costRuns+1)
	for i := range runs {
		runs[i] = make([]time.Duration, len(layers))
		if err := c.run(runs[i]); err != nil {
			return nil, fail(ErrRuntime, m.source, "%w", err)
		}
	}
	var cuts []int
	node, group := 0, time.Duration(0)
	for i, l := range layers {
		var times []time.Duration
		for _, r := range runs[1:] {
			times = append(times, r[i])
		}
		group += median(times)
		node += len(l.nodes)
		if group >= least && i+1 < len(layers) {
			cuts = append(cuts, node)
			group = 0
		}
	}
	if group < least && len(cuts) > 0 {
		cuts = cuts[:len(cuts)-1]
	}
	return cuts, nil
}

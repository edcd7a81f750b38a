package profiler

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/terastal/terastal/runtime"
)

// original names the implementation that every layer has.
const original = "original"

// index finds a profile's cells.
type index struct {
	of []Cell // the cells indexed, in the profile's order
	at map[cellIndex]*Cell
}

// cellIndex are the indices of a cell.
type cellIndex struct{ model, layer, implementation, accelerator int }

func (c *Cell) index() cellIndex { return cellIndex{c.Model, c.Layer, c.Implementation, c.Accelerator} }

// Cell returns the cell with these indices, nil if the profile has no such cell. Profiles that were read, measured,
// imported, merged or selected have an index for it; in one made by hand every call searches.
func (p *Profile) Cell(model, layer, implementation, accelerator int) *Cell {
	cells, _ := p.table() // nil where a cell is missing
	return cells[cellIndex{model, layer, implementation, accelerator}]
}

// Medians lists what an implementation of a layer takes, by accelerator; 0 where it has no time.
func (p *Profile) Medians(model, layer, implementation int) []time.Duration {
	out := make([]time.Duration, len(p.Accelerators))
	cells, _ := p.table()
	for k := range out {
		if c := cells[cellIndex{model, layer, implementation, k}]; c.Measured() {
			out[k] = c.P50
		}
	}
	return out
}

// CellName names a cell.
type CellName struct {
	Model          string `json:"model"`
	Layer          string `json:"layer"`
	Implementation string `json:"implementation"`
	Accelerator    string `json:"accelerator,omitempty"`
}

// Name names a cell of the profile.
func (p *Profile) Name(c *Cell) CellName {
	l := p.layer(c)
	return CellName{p.Models[c.Model].Name, l.Name, l.Implementations[c.Implementation],
		p.Accelerators[c.Accelerator].Name}
}

// layer is the cell's.
func (p *Profile) layer(c *Cell) *Layer { return &p.Models[c.Model].Layers[c.Layer] }

// places are the indices of all cells, by accelerator, then model, layer and implementation.
func (p *Profile) places() iter.Seq[cellIndex] {
	return func(yield func(cellIndex) bool) {
		for k := range p.Accelerators {
			for m := range p.Models {
				for l := range p.Models[m].Layers {
					for i := range p.Models[m].Layers[l].Implementations {
						if !yield(cellIndex{m, l, i, k}) {
							return
						}
					}
				}
			}
		}
	}
}

// fill makes all cells, in order.
func (p *Profile) fill(cell func(cellIndex) Cell) error {
	p.Cells = nil
	for at := range p.places() {
		c := cell(at)
		c.Model, c.Layer, c.Implementation, c.Accelerator = at.model, at.layer, at.implementation, at.accelerator
		p.Cells = append(p.Cells, c)
	}
	return p.arrange()
}

// walk calls f for all cells, in order.
func (p *Profile) walk(f func(*Cell)) error {
	cells, err := p.table()
	if err != nil {
		return fmt.Errorf("profile: %w", err)
	}
	for at := range p.places() {
		f(cells[at])
	}
	return nil
}

// arrange makes the index, once the profile has all its parts.
func (p *Profile) arrange() error {
	at, err := p.table()
	if err != nil {
		return err
	}
	p.cells = index{p.Cells, at}
	return nil
}

// table is the index, made on the spot if these cells have none yet. It fails if a cell is missing, double or out of
// range, or another part of the profile refers to what is not in it.
func (p *Profile) table() (map[cellIndex]*Cell, error) {
	if of := p.cells.of; len(of) > 0 && len(of) == len(p.Cells) && &of[0] == &p.Cells[0] {
		return p.cells.at, nil
	}
	want := 0
	for _, m := range p.Models {
		for l, layer := range m.Layers {
			if len(layer.Implementations) == 0 {
				return nil, fmt.Errorf("layer %d of model %q has no implementation", l, m.Name)
			}
			want += len(layer.Implementations) * len(p.Accelerators)
		}
	}
	out := make(map[cellIndex]*Cell, len(p.Cells))
	for n := range p.Cells {
		c := &p.Cells[n]
		switch {
		case !p.hasLayer(c.Model, c.Layer) || !in(c.Implementation, len(p.layer(c).Implementations)) || !p.has(c.Accelerator):
			return nil, fmt.Errorf("cell %d is of a layer or accelerator that does not exist", n)
		case out[c.index()] != nil:
			return nil, fmt.Errorf("cell %d is there twice", n)
		case c.Measured() && c.P50 <= 0:
			return nil, fmt.Errorf("cell %d has the median %v", n, c.P50)
		case c.Refused == "" && c.N <= 0 && !p.Partial:
			return nil, fmt.Errorf("cell %d was not measured, in a profile that is not marked partial", n)
		}
		out[c.index()] = c
	}
	if len(p.Cells) != want {
		return nil, fmt.Errorf("%d of %d cells are there", len(p.Cells), want)
	}
	return out, p.check()
}

// maxSlowdown is what the simulator takes.
const maxSlowdown = 1000

// check fails if a part other than a cell refers to what is not in the profile, or has a value that cannot be.
func (p *Profile) check() error {
	for n, h := range p.Handoffs {
		if !p.hasLayer(h.Model, h.Layer) || !p.has(h.From, h.To) || h.P50 < 0 {
			return fmt.Errorf("handoff %d is of a layer or accelerator that does not exist, or negative", n)
		}
	}
	for n, x := range p.Interference {
		if !p.has(x.Accelerator, x.Busy) || !(x.Slowdown > -1 && x.Slowdown <= maxSlowdown) {
			return fmt.Errorf("interference %d is of an accelerator that does not exist, or not a slowdown from -1 to %v",
				n, maxSlowdown)
		}
	}
	for n, d := range p.Dispatches {
		if !p.has(d.Accelerator) || d.P50 < 0 || d.P50 > time.Hour {
			return fmt.Errorf("dispatch %d is of an accelerator that does not exist, or not a time", n)
		}
	}
	for n, c := range p.Chains {
		if !in(c.Model, len(p.Models)) || !p.has(c.Accelerator) {
			return fmt.Errorf("chain %d is of a model or accelerator that does not exist", n)
		}
	}
	for n, x := range p.Peaks {
		if !p.has(x.Accelerator) {
			return fmt.Errorf("peak %d is of an accelerator that does not exist", n)
		}
	}
	return p.checkDevices()
}

func in(i, n int) bool { return i >= 0 && i < n }

func (p *Profile) hasLayer(model, layer int) bool {
	return in(model, len(p.Models)) && in(layer, len(p.Models[model].Layers))
}

func (p *Profile) has(accelerators ...int) bool {
	return !slices.ContainsFunc(accelerators, func(k int) bool { return !in(k, len(p.Accelerators)) })
}

// model and accelerator find by name, -1 if there is no such.
func (p *Profile) model(name string) int {
	return slices.IndexFunc(p.Models, func(m Model) bool { return m.Name == name })
}

func (p *Profile) accelerator(name string) int {
	return slices.IndexFunc(p.Accelerators, func(s runtime.Spec) bool { return s.Name == name })
}

// names lists the names of models, or of accelerators.
func names[T any](list []T, name func(T) string) []string {
	var out []string
	for _, x := range list {
		out = append(out, name(x))
	}
	return out
}

func (p *Profile) modelNames() []string {
	return names(p.Models, func(m Model) string { return m.Name })
}

func (p *Profile) acceleratorNames() []string {
	return names(p.Accelerators, func(s runtime.Spec) string { return s.Name })
}

// Latency returns the sum of the layers' medians for a model when each runs on the given accelerator, and false if one
// cannot; with Fastest as the accelerator each runs where it is fastest.
func (p *Profile) Latency(model, accelerator int) (time.Duration, bool) {
	if !in(model, len(p.Models)) {
		return 0, false
	}
	var sum time.Duration
	for l := range p.Models[model].Layers {
		low := time.Duration(0)
		for k, t := range p.Medians(model, l, 0) {
			if (accelerator == Fastest || k == accelerator) && t > 0 && (low == 0 || t < low) {
				low = t
			}
		}
		if low == 0 {
			return 0, false
		}
		sum += low
	}
	return sum, true
}

// Fastest asks for the fastest accelerator of each layer.
const Fastest = -1

// Sums are the sums of the medians of the models' originals, by model and accelerator; 0 where a layer has no time.
func (p *Profile) Sums() [][]time.Duration {
	sums := matrix[time.Duration](len(p.Models), len(p.Accelerators))
	for m := range sums {
		for k := range sums[m] {
			sums[m][k], _ = p.Latency(m, k)
		}
	}
	return sums
}

// Rate is how fast the cell computes, in 1e9 multiply-accumulates per second of its median; false for variants, whose
// MACs the profile does not know, and for layers without any.
func (p *Profile) Rate(c *Cell) (float64, bool) {
	macs := p.layer(c).MACs
	if !c.Measured() || c.Implementation != 0 || macs <= 0 {
		return 0, false
	}
	return float64(macs) / float64(c.P50), true
}

// PeakShare is the cell's rate as a share of what its accelerator reaches on a large matrix product; false where either
// is unknown.
func (p *Profile) PeakShare(c *Cell) (float64, bool) {
	rate, ok := p.Rate(c)
	for _, x := range p.Peaks {
		if ok && x.Accelerator == c.Accelerator && x.GMACs > 0 {
			return rate / x.GMACs, true
		}
	}
	return 0, false
}

// Refusals says, for a model of the profile, what an accelerator cannot run, as runtime.Network.Skip does: also what
// took the measuring process with it.
func (p *Profile) Refusals(model int) func(layer, implementation, accelerator int) error {
	return func(layer, implementation, accelerator int) error {
		if c := p.Cell(model, layer, implementation, accelerator); c != nil && c.Refused != "" {
			return errors.New(c.Refused)
		}
		return nil
	}
}

package models

import (
	"cmp"
	"slices"
)

// Buffers places all tensors that a chain of layers produces into one block of memory: the byte offset of each by its
// ID, every offset a multiple of align, and the block's size. chain[l] are the forms that may run as layer l. Two
// tensors share bytes only if no layer could see both, or if a form computes one in place of the other: a tensor lives,
// in each of its layouts, from the layer that writes it to the last that reads it, and results of the model to the end
// of the chain. Inputs of the model are not placed.
//
// Placement is greedy by size, largest first into the lowest gap that fits (Pisarchyk and Lee, "Efficient Memory
// Management for Deep Neural Net Inference", 2020).
func Buffers(chain [][]Form, align int) (offsets map[string]int64, size int64) {
	spans := lifetimes(chain)
	slices.SortStableFunc(spans, func(a, b *span) int {
		return cmp.Or(cmp.Compare(b.bytes, a.bytes), cmp.Compare(a.from, b.from))
	})
	step := int64(max(align, 1))
	up := func(n int64) int64 { return (n + step - 1) / step * step }
	offsets = make(map[string]int64)
	var placed []*span // by offset
	for _, s := range spans {
		at := int64(0)
		for _, p := range placed {
			if p.to < s.from || s.to < p.from {
				continue
			}
			if p.offset-at >= s.bytes {
				break
			}
			at = max(at, up(p.offset+p.bytes))
		}
		s.offset = at
		for _, id := range s.ids {
			offsets[id] = at
		}
		size = max(size, at+s.bytes)
		where, _ := slices.BinarySearchFunc(placed, at, func(p *span, at int64) int { return cmp.Compare(p.offset, at) })
		placed = slices.Insert(placed, where, s)
	}
	return offsets, size
}

// span is memory for one tensor, or for several of which each is computed in
// place of the one before, and the first and last layer that need it.
type span struct {
	ids      []string
	bytes    int64
	from, to int
	offset   int64
}

func lifetimes(chain [][]Form) []*span {
	last := lastReaders(chain)
	var spans []*span
	at := make(map[string]*span) // by ID
	enter := func(t Tensor, layer int) {
		if _, known := at[t.ID()]; known {
			return
		}
		s := &span{ids: []string{t.ID()}, bytes: t.Bytes(), from: layer, to: max(layer, last[t.Name])}
		at[t.ID()] = s
		spans = append(spans, s)
	}
	born := make(map[string]int)
	for i, forms := range chain {
		for _, f := range forms {
			for _, t := range f.Outputs {
				born[t.Name] = i
				enter(t, i)
			}
		}
	}
	for _, forms := range chain {
		for _, f := range forms {
			for _, t := range f.Inputs { // read in a layout that nobody writes
				if layer, made := born[t.Name]; made {
					enter(t, layer)
				}
			}
		}
	}
	for i, forms := range chain {
		for _, f := range forms {
			for o, input := range f.InPlace {
				if input < 0 || last[f.Inputs[input].Name] != i {
					continue
				}
				from, to := at[f.Inputs[input].ID()], at[f.Outputs[o].ID()]
				if from == nil || from == to || from.bytes != to.bytes ||
					!allInPlace(forms, f.Inputs[input].ID(), f.Outputs[o].ID()) {
					continue
				}
				from.ids, from.to = append(from.ids, to.ids...), to.to
				for _, id := range to.ids {
					at[id] = from
				}
				spans = slices.DeleteFunc(spans, func(s *span) bool { return s == to })
			}
		}
	}
	return spans
}

// allInPlace tells whether every form that reads the one tensor and makes the
// other computes it in place: another could still read what it has overwritten.
func allInPlace(forms []Form, input, output string) bool {
	for _, f := range forms {
		i := slices.IndexFunc(f.Inputs, func(t Tensor) bool { return t.ID() == input })
		o := slices.IndexFunc(f.Outputs, func(t Tensor) bool { return t.ID() == output })
		if i >= 0 && o >= 0 && f.InPlace[o] != i {
			return false
		}
	}
	return true
}

// lastReaders is the last layer that needs each tensor, by name; results of the model are needed after all layers.
func lastReaders(chain [][]Form) map[string]int {
	last := make(map[string]int)
	for i, forms := range chain {
		for _, f := range forms {
			for _, t := range f.Inputs {
				last[t.Name] = max(last[t.Name], i)
			}
			for name := range f.results {
				last[name] = len(chain)
			}
		}
	}
	return last
}

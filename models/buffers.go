package models

import (
	"cmp"
	"slices"
)

// Buffers places all tensors that layers produce into one block of memory:
// the byte offset of each by name, every offset a multiple of align, and the
// block's size. Two tensors share bytes only if no layer could see both: a
// tensor lives from the layer that writes it to the last that reads it, and
// results of the model to the end of the chain. Inputs of the model are not
// placed.
//
// Placement is greedy by size, largest first into the lowest gap that fits
// (Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net
// Inference", 2020).
func Buffers(layers []Layer, align int) (offsets map[string]int64, size int64) {
	spans := lifetimes(layers)
	slices.SortStableFunc(spans, func(a, b span) int {
		return cmp.Or(cmp.Compare(b.bytes, a.bytes), cmp.Compare(a.from, b.from))
	})
	step := int64(max(align, 1))
	up := func(n int64) int64 { return (n + step - 1) / step * step }
	offsets = make(map[string]int64, len(spans))
	var placed []span // by offset
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
		offsets[s.name] = at
		size = max(size, at+s.bytes)
		where, _ := slices.BinarySearchFunc(placed, at, func(p span, at int64) int { return cmp.Compare(p.offset, at) })
		placed = slices.Insert(placed, where, s)
	}
	return offsets, size
}

// span is a tensor's size and the first and last layer that need it.
type span struct {
	name     string
	bytes    int64
	from, to int
	offset   int64
}

func lifetimes(layers []Layer) []span {
	var spans []span
	at := make(map[string]int)
	for i, l := range layers {
		for _, t := range l.Inputs {
			if s, ok := at[t.Name]; ok {
				spans[s].to = max(spans[s].to, i)
			}
		}
		for _, t := range l.Outputs {
			to := i
			if l.results[t.Name] {
				to = len(layers)
			}
			at[t.Name] = len(spans)
			spans = append(spans, span{name: t.Name, bytes: t.Bytes(), from: i, to: to})
		}
	}
	return spans
}

package sched

import (
	"fmt"
	"time"
)

const (
	// never stands for "cannot run there" inside the tables: far above every
	// real time, far below overflow when a few are added.
	never = time.Duration(1) << 60
	// maxLatency bounds a single latency (2.4 hours) so that sums over the layers
	// of a model cannot reach never.
	maxLatency = time.Duration(1) << 43
)

// Tables is a compiled System: dense arrays that policies read without
// following pointers. It is immutable and safe for concurrent use.
type Tables struct {
	system System
	accs   int
	models []modelTable
}

// modelTable holds one model. A row is an implementation of a layer; the rows
// of layer l are row[l] to row[l+1]-1, the original first.
type modelTable struct {
	layers   int
	deadline time.Duration
	row      []int32
	bit      []VariantSet    // by row: the variant's bit, 0 for the original
	latency  []time.Duration // by row x accelerator
	handoff  []time.Duration // by layer x from x to; nil when all are free
	virtual  []time.Duration // by layer: budgets summed up to and including it
	remain   []time.Duration // by layer: fastest originals from it on, 0 at the end
	best     []time.Duration // the same with variants: a lower bound
	valid    []uint64        // bitmap over variant sets
	budgets  Budgets
}

// Compile validates the system and builds its tables, Algorithm 1's budgets
// included.
func Compile(s System) (*Tables, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	t := &Tables{system: s, accs: len(s.Accelerators), models: make([]modelTable, len(s.Models))}
	for i := range s.Models {
		if err := t.models[i].compile(&s.Models[i], t.accs); err != nil {
			return nil, fmt.Errorf("model %q: %w", s.Models[i].Name, err)
		}
	}
	return t, nil
}

func (t *modelTable) compile(m *Model, accs int) error {
	n := len(m.Layers)
	*t = modelTable{layers: n, deadline: m.Deadline,
		row: make([]int32, 1, n+1), virtual: make([]time.Duration, n),
		remain: make([]time.Duration, n+1), best: make([]time.Duration, n+1)}
	for l := range m.Layers {
		layer := &m.Layers[l]
		for i, im := range layer.Implementations {
			var bit VariantSet
			if i > 0 {
				bit = 1 << (im.Variant - 1)
			}
			t.bit = append(t.bit, bit)
			for _, c := range im.Latency {
				if c == Unavailable {
					c = never
				}
				t.latency = append(t.latency, c)
			}
		}
		t.row = append(t.row, int32(len(t.bit)))
		if layer.Handoff != nil && t.handoff == nil {
			t.handoff = make([]time.Duration, n*accs*accs)
		}
		for from, costs := range layer.Handoff {
			copy(t.handoff[(l*accs+from)*accs:], costs)
		}
	}
	for l := n - 1; l >= 0; l-- {
		lo, hi := int(t.row[l])*accs, int(t.row[l+1])*accs
		t.remain[l] = t.remain[l+1] + smallest(t.latency[lo:lo+accs])
		t.best[l] = t.best[l+1] + smallest(t.latency[lo:hi])
	}
	b, err := ComputeBudgets(m)
	if err != nil {
		return err
	}
	t.budgets = b
	var sum time.Duration
	for l, x := range b.Layer {
		sum += x
		t.virtual[l] = sum
	}
	t.valid = make([]uint64, (1<<m.Variants+63)/64)
	t.valid[0] |= 1
	for _, v := range m.Valid {
		t.valid[v/64] |= 1 << (v % 64)
	}
	return nil
}

func smallest(xs []time.Duration) time.Duration {
	low := never
	for _, x := range xs {
		low = min(low, x)
	}
	return low
}

// System returns the system the tables were compiled from. It must not be
// changed.
func (t *Tables) System() *System { return &t.system }

// Budgets returns the result of Algorithm 1 for a model.
func (t *Tables) Budgets(model int) Budgets { return t.models[model].budgets }

// allowed reports whether a request that has used the given variants may also
// use the one with this bit.
func (t *modelTable) allowed(used, bit VariantSet) bool {
	s := used | bit
	return t.valid[s/64]>>(s%64)&1 != 0
}

// cost is the time from the start of the row on accelerator k to its end for a
// job whose tensors lie where the job says: handoff plus latency. It is at
// least never when the accelerator cannot run the row.
func (t *Tables) cost(m *modelTable, j *Job, row, k int) time.Duration {
	c := m.latency[row*t.accs+k]
	if m.handoff != nil && j.At >= 0 {
		c += m.handoff[(int(j.Layer)*t.accs+int(j.At))*t.accs+k]
	}
	return c
}

// virtualDeadline is the instant by which the job's current layer has to end
// to stay within the budgets, scaled to the job's real window.
func (m *modelTable) virtualDeadline(j *Job) time.Duration {
	v := m.virtual[j.Layer]
	if window := j.Deadline - j.Release; window != m.deadline {
		v = time.Duration(float64(v) * (float64(window) / float64(m.deadline)))
	}
	return j.Release + v
}

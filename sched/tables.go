package sched

import (
	"fmt"
	"math/bits"
	"time"
)

const (
	// never stands for "cannot run there" inside the tables: far above every
	// real time, far below overflow when a few are added.
	never = time.Duration(1) << 60
	// maxLatency bounds a single latency (2.4 hours) so that sums over the layers
	// of a model cannot reach never.
	maxLatency = time.Duration(1) << 43
	// maxDeadline bounds a relative deadline (9 years) so that instants plus it
	// cannot overflow.
	maxDeadline = never / 4
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
	selected []time.Duration // by layer: the latencies they are proportional to, summed likewise
	remain   []time.Duration // by layer: fastest originals from it on, 0 at the end
	best     []time.Duration // the same with variants: a lower bound
	mean     []float64       // the same for the originals' mean over accelerators, in nanoseconds
	valid    []uint64        // bitmap over variant sets; nil with a bound
	loss     []float64       // by variant, with a bound
	maxLoss  float64
	triggers []trigger // the models that this one's completions release
	budgets  Budgets
}

// trigger is a dependent model and how likely it is released.
type trigger struct {
	model       int
	probability float64
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
	for i := range s.Models {
		if tr := s.Models[i].Trigger; tr != nil {
			parent := &t.models[s.index(tr.Parent)]
			parent.triggers = append(parent.triggers, trigger{i, tr.Probability})
		}
	}
	return t, nil
}

func (t *modelTable) compile(m *Model, accs int) error {
	n := len(m.Layers)
	*t = modelTable{layers: n, deadline: m.Deadline,
		row: make([]int32, 1, n+1), virtual: make([]time.Duration, n), selected: make([]time.Duration, n),
		remain: make([]time.Duration, n+1), best: make([]time.Duration, n+1), mean: make([]float64, n+1)}
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
	t.sumUp(accs, n-1)
	b, err := ComputeBudgets(m)
	if err != nil {
		return err
	}
	t.budgets = b
	var budget, selected time.Duration
	for l := range b.Layer {
		budget += b.Layer[l]
		selected += b.Selected[l]
		t.virtual[l], t.selected[l] = budget, selected
	}
	if m.Loss != nil {
		t.loss, t.maxLoss = m.Loss, m.MaxLoss
		return nil
	}
	t.valid = make([]uint64, (1<<m.Variants+63)/64)
	t.valid[0] |= 1
	for _, v := range m.Valid {
		t.valid[v/64] |= 1 << (v % 64)
	}
	return nil
}

// sumUp computes the sums over remaining layers from layer l down to the first,
// or to where they no longer change.
func (m *modelTable) sumUp(accs, l int) {
	for ; l >= 0; l-- {
		lo, hi := int(m.row[l])*accs, int(m.row[l+1])*accs
		remain := m.remain[l+1] + smallest(m.latency[lo:lo+accs])
		best := m.best[l+1] + smallest(m.latency[lo:hi])
		mean := m.mean[l+1] + average(m.latency[lo:lo+accs])
		if remain == m.remain[l] && best == m.best[l] && mean == m.mean[l] {
			return
		}
		m.remain[l], m.best[l], m.mean[l] = remain, best, mean
	}
}

// average is over the accelerators that run it, of which there is one at least.
func average(xs []time.Duration) float64 {
	sum, n := 0.0, 0.0
	for _, x := range xs {
		if x < never {
			sum, n = sum+float64(x), n+1
		}
	}
	return sum / n
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
	if bit == 0 {
		return true // the original uses no variant, and used is valid already
	}
	s := used | bit
	if t.valid == nil {
		return t.bounded(s)
	}
	return t.valid[s/64]>>(s%64)&1 != 0
}

// bounded reports whether the losses of the set's variants are within the bound.
func (t *modelTable) bounded(s VariantSet) bool {
	sum := 0.0
	for ; s != 0; s &= s - 1 {
		sum += t.loss[bits.TrailingZeros64(uint64(s))]
	}
	return sum <= t.maxLoss
}

// EffectiveRates are the releases per second of every model when those without
// a trigger are released at the given rates and every request completes.
func (t *Tables) EffectiveRates(rates []float64) []float64 {
	out := append([]float64(nil), rates...)
	for i := range t.system.Models {
		if t.system.Models[i].Trigger == nil {
			continue
		}
		rate := 1.0
		m := i
		for tr := t.system.Models[m].Trigger; tr != nil; tr = t.system.Models[m].Trigger {
			rate *= tr.Probability
			m = t.system.index(tr.Parent)
		}
		out[i] = rate * rates[m]
	}
	return out
}

// cost is the time from the start of the row on accelerator k to its end for a
// job whose tensors lie where the job says: handoff plus latency. It is at
// least never when the accelerator cannot run the row.
func (t *Tables) cost(m *modelTable, j *Job, row, k int) time.Duration {
	latency, handoff := t.costs(m, j, row)
	if handoff != nil {
		return latency[k] + handoff[k]
	}
	return latency[k]
}

// costs are the two parts of cost on every accelerator; handoff is nil where
// it is free.
func (t *Tables) costs(m *modelTable, j *Job, row int) (latency, handoff []time.Duration) {
	latency = m.latency[row*t.accs:][:t.accs]
	if m.handoff != nil && j.At >= 0 {
		handoff = m.handoff[(int(j.Layer)*t.accs+int(j.At))*t.accs:][:t.accs]
	}
	return latency, handoff
}

// Cost is how long the tables say that a dispatched layer takes, handoff
// included.
func (t *Tables) Cost(d Dispatch) time.Duration {
	m := &t.models[d.Model]
	j := Job{Model: int32(d.Model), Layer: int32(d.Layer), At: int32(d.From)}
	return t.cost(m, &j, int(m.row[d.Layer])+d.Implementation, d.Accelerator)
}

// virtualDeadline is the instant by which the job's current layer has to end
// to stay within the budgets, scaled to the job's real window.
func (m *modelTable) virtualDeadline(j *Job) time.Duration {
	v := m.virtual[j.Layer]
	if window := j.Deadline - j.Release; window != m.deadline {
		v = proportion(max(0, window), m.selected[j.Layer], m.selected[m.layers-1])
	}
	return j.Release + v
}

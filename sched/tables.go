package sched

import (
	"fmt"
	"math/bits"
	"slices"
	"time"
)

const (
	// Never as a latency or a cost in tables says that the accelerator cannot run the implementation: it is far above
	// every real time, and a few can be added without an overflow.
	Never = time.Duration(1) << 60
	// maxLatency bounds a single latency (2.4 hours) so that sums over the layers of a model cannot reach Never.
	maxLatency = time.Duration(1) << 43
	// maxDeadline bounds a relative deadline (9 years) so that instants plus it cannot overflow.
	maxDeadline = Never / 4
)

// Tables is a compiled System: dense arrays that policies read without
// following pointers. It is immutable and safe for concurrent use.
type Tables struct {
	system System
	accs   int
	models []ModelTable
}

// ModelTable holds one model, for policies to look up. Layers and
// implementations are indices, the original is implementation 0.
//
// Inside, a row is an implementation of a layer; the rows of layer l are row[l] to row[l+1]-1.
type ModelTable struct {
	layers   int
	deadline time.Duration
	row      []int32
	bit      []VariantSet    // by row: the variant's bit, 0 for the original
	latency  []time.Duration // by row x accelerator
	handoff  []time.Duration // by layer x from x to; nil when all are free
	virtual  []time.Duration // by layer: budgets summed up to and including it
	selected []time.Duration // by layer: the latencies they are proportional to, summed likewise
	remain   []time.Duration // by layer x place: least time from it on, originals, 0 at the end; see Left
	best     []time.Duration // the same with variants: a lower bound
	places   int             // where a layer's inputs may lie: 1, anywhere, if handoffs are free, else on each accelerator too
	mean     []float64       // the same for the originals' mean over accelerators, in nanoseconds
	valid    []uint64        // bitmap over variant sets; nil with a bound
	loss     []float64       // by variant, with a bound
	maxLoss  float64
	triggers []trigger // the models that this one's completions release
	budgets  Budgets
	accs     int
}

// trigger is a dependent model and how likely it is released.
type trigger struct {
	model       int
	probability float64
}

// Compile validates the system and builds its tables, Algorithm 1's budgets included.
func Compile(s System) (*Tables, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	t := &Tables{system: s, accs: len(s.Accelerators), models: make([]ModelTable, len(s.Models))}
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

func (t *ModelTable) compile(m *Model, accs int) error {
	n := len(m.Layers)
	*t = ModelTable{accs: accs, layers: n, deadline: m.Deadline, places: 1,
		row: make([]int32, 1, n+1), virtual: make([]time.Duration, n), selected: make([]time.Duration, n),
		mean: make([]float64, n+1)}
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
					c = Never
				}
				t.latency = append(t.latency, c)
			}
		}
		t.row = append(t.row, int32(len(t.bit)))
		if layer.Handoff != nil && t.handoff == nil {
			t.handoff, t.places = make([]time.Duration, n*accs*accs), 1+accs
		}
		for from, costs := range layer.Handoff {
			copy(t.handoff[(l*accs+from)*accs:], costs)
		}
	}
	t.remain, t.best = make([]time.Duration, (n+1)*t.places), make([]time.Duration, (n+1)*t.places)
	t.sumUp(n - 1)
	var err error
	if t.budgets, err = ComputeBudgets(m); err != nil {
		return err
	}
	var budget, selected time.Duration
	for l, b := range t.budgets.Layer {
		budget, selected = budget+b, selected+t.budgets.Selected[l]
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

// sumUp computes the sums over remaining layers from layer l down to the first, or to where they no longer change.
func (m *ModelTable) sumUp(l int) {
	for ; l >= 0; l-- {
		lo, hi := int(m.row[l])*m.accs, int(m.row[l+1])*m.accs
		changed := m.extend(m.remain, l, m.latency[lo:lo+m.accs])
		changed = m.extend(m.best, l, m.latency[lo:hi]) || changed
		mean := m.mean[l+1] + average(m.latency[lo:lo+m.accs])
		if !changed && mean == m.mean[l] {
			return
		}
		m.mean[l] = mean
	}
}

// extend puts layer l, whose implementations take so long, in front of the shortest paths after it, and reports whether
// they changed.
func (m *ModelTable) extend(paths []time.Duration, l int, latency []time.Duration) (changed bool) {
	var on [MaxAccelerators]time.Duration // from its start there
	for k := range m.accs {
		on[k] = Never
		for i := k; i < len(latency); i += m.accs {
			on[k] = min(on[k], latency[i])
		}
		on[k] += paths[m.place(int32(l+1), int32(k))]
	}
	for at := range m.places {
		least := slices.Min(on[:m.accs])
		if at > 0 {
			least = Never
			for k, h := range m.handoff[(l*m.accs+at-1)*m.accs:][:m.accs] {
				least = min(least, h+on[k])
			}
		}
		if x := &paths[l*m.places+at]; *x != least {
			*x, changed = least, true
		}
	}
	return changed
}

// place is where paths from a layer on are, by the accelerator where its inputs lie.
func (m *ModelTable) place(layer, at int32) int {
	if m.places == 1 {
		return int(layer)
	}
	return int(layer)*m.places + int(at) + 1
}

// average is over the accelerators that run it, of which there is one at least.
func average(xs []time.Duration) float64 {
	sum, n := 0.0, 0.0
	for _, x := range xs {
		if x < Never {
			sum, n = sum+float64(x), n+1
		}
	}
	return sum / n
}

// System returns the system the tables were compiled from. It must not be changed.
func (t *Tables) System() *System { return &t.system }

// Budgets returns the result of Algorithm 1 for a model.
func (t *Tables) Budgets(model int) Budgets { return t.models[model].budgets }

// Model returns the table of a model.
func (t *Tables) Model(model int32) *ModelTable { return &t.models[model] }

// Layers is how many layers the model has.
func (m *ModelTable) Layers() int { return m.layers }

// Deadline is the model's relative deadline.
func (m *ModelTable) Deadline() time.Duration { return m.deadline }

// Implementations is how many implementations a layer has, the original included.
func (m *ModelTable) Implementations(layer int32) int32 { return m.row[layer+1] - m.row[layer] }

// Variant is the set of the one variant that an implementation is; it is empty for the original.
func (m *ModelTable) Variant(layer, implementation int32) VariantSet {
	return m.bit[m.row[layer]+implementation]
}

// Allowed reports whether a request that has used the given variants, a valid set, may also use this one.
func (m *ModelTable) Allowed(used, variant VariantSet) bool {
	if variant == 0 {
		return true // the original uses no variant, and used is valid already
	}
	s := used | variant
	if m.valid == nil {
		return m.bounded(s)
	}
	return m.valid[s/64]>>(s%64)&1 != 0
}

// bounded reports whether the losses of the set's variants are within the bound.
func (m *ModelTable) bounded(s VariantSet) bool {
	sum := 0.0
	for ; s != 0; s &= s - 1 {
		sum += m.loss[bits.TrailingZeros64(uint64(s))]
	}
	return sum <= m.maxLoss
}

// Latency is how long an implementation takes on every accelerator, without
// handoff; at least [Never] where it cannot run. It must not be changed.
func (m *ModelTable) Latency(layer, implementation int32) []time.Duration {
	return m.latency[int(m.row[layer]+implementation)*m.accs:][:m.accs]
}

// Handoff is the time to make the inputs of a job's current layer usable on
// every accelerator; nil where that is free. It must not be changed.
func (m *ModelTable) Handoff(j *Job) []time.Duration {
	if m.handoff == nil || j.At < 0 {
		return nil
	}
	return m.handoff[(int(j.Layer)*m.accs+int(j.At))*m.accs:][:m.accs]
}

// Cost is the time from the start of an implementation of a job's current layer on accelerator k to its end: handoff
// plus latency. It is at least [Never] where it cannot run.
func (m *ModelTable) Cost(j *Job, implementation int32, k int) time.Duration {
	cost := m.latency[int(m.row[j.Layer]+implementation)*m.accs+k]
	if handoff := m.Handoff(j); handoff != nil {
		cost += handoff[k]
	}
	return cost
}

// Left is how long the layers from this one on take at the least, by their originals, when its inputs lie at an
// accelerator: a shortest path over accelerators, handoffs included. At [Idle] they lie wherever that is best.
func (m *ModelTable) Left(layer, at int32) time.Duration { return m.remain[m.place(layer, at)] }

// LeastLeft is Left with whatever variants: a lower bound.
func (m *ModelTable) LeastLeft(layer, at int32) time.Duration { return m.best[m.place(layer, at)] }

// Remaining is Left wherever its inputs lie.
func (m *ModelTable) Remaining(layer int32) time.Duration { return m.Left(layer, Idle) }

// MeanRemaining is how long the originals from this layer on take on the mean
// over the accelerators that run each, in nanoseconds.
func (m *ModelTable) MeanRemaining(layer int32) float64 { return m.mean[layer] }

// VirtualDeadline is the instant by which the job's current layer has to end
// to stay within the budgets, scaled to the job's real window.
func (m *ModelTable) VirtualDeadline(j *Job) time.Duration {
	v := m.virtual[j.Layer]
	if window := j.Deadline - j.Release; window != m.deadline {
		v = proportion(max(0, window), m.selected[j.Layer], m.selected[m.layers-1])
	}
	return j.Release + v
}

// Cost is how long the tables say that a dispatched layer takes, handoff included.
func (t *Tables) Cost(d Dispatch) time.Duration {
	return t.models[d.Model].Cost(&Job{Layer: int32(d.Layer), At: int32(d.From)}, int32(d.Implementation), d.Accelerator)
}

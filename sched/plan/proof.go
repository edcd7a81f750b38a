package plan

import (
	"slices"

	"github.com/terastal/terastal/sched"
)

// Proof is the accuracy of combinations of a model's variants, on some data. Variants are numbered as the scheduler
// does: in the order of layers, and of the variants of a layer.
type Proof struct {
	// Arithmetic is what became of 8-bit products where accuracy was measured: exact or saturating, see
	// variants.Arithmetic. Absent where nothing was measured, or it was not known.
	Arithmetic string `json:"arithmetic,omitempty"`
	// Device names the graphics processors that variants for one provider were computed on. Absent without such.
	Device string `json:"device,omitempty"`
	// Metric is what accuracy means; Data what it was measured on.
	Metric   string `json:"metric"`
	Data     string `json:"data"`
	Requests int    `json:"requests"`
	// Baseline is the accuracy without variants.
	Baseline float64 `json:"baseline"`
	// Sets are the combinations measured and Accuracy theirs as a share of the
	// baseline. Exhaustive is true when these are all.
	Sets       []sched.VariantSet `json:"sets,omitempty"`
	Accuracy   []float64          `json:"accuracy,omitempty"`
	Exhaustive bool               `json:"exhaustive,omitempty"`
	// StandardError is that of each Accuracy: of the share of the baseline, both measured on the same requests. Absent
	// where it is unknown.
	StandardError []float64 `json:"standard_error,omitempty"`
	// Loss is, where not all were measured, what each variant costs at most: the losses of the variants of every
	// combination that was measured sum to at least what it lost.
	Loss []float64 `json:"loss,omitempty"`
}

// BoundLosses makes each variant's loss so large that no measured combination lost more than the sum of its variants'
// losses: the loss alone, then shares of what a combination lost beyond, the smallest combinations first.
func (p *Proof) BoundLosses(variants int) {
	p.Loss = make([]float64, variants)
	order := make([]int, len(p.Sets))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return p.Sets[a].Len() - p.Sets[b].Len() })
	for _, i := range order {
		s := p.Sets[i]
		lost, sum := 1-p.Accuracy[i], p.Bound(s)
		if s == 0 || lost <= sum {
			continue
		}
		for v := range p.Loss {
			if s>>v&1 != 0 {
				p.Loss[v] += (lost - sum) / float64(s.Len())
			}
		}
	}
}

// Bound is the sum of the losses of a combination.
func (p *Proof) Bound(s sched.VariantSet) float64 {
	sum := 0.0
	for v, x := range p.Loss {
		if s>>v&1 != 0 {
			sum += x
		}
	}
	return sum
}

// Of is the normalised accuracy that was measured for a combination; false if it was not.
func (p *Proof) Of(s sched.VariantSet) (float64, bool) {
	if i := slices.Index(p.Sets, s); i >= 0 {
		return p.Accuracy[i], true
	}
	return 0, false
}

// Allow lets the scheduler use the combinations whose normalised accuracy is at
// least theta: those measured, or all that a bound allows.
func (p *Proof) Allow(m *sched.Model, theta float64) {
	m.Valid, m.Accuracy, m.AccuracyError, m.Loss, m.MaxLoss = nil, nil, nil, nil, 0
	if m.Variants == 0 {
		return
	}
	if !p.Exhaustive {
		m.Loss, m.MaxLoss = slices.Clone(p.Loss), 1-theta
		return
	}
	for i, s := range p.Sets {
		if s == 0 || p.Accuracy[i] >= theta {
			m.Valid, m.Accuracy = append(m.Valid, s), append(m.Accuracy, p.Accuracy[i])
			if p.known() {
				m.AccuracyError = append(m.AccuracyError, p.StandardError[i])
			}
		}
	}
}

// known reports whether the standard errors are.
func (p *Proof) known() bool { return len(p.StandardError) > 0 && len(p.StandardError) == len(p.Sets) }

// Promise makes floor the accuracy floor of a model that may use variants: what the mean over its finished requests
// keeps; see [sched.Model.Floor]. To others there is nothing to promise.
func Promise(m *sched.Model, floor float64) {
	m.Floor = 0
	if len(m.Loss) > 0 || slices.ContainsFunc(m.Valid, func(s sched.VariantSet) bool { return s != 0 }) {
		m.Floor = floor
	}
}

// Without leaves out variants, by index, and the combinations that use them; the others are numbered again.
func (p *Proof) Without(drop map[int]bool, variants int) *Proof {
	out := *p
	out.Sets, out.Accuracy, out.StandardError, out.Loss = nil, nil, nil, nil
	for n, s := range p.Sets {
		var left sched.VariantSet
		kept, uses := 0, false
		for i := range variants {
			if drop[i] {
				uses = uses || s>>i&1 != 0
				continue
			}
			left |= s >> i & 1 << kept
			kept++
		}
		if !uses {
			out.Sets, out.Accuracy = append(out.Sets, left), append(out.Accuracy, p.Accuracy[n])
			if p.known() {
				out.StandardError = append(out.StandardError, p.StandardError[n])
			}
		}
	}
	for i, x := range p.Loss {
		if !drop[i] {
			out.Loss = append(out.Loss, x)
		}
	}
	return &out
}

// Prune chooses variants to leave out, besides those dropped already and never those to keep, until all that are left
// together keep the given share of the accuracy, and returns with each what they left before it went. One after the
// other, it is the one without which most is left. With a bound, combinations that were not measured count with theirs.
func (p *Proof) Prune(keep, drop map[int]bool, variants int, least float64) map[int]float64 {
	var all, free sched.VariantSet
	for i := range variants {
		if !drop[i] {
			all |= 1 << i
		}
		if !drop[i] && !keep[i] {
			free |= 1 << i
		}
	}
	out := map[int]float64{}
	for free != 0 && p.Together(all) < least {
		best := -1
		for i := range variants {
			if free>>i&1 != 0 && (best < 0 || p.Together(all&^(1<<i)) > p.Together(all&^(1<<best))) {
				best = i
			}
		}
		out[best] = p.Together(all)
		all, free = all&^(1<<best), free&^(1<<best)
	}
	return out
}

// Together is the least accuracy of the combinations out of s that use most of its variants, of which a layer can have
// one: that of s itself where it has no two of a layer. Where not all were measured, it is what the bound allows.
func (p *Proof) Together(s sched.VariantSet) float64 {
	if a, measured := p.Of(s); measured {
		return a
	}
	if !p.Exhaustive {
		return 1 - p.Bound(s)
	}
	most, least := 0, 1.0
	for i, t := range p.Sets {
		if t&^s != 0 || t.Len() < most {
			continue
		}
		if t.Len() > most {
			most, least = t.Len(), p.Accuracy[i]
		}
		least = min(least, p.Accuracy[i])
	}
	return least
}

// Largest is the combination that uses most variants of those measured, and its
// accuracy; none, and 1, where nothing was measured.
func (p *Proof) Largest() (largest sched.VariantSet, accuracy float64) {
	accuracy = 1
	for i, s := range p.Sets {
		if s.Len() > largest.Len() {
			largest, accuracy = s, p.Accuracy[i]
		}
	}
	return largest, accuracy
}

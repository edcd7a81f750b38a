package session

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/fluid"
	"github.com/terastal/terastal/sched/plan"
)

// variantsBuy adds what variants reach, over originals layer by layer, and says it.
func (j *judge) variantsBuy(originals fluid.Capacity) error {
	used := 0
	for i := range j.system.Models {
		used += j.system.Models[i].Variants
	}
	every := j.withCandidates()
	if used == 0 && every.measured == 0 {
		j.out.Variants = "What layer variants would buy is not known here: `terastal variants design` measures candidates."
		return nil
	}
	var parts []string
	if used > 0 {
		name, which, at := "layer by layer with the variants in use", "in use", "at the accuracy floors as configured"
		s, floors := j.system, fluid.FloorsOf(j.tables)
		switch {
		case !j.known():
			s, floors = anyVariants(s), fluid.Same(j.tables, 0)
			name, which, at = "layer by layer with the variants measured", "measured", "whatever accuracy that leaves"
		case floors == nil:
			floors, at = fluid.Same(j.tables, 0), "in every combination that is valid"
		}
		c, err := j.capacityAt(s, floors)
		if err != nil {
			return err
		}
		j.add(name, c)
		parts = append(parts, fmt.Sprintf("The layer variants %s (%d) raise the capacity to at most %.2f times that of the "+
			"originals%s, %s.", which, used, c.Bound/originals.Scale, j.overWhole(c), at))
	}
	if every.measured > 0 {
		c, err := j.capacityAt(every.system, j.floorsOf(&every.system))
		if err != nil {
			return err
		}
		j.add("layer by layer with every candidate", c)
		text := fmt.Sprintf("All candidates that were measured (%d) would raise it to at most %.2f times%s", every.measured,
			c.Bound/originals.Scale, j.overWhole(c))
		if every.unknown > 0 {
			text += fmt.Sprintf(", if those of unknown accuracy (%d) lost nothing", every.unknown)
		}
		if every.left > 0 {
			text += fmt.Sprintf("; %d of later layers are left out: it takes %d of a model at most", every.left,
				sched.MaxBoundedVariants)
		}
		parts = append(parts, text+".")
	}
	j.out.Variants = strings.Join(parts, " ")
	return nil
}

// overWhole is a capacity in times that of whole models, in brackets; nothing where these cannot be served.
func (j *judge) overWhole(c fluid.Capacity) string {
	if j.out.High == 0 {
		return ""
	}
	return fmt.Sprintf(" (%.2f times what whole models can)", c.Bound/j.out.Reaches[0].Scale)
}

// known reports whether the plan says which variants may be used together.
func (j *judge) known() bool {
	return slices.ContainsFunc(j.system.Models, func(m sched.Model) bool { return len(m.Valid) > 0 || m.Loss != nil })
}

func (j *judge) capacityAt(s sched.System, floors []float64) (fluid.Capacity, error) {
	t, err := sched.Compile(s)
	if err != nil {
		return fluid.Capacity{}, err
	}
	return fluid.CapacityAt(t, j.rates, floors)
}

// floorsOf are the models' floors, 0 for those that promise nothing and have variants.
func (j *judge) floorsOf(s *sched.System) []float64 {
	return mapped(s.Models, func(m sched.Model) float64 {
		if m.Variants == 0 {
			return 1
		}
		return m.Floor
	})
}

// anyVariants is a system in which a request may use any variants together.
func anyVariants(s sched.System) sched.System {
	s.Models = slices.Clone(s.Models)
	for i := range s.Models {
		m := &s.Models[i]
		m.Valid, m.Accuracy, m.AccuracyError = nil, nil, nil
		if m.Variants > 0 {
			m.Loss, m.MaxLoss = make([]float64, m.Variants), 1
		}
	}
	return s
}

// everyCandidate is a system with every candidate for a variant that was measured, each with its own loss and no limit on
// what a single request loses.
type everyCandidate struct {
	system   sched.System
	measured int // how many there are
	unknown  int // of how many the accuracy is not known: they lose nothing here
	left     int // how many a system has no room for
}

func (j *judge) withCandidates() (every everyCandidate) {
	s := j.system
	s.Models = slices.Clone(s.Models)
	for i := range j.variants {
		v := &j.variants[i]
		at := slices.IndexFunc(s.Models, func(m sched.Model) bool { return m.Name == v.Model })
		if at < 0 || v.Off {
			continue
		}
		m := &s.Models[at]
		m.Layers = slices.Clone(m.Layers)
		m.Variants, m.Valid, m.Accuracy, m.AccuracyError, m.Loss, m.MaxLoss = 0, nil, nil, nil, nil, 1
		for l := range m.Layers {
			x := &m.Layers[l]
			x.Implementations = slices.Clone(x.Implementations[:1])
			bargains, n, lossless := j.candidates(v, l, x.Implementations[0].Latency)
			every.measured, every.unknown = every.measured+n, every.unknown+lossless
			for _, b := range bargains {
				if m.Variants == sched.MaxBoundedVariants {
					every.left++
					continue
				}
				m.Variants++
				m.Loss = append(m.Loss, b.loss)
				x.Implementations = append(x.Implementations, sched.Implementation{Name: fmt.Sprint("candidate ", m.Variants),
					Variant: m.Variants, Latency: b.latency})
			}
		}
	}
	every.system = s
	return every
}

// bargain is what a candidate takes and loses.
type bargain struct {
	latency []time.Duration
	loss    float64
}

// better reports whether a candidate loses no more than another and is as fast everywhere.
func (b *bargain) better(o *bargain) bool {
	for k, d := range o.latency {
		if d != sched.Unavailable && (b.latency[k] == sched.Unavailable || b.latency[k] > d) {
			return false
		}
	}
	return b.loss <= o.loss
}

// candidates are those of a layer that no other is better than, how many there are in all, and how many of unknown
// accuracy.
func (j *judge) candidates(v *plan.Variants, layer int, original []time.Duration) (out []bargain, all, unknown int) {
	for n := range v.Candidates {
		c := &v.Candidates[n]
		if c.Layer != layer || c.Refused != "" && c.Alone == 0 {
			continue
		}
		latency, faster := j.candidate(v, c, original)
		if !faster {
			continue
		}
		all++
		x := bargain{latency: latency}
		if c.Alone == 0 {
			unknown++
		} else {
			x.loss = max(0, 1-c.Alone)
		}
		if !slices.ContainsFunc(out, func(b bargain) bool { return b.better(&x) }) {
			out = append(slices.DeleteFunc(out, func(b bargain) bool { return x.better(&b) }), x)
		}
	}
	return out, all, unknown
}

// candidate are the latencies of a candidate, which was measured in turn with the original that has these, and whether it
// is faster anywhere.
func (j *judge) candidate(v *plan.Variants, c *plan.Variant, original []time.Duration) (out []time.Duration, faster bool) {
	for k, name := range j.system.Accelerators {
		d := sched.Unavailable
		n := slices.Index(v.Accelerators, name)
		if gain := 0.0; n >= 0 && original[k] != sched.Unavailable {
			if gain = c.Gain(n); gain > 0 {
				d = max(1, time.Duration(math.Round(float64(original[k])/gain)))
				faster = faster || gain > 1
			}
		}
		out = append(out, d)
	}
	return out, faster
}

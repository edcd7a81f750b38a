package session

import (
	"fmt"
	"math"
	"slices"
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
	measured, unknown, candidates := j.withCandidates()
	if used == 0 && measured == 0 {
		j.out.Variants = "What layer variants would buy is not known here: `terastal variants design` measures candidates."
		return nil
	}
	times := func(c fluid.Capacity) string { return fmt.Sprintf("%.2f times the capacity", c.Bound/originals.Scale) }
	j.out.Variants = ""
	if used > 0 {
		name, at := "layer by layer with the variants in use", "at the accuracy floors as configured"
		s, floors := j.system, fluid.FloorsOf(j.tables)
		switch {
		case j.assumed != "" || !j.known():
			s, floors = anyVariants(s), fluid.Same(j.tables, 0)
			name, at = "layer by layer with the variants measured", "whatever accuracy that leaves"
		case floors == nil:
			floors, at = fluid.Same(j.tables, 0), "in every combination that is valid"
		}
		c, err := j.capacityAt(s, floors)
		if err != nil {
			return err
		}
		j.add(name, c)
		j.out.Variants = fmt.Sprintf("The %s there buy at most %s of the originals, %s.", counted(used, "layer variant"), times(c), at)
	}
	if measured == 0 {
		return nil
	}
	c, err := j.capacityAt(candidates, j.floorsOf(&candidates))
	if err != nil {
		return err
	}
	j.add("layer by layer with every candidate", c)
	text := fmt.Sprintf("All %s that were measured would buy at most %s", counted(measured, "candidate"), times(c))
	if unknown > 0 {
		text += fmt.Sprintf(", if the %d of unknown accuracy lost nothing", unknown)
	}
	if j.out.Variants != "" {
		j.out.Variants += " "
	}
	j.out.Variants += text + "."
	return nil
}

// known reports whether the plan says which variants may be used together.
func (j *judge) known() bool {
	return slices.ContainsFunc(j.system.Models, func(m sched.Model) bool { return len(m.Valid) > 0 || m.Loss != nil })
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
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

// withCandidates is the system with every candidate for a variant that was measured, each with its own loss and no limit
// on what a single request loses, how many these are, and of how many the accuracy is not known: they lose nothing here.
func (j *judge) withCandidates() (measured, unknown int, s sched.System) {
	s = j.system
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
			m.Layers[l].Implementations = slices.Clone(m.Layers[l].Implementations[:1])
		}
		for n := range v.Candidates {
			c := &v.Candidates[n]
			if m.Variants == sched.MaxBoundedVariants || c.Layer >= len(m.Layers) || c.Refused != "" && c.Alone == 0 {
				continue
			}
			l := &m.Layers[c.Layer]
			latency, faster := j.candidate(v, c, l.Implementations[0].Latency)
			if !faster {
				continue
			}
			m.Variants++
			measured++
			loss := max(0, 1-c.Alone)
			if c.Alone == 0 {
				loss = 0
				unknown++
			}
			m.Loss = append(m.Loss, loss)
			l.Implementations = append(l.Implementations, sched.Implementation{Name: fmt.Sprint("candidate ", n),
				Variant: m.Variants, Latency: latency})
		}
	}
	return measured, unknown, s
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

package sched

import (
	"fmt"
	"math/bits"
	"slices"
	"time"
)

// Budgets is the result of Algorithm 1 for one model.
type Budgets struct {
	// Layer is each layer's share of the relative deadline. The shares sum to the deadline.
	Layer []time.Duration `json:"layer_ns"`
	// Selected is the latency level each share is proportional to; an accelerator on which the original takes longer is
	// excluded: variants are designed for it.
	Selected []time.Duration `json:"selected_ns"`
	// Level is rho, the constraint level at which the levels fit the deadline, counted from 1.
	Level int `json:"level"`
	// Infeasible is true when even the fastest accelerator for every layer takes longer than the deadline; the shares are
	// then proportional to the fastest latencies.
	Infeasible bool `json:"infeasible,omitempty"`
}

// ComputeBudgets splits a model's relative deadline over its layers: Algorithm 1 of arXiv 2606.06818. With c(l,1) >
// c(l,2) > ... the distinct latencies of the original of layer l over the accelerators, it takes the smallest level rho
// for which sum over l of c(l, min(rho, levels of l)) is at most the deadline D, and gives layer l the budget D
// c(l,rho) / sum.
func ComputeBudgets(m *Model) (Budgets, error) {
	levels := make([][]time.Duration, len(m.Layers))
	deepest := 1
	for l := range m.Layers {
		for _, c := range m.Layers[l].Implementations[0].Latency {
			if c != Unavailable {
				levels[l] = append(levels[l], c)
			}
		}
		if len(levels[l]) == 0 {
			return Budgets{}, fmt.Errorf("layer %d %q runs on no accelerator", l, m.Layers[l].Name)
		}
		slices.Sort(levels[l])
		levels[l] = slices.Compact(levels[l])
		slices.Reverse(levels[l])
		deepest = max(deepest, len(levels[l]))
	}
	b := Budgets{Selected: make([]time.Duration, len(levels))}
	for rho := 1; rho <= deepest; rho++ {
		var sum time.Duration
		for l, c := range levels {
			b.Selected[l] = c[min(rho, len(c))-1]
			sum += b.Selected[l]
		}
		b.Level, b.Infeasible = rho, sum > m.Deadline
		if !b.Infeasible || rho == deepest {
			b.Layer = share(m.Deadline, b.Selected, sum)
			break
		}
	}
	return b, nil
}

// share splits total in proportion to the parts, whose sum is given. Every
// prefix is exact, rounded down, and the whole is total.
func share(total time.Duration, parts []time.Duration, sum time.Duration) []time.Duration {
	out := make([]time.Duration, len(parts))
	var upTo, given time.Duration
	for i, p := range parts {
		upTo += p
		end := proportion(total, upTo, sum)
		out[i] = end - given
		given = end
	}
	return out
}

// proportion is total * part / sum, rounded down, for 0 <= part <= sum and 0 <= total. It is exact: floating point
// would end up a nanosecond short of a budget that a layer fills to the last one, and refuse it.
func proportion(total, part, sum time.Duration) time.Duration {
	hi, lo := bits.Mul64(uint64(total), uint64(part))
	q, _ := bits.Div64(hi, lo, uint64(sum))
	return time.Duration(q)
}

package variants

import (
	"cmp"
	"slices"
	"time"

	"github.com/terastal/terastal/sched"
)

// Target is a layer on an accelerator that Algorithm 1 excludes: the original
// takes longer there than the latency level the budget was made from.
type Target struct {
	Model       int
	Layer       int
	Accelerator int
	// Latency is the original's on this accelerator; a variant has to run in
	// at most Budget, and at Selected it is as fast as the level demands.
	Latency, Selected, Budget time.Duration
}

// Speedup is how many times faster than the original a variant has to be to
// fit the layer's budget; at most 1 when the original fits it as it is.
func (t Target) Speedup() float64 { return float64(t.Latency) / float64(t.Budget) }

// Targets lists the layers and accelerators for which variants are wanted, the greatest need first. Where the original
// fits the budget on an excluded accelerator, no variant is wanted.
func Targets(t *sched.Tables) []Target {
	var out []Target
	sys := t.System()
	for m := range sys.Models {
		b := t.Budgets(m)
		for l, layer := range sys.Models[m].Layers {
			for k, c := range layer.Implementations[0].Latency {
				if c != sched.Unavailable && c > b.Selected[l] && c > b.Layer[l] {
					out = append(out, Target{Model: m, Layer: l, Accelerator: k, Latency: c, Selected: b.Selected[l],
						Budget: b.Layer[l]})
				}
			}
		}
	}
	slices.SortStableFunc(out, func(a, b Target) int { return cmp.Compare(b.Speedup(), a.Speedup()) })
	return out
}

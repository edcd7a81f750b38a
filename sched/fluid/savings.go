package fluid

import (
	"cmp"
	"math"
	"math/bits"
	"slices"
	"time"

	"github.com/terastal/terastal/sched"
)

// Saving is what a variant saves, and what it loses.
type Saving struct {
	Model, Layer, Implementation int
	// Time is what a request saves with it, in seconds weighted with the accelerators' prices: the least that the original
	// costs on any accelerator less the least that the variant does. It is negative where the variant costs more.
	Time float64
	// Loss is the share of the accuracy that a request loses with it alone; NaN where that is not known, or where it may
	// not be used alone.
	Loss float64
}

// Savings lists the variants of a system at prices of its accelerators. Those that lose nothing come first, by what
// they save; then those that lose something, by what they save for it; then those of unknown loss; last those that save
// nothing.
func Savings(t *sched.Tables, prices []float64) []Saving {
	var out []Saving
	for i := range t.System().Models {
		m := &t.System().Models[i]
		table := t.Model(int32(i))
		for l := range int32(table.Layers()) {
			original := leastCost(table.Latency(l, 0), prices)
			for im := int32(1); im < table.Implementations(l); im++ {
				out = append(out, Saving{i, int(l), int(im), original - leastCost(table.Latency(l, im), prices),
					alone(m, table, table.Variant(l, im))})
			}
		}
	}
	slices.SortStableFunc(out, func(a, b Saving) int {
		if a.rank() == 1 && b.rank() == 1 {
			return cmp.Compare(b.Time/b.Loss, a.Time/a.Loss)
		}
		return cmp.Or(cmp.Compare(a.rank(), b.rank()), cmp.Compare(b.Time, a.Time))
	})
	return out
}

// rank is the place of a saving among all by its kind.
func (s Saving) rank() int {
	switch {
	case !(s.Time > 0):
		return 3
	case math.IsNaN(s.Loss):
		return 2
	case s.Loss > 0:
		return 1
	}
	return 0
}

// leastCost is the least of the latencies in seconds, each weighted with its accelerator's price.
func leastCost(latency []time.Duration, prices []float64) float64 {
	low := math.Inf(1)
	for k, c := range latency {
		if c < sched.Never {
			low = min(low, prices[k]*c.Seconds())
		}
	}
	return low
}

// alone is the loss of one variant; NaN where it is not known or not allowed.
func alone(m *sched.Model, t *sched.ModelTable, v sched.VariantSet) float64 {
	if !t.Allowed(0, v) {
		return math.NaN()
	}
	if m.Loss != nil {
		return m.Loss[bits.TrailingZeros64(uint64(v))]
	}
	if i := slices.Index(m.Valid, v); m.Accuracy != nil {
		return max(0, 1-m.Accuracy[i])
	}
	return math.NaN()
}

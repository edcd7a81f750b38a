package eventlog

import (
	"math"
	"slices"

	"github.com/terastal/terastal/sched"
)

// Combinations counts, by model, the finished jobs by the set of variants that each used.
func (l *Log) Combinations() []map[sched.VariantSet]int {
	models := l.Header.System.Models
	out := make([]map[sched.VariantSet]int, len(models))
	for m := range out {
		out[m] = map[sched.VariantSet]int{}
	}
	used := map[int64]sched.VariantSet{}
	for i := range l.Records {
		r := &l.Records[i]
		switch {
		case r.Kind == sched.Completed && r.Implementation > 0:
			used[r.Job] |= 1 << (models[r.Model].Layers[r.Layer].Implementations[r.Implementation].Variant - 1)
		case r.Kind == sched.Ended:
			if r.Outcome == sched.Met || r.Outcome == sched.Late {
				out[r.Model][used[r.Job]]++
			}
			delete(used, r.Job)
		}
	}
	return out
}

// AccuracyOf is the normalised accuracy of a request that used these variants: measured, or, with an additive bound,
// what the bound leaves. It is 1 for the empty set and NaN when it is unknown.
func AccuracyOf(m *sched.Model, used sched.VariantSet) float64 {
	switch {
	case used == 0:
		return 1
	case m.Loss != nil:
		left := 1.0
		for i, x := range m.Loss {
			if used>>i&1 != 0 {
				left -= x
			}
		}
		return left
	}
	if i := slices.Index(m.Valid, used); i >= 0 && i < len(m.Accuracy) {
		return m.Accuracy[i]
	}
	return math.NaN()
}

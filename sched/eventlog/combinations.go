package eventlog

import (
	"iter"

	"github.com/terastal/terastal/sched"
)

// Finished are the records that end finished jobs, in order, with the set of variants that each used.
func (l *Log) Finished() iter.Seq2[*Record, sched.VariantSet] {
	models := l.Header.System.Models
	return func(yield func(*Record, sched.VariantSet) bool) {
		used := map[int64]sched.VariantSet{}
		for i := range l.Records {
			r := &l.Records[i]
			switch {
			case r.Kind == sched.Completed && r.Implementation > 0:
				used[r.Job] |= variantOf(&models[r.Model], r)
			case r.Kind == sched.Ended:
				if (r.Outcome == sched.Met || r.Outcome == sched.Late) && !yield(r, used[r.Job]) {
					return
				}
				delete(used, r.Job)
			}
		}
	}
}

// variantOf is the variant that a completed layer ran as.
func variantOf(m *sched.Model, r *Record) sched.VariantSet {
	return 1 << (m.Layers[r.Layer].Implementations[r.Implementation].Variant - 1)
}

// Combinations counts, by model, the finished jobs by the set of variants that each used.
func (l *Log) Combinations() []map[sched.VariantSet]int {
	out := make([]map[sched.VariantSet]int, len(l.Header.System.Models))
	for m := range out {
		out[m] = map[sched.VariantSet]int{}
	}
	for r, used := range l.Finished() {
		out[r.Model][used]++
	}
	return out
}

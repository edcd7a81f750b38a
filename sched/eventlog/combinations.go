package eventlog

import "github.com/terastal/terastal/sched"

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

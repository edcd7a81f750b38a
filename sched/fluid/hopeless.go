package fluid

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/terastal/terastal/sched"
)

// Needed is a model that no path takes to its end by its deadline.
type Needed struct {
	Model int
	// Needs is the deadline that it would need: what the quickest of its paths takes, handoffs included, alone in the system.
	Needs time.Duration
}

// Hopeless lists the models that meet their deadline nowhere, with whatever variants they may use; with an accuracy floor
// of 1 these are none. Capacities count them as if they had no deadline, and also a model whose variants meet it but
// whose originals do not.
func Hopeless(t *sched.Tables) []Needed {
	var out []Needed
	sys := t.System()
	for i := range sys.Models {
		m, table := &sys.Models[i], t.Model(int32(i))
		s, longest := timesOf(t, i, func(l int) int {
			if m.Floor == 1 {
				return 1
			}
			return int(table.Implementations(int32(l)))
		}, every(sys))
		if longest <= m.Deadline {
			continue
		}
		s.originals, s.toGo = s.leastTimes(true), s.leastTimes(false)
		if s.originals[0][0] > m.Deadline {
			if needs, sure := s.soonest(table); sure && needs > m.Deadline {
				out = append(out, Needed{i, needs})
			}
		}
	}
	return out
}

// soonest is the least time that a path takes which uses valid sets of variants only. It is not sure whether none is
// below the deadline that takes less where there are too many sets to look at.
func (s *limit) soonest(t *sched.ModelTable) (least time.Duration, sure bool) {
	type place struct {
		at   int32
		used sched.VariantSet
	}
	least, sure = s.originals[0][0], s.toGo[0][0] > s.deadline
	missed := false
	from := map[place]time.Duration{{at: -1}: 0}
	for l := range s.time {
		to := map[place]time.Duration{}
		for p, before := range from {
			for i, on := range s.time[l] {
				v := t.Variant(int32(l), int32(i))
				if !t.Allowed(p.used, v) {
					continue
				}
				for k, c := range on {
					x, y := before+s.moved(l, p.at, k)+c, place{int32(k), p.used | v}
					if known, ok := to[y]; x+s.toGo[l+1][k] < least && (!ok || x < known) {
						to[y] = x
					}
				}
			}
		}
		if len(to) > limitWidth {
			missed = true
			rest := func(p place) time.Duration { return to[p] + s.toGo[l+1][p.at] }
			all := slices.SortedFunc(maps.Keys(to), func(a, b place) int {
				return cmp.Or(cmp.Compare(rest(a), rest(b)), cmp.Compare(a.at, b.at), cmp.Compare(a.used, b.used))
			})
			for _, p := range all[limitWidth:] {
				delete(to, p)
			}
		}
		from = to
	}
	for _, x := range from {
		least = min(least, x)
	}
	return least, sure || !missed
}

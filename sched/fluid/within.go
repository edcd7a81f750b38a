package fluid

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/terastal/terastal/sched"
)

// A search for the cheapest path within a deadline finds a good one by tolls on time, of which it tries limitTolls, with a
// bound that holds. Only where the capacity is not exact enough by that it extends paths label by label, which takes
// limitSteps steps at most in all searches of a model, with limitWidth paths to a layer. It ignores what saves less than
// limitGap of the cost, which the search for the capacity does not care about.
const (
	limitTolls = 16
	limitSteps = 100_000
	limitWidth = 5000
	limitGap   = 1e-7
)

// rests bounds what is left of paths in which time has a toll: cost plus toll times time.
type rests interface {
	// relax returns the path that is cheapest with the toll, as far as the search knows, where it runs, what it costs
	// without the toll, its loss included, and how long it takes, handoffs not counted perhaps. No path costs less with the
	// toll than bound. From then on left is with this toll.
	relax(s *within, toll float64) (p path, cost float64, takes time.Duration, bound float64)
	// left is a lower bound on the rest's cost with toll and loss, from a layer on, of a path whose layer before ran on an
	// accelerator, which used these variants; share is the sum of their shares.
	left(l, at int, used sched.VariantSet, share float64) float64
	// use is what an implementation adds to a set and to the sum of shares; false if it may not.
	use(l, i int, used sched.VariantSet) (with sched.VariantSet, share float64, allowed bool)
	losses
}

// losses are those of sets of variants.
type losses interface {
	// lossOf is that of a set, NaN where it may not be used.
	lossOf(used sched.VariantSet) float64
	// apart tells sets apart none of which can replace the other; of those that it does not, covers reports whether what
	// used a can do all that used b could, for no more loss.
	apart(used sched.VariantSet) sched.VariantSet
	covers(a, b sched.VariantSet) bool
}

// prices are what paths cost.
type prices struct {
	cost  [][][]float64 // by layer, implementation and accelerator
	price float64       // of all of the accuracy
	carry []float64     // by accelerator that a handoff goes to: of a nanosecond; nil where handoffs cost nothing
}

// carries is the cost of a handoff.
func (w *within) carries(l int, from int32, to int) float64 {
	if w.carry == nil {
		return 0
	}
	return w.carry[to] * float64(w.moved(l, from, to))
}

// within is a search for the cheapest path that meets a deadline.
type within struct {
	*limit
	rests
	prices
	toGo [][]time.Duration // the least time, as in limit

	toll, root float64 // the toll that bounds best, and that bound
	best       path
	low        float64 // its cost
}

// label is a path up to a layer.
type label struct {
	cost, share, bound float64
	time               time.Duration
	used               sched.VariantSet
	before             int32
	at, implementation int32
}

// cheapest finds the path of least cost, the loss times its price included, a cost that none is below, and whether that
// is the path's: for sure only with labels. toGo is the least time by layer and the accelerator before.
func (s *limit) cheapest(r rests, toGo [][]time.Duration, of prices, labels bool) (p path, bound float64, exact bool) {
	w := &within{limit: s, rests: r, toGo: toGo, prices: of, root: math.Inf(-1), low: math.Inf(1),
		best: newPath(len(of.cost))}
	w.try(s.fastest)
	w.raise()
	open := math.Inf(-1)
	if exact = w.root >= w.low*(1-limitGap); !exact && labels && s.steps > 0 {
		open, exact = w.search()
	}
	return w.best, min(w.low, max(w.root, open)), exact
}

// try takes a path if it is better, and may be used.
func (w *within) try(p path) {
	cost, used := 0.0, sched.VariantSet(0)
	for l, i := range p.implementation {
		var allowed bool
		if used, _, allowed = w.use(l, int(i), used); !allowed {
			return
		}
		cost += w.cost[l][i][p.at[l]]
		if l > 0 {
			cost += w.carries(l, p.at[l-1], int(p.at[l]))
		}
	}
	if used != 0 {
		cost += w.price * w.lossOf(used)
	}
	if cost < w.low && w.takes(p) <= w.deadline {
		w.low = cost
		w.best.copyFrom(p)
	}
}

// fill brings the best path closer to one that is cheaper but too slow: it goes over to it, or back, after some layer, and
// then does single layers as that does, those first that take longer by it, as long as there is time. With the toll at
// which both cost the same, time that is left over is all that the result lacks.
func (w *within) fill(slow path) {
	n := len(w.cost)
	from, mix := newPath(n), newPath(n)
	from.copyFrom(w.best)
	if slices.ContainsFunc(w.handoff, func(h [][]time.Duration) bool { return h != nil }) {
		for l := 1; l < n; l++ {
			for _, pair := range [2][2]path{{slow, from}, {from, slow}} {
				copy(mix.at, pair[0].at[:l])
				copy(mix.implementation, pair[0].implementation[:l])
				copy(mix.at[l:], pair[1].at[l:])
				copy(mix.implementation[l:], pair[1].implementation[l:])
				w.try(mix)
			}
		}
	}
	mix.copyFrom(w.best)
	var order []int
	extra := make([]time.Duration, n)
	for l := range n {
		if slow.at[l] != mix.at[l] || slow.implementation[l] != mix.implementation[l] {
			order = append(order, l)
			extra[l] = w.time[l][slow.implementation[l]][slow.at[l]] - w.time[l][mix.implementation[l]][mix.at[l]]
		}
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(extra[b], extra[a]) })
	spare := w.deadline - w.takes(mix)
	for _, l := range order {
		at, implementation, before := mix.at[l], mix.implementation[l], w.around(mix, l)
		mix.at[l], mix.implementation[l] = slow.at[l], slow.implementation[l]
		if left := spare - (w.around(mix, l) - before); left >= 0 && w.gains(l, at, implementation, mix) {
			spare = left
			continue
		}
		mix.at[l], mix.implementation[l] = at, implementation
	}
	w.try(mix)
}

// around is what a layer of a path takes, and the handoffs before and after it.
func (w *within) around(p path, l int) time.Duration {
	before := int32(-1)
	if l > 0 {
		before = p.at[l-1]
	}
	sum := w.moved(l, before, int(p.at[l])) + w.time[l][p.implementation[l]][p.at[l]]
	if l+1 < len(p.at) {
		sum += w.moved(l+1, p.at[l], int(p.at[l+1]))
	}
	return sum
}

// gains reports whether a path costs less with its layer as it is than on another accelerator with another
// implementation, and may be used.
func (w *within) gains(l int, at, implementation int32, p path) bool {
	if w.cost[l][p.implementation[l]][p.at[l]] > w.cost[l][implementation][at] {
		return false
	}
	if implementation == p.implementation[l] {
		return true
	}
	used, allowed := sched.VariantSet(0), true
	for n, i := range p.implementation {
		if used, _, allowed = w.use(n, int(i), used); !allowed {
			return false
		}
	}
	return !math.IsNaN(w.lossOf(used))
}

// raise finds the toll on time that bounds best: between a cheap path that is too slow and a dear one that is not, the
// toll at which they cost the same, again and again.
func (w *within) raise() {
	type point struct{ cost, time float64 }
	due, toll := float64(w.deadline), 0.0
	var slow point
	var cheap path
	quick := point{w.low, float64(w.takes(w.best))}
	for n := range limitTolls {
		p, cost, takes, bound := w.relax(w, toll)
		if b := bound - toll*due; b > w.root {
			w.root, w.toll = b, toll
		}
		w.try(p)
		at := point{cost, float64(takes)}
		if n > 0 && at.cost+toll*at.time >= (quick.cost+toll*quick.time)*(1-1e-12) || n == 0 && at.time <= due {
			break
		}
		if at.time <= due {
			quick = at
		} else {
			slow, cheap = at, p
		}
		if toll = (quick.cost - slow.cost) / (slow.time - quick.time); !(toll > 0) {
			break
		}
	}
	if cheap.at != nil && w.root < w.low*(1-limitGap) {
		w.fill(cheap)
	}
}

// search extends paths layer by layer. It returns the least bound of what it left out, and whether it left out nothing
// that could be cheaper.
func (w *within) search() (open float64, exact bool) {
	w.relax(w, w.toll)
	open, exact = math.Inf(1), true
	layers := [][]label{{{at: -1}}}
	for l := range w.cost {
		next := w.undominated(l, w.extended(l, layers[l], &open))
		if w.steps <= 0 {
			return math.Inf(-1), false
		}
		if len(next) > limitWidth {
			slices.SortFunc(next, func(a, b label) int { return cmp.Compare(a.bound, b.bound) })
			open, exact, next = min(open, next[limitWidth].bound), false, next[:limitWidth]
		}
		layers = append(layers, next)
	}
	p, last := newPath(len(w.cost)), len(w.cost)
	for _, x := range layers[last] {
		if total := x.cost + w.price*w.lossOf(x.used); !(total < w.low) {
			continue
		}
		for l := last; l > 0; l-- {
			p.at[l-1], p.implementation[l-1] = x.at, x.implementation
			x = layers[l-1][x.before]
		}
		w.try(p)
	}
	return open, exact
}

// extended are the paths by one layer more that may be cheaper than the best.
func (w *within) extended(l int, from []label, open *float64) []label {
	var out []label
	for n, x := range from {
		for i, on := range w.cost[l] {
			used, share, allowed := w.use(l, i, x.used)
			if !allowed {
				continue
			}
			w.steps -= len(on)
			for k, c := range on {
				took := w.time[l][i][k]
				if took >= sched.Never {
					continue
				}
				y := label{cost: x.cost + c + w.carries(l, x.at, k), time: x.time + w.moved(l, x.at, k) + took,
					share: x.share + share, used: used, before: int32(n), at: int32(k), implementation: int32(i)}
				if y.time+w.toGo[l+1][k] > w.deadline {
					continue
				}
				y.bound = y.cost + w.toll*float64(y.time-w.deadline) + w.left(l+1, k, used, y.share)
				if y.bound >= w.low*(1-limitGap) {
					*open = min(*open, y.bound)
					continue
				}
				out = append(out, y)
			}
		}
	}
	return out
}

// compared is how many others a path is compared with that no order tells apart.
const compared = 64

// undominated leaves out paths to a layer that are worse than another in everything.
func (w *within) undominated(l int, all []label) []label {
	free := true
	for _, h := range w.handoff[l+1:] {
		free = free && h == nil
	}
	place := func(x *label) int32 {
		if free {
			return -1
		}
		return x.at
	}
	slices.SortFunc(all, func(a, b label) int {
		return cmp.Or(cmp.Compare(place(&a), place(&b)), cmp.Compare(w.apart(a.used), w.apart(b.used)),
			cmp.Compare(a.cost, b.cost), cmp.Compare(a.time, b.time))
	})
	kept, first := all[:0], 0
	for _, x := range all {
		if first < len(kept) && (place(&kept[first]) != place(&x) || w.apart(kept[first].used) != w.apart(x.used)) {
			first = len(kept)
		}
		if !slices.ContainsFunc(kept[max(first, len(kept)-compared):], func(o label) bool {
			return o.time <= x.time && w.covers(o.used, x.used)
		}) {
			kept = append(kept, x)
		}
	}
	return kept
}

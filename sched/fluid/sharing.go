package fluid

import (
	"math"
	"math/bits"
	"slices"

	"github.com/terastal/terastal/sched"
)

// sharing are combinations whose losses add up to at most a bound where layers share variants: a request loses what a
// variant does once, however many layers use it. It is solved by branch and bound, variant by variant. The bound of a
// node divides the loss of each variant among its layers, which then choose on their own.
type sharing struct {
	*bounded
	variants [][]int // by layer of those with variants: their numbers, from 0
	place    [][]int // by such layer and implementation: of its variant in variants
	left     int     // nodes that all searches together may take
}

// sharingNodes bounds the nodes of all searches of a model. Beyond them a search only finds a good combination.
const sharingNodes = 20_000

// sharingGap is how far from the cheapest a combination may be, relative to the cost of originals: less than what the
// search for the capacity cares about.
const sharingGap = 1e-9

// newSharing returns nil if no two implementations share a variant.
func newSharing(o *bounded) *sharing {
	s := &sharing{bounded: o, left: sharingNodes}
	var seen sched.VariantSet
	shares := false
	for _, l := range o.layers {
		var variants []int
		place := make([]int, len(o.share[l]))
		var here sched.VariantSet
		for i := 1; i < len(place); i++ {
			v := o.t.Variant(int32(l), int32(i))
			shares = shares || (seen|here)&v != 0
			here |= v
			number := bits.TrailingZeros64(uint64(v))
			if place[i] = slices.Index(variants, number); place[i] < 0 {
				place[i], variants = len(variants), append(variants, number)
			}
		}
		seen |= here
		s.variants, s.place = append(s.variants, variants), append(s.place, place)
	}
	if !shares {
		return nil
	}
	return s
}

// division is one search.
type division struct {
	*sharing
	price, multiplier float64 // of a unit of loss, and of the bound on it
	// gain, at and share are by layer and its variants: what the best implementation saves, which that is, and which part
	// of the variant's loss the layer pays.
	gain, share [][]float64
	at          [][]int32
	useful      sched.VariantSet
	best        sched.VariantSet
	low         float64 // cost of the best more than originals'
	open        float64 // least bound of a node that was left open
	gap         float64
	left        int
}

func (s *sharing) choose(cost [][]float64, price float64, chosen []int32) (loss, bound float64, exact bool) {
	others := 0.0
	for _, all := range cost {
		others += all[0]
	}
	d := &division{sharing: s, price: price, open: math.Inf(1), gap: sharingGap * others,
		left: max(s.left, 2*len(s.loss)+2)}
	d.divide(cost)
	d.relax()
	before := d.left
	d.search(0, ^d.useful)
	s.left = max(0, s.left-(before-d.left))
	var used sched.VariantSet
	for n, l := range s.layers {
		if j, _ := d.dearest(n, d.best); j >= 0 {
			chosen[l] = d.at[n][j]
			used |= 1 << s.variants[n][j]
		}
	}
	return s.of(used), others + min(d.low, d.open), d.left >= 0
}

// divide finds what variants save, and divides their losses in proportion.
func (d *division) divide(cost [][]float64) {
	var sums [sched.MaxBoundedVariants]float64
	for n, l := range d.layers {
		gain, at := make([]float64, len(d.variants[n])), make([]int32, len(d.variants[n]))
		for i := 1; i < len(cost[l]); i++ {
			j := d.place[n][i]
			if x := cost[l][0] - cost[l][i]; x > gain[j] {
				gain[j], at[j] = x, int32(i)
			}
		}
		for j, v := range d.variants[n] {
			sums[v] += gain[j]
			if gain[j] > 0 {
				d.useful |= 1 << v
			}
		}
		d.gain, d.at = append(d.gain, gain), append(d.at, at)
	}
	for n := range d.layers {
		share := make([]float64, len(d.variants[n]))
		for j, v := range d.variants[n] {
			if x := d.gain[n][j]; x > 0 {
				share[j] = d.loss[v] * (x / sums[v])
			}
		}
		d.share = append(d.share, share)
	}
}

// relax finds the multiplier at which the layers' choices just keep the bound.
func (d *division) relax() {
	high := 0.0
	for n := range d.share {
		for j, x := range d.share[n] {
			if x > 0 {
				high = max(high, d.gain[n][j]/x-d.price)
			}
		}
	}
	most := max(0, d.maxLoss)
	if _, _, loss := d.node(0, 0); loss <= most {
		return
	}
	low := 0.0
	for range 40 {
		d.multiplier = (low + high) / 2
		if _, _, loss := d.node(0, 0); loss <= most {
			high = d.multiplier
		} else {
			low = d.multiplier
		}
	}
	d.multiplier = high
}

// node bounds the cost of combinations with some variants and without others. It returns which others layers want,
// each for its share, and the sum of these shares.
func (d *division) node(with, without sched.VariantSet) (bound float64, wanted sched.VariantSet, shares float64) {
	toll := d.price + d.multiplier
	for n, variants := range d.variants {
		best, paid, at := 0.0, 0.0, sched.VariantSet(0)
		for j, v := range variants {
			x, share, v := d.gain[n][j], d.share[n][j], sched.VariantSet(1)<<v
			switch {
			case without&v != 0:
				continue
			case with&v != 0:
				share = 0
			}
			if x -= toll * share; x > best {
				best, paid, at = x, share, v
			}
		}
		bound -= best
		shares += paid
		wanted |= at
	}
	bound += toll*d.of(with) - d.multiplier*max(0, d.maxLoss)
	return bound, wanted &^ with, shares
}

// search goes through the combinations with some variants and without others.
func (d *division) search(with, without sched.VariantSet) {
	for rest := ^(with | without) & d.useful; rest != 0; rest &= rest - 1 {
		if v := rest & -rest; !d.t.Allowed(with, v) {
			without |= v
		}
	}
	bound, wanted, _ := d.node(with, without)
	if d.left--; d.left < 0 || bound >= d.low-d.gap {
		d.open = min(d.open, bound)
		return
	}
	set := with
	for rest := wanted; rest != 0; rest &= rest - 1 {
		if v := rest & -rest; d.t.Allowed(set, v) {
			set |= v
		}
	}
	if x := d.cost(set); x < d.low {
		d.low, d.best = x, set
	}
	if bound >= d.low-d.gap {
		d.open = min(d.open, bound)
		return
	}
	rest := wanted
	if rest == 0 {
		rest = ^(with | without) & d.useful
	}
	if rest == 0 {
		return
	}
	v := d.branch(rest)
	d.search(with|v, without)
	d.search(with, without|v)
}

// branch is the variant of a set that loses most.
func (d *division) branch(set sched.VariantSet) sched.VariantSet {
	at, most := 0, -1.0
	for rest := set; rest != 0; rest &= rest - 1 {
		if v := bits.TrailingZeros64(uint64(rest)); d.loss[v] > most {
			at, most = v, d.loss[v]
		}
	}
	return 1 << at
}

// cost is what a set costs more than originals.
func (d *division) cost(set sched.VariantSet) float64 {
	sum := d.price * d.of(set)
	for n := range d.variants {
		_, gain := d.dearest(n, set)
		sum -= gain
	}
	return sum
}

// dearest is the variant of a set that saves a layer most, as a place among its variants; -1 if none saves anything.
func (d *division) dearest(n int, set sched.VariantSet) (place int, gain float64) {
	place = -1
	for j, v := range d.variants[n] {
		if set>>v&1 != 0 && d.gain[n][j] > gain {
			place, gain = j, d.gain[n][j]
		}
	}
	return place, gain
}

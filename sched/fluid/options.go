package fluid

import (
	"math"
	"math/bits"

	"github.com/terastal/terastal/sched"
)

// optionsOf are the combinations that a request of a model may use at a floor; nil for originals only.
func optionsOf(m *sched.Model, t *sched.ModelTable, floor float64) options {
	if m.Variants == 0 || floor == 1 {
		return nil
	}
	if m.Loss != nil {
		o := newBounded(m, t)
		if s := newSharing(o); s != nil {
			return s
		}
		return o
	}
	if floor > 0 && m.Accuracy == nil {
		return nil
	}
	if l := newListed(m, t, floor); l != nil {
		return l
	}
	return nil
}

// listed are combinations whose sets of variants are listed as valid. They are the paths of a graph: a stage for each
// layer that has variants, a node for each valid set that a request can have used up to there.
type listed struct {
	stages []stage
	loss   []float64 // by node of the last stage; NaN where the set may not be used
	worst  float64
	// cost and via are by stage and node: the least cost of a path to it, and its last step.
	cost [][]float64
	via  [][]int32
	// The rest is for paths within a deadline. before is by layer how many stages come before it, sets by stage and node
	// what it stands for and node the other way round, rests by stage and node the least that is left to pay more than
	// originals, tail by layer what those cost.
	before []int
	sets   [][]sched.VariantSet
	node   []map[sched.VariantSet]int32
	rests  [][]float64
	tail   []float64
}

// stage is what a request can do in one layer.
type stage struct {
	layer int
	steps []step
}

// step leads from a node of the stage before to one of this by an implementation.
type step struct{ from, to, implementation int32 }

// newListed returns nil if only originals are left.
func newListed(m *sched.Model, t *sched.ModelTable, floor float64) *listed {
	o := &listed{cost: [][]float64{{0}}, via: [][]int32{{0}}}
	index := make([]int32, 1<<m.Variants) // of a set's node plus 1
	sets := []sched.VariantSet{0}
	o.sets = append(o.sets, sets)
	for l := range int32(t.Layers()) {
		o.before = append(o.before, len(o.stages))
		n := t.Implementations(l)
		if n == 1 {
			continue
		}
		s, next := stage{layer: int(l)}, []sched.VariantSet(nil)
		for from, used := range sets {
			for i := range n {
				v := t.Variant(l, i)
				if !t.Allowed(used, v) {
					continue
				}
				if index[used|v] == 0 {
					next = append(next, used|v)
					index[used|v] = int32(len(next))
				}
				s.steps = append(s.steps, step{int32(from), index[used|v] - 1, i})
			}
		}
		for _, set := range next {
			index[set] = 0
		}
		sets = next
		o.stages, o.sets = append(o.stages, s), append(o.sets, sets)
		o.cost, o.via = append(o.cost, make([]float64, len(sets))), append(o.via, make([]int32, len(sets)))
	}
	o.before = append(o.before, len(o.stages))
	if len(sets) == 1 {
		return nil
	}
	for n, set := range sets {
		index[set] = int32(n) + 1
	}
	o.loss = make([]float64, len(sets))
	for i, set := range m.Valid {
		if n := index[set]; n > 0 && set != 0 && floor > 0 {
			loss := max(0, 1-m.Accuracy[i])
			o.loss[n-1] = loss
			if !math.IsNaN(loss) {
				o.worst = max(o.worst, loss)
			}
		}
	}
	return o
}

func (o *listed) most() float64 { return o.worst }

func (o *listed) choose(cost [][]float64, price float64, chosen []int32) (loss, bound float64, exact bool) {
	rest := 0.0
	for _, all := range cost {
		rest += all[0]
	}
	for n, s := range o.stages {
		before, here, via := o.cost[n], o.cost[n+1], o.via[n+1]
		for i := range here {
			here[i] = math.Inf(1)
		}
		of := cost[s.layer]
		for i, x := range s.steps {
			if c := before[x.from] + (of[x.implementation] - of[0]); c < here[x.to] {
				here[x.to], via[x.to] = c, int32(i)
			}
		}
	}
	at, low := 0, math.Inf(1)
	last := len(o.stages)
	for i, c := range o.cost[last] {
		if x := c + price*o.loss[i]; x < low { // never with a set that may not be used
			at, low = i, x
		}
	}
	loss = o.loss[at]
	for n := last; n > 0; n-- {
		x := o.stages[n-1].steps[o.via[n][at]]
		chosen[o.stages[n-1].layer] = x.implementation
		at = int(x.from)
	}
	return loss, rest + low, true
}

// bounded are combinations whose losses add up to at most a bound: a knapsack with a choice for each layer. It is solved
// by branch and bound with the Lagrangian bound at the multiplier that is best for the whole.
type bounded struct {
	t       *sched.ModelTable
	layers  []int // those with variants
	loss    []float64
	share   [][]float64 // by layer and implementation: the loss over the number of implementations with this variant
	maxLoss float64
	worst   float64
	steps   int // that a search may take
	// For paths within a deadline: the knapsack with a bound that holds, and by layer what originals cost from it on.
	relaxed *knapsack
	tail    []float64
}

// boundedSteps bounds a search. Beyond it the combination may not be the cheapest; the bound still is one.
const boundedSteps = 20_000

func newBounded(m *sched.Model, t *sched.ModelTable) *bounded {
	o := &bounded{t: t, loss: m.Loss, maxLoss: m.MaxLoss, share: make([][]float64, t.Layers()), steps: boundedSteps}
	uses := make([]float64, m.Variants)
	for l := range m.Layers {
		for _, im := range m.Layers[l].Implementations[1:] {
			uses[im.Variant-1]++
		}
	}
	for l := range m.Layers {
		all := m.Layers[l].Implementations
		o.share[l] = make([]float64, len(all))
		for i, im := range all {
			if i > 0 {
				o.share[l][i] = m.Loss[im.Variant-1] / uses[im.Variant-1]
			}
		}
		if len(all) > 1 {
			o.layers = append(o.layers, l)
		}
	}
	for v, x := range m.Loss {
		if uses[v] > 0 {
			o.worst += x
		}
	}
	o.worst = min(o.worst, max(0, m.MaxLoss))
	return o
}

func (o *bounded) most() float64 { return o.worst }

// knapsack is one search.
type knapsack struct {
	*bounded
	cost  [][]float64
	price float64
	// multiplier is what a unit of the bound is worth; rest[n] what layers from the n-th on cost at the least with it.
	multiplier float64
	rest       []float64
	left       int // steps
	path, best []int32
	low        float64
}

func (o *bounded) choose(cost [][]float64, price float64, chosen []int32) (loss, bound float64, exact bool) {
	others := 0.0
	for _, all := range cost {
		others += all[0]
	}
	k := &knapsack{bounded: o, cost: cost, price: price, left: o.steps,
		rest: make([]float64, len(o.layers)+1), path: make([]int32, len(o.layers)), best: make([]int32, len(o.layers))}
	k.relax()
	root := k.rest[0] - k.multiplier*max(0, o.maxLoss)
	k.search(0, 0, 0, 0)
	var used sched.VariantSet
	for n, l := range o.layers {
		chosen[l] = k.best[n]
		used |= o.t.Variant(int32(l), k.best[n])
	}
	bound = k.low
	if k.left < 0 {
		bound = min(bound, root)
	}
	return o.of(used), others + bound, k.left >= 0
}

// of is the loss of a set.
func (o *bounded) of(used sched.VariantSet) float64 {
	sum := 0.0
	for ; used != 0; used &= used - 1 {
		sum += o.loss[bits.TrailingZeros64(uint64(used))]
	}
	return sum
}

// relax finds the multiplier at which the layers' cheapest choices just keep the bound.
func (k *knapsack) relax() {
	high := 0.0
	for _, l := range k.layers {
		for i, share := range k.share[l] {
			if share > 0 {
				high = max(high, (k.cost[l][0]-k.cost[l][i])/share-k.price)
			}
		}
	}
	if k.lossAt(0) <= k.maxLoss {
		high = 0
	}
	low := 0.0
	for range 40 {
		if mid := (low + high) / 2; k.lossAt(mid) <= k.maxLoss {
			high = mid
		} else {
			low = mid
		}
	}
	k.multiplier = high
	k.lossAt(high)
}

// lossAt sets rest for a multiplier and returns the loss of the layers' cheapest choices.
func (k *knapsack) lossAt(multiplier float64) float64 {
	sum := 0.0
	for n := len(k.layers) - 1; n >= 0; n-- {
		l := k.layers[n]
		low, loss := 0.0, 0.0
		for i, share := range k.share[l] {
			if x := k.cost[l][i] - k.cost[l][0] + (k.price+multiplier)*share; x < low {
				low, loss = x, share
			}
		}
		k.rest[n] = k.rest[n+1] + low
		sum += loss
	}
	return sum
}

// search goes on from the n-th layer with variants: used so far, at this cost more than the originals and this sum of
// shares.
func (k *knapsack) search(n int, used sched.VariantSet, cost, share float64) {
	if k.left--; k.left < 0 {
		return
	}
	if n == len(k.layers) {
		if x := cost + k.price*k.of(used); x < k.low {
			k.low = x
			copy(k.best, k.path)
		}
		return
	}
	if cost+(k.price+k.multiplier)*share+k.rest[n]-k.multiplier*k.maxLoss >= k.low {
		return
	}
	l := k.layers[n]
	first := k.cheapestAt(l)
	for i := range k.cost[l] {
		i = (first + i) % len(k.cost[l])
		if v := k.t.Variant(int32(l), int32(i)); k.t.Allowed(used, v) {
			k.path[n] = int32(i)
			k.search(n+1, used|v, cost+(k.cost[l][i]-k.cost[l][0]), share+k.share[l][i])
		}
	}
}

// cheapestAt is the implementation of a layer that costs least at the multiplier.
func (k *knapsack) cheapestAt(l int) int {
	at, low := 0, 0.0
	for i, share := range k.share[l] {
		if x := k.cost[l][i] - k.cost[l][0] + (k.price+k.multiplier)*share; x < low {
			at, low = i, x
		}
	}
	return at
}

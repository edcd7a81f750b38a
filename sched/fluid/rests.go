package fluid

import (
	"math"
	"slices"
	"time"

	"github.com/terastal/terastal/sched"
)

// direct are the rests of paths of originals, handoffs included.
type direct struct{ rest [][]float64 } // by layer and the accelerator that the one before ran on

func (d *direct) relax(s *within, toll float64) (p path, cost float64, takes time.Duration, bound float64) {
	n, accs := len(s.cost), len(s.cost[0][0])
	if d.rest == nil {
		d.rest = make([][]float64, n+1)
		for l := range d.rest {
			d.rest[l] = make([]float64, accs)
		}
	}
	p = newPath(n)
	ends, next := make([]float64, accs), make([][]int32, n) // by layer and where the one before ran: where it runs
	for l := n - 1; l >= 0; l-- {
		for k, c := range s.time[l][0] {
			if ends[k] = math.Inf(1); c < sched.Never {
				ends[k] = s.cost[l][0][k] + toll*float64(c) + d.rest[l+1][k]
			}
		}
		next[l] = make([]int32, accs)
		for from := range d.rest[l] {
			if from > 0 && s.handoff[l] == nil {
				d.rest[l][from], next[l][from] = d.rest[l][0], next[l][0]
				continue
			}
			low, at := math.Inf(1), 0
			for to, x := range ends {
				if x += toll*float64(s.moved(l, int32(from), to)) + s.carries(l, int32(from), to); x < low {
					low, at = x, to
				}
			}
			d.rest[l][from], next[l][from] = low, int32(at)
		}
	}
	from := int32(0)
	for l := range next {
		to := next[l][from]
		if p.at[l] = to; l > 0 {
			cost += s.carries(l, from, int(to))
		}
		cost += s.cost[l][0][to]
		from = to
	}
	return p, cost, s.takes(p), d.rest[0][0]
}

func (d *direct) left(l, at int, _ sched.VariantSet, _ float64) float64 { return d.rest[l][at] }
func (d *direct) lossOf(sched.VariantSet) float64                       { return 0 }
func (d *direct) apart(sched.VariantSet) sched.VariantSet               { return 0 }
func (d *direct) covers(_, _ sched.VariantSet) bool                     { return true }
func (d *direct) use(_, i int, _ sched.VariantSet) (sched.VariantSet, float64, bool) {
	return 0, 0, i == 0
}

// combined are the rests of paths of combinations; handoffs are free there.
type combined struct {
	options
	t     *sched.ModelTable
	least [][]float64 // by layer and implementation: the least cost with the toll
	at    [][]int32   // and where
}

func (c *combined) relax(s *within, toll float64) (p path, cost float64, takes time.Duration, bound float64) {
	if c.least == nil {
		for _, all := range s.cost {
			c.least, c.at = append(c.least, make([]float64, len(all))), append(c.at, make([]int32, len(all)))
		}
	}
	for l, all := range s.cost {
		for i, on := range all {
			low, at := math.Inf(1), 0
			for k, x := range on {
				if took := s.time[l][i][k]; took < sched.Never {
					if x += toll * float64(took); x < low {
						low, at = x, k
					}
				}
			}
			c.least[l][i], c.at[l][i] = low, int32(at)
		}
	}
	p = newPath(len(s.cost))
	loss, bound, _ := c.choose(c.least, s.price, p.implementation)
	for l, i := range p.implementation {
		k := c.at[l][i]
		p.at[l] = k
		cost += s.cost[l][i][k]
		takes += s.time[l][i][k]
	}
	c.prepare(c.least, s.price)
	return p, cost + s.price*loss, takes, bound
}

func (c *combined) left(l, _ int, used sched.VariantSet, share float64) float64 {
	return c.rest(l, used, share)
}

func (c *combined) use(l, i int, used sched.VariantSet) (sched.VariantSet, float64, bool) {
	v := c.t.Variant(int32(l), int32(i))
	return used | v, c.part(l, i), c.t.Allowed(used, v)
}

func (o *listed) part(_, _ int) float64 { return 0 }

func (o *listed) prepare(cost [][]float64, price float64) {
	o.tail = tails(cost, o.tail)
	last := len(o.stages)
	if o.rests == nil {
		for _, sets := range o.sets {
			node := make(map[sched.VariantSet]int32, len(sets))
			for i, set := range sets {
				node[set] = int32(i)
			}
			o.node, o.rests = append(o.node, node), append(o.rests, make([]float64, len(sets)))
		}
	}
	for i, x := range o.loss {
		if o.rests[last][i] = price * x; math.IsNaN(x) {
			o.rests[last][i] = math.Inf(1)
		}
	}
	for n := last - 1; n >= 0; n-- {
		s := &o.stages[n]
		for i := range o.rests[n] {
			o.rests[n][i] = math.Inf(1)
		}
		for _, x := range s.steps {
			of := cost[s.layer]
			o.rests[n][x.from] = min(o.rests[n][x.from], of[x.implementation]-of[0]+o.rests[n+1][x.to])
		}
	}
}

func (o *listed) rest(l int, used sched.VariantSet, _ float64) float64 {
	n := o.before[l]
	return o.tail[l] + o.rests[n][o.node[n][used]]
}

func (o *listed) lossOf(used sched.VariantSet) float64 {
	last := len(o.stages)
	return o.loss[o.node[last][used]]
}

func (o *listed) apart(used sched.VariantSet) sched.VariantSet { return used }
func (o *listed) covers(a, b sched.VariantSet) bool            { return a == b }

// tails are by layer what the originals cost from it on.
func tails(cost [][]float64, out []float64) []float64 {
	if out == nil {
		out = make([]float64, len(cost)+1)
	}
	for l := len(cost) - 1; l >= 0; l-- {
		out[l] = out[l+1] + cost[l][0]
	}
	return out
}

func (o *bounded) part(l, i int) float64 { return o.share[l][i] }

func (o *bounded) prepare(cost [][]float64, price float64) {
	o.tail = tails(cost, o.tail)
	o.relaxed = &knapsack{bounded: o, cost: cost, price: price, rest: make([]float64, len(o.layers)+1)}
	o.relaxed.relax()
}

func (o *bounded) rest(l int, _ sched.VariantSet, share float64) float64 {
	k := o.relaxed
	n, _ := slices.BinarySearch(o.layers, l)
	return o.tail[l] + k.rest[n] + (k.price+k.multiplier)*share - k.multiplier*max(0, o.maxLoss)
}

func (o *bounded) lossOf(used sched.VariantSet) float64 { return o.of(used) }

func (o *bounded) apart(sched.VariantSet) sched.VariantSet { return 0 }
func (o *bounded) covers(a, b sched.VariantSet) bool       { return o.of(a) <= o.of(b) }

// covers is about sets of which layers to come may use variants again.
func (s *sharing) covers(a, b sched.VariantSet) bool { return a&^b == 0 }

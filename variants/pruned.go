package variants

import (
	"cmp"
	"fmt"
	"slices"

	"gonum.org/v1/gonum/mat"
)

// prunedReplacements leave out input channels and fit the weights of those that are left to the original's outputs by
// least squares (He et al., "Channel Pruning for Accelerating Very Deep Neural Networks", 2017). Left out are the
// channels whose contribution to the outputs varies least.
func prunedReplacements(o *Op, _ Arithmetic) ([]Replacement, error) {
	counts, err := prunedCounts(o)
	return forEach(o, counts, newPruned), err
}

// prunedCounts lists how many channels may be left.
func prunedCounts(o *Op) ([]int, error) {
	if err := errGrouped(o); err != nil {
		return nil, err
	}
	var counts []int
	for _, share := range []float64{0.75, 0.625, 0.5, 0.375, 0.25} {
		if n := int(share*float64(o.C)) / 8 * 8; n >= 8 {
			counts = append(counts, n)
		}
	}
	if len(counts) == 0 {
		return nil, fmt.Errorf("it has %d input channels only", o.C)
	}
	return slices.Compact(counts), nil
}

type pruned struct {
	steps
	keep []int64 // channels, in order
}

func newPruned(o *Op, n int) *pruned {
	r := &pruned{steps: newSteps(o, fmt.Sprintf("%d of %d channels", n, o.C), o.like(n, o.K, 1))}
	for i := range n { // spread, to be measured
		r.keep = append(r.keep, int64(i*o.C/n))
	}
	return r
}

// Cost counts the channels' numbers too.
func (r *pruned) Cost() (macs, bytes int64) {
	macs, bytes = r.steps.Cost()
	return macs, bytes + 8*int64(len(r.keep))
}

func (r *pruned) fit(s *statistics) (float64, error) {
	p, full, err := s.best()
	if err != nil {
		return 0, err
	}
	o := r.op
	area := o.KernelH * o.KernelW
	weight := make([]float64, o.C)
	for c := range o.C {
		w := full.Slice(0, o.K, c*area, (c+1)*area)
		var half mat.Dense
		half.Mul(w, p.fit.xx.SliceSym(c*area, (c+1)*area))
		half.MulElem(&half, w)
		weight[c] = mat.Sum(&half)
	}
	channels := from(0, o.C)
	slices.SortStableFunc(channels, func(a, b int) int { return cmp.Compare(weight[b], weight[a]) })
	channels = channels[:len(r.keep)]
	slices.Sort(channels)
	for i, c := range channels {
		r.keep[i] = int64(c)
	}
	features := r.features()
	w0 := mat.NewDense(o.K, len(features), nil)
	for i, f := range features {
		w0.SetCol(i, mat.Col(nil, f, full))
	}
	part := p.pick(features, nil)
	w, b, err := part.solve(w0)
	if err != nil {
		return 0, err
	}
	r.set(b, w)
	return part.lost(w, b), nil
}

func (r *pruned) build(b *builder) { r.on(b, r.gather(b)) }

// gather adds the input's channels that are left.
func (r *pruned) gather(b *builder) string {
	return b.node("Gather", []string{r.op.Input, b.ints(r.keep)}, attribute{"axis", int64(r.op.channelAxis())})
}

// channelAxis is the axis of the input that has the channels.
func (o *Op) channelAxis() int {
	if o.linear() {
		return len(o.InputShape) - 1
	}
	return 1
}

// features are what the channels that are left have in a patch.
func (r *pruned) features() (list []int) {
	area := r.op.KernelH * r.op.KernelW
	for _, c := range r.keep {
		list = append(list, from(int(c)*area, area)...)
	}
	return list
}

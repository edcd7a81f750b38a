package variants

import (
	"cmp"
	"fmt"
	"slices"

	"gonum.org/v1/gonum/mat"
)

// prunedFamily leaves out input channels and fits the weights of those that are left to the original's outputs by least
// squares (He et al., "Channel Pruning for Accelerating Very Deep Neural Networks", 2017). Left out are the channels
// whose contribution to the outputs varies least.
type prunedFamily struct{}

func (prunedFamily) Name() string { return "pruned" }

func (prunedFamily) Applies(o *Op) error {
	if err := errGrouped(o); err != nil {
		return err
	}
	if len((prunedFamily{}).Replacements(o)) == 0 {
		return fmt.Errorf("it has %d input channels only", o.C)
	}
	return nil
}

func (prunedFamily) Replacements(o *Op) []Replacement {
	var out []Replacement
	last := 0 // of few channels, several shares are as many
	for _, share := range []float64{0.75, 0.625, 0.5, 0.375, 0.25} {
		if n := int(share*float64(o.C)) / 8 * 8; n >= 8 && n != last {
			out = append(out, newPruned(o, n))
			last = n
		}
	}
	return out
}

type pruned struct {
	op   *Op
	keep []int64 // channels, in order
	conv step
}

func newPruned(o *Op, n int) *pruned {
	r := &pruned{op: o, conv: o.like(n, o.K, 1)}
	for i := range n { // spread, to be measured
		r.keep = append(r.keep, int64(i*o.C/n))
	}
	r.conv.w, r.conv.bias = o.filler(r.conv.weights()), make([]float32, o.K)
	return r
}

func (r *pruned) Parameters() string { return fmt.Sprintf("%d of %d channels", r.conv.c, r.op.C) }

func (r *pruned) Cost() (macs, bytes int64) {
	return r.op.MACs() * int64(r.conv.c) / int64(r.op.C), 4*int64(r.conv.weights()+r.op.K) + 8*int64(len(r.keep))
}

func (r *pruned) fit(s *statistics) (float64, error) {
	fit, check, full, err := best(s)
	if err != nil {
		return 0, err
	}
	o := r.op
	area := o.KernelH * o.KernelW
	weight := make([]float64, o.C)
	for c := range o.C {
		w := full.Slice(0, o.K, c*area, (c+1)*area)
		var half mat.Dense
		half.Mul(w, fit.xx.SliceSym(c*area, (c+1)*area))
		for k := range o.K {
			for i := range area {
				weight[c] += half.At(k, i) * w.At(k, i)
			}
		}
	}
	channels := upTo(o.C)
	slices.SortStableFunc(channels, func(a, b int) int { return cmp.Compare(weight[b], weight[a]) })
	channels = channels[:r.conv.c]
	slices.Sort(channels)
	for i, c := range channels {
		r.keep[i] = int64(c)
	}
	features := r.features()
	part, checked := fit.pick(features, nil), check.pick(features, nil)
	w0 := mat.NewDense(o.K, len(features), nil)
	for k := range o.K {
		for i, f := range features {
			w0.Set(k, i, full.At(k, f))
		}
	}
	w, b, err := solve(part, checked, w0)
	if err != nil {
		return 0, err
	}
	r.conv.w, r.conv.bias = toFloat32(w), narrow(b)
	return relative(squaredError(checked, w, b), check.variance()), nil
}

func (r *pruned) build(b *builder) {
	b.step(r.op, &r.conv, r.gather(b))
}

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
		list = append(list, shifted(area, int(c)*area)...)
	}
	return list
}

package variants

import "slices"

// prunedInt8Replacements leave out input channels and compute with those that are left in 8 bits.
func prunedInt8Replacements(o *Op, a Arithmetic) ([]Replacement, error) {
	if err := errOpset(o); err != nil {
		return nil, err
	}
	counts, err := prunedCounts(o)
	return forEach(o, counts, func(o *Op, n int) *prunedInt8 {
		r := &prunedInt8{pruned: newPruned(o, n)}
		r.inner = newInt8(r.left(), integerForm, a)
		return r
	}), err
}

type prunedInt8 struct {
	pruned *pruned
	inner  *quantised // on the channels that are left
}

// left is the operator on the channels that are left.
func (r *prunedInt8) left() *Op {
	o, conv := *r.pruned.op, &r.pruned.list[0]
	o.C, o.Weight, o.Bias = conv.c, conv.w, conv.bias
	o.InputShape = slices.Clone(o.InputShape)
	o.InputShape[o.channelAxis()] = int64(o.C)
	return &o
}

// Parameters are those of both families.
func (r *prunedInt8) Parameters() string { return r.pruned.Parameters() + r.inner.reduced() }

// Cost counts the channels' numbers too.
func (r *prunedInt8) Cost() (macs, bytes int64) {
	macs, bytes = r.inner.Cost()
	return macs, bytes + 8*int64(len(r.pruned.keep))
}

func (r *prunedInt8) fit(s *statistics) (float64, error) {
	if _, err := r.pruned.fit(s); err != nil {
		return 0, err
	}
	r.inner = newQuantised(r.left(), integerForm, r.inner.limit)
	return r.inner.fit(&statistics{op: r.inner.op, groups: []problem{s.groups[0].pick(r.pruned.features(), nil)},
		in: s.in, out: s.out})
}

func (r *prunedInt8) build(b *builder) {
	o, q := *r.inner.op, *r.inner
	o.Input, q.op = r.pruned.gather(b), &o
	q.build(b)
}

package variants

import (
	"slices"
)

// prunedInt8Family leaves out input channels as prunedFamily does and computes
// with those that are left in 8 bits as int8Family does.
type prunedInt8Family struct{ arithmetic Arithmetic }

func (prunedInt8Family) Name() string { return "pruned-int8" }

func (prunedInt8Family) Applies(o *Op) error {
	if err := (int8Family{}).Applies(o); err != nil {
		return err
	}
	return (prunedFamily{}).Applies(o)
}

func (f prunedInt8Family) Replacements(o *Op) []Replacement {
	var out []Replacement
	for _, p := range (prunedFamily{}).Replacements(o) {
		r := &prunedInt8{pruned: p.(*pruned)}
		r.derive()
		r.inner = newInt8(r.op, integerForm, f.arithmetic)
		out = append(out, r)
	}
	return out
}

type prunedInt8 struct {
	pruned *pruned
	op     *Op // on the channels that are left
	inner  *quantised
}

// derive makes the operator on the channels that are left.
func (r *prunedInt8) derive() {
	o := *r.pruned.op
	o.C, o.Weight, o.Bias = r.pruned.conv.c, r.pruned.conv.w, r.pruned.conv.bias
	o.InputShape = slices.Clone(o.InputShape)
	o.InputShape[o.channelAxis()] = int64(o.C)
	r.op = &o
}

func (r *prunedInt8) Parameters() string { return r.pruned.Parameters() + r.inner.reduced() }

func (r *prunedInt8) Cost() (macs, bytes int64) {
	macs, bytes = r.inner.Cost()
	return macs, bytes + 8*int64(len(r.pruned.keep))
}

func (r *prunedInt8) fit(s *statistics) (float64, error) {
	if _, err := r.pruned.fit(s); err != nil {
		return 0, err
	}
	r.derive()
	left := &statistics{op: r.op, plain: []*moments{s.plain[0].pick(r.pruned.features())}, in: s.in, out: s.out}
	r.inner = newQuantised(r.op, integerForm, r.inner.limit)
	return r.inner.fit(left)
}

// pick is the moments of some of the features, with all outputs.
func (m *moments) pick(features []int) *moments {
	out := &moments{d: len(features), k: m.k}
	index := slices.Clone(features)
	for i := m.d; i < m.side(); i++ {
		index = append(index, i)
	}
	for _, x := range []struct{ from, to *sums }{{&m.fit, &out.fit}, {&m.check, &out.check}} {
		x.to.n, x.to.s = x.from.n, make([]float64, 0, len(index)*len(index))
		for _, i := range index {
			for _, j := range index {
				x.to.s = append(x.to.s, x.from.s[i*m.side()+j])
			}
		}
	}
	return out
}

func (r *prunedInt8) build(b *builder) {
	o := *r.op
	o.Input = r.pruned.gather(b)
	q := *r.inner
	q.op = &o
	q.build(b)
}

package variants

import (
	"errors"
	"fmt"

	"gonum.org/v1/gonum/mat"
)

// groupedFamily lets each output read a part of the input channels only, in groups, each fitted by least squares. Of a
// matrix product the groups are blocks of the matrix.
type groupedFamily struct{}

func (groupedFamily) Name() string { return "grouped" }

func (groupedFamily) Applies(o *Op) error {
	if err := errGrouped(o); err != nil {
		return err
	}
	if o.linear() {
		return errors.New("a matrix product has no groups")
	}
	if len((groupedFamily{}).Replacements(o)) == 0 {
		return fmt.Errorf("its %d input and %d output channels do not divide into groups of 8", o.C, o.K)
	}
	return nil
}

func (groupedFamily) Replacements(o *Op) []Replacement {
	var out []Replacement
	for _, g := range []int{2, 4, 8} {
		if o.C%g == 0 && o.K%g == 0 && o.C/g >= 8 && o.K/g >= 8 {
			out = append(out, newGrouped(o, g))
		}
	}
	return out
}

type grouped struct {
	op     *Op
	groups int
	conv   step
}

func newGrouped(o *Op, groups int) *grouped {
	r := &grouped{op: o, groups: groups, conv: o.like(o.C, o.K, groups)}
	r.conv.w, r.conv.bias = o.filler(r.conv.weights()), make([]float32, o.K)
	return r
}

func (r *grouped) Parameters() string { return fmt.Sprintf("%d groups", r.groups) }

func (r *grouped) Cost() (macs, bytes int64) {
	return r.op.MACs() / int64(r.groups), 4 * int64(r.conv.weights()+r.op.K)
}

func (r *grouped) fit(s *statistics) (float64, error) {
	fit, check, err := s.whole()
	if err != nil {
		return 0, err
	}
	o := r.op
	original := o.original()
	features, outputs := o.patch()/r.groups, o.K/r.groups
	r.conv.w, r.conv.bias = r.conv.w[:0], r.conv.bias[:0]
	total := 0.0
	for g := range r.groups {
		in, out := shifted(features, g*features), shifted(outputs, g*outputs)
		part, checked := fit.pick(in, out), check.pick(in, out)
		w, b, err := solve(part, checked, mat.DenseCopyOf(original.Slice(out[0], out[0]+outputs, in[0], in[0]+features)))
		if err != nil {
			return 0, err
		}
		total += squaredError(checked, w, b)
		r.conv.w, r.conv.bias = append(r.conv.w, toFloat32(w)...), append(r.conv.bias, narrow(b)...)
	}
	return relative(total, check.variance()), nil
}

func shifted(n, by int) []int {
	list := upTo(n)
	for i := range list {
		list[i] += by
	}
	return list
}

func (r *grouped) build(b *builder) { b.step(r.op, &r.conv, r.op.Input) }

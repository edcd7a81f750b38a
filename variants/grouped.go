package variants

import (
	"errors"
	"fmt"
)

// groupedReplacements let each output read a part of the input channels only, in groups, each fitted by least squares.
func groupedReplacements(o *Op, _ Arithmetic) ([]Replacement, error) {
	if err := errGrouped(o); err != nil {
		return nil, err
	}
	if o.linear() {
		return nil, errors.New("a matrix product has no groups")
	}
	var groups []int
	for _, g := range []int{2, 4, 8} {
		if o.C%g == 0 && o.K%g == 0 && o.C/g >= 8 && o.K/g >= 8 {
			groups = append(groups, g)
		}
	}
	if len(groups) == 0 {
		return nil, fmt.Errorf("its %d input and %d output channels do not divide into groups of 8", o.C, o.K)
	}
	return forEach(o, groups, newGrouped), nil
}

type grouped struct{ steps }

func newGrouped(o *Op, groups int) *grouped {
	return &grouped{newSteps(o, fmt.Sprintf("%d groups", groups), o.like(o.C, o.K, groups))}
}

func (r *grouped) fit(s *statistics) (float64, error) {
	p, err := s.whole()
	if err != nil {
		return 0, err
	}
	o, conv := r.op, &r.list[0]
	original := o.original()
	features, outputs := o.patch()/conv.group, o.K/conv.group
	conv.w, conv.bias = conv.w[:0], conv.bias[:0]
	total := 0.0
	for g := range conv.group {
		in, out := from(g*features, features), from(g*outputs, outputs)
		part := p.pick(in, out)
		w, b, err := part.solve(original.Slice(out[0], out[0]+outputs, in[0], in[0]+features))
		if err != nil {
			return 0, err
		}
		total += part.check.squaredError(w, b)
		conv.w, conv.bias = append(conv.w, toFloat32(w)...), append(conv.bias, narrow(b)...)
	}
	return relative(total, p.check.variance()), nil
}

// from lists n numbers from the first one on.
func from(first, n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = first + i
	}
	return list
}

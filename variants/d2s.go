package variants

import "fmt"

// d2sReplacements are the published variant (arXiv 2606.06818): DepthToSpace(gamma), the same convolution with
// 1/gamma^2 of the channels on a map that is gamma times as large, SpaceToDepth(gamma). Weights shrink by gamma^4,
// multiply-accumulates by gamma^2. The inner padding is gamma times the outer one, and the result is cropped to the
// original's size. Of a matrix product, as of the 1x1 convolution that it is, gamma^2 slices of a row's channels go
// through the same smaller product.
func d2sReplacements(o *Op, _ Arithmetic) ([]Replacement, error) {
	if err := errGrouped(o); err != nil {
		return nil, err
	}
	var list []int
	for _, g := range gammas {
		if o.C%(g*g) == 0 && o.K%(g*g) == 0 && o.C > g*g {
			list = append(list, g)
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("its %d input and %d output channels do not divide by 4, 9 or 16", o.C, o.K)
	}
	return forEach(o, list, newD2S), nil
}

// gammas are those tried: published ones are 2 and 3.
var gammas = []int{2, 3, 4}

type d2s struct {
	steps
	gamma int
}

func newD2S(o *Op, gamma int) *d2s {
	inner := o.like(o.C/(gamma*gamma), o.K/(gamma*gamma), 1)
	inner.positions *= gamma * gamma
	return &d2s{newSteps(o, fmt.Sprintf("gamma %d", gamma), inner), gamma}
}

func (r *d2s) fit(s *statistics) (float64, error) {
	p := s.d2s[r.gamma]
	if p.err != nil {
		return 0, p.err
	}
	w, b, err := p.solve(nil)
	if err != nil {
		return 0, err
	}
	r.set(b, w)
	// The variance of all output channels, not only within the inner ones, whose means over the subpixels are not all
	// alike.
	area := float64(r.gamma * r.gamma)
	total := p.check.variance() * area
	if whole, err := s.whole(); err == nil {
		total = whole.check.variance()
	}
	return relative(p.check.squaredError(w, b)*area, total), nil
}

func (r *d2s) build(b *builder) {
	o, g := r.op, int64(r.gamma)
	if o.linear() {
		rows := int64(o.H)
		in := b.node("Reshape", []string{o.Input, b.ints([]int64{rows * g * g, int64(r.list[0].c)})})
		out := b.step(o, &r.list[0], in)
		b.node("Reshape", []string{out, b.ints(o.OutputShape)})
		return
	}
	inner := r.list[0]
	inner.pads = make([]int64, 4)
	for i, p := range []int{o.Top, o.Left, o.Bottom, o.Right} {
		inner.pads[i] = g * int64(p)
	}
	// What would be cropped is not computed where less padding does it.
	high, cropH := endPadding(o.H, o.OutH, o.KernelH, o.StrideH, o.DilationH, o.Top, r.gamma)
	wide, cropW := endPadding(o.W, o.OutW, o.KernelW, o.StrideW, o.DilationW, o.Left, r.gamma)
	inner.pads[2], inner.pads[3] = high, wide
	x := b.node("DepthToSpace", []string{o.Input}, attribute{"blocksize", g})
	x = b.step(o, &inner, x)
	if cropH || cropW {
		x = b.node("Slice", []string{x, b.ints([]int64{0, 0}), b.ints([]int64{g * int64(o.OutH), g * int64(o.OutW)}),
			b.ints([]int64{2, 3})})
	}
	b.node("SpaceToDepth", []string{x}, attribute{"blocksize", g})
}

// endPadding is the padding at the end with which the inner convolution gives
// exactly gamma times the outer size, or 0 and true where it gives more.
func endPadding(in, out, kernel, stride, dilation, begin, gamma int) (pad int64, crop bool) {
	need := (gamma*out-1)*stride + dilation*(kernel-1) + 1 - gamma*(in+begin)
	if need >= 0 {
		return int64(need), false
	}
	return 0, -need >= stride
}

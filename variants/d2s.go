package variants

import (
	"errors"
	"fmt"
	"math"

	"gonum.org/v1/gonum/mat"
)

// d2sFamily is the published variant (arXiv 2606.06818): DepthToSpace(gamma), the same convolution with 1/gamma^2 of
// the channels on a map that is gamma times as large, SpaceToDepth(gamma). Weights shrink by gamma^4,
// multiply-accumulates by gamma^2. The inner padding is gamma times the outer one, and the result is cropped to the
// original's size. Of a matrix product, as of the 1x1 convolution that it is, gamma^2 slices of a row's channels go
// through the same smaller product.
type d2sFamily struct{}

func (d2sFamily) Name() string { return "d2s" }

// gammas are those tried: published ones are 2 and 3.
var gammas = []int{2, 3, 4}

func (d2sFamily) Applies(o *Op) error {
	if err := errGrouped(o); err != nil {
		return err
	}
	for _, g := range gammas {
		if divides(o, g) {
			return nil
		}
	}
	return fmt.Errorf("its %d input and %d output channels do not divide by 4, 9 or 16", o.C, o.K)
}

func divides(o *Op, gamma int) bool {
	return o.C%(gamma*gamma) == 0 && o.K%(gamma*gamma) == 0 && o.C > gamma*gamma
}

func (d2sFamily) Replacements(o *Op) []Replacement {
	var out []Replacement
	for _, g := range gammas {
		if divides(o, g) {
			out = append(out, newD2S(o, g))
		}
	}
	return out
}

type d2s struct {
	op    *Op
	gamma int
	inner step
}

func newD2S(o *Op, gamma int) *d2s {
	r := &d2s{op: o, gamma: gamma, inner: o.like(o.C/(gamma*gamma), o.K/(gamma*gamma), 1)}
	r.inner.w, r.inner.bias = o.filler(r.inner.weights()), make([]float32, r.inner.k)
	return r
}

func (r *d2s) Parameters() string { return fmt.Sprintf("gamma %d", r.gamma) }

func (r *d2s) Cost() (macs, bytes int64) {
	return r.op.MACs() / int64(r.gamma*r.gamma), 4 * int64(len(r.inner.w)+len(r.inner.bias))
}

func (r *d2s) fit(s *statistics) (float64, error) {
	if err := s.reasons[r.gamma]; err != nil {
		return 0, err
	}
	m := s.d2s[r.gamma]
	if m == nil {
		return 0, errors.New("no statistics of this gamma")
	}
	if err := m.valid(); err != nil {
		return 0, err
	}
	fit, check := m.centre(&m.fit), m.centre(&m.check)
	w, b, err := solve(fit, check, mat.NewDense(m.k, m.d, nil))
	if err != nil {
		return 0, err
	}
	r.inner.w, r.inner.bias = toFloat32(w), narrow(b)
	// The variance of all output channels, not only within the inner ones,
	// whose means over the subpixels are not all alike.
	error := squaredError(check, w, b) * float64(r.gamma*r.gamma)
	total, err := s.outputVariance()
	if err != nil {
		total = check.variance() * float64(r.gamma*r.gamma)
	}
	return relative(error, total), nil
}

// outputVariance is that of the original's outputs, summed over channels, on the rows for checking.
func (s *statistics) outputVariance() (float64, error) {
	if s.tooLarge != nil {
		return 0, s.tooLarge
	}
	v := 0.0
	for _, m := range s.plain {
		side := m.side()
		for i := m.d + 1; i < side; i++ {
			mean := m.check.s[m.d*side+i] / m.check.n
			v += m.check.s[i*side+i]/m.check.n - mean*mean
		}
	}
	if math.IsNaN(v) {
		return 0, errNaN
	}
	return v, nil
}

func (r *d2s) build(b *builder) {
	o, g := r.op, int64(r.gamma)
	if o.linear() {
		rows := int64(o.H)
		in := b.node("Reshape", []string{o.Input, b.ints([]int64{rows * g * g, int64(r.inner.c)})})
		out := b.step(o, &r.inner, in)
		b.node("Reshape", []string{out, b.ints(o.OutputShape)})
		return
	}
	inner := r.inner
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

package variants

import (
	"fmt"

	"gonum.org/v1/gonum/mat"
)

// separableFamily is a depthwise convolution with a few outputs per channel, then a 1x1 convolution. The kernels of a
// channel are the leading ones of what the best full weights do with that channel, weighted by how it varies (Guo et
// al., "Network Decoupling", 2018, find them by an SVD of the weights alone); the 1x1 convolution is fitted by least
// squares to their real outputs.
type separableFamily struct{}

func (separableFamily) Name() string { return "separable" }

func (separableFamily) Applies(o *Op) error {
	if err := errGrouped(o); err != nil {
		return err
	}
	if o.KernelH*o.KernelW < 4 || o.C < 4 {
		return fmt.Errorf("its kernel is %dx%d and it has %d input channels", o.KernelH, o.KernelW, o.C)
	}
	return nil
}

func (separableFamily) Replacements(o *Op) []Replacement {
	var out []Replacement
	for m := 1; m <= 4; m++ {
		if 2*m <= o.KernelH*o.KernelW {
			out = append(out, newSeparable(o, m))
		}
	}
	return out
}

type separable struct {
	pair       // a depthwise convolution and a mix of channels
	multiplier int
}

func newSeparable(o *Op, m int) *separable {
	return &separable{newPair(o, fmt.Sprintf("multiplier %d", m), o.like(o.C, o.C*m, o.C), pointwise(o.C*m, o.K)), m}
}

func (r *separable) fit(s *statistics) (float64, error) {
	o := r.op
	fit, check, w, err := best(s)
	if err != nil {
		return 0, err
	}
	area := o.KernelH * o.KernelW
	t := mat.NewDense(o.C*r.multiplier, o.patch(), nil)
	for c := range o.C {
		kernels, err := r.kernels(fit, w, c, area)
		if err != nil {
			return 0, err
		}
		for m := range r.multiplier {
			for i := range area {
				t.Set(c*r.multiplier+m, c*area+i, kernels.At(i, m))
			}
		}
	}
	projected, checked := fit.project(t), check.project(t)
	mix, b, err := solve(projected, checked, nil)
	if err != nil {
		return 0, err
	}
	r.first.w = make([]float32, 0, r.first.weights())
	for n := range o.C * r.multiplier {
		c := n / r.multiplier
		for i := range area {
			r.first.w = append(r.first.w, float32(t.At(n, c*area+i)))
		}
	}
	r.second.w, r.second.bias = toFloat32(mix), narrow(b)
	return relative(squaredError(checked, mix, b), check.variance()), nil
}

// kernels are the leading ones of a channel, area x multiplier.
func (r *separable) kernels(fit centred, w *mat.Dense, c, area int) (*mat.Dense, error) {
	o := r.op
	a := mat.NewSymDense(area, nil)
	for i := range area {
		for j := i; j < area; j++ {
			a.SetSym(i, j, fit.xx.At(c*area+i, c*area+j))
		}
	}
	factor, ok := lower(a, 1e-12)
	if !ok {
		return nil, fmt.Errorf("input channel %d does not determine its kernel", c)
	}
	var weighted, gram mat.Dense
	weighted.Mul(factor.T(), w.Slice(0, o.K, c*area, (c+1)*area).T())
	gram.Mul(&weighted, weighted.T())
	q, err := leading(&gram, r.multiplier)
	if err != nil {
		return nil, err
	}
	var v mat.Dense
	if err := v.Solve(factor.T(), q); err != nil {
		return nil, err
	}
	// To unit length: a channel that hardly varies would get huge kernels.
	for m := range r.multiplier {
		length := mat.Norm(v.ColView(m), 2)
		for i := range area {
			v.Set(i, m, v.At(i, m)/length)
		}
	}
	return &v, nil
}

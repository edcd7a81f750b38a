package variants

import (
	"fmt"

	"gonum.org/v1/gonum/mat"
)

// separableReplacements are a depthwise convolution with a few outputs per channel, then a 1x1 convolution. The kernels
// of a channel are the leading ones of what the best full weights do with that channel, weighted by how it varies (Guo
// et al., "Network Decoupling", 2018, find them by an SVD of the weights alone); the 1x1 convolution is fitted by least
// squares to their real outputs.
func separableReplacements(o *Op, _ Arithmetic) ([]Replacement, error) {
	if err := errGrouped(o); err != nil {
		return nil, err
	}
	area := o.KernelH * o.KernelW
	if area < 4 || o.C < 4 {
		return nil, fmt.Errorf("its kernel is %dx%d and it has %d input channels", o.KernelH, o.KernelW, o.C)
	}
	return forEach(o, from(1, min(4, area/2)), newSeparable), nil
}

type separable struct {
	steps
	multiplier int
}

func newSeparable(o *Op, m int) *separable {
	depthwise, mix := o.like(o.C, o.C*m, o.C), o.pointwise(o.C*m, o.K)
	return &separable{newSteps(o, fmt.Sprintf("multiplier %d", m), depthwise, mix), m}
}

func (r *separable) fit(s *statistics) (float64, error) {
	o := r.op
	p, w, err := s.best()
	if err != nil {
		return 0, err
	}
	area := o.KernelH * o.KernelW
	rows := o.C * r.multiplier
	t, depthwise := mat.NewDense(rows, o.patch(), nil), mat.NewDense(rows, area, nil)
	for c := range o.C {
		kernels, err := r.kernels(p.fit, w, c, area)
		if err != nil {
			return 0, err
		}
		own := depthwise.Slice(c*r.multiplier, (c+1)*r.multiplier, 0, area).(*mat.Dense)
		own.Copy(kernels.T())
		t.Slice(c*r.multiplier, (c+1)*r.multiplier, c*area, (c+1)*area).(*mat.Dense).Copy(own)
	}
	projected := p.project(t)
	mix, b, err := projected.solve(nil)
	if err != nil {
		return 0, err
	}
	r.set(b, depthwise, mix)
	return projected.lost(mix, b), nil
}

// kernels are the leading ones of a channel, area x multiplier.
func (r *separable) kernels(fit centred, w *mat.Dense, c, area int) (*mat.Dense, error) {
	a := mat.NewSymDense(area, nil)
	a.CopySym(fit.xx.SliceSym(c*area, (c+1)*area))
	factor, ok := lower(a, 1e-12)
	if !ok {
		return nil, fmt.Errorf("input channel %d does not determine its kernel", c)
	}
	var weighted, gram mat.Dense
	weighted.Mul(factor.T(), w.Slice(0, r.op.K, c*area, (c+1)*area).T())
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

// lower is the Cholesky factor of a covariance, with a little of its mean added to the diagonal so that it exists: a is
// changed. least is added where all is 0.
func lower(a *mat.SymDense, least float64) (*mat.TriDense, bool) {
	ridge(a, 1e-6*mat.Trace(a)/float64(a.SymmetricDim())+least)
	var chol mat.Cholesky
	if !chol.Factorize(a) {
		return nil, false
	}
	var out mat.TriDense
	chol.LTo(&out)
	return &out, true
}

// ridge adds to the diagonal.
func ridge(a *mat.SymDense, x float64) {
	for i := range a.SymmetricDim() {
		a.SetSym(i, i, a.At(i, i)+x)
	}
}

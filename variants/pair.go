package variants

import "gonum.org/v1/gonum/mat"

// pair is two steps in place of an operator.
type pair struct {
	op            *Op
	parameters    string
	first, second step
	columns       int // of the first step's output
}

// newPair has weights to measure with.
func newPair(o *Op, parameters string, first, second step) pair {
	first.w, second.w, second.bias = o.filler(first.weights()), o.filler(second.weights()), make([]float32, o.K)
	return pair{op: o, parameters: parameters, first: first, second: second, columns: o.OutW}
}

func (p *pair) Parameters() string { return p.parameters }

func (p *pair) Cost() (macs, bytes int64) {
	first, second := p.first.weights(), p.second.weights()
	return int64(p.op.OutH * (first*p.columns + second*p.op.OutW)), 4 * int64(first+second+p.op.K)
}

func (p *pair) build(b *builder) { b.step(p.op, &p.second, b.step(p.op, &p.first, p.op.Input)) }

// lower is the Cholesky factor of a covariance, with a little of its mean added
// to the diagonal so that it exists: a is changed. least is added where all is 0.
func lower(a *mat.SymDense, least float64) (*mat.TriDense, bool) {
	n := a.SymmetricDim()
	scale := 0.0
	for i := range n {
		scale += a.At(i, i) / float64(n)
	}
	for i := range n {
		a.SetSym(i, i, a.At(i, i)+1e-6*scale+least)
	}
	var chol mat.Cholesky
	if !chol.Factorize(a) {
		return nil, false
	}
	var out mat.TriDense
	chol.LTo(&out)
	return &out, true
}

package variants

import (
	"fmt"

	"gonum.org/v1/gonum/mat"
)

// lowRankReplacements factor an operator over its channels: the same kernel to rank channels, then a 1x1 convolution to
// all. The factors are those of reduced-rank regression (Izenman, "Reduced-rank regression for the multivariate linear
// model", 1975): with W the best full weights for what arrives, the second factor is spanned by the leading
// eigenvectors of the covariance of W p, so that what is left out is what varies least in real outputs, as in Zhang et
// al., "Accelerating Very Deep Convolutional Networks", 2016.
func lowRankReplacements(o *Op, _ Arithmetic) ([]Replacement, error) {
	if err := errGrouped(o); err != nil {
		return nil, err
	}
	// At least a fifth of the work is saved.
	list := ranks(min(o.K, o.patch()), []float64{0.5, 0.375, 0.25, 0.1875, 0.125, 0.0625},
		func(r int) bool { return 5*r*(o.patch()+o.K) <= 4*o.patch()*o.K })
	if len(list) == 0 {
		return nil, fmt.Errorf("no rank saves work for %d inputs and %d outputs", o.patch(), o.K)
	}
	return forEach(o, list, newLowRank), nil
}

type lowRank struct {
	steps
	rank int
}

func newLowRank(o *Op, rank int) *lowRank {
	return &lowRank{newSteps(o, fmt.Sprintf("rank %d", rank), o.like(o.C, rank, 1), o.pointwise(rank, o.K)), rank}
}

func (r *lowRank) fit(s *statistics) (float64, error) {
	p, w, err := s.best()
	if err != nil {
		return 0, err
	}
	u, err := s.basis("lowrank", r.rank, func() *mat.Dense {
		return multiply(multiply(w, p.fit.xx), w.T()) // the covariance of W p
	})
	if err != nil {
		return 0, err
	}
	v := multiply(u.T(), w)
	product := multiply(u, v)
	b := p.fit.intercept(product)
	r.set(b, v, u)
	return p.lost(product, b), nil
}

// leading is the eigenvectors of the largest eigenvalues of a symmetric matrix, as columns.
func leading(m *mat.Dense, n int) (*mat.Dense, error) {
	k, _ := m.Dims()
	var e mat.EigenSym
	if !e.Factorize(symmetric(m), true) {
		return nil, fmt.Errorf("the eigenvalues of %d outputs were not found", k)
	}
	var all mat.Dense
	e.VectorsTo(&all)
	u := mat.NewDense(k, n, nil)
	for j := range n {
		u.SetCol(j, mat.Col(nil, k-1-j, &all)) // ascending
	}
	return u, nil
}

// symmetric rounds what is symmetric but for rounding.
func symmetric(m *mat.Dense) *mat.SymDense {
	k, _ := m.Dims()
	out := mat.NewSymDense(k, nil)
	for i := range k {
		for j := i; j < k; j++ {
			out.SetSym(i, j, (m.At(i, j)+m.At(j, i))/2)
		}
	}
	return out
}

package variants

import (
	"fmt"
	"slices"

	"gonum.org/v1/gonum/mat"
)

// lowRankFamily factors an operator over its channels: the same kernel to rank channels, then a 1x1 convolution to all.
// The factors are those of reduced-rank regression (Izenman, "Reduced-rank regression for the multivariate linear
// model", 1975): with W the best full weights for what arrives, the second factor is spanned by the leading
// eigenvectors of the covariance of W p, so that what is left out is what varies least in real outputs, as in Zhang et
// al., "Accelerating Very Deep Convolutional Networks", 2016.
type lowRankFamily struct{}

func (lowRankFamily) Name() string { return "lowrank" }

func (lowRankFamily) Applies(o *Op) error {
	if err := errGrouped(o); err != nil {
		return err
	}
	if len(ranks(o)) == 0 {
		return fmt.Errorf("no rank saves work for %d inputs and %d outputs", o.patch(), o.K)
	}
	return nil
}

// ranks are shares of what is possible that save at least a fifth of the work.
func ranks(o *Op) []int {
	var out []int
	for _, share := range []float64{0.5, 0.375, 0.25, 0.1875, 0.125, 0.0625} {
		r := int(share * float64(min(o.K, o.patch())))
		if r >= 8 {
			r = r / 8 * 8 // whole vectors
		}
		if r >= 1 && 5*r*(o.patch()+o.K) <= 4*o.patch()*o.K && !slices.Contains(out, r) {
			out = append(out, r)
		}
	}
	return out
}

func (lowRankFamily) Replacements(o *Op) []Replacement {
	var out []Replacement
	for _, r := range ranks(o) {
		out = append(out, newLowRank(o, r))
	}
	return out
}

type lowRank struct {
	pair
	rank int
}

func newLowRank(o *Op, rank int) *lowRank {
	return &lowRank{newPair(o, fmt.Sprintf("rank %d", rank), o.like(o.C, rank, 1), pointwise(rank, o.K)), rank}
}

func (r *lowRank) fit(s *statistics) (float64, error) {
	fit, check, w, err := best(s)
	if err != nil {
		return 0, err
	}
	u, err := s.cached.basis("lowrank", r.rank, func() *mat.Dense {
		return multiply(multiply(w, fit.xx), w.T()) // the covariance of W p
	})
	if err != nil {
		return 0, err
	}
	v := multiply(u.T(), w)
	product := multiply(u, v)
	b := intercept(fit, product)
	r.first.w, r.second.w, r.second.bias = toFloat32(v), toFloat32(u), narrow(b)
	return relative(squaredError(check, product, b), check.variance()), nil
}

// leading is the eigenvectors of the largest eigenvalues of a symmetric matrix, as columns.
func leading(m *mat.Dense, n int) (*mat.Dense, error) {
	k, _ := m.Dims()
	sym := mat.NewSymDense(k, nil)
	for i := range k {
		for j := i; j < k; j++ {
			sym.SetSym(i, j, (m.At(i, j)+m.At(j, i))/2)
		}
	}
	var e mat.EigenSym
	if !e.Factorize(sym, true) {
		return nil, fmt.Errorf("the eigenvalues of %d outputs were not found", k)
	}
	var all mat.Dense
	e.VectorsTo(&all)
	u := mat.NewDense(k, n, nil)
	for i := range k {
		for j := range n {
			u.Set(i, j, all.At(i, k-1-j)) // ascending
		}
	}
	return u, nil
}

package variants

import (
	"errors"
	"fmt"

	"gonum.org/v1/gonum/mat"
)

// spatialReplacements factor a kernel into a column and a row: a KernelH x 1 convolution to rank channels, then a 1 x
// KernelW one to all (Jaderberg et al., "Speeding up Convolutional Neural Networks with Low Rank Expansions", 2014).
// The columns are the leading ones of the best full weights, weighted by how what arrives varies; the rows are then
// fitted by least squares to the columns' real outputs.
func spatialReplacements(o *Op, _ Arithmetic) ([]Replacement, error) {
	if err := errGrouped(o); err != nil {
		return nil, err
	}
	if o.KernelH < 2 || o.KernelW < 2 {
		return nil, fmt.Errorf("its kernel is %dx%d", o.KernelH, o.KernelW)
	}
	list := ranks(o.K, []float64{0.75, 0.5, 0.375, 0.25, 0.125}, func(r int) bool {
		// At the positions of the column's output, which has the input's width.
		work := r*o.C*o.KernelH*o.OutH*o.W + o.K*r*o.KernelW*o.OutH*o.OutW
		return r <= o.C*o.KernelH && int64(5*work) <= 4*o.MACs()
	})
	if len(list) == 0 {
		return nil, errors.New("no rank saves work")
	}
	return forEach(o, list, newSpatial), nil
}

type spatial struct {
	steps // a column and a row
	rank  int
}

func newSpatial(o *Op, rank int) *spatial {
	column, row := o.like(o.C, rank, 1), o.like(rank, o.K, 1)
	column.kw, column.strides[1], column.dilation[1], column.pads[1], column.pads[3] = 1, 1, 1, 0, 0
	column.positions = o.OutH * o.W
	row.kh, row.strides[0], row.dilation[0], row.pads[0], row.pads[2] = 1, 1, 1, 0, 0
	return &spatial{newSteps(o, fmt.Sprintf("rank %d", rank), column, row), rank}
}

func (r *spatial) fit(s *statistics) (float64, error) {
	o := r.op
	p, w, err := s.best()
	if err != nil {
		return 0, err
	}
	columns := o.C * o.KernelH
	// The covariance of columns, averaged over where in the patch they lie.
	a := mat.NewSymDense(columns, nil)
	for i := range columns {
		for j := i; j < columns; j++ {
			for x := range o.KernelW {
				a.SetSym(i, j, a.At(i, j)+p.fit.xx.At(i*o.KernelW+x, j*o.KernelW+x)/float64(o.KernelW))
			}
		}
	}
	factor, ok := lower(a, 1e-30)
	if !ok {
		return 0, errUndetermined
	}
	q, err := s.basis("spatial", r.rank, func() *mat.Dense {
		m := mat.NewDense(columns, o.KernelW*o.K, nil)
		for k := range o.K {
			for i := range columns {
				for x := range o.KernelW {
					m.Set(i, x*o.K+k, w.At(k, i*o.KernelW+x))
				}
			}
		}
		weighted := multiply(factor.T(), m)
		return multiply(weighted, weighted.T())
	})
	if err != nil {
		return 0, err
	}
	var v mat.Dense // columns x rank
	if err := v.Solve(factor.T(), q); err != nil {
		return 0, err
	}
	// What the row convolution reads: every rank at every x of the patch.
	t := mat.NewDense(r.rank*o.KernelW, o.patch(), nil)
	for n := range r.rank {
		for x := range o.KernelW {
			for i := range columns {
				t.Set(n*o.KernelW+x, i*o.KernelW+x, v.At(i, n))
			}
		}
	}
	projected := p.project(t)
	h, b, err := projected.solve(nil)
	if err != nil {
		return 0, err
	}
	r.set(b, v.T(), h)
	return projected.lost(h, b), nil
}

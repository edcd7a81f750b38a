package variants

import (
	"errors"
	"fmt"
	"math"
	"slices"

	floats64 "gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"
	"google.golang.org/protobuf/proto"

	pb "github.com/terastal/terastal/internal/onnxpb"
	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/variants/internal/chain"
)

// moments are the sums that a least-squares problem depends on: of products of z = [p, 1, y], where p is what an output
// reads (d numbers) and y the original's outputs there (k numbers). They take (d+1+k)^2 numbers however many rows are
// added. Rows of the images that are kept for checking go to a second sum.
type moments struct {
	d, k       int
	fit, check sums
	product    *chain.Runner // nil where it does not pay
}

type sums struct {
	n    float64
	s    []float64 // (d+1+k)^2
	rows []float64 // not yet added
}

// chunk is how many rows are multiplied at once.
const chunk = 512

// maxUnknowns bounds the side of the matrix of moments: 128 MiB.
const maxUnknowns = 4096

func newMoments(d, k int) (*moments, error) {
	side := d + 1 + k
	if side > maxUnknowns {
		return nil, fmt.Errorf("%d unknowns and outputs, at most %d are fitted", side, maxUnknowns)
	}
	m := &moments{d: d, k: k}
	for _, s := range []*sums{&m.fit, &m.check} {
		s.s, s.rows = make([]float64, side*side), make([]float64, 0, chunk*side)
	}
	if side >= 48 {
		var err error
		if m.product, err = newProduct(side); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// newProduct is Z'Z of a chunk of rows Z, in double precision, as ONNX Runtime
// computes it: some ten times as fast as plain Go.
func newProduct(side int) (*chain.Runner, error) {
	b := builder{prefix: "p"}
	b.node("Gemm", []string{"z", "z"}, attribute{"transA", int64(1)})
	return doubles(b.nodes, []models.Tensor{{Name: "z", Type: ort.Double, Shape: []int64{chunk, int64(side)}}},
		int64(side), int64(side))
}

// doubles runs nodes in double precision, the last of which makes a matrix.
func doubles(nodes []*pb.NodeProto, inputs []models.Tensor, rows, columns int64) (*chain.Runner, error) {
	nodes[len(nodes)-1].Output[0] = "s"
	g := graph{pb.NewModel(&pb.GraphProto{
		Name: proto.String("product"), Node: nodes, Output: []*pb.ValueInfoProto{pb.NewValue("s", ort.Double, rows, columns)},
	}, 17)}
	for _, t := range inputs {
		g.Graph.Input = append(g.Graph.Input, pb.NewValue(t.Name, t.Type, t.Shape...))
	}
	return newRunner(g, inputs, []string{"s"}, "all")
}

// multiply is a times b. Large products take ONNX Runtime.
func multiply(a, b mat.Matrix) *mat.Dense {
	r, n := a.Dims()
	_, c := b.Dims()
	out := mat.NewDense(r, c, nil)
	if r*n*c < 1<<23 {
		out.Mul(a, b)
		return out
	}
	nodes := builder{prefix: "p"}
	nodes.node("MatMul", []string{"a", "b"})
	run, err := doubles(nodes.nodes, []models.Tensor{{Name: "a", Type: ort.Double, Shape: []int64{int64(r), int64(n)}},
		{Name: "b", Type: ort.Double, Shape: []int64{int64(n), int64(c)}}}, int64(r), int64(c))
	if err == nil {
		defer run.Close()
		err = run.Run(map[string][]byte{"a": ort.Data(mat.DenseCopyOf(a).RawMatrix().Data),
			"b": ort.Data(mat.DenseCopyOf(b).RawMatrix().Data)})
	}
	if err != nil {
		out.Mul(a, b)
		return out
	}
	copy(ort.Data(out.RawMatrix().Data), run.Results[0])
	return out
}

func (m *moments) side() int { return m.d + 1 + m.k }

// row returns the place for the next row, to be filled entirely.
func (m *moments) row(checking bool) []float64 {
	to := &m.fit
	if checking {
		to = &m.check
	}
	if len(to.rows) == cap(to.rows) {
		m.flush(to)
	}
	at := len(to.rows)
	to.rows = to.rows[:at+m.side()]
	return to.rows[at:]
}

func (m *moments) flush(to *sums) {
	side := m.side()
	n := len(to.rows) / side
	to.n += float64(n)
	if m.product == nil {
		for r := range n {
			z := to.rows[r*side : (r+1)*side]
			for i, a := range z {
				for j, b := range z {
					to.s[i*side+j] += a * b
				}
			}
		}
	} else if n > 0 {
		full := to.rows[:cap(to.rows)]
		clear(full[n*side:])
		if err := m.product.Run(map[string][]byte{"z": ort.Data(full)}); err != nil {
			panic(fmt.Sprintf("variants: a matrix product: %v", err)) // of a fixed shape that has worked before
		}
		for i, x := range ort.Numbers[float64](m.product.Results[0]) {
			to.s[i] += x
		}
	}
	to.rows = to.rows[:0]
}

// finish ends a pass and makes the least-squares problem of its moments, which are no more of use.
func (m *moments) finish() (p problem) {
	m.flush(&m.fit)
	m.flush(&m.check)
	if m.product != nil {
		m.product.Close()
	}
	if m.fit.n == 0 || m.check.n == 0 {
		p.err = errNoRows
		return p
	}
	p.fit, p.check = m.centre(&m.fit), m.centre(&m.check)
	sum := mat.Trace(p.fit.xx) + mat.Trace(p.check.xx) + p.fit.variance() + p.check.variance()
	if sum-sum != 0 {
		p.err = errNaN
	}
	return p
}

var (
	errNoRows = errors.New("no calibration data")
	errNaN    = errors.New("the activations hold NaN or infinity")

	errUndetermined = errors.New("the calibration activations do not determine the weights")
)

// problem is a least-squares problem: what weights are fitted to, and what they are checked with.
type problem struct {
	fit, check centred
	err        error // why it cannot be solved
}

// centred are the covariances among features and of features with outputs, the variances of outputs, and the means.
type centred struct {
	xx     *mat.SymDense
	xy     *mat.Dense // features x outputs
	yy     []float64
	mx, my []float64
}

func (m *moments) centre(s *sums) centred {
	side, d := m.side(), m.d
	all := mat.NewDense(side, side, s.s)
	all.Scale(1/s.n, all)
	mean := slices.Clone(all.RawRowView(d))
	c := centred{xx: mat.NewSymDense(d, nil), xy: mat.DenseCopyOf(all.Slice(0, d, d+1, side)), yy: make([]float64, m.k),
		mx: mean[:d], my: mean[d+1:]}
	mx, my := mat.NewVecDense(d, c.mx), mat.NewVecDense(m.k, c.my)
	c.xx.CopySym(mat.NewSymDense(side, s.s).SliceSym(0, d))
	c.xx.SymRankOne(c.xx, -1, mx)
	c.xy.RankOne(c.xy, -1, mx, my)
	for i, y := range c.my {
		c.yy[i] = all.At(d+1+i, d+1+i) - y*y
	}
	return c
}

// power is the mean square of each feature.
func (c centred) power() []float64 {
	out := make([]float64, len(c.mx))
	for i, m := range c.mx {
		out[i] = c.xx.At(i, i) + m*m
	}
	return out
}

// project is the problem of t*x in place of the features x.
func (p problem) project(t mat.Matrix) problem {
	return problem{p.fit.project(t), p.check.project(t), p.err}
}

func (c centred) project(t mat.Matrix) centred {
	r, d := t.Dims()
	var mean mat.VecDense
	mean.MulVec(t, mat.NewVecDense(d, c.mx))
	out := c
	out.xx, out.xy, out.mx = symmetric(multiply(multiply(t, c.xx), t.T())), multiply(t, c.xy), mean.RawVector().Data[:r]
	return out
}

// pick is the problem of some of the features and outputs; nil for all outputs.
func (p problem) pick(features, outputs []int) problem {
	if outputs == nil {
		outputs = from(0, len(p.fit.my))
	}
	return problem{p.fit.pick(features, outputs), p.check.pick(features, outputs), p.err}
}

func (c centred) pick(features, outputs []int) centred {
	out := centred{xx: mat.NewSymDense(len(features), nil), xy: mat.NewDense(len(features), len(outputs), nil),
		yy: picked(c.yy, outputs), mx: picked(c.mx, features), my: picked(c.my, outputs)}
	out.xx.SubsetSym(c.xx, features)
	for i, f := range features {
		out.xy.SetRow(i, picked(c.xy.RawRowView(f), outputs))
	}
	return out
}

func picked(v []float64, at []int) []float64 {
	out := make([]float64, len(at))
	for i, n := range at {
		out[i] = v[n]
	}
	return out
}

// ridges are the strengths of regularisation that are tried, as a share of the features' mean variance.
var ridges = []float64{1e-10, 1e-7, 1e-5, 1e-3, 1e-2}

// solve is the W, outputs x features, and the intercepts b that minimise E|y - Wx - b|^2 + lambda |W - W0|^2 over the
// fitted rows, with the lambda that does best on the rows kept for checking. W0 may be nil for zero.
func (p problem) solve(w0 mat.Matrix) (w *mat.Dense, b []float64, err error) {
	fit := p.fit
	d, k := fit.xy.Dims()
	if w0 == nil {
		w0 = mat.NewDense(k, d, nil)
	}
	scale := mat.Trace(fit.xx) / float64(d)
	if scale == 0 { // nothing varies: the mean is all there is
		scale = 1
	}
	best := math.Inf(1)
	right := multiply(fit.xx, w0.T()) // Sxy - Sxx W0'
	right.Sub(fit.xy, right)
	for _, r := range ridges {
		a := mat.NewSymDense(d, nil)
		a.CopySym(fit.xx)
		ridge(a, r*scale)
		var c mat.Cholesky
		if !c.Factorize(a) {
			continue
		}
		var x mat.Dense
		if c.SolveTo(&x, right) != nil && c.Cond() > 1e15 {
			continue
		}
		candidate := mat.NewDense(k, d, nil)
		candidate.Add(w0, x.T())
		intercepts := fit.intercept(candidate)
		e := p.check.squaredError(candidate, intercepts)
		if e > best { // more will not help
			break
		}
		best, w, b = e, candidate, intercepts
	}
	if w == nil {
		return nil, nil, errUndetermined
	}
	return w, b, nil
}

// lost is the squared error of weights on the rows for checking, as a share of the outputs' variance.
func (p problem) lost(w *mat.Dense, b []float64) float64 {
	return relative(p.check.squaredError(w, b), p.check.variance())
}

// intercept makes the errors of W zero on average.
func (c centred) intercept(w *mat.Dense) []float64 {
	b := slices.Clone(c.my)
	for i := range b {
		b[i] -= floats64.Dot(w.RawRowView(i), c.mx)
	}
	return b
}

// squaredError is E|y - Wx - b|^2, summed over the outputs.
func (c centred) squaredError(w *mat.Dense, b []float64) float64 {
	wx := multiply(w, c.xx)
	total := 0.0
	for i := range c.my {
		e := c.yy[i]
		off := c.my[i] - b[i]
		for j, x := range w.RawRowView(i) {
			e += x * (wx.At(i, j) - 2*c.xy.At(j, i))
			off -= x * c.mx[j]
		}
		total += max(0, e) + off*off
	}
	return total
}

// variance is that of the outputs, summed.
func (c centred) variance() float64 { return floats64.Sum(c.yy) }

// relative is an error as a share of the outputs' variance.
func relative(e, variance float64) float64 {
	switch {
	case e <= 0:
		return 0
	case variance <= 0:
		return 1
	}
	return e / variance
}

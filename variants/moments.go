package variants

import (
	"errors"
	"fmt"
	"math"
	"slices"

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

func (m *moments) close() {
	if m.product != nil {
		m.product.Close()
	}
}

// finish ends a pass: afterwards the moments may be read.
func (m *moments) finish() {
	for _, to := range []*sums{&m.fit, &m.check} {
		m.flush(to)
		to.rows = nil
	}
	m.close()
	m.product = nil
}

var (
	errNoRows    = errors.New("no calibration data")
	errNaN       = errors.New("the activations hold NaN or infinity")
	errHalfRange = errors.New("its input exceeds the range of half precision")
)

// valid says why the moments are of no use.
func (m *moments) valid() error {
	if m.fit.n == 0 || m.check.n == 0 {
		return errNoRows
	}
	for i := range m.side() {
		if x := m.fit.s[i*m.side()+i] + m.check.s[i*m.side()+i]; math.IsNaN(x) || math.IsInf(x, 0) {
			return errNaN
		}
	}
	return nil
}

// centred gives the covariances among features and of features with outputs, and the means. Features are linear
// combinations of p: the rows of t, or p itself where t is nil; pick chooses some of them, nil all.
type centred struct {
	xx     *mat.SymDense
	xy     *mat.Dense // features x outputs
	yy     *mat.SymDense
	mx, my []float64
}

func (m *moments) centre(s *sums) centred {
	side, n := m.side(), s.n
	c := centred{xx: mat.NewSymDense(m.d, nil), xy: mat.NewDense(m.d, m.k, nil), yy: mat.NewSymDense(m.k, nil),
		mx: make([]float64, m.d), my: make([]float64, m.k)}
	one := m.d * side
	for i := range m.d {
		c.mx[i] = s.s[one+i] / n
	}
	for i := range m.k {
		c.my[i] = s.s[one+m.d+1+i] / n
	}
	for i := range m.d {
		for j := i; j < m.d; j++ {
			c.xx.SetSym(i, j, s.s[i*side+j]/n-c.mx[i]*c.mx[j])
		}
		for j := range m.k {
			c.xy.Set(i, j, s.s[i*side+m.d+1+j]/n-c.mx[i]*c.my[j])
		}
	}
	for i := range m.k {
		for j := i; j < m.k; j++ {
			c.yy.SetSym(i, j, s.s[(m.d+1+i)*side+m.d+1+j]/n-c.my[i]*c.my[j])
		}
	}
	return c
}

// project is the moments of t*p in place of p.
func (c centred) project(t mat.Matrix) centred {
	r, _ := t.Dims()
	full := multiply(multiply(t, c.xx), t.T())
	out := centred{xx: mat.NewSymDense(r, nil), yy: c.yy, mx: make([]float64, r), my: c.my}
	for i := range r {
		for j := i; j < r; j++ {
			out.xx.SetSym(i, j, (full.At(i, j)+full.At(j, i))/2)
		}
	}
	out.xy = multiply(t, c.xy)
	mat.NewVecDense(r, out.mx).MulVec(t, mat.NewVecDense(len(c.mx), c.mx))
	return out
}

// pick is the moments of some of the features and outputs; nil for all.
func (c centred) pick(features, outputs []int) centred {
	if outputs == nil {
		outputs = upTo(len(c.my))
	}
	out := centred{xx: mat.NewSymDense(len(features), nil), xy: mat.NewDense(len(features), len(outputs), nil),
		yy: mat.NewSymDense(len(outputs), nil), mx: make([]float64, len(features)), my: make([]float64, len(outputs))}
	for i, f := range features {
		out.mx[i] = c.mx[f]
		for j := i; j < len(features); j++ {
			out.xx.SetSym(i, j, c.xx.At(f, features[j]))
		}
		for j, o := range outputs {
			out.xy.Set(i, j, c.xy.At(f, o))
		}
	}
	for i, o := range outputs {
		out.my[i] = c.my[o]
		for j := i; j < len(outputs); j++ {
			out.yy.SetSym(i, j, c.yy.At(o, outputs[j]))
		}
	}
	return out
}

func upTo(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return all
}

// ridges are the strengths of regularisation that are tried, as a share of the features' mean variance.
var ridges = []float64{1e-10, 1e-7, 1e-5, 1e-3, 1e-2}

// solve is the W, outputs x features, and the intercepts b that minimise E|y - Wx - b|^2 + lambda |W - W0|^2 over the
// fitted rows, with the lambda that does best on the rows kept for checking. W0 may be nil for zero.
func solve(fit, check centred, w0 *mat.Dense) (w *mat.Dense, b []float64, err error) {
	d, k := len(fit.mx), len(fit.my)
	if w0 == nil {
		w0 = mat.NewDense(k, d, nil)
	}
	scale := 0.0
	for i := range d {
		scale += fit.xx.At(i, i) / float64(d)
	}
	if scale == 0 { // nothing varies: the mean is all there is
		scale = 1
	}
	best := math.Inf(1)
	right := multiply(fit.xx, w0.T()) // Sxy - Sxx W0'
	right.Sub(fit.xy, right)
	for _, r := range ridges {
		a := mat.NewSymDense(d, nil)
		a.CopySym(fit.xx)
		for i := range d {
			a.SetSym(i, i, a.At(i, i)+r*scale)
		}
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
		intercepts := intercept(fit, candidate)
		e := squaredError(check, candidate, intercepts)
		if e > best { // more will not help
			break
		}
		best, w, b = e, candidate, intercepts
	}
	if w == nil {
		return nil, nil, errors.New("the calibration activations do not determine the weights")
	}
	return w, b, nil
}

// intercept makes the errors of W zero on average.
func intercept(c centred, w *mat.Dense) []float64 {
	b := slices.Clone(c.my)
	for i := range b {
		for j, m := range c.mx {
			b[i] -= w.At(i, j) * m
		}
	}
	return b
}

// squaredError is E|y - Wx - b|^2, summed over the outputs.
func squaredError(c centred, w *mat.Dense, b []float64) float64 {
	wx := multiply(w, c.xx)
	k, d := w.Dims()
	total := 0.0
	for i := range k {
		e := c.yy.At(i, i)
		off := c.my[i] - b[i]
		for j := range d {
			e += w.At(i, j) * (wx.At(i, j) - 2*c.xy.At(j, i))
			off -= w.At(i, j) * c.mx[j]
		}
		total += max(0, e) + off*off
	}
	return total
}

// variance is that of the outputs, summed.
func (c centred) variance() float64 {
	v := 0.0
	for i := range c.my {
		v += c.yy.At(i, i)
	}
	return v
}

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

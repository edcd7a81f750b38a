package variants

import (
	"fmt"

	"gonum.org/v1/gonum/mat"
)

// Family is a way to make an operator cheaper.
type Family interface {
	// Name is short and stays the same: it goes into documents.
	Name() string
	// Applies is nil if the family has replacements for the operator, else it says why not.
	Applies(*Op) error
	// Replacements lists them, by parameters.
	Replacements(*Op) []Replacement
}

// Replacement is one replacement of one operator. Before Fit it has weights of
// the right shape, which is enough to measure how fast it is.
type Replacement interface {
	// Parameters tells apart the replacements of a family.
	Parameters() string
	// Cost is the multiply-accumulates of a run, and the bytes of its weights.
	Cost() (macs, bytes int64)

	// fit sets the weights and returns the error that is expected of them: the
	// squared error as a share of the outputs' variance.
	fit(*statistics) (float64, error)
	// build adds the nodes that compute the operator's output, the last of which makes it.
	build(b *builder)
}

// Families are all families, the published one first. Half precision is left out where all accelerators are on the CPU,
// which gains nothing from it. The weights of the 8-bit families depend on the arithmetic.
func Families(cpu bool, a Arithmetic) []Family {
	all := []Family{d2sFamily{}, lowRankFamily{}, spatialFamily{}, separableFamily{}, groupedFamily{}, prunedFamily{},
		int8Family{a}, prunedInt8Family{a}}
	if !cpu {
		all = append(all, halfFamily{})
	}
	return all
}

// filler is n numbers of about the size of the operator's weights, to measure
// with: no zeros and no denormals, which some kernels are faster or slower with.
func (o *Op) filler(n int) []float32 {
	w := make([]float32, n)
	for i := range w {
		w[i] = o.Weight[i%len(o.Weight)]
		if w[i] > -1e-4 && w[i] < 1e-4 {
			w[i] = 1e-4
		}
	}
	return w
}

// step is a convolution, or a matrix product, of a replacement.
type step struct {
	w        []float32 // [k, c/group, kh, kw]
	bias     []float32 // nil for none
	c, k     int
	kh, kw   int
	group    int
	strides  []int64
	dilation []int64
	pads     []int64 // top, left, bottom, right
}

// like is a step with the geometry of the operator.
func (o *Op) like(c, k, group int) step {
	return step{c: c, k: k, kh: o.KernelH, kw: o.KernelW, group: group,
		strides: []int64{int64(o.StrideH), int64(o.StrideW)}, dilation: []int64{int64(o.DilationH), int64(o.DilationW)},
		pads: []int64{int64(o.Top), int64(o.Left), int64(o.Bottom), int64(o.Right)}}
}

// pointwise is a 1x1 step.
func pointwise(c, k int) step {
	return step{c: c, k: k, kh: 1, kw: 1, group: 1, strides: []int64{1, 1}, dilation: []int64{1, 1},
		pads: []int64{0, 0, 0, 0}}
}

func (s *step) weights() int { return s.k * s.c / s.group * s.kh * s.kw }

// add adds a step that reads a value; linear where o is a matrix product.
func (b *builder) step(o *Op, s *step, in string) string {
	if o.linear() {
		out := b.node("MatMul", []string{in, b.floats(transposed(s.w, s.k), int64(s.c), int64(s.k))})
		if s.bias != nil {
			out = b.node("Add", []string{out, b.floats(s.bias, int64(s.k))})
		}
		return out
	}
	inputs := []string{in, b.floats(s.w, int64(s.k), int64(s.c/s.group), int64(s.kh), int64(s.kw))}
	if s.bias != nil {
		inputs = append(inputs, b.floats(s.bias, int64(s.k)))
	}
	return b.node("Conv", inputs, s.geometry()...)
}

// geometry is what a convolution's attributes say about the step.
func (s *step) geometry() []attribute {
	return []attribute{{"group", int64(s.group)}, {"kernel_shape", []int64{int64(s.kh), int64(s.kw)}},
		{"strides", s.strides}, {"dilations", s.dilation}, {"pads", s.pads}}
}

// transposed is a matrix of k rows by columns: MatMul takes weights as [c, k].
func transposed[T any](w []T, k int) []T {
	out := make([]T, 0, len(w))
	for j := range len(w) / k {
		for i := range k {
			out = append(out, w[i*len(w)/k+j])
		}
	}
	return out
}

func toFloat32(m mat.Matrix) []float32 {
	r, c := m.Dims()
	out := make([]float32, 0, r*c)
	for i := range r {
		for j := range c {
			out = append(out, float32(m.At(i, j)))
		}
	}
	return out
}

func narrow(v []float64) []float32 {
	out := make([]float32, len(v))
	for i, x := range v {
		out[i] = float32(x)
	}
	return out
}

// original is the operator's weights as a matrix, outputs x patch.
func (o *Op) original() *mat.Dense {
	w := mat.NewDense(o.K, o.patch(), nil)
	for i, x := range o.Weight {
		w.RawMatrix().Data[i] = float64(x)
	}
	return w
}

// best is the best full replacement of the original's weights, given what arrives: the original's where exactly what it
// was made for arrives. The moments are those of the operator without groups.
func best(s *statistics) (fit, check centred, w *mat.Dense, err error) {
	if fit, check, err = s.whole(); err != nil {
		return fit, check, nil, err
	}
	s.computing.Lock()
	defer s.computing.Unlock()
	if s.cached.best != nil {
		return fit, check, s.cached.best, nil
	}
	w = s.op.original()
	if e := squaredError(check, w, intercept(fit, w)); relative(e, check.variance()) > 1e-9 {
		if w, _, err = solve(fit, check, w); err != nil {
			return fit, check, nil, err
		}
	}
	s.cached.best = w
	return fit, check, w, nil
}

func errGrouped(o *Op) error {
	if o.Group != 1 {
		return fmt.Errorf("it has %d groups already", o.Group)
	}
	return nil
}

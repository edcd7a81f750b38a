package variants

import (
	"fmt"
	"slices"

	"gonum.org/v1/gonum/mat"
)

// Family is a way to make the operators of a layer cheaper, or a precision to compute the whole layer in.
type Family struct {
	// Name is short and stays the same: it goes into documents.
	Name string
	// replace lists the replacements of an operator, by parameters, or says why there are none. Every call makes new
	// ones. The weights of 8-bit replacements depend on the arithmetic.
	replace func(*Op, Arithmetic) ([]Replacement, error)
	lower   *precision
}

// Lower reports whether a family computes the same with fewer bits on accelerators that have units for it.
func Lower(family string) bool {
	i := slices.IndexFunc(Families(), func(f Family) bool { return f.Name == family })
	return i >= 0 && Families()[i].lower != nil
}

// Replacement is one replacement of one operator. Before it is fitted it has weights of the right shape, which is
// enough to measure how fast it is.
type Replacement interface {
	// Parameters tells apart the replacements of a family.
	Parameters() string
	// Cost is the multiply-accumulates of a run, and the bytes of its weights.
	Cost() (macs, bytes int64)

	// fit sets the weights and returns the error that is expected of them: the squared error as a share of the outputs'
	// variance.
	fit(*statistics) (float64, error)
	// build adds the nodes that compute the operator's output, the last of which makes it.
	build(b *builder)
}

// Families are all families: the published one first, those of lower precision last.
func Families() []Family {
	return []Family{{Name: "d2s", replace: d2sReplacements}, {Name: "lowrank", replace: lowRankReplacements},
		{Name: "spatial", replace: spatialReplacements}, {Name: "separable", replace: separableReplacements},
		{Name: "grouped", replace: groupedReplacements}, {Name: "pruned", replace: prunedReplacements},
		{Name: "int8", replace: int8Replacements}, {Name: "pruned-int8", replace: prunedInt8Replacements},
		{Name: "tf32", lower: tf32}, {Name: "fp16", lower: fp16}, {Name: "bf16", lower: bf16}}
}

// forEach makes a replacement of each value of a parameter.
func forEach[T Replacement](o *Op, values []int, make func(*Op, int) T) (list []Replacement) {
	for _, v := range values {
		list = append(list, make(o, v))
	}
	return list
}

// ranks are the whole numbers of vectors, or single ones below 8, that are shares of most and save work.
func ranks(most int, shares []float64, saves func(rank int) bool) (list []int) {
	for _, share := range shares {
		r := int(share * float64(most))
		if r >= 8 {
			r = r / 8 * 8
		}
		if r >= 1 && saves(r) && !slices.Contains(list, r) {
			list = append(list, r)
		}
	}
	return list
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
	w         []float32 // [k, c/group, kh, kw]
	bias      []float32 // nil for none
	c, k      int
	kh, kw    int
	group     int
	strides   []int64
	dilation  []int64
	pads      []int64 // top, left, bottom, right
	positions int     // of the output
}

// like is a step with the geometry of the operator.
func (o *Op) like(c, k, group int) step {
	return step{c: c, k: k, kh: o.KernelH, kw: o.KernelW, group: group, positions: o.OutH * o.OutW,
		strides: []int64{int64(o.StrideH), int64(o.StrideW)}, dilation: []int64{int64(o.DilationH), int64(o.DilationW)},
		pads: []int64{int64(o.Top), int64(o.Left), int64(o.Bottom), int64(o.Right)}}
}

// pointwise is a 1x1 step on the operator's outputs.
func (o *Op) pointwise(c, k int) step {
	return step{c: c, k: k, kh: 1, kw: 1, group: 1, positions: o.OutH * o.OutW, strides: []int64{1, 1},
		dilation: []int64{1, 1}, pads: []int64{0, 0, 0, 0}}
}

func (s *step) weights() int { return s.k * s.c / s.group * s.kh * s.kw }

// steps are what computes an operator's output in its place, one after the other. The last one has the bias.
type steps struct {
	op         *Op
	parameters string
	list       []step
}

// newSteps has weights to measure with.
func newSteps(o *Op, parameters string, list ...step) steps {
	for i := range list {
		list[i].w = o.filler(list[i].weights())
	}
	last := &list[len(list)-1]
	last.bias = make([]float32, last.k)
	return steps{o, parameters, list}
}

// Parameters tells apart the replacements of a family.
func (r *steps) Parameters() string { return r.parameters }

// Cost is the multiply-accumulates of a run, and the bytes of its weights.
func (r *steps) Cost() (macs, bytes int64) {
	for i := range r.list {
		s := &r.list[i]
		macs, bytes = macs+int64(s.weights()*s.positions), bytes+4*int64(s.weights()+len(s.bias))
	}
	return macs, bytes
}

// set takes the bias and the steps' weights.
func (r *steps) set(bias []float64, weights ...mat.Matrix) {
	for i, w := range weights {
		r.list[i].w = toFloat32(w)
	}
	r.list[len(r.list)-1].bias = narrow(bias)
}

func (r *steps) build(b *builder) { r.on(b, r.op.Input) }

// on adds the steps behind a value, and returns what they make.
func (r *steps) on(b *builder, x string) string {
	for i := range r.list {
		x = b.step(r.op, &r.list[i], x)
	}
	return x
}

// step adds a step that reads a value: a matrix product where o is one.
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

func toFloat32(m mat.Matrix) []float32 { return narrow(mat.DenseCopyOf(m).RawMatrix().Data) }

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

func errGrouped(o *Op) error {
	if o.Group != 1 {
		return fmt.Errorf("it has %d groups already", o.Group)
	}
	return nil
}

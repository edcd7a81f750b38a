package variants

import (
	"bytes"
	"fmt"
	"math"
	"slices"

	floats64 "gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"

	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/variants/internal/chain"
)

// int8Replacements compute in 8 bits: the input and, of convolutions, the output in unsigned numbers of one scale and
// zero point each, the weights in signed ones with a scale for each output channel. All ranges are those of least
// squared error on calibration data, which clips outliers; the weights' are found with the inputs' variances as
// weights. Scales and biases are then corrected so that each output channel has the original's mean, and least squared
// error.
//
// In the form "qdq" QuantizeLinear and DequantizeLinear surround the operator, and the execution provider fuses them,
// which ONNX Runtime's CPU provider does at the levels from "extended" on. In the form "integer" the operators are
// QLinearConv and MatMulInteger themselves, so that no optimiser is needed. The form "equalised" is "integer" with
// inputs divided by a number for each channel and weights multiplied by it, so that channels of small numbers keep more
// of their bits: a little slower, and closer where channels differ.
//
// Where sums of two products saturate in 16 bits, the weights have 7 bits, with which none can.
func int8Replacements(o *Op, a Arithmetic) ([]Replacement, error) {
	if err := errOpset(o); err != nil {
		return nil, err
	}
	list := []Replacement{newInt8(o, integerForm, a), newInt8(o, equalisedForm, a)}
	if o.Opset >= qdqOpset {
		list = append(list, newInt8(o, qdqForm, a))
	}
	return list, nil
}

// Opsets from which the operators are there.
const (
	integerOpset = 10
	qdqOpset     = 13
)

func errOpset(o *Op) error {
	if o.Opset < integerOpset {
		return fmt.Errorf("opset %d has no quantised operators, %d has", o.Opset, integerOpset)
	}
	return nil
}

const (
	integerForm   = "integer"
	qdqForm       = "qdq"
	equalisedForm = "equalised"
)

type quantised struct {
	op      *Op
	form    string
	limit   int // of the stored weights' magnitude
	in, out affine
	even    []float32 // by input channel, what it is divided by; nil for nothing
	w       []int8    // [K, patch], of the weights times the divisors
	scale   []float32 // by output channel
	bias    []float32
}

// affine is how a real number is stored: round(x/scale) + zero, in 0 to 255.
type affine struct {
	scale float32
	zero  uint8
}

// affineOf covers the range from low to high, zero included.
func affineOf(low, high float64) affine {
	low, high = math.Min(low, 0), math.Max(high, 0)
	if high-low < 1e-12 {
		high = low + 1e-6
	}
	scale := (high - low) / 255
	return affine{float32(scale), uint8(math.Max(0, math.Min(255, math.RoundToEven(-low/scale))))}
}

// of is the number nearest to x that is stored.
func (a affine) of(x float64) float64 {
	q := math.RoundToEven(x/float64(a.scale)) + float64(a.zero)
	return (math.Max(0, math.Min(255, q)) - float64(a.zero)) * float64(a.scale)
}

func newInt8(o *Op, form string, a Arithmetic) *quantised {
	return newQuantised(o, form, a.weightLimit(o.depthwise()))
}

func newQuantised(o *Op, form string, limit int) *quantised {
	r := &quantised{op: o, form: form, limit: limit, in: affineOf(0, 1), out: affineOf(-4, 4), bias: make([]float32, o.K)}
	if form == equalisedForm {
		r.even = make([]float32, o.C)
		for i := range r.even {
			r.even[i] = 1 + float32(i%8)/8 // no optimiser may leave them out where they are measured
		}
	}
	r.quantise(nil)
	return r
}

func (r *quantised) Parameters() string { return r.form + r.reduced() }

// reduced tells weights of 7 bits apart in parameters.
func (r *quantised) reduced() string {
	if r.limit == fullWeight {
		return ""
	}
	return ", 7 bits"
}

func (r *quantised) Cost() (macs, bytes int64) {
	return r.op.MACs(), int64(len(r.w) + 8*r.op.K + 4*len(r.even))
}

// quantise chooses the weights and their scales. variance weighs the inputs of each output channel; nil takes the range
// of all weights, which is enough to measure how fast the replacement is.
func (r *quantised) quantise(variance func(group int) []float64) {
	o := r.op
	d := o.patch()
	r.w, r.scale = make([]int8, len(o.Weight)), make([]float32, o.K)
	for k := range o.K {
		w := slices.Clone(o.Weight[k*d : (k+1)*d])
		var weights []float64
		if variance != nil {
			weights = variance(k / (o.K / o.Group))
		}
		for i := range w {
			e := r.divisor(k, i)
			w[i] *= float32(e)
			if weights != nil {
				weights[i] /= e * e
			}
		}
		r.scale[k] = weightScale(w, weights, r.limit)
		for i, x := range w {
			r.w[k*d+i] = int8(nearest(x, r.scale[k], r.limit))
		}
	}
}

// divisor is what the input that a weight is for is divided by.
func (r *quantised) divisor(k, i int) float64 {
	if r.even == nil {
		return 1
	}
	o := r.op
	return float64(r.even[k/(o.K/o.Group)*(o.C/o.Group)+i/(o.KernelH*o.KernelW)])
}

func nearest(x, scale float32, limit int) float64 {
	most := float64(limit)
	return math.Max(-most, math.Min(most, math.RoundToEven(float64(x)/float64(scale))))
}

// weightScale is the scale of least weighted squared error, or without weights that of the whole range.
func weightScale(w []float32, weights []float64, limit int) float32 {
	most := float32(0)
	for _, x := range w {
		most = max(most, x, -x)
	}
	if most == 0 {
		return 1e-8
	}
	full := most / float32(limit)
	if weights == nil {
		return full
	}
	best, lowest := full, math.Inf(1)
	for step := range 26 {
		scale := full * (1 - 0.02*float32(step))
		e := 0.0
		for i, x := range w {
			off := float64(x) - nearest(x, scale, limit)*float64(scale)
			e += weights[i] * off * off
		}
		if e < lowest {
			best, lowest = scale, e
		}
	}
	return best
}

// rangeOf is the range of least squared error for a sample, and that error.
func rangeOf(sample []float32) (affine, float64) {
	low, high := float64(slices.Min(sample)), float64(slices.Max(sample))
	every := max(1, len(sample)/8192)
	best, lowest := affineOf(low, high), math.Inf(1)
	for _, l := range []float64{1, .9, .8, .7, .6, .5, .4, .3} {
		for _, h := range []float64{1, .95, .9, .85, .8, .7, .6, .5, .4, .3} {
			if low >= 0 && l < 1 || high <= 0 && h < 1 {
				continue
			}
			a := affineOf(l*low, h*high)
			e, n := 0.0, 0.0
			for i := 0; i < len(sample); i += every {
				off := float64(sample[i]) - a.of(float64(sample[i]))
				e, n = e+off*off, n+1
			}
			if e/n < lowest {
				best, lowest = a, e/n
			}
		}
	}
	return best, lowest
}

// powers of the channels' root mean squares that they may be divided by: all of
// what differs moves into the weights with 1, half of it with 0.5.
var powers = [...]float64{0.25, 0.5, 0.75, 1}

func (r *quantised) fit(s *statistics) (float64, error) {
	if r.form != equalisedForm {
		return r.fitAs(s)
	}
	if s.tooLarge != nil {
		return 0, s.tooLarge
	}
	var best *quantised
	lowest, rms := math.Inf(1), r.rms(s)
	top := float64(slices.Max(rms))
	for _, power := range powers {
		x := newQuantised(r.op, r.form, r.limit)
		for c, v := range rms {
			x.even[c] = float32(math.Pow(max(1e-3, float64(v)/top), power))
		}
		e, err := x.fitAs(s)
		if err != nil {
			return 0, err
		}
		if best == nil || e < lowest {
			best, lowest = x, e
		}
	}
	*r = *best
	return lowest, nil
}

// rms is the root mean square of each input channel.
func (r *quantised) rms(s *statistics) []float32 {
	o := r.op
	out := make([]float32, o.C)
	area := o.KernelH * o.KernelW
	for g, p := range s.groups {
		for i, x := range p.fit.power() {
			out[g*(o.C/o.Group)+i/area] += float32(x / float64(area))
		}
	}
	for i, x := range out {
		out[i] = float32(math.Sqrt(float64(x))) + 1e-12
	}
	return out
}

// fitAs fits with the divisors that there are.
func (r *quantised) fitAs(s *statistics) (float64, error) {
	o := r.op
	if len(s.in) == 0 {
		return 0, errNoRows
	}
	if s.tooLarge != nil {
		return 0, s.tooLarge
	}
	for _, p := range s.groups {
		if p.err != nil {
			return 0, p.err
		}
	}
	if !chain.Finite(s.in) || !chain.Finite(s.out) {
		return 0, errNaN
	}
	in, out := slices.Clone(s.in), slices.Clone(s.out)
	if r.even != nil {
		for i, c := range s.inChannel {
			in[i] /= r.even[c]
		}
	}
	for i, x := range out {
		out[i] = max(o.Low, min(o.High, x))
	}
	var noise, outNoise float64
	r.in, noise = rangeOf(in)
	r.out, outNoise = rangeOf(out)
	if o.linear() {
		outNoise = 0 // stays in float32
	}
	r.quantise(func(g int) []float64 { return s.groups[g].fit.power() })
	total, variance := 0.0, 0.0
	for g, p := range s.groups {
		total += r.correct(g, p, noise)
		variance += p.check.variance()
	}
	return relative(total+outNoise*float64(o.K), variance), nil
}

// correct chooses the scales and biases of a group's outputs, and returns the squared error that is expected of them,
// where every input has noise of this variance.
func (r *quantised) correct(g int, p problem, noise float64) float64 {
	k, d := r.op.K/r.op.Group, r.op.patch()
	w := mat.NewDense(k, d, nil)
	for i := range k {
		channel := g*k + i
		for j := range d {
			w.Set(i, j, float64(r.w[channel*d+j])*float64(r.scale[channel])/r.divisor(channel, j))
		}
	}
	wx := multiply(w, p.fit.xx)
	for i := range k {
		// y = a w.p + b of least squares.
		row := w.RawRowView(i)
		with, of := mat.Dot(p.fit.xy.ColView(i), w.RowView(i)), floats64.Dot(row, wx.RawRowView(i))
		if a := with / of; a > 0.8 && a < 1.25 {
			r.scale[g*k+i] *= float32(a)
			floats64.Scale(a, row)
		}
	}
	b := p.fit.intercept(w)
	copy(r.bias[g*k:], narrow(b))
	total := p.check.squaredError(w, b)
	for i, x := range w.RawMatrix().Data {
		x *= r.divisor(g*k+i/d, i%d)
		total += x * x * noise
	}
	return total
}

func (b *builder) uint8s(v ...uint8) string {
	return b.constant(ort.Uint8, v, []int64{})
}

func (b *builder) scalar(x float32) string { return b.floats([]float32{x}, []int64{}...) }

func (r *quantised) build(b *builder) {
	if r.op.linear() {
		r.buildProduct(b)
		return
	}
	o := r.op
	scaleIn, zeroIn := b.scalar(r.in.scale), b.uint8s(r.in.zero)
	scaleOut, zeroOut := b.scalar(r.out.scale), b.uint8s(r.out.zero)
	k := int64(o.K)
	w := b.int8s(r.w, k, int64(o.C/o.Group), int64(o.KernelH), int64(o.KernelW))
	scales, zeros := b.floats(r.scale, k), b.int8s(make([]int8, o.K), k)
	biases, biasScales := make([]int32, o.K), make([]float32, o.K)
	for i, x := range r.bias {
		biasScales[i] = r.in.scale * r.scale[i]
		biases[i] = int32(math.Max(-1<<30, math.Min(1<<30, math.RoundToEven(float64(x)/float64(biasScales[i])))))
	}
	bias := b.int32s(biases, k)
	s := o.like(o.C, o.K, o.Group)
	geometry := s.geometry()
	x := r.input(b, scaleIn, zeroIn)
	if r.form != qdqForm {
		x = b.node("QLinearConv", []string{x, scaleIn, zeroIn, w, scales, zeros, scaleOut, zeroOut, bias}, geometry...)
	} else {
		x = b.node("DequantizeLinear", []string{x, scaleIn, zeroIn})
		weights := b.node("DequantizeLinear", []string{w, scales, zeros}, attribute{"axis", int64(0)})
		bias = b.node("DequantizeLinear", []string{bias, b.floats(biasScales, k), b.int32s(make([]int32, o.K), k)},
			attribute{"axis", int64(0)})
		x = b.node("Conv", []string{x, weights, bias}, geometry...)
		x = b.node("QuantizeLinear", []string{x, scaleOut, zeroOut})
	}
	b.node("DequantizeLinear", []string{x, scaleOut, zeroOut})
}

func (r *quantised) buildProduct(b *builder) {
	o := r.op
	scaleIn, zeroIn := b.scalar(r.in.scale), b.uint8s(r.in.zero)
	w := b.int8s(transposed(r.w, o.K), int64(o.C), int64(o.K))
	x := r.input(b, scaleIn, zeroIn)
	if r.form != qdqForm {
		combined := make([]float32, o.K)
		for i, s := range r.scale {
			combined[i] = s * r.in.scale
		}
		x = b.node("MatMulInteger", []string{x, w, zeroIn})
		x = b.node("Cast", []string{x}, attribute{"to", int64(ort.Float)})
		x = b.node("Mul", []string{x, b.floats(combined, int64(o.K))})
	} else {
		x = b.node("DequantizeLinear", []string{x, scaleIn, zeroIn})
		weights := b.node("DequantizeLinear", []string{w, b.floats(r.scale, int64(o.K)),
			b.int8s(make([]int8, o.K), int64(o.K))}, attribute{"axis", int64(1)})
		x = b.node("MatMul", []string{x, weights})
	}
	b.node("Add", []string{x, b.floats(r.bias, int64(o.K))})
}

// input adds the input in 8 bits.
func (r *quantised) input(b *builder, scale, zero string) string {
	o, x := r.op, r.op.Input
	channels := []int64{int64(o.C)}
	each, factors := make([]float32, len(r.even)), make([]float32, len(r.even))
	for c, by := range r.even {
		each[c], factors[c] = r.in.scale*by, 1/by
	}
	switch {
	case r.even == nil:
	case !o.linear() && o.Opset >= qdqOpset: // a scale for each channel divides on the way
		zeros := bytes.Repeat([]byte{r.in.zero}, o.C)
		return b.node("QuantizeLinear", []string{x, b.floats(each, channels...), b.constant(ort.Uint8, zeros, channels)},
			attribute{"axis", int64(1)})
	case !o.linear():
		channels = []int64{1, int64(o.C), 1, 1}
		fallthrough
	default:
		x = b.node("Mul", []string{x, b.floats(factors, channels...)})
	}
	return b.node("QuantizeLinear", []string{x, scale, zero})
}

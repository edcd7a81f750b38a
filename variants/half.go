package variants

import (
	"math"

	"github.com/terastal/terastal/internal/ort"
)

// halfFamily computes in half precision, for accelerators with units for it. Nothing is fitted: weights are rounded.
type halfFamily struct{}

func (halfFamily) Name() string { return "fp16" }

func (halfFamily) Applies(*Op) error { return nil }

func (halfFamily) Replacements(o *Op) []Replacement { return []Replacement{&half{o}} }

type half struct{ op *Op }

func (*half) Parameters() string { return "rounded" }

func (r *half) Cost() (macs, bytes int64) {
	return r.op.MACs(), 2 * int64(len(r.op.Weight)+len(r.op.Bias))
}

func (r *half) fit(s *statistics) (float64, error) {
	for _, x := range s.in {
		if x > 65504 || x < -65504 {
			return 0, errHalfRange
		}
	}
	const unit = 1.0 / (1 << 11)
	return 4 * unit * unit, nil
}

func (r *half) build(b *builder) {
	o := r.op
	x := b.node("Cast", []string{o.Input}, attribute{"to", int64(ort.Float16)})
	if o.linear() {
		x = b.node("MatMul", []string{x, b.halves(transposed(o.Weight, o.K), int64(o.C), int64(o.K))})
		x = b.node("Add", []string{x, b.halves(o.Bias, int64(o.K))})
	} else {
		s := o.like(o.C, o.K, o.Group)
		w := b.halves(o.Weight, int64(o.K), int64(o.C/o.Group), int64(o.KernelH), int64(o.KernelW))
		x = b.node("Conv", []string{x, w, b.halves(o.Bias, int64(o.K))}, s.geometry()...)
	}
	b.node("Cast", []string{x}, attribute{"to", int64(ort.Float)})
}

func (b *builder) halves(v []float32, dims ...int64) string {
	rounded := make([]uint16, len(v))
	for i, x := range v {
		rounded[i] = toHalf(x)
	}
	return b.constant(ort.Float16, ort.Data(rounded), dims)
}

// toHalf rounds to the nearest IEEE half-precision number, ties to even; what is
// too large becomes the largest finite one.
func toHalf(x float32) uint16 {
	sign := uint16(math.Float32bits(x)>>16) & 0x8000
	a := math.Abs(float64(x))
	switch {
	case a != a:
		return sign | 0x7e00
	case a >= 65504:
		return sign | 0x7bff
	case a < 1.0/(1<<14): // subnormal
		return sign | uint16(math.RoundToEven(a*(1<<24)))
	}
	fraction, exponent := math.Frexp(a) // in [0.5, 1)
	return sign | uint16(int(math.RoundToEven(fraction*2048))-1024+(exponent+14)<<10)
}

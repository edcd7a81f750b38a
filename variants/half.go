package variants

import (
	"math"

	"github.com/terastal/terastal/internal/ort"
)

// halfReplacements compute in half precision, for accelerators with units for it. Nothing is fitted: weights are
// rounded.
func halfReplacements(o *Op, _ Arithmetic) ([]Replacement, error) {
	s := o.like(o.C, o.K, o.Group)
	s.w, s.bias, s.half = o.Weight, o.Bias, true
	return []Replacement{&half{steps{o, "rounded", []step{s}}}}, nil
}

type half struct{ steps }

// Cost counts half the bytes.
func (r *half) Cost() (macs, bytes int64) {
	macs, bytes = r.steps.Cost()
	return macs, bytes / 2
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
	x := r.on(b, b.node("Cast", []string{r.op.Input}, attribute{"to", int64(ort.Float16)}))
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

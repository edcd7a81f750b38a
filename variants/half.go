package variants

import "math"

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

// toBrain rounds to the nearest bfloat16, ties to even; what is too large becomes the largest finite one.
func toBrain(x float32) uint16 {
	bits := math.Float32bits(x)
	if x != x {
		return uint16(bits>>16) | 0x40 // still not a number without its low bits
	}
	rounded := bits + 0x7fff + bits>>16&1
	if rounded<<1 >= 0xff<<24 { // infinite
		return uint16(bits>>16)&0x8000 | 0x7f7f
	}
	return uint16(rounded >> 16)
}

package models

import (
	"bytes"
	"fmt"
	"math"

	"github.com/terastal/terastal/internal/ort"
)

// Difference is how far two tensors are apart.
type Difference struct {
	// MaxAbs is the largest absolute difference of any element; NaN where only
	// one side is a NaN, or where elements differ that are not real numbers.
	MaxAbs float64
	// MaxRel is MaxAbs as a share of the largest finite magnitude of the wanted tensor.
	MaxRel float64
	Argmax bool // the largest element is at the same place
}

// Compare holds the bytes of a tensor against those wanted. Both need the same length.
func Compare(kind DataType, got, want []byte) (Difference, error) {
	if len(got) != len(want) {
		return Difference{}, fmt.Errorf("%d bytes against %d", len(got), len(want))
	}
	if bytes.Equal(got, want) {
		return Difference{Argmax: true}, nil
	}
	if compare, ok := comparisons[kind]; ok {
		return compare(got, want), nil
	}
	return Difference{MaxAbs: math.NaN(), MaxRel: math.NaN()}, nil
}

// comparisons are of the types of real numbers.
var comparisons = map[DataType]func(got, want []byte) Difference{
	ort.Float: compare[float32], ort.Double: compare[float64], ort.Bool: compare[uint8],
	ort.Int8: compare[int8], ort.Int16: compare[int16], ort.Int32: compare[int32], ort.Int64: compare[int64],
	ort.Uint8: compare[uint8], ort.Uint16: compare[uint16], ort.Uint32: compare[uint32], ort.Uint64: compare[uint64],
	ort.Float16: func(got, want []byte) Difference {
		return compare[float64](widen(got, fromHalf), widen(want, fromHalf))
	},
	ort.BFloat16: func(got, want []byte) Difference {
		return compare[float64](widen(got, fromBrain), widen(want, fromBrain))
	},
}

// compare takes infinities of one sign, and NaNs, for equal.
func compare[T ort.Number](got, want []byte) (d Difference) {
	g, w := ort.Numbers[T](got), ort.Numbers[T](want)
	largestG, largestW, most := 0, 0, 0.0
	for i := range w {
		if g[i] > g[largestG] {
			largestG = i
		}
		if w[i] > w[largestW] {
			largestW = i
		}
		a, b := float64(g[i]), float64(w[i])
		if a != b && (a == a || b == b) {
			d.MaxAbs = max(d.MaxAbs, math.Abs(a-b))
		}
		if size := math.Abs(b); size > most && size <= math.MaxFloat64 {
			most = size
		}
	}
	if d.MaxAbs != 0 {
		d.MaxRel = d.MaxAbs / most
	}
	d.Argmax = largestG == largestW
	return d
}

// widen makes 16-bit numbers doubles.
func widen(data []byte, one func(uint16) float64) []byte {
	v := make([]float64, len(data)/2)
	for i, x := range ort.Numbers[uint16](data) {
		v[i] = one(x)
	}
	return ort.Data(v)
}

func fromBrain(b uint16) float64 { return float64(math.Float32frombits(uint32(b) << 16)) }

func fromHalf(h uint16) float64 {
	sign, exponent, mantissa := 1.0, int(h>>10&31), float64(h&1023)
	if h>>15 == 1 {
		sign = -1
	}
	switch exponent {
	case 0:
		return sign * math.Ldexp(mantissa, -24)
	case 31:
		if mantissa != 0 {
			return math.NaN()
		}
		return math.Inf(int(sign))
	}
	return sign * math.Ldexp(1024+mantissa, exponent-25)
}

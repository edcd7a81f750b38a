package models

import (
	"math"
	"math/rand/v2"

	"github.com/terastal/terastal/internal/ort"
)

// RandomInputs makes data for every input of the model, in its order: floats uniform in [-1, 1), integers 0 to 3,
// booleans. The same seed gives the same bytes on every machine.
func RandomInputs(m *Model, seed uint64) [][]byte {
	r := rand.New(rand.NewPCG(seed, 0x7465726173))
	data := make([][]byte, len(m.inputs))
	for i, t := range m.inputs {
		data[i] = randomTensor(r, t)
	}
	return data
}

func randomTensor(r *rand.Rand, t Tensor) []byte {
	data := make([]byte, t.Bytes())
	switch t.Type {
	case ort.Float:
		fill(data, func() float32 { return r.Float32()*2 - 1 })
	case ort.Double:
		fill(data, func() float64 { return r.Float64()*2 - 1 })
	case ort.Float16:
		fill(data, func() uint16 { return half(r) })
	case ort.BFloat16:
		fill(data, func() uint16 { return uint16(math.Float32bits(r.Float32()*2-1) >> 16) })
	case ort.Bool:
		fill(data, func() uint8 { return uint8(r.IntN(2)) })
	case ort.Int8, ort.Uint8:
		fill(data, func() uint8 { return uint8(r.IntN(4)) })
	case ort.Int16, ort.Uint16:
		fill(data, func() uint16 { return uint16(r.IntN(4)) })
	case ort.Int32, ort.Uint32:
		fill(data, func() uint32 { return uint32(r.IntN(4)) })
	case ort.Int64, ort.Uint64:
		fill(data, func() uint64 { return uint64(r.IntN(4)) })
	}
	return data
}

func fill[T ort.Number](data []byte, draw func() T) {
	for i, v := 0, ort.Numbers[T](data); i < len(v); i++ {
		v[i] = draw()
	}
}

// half draws an IEEE half-precision number in [-1, 1): a random sign, a random mantissa and an exponent of at most -1.
func half(r *rand.Rand) uint16 {
	exponent := uint16(11 + r.IntN(4)) // 2^-4 to 2^-1
	return uint16(r.IntN(2))<<15 | exponent<<10 | uint16(r.IntN(1<<10))
}

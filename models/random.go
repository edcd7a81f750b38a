package models

import (
	"encoding/binary"
	"math"
	"math/rand/v2"

	"github.com/terastal/terastal/internal/ort"
)

// RandomInputs makes data for every input of the model, in its order: floats
// uniform in [-1, 1), integers 0 to 3, booleans. The same seed gives the same
// bytes on every machine.
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
	size := t.Type.Size()
	for at := 0; at+size <= len(data) && size > 0; at += size {
		e := data[at : at+size]
		switch t.Type {
		case ort.Float:
			binary.NativeEndian.PutUint32(e, math.Float32bits(r.Float32()*2-1))
		case ort.Double:
			binary.NativeEndian.PutUint64(e, math.Float64bits(r.Float64()*2-1))
		case ort.Float16:
			binary.NativeEndian.PutUint16(e, half(r))
		case ort.BFloat16:
			binary.NativeEndian.PutUint16(e, uint16(math.Float32bits(r.Float32()*2-1)>>16))
		case ort.Bool:
			e[0] = byte(r.IntN(2))
		case ort.Int8, ort.Uint8:
			e[0] = byte(r.IntN(4))
		case ort.Int16, ort.Uint16:
			binary.NativeEndian.PutUint16(e, uint16(r.IntN(4)))
		case ort.Int32, ort.Uint32:
			binary.NativeEndian.PutUint32(e, uint32(r.IntN(4)))
		case ort.Int64, ort.Uint64:
			binary.NativeEndian.PutUint64(e, uint64(r.IntN(4)))
		}
	}
	return data
}

// half draws an IEEE half-precision number in [-1, 1): a random sign, a random
// mantissa and an exponent of at most -1.
func half(r *rand.Rand) uint16 {
	exponent := uint16(11 + r.IntN(4)) // 2^-4 to 2^-1
	return uint16(r.IntN(2))<<15 | exponent<<10 | uint16(r.IntN(1<<10))
}

// floats decodes a tensor of real numbers; nil for other types.
func floats(kind DataType, data []byte) []float64 {
	switch kind {
	case ort.Float:
		return decode(data, 4, func(b []byte) float64 {
			return float64(math.Float32frombits(binary.NativeEndian.Uint32(b)))
		})
	case ort.Double:
		return decode(data, 8, func(b []byte) float64 { return math.Float64frombits(binary.NativeEndian.Uint64(b)) })
	case ort.BFloat16:
		return decode(data, 2, func(b []byte) float64 {
			return float64(math.Float32frombits(uint32(binary.NativeEndian.Uint16(b)) << 16))
		})
	case ort.Float16:
		return decode(data, 2, func(b []byte) float64 { return fromHalf(binary.NativeEndian.Uint16(b)) })
	case ort.Int8:
		return decode(data, 1, func(b []byte) float64 { return float64(int8(b[0])) })
	case ort.Uint8, ort.Bool:
		return decode(data, 1, func(b []byte) float64 { return float64(b[0]) })
	case ort.Int16:
		return decode(data, 2, func(b []byte) float64 { return float64(int16(binary.NativeEndian.Uint16(b))) })
	case ort.Uint16:
		return decode(data, 2, func(b []byte) float64 { return float64(binary.NativeEndian.Uint16(b)) })
	case ort.Uint32:
		return decode(data, 4, func(b []byte) float64 { return float64(binary.NativeEndian.Uint32(b)) })
	case ort.Uint64:
		return decode(data, 8, func(b []byte) float64 { return float64(binary.NativeEndian.Uint64(b)) })
	case ort.Int32:
		return decode(data, 4, func(b []byte) float64 { return float64(int32(binary.NativeEndian.Uint32(b))) })
	case ort.Int64:
		return decode(data, 8, func(b []byte) float64 { return float64(int64(binary.NativeEndian.Uint64(b))) })
	}
	return nil
}

func decode(data []byte, size int, one func([]byte) float64) []float64 {
	v := make([]float64, len(data)/size)
	for i := range v {
		v[i] = one(data[i*size:])
	}
	return v
}

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

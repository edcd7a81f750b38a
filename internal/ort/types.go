package ort

import (
	"fmt"
	"math"
)

// DataType is the element type of a tensor, numbered as ONNX's TensorProto.DataType.
type DataType int32

// The element types of ONNX.
const (
	Undefined      DataType = 0
	Float          DataType = 1
	Uint8          DataType = 2
	Int8           DataType = 3
	Uint16         DataType = 4
	Int16          DataType = 5
	Int32          DataType = 6
	Int64          DataType = 7
	String         DataType = 8
	Bool           DataType = 9
	Float16        DataType = 10
	Double         DataType = 11
	Uint32         DataType = 12
	Uint64         DataType = 13
	Complex64      DataType = 14
	Complex128     DataType = 15
	BFloat16       DataType = 16
	Float8E4M3FN   DataType = 17
	Float8E4M3FNUZ DataType = 18
	Float8E5M2     DataType = 19
	Float8E5M2FNUZ DataType = 20
	Uint4          DataType = 21
	Int4           DataType = 22
	Float4E2M1     DataType = 23
	Float8E8M0     DataType = 24
	Uint2          DataType = 25
	Int2           DataType = 26
)

var dataTypes = [...]struct {
	name string
	size int // bytes of one element; 0 where elements are no whole bytes
}{
	Undefined: {"undefined", 0},
	Float:     {"float32", 4}, Double: {"float64", 8}, Float16: {"float16", 2}, BFloat16: {"bfloat16", 2},
	Uint8: {"uint8", 1}, Uint16: {"uint16", 2}, Uint32: {"uint32", 4}, Uint64: {"uint64", 8},
	Int8: {"int8", 1}, Int16: {"int16", 2}, Int32: {"int32", 4}, Int64: {"int64", 8},
	String: {"string", 0}, Bool: {"bool", 1},
	Complex64: {"complex64", 8}, Complex128: {"complex128", 16},
	Float8E4M3FN: {"float8e4m3fn", 1}, Float8E4M3FNUZ: {"float8e4m3fnuz", 1},
	Float8E5M2: {"float8e5m2", 1}, Float8E5M2FNUZ: {"float8e5m2fnuz", 1}, Float8E8M0: {"float8e8m0", 1},
	Uint4: {"uint4", 0}, Int4: {"int4", 0}, Float4E2M1: {"float4e2m1", 0}, Uint2: {"uint2", 0}, Int2: {"int2", 0},
}

// String is the type's usual name, such as "float32" or "int64".
func (t DataType) String() string {
	if t < 0 || int(t) >= len(dataTypes) {
		return fmt.Sprintf("DataType(%d)", int32(t))
	}
	return dataTypes[t].name
}

// Size is the number of bytes of one element: 0 for strings, for types packed several to a byte, and for unknown ones.
func (t DataType) Size() int {
	if t < 0 || int(t) >= len(dataTypes) {
		return 0
	}
	return dataTypes[t].size
}

// native is ONNX Runtime's number for the type, which is ONNX's but for the three youngest types.
func (t DataType) native() int32 {
	switch t {
	case Uint2:
		return 24
	case Int2:
		return 25
	case Float8E8M0:
		return 26
	}
	return int32(t)
}

// fromNative undoes native.
func fromNative(n int32) DataType {
	for _, t := range []DataType{Uint2, Int2, Float8E8M0} {
		if t.native() == n {
			return t
		}
	}
	return DataType(n)
}

// byteSize is the number of bytes of a tensor of concrete shape.
func byteSize(t DataType, shape []int64) (int, error) {
	if len(shape) > maxRank {
		return 0, fmt.Errorf("shape %v has %d dimensions, at most %d are supported", shape, len(shape), maxRank)
	}
	empty := false
	for _, d := range shape {
		if d < 0 {
			return 0, fmt.Errorf("shape %v has a negative dimension: give every dimension its size", shape)
		}
		empty = empty || d == 0
	}
	if empty {
		return 0, nil
	}
	n := int64(t.Size())
	for _, d := range shape {
		if n > 0 && d > math.MaxInt/n {
			return 0, fmt.Errorf("shape %v is larger than memory can be", shape)
		}
		n *= d
	}
	return int(n), nil
}

package ort

import "unsafe"

// Number is a Go type of a tensor's elements; those of float16 and bfloat16 are uint16.
type Number interface {
	int8 | int16 | int32 | int64 | uint8 | uint16 | uint32 | uint64 | float32 | float64
}

// Numbers is a tensor's data as numbers, in the same memory. The order of their bytes is the machine's, which is that
// of ONNX files wherever ONNX Runtime runs. Bytes after the last whole number are left out.
func Numbers[T Number](data []byte) []T {
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(data))), len(data)/int(unsafe.Sizeof(*new(T))))
}

// Data is numbers as a tensor's data, in the same memory.
func Data[T Number](v []T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(v))), len(v)*int(unsafe.Sizeof(*new(T))))
}

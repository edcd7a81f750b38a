package models

import (
	"fmt"

	"github.com/terastal/terastal/internal/ort"
)

// DataType is the element type of a tensor, numbered as in ONNX.
type DataType = ort.DataType

// Tensor describes a value that crosses a layer's boundary: Shape is fully
// bound, row-major, and empty for a scalar.
type Tensor struct {
	Name  string
	Type  DataType
	Shape []int64
}

// Elements is the number of elements: 1 for a scalar.
func (t Tensor) Elements() int64 {
	n := int64(1)
	for _, d := range t.Shape {
		n *= d
	}
	return n
}

// Bytes is the size of the tensor's data in host memory.
func (t Tensor) Bytes() int64 { return t.Elements() * int64(t.Type.Size()) }

func (t Tensor) String() string { return fmt.Sprintf("%s %v%v", t.Name, t.Type, t.Shape) }

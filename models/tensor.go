package models

import (
	"fmt"
	"slices"

	"github.com/terastal/terastal/internal/ort"
)

// DataType is the element type of a tensor, numbered as in ONNX.
type DataType = ort.DataType

// Tensor describes a value that crosses a layer's boundary: Shape is fully bound and empty for a scalar.
type Tensor struct {
	Name  string
	Type  DataType
	Shape []int64
	// Block is 0 for the plain, row-major layout. Else the tensor is stored as [N, channel blocks, H, W, Block], ONNX
	// Runtime's NCHWc: channels in blocks of this many, the last one padded.
	Block int64
}

// ID tells apart the layouts of a tensor: its name when plain.
func (t Tensor) ID() string {
	if t.Block == 0 {
		return t.Name
	}
	return fmt.Sprintf("%s/nchw%dc", t.Name, t.Block)
}

// Stored is the shape that ONNX Runtime sees: Shape, with the channels that blocks pad.
func (t Tensor) Stored() []int64 {
	if t.Block == 0 {
		return t.Shape
	}
	s := slices.Clone(t.Shape)
	s[1] = (s[1] + t.Block - 1) / t.Block * t.Block
	return s
}

// Elements is the number of elements stored: 1 for a scalar.
func (t Tensor) Elements() int64 {
	n := int64(1)
	for _, d := range t.Stored() {
		n *= d
	}
	return n
}

// Bytes is the size of the tensor's data in host memory.
func (t Tensor) Bytes() int64 { return t.Elements() * int64(t.Type.Size()) }

func (t Tensor) String() string { return fmt.Sprintf("%s %v%v", t.ID(), t.Type, t.Shape) }

// Package dense hands tensors of models to gorgonia.org/tensor and back, in the same memory: what a program slices,
// transposes, normalises or takes the Argmax of is what an accelerator reads or has written. Nothing is copied.
//
// A tensor.Dense has the Go type of the elements. float16 and bfloat16, which Go lacks, are carried as uint16, the
// types of 8 bits as uint8: moving them is fine, arithmetic is not. Text and elements smaller than a byte are refused.
package dense

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"unsafe"

	"gorgonia.org/tensor"

	"github.com/terastal/terastal/models"
)

// Of is a tensor over data, of t's shape and type. data holds exactly t's bytes, row by row in the machine's byte
// order, aligned to its elements; the result shares it, and keeps it alive.
//
// Tensors in a blocked layout, without elements, or of a type that cannot be
// carried give an error, as do booleans that are neither 0 nor 1.
func Of(t models.Tensor, data []byte) (*tensor.Dense, error) {
	kind, err := typeOf(t)
	if err != nil {
		return nil, err
	}
	count := len(data) / int(kind.Size())
	shape, left := make([]int, len(t.Shape)), int64(count)
	for i, n := range t.Shape {
		if n < 1 || left%n != 0 {
			left = 0
			break
		}
		shape[i], left = int(n), left/n
	}
	switch {
	case left != 1 || len(data) != count*int(kind.Size()):
		return nil, fmt.Errorf("tensor %v: %d bytes of data do not make it; it has to have at least one element",
			t, len(data))
	case uintptr(unsafe.Pointer(&data[0]))%uintptr(kind.Align()) != 0:
		return nil, fmt.Errorf("tensor %v: the data has to be aligned to %d bytes: allocate it on its own", t, kind.Align())
	case kind == tensor.Bool && slices.ContainsFunc(data, func(b byte) bool { return b > 1 }):
		return nil, fmt.Errorf("tensor %v: a boolean is neither 0 nor 1", t)
	}
	elements := reflect.SliceAt(kind.Type, unsafe.Pointer(&data[0]), count).Interface()
	return tensor.New(tensor.WithShape(shape...), tensor.WithBacking(elements)), nil
}

// Bytes is the data of d, in d's memory, as Of takes it. A slice of the first dimension works too. Other views, whose
// elements do not lie in one row, give an error: d.Materialize copies them into another tensor.
func Bytes(d *tensor.Dense) ([]byte, error) {
	shape, strides, n := d.Shape(), d.Strides(), 1
	whole := len(shape) == len(strides) && d.IsNativelyAccessible() && !d.IsMasked()
	for i := len(shape) - 1; i >= 0 && whole; i-- {
		whole = shape[i] == 1 || strides[i] == n
		n *= shape[i]
	}
	if !whole || len(d.Raw) != n*int(d.Dtype().Size()) {
		return nil, fmt.Errorf("a tensor of shape %v and strides %v is a view whose elements do not lie row by row: "+
			"Materialize it", shape, strides)
	}
	return d.Raw, nil
}

// Fits says in an error why d cannot be t's data: its type or its shape differs.
func Fits(d *tensor.Dense, t models.Tensor) error {
	kind, err := typeOf(t)
	if err != nil {
		return err
	}
	same := slices.EqualFunc(d.Shape(), t.Shape, func(a int, b int64) bool { return int64(a) == b })
	if d.Dtype() != kind || !same {
		return fmt.Errorf("tensor %v is needed, %v%v is given", t, d.Dtype(), []int(d.Shape()))
	}
	return nil
}

// All is Of for each of a model's inputs or outputs.
func All(tensors []models.Tensor, data [][]byte) ([]*tensor.Dense, error) {
	out := make([]*tensor.Dense, len(data))
	for i := range data {
		var err error
		if out[i], err = Of(tensors[i], data[i]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Data is Bytes for each of a model's inputs or outputs, in order. All have to fit.
func Data(given []*tensor.Dense, wanted []models.Tensor) ([][]byte, error) {
	if len(given) != len(wanted) {
		return nil, fmt.Errorf("%d tensors are given, %d are wanted", len(given), len(wanted))
	}
	out := make([][]byte, len(given))
	for i, d := range given {
		err := Fits(d, wanted[i])
		if err == nil {
			out[i], err = Bytes(d)
		}
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// typeOf is the type of t's elements in package tensor.
func typeOf(t models.Tensor) (tensor.Dtype, error) {
	if t.Block != 0 {
		return tensor.Dtype{}, fmt.Errorf("tensor %v: its channels are stored in blocks: convert it with models.Reorder", t)
	}
	name := t.Type.String()
	switch {
	case name == "float16" || name == "bfloat16":
		name = "uint16"
	case strings.HasPrefix(name, "float8"):
		name = "uint8"
	}
	for _, kind := range []tensor.Dtype{tensor.Bool, tensor.Int8, tensor.Int16, tensor.Int32, tensor.Int64,
		tensor.Uint8, tensor.Uint16, tensor.Uint32, tensor.Uint64,
		tensor.Float32, tensor.Float64, tensor.Complex64, tensor.Complex128} {
		if kind.Name() == name {
			return kind, nil
		}
	}
	return tensor.Dtype{}, fmt.Errorf("tensor %v: elements of %v cannot be carried", t, t.Type)
}

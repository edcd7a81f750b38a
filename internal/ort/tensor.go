package ort

import (
	"errors"
	"fmt"
	"slices"
	"unsafe"

	ort "github.com/yalue/onnxruntime_go"
)

// Value is an input or output of a session. Tensors are made by NewTensor or
// by Session.Run, and are freed with their Destroy method.
type Value = ort.Value

var errDestroyed = errors.New("has been destroyed")

// tensor is a dense tensor over Go memory.
type tensor struct {
	// Value knows the element type, in the wrapper's own unexported type. It
	// is the tensor itself where the wrapper can make one, else a stand-in.
	ort.Value
	value unsafe.Pointer // the OrtValue; nil once destroyed
	owned bool           // value is ours to release, not the embedded Value's
	typ   DataType
	shape []int64
	data  []byte
	away  bool // in a device's memory: data is nil
}

// NewTensor wraps data as a tensor, without copying: later writes to data
// change the tensor, and a run that is given the tensor as an output writes to
// data. The length of data has to be exactly that of the shape; shapes without
// dimensions (one element) and without elements are fine. The caller calls
// Destroy on the result, and does not touch data while a run uses it.
func NewTensor(t DataType, shape []int64, data []byte) (Value, error) {
	if err := started(); err != nil {
		return nil, err
	}
	if t == String {
		return nil, errors.New("a tensor of strings cannot be made from bytes: " +
			"layers that exchange strings are not supported")
	}
	if t.Size() == 0 {
		return nil, fmt.Errorf("tensors of %s are not supported: its elements are not whole bytes", t)
	}
	size, err := byteSize(t, shape)
	if err != nil {
		return nil, fmt.Errorf("tensor of %s: %w", t, err)
	}
	if len(data) != size {
		return nil, fmt.Errorf("tensor of %s and shape %v needs %d bytes, got %d", t, shape, size, len(data))
	}
	if align := uintptr(min(t.Size(), 8)); size > 0 && uintptr(unsafe.Pointer(&data[0]))%align != 0 {
		return nil, fmt.Errorf("tensor of %s needs data aligned to %d bytes: allocate it on its own", t, align)
	}
	v := &tensor{typ: t, shape: slices.Clone(shape), data: data}
	if len(shape) > 0 && size > 0 {
		v.Value, err = ort.NewCustomDataTensor(shape, data, ort.TensorElementDataType(t.native()))
		if err == nil {
			v.value, err = valuePointer(v.Value)
		}
	} else {
		v.Value, err = ort.NewCustomDataTensor(ort.NewShape(1), make([]byte, t.Size()), ort.TensorElementDataType(t.native()))
		if err == nil {
			v.owned = true
			v.value, err = newValue(t, v.shape, data)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("tensor of %s and shape %v: %s", t, shape, oneLine(err.Error()))
	}
	return v, nil
}

// Destroy frees the tensor, but not the data it wraps. It may be called twice.
func (t *tensor) Destroy() error {
	if t.owned && t.value != nil {
		releaseValue(t.value)
	}
	t.value, t.data = nil, nil
	return t.Value.Destroy()
}

// GetShape is the shape, empty for a tensor without dimensions.
func (t *tensor) GetShape() ort.Shape { return slices.Clone(t.shape) }

// ZeroContents sets every byte to 0.
func (t *tensor) ZeroContents() { clear(t.data) }

// GetInternals lets the wrapper's own functions use the tensor.
func (t *tensor) GetInternals() *ort.ValueInternalData { return internals(t.value) }

// Bytes is the memory of a dense CPU tensor, in the machine's byte order. It
// is not a copy, and is valid until the tensor is destroyed.
func Bytes(v Value) ([]byte, error) {
	p, err := valuePointer(v)
	if err != nil {
		return nil, fmt.Errorf("reading a tensor: it %w", err)
	}
	if t, ok := v.(*tensor); ok {
		if t.away {
			return nil, errors.New("reading a tensor: it is in a device's memory")
		}
		return t.data, nil
	}
	d, data, err := viewValue(p)
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading a tensor: %w", err)
	case !d.tensor:
		return nil, errors.New("reading a tensor: the value is a sequence or a map, not a tensor")
	case data == nil:
		return nil, fmt.Errorf("reading a tensor: elements of %s are not whole bytes", d.Type)
	}
	return data, nil
}

// Info is the element type and shape of a tensor; Undefined and nil for what
// is no tensor or has been destroyed.
func Info(v Value) (DataType, []int64) {
	p, err := valuePointer(v)
	if err != nil {
		return Undefined, nil
	}
	if t, ok := v.(*tensor); ok {
		return t.typ, slices.Clone(t.shape)
	}
	d, _, err := viewValue(p)
	if err != nil || !d.tensor {
		return Undefined, nil
	}
	return d.Type, d.Shape
}

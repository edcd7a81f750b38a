package ort

import (
	"errors"
	"fmt"
	"slices"
	"unsafe"
)

// Value is an input or output of a session. NewTensor, Buffer.NewTensor and Session.Run make them; Destroy frees them.
type Value = *Tensor

// Tensor is a dense tensor over Go memory, or over a device's.
type Tensor struct {
	typ   DataType
	shape []int64
	data  []byte
	away  bool           // in a device's memory: data is nil
	value unsafe.Pointer // the OrtValue; nil once destroyed
}

// NewTensor wraps data as a tensor, without copying: later writes to data change the tensor, and a run that is given
// the tensor as an output writes to data. The length of data has to be exactly that of the shape; shapes without
// dimensions (one element) and without elements are fine. The caller calls Destroy on the result, and does not touch
// data while a run uses it.
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
	v := &Tensor{typ: t, shape: slices.Clone(shape), data: data}
	if v.value, err = (nativeMemory{}).view(t, v.shape, unsafe.Pointer(unsafe.SliceData(data)), size); err != nil {
		return nil, fmt.Errorf("tensor of %s and shape %v: %w", t, shape, err)
	}
	return v, nil
}

// Destroy frees the tensor, but not the data it wraps. It may be called twice, and of nil.
func (t *Tensor) Destroy() {
	if t != nil {
		releaseValue(t.value)
		t.value, t.data = nil, nil
	}
}

// usable says why a tensor cannot be used.
func (t *Tensor) usable() error {
	switch {
	case t == nil:
		return errors.New("is nil")
	case t.value == nil:
		return errors.New("has been destroyed")
	}
	return nil
}

// Bytes is the memory of a tensor on the host, in the machine's byte order. It
// is not a copy, and is valid until the tensor is destroyed.
func Bytes(v Value) ([]byte, error) {
	if err := v.usable(); err != nil {
		return nil, fmt.Errorf("reading a tensor: it %w", err)
	}
	if v.away {
		return nil, errors.New("reading a tensor: it is in a device's memory")
	}
	return v.data, nil
}

// Info is the element type and shape of a tensor; Undefined and nil for nil and for one that has been destroyed.
func Info(v Value) (DataType, []int64) {
	if v.usable() != nil {
		return Undefined, nil
	}
	return v.typ, slices.Clone(v.shape)
}

// Package numpy reads arrays as NumPy writes them: .npy files, alone or in the
// .npz archives that hold several.
package numpy

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/sbinet/npyio/npy"
)

// Header says what a .npy file holds.
type Header struct {
	// Type is the element type in the words of package models, such as
	// "float32"; empty for types that are no tensors.
	Type string
	// Descr is NumPy's own name of it, such as "<f4".
	Descr   string
	Shape   []int64
	Fortran bool // in columns
}

// types are NumPy's names of element types. bfloat16 has none.
var types = map[string]string{
	"f2": "float16", "f4": "float32", "f8": "float64", "b1": "bool",
	"i1": "int8", "i2": "int16", "i4": "int32", "i8": "int64",
	"u1": "uint8", "u2": "uint16", "u4": "uint32", "u8": "uint64",
}

// TypeOf is NumPy's name, without the byte order, of an element type in the
// words of package models; empty if it has none.
func TypeOf(name string) string {
	for k, n := range types {
		if n == name {
			return k
		}
	}
	return ""
}

// ReadHeader reads up to the array's data. The elements are left to the caller,
// as bytes: the library takes short files for arrays that end in zeros.
func ReadHeader(f io.Reader) (h Header, err error) {
	defer func() {
		if recover() != nil { // it trusts what the header says about itself
			err = errors.New("is no .npy file: its header is damaged")
		}
	}()
	r, err := npy.NewReader(f)
	if err != nil {
		return h, fmt.Errorf("is no .npy file: %w", err)
	}
	d := r.Header.Descr
	h = Header{Type: types[strings.TrimLeft(d.Type, "<|=")], Descr: d.Type, Shape: []int64{}, Fortran: d.Fortran}
	for _, n := range d.Shape {
		h.Shape = append(h.Shape, int64(n))
	}
	return h, nil
}

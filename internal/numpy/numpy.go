// Package numpy reads and writes arrays as NumPy does: .npy files, alone or in
// the .npz archives that hold several.
package numpy

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/sbinet/npyio/npy"
)

// Array is a whole array in memory, its elements row by row as stored.
type Array struct {
	Header
	Data []byte
}

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

// typeOf is NumPy's name, without the byte order, of an element type in the
// words of package models; empty if it has none.
func typeOf(name string) string {
	for k, n := range types {
		if n == name {
			return k
		}
	}
	return ""
}

// Size is the size in bytes of one element, 0 of types that are no tensors.
func (h *Header) Size() int64 {
	if h.Type == "" {
		return 0
	}
	return int64(h.Descr[len(h.Descr)-1] - '0') // the names of all our types end in it
}

// maxData bounds what is read into memory.
const maxData = 4 << 30

// Read reads an array. Its elements have to be those of a tensor, and all there.
func Read(r io.Reader) (*Array, error) {
	h, err := readHeader(r)
	switch {
	case err != nil:
		return nil, err
	case h.Type == "":
		return nil, fmt.Errorf("holds elements of type %s, which are not those of a tensor in little-endian order", h.Descr)
	case h.Fortran:
		return nil, errors.New("is in Fortran order; save numpy.ascontiguousarray of it")
	}
	want := h.Size()
	for _, n := range h.Shape {
		if n < 0 || n > 0 && want > maxData/n {
			return nil, fmt.Errorf("says that it has the shape %v, more than %d GiB", h.Shape, maxData>>30)
		}
		want *= n
	}
	// Its size is what the header says, which is not to be trusted with memory.
	data, err := io.ReadAll(io.LimitReader(r, want))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) < want {
		return nil, fmt.Errorf("ends after %d of the %d bytes of %s%v", len(data), want, h.Type, h.Shape)
	}
	return &Array{h, data}, nil
}

// Encode is an array as a .npy file. The element type is in the words of
// package models.
func Encode(name string, shape []int64, data []byte) ([]byte, error) {
	kind := typeOf(name)
	if kind == "" {
		return nil, fmt.Errorf("NumPy has no type for %s", name)
	}
	order := "<"
	if strings.HasSuffix(kind, "1") {
		order = "|"
	}
	var dims strings.Builder
	for _, d := range shape {
		fmt.Fprintf(&dims, "%d,", d)
	}
	header := fmt.Sprintf("{'descr': '%s%s', 'fortran_order': False, 'shape': (%s), }", order, kind, dims.String())
	const prefix = 10 // magic, version and the header's length
	header += strings.Repeat(" ", (64-(prefix+len(header)+1)%64)%64) + "\n"
	out := []byte("\x93NUMPY\x01\x00")
	out = append(out, byte(len(header)), byte(len(header)>>8))
	return slices.Concat(out, []byte(header), data), nil
}

// readHeader reads up to the array's data. The elements are left to the caller,
// as bytes: the library takes short files for arrays that end in zeros.
func readHeader(f io.Reader) (h Header, err error) {
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

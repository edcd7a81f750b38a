// Package numpy reads and writes arrays as NumPy does: .npy files, alone or in the .npz archives that hold several.
package numpy

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/sbinet/npyio/npy"

	"github.com/terastal/terastal/internal/ort"
)

// Array is a whole array in memory, its elements row by row as stored.
type Array struct {
	Type  ort.DataType
	Descr string // NumPy's own name of the type, such as "<f4"
	Shape []int64
	Data  []byte
}

// types are NumPy's names of element types. bfloat16 has none.
var types = map[string]ort.DataType{
	"f2": ort.Float16, "f4": ort.Float, "f8": ort.Double, "b1": ort.Bool,
	"i1": ort.Int8, "i2": ort.Int16, "i4": ort.Int32, "i8": ort.Int64,
	"u1": ort.Uint8, "u2": ort.Uint16, "u4": ort.Uint32, "u8": ort.Uint64,
}

// maxData bounds what is read into memory.
const maxData = 4 << 30

// Read reads an array. Its elements have to be those of a tensor, and all there.
func Read(r io.Reader) (*Array, error) {
	a, err := readHeader(r)
	if err != nil {
		return nil, err
	}
	want := int64(a.Type.Size())
	for _, n := range a.Shape {
		if n < 0 || n > 0 && want > maxData/n {
			return nil, fmt.Errorf("says that it has the shape %v, more than %d GiB", a.Shape, maxData>>30)
		}
		want *= n
	}
	// Its size is what the header says, which is not to be trusted with memory.
	if a.Data, err = io.ReadAll(io.LimitReader(r, want)); err != nil {
		return nil, err
	}
	if int64(len(a.Data)) < want {
		return nil, fmt.Errorf("ends after %d of the %d bytes of %s%v", len(a.Data), want, a.Type, a.Shape)
	}
	return a, nil
}

// Encode is an array as a .npy file.
func Encode(t ort.DataType, shape []int64, data []byte) ([]byte, error) {
	kind := ""
	for name, is := range types {
		if is == t {
			kind = name
		}
	}
	if kind == "" {
		return nil, fmt.Errorf("NumPy has no type for %v", t)
	}
	order := "<"
	if strings.HasSuffix(kind, "1") {
		order = "|"
	}
	var dims strings.Builder
	for _, d := range shape {
		fmt.Fprintf(&dims, "%d, ", d)
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
func readHeader(f io.Reader) (a *Array, err error) {
	defer func() {
		if recover() != nil { // it trusts what the header says about itself
			err = errors.New("is no .npy file: its header is damaged")
		}
	}()
	r, err := npy.NewReader(f)
	if err != nil {
		return nil, fmt.Errorf("is no .npy file: %w", err)
	}
	d := r.Header.Descr
	a = &Array{Type: types[strings.TrimLeft(d.Type, "<|=")], Descr: d.Type, Shape: []int64{}}
	switch {
	case a.Type == ort.Undefined:
		return nil, fmt.Errorf("holds elements of type %s, which are not those of a tensor in little-endian order", d.Type)
	case d.Fortran:
		return nil, errors.New("is in Fortran order; save numpy.ascontiguousarray of it")
	}
	for _, n := range d.Shape {
		a.Shape = append(a.Shape, int64(n))
	}
	return a, nil
}

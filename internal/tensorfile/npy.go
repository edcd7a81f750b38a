// Package tensorfile reads tensors from NumPy files and folders of images, and
// writes NumPy files. It knows shapes and types, nothing of models.
package tensorfile

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/terastal/terastal/internal/numpy"
	"github.com/terastal/terastal/models"
)

// ReadArray reads the array of a .npy file, which has to be exactly of t's type
// and shape. Errors do not name the file.
func ReadArray(path string, t models.Tensor) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, errors.Unwrap(err)
	}
	defer f.Close()
	sets, err := readArrays(f, t)
	if err != nil {
		return nil, err
	}
	if len(sets.data) != 1 || !slices.Equal(sets.shape, t.Shape) {
		return nil, mismatch(sets.kind, sets.shape, t)
	}
	return sets.data[0], nil
}

// arrays are several tensors that were stored as one array.
type arrays struct {
	kind  string
	shape []int64 // as stored
	data  [][]byte
}

func mismatch(kind string, shape []int64, t models.Tensor) error {
	return fmt.Errorf("holds an array of type %s and shape %v; expected is %v%v", kind, shape, t.Type, t.Shape)
}

// readArrays reads one tensor, or several stacked along a first dimension of
// their own or along the batch dimension of 1.
func readArrays(r io.Reader, t models.Tensor) (*arrays, error) {
	h, err := numpy.ReadHeader(r)
	if err != nil {
		return nil, err
	}
	a := &arrays{kind: h.Descr, shape: h.Shape}
	n := stacked(a.shape, t.Shape)
	if h.Type != t.Type.String() || n == 0 {
		return nil, mismatch(a.kind, a.shape, t)
	}
	if h.Fortran {
		return nil, errors.New("holds an array in Fortran order; save numpy.ascontiguousarray of it")
	}
	for i := range min(n, maxSets) {
		data := make([]byte, t.Bytes())
		if got, err := io.ReadFull(r, data); err != nil {
			return nil, fmt.Errorf("ends after %d of the %d bytes of %v%v", i*int64(len(data))+int64(got), n*int64(len(data)), t.Type, a.shape)
		}
		a.data = append(a.data, data)
	}
	return a, nil
}

// stacked is how many tensors of one shape an array of another holds: 0 if it
// is no stack of them.
func stacked(array, tensor []int64) int64 {
	switch {
	case slices.Equal(array, tensor):
		return 1
	case len(array) == len(tensor)+1 && slices.Equal(array[1:], tensor):
		return max(0, array[0])
	case len(tensor) > 0 && len(array) == len(tensor) && tensor[0] == 1 && slices.Equal(array[1:], tensor[1:]):
		return max(0, array[0])
	}
	return 0
}

// readArchive reads the arrays of a .npz file by the tensors' names.
func readArchive(path string, want []models.Tensor) ([]*arrays, error) {
	z, err := zip.OpenReader(path)
	if err != nil {
		return nil, fmt.Errorf("is no .npz file: %w", err)
	}
	defer z.Close()
	var out []*arrays
	for _, t := range want {
		f, err := z.Open(t.Name + ".npy")
		if err != nil {
			var have []string
			for _, x := range z.File {
				have = append(have, strings.TrimSuffix(x.Name, ".npy"))
			}
			return nil, fmt.Errorf("holds no array %q, but %q", t.Name, have)
		}
		a, err := readArrays(f, t)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("array %q %w", t.Name, err)
		}
		out = append(out, a)
	}
	return out, nil
}

// EncodeArray is a tensor's data as a .npy file.
func EncodeArray(t models.Tensor, data []byte) ([]byte, error) {
	kind := numpy.TypeOf(t.Type.String())
	if kind == "" {
		return nil, fmt.Errorf("tensor %q: NumPy has no type for %v", t.Name, t.Type)
	}
	order := "<"
	if strings.HasSuffix(kind, "1") {
		order = "|"
	}
	var shape strings.Builder
	for _, d := range t.Shape {
		fmt.Fprintf(&shape, "%d,", d)
	}
	header := fmt.Sprintf("{'descr': '%s%s', 'fortran_order': False, 'shape': (%s), }", order, kind, shape.String())
	const prefix = 10 // magic, version and the header's length
	header += strings.Repeat(" ", (64-(prefix+len(header)+1)%64)%64) + "\n"
	var b bytes.Buffer
	b.WriteString("\x93NUMPY\x01\x00")
	b.WriteByte(byte(len(header)))
	b.WriteByte(byte(len(header) >> 8))
	b.WriteString(header)
	b.Write(data)
	return b.Bytes(), nil
}

package dataset

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/terastal/terastal/internal/numpy"
	"github.com/terastal/terastal/models"
)

// maxFile bounds what is read into memory.
const maxFile = 4 << 30

func readAll(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("%w: more than %d GiB", ErrInvalid, maxFile>>30)
	}
	return data, err
}

// array is a whole array in memory.
type array struct {
	numpy.Header
	data []byte
}

func parseArray(what string, r io.Reader) (array, error) {
	h, err := numpy.ReadHeader(r)
	if err != nil {
		return array{}, fmt.Errorf("%w: %s %w", ErrInvalid, what, err)
	}
	if h.Fortran {
		return array{}, fmt.Errorf("%w: %s is in Fortran order; save numpy.ascontiguousarray of it", ErrInvalid, what)
	}
	data, err := readAll(r)
	return array{h, data}, err
}

// openArrays opens a .npy file of inputs, the first axis of which counts them,
// with another of labels; or a .npz file whose arrays x and y are these.
func openArrays(o Spec, t models.Tensor) (*Set, error) {
	var x, y *array
	if filepath.Ext(strings.ToLower(o.Source)) == ".npz" {
		z, err := zip.OpenReader(o.Source)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
		}
		defer z.Close()
		for _, f := range z.File {
			to := map[string]**array{"x.npy": &x, "y.npy": &y}[f.Name]
			if to == nil {
				continue
			}
			r, err := f.Open()
			if err != nil {
				return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
			}
			a, err := parseArray(f.Name, r)
			r.Close()
			if err != nil {
				return nil, err
			}
			*to = &a
		}
		if x == nil {
			return nil, fmt.Errorf("%w: it holds no array x: write numpy.savez(file, x=inputs, y=labels)", ErrInvalid)
		}
	} else {
		for _, f := range []struct {
			path string
			to   **array
		}{{o.Source, &x}, {o.Labels, &y}} {
			if f.path == "" {
				continue
			}
			file, err := os.Open(f.path)
			if err != nil {
				return nil, err
			}
			a, err := parseArray(f.path, file)
			file.Close()
			if err != nil {
				return nil, err
			}
			*f.to = &a
		}
	}
	return pair(o, t, x, y)
}

// pair makes a set of inputs and labels. Bytes become pictures where the model
// takes float32.
func pair(o Spec, t models.Tensor, x, y *array) (*Set, error) {
	if len(x.Shape) < 1 || x.Shape[0] < 1 {
		return nil, fmt.Errorf("%w: the inputs have the shape %v, the first axis has to count them", ErrInvalid, x.Shape)
	}
	n := int(x.Shape[0])
	each := int64(1)
	for _, d := range x.Shape[1:] {
		each *= d
	}
	if each != t.Elements() {
		return nil, fmt.Errorf("%w: an input has the shape %v, the model takes %v", ErrInvalid, x.Shape[1:], t)
	}
	size := int64(len(x.data)) / int64(n)
	s := &Set{n: n, label: unlabelled}
	switch {
	case x.Type == t.Type.String():
		if size != t.Bytes() || size*int64(n) != int64(len(x.data)) {
			return nil, fmt.Errorf("%w: the inputs hold %d bytes, %d of %v need %d", ErrInvalid, len(x.data), n, t, t.Bytes()*int64(n))
		}
		s.inputs = func(i int) ([][]byte, error) { return [][]byte{x.data[int64(i)*size : int64(i+1)*size]}, nil }
	case x.Type == "uint8":
		p, err := newPicture(o, t)
		if err != nil {
			return nil, err
		}
		if int64(len(x.data)) != each*int64(n) {
			return nil, fmt.Errorf("%w: the inputs hold %d bytes, need %d", ErrInvalid, len(x.data), each*int64(n))
		}
		s.inputs = func(i int) ([][]byte, error) {
			pixels := x.data[int64(i)*each : int64(i+1)*each]
			return [][]byte{p.input(func(y, x, c int) uint8 {
				if p.last {
					return pixels[(y*p.width+x)*p.channels+c]
				}
				return pixels[(c*p.height+y)*p.width+x]
			})}, nil
		}
	default:
		return nil, fmt.Errorf("%w: the inputs are %s, the model takes %v (uint8 is taken for pixels)", ErrInvalid, x.Descr, t)
	}
	if y == nil {
		return s, nil
	}
	labels, err := y.integers()
	if err != nil {
		return nil, err
	}
	if len(labels) != n {
		return nil, fmt.Errorf("%w: %d labels for %d inputs", ErrInvalid, len(labels), n)
	}
	if i := slices.IndexFunc(labels, func(v int) bool { return v < 0 }); i >= 0 {
		return nil, fmt.Errorf("%w: label %d is %d, classes count from 0", ErrInvalid, i, labels[i])
	}
	s.label = func(i int) int { return labels[i] }
	return s, nil
}

func (a *array) integers() ([]int, error) {
	var out []int
	size := map[string]int{"int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "int32": 4, "uint32": 4, "int64": 8, "uint64": 8}[a.Type]
	if size == 0 {
		return nil, fmt.Errorf("%w: the labels are %s, need whole numbers", ErrInvalid, a.Descr)
	}
	for at := 0; at+size <= len(a.data); at += size {
		e := a.data[at : at+size]
		switch a.Type {
		case "int8":
			out = append(out, int(int8(e[0])))
		case "uint8":
			out = append(out, int(e[0]))
		case "int16":
			out = append(out, int(int16(binary.LittleEndian.Uint16(e))))
		case "uint16":
			out = append(out, int(binary.LittleEndian.Uint16(e)))
		case "int32":
			out = append(out, int(int32(binary.LittleEndian.Uint32(e))))
		case "uint32":
			out = append(out, int(binary.LittleEndian.Uint32(e)))
		default:
			out = append(out, int(binary.LittleEndian.Uint64(e)))
		}
	}
	return out, nil
}

// openIDX opens images and labels in the format of MNIST: a big-endian magic
// number 0, 0, type (8 for bytes), number of axes, then the axes and the bytes.
func openIDX(o Spec, t models.Tensor) (*Set, error) {
	x, err := readIDX(o.Source)
	if err != nil {
		return nil, err
	}
	if o.Labels == "" {
		return pair(o, t, x, nil)
	}
	y, err := readIDX(o.Labels)
	if err != nil {
		return nil, err
	}
	return pair(o, t, x, y)
}

func readIDX(path string) (*array, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var r io.Reader = f
	if strings.HasSuffix(strings.ToLower(path), ".gz") {
		if r, err = gzip.NewReader(f); err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrInvalid, path, err)
		}
	}
	data, err := readAll(r)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrInvalid, path, err)
	}
	bad := fmt.Errorf("%w: %s is no IDX file of bytes", ErrInvalid, path)
	if len(data) < 4 || !bytes.Equal(data[:3], []byte{0, 0, 8}) || len(data) < 4+4*int(data[3]) {
		return nil, bad
	}
	a := &array{Header: numpy.Header{Type: "uint8", Descr: "uint8"}}
	size := int64(1)
	for i := range int(data[3]) {
		d := int64(binary.BigEndian.Uint32(data[4+4*i:]))
		a.Shape = append(a.Shape, d)
		if size *= d; size > maxFile {
			return nil, bad
		}
	}
	if a.data = data[4+4*int(data[3]):]; int64(len(a.data)) != size {
		return nil, fmt.Errorf("%w: %s holds %d bytes of data, its header says %d", ErrInvalid, path, len(a.data), size)
	}
	return a, nil
}

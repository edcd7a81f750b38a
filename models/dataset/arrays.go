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

// openArrays opens NumPy files: a .npy file of inputs with another of labels,
// or a .npz file that holds an array for each of the model's inputs, by name (or
// x for the only one), and perhaps the labels y.
func openArrays(o Spec, in []models.Tensor) (*Set, error) {
	if filepath.Ext(strings.ToLower(o.Source)) == ".npz" {
		return openArchive(o, in)
	}
	if len(in) != 1 {
		return nil, fmt.Errorf("%w: it gives one input, the model has %d: use a .npz file with an array for each", ErrInvalid, len(in))
	}
	x, err := readNPY(o.Source)
	if err != nil {
		return nil, err
	}
	var y *numpy.Array
	if o.Labels != "" {
		if y, err = readNPY(o.Labels); err != nil {
			return nil, err
		}
	}
	return stack(o, in, []*numpy.Array{x}, y)
}

func readNPY(path string) (*numpy.Array, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	a, err := numpy.Read(f)
	if err != nil {
		return nil, fmt.Errorf("%w: %s %w", ErrInvalid, path, err)
	}
	return a, nil
}

func openArchive(o Spec, in []models.Tensor) (*Set, error) {
	z, err := zip.OpenReader(o.Source)
	if err != nil {
		return nil, fmt.Errorf("%w: it is no .npz file: %w", ErrInvalid, err)
	}
	defer z.Close()
	var have []string
	files := map[string]*zip.File{}
	for _, f := range z.File {
		name := strings.TrimSuffix(f.Name, ".npy")
		have, files[name] = append(have, name), f
	}
	read := func(name string) (*numpy.Array, error) {
		f, err := files[name].Open()
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
		}
		defer f.Close()
		a, err := numpy.Read(f)
		if err != nil {
			return nil, fmt.Errorf("%w: array %q %w", ErrInvalid, name, err)
		}
		return a, nil
	}
	var xs []*numpy.Array
	taken := map[string]bool{}
	for _, t := range in {
		name := t.Name
		if files[name] == nil && len(in) == 1 {
			name = "x"
		}
		if files[name] == nil {
			return nil, fmt.Errorf("%w: it holds no array %q, but %q", ErrInvalid, t.Name, have)
		}
		a, err := read(name)
		if err != nil {
			return nil, err
		}
		xs, taken[name] = append(xs, a), true
	}
	if files["y"] == nil || taken["y"] {
		return stack(o, in, xs, nil)
	}
	y, err := read("y")
	if err != nil {
		return nil, err
	}
	return stack(o, in, xs, y)
}

// stack makes a set of arrays, one for each input of the model, each of which
// holds as many tensors.
func stack(o Spec, in []models.Tensor, xs []*numpy.Array, y *numpy.Array) (*Set, error) {
	s := &Set{label: unlabelled}
	var each []func(i int) []byte
	for j, x := range xs {
		n, one, err := unstack(o, in[j], x)
		if err != nil {
			return nil, err
		}
		if j > 0 && n != s.n {
			return nil, fmt.Errorf("%w: it holds %d tensors for %q and %d for %q: give as many for each", ErrInvalid, s.n, in[0].Name, n, in[j].Name)
		}
		s.n, each = n, append(each, one)
	}
	s.inputs = func(i int) ([][]byte, error) {
		out := make([][]byte, len(each))
		for j, one := range each {
			out[j] = one(i)
		}
		return out, nil
	}
	if y == nil {
		return s, nil
	}
	labels, err := integers(y)
	if err != nil {
		return nil, err
	}
	if len(labels) != s.n {
		return nil, fmt.Errorf("%w: %d labels for %d inputs", ErrInvalid, len(labels), s.n)
	}
	if i := slices.IndexFunc(labels, func(v int) bool { return v < 0 }); i >= 0 {
		return nil, fmt.Errorf("%w: label %d is %d, classes count from 0", ErrInvalid, i, labels[i])
	}
	s.label = func(i int) int { return labels[i] }
	return s, nil
}

// unstack takes the tensors out of an array. Bytes become pictures where the
// model takes float32.
func unstack(o Spec, t models.Tensor, x *numpy.Array) (n int, one func(i int) []byte, err error) {
	if x.Type == t.Type.String() {
		if n = stacked(x.Shape, t.Shape); n == 0 {
			return 0, nil, fmt.Errorf("%w: the array is %s%v, the model takes %v, one or several stacked along a first dimension", ErrInvalid, x.Type, x.Shape, t)
		}
		size := int(t.Bytes())
		return n, func(i int) []byte { return x.Data[i*size : (i+1)*size] }, nil
	}
	if x.Type != "uint8" {
		return 0, nil, fmt.Errorf("%w: the array holds %s, the model takes %v (uint8 is taken for pixels)", ErrInvalid, x.Type, t)
	}
	p, err := newPicture(o.Pixels, t)
	if err != nil {
		return 0, nil, err
	}
	each := p.channels * p.height * p.width
	// The channel of grey pixels may be left out.
	grey := []int64{1, int64(p.height), int64(p.width)}
	if n = stacked(x.Shape, t.Shape); n == 0 && p.channels == 1 {
		n = stacked(x.Shape, grey)
	}
	if n == 0 {
		return 0, nil, fmt.Errorf("%w: the pixels have the shape %v, the model takes %v, one or several stacked along a first dimension", ErrInvalid, x.Shape, t)
	}
	return n, func(i int) []byte {
		pixels := x.Data[i*each : (i+1)*each]
		return p.input(func(y, x, c int) uint8 {
			if p.last {
				return pixels[(y*p.width+x)*p.channels+c]
			}
			return pixels[(c*p.height+y)*p.width+x]
		})
	}, nil
}

// stacked is how many tensors of one shape an array of another holds, along a
// first dimension of its own or the batch dimension of 1: 0 if it is no stack of
// them. Leading dimensions of 1 change nothing.
func stacked(array, tensor []int64) int {
	plain := func(s []int64) []int64 {
		for len(s) > 0 && s[0] == 1 {
			s = s[1:]
		}
		return s
	}
	switch {
	case slices.Equal(plain(array), plain(tensor)):
		return 1
	case len(array) > 0 && slices.Equal(plain(array[1:]), plain(tensor)):
		return int(array[0])
	}
	return 0
}

func integers(a *numpy.Array) ([]int, error) {
	var out []int
	size := int(a.Size())
	if !strings.Contains(a.Type, "int") {
		return nil, fmt.Errorf("%w: the labels are %s, need whole numbers", ErrInvalid, a.Descr)
	}
	for at := 0; at+size <= len(a.Data); at += size {
		e := a.Data[at : at+size]
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
func openIDX(o Spec, in []models.Tensor) (*Set, error) {
	if len(in) != 1 {
		return nil, fmt.Errorf("%w: it gives one input, the model has %d", ErrInvalid, len(in))
	}
	x, err := readIDX(o.Source)
	if err != nil {
		return nil, err
	}
	if o.Labels == "" {
		return stack(o, in, []*numpy.Array{x}, nil)
	}
	y, err := readIDX(o.Labels)
	if err != nil {
		return nil, err
	}
	return stack(o, in, []*numpy.Array{x}, y)
}

func readIDX(path string) (*numpy.Array, error) {
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
	data, err := io.ReadAll(io.LimitReader(r, maxFile))
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrInvalid, path, err)
	}
	bad := fmt.Errorf("%w: %s is no IDX file of bytes", ErrInvalid, path)
	if len(data) < 4 || !bytes.Equal(data[:3], []byte{0, 0, 8}) || len(data) < 4+4*int(data[3]) {
		return nil, bad
	}
	a := &numpy.Array{Header: numpy.Header{Type: "uint8", Descr: "|u1"}}
	size := int64(1)
	for i := range int(data[3]) {
		d := int64(binary.BigEndian.Uint32(data[4+4*i:]))
		a.Shape = append(a.Shape, d)
		if size *= d; size > maxFile {
			return nil, bad
		}
	}
	if a.Data = data[4+4*int(data[3]):]; int64(len(a.Data)) != size {
		return nil, fmt.Errorf("%w: %s holds %d bytes of data, its header says %d", ErrInvalid, path, len(a.Data), size)
	}
	return a, nil
}

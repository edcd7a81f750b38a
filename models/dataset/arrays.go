package dataset

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"

	"gorgonia.org/tensor"

	"github.com/terastal/terastal/internal/numpy"
	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/models/dense"
)

// maxFile bounds what is read into memory.
const maxFile = 4 << 30

// openFiles opens a file of inputs, with another of labels if one is named.
func openFiles(o Spec, in []models.Tensor, read func(path string) (*numpy.Array, error)) (*Set, error) {
	if len(in) != 1 {
		return nil, fmt.Errorf("%w: it gives one input, the model has %d: use a .npz file with an array for each",
			ErrInvalid, len(in))
	}
	x, err := read(o.Source)
	if err != nil {
		return nil, err
	}
	var y *numpy.Array
	if o.Labels != "" {
		if y, err = read(o.Labels); err != nil {
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

// openArchive opens a .npz file, which holds an array for each of the model's
// inputs, by name (or x for the only one), and perhaps the labels y.
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

// stack makes a set of arrays, one for each input of the model, each of which holds as many tensors.
func stack(o Spec, in []models.Tensor, xs []*numpy.Array, y *numpy.Array) (*Set, error) {
	s := &Set{label: unlabelled}
	var each []func(i int) (*tensor.Dense, error)
	for j, x := range xs {
		n, one, err := unstack(o, in[j], x)
		if err != nil {
			return nil, err
		}
		if j > 0 && n != s.n {
			return nil, fmt.Errorf("%w: it holds %d tensors for %q and %d for %q: give as many for each",
				ErrInvalid, s.n, in[0].Name, n, in[j].Name)
		}
		s.n, each = n, append(each, one)
	}
	s.inputs = func(i int) ([]*tensor.Dense, error) {
		out := make([]*tensor.Dense, len(each))
		for j, one := range each {
			var err error
			if out[j], err = one(i); err != nil {
				return nil, err
			}
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

// unstack takes the tensors out of an array, as slices of it. Bytes become pictures where the model takes float32.
func unstack(o Spec, t models.Tensor, x *numpy.Array) (n int, one func(i int) (*tensor.Dense, error), err error) {
	stored, p := t, (*picture)(nil)
	switch {
	case x.Type == t.Type:
	case x.Type == ort.Uint8:
		if p, err = newPicture(o.Pixels, t); err != nil {
			return 0, nil, err
		}
		stored.Type = ort.Uint8
	default:
		return 0, nil, fmt.Errorf("%w: the array holds %v, the model takes %v (uint8 is taken for pixels)",
			ErrInvalid, x.Type, t)
	}
	n = stacked(x.Shape, t.Shape)
	if n == 0 && p != nil && p.channels == 1 { // the channel of grey pixels may be left out
		n = stacked(x.Shape, []int64{int64(p.height), int64(p.width)})
	}
	if n == 0 {
		return 0, nil, fmt.Errorf("%w: the array is %v%v, the model takes %v, one or several stacked along a first dimension",
			ErrInvalid, x.Type, x.Shape, t)
	}
	stored.Shape = append([]int64{int64(n)}, t.Shape...)
	all, err := dense.Of(stored, x.Data)
	if err != nil {
		return 0, nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	shape := slices.Clone(all.Shape()[1:])
	return n, func(i int) (*tensor.Dense, error) {
		view, err := all.Slice(tensor.S(i))
		if err != nil {
			return nil, err
		}
		d := view.(*tensor.Dense)
		if err := d.Reshape(shape...); err != nil || p == nil { // a slice loses dimensions of 1
			return d, err
		}
		return p.input(d.Uint8s())
	}, nil
}

// stacked is how many tensors of one shape an array of another holds, along an additional first dimension or the batch
// dimension of 1: 0 if it is no stack of them. Leading dimensions of 1 change nothing.
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

// integers are the elements of an array of any type of whole numbers.
func integers(a *numpy.Array) ([]int, error) {
	if !strings.Contains(a.Type.String(), "int") {
		return nil, fmt.Errorf("%w: the labels are %s, need whole numbers", ErrInvalid, a.Descr)
	}
	out := make([]int, len(a.Data)/a.Type.Size())
	d, err := dense.Of(models.Tensor{Name: "labels", Type: a.Type, Shape: []int64{int64(len(out))}}, a.Data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	all := reflect.ValueOf(d.Data())
	for i := range out {
		if v := all.Index(i); v.CanInt() {
			out[i] = int(v.Int())
		} else {
			out[i] = int(v.Uint())
		}
	}
	return out, nil
}

// readIDX reads the format of MNIST: a big-endian magic number 0, 0, type (8
// for bytes), number of axes, then the axes and the bytes.
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
	a := &numpy.Array{Type: ort.Uint8, Descr: "|u1"}
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

// Package dataset reads inputs of models, with or without labels, from what they commonly come in: folders of images
// with a CSV file of labels, NumPy arrays, IDX files (the format of MNIST), and the glyphs that the project renders
// itself. Requests run on them, and variants are calibrated and judged on some hundreds or thousands, which are read
// one at a time where the format allows.
package dataset

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/terastal/terastal/internal/glyphs"
	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/models/dense"
	"gorgonia.org/tensor"
)

// ErrInvalid is wrapped by errors about data that are not what they are said to be, or do not fit the model.
var ErrInvalid = errors.New("unusable data")

// Spec says where data are and how they become inputs.
type Spec struct {
	// Source is a folder of images, a .npz, .npy or IDX file (which may end in
	// .gz), "glyphs:train", "glyphs:calibration", "glyphs:test" or "random".
	Source string
	// Labels is the CSV file of a folder (file,class), or the .npy or IDX file
	// of the labels; empty for none. In a .npz the array y holds them.
	Labels string
	// First is the index of the first to use, Count how many; 0 for all.
	First, Count int
	Pixels       Pixels
}

// Pixels says how the pixels of images, and of arrays and IDX files of bytes,
// become a float32 input. Inputs of bytes get them as they are.
type Pixels struct {
	// Range is what a full channel counts: 1, the default for 0, or 255.
	Range float64
	// Mean is then subtracted from each channel and the rest divided by Std, by
	// channel or one for all. Without, they are 0 and 1.
	Mean, Std []float64
	// BGR swaps the first and the last channel.
	BGR bool
}

// Set is a data set opened for a model.
type Set struct {
	n      int
	inputs func(i int) ([]*tensor.Dense, error)
	label  func(i int) int
}

// Len is the number of requests in the set.
func (s *Set) Len() int { return s.n }

// Inputs is request i, counted from 0: a tensor for each of the model's inputs.
// They may share memory with the set: do not write to them.
func (s *Set) Inputs(i int) ([]*tensor.Dense, error) { return s.inputs(i) }

// Label is the class of request i, or -1.
func (s *Set) Label(i int) int { return s.label(i) }

// Labelled reports whether there are labels.
func (s *Set) Labelled() bool { return s.n > 0 && s.label(0) >= 0 }

func unlabelled(int) int { return -1 }

// Open opens data for a model. Errors wrap ErrInvalid or are of the file system.
func Open(o Spec, m *models.Model) (_ *Set, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("data %s: %w", o.Source, err)
		}
	}()
	all, err := open(o, m)
	if err != nil {
		return nil, err
	}
	n := all.n - o.First
	switch {
	case o.First < 0 || o.Count < 0:
		return nil, fmt.Errorf("%w: first and count must not be negative", ErrInvalid)
	case all.n == 0:
		return nil, fmt.Errorf("%w: nothing is there", ErrInvalid)
	case n < 1 || o.Count > n:
		return nil, fmt.Errorf("%w: there are %d, %d from number %d on are wanted", ErrInvalid, all.n, o.Count, o.First)
	}
	s := &Set{
		n:      cmp.Or(o.Count, n),
		inputs: func(i int) ([]*tensor.Dense, error) { return all.inputs(o.First + i) },
		label:  func(i int) int { return all.label(o.First + i) },
	}
	if _, err := s.Inputs(0); err != nil {
		return nil, err
	}
	return s, nil
}

// endless is how many there are of what is made on demand.
const endless = 1 << 30

func open(o Spec, m *models.Model) (*Set, error) {
	in := m.Inputs()
	if o.Source == "random" {
		return &Set{n: endless, label: unlabelled, inputs: func(i int) ([]*tensor.Dense, error) {
			return dense.All(in, models.RandomInputs(m, uint64(i)))
		}}, nil
	}
	if split, ok := strings.CutPrefix(o.Source, "glyphs:"); ok {
		return openGlyphs(split, in)
	}
	info, err := os.Stat(o.Source)
	if err != nil {
		return nil, err
	}
	name := strings.TrimSuffix(strings.ToLower(o.Source), ".gz")
	switch {
	case info.IsDir():
		return openFolder(o, in)
	case filepath.Ext(name) == ".npz":
		return openArchive(o, in)
	case filepath.Ext(name) == ".npy":
		return openFiles(o, in, readNPY)
	case strings.Contains(filepath.Base(name), "idx"):
		return openFiles(o, in, readIDX)
	}
	return nil, fmt.Errorf("%w: it is no folder, .npy, .npz or IDX file (with idx in its name), "+
		"and none of glyphs:train, glyphs:calibration, glyphs:test, random", ErrInvalid)
}

func openGlyphs(name string, in []models.Tensor) (*Set, error) {
	split, err := glyphs.ParseSplit(name)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if len(in) != 1 || in[0].Type != ort.Float || in[0].Elements() != glyphs.Size*glyphs.Size {
		return nil, fmt.Errorf("%w: the model takes %v, glyphs are one float32[1 1 %d %d]",
			ErrInvalid, in, glyphs.Size, glyphs.Size)
	}
	label := func(i int) int { return glyphs.Label(uint32(i)) }
	return &Set{n: endless, label: label, inputs: one(func(i int) (*tensor.Dense, error) {
		pixels, _ := glyphs.Image(split, uint32(i))
		return dense.Of(in[0], ort.Data(glyphs.Tensor(pixels)))
	})}, nil
}

// one is the inputs of a model that has only one.
func one(input func(i int) (*tensor.Dense, error)) func(i int) ([]*tensor.Dense, error) {
	return func(i int) ([]*tensor.Dense, error) {
		d, err := input(i)
		return []*tensor.Dense{d}, err
	}
}

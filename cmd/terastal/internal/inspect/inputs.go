package inspect

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/terastal/terastal/cmd/terastal/internal/session"
	"github.com/terastal/terastal/internal/numpy"
	"github.com/terastal/terastal/models"
)

// inputData is data for every input of a model: of the arrays in the files that refs name (NAME=FILE.npy, or FILE.npy
// where there is one input), random where none is named.
func (s *Split) inputData(refs []string, seed uint64) ([][]byte, error) {
	data := models.RandomInputs(s.Model, seed)
	given := make([]bool, len(data))
	for _, ref := range refs {
		i, file, err := findInput(s.Inputs(), ref)
		if err != nil {
			return nil, err
		}
		t := s.Inputs()[i]
		if given[i] {
			return nil, session.Usagef("--input: %s is given twice", t.Name)
		}
		given[i] = true
		if data[i], err = readTensor(file, t); err != nil {
			return nil, fmt.Errorf("input %q: file %s: %w", t.Name, file, err)
		}
	}
	return data, nil
}

// readTensor reads a .npy file, which has to be exactly of t's type and shape. Errors do not name the file.
func readTensor(path string, t models.Tensor) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, errors.Unwrap(err)
	}
	defer f.Close()
	a, err := numpy.Read(f)
	if err != nil {
		return nil, err
	}
	if a.Type != t.Type || !slices.Equal(a.Shape, t.Shape) {
		return nil, fmt.Errorf("holds an array of type %s and shape %v; expected is %v%v", a.Descr, a.Shape, t.Type, t.Shape)
	}
	return a.Data, nil
}

func findInput(inputs []models.Tensor, ref string) (int, string, error) {
	for i, t := range inputs { // the names may hold = themselves
		if file, named := strings.CutPrefix(ref, t.Name+"="); named {
			return i, file, nil
		}
	}
	if len(inputs) == 1 && !strings.Contains(ref, "=") {
		return 0, ref, nil
	}
	return 0, "", session.Usagef("--input %s: write NAME=FILE.npy, where NAME is one of the inputs %v", ref, inputs)
}

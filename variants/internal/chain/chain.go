// Package chain computes networks layer by layer, to fit and to judge variants: on one core, and variants that are for
// one provider on its accelerator. It measures no time.
package chain

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/models/dense"
	"github.com/terastal/terastal/runtime"
	"gorgonia.org/tensor"
)

// ErrNotFinite is about NaN or infinity where the original makes none.
var ErrNotFinite = errors.New("it makes NaN or infinity")

// Data are inputs of a network.
type Data interface {
	Len() int
	Inputs(i int) ([]*tensor.Dense, error)
}

// Read reads one request: the bytes of every model input, which have to be finite.
func Read(m *models.Model, d Data, i int) ([][]byte, error) {
	given, err := d.Inputs(i)
	if err != nil {
		return nil, fmt.Errorf("input %d: %w", i, err)
	}
	in, err := dense.Data(given, m.Inputs())
	if err != nil {
		return nil, fmt.Errorf("input %d: %w", i, err)
	}
	for n, t := range m.Inputs() {
		if t.Type == ort.Float && !Finite(ort.Numbers[float32](in[n])) {
			return nil, fmt.Errorf("input %d: tensor %s holds NaN or infinity", i, t)
		}
	}
	return in, nil
}

// Finite reports whether no number is NaN or infinite.
func Finite(v []float32) bool {
	return !slices.ContainsFunc(v, func(x float32) bool { return x-x != 0 })
}

// LastReaders is the last layer that reads each tensor; results of the model are read after all layers.
func LastReaders(n *runtime.Network) map[string]int {
	last := map[string]int{}
	for i := range n.Layers {
		for _, t := range n.Layers[i].Inputs {
			last[t.Name] = i
		}
	}
	for _, t := range n.Model.Outputs() {
		last[t.Name] = len(n.Layers)
	}
	return last
}

// Names are the names of tensors.
func Names(ts []models.Tensor) []string {
	var out []string
	for _, t := range ts {
		out = append(out, t.Name)
	}
	return out
}

// memoryBudget bounds the activations of all calibration inputs that are kept
// between layers; what exceeds it is computed again.
const memoryBudget = 256 << 20

// Stream is the network's activations on all calibration inputs: kept at one layer's boundary, computed from there on.
type Stream struct {
	network *runtime.Network
	data    Data
	last    map[string]int
	at      int
	kept    []map[string][]byte // by image; nil while at is 0
	runners map[int]*Runner
	adopted map[int][]byte // ONNX models by layer
}

// NewStream is the activations of the originals.
func NewStream(n *runtime.Network, d Data) *Stream {
	return &Stream{network: n, data: d, last: LastReaders(n), runners: map[int]*Runner{}, adopted: map[int][]byte{}}
}

// Branch is a separate stream that begins with what this one has kept, unless that lies behind a layer.
func (s *Stream) Branch(layer int) *Stream {
	out := NewStream(s.network, s.data)
	if s.at <= layer {
		out.kept, out.at = s.kept, s.at
	}
	return out
}

// Adopt replaces a layer by an ONNX model.
func (s *Stream) Adopt(l int, onnx []byte) {
	s.adopted[l] = onnx
	s.drop(l)
}

// drop closes the runner of a layer.
func (s *Stream) drop(l int) {
	if r := s.runners[l]; r != nil {
		r.Close()
		delete(s.runners, l)
	}
}

// Close frees what the stream opened.
func (s *Stream) Close() {
	for _, r := range s.runners {
		r.Close()
	}
	clear(s.runners)
}

// open returns the runner of a layer.
func (s *Stream) open(l int) (*Runner, error) {
	if s.runners[l] != nil {
		return s.runners[l], nil
	}
	layer := &s.network.Layers[l]
	r, err := OpenLayer(layer, s.adopted[l])
	if err != nil {
		return nil, fmt.Errorf("layer %q: %w", layer.Name, err)
	}
	s.runners[l] = r
	return r, nil
}

// Before returns what is alive before a layer for one image.
func (s *Stream) Before(l, image int) (map[string][]byte, error) {
	env := map[string][]byte{}
	if s.kept != nil {
		maps.Copy(env, s.kept[image])
	} else {
		in, err := Read(s.network.Model, s.data, image)
		if err != nil {
			return nil, err
		}
		for i, t := range s.network.Model.Inputs() {
			env[t.Name] = in[i]
		}
	}
	for at := s.at; at < l; at++ {
		r, err := s.open(at)
		if err != nil {
			return nil, err
		}
		if err := r.Advance(env); err != nil {
			return nil, fmt.Errorf("layer %q: %w", s.network.Layers[at].Name, err)
		}
		for name := range env {
			if s.last[name] <= at {
				delete(env, name)
			}
		}
	}
	return env, nil
}

// Keep remembers the activations before a layer where memory allows.
func (s *Stream) Keep(l int) error {
	if l <= s.at {
		return nil
	}
	env, err := s.Before(l, 0)
	if err != nil {
		return err
	}
	size := 0
	for _, data := range env {
		size += len(data)
	}
	if size*s.data.Len() > memoryBudget {
		return nil
	}
	kept := make([]map[string][]byte, s.data.Len())
	for i := range kept {
		if kept[i], err = s.Before(l, i); err != nil {
			return err
		}
	}
	for at := s.at; at < l; at++ {
		s.drop(at)
	}
	s.kept, s.at = kept, l
	return nil
}

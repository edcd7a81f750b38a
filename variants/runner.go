package variants

import (
	"fmt"
	"math"
	"slices"

	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/models"
)

var negInf, posInf = float32(math.Inf(-1)), float32(math.Inf(1))

// runner runs an ONNX model on one core, again and again.
type runner struct {
	session *ort.Session
	inputs  []models.Tensor
	names   []string
	in, out []ort.Value
	held    [][]byte // memory of the inputs
	// results and shapes are of the last run, by output.
	results [][]byte
	shapes  [][]int64
}

// newRunner opens a model whose inputs have the given shapes.
func newRunner(g graph, inputs []models.Tensor, outputs []string, optimization string) (*runner, error) {
	data, err := g.bytes()
	if err != nil {
		return nil, err
	}
	return openRunner(data, inputs, outputs, optimization)
}

func openRunner(onnx []byte, inputs []models.Tensor, outputs []string, optimization string) (*runner, error) {
	var names []string
	for _, t := range inputs {
		names = append(names, t.Name)
	}
	s, err := ort.NewSession(onnx, names, outputs, ort.Config{Optimization: optimization, Threads: 1})
	if err != nil {
		return nil, err
	}
	r := &runner{session: s, inputs: inputs, names: outputs, out: make([]ort.Value, len(outputs)), shapes: make([][]int64, len(outputs)), results: make([][]byte, len(outputs))}
	for _, t := range inputs {
		data := make([]byte, t.Bytes())
		v, err := ort.NewTensor(t.Type, t.Shape, data)
		if err != nil {
			r.close()
			return nil, err
		}
		r.in, r.held = append(r.in, v), append(r.held, data)
	}
	return r, nil
}

// run computes the outputs from tensors by name. results stay valid until the
// next run.
func (r *runner) run(in map[string][]byte) error {
	for i, t := range r.inputs {
		if len(in[t.Name]) != len(r.held[i]) {
			return fmt.Errorf("tensor %q has %d bytes, need %d", t.Name, len(in[t.Name]), len(r.held[i]))
		}
		copy(r.held[i], in[t.Name])
	}
	if err := r.session.Run(r.in, r.out); err != nil {
		return err
	}
	for i, v := range r.out {
		if r.results[i] != nil { // the same memory again
			continue
		}
		data, err := ort.Bytes(v)
		if err != nil {
			return err
		}
		_, shape := ort.Info(v)
		r.results[i], r.shapes[i] = data, slices.Clone(shape)
	}
	return nil
}

func (r *runner) close() {
	r.session.Close()
	for _, v := range slices.Concat(r.in, r.out) {
		if v != nil {
			v.Destroy()
		}
	}
}

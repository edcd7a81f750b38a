package chain

import (
	"slices"

	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/runtime"
)

// Runner runs an implementation of a layer again and again: on one core, or on an accelerator.
type Runner struct {
	remote  *remote // nil on the CPU
	session *ort.Session
	inputs  []models.Tensor
	in, out []ort.Value
	held    [][]byte // memory of the inputs
	// Names are the outputs'. Results and Shapes are of the last run, by output; on accelerators there are no shapes.
	Names   []string
	Results [][]byte
	Shapes  [][]int64
}

// OpenLayer opens a model with a layer's inputs and outputs, the layer's own if it is nil.
func OpenLayer(l *models.Layer, onnx []byte) (*Runner, error) {
	if onnx == nil {
		var err error
		if onnx, err = l.ONNX(); err != nil {
			return nil, err
		}
	}
	return Open(onnx, l.Inputs, Names(l.Outputs), "all")
}

// OpenUnit opens an implementation of a layer: where its provider is if it is for one, else on the CPU.
func OpenUnit(l *models.Layer, u runtime.Unit, on *Accelerators) (*Runner, error) {
	if u.Provider == "" {
		return OpenLayer(l, u.ONNX)
	}
	r, err := openRemote(l, u, on)
	if err != nil {
		return nil, err
	}
	return &Runner{remote: r, Names: Names(l.Outputs)}, nil
}

// Open opens a model whose inputs have the given shapes, at an optimisation level of ONNX Runtime.
func Open(onnx []byte, inputs []models.Tensor, outputs []string, optimization string) (*Runner, error) {
	s, err := ort.NewSession(onnx, Names(inputs), outputs, ort.Config{Optimization: optimization, Threads: 1})
	if err != nil {
		return nil, err
	}
	n := len(outputs)
	r := &Runner{session: s, inputs: inputs, Names: outputs,
		out: make([]ort.Value, n), Shapes: make([][]int64, n), Results: make([][]byte, n)}
	for _, t := range inputs {
		data := make([]byte, t.Bytes())
		v, err := ort.NewTensor(t.Type, t.Shape, data)
		if err != nil {
			r.Close()
			return nil, err
		}
		r.in, r.held = append(r.in, v), append(r.held, data)
	}
	return r, nil
}

// Run computes the outputs from tensors by name. Results stay valid until the next run.
func (r *Runner) Run(in map[string][]byte) (err error) {
	if r.remote != nil {
		r.Results, err = r.remote.run(in)
		return err
	}
	for i, t := range r.inputs {
		if err := given(in, t.Name, len(r.held[i])); err != nil {
			return err
		}
		copy(r.held[i], in[t.Name])
	}
	if err := r.session.Run(r.in, r.out); err != nil {
		return err
	}
	for i, v := range r.out {
		if r.Results[i] != nil { // the same memory again
			continue
		}
		data, err := ort.Bytes(v)
		if err != nil {
			return err
		}
		_, shape := ort.Info(v)
		r.Results[i], r.Shapes[i] = data, slices.Clone(shape)
	}
	return nil
}

// Close frees the session and its tensors.
func (r *Runner) Close() {
	if r.remote != nil {
		r.remote.close()
		return
	}
	r.session.Close()
	for _, v := range slices.Concat(r.in, r.out) {
		v.Destroy()
	}
}

// Advance runs a layer on the tensors that are alive, and adds its outputs. On an accelerator it may be called from
// several goroutines.
func (r *Runner) Advance(env map[string][]byte) error {
	if r.remote != nil {
		results, err := r.remote.run(env)
		for i, data := range results {
			env[r.Names[i]] = data
		}
		return err
	}
	if err := r.Run(env); err != nil {
		return err
	}
	for i, name := range r.Names {
		env[name] = append([]byte(nil), r.Results[i]...)
	}
	return nil
}

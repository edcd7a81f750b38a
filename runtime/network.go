package runtime

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"slices"

	"github.com/terastal/terastal/internal/document"
	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/sched/plan"
)

// Network is a model in layers, as an executor loads it.
type Network struct {
	Name   string
	Model  *models.Model
	Layers []models.Layer
	// Granularity names how the layers were cut, for documents; empty stands for the cut itself ([models.Cut]).
	Granularity string
	// Variants[l] are further implementations of layer l, after the original:
	// models with the same inputs and outputs.
	Variants map[int][]Unit
	// Skip, if not nil, is asked before each implementation of a layer is loaded on an accelerator, all by index, in
	// that order: where it returns an error it is not loaded, as if the accelerator had refused it.
	Skip func(layer, implementation, accelerator int) error
}

// NewNetwork splits a model into layers at a granularity that models.ParseGranularity takes, such as "op".
func NewNetwork(name string, m *models.Model, granularity string) (*Network, error) {
	g, err := models.ParseGranularity(granularity)
	if err != nil {
		return nil, err
	}
	layers, err := m.Split(g)
	if err != nil {
		return nil, err
	}
	return &Network{Name: name, Model: m, Layers: layers, Granularity: granularity}, nil
}

// Attach makes the variants of a plan, which come in the order of layers, implementations of the network's layers,
// after the originals and in place of the variants that it had. read reads a file that the plan names. The error wraps
// document.ErrDamaged where a file is not the plan's. After an error the network is as it was.
func (n *Network) Attach(list []plan.Variant, read func(file string) ([]byte, error)) error {
	out := map[int][]Unit{}
	for i, v := range list {
		if i > 0 && v.Layer < list[i-1].Layer {
			return fmt.Errorf("variant %s is not in the order of layers", v.File)
		}
		if v.Layer < 0 || v.Layer >= len(n.Layers) {
			return fmt.Errorf("variant %q is of layer %d, the model has %d", cmp.Or(v.File, v.Name), v.Layer, len(n.Layers))
		}
		l := &n.Layers[v.Layer]
		u := Unit{Name: v.Name, Inputs: l.Inputs, Outputs: l.Outputs, Provider: v.Provider, Options: v.Options}
		if v.File == "" {
			if l.SHA256 != v.SHA256 {
				return fmt.Errorf("variant %q: layer %q is not the plan's", v.Name, l.Name)
			}
		} else {
			var err error
			if u.ONNX, err = read(v.File); err != nil {
				return fmt.Errorf("variant: %w", err)
			}
			if fmt.Sprintf("%x", sha256.Sum256(u.ONNX)) != v.SHA256 {
				return fmt.Errorf("variant %s: %w: its SHA-256 is not the plan's", v.File, document.ErrDamaged)
			}
		}
		out[v.Layer] = append(out[v.Layer], u)
	}
	n.Variants = out
	return nil
}

// Original names the implementation of a layer that is no variant.
const Original = "original"

// prepare loads a unit unless it is to be skipped.
func (n *Network) prepare(a Accelerator, u Unit, layer, implementation, accelerator int) (Kernel, error) {
	if n.Skip != nil {
		if err := n.Skip(layer, implementation, accelerator); err != nil {
			return nil, err
		}
	}
	return a.Prepare(u)
}

// unit is the layer's original, in a form.
func (n *Network) unit(l int, f *models.Form) (Unit, error) {
	name := n.Layers[l].Name
	data, err := f.ONNX()
	if err != nil {
		return Unit{}, fmt.Errorf("model %q layer %q: %w", n.Name, name, err)
	}
	return Unit{Name: fmt.Sprintf("%s layer %q", n.Name, name), Implementation: Original, ONNX: data,
		Inputs: f.Inputs, Outputs: f.Outputs, Optimized: f.Optimized}, nil
}

// variant is a variant of a layer, with its model.
func (n *Network) variant(l, i int) (u Unit, err error) {
	u = n.Variants[l][i]
	if u.Implementation = u.Name; u.ONNX == nil {
		u.ONNX, err = n.Layers[l].ONNX()
	}
	return u, err
}

// units is how many implementations the network has.
func (n *Network) units() int {
	sum := len(n.Layers)
	for _, us := range n.Variants {
		sum += len(us)
	}
	return sum
}

// Inputs makes a deterministic set of input tensors for the network: random values in a range that suits each type.
func (n *Network) Inputs(seed uint64) ([]*Tensor, error) {
	data := models.RandomInputs(n.Model, seed)
	var out []*Tensor
	for i, info := range n.Model.Inputs() {
		t, err := NewTensor(info, data[i])
		if err != nil {
			return nil, fmt.Errorf("model %q: %w", n.Name, err)
		}
		out = append(out, t)
	}
	return out, nil
}

// whole loads the whole model into an ordinary session on the CPU.
func (n *Network) whole(threads int) (*ort.Session, error) {
	s, err := n.Model.Session(ort.Config{Threads: threads})
	if err != nil {
		return nil, fmt.Errorf("model %q: %w", n.Name, err)
	}
	return s, nil
}

// Reference computes the whole model, not in layers, in an ordinary session and returns copies of its outputs.
func (n *Network) Reference(inputs [][]*Tensor) ([][][]byte, error) {
	s, err := n.whole(1)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	var all [][][]byte
	for _, set := range inputs {
		in, out := values(set), make([]ort.Value, len(n.Model.Outputs()))
		if err := s.Run(in, out); err != nil {
			return nil, fmt.Errorf("model %q: %w", n.Name, err)
		}
		results, err := take(out)
		if err != nil {
			return nil, fmt.Errorf("model %q: %w", n.Name, err)
		}
		all = append(all, results)
	}
	return all, nil
}

func values(ts []*Tensor) []ort.Value {
	out := make([]ort.Value, len(ts))
	for i, t := range ts {
		out[i] = t.value
	}
	return out
}

// take copies what values hold and destroys them.
func take(vs []ort.Value) (out [][]byte, err error) {
	for _, v := range vs {
		if err == nil {
			var b []byte
			if b, err = ort.Bytes(v); err == nil {
				out = append(out, slices.Clone(b))
			}
		}
		v.Destroy()
	}
	return out, err
}

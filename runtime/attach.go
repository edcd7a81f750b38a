package runtime

import (
	"crypto/sha256"
	"fmt"

	"github.com/terastal/terastal/internal/document"
	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/sched/plan"
)

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
		data, err := read(v.File)
		if err != nil {
			return fmt.Errorf("variant: %w", err)
		}
		if fmt.Sprintf("%x", sha256.Sum256(data)) != v.SHA256 {
			return fmt.Errorf("variant %s: %w: its SHA-256 is not the plan's", v.File, document.ErrDamaged)
		}
		if v.Layer < 0 || v.Layer >= len(n.Layers) {
			return fmt.Errorf("variant %s is of layer %d, the model has %d", v.File, v.Layer, len(n.Layers))
		}
		l := &n.Layers[v.Layer]
		out[v.Layer] = append(out[v.Layer], Unit{Name: v.Name, ONNX: data, Inputs: l.Inputs, Outputs: l.Outputs})
	}
	n.Variants = out
	return nil
}

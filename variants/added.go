package variants

import (
	"context"
	"errors"
	"fmt"
	"slices"

	pb "github.com/terastal/terastal/internal/onnxpb"
	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched/plan"
	"github.com/terastal/terastal/variants/internal/chain"
)

// Added is the family of the candidates that [New] makes.
const Added = "added"

// ErrBoundary is wrapped by errors about a model that cannot stand in for a
// layer, because its inputs or outputs are not the layer's.
var ErrBoundary = errors.New("inputs and outputs have to be the layer's")

// New makes a candidate for a layer of a model that was trained or written elsewhere. It has to have the layer's inputs
// and outputs, in any order: the same names, element types and shapes; otherwise the error matches [ErrBoundary]. name
// tells apart the layer's candidates of this family, and is the candidate's Parameters. Nothing is known of its error
// yet: see [Candidate.Compare].
func New(l *models.Layer, name string, m *models.Model) (*Candidate, error) {
	fail := func(err error) (*Candidate, error) {
		return nil, fmt.Errorf("layer %q: %w", l.Name, err)
	}
	if err := sameTensors("input", l.Inputs, m.Inputs()); err != nil {
		return fail(err)
	}
	if err := sameTensors("output", l.Outputs, m.Outputs()); err != nil {
		return fail(err)
	}
	data, err := m.ONNX()
	if err != nil {
		return fail(err)
	}
	g, err := parseGraph(data)
	if err != nil {
		return fail(err)
	}
	return &Candidate{Variant: plan.Variant{Layer: l.Index, LayerName: l.Name, Family: Added, Parameters: name,
		MACs: m.MACs(), Bytes: g.storage()},
		OriginalMACs: l.MACs, OriginalBytes: 4 * l.Parameters, layer: l, base: g, fitted: true}, nil
}

// sameTensors compares one side of a boundary with the layer's. Names come from a file: they are quoted and kept short.
func sameTensors(side string, want, got []models.Tensor) error {
	var have []string
	for _, t := range got {
		have = append(have, fmt.Sprintf("%.80q", t.Name))
	}
	for _, w := range want {
		i := slices.IndexFunc(got, func(t models.Tensor) bool { return t.Name == w.Name })
		if i < 0 {
			return fmt.Errorf("it has no %s %.80q, only %v: %w", side, w.Name, have[:min(len(have), 8)], ErrBoundary)
		}
		if g := got[i]; g.Type != w.Type {
			return fmt.Errorf("its %s %.80q is of %v, the layer's of %v: %w", side, w.Name, g.Type, w.Type, ErrBoundary)
		} else if !slices.Equal(g.Shape, w.Shape) {
			return fmt.Errorf("its %s %.80q has the shape %v, the layer's %v: %w",
				side, w.Name, g.Shape[:min(len(g.Shape), 8)], w.Shape, ErrBoundary)
		}
	}
	for _, t := range got {
		if !slices.ContainsFunc(want, func(w models.Tensor) bool { return w.Name == t.Name }) {
			return fmt.Errorf("its %s %.80q is none of the layer's: %w", side, t.Name, ErrBoundary)
		}
	}
	return nil
}

// storage is the size of the constants that the graph stores, in bytes; those
// in the bodies of control flow are left out.
func (g graph) storage() (bytes int64) {
	add := func(t *pb.TensorProto) {
		n := int64(models.DataType(t.GetDataType()).Size())
		for _, d := range t.GetDims() {
			n *= d
		}
		bytes += n
	}
	for _, t := range g.GetGraph().GetInitializer() {
		add(t)
	}
	for _, n := range g.GetGraph().GetNode() {
		if a := n.Attr("value"); n.GetOpType() == "Constant" && a.GetT() != nil {
			add(a.GetT())
		}
	}
	return bytes
}

// Compare runs the candidate and the layer's original on what reaches the layer when the network computes each request
// of the data, without other variants, and sets Error. Only float32 outputs count; elements that are infinite or NaN in
// the original too are left out. An error matches [ErrNotFinite] when the candidate makes such a value where the
// original does not. progress, if not nil, is called with the share that is done.
func (c *Candidate) Compare(ctx context.Context, n *runtime.Network, d Data, progress func(float64)) error {
	fail := func(err error) error {
		return fmt.Errorf("model %q layer %q: %s: %w", n.Name, c.layer.Name, c, err)
	}
	if d == nil || d.Len() == 0 {
		return fail(fmt.Errorf("%w: there are no requests", errNoRows))
	}
	s := chain.NewStream(n, d)
	defer s.Close()
	original, err := s.Open(c.Layer)
	if err != nil {
		return fail(err)
	}
	data, err := c.ONNX()
	if err != nil {
		return fail(err)
	}
	own, err := chain.Open(data, c.layer.Inputs, original.Names, "all")
	if err != nil {
		return fail(fmt.Errorf("ONNX Runtime refuses it: %w", err))
	}
	defer own.Close()
	var sum deviation
	for i := range d.Len() {
		if err := ctx.Err(); err != nil {
			return fail(err)
		}
		env, err := s.Before(c.Layer, i)
		if err == nil {
			err = original.Run(env)
		}
		if err == nil {
			err = own.Run(env)
		}
		if err != nil {
			return fail(err)
		}
		for o, t := range c.layer.Outputs {
			if t.Type != ort.Float {
				continue
			}
			if err := sum.add(o, floats(own.Results[o]), floats(original.Results[o])); err != nil {
				return fail(fmt.Errorf("input %d: output %.80q: %w", i, t.Name, err))
			}
		}
		if progress != nil {
			progress(float64(i+1) / float64(d.Len()))
		}
	}
	c.Error = sum.relative()
	return nil
}

// deviation is the squared error of outputs, and their spread.
type deviation struct {
	spread
	squared float64
}

func (d *deviation) add(output int, got, want []float32) error {
	if len(got) != len(want) {
		return fmt.Errorf("it has %d elements, the layer's has %d: %w", len(got), len(want), ErrBoundary)
	}
	for i, w := range want {
		if w-w != 0 {
			continue
		}
		if got[i]-got[i] != 0 {
			return ErrNotFinite
		}
		off := float64(got[i]) - float64(w)
		d.squared += off * off
	}
	d.spread.add(output, want)
	return nil
}

// relative is the squared error as a share of the variance.
func (d *deviation) relative() float64 { return relative(d.squared, d.variance()) }

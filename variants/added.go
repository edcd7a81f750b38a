package variants

import (
	"errors"
	"fmt"
	"slices"

	pb "github.com/terastal/terastal/internal/onnxpb"
	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/sched/plan"
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

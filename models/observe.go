package models

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	pb "github.com/terastal/terastal/internal/onnxpb"
	"github.com/terastal/terastal/internal/ort"
)

// observeAtOnce is how many values one observing session returns: it bounds
// the memory that holding all of a deep model's activations would take.
const observeAtOnce = 256

// observe runs the simplified model with every value as an output, on inputs of zeros and on two random ones, and takes
// types and shapes from what ONNX Runtime returns. A value whose shape differed between the runs depends on the data:
// it stays inside a layer, for buffers have one size.
func (m *Model) observe() error {
	m.tensors, m.fixed = make(map[string]Tensor), make(map[string]bool)
	for _, in := range m.inputs {
		m.tensors[in.Name], m.fixed[in.Name] = in, true
	}
	trials := [][][]byte{make([][]byte, len(m.inputs)), RandomInputs(m, 1), RandomInputs(m, 2)}
	for i, in := range m.inputs {
		trials[0][i] = make([]byte, in.Bytes())
	}
	var names []string
	for _, n := range m.graph.GetGraph().GetNode() {
		if makesNoTensor(n) {
			continue
		}
		for _, out := range n.GetOutput() {
			if out != "" {
				names = append(names, out)
			}
		}
	}
	for part := range slices.Chunk(names, observeAtOnce) {
		if err := m.observeValues(part, trials); err != nil {
			return err
		}
	}
	for _, v := range m.graph.GetGraph().GetOutput() {
		t, ok := m.tensors[v.GetName()]
		switch {
		case !ok || t.Type.Size() == 0:
			return fail(ErrUnsupported, m.source, "output %s is not a tensor of numbers; cut the model before it",
				quote(v.GetName()))
		case !m.fixed[v.GetName()]:
			return fail(ErrUnsupported, m.source, "output %s changes its shape with the values of the input; cut the model "+
				"before the node that selects (NonMaxSuppression, NonZero)", quote(v.GetName()))
		}
		m.outputs = append(m.outputs, t)
	}
	shape := m.shapes()
	for _, n := range m.graph.GetGraph().GetNode() {
		m.macs += macs(n, shape)
	}
	return nil
}

// shapes looks up the shape of any value or constant of the graph; nil when unknown.
func (m *Model) shapes() func(string) []int64 {
	stored := make(map[string][]int64)
	for _, t := range m.graph.GetGraph().GetInitializer() {
		stored[t.GetName()] = append([]int64{}, t.GetDims()...)
	}
	return func(name string) []int64 {
		if s, ok := stored[name]; ok {
			return s
		}
		if t, ok := m.tensors[name]; ok {
			return t.Shape
		}
		return nil
	}
}

func (m *Model) observeValues(names []string, trials [][][]byte) error {
	g := m.graph.GetGraph()
	probe := m.graph.with(&pb.GraphProto{
		Name: g.Name, Node: g.GetNode(), Initializer: g.GetInitializer(), Input: g.GetInput(),
	})
	for _, name := range names {
		probe.Graph.Output = append(probe.Graph.Output, &pb.ValueInfoProto{Name: proto.String(name)})
	}
	open := func(names []string) (*ort.Session, error) {
		return probe.session(inMemory, nil, names, ort.Config{Provider: "CPU", Optimization: "none", Threads: 1})
	}
	session, err := open(names)
	if err != nil {
		return fail(ErrRuntime, m.source, "%w", err)
	}
	names = nil
	all := session.Outputs()
	for _, t := range all {
		if t.Type.Size() > 0 {
			names = append(names, t.Name)
		}
	}
	if len(names) < len(all) { // text cannot be read; it stays inside a layer
		session.Close()
		if len(names) == 0 {
			return nil
		}
		if session, err = open(names); err != nil {
			return fail(ErrRuntime, m.source, "%w", err)
		}
	}
	defer session.Close()
	runs := 0
	for _, trial := range trials {
		out, e := runOnce(session, m.inputs, trial, len(names))
		if e != nil {
			err = e
			continue
		}
		for i, name := range names {
			if out[i] == nil {
				continue
			}
			kind, shape := ort.Info(out[i])
			before, seen := m.tensors[name]
			if seen && m.fixed[name] && runs > 0 {
				m.fixed[name] = slices.Equal(before.Shape, shape)
			} else if runs == 0 {
				m.tensors[name] = Tensor{Name: name, Type: kind, Shape: append([]int64{}, shape...)}
				m.fixed[name] = true
			}
		}
		destroy(out)
		runs++
	}
	if runs == 0 {
		hint := ""
		if len(m.assumed) > 0 {
			hint = fmt.Sprintf(" (dimensions taken as 1: %s; give those that must be larger their size)",
				strings.Join(m.assumed, ", "))
		}
		return fail(ErrRuntime, m.source, "it runs neither on zeros nor on random inputs%s: %w", hint, err)
	}
	return nil
}

// runOnce runs a session on raw input data and returns outputs that ONNX Runtime allocated; the caller destroys them.
func runOnce(s *ort.Session, inputs []Tensor, data [][]byte, outputs int) ([]ort.Value, error) {
	in := make([]ort.Value, 0, len(inputs))
	defer func() { destroy(in) }()
	for i, t := range inputs {
		v, err := ort.NewTensor(t.Type, t.Shape, data[i])
		if err != nil {
			return nil, err
		}
		in = append(in, v)
	}
	out := make([]ort.Value, outputs)
	if err := s.Run(in, out); err != nil {
		destroy(out)
		return nil, err
	}
	return out, nil
}

func destroy(values []ort.Value) {
	for _, v := range values {
		v.Destroy()
	}
}

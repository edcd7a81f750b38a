package models

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	pb "github.com/terastal/terastal/internal/onnxpb"
)

// Layer is a run of a model's nodes that executes as one unit: itself a valid ONNX model, whose boundary tensors keep
// the names they have in the whole model. Running the layers in order, each reading what earlier ones (or the request)
// stored under those names, computes the whole model.
type Layer struct {
	Index      int      // position in the chain
	Name       string   // of the first node that does real work
	Ops        []string // operator types, in execution order
	Inputs     []Tensor // read from the request or from earlier layers; never empty
	Outputs    []Tensor // read by later layers, or results of the model
	Parameters int64    // weights after simplification; shared ones count in each layer that uses them
	MACs       int64    // multiply-accumulates of one run, as in Model.MACs
	SHA256     string   // of ONNX()

	model   *Model
	nodes   []*pb.NodeProto
	results map[string]bool // outputs that are outputs of the model
}

// ONNX is the layer as an ONNX model: fixed shapes, its weights inside, the
// model's opsets and IR version. The same layer always gives the same bytes.
func (l *Layer) ONNX() ([]byte, error) {
	data, err := l.document().bytes()
	if err != nil {
		return nil, fail(ErrUnsupported, l.model.source, "layer %d (%s): %w; cut it smaller", l.Index, l.Name, err)
	}
	return data, nil
}

// Shape is that of a value inside the layer, which no constant is; nil when it is unknown.
func (l *Layer) Shape(value string) []int64 { return l.model.tensors[value].Shape }

// Type is the element type of a value inside the layer, which no constant is; 0 when it is unknown.
func (l *Layer) Type(value string) DataType { return l.model.tensors[value].Type }

func (l *Layer) document() *document {
	g := &pb.GraphProto{
		Name:        proto.String(fmt.Sprintf("%s/%d", l.model.name, l.Index)),
		Node:        l.nodes,
		Initializer: initializersOf(l.model.graph.GetGraph(), l.nodes),
		Input:       valueInfos(l.Inputs),
		Output:      valueInfos(l.Outputs),
	}
	d := l.model.graph.with(g)
	d.OpsetImport = opsets(l.model.graph.ModelProto, l.nodes)
	return d
}

// initializersOf are the stored tensors of a graph that nodes read, in the graph's order.
func initializersOf(g *pb.GraphProto, nodes []*pb.NodeProto) []*pb.TensorProto {
	read := make(map[string]bool)
	for _, n := range nodes {
		for _, name := range reads(n) {
			read[name] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(g.GetInitializer()), func(t *pb.TensorProto) bool { return !read[t.GetName()] })
}

// opsets keeps the imports of the domains that the nodes use, and the default
// domain; with functions, whose bodies may use any, all of them.
func opsets(m *pb.ModelProto, nodes []*pb.NodeProto) []*pb.OperatorSetIdProto {
	if len(m.GetFunctions()) > 0 {
		return m.GetOpsetImport()
	}
	used := map[string]bool{"": true}
	for _, n := range withNested(nodes...) {
		used[canonicalDomain(n.GetDomain())] = true
	}
	return slices.DeleteFunc(slices.Clone(m.GetOpsetImport()), func(o *pb.OperatorSetIdProto) bool {
		return !used[canonicalDomain(o.GetDomain())]
	})
}

func valueInfo(t Tensor) *pb.ValueInfoProto { return pb.NewValue(t.ID(), t.Type, t.Stored()...) }

func valueInfos(tensors []Tensor) []*pb.ValueInfoProto {
	list := make([]*pb.ValueInfoProto, len(tensors))
	for i, t := range tensors {
		list[i] = valueInfo(t)
	}
	return list
}

// describe fills in what follows from the nodes and the boundary.
func (l *Layer) describe(shape func(string) []int64) error {
	for _, n := range l.nodes {
		l.Ops = append(l.Ops, n.GetOpType())
		l.MACs += macs(n, shape)
	}
	main := l.nodes[0]
	if i := slices.IndexFunc(l.nodes, isCompute); i >= 0 {
		main = l.nodes[i]
	}
	l.Name = main.GetName()
	for i := 0; l.Name == "" && i < len(main.GetOutput()); i++ {
		l.Name = main.GetOutput()[i]
	}
	l.Parameters = parameters(l.document().GetGraph())
	data, err := l.ONNX()
	if err != nil {
		return err
	}
	sum := sha256.Sum256(data)
	l.SHA256 = hex.EncodeToString(sum[:])
	return nil
}

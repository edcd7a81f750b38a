package variants

import (
	"bytes"
	"fmt"
	"math"
	"slices"

	"google.golang.org/protobuf/proto"

	pb "github.com/terastal/terastal/internal/onnxpb"
	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/variants/internal/chain"
)

// graph is a layer's ONNX model under work: nodes in execution order.
type graph struct{ *pb.ModelProto }

func parseGraph(onnx []byte) (graph, error) {
	m := new(pb.ModelProto)
	if err := proto.Unmarshal(onnx, m); err != nil {
		return graph{}, fmt.Errorf("not an ONNX model: %w", err)
	}
	return graph{m}, nil
}

func (g graph) clone() graph { return graph{proto.CloneOf(g.ModelProto)} }

func (g graph) bytes() ([]byte, error) {
	return proto.MarshalOptions{Deterministic: true}.Marshal(g.ModelProto)
}

// stored is the constant of this name, or nil.
func (g graph) stored(name string) *pb.TensorProto { return g.GetGraph().Stored(name) }

// expose makes a value of the graph an output too, which it may be already.
func (g graph) expose(name string) {
	for _, o := range g.Graph.Output {
		if o.GetName() == name {
			return
		}
	}
	g.Graph.Output = append(g.Graph.Output, &pb.ValueInfoProto{Name: proto.String(name), Type: &pb.TypeProto{
		Value: &pb.TypeProto_TensorType{TensorType: &pb.TypeProto_Tensor{ElemType: proto.Int32(int32(ort.Float))}}}})
}

// replace puts nodes where the node that makes a value was, and drops constants that nothing reads any more.
func (g graph) replace(output string, b *builder) {
	at := slices.IndexFunc(g.Graph.Node, func(n *pb.NodeProto) bool { return slices.Contains(n.GetOutput(), output) })
	g.Graph.Node = slices.Replace(g.Graph.Node, at, at+1, b.nodes...)
	g.Graph.Initializer = append(g.Graph.Initializer, b.stored...)
	g.prune()
}

// prune drops constants that nothing reads.
func (g graph) prune() {
	read := map[string]bool{}
	for _, n := range g.Graph.Node {
		reads(n, read)
	}
	g.Graph.Initializer = slices.DeleteFunc(g.Graph.Initializer,
		func(t *pb.TensorProto) bool { return !read[t.GetName()] })
}

// reads marks what a node and the graphs in its attributes read.
func reads(n *pb.NodeProto, read map[string]bool) {
	for _, in := range n.GetInput() {
		read[in] = true
	}
	for _, sub := range n.Subgraphs() {
		for _, inner := range sub.GetNode() {
			reads(inner, read)
		}
		for _, o := range sub.GetOutput() {
			read[o.GetName()] = true
		}
	}
}

// opset is the version of the standard operators that the graph uses.
func (g graph) opset() int64 {
	for _, o := range g.GetOpsetImport() {
		if o.GetDomain() == "" || o.GetDomain() == "ai.onnx" {
			return o.GetVersion()
		}
	}
	return 0
}

// unchanged are operators that mean the same, as older models write them, in every opset from 7 to qdqOpset.
var unchanged = []string{"Conv", "Relu", "MaxPool", "AveragePool", "GlobalAveragePool", "Add", "Mul", "Concat",
	"Identity", "MatMul", "Gemm", "Sigmoid", "Tanh", "LeakyRelu", "Flatten", "Reshape", "Transpose"}

// raise declares the opset that has quantised operators, where all of an older model's mean the same in it.
func (g graph) raise() {
	for _, o := range g.GetOpsetImport() {
		standard := o.GetDomain() == "" || o.GetDomain() == "ai.onnx"
		if !standard || o.GetVersion() < 7 || o.GetVersion() >= qdqOpset {
			continue
		}
		if !slices.ContainsFunc(g.GetGraph().GetNode(), func(n *pb.NodeProto) bool {
			return n.GetDomain() == "" && !slices.Contains(unchanged, n.GetOpType())
		}) {
			o.Version = proto.Int64(qdqOpset)
		}
	}
}

// builder makes the nodes and constants of a replacement. Names begin with prefix, which has to be unique in the layer.
type builder struct {
	prefix string
	nodes  []*pb.NodeProto
	stored []*pb.TensorProto
}

func (b *builder) name() string {
	return fmt.Sprintf("%s/%d", b.prefix, len(b.nodes)+len(b.stored))
}

// attribute is a named value: int64, []int64, float32 or string.
type attribute struct {
	name  string
	value any
}

// node adds a node with one output of a new name, and returns that.
func (b *builder) node(op string, in []string, attributes ...attribute) string {
	out := b.name()
	n := pb.NewNode(op, in, []string{out}).Named(out)
	for _, a := range attributes {
		n.Attribute = append(n.Attribute, pb.NewAttribute(a.name, a.value))
	}
	b.nodes = append(b.nodes, n)
	return out
}

// result gives the last node's output the name of the value that is replaced.
func (b *builder) result(name string) {
	b.nodes[len(b.nodes)-1].Output[0] = name
}

func (b *builder) floats(v []float32, dims ...int64) string {
	return b.constant(ort.Float, raw(v), dims)
}

func (b *builder) ints(v []int64) string {
	return b.constant(ort.Int64, ort.Data(v), []int64{int64(len(v))})
}

func (b *builder) int32s(v []int32, dims ...int64) string {
	return b.constant(ort.Int32, ort.Data(v), dims)
}

func (b *builder) int8s(v []int8, dims ...int64) string {
	return b.constant(ort.Int8, ort.Data(v), dims)
}

// constant stores a tensor; raw may change afterwards.
func (b *builder) constant(t models.DataType, raw []byte, dims []int64) string {
	name := b.name()
	b.stored = append(b.stored, pb.NewTensor(name, t, bytes.Clone(raw), dims...))
	return name
}

// storedFloats are the values of a float32 constant; nil for other types.
func storedFloats(t *pb.TensorProto) []float32 {
	if t == nil || t.GetDataType() != int32(ort.Float) {
		return nil
	}
	n := 1
	for _, d := range t.GetDims() {
		n *= int(d)
	}
	if v := t.GetFloatData(); len(v) == n {
		return slices.Clone(v)
	}
	raw := t.GetRawData()
	if len(raw) != 4*n {
		return nil
	}
	return slices.Clone(floats(raw)) // a model's file is mapped for reading only
}

// raw and floats are float32 data as bytes and as numbers, in the same memory.
func raw(v []float32) []byte       { return ort.Data(v) }
func floats(data []byte) []float32 { return ort.Numbers[float32](data) }

func intsOr(n *pb.NodeProto, name string, or []int64) []int64 {
	if a := n.Attr(name); a != nil {
		return a.GetInts()
	}
	return or
}

func intOr(n *pb.NodeProto, name string, or int64) int64 {
	if a := n.Attr(name); a != nil {
		return a.GetI()
	}
	return or
}

func floatOr(n *pb.NodeProto, name string, or float32) float32 {
	if a := n.Attr(name); a != nil {
		return a.GetF()
	}
	return or
}

// newRunner opens a model whose inputs have the given shapes.
func newRunner(g graph, inputs []models.Tensor, outputs []string, optimization string) (*chain.Runner, error) {
	data, err := g.bytes()
	if err != nil {
		return nil, err
	}
	return chain.Open(data, inputs, outputs, optimization)
}

var negInf, posInf = float32(math.Inf(-1)), float32(math.Inf(1))

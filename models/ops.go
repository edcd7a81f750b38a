package models

import (
	"fmt"
	"strings"

	pb "github.com/terastal/terastal/internal/onnxpb"
)

// computeOps are the operators that carry a model's work: each starts a layer
// at granularity op. Names starting with QLinear belong to them too.
var computeOps = map[string]bool{
	"Conv": true, "ConvTranspose": true, "ConvInteger": true, "DeformConv": true, "FusedConv": true,
	"Gemm": true, "MatMul": true, "MatMulInteger": true, "FusedMatMul": true, "FusedGemm": true,
	"MatMulNBits": true, "Einsum": true,
	"LSTM": true, "GRU": true, "RNN": true, "DynamicQuantizeLSTM": true,
	"Attention": true, "MultiHeadAttention": true, "GroupQueryAttention": true, "QAttention": true,
	"If": true, "Loop": true, "Scan": true,
}

func isCompute(n *pb.NodeProto) bool {
	return computeOps[n.GetOpType()] || strings.HasPrefix(n.GetOpType(), "QLinear")
}

func isQuantize(n *pb.NodeProto) bool   { return n.GetOpType() == "QuantizeLinear" }
func isDequantize(n *pb.NodeProto) bool { return n.GetOpType() == "DequantizeLinear" }

// makesNoTensor tells operators whose results are sequences, optionals or maps.
func makesNoTensor(n *pb.NodeProto) bool {
	switch n.GetOpType() {
	case "SequenceConstruct", "SequenceEmpty", "SequenceInsert", "SequenceErase", "SequenceMap",
		"SplitToSequence", "Optional", "ZipMap":
		return true
	}
	return false
}

// Note says in a sentence why splitting is of little use where one If, Loop or Scan, which no cut goes through, holds
// nine tenths of the model's nodes or more, and what of it is counted. It is empty for other models.
func (m *Model) Note() string {
	total, most, in := 0, 0, (*pb.NodeProto)(nil)
	nodes := m.graph.GetGraph().GetNode()
	for _, n := range nodes {
		size := len(withNested(n))
		total += size
		if size > max(1, most) {
			most, in = size, n
		}
	}
	if in == nil || most*10 < total*9 {
		return ""
	}
	share := "the whole model"
	if len(nodes) > 1 {
		share = "nearly the whole model"
	}
	return fmt.Sprintf("%s is one %s, %s: it stays one layer; the parameters in its bodies are counted, their MACs are "+
		"not", share, in.GetOpType(), nodeName(in))
}

// parameters counts the weights of a graph and its subgraphs, as Model.Parameters documents.
func parameters(g *pb.GraphProto) int64 {
	statistics := make(map[string]bool)
	total := int64(0)
	for _, n := range g.GetNode() {
		if in := n.GetInput(); n.GetOpType() == "BatchNormalization" && len(in) >= 5 {
			statistics[in[3]], statistics[in[4]] = true, true
		}
		if n.GetOpType() == "Constant" {
			total += weights(n.Attr("value").GetT())
		}
		for _, g := range n.Subgraphs() {
			total += parameters(g)
		}
	}
	for _, t := range g.GetInitializer() {
		if !statistics[t.GetName()] {
			total += weights(t)
		}
	}
	return total
}

// weights is a constant's number of parameters; 0 for shapes, masks and text.
func weights(t *pb.TensorProto) int64 {
	switch pb.TensorProto_DataType(t.GetDataType()) {
	case pb.TensorProto_UNDEFINED, pb.TensorProto_INT64, pb.TensorProto_BOOL, pb.TensorProto_STRING:
		return 0
	}
	n, _ := elements(t.GetDims())
	return n
}

// macs counts the multiply-accumulates of one node, given the shapes of what
// it reads and writes; 0 for operators that are not counted or unknown shapes.
func macs(n *pb.NodeProto, shape func(string) []int64) int64 {
	of := func(names []string, i int) []int64 {
		if i >= len(names) {
			return nil
		}
		return shape(names[i])
	}
	in := func(i int) []int64 { return of(n.GetInput(), i) }
	out := of(n.GetOutput(), 0)
	switch n.GetOpType() {
	case "Conv", "ConvInteger":
		return volume(out) * filter(in(1))
	case "QLinearConv":
		return volume(out) * filter(in(3))
	case "ConvTranspose":
		return volume(in(0)) * filter(in(1))
	case "MatMul", "MatMulInteger", "QLinearMatMul":
		if a := in(0); len(a) > 0 {
			return volume(out) * a[len(a)-1]
		}
	case "Gemm":
		inner := 1
		if n.Attr("transA").GetI() != 0 {
			inner = 0
		}
		if a := in(0); len(a) == 2 {
			return volume(out) * a[inner]
		}
	case "LSTM", "GRU", "RNN":
		if x := in(0); len(x) == 3 {
			return x[0] * x[1] * (volume(in(1)) + volume(in(2)))
		}
	}
	return 0
}

// volume is the number of elements of a known shape, 0 of an unknown one.
func volume(shape []int64) int64 {
	if shape == nil {
		return 0
	}
	n, _ := elements(shape)
	return n
}

// filter is the work per output element of a weight tensor shaped [channels, channels per group, kernel...].
func filter(shape []int64) int64 {
	if len(shape) < 2 {
		return 0
	}
	return volume(shape[1:])
}

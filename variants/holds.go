package variants

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	pb "github.com/terastal/terastal/internal/onnxpb"
	"github.com/terastal/terastal/internal/ort"
)

// Holds reports whether a model computes in this arithmetic what exact integers give: whether no 8-bit weight that it
// stores can saturate. Weights that are not stored, or are unsigned, count as weights that can.
func (a Arithmetic) Holds(onnx []byte) (bool, error) {
	m := new(pb.ModelProto)
	if err := proto.Unmarshal(onnx, m); err != nil {
		return false, fmt.Errorf("not an ONNX model: %w", err)
	}
	if a == Exact {
		return true, nil
	}
	for _, f := range m.GetFunctions() {
		if !a.holds(&pb.GraphProto{Node: f.GetNode()}) {
			return false, nil
		}
	}
	return a.holds(m.GetGraph()), nil
}

// Same reports whether a model computes the same in both arithmetics. One that is not known, "", may be any.
func Same(onnx []byte, a, b Arithmetic) (bool, error) {
	if a == b && a != "" {
		return true, nil
	}
	for _, x := range []Arithmetic{a, b} {
		if x == "" {
			x = SaturatingThroughout
		}
		if ok, err := x.Holds(onnx); !ok || err != nil {
			return false, err
		}
	}
	return true, nil
}

// quantisedWeights is which input of an operator in 8 bits is its weights.
var quantisedWeights = map[string]int{"QLinearConv": 3, "QLinearMatMul": 3, "ConvInteger": 1, "MatMulInteger": 1}

func (a Arithmetic) holds(g *pb.GraphProto) bool {
	stored, dequantised := map[string]*pb.TensorProto{}, map[string]string{}
	for _, t := range g.GetInitializer() {
		stored[t.GetName()] = t
	}
	for _, n := range g.GetNode() {
		if n.GetOpType() == "DequantizeLinear" {
			dequantised[nth(n.GetOutput(), 0)] = nth(n.GetInput(), 0)
		}
	}
	for _, n := range g.GetNode() {
		if slices.ContainsFunc(n.Subgraphs(), func(sub *pb.GraphProto) bool { return !a.holds(sub) }) {
			return false
		}
		if i, ok := quantisedWeights[n.GetOpType()]; ok {
			if !a.fits(n, stored[nth(n.GetInput(), i)]) {
				return false
			}
			continue
		}
		switch n.GetOpType() {
		case "Conv", "MatMul", "Gemm": // between DequantizeLinear, that are fused
			if w, ok := dequantised[nth(n.GetInput(), 1)]; ok && !a.fits(n, stored[w]) {
				return false
			}
		case "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear": // compute no sums
		default:
			name := n.GetOpType() // of an operator of ONNX Runtime's own
			if strings.HasPrefix(name, "Q") || strings.Contains(name, "Quantize") || strings.Contains(name, "Integer") {
				return false
			}
		}
	}
	return true
}

// nth is a name of a list, or "" where files are cut short.
func nth(names []string, i int) string {
	if i >= len(names) {
		return ""
	}
	return names[i]
}

// fits reports whether no sum of two products with these weights can saturate.
func (a Arithmetic) fits(n *pb.NodeProto, w *pb.TensorProto) bool {
	if w == nil || w.GetDataType() != int32(ort.Int8) {
		return false
	}
	d, group := w.GetDims(), intOr(n, "group", 1)
	depthwise := group > 1 && len(d) == 4 && d[0] == group && d[1] == 1
	limit := a.weightLimit(depthwise)
	within := func(x int) bool { return -limit <= x && x <= limit || limit == fullWeight }
	for _, x := range w.GetInt32Data() {
		if !within(int(x)) {
			return false
		}
	}
	for _, x := range w.GetRawData() {
		if !within(int(int8(x))) {
			return false
		}
	}
	return true
}

package main

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/rogpeppe/go-internal/testscript"
	"gonum.org/v1/gonum/mat"
	"google.golang.org/protobuf/proto"

	"github.com/terastal/terastal/internal/onnxpb"
	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/models"
)

// makeVariant makes a variant of a layer that `models split` wrote, or what is none:
//
//	variant KIND LAYER.onnx OUT.onnx
func makeVariant(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: variant KIND LAYER.onnx OUT.onnx")
	}
	l, err := openLayer(ts.MkAbs(args[1]))
	ts.Check(err)
	if rank, err := strconv.Atoi(args[0]); err == nil {
		ts.Check(l.factor(rank))
	} else {
		kind, known := variantKinds[args[0]]
		if !known {
			ts.Fatalf("there is no kind %q", args[0])
		}
		kind(l)
	}
	ts.Check(l.write(ts.MkAbs(args[2])))
}

// layer is a layer's model, to be changed.
type layer struct{ *onnxpb.ModelProto }

func openLayer(path string) (layer, error) {
	m, err := models.Load(path, models.Options{})
	if err != nil {
		return layer{}, err
	}
	data, err := m.ONNX()
	if err != nil {
		return layer{}, err
	}
	l := layer{new(onnxpb.ModelProto)}
	return l, proto.Unmarshal(data, l.ModelProto)
}

func (l layer) write(path string) error {
	data, err := proto.Marshal(l.ModelProto)
	if err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o644)
}

func tensor(name string, v []float32, dims ...int64) *onnxpb.TensorProto {
	return onnxpb.NewTensor(name, ort.Float, ort.Data(v), dims...)
}

// factor does what factor.py of docs/VARIANTS.md does: the 3x3 convolution becomes a 3x1 one to few channels and a 1x3
// one, by the singular values of its weights.
func (l layer) factor(rank int) error {
	at := slices.IndexFunc(l.Graph.Node, func(n *onnxpb.NodeProto) bool { return n.GetOpType() == "Conv" })
	if at < 0 {
		return fmt.Errorf("the layer has no convolution")
	}
	conv := l.Graph.Node[at]
	w := l.Graph.Stored(conv.Input[1])
	outputs, inputs := int(w.Dims[0]), int(w.Dims[1])
	m := mat.NewDense(3*inputs, 3*outputs, nil)
	for i, x := range ort.Numbers[float32](w.RawData) {
		o, c, y, x3 := i/(9*inputs), i/9%inputs, i/3%3, i%3
		m.Set(3*c+y, 3*o+x3, float64(x))
	}
	var svd mat.SVD
	if !svd.Factorize(m, mat.SVDThin) {
		return fmt.Errorf("no singular values")
	}
	var left, right mat.Dense
	svd.UTo(&left)
	svd.VTo(&right)
	column, row := make([]float32, rank*3*inputs), make([]float32, 3*rank*outputs)
	for r, s := range svd.Values(nil)[:rank] {
		for i := range 3 * inputs {
			column[r*3*inputs+i] = float32(left.At(i, r) * math.Sqrt(s))
		}
		for i := range 3 * outputs {
			row[(i/3*rank+r)*3+i%3] = float32(right.At(i, r) * math.Sqrt(s))
		}
	}
	l.Graph.Initializer = slices.DeleteFunc(l.Graph.Initializer, func(t *onnxpb.TensorProto) bool { return t == w })
	l.Graph.Initializer = append(l.Graph.Initializer, tensor("column", column, int64(rank), int64(inputs), 3, 1),
		tensor("row", row, int64(outputs), int64(rank), 1, 3))
	l.Graph.Node = slices.Replace(l.Graph.Node, at, at+1,
		padded([]string{conv.Input[0], "column"}, "narrow", 1, 0, 1, 0),
		padded([]string{"narrow", "row", conv.Input[2]}, conv.Output[0], 0, 1, 0, 1))
	return nil
}

func padded(in []string, out string, pads ...int64) *onnxpb.NodeProto {
	return onnxpb.NewNode("Conv", in, []string{out}, onnxpb.NewAttribute("pads", pads))
}

func operator(op, out string, in ...string) *onnxpb.NodeProto {
	return onnxpb.NewNode(op, in, []string{out})
}

// last gives the layer's result a new name inside, so that more can be computed from it, and returns that.
func (l layer) last() (inner, result string) {
	n := l.Graph.Node[len(l.Graph.Node)-1]
	result = n.Output[0]
	n.Output[0] = "inner"
	return "inner", result
}

// fill sets all float constants to a number.
func (l layer) fill(x float32) {
	for _, t := range l.Graph.Initializer {
		if t.GetDataType() == int32(ort.Float) {
			t.RawData = ort.Data(slices.Repeat([]float32{x}, len(t.RawData)/4))
		}
	}
}

// detour is a model of two convolutions with a long way between them that leads
// nowhere: whoever leaves it out is faster and loses nothing.
func detour() layer {
	weights := func(n int) []float32 {
		v := make([]float32, n)
		for i := range v {
			v[i] = float32(i*7919%23-11) / 50
		}
		return v
	}
	w := weights(8 * 8 * 9)
	g := &onnxpb.GraphProto{
		Name:        proto.String("g"),
		Input:       []*onnxpb.ValueInfoProto{onnxpb.NewValue("x", ort.Float, 1, 8, 16, 16)},
		Output:      []*onnxpb.ValueInfoProto{onnxpb.NewValue("y", ort.Float, 1, 8)},
		Initializer: []*onnxpb.TensorProto{tensor("w1", w, 8, 8, 3, 3), tensor("w2", w, 8, 8, 3, 3), tensor("b", w[:8], 8)},
		Node:        []*onnxpb.NodeProto{padded([]string{"x", "w1", "b"}, "n0", 1, 1, 1, 1).Named("first")},
	}
	for i := range 300 {
		g.Node = append(g.Node, operator("Neg", fmt.Sprint("n", i+1), fmt.Sprint("n", i)))
	}
	last := padded([]string{"n300", "w2", "b"}, "c", 1, 1, 1, 1).Named("second")
	g.Node = append(g.Node, last, operator("GlobalAveragePool", "p", "c"), operator("Flatten", "y", "p"))
	return layer{onnxpb.NewModel(g, 17)}
}

var variantKinds = map[string]func(layer){
	"shortcut": func(l layer) {
		_, result := l.last()
		l.Graph.Node = slices.DeleteFunc(l.Graph.Node, func(n *onnxpb.NodeProto) bool { return n.GetOpType() == "Neg" })
		l.Graph.Node[0].Output[0] = result
	},
	"zero": func(l layer) { l.fill(0) },
	"nan":  func(l layer) { l.fill(float32(math.NaN())) },
	"slow": func(l layer) {
		x, result := l.last()
		for i := range 999 {
			next := fmt.Sprint("slow", i)
			l.Graph.Node = append(l.Graph.Node, operator("Neg", next, x))
			x = next
		}
		l.Graph.Node = append(l.Graph.Node, operator("Neg", result, x))
	},
	"shape": func(l layer) {
		x, result := l.last()
		n := operator("Concat", result, x, x)
		n.Attribute = []*onnxpb.AttributeProto{onnxpb.NewAttribute("axis", 1)}
		l.Graph.Node = append(l.Graph.Node, n)
		l.Graph.Output[0].Type.GetTensorType().Shape.Dim[1].Value = &onnxpb.TensorShapeProto_Dimension_DimValue{DimValue: 64}
	},
	"type": func(l layer) {
		x, result := l.last()
		n := operator("Cast", result, x)
		n.Attribute = []*onnxpb.AttributeProto{onnxpb.NewAttribute("to", int64(ort.Double))}
		l.Graph.Node = append(l.Graph.Node, n)
		l.Graph.Output[0].Type.GetTensorType().ElemType = proto.Int32(int32(ort.Double))
	},
	"output-name": func(l layer) {
		l.Graph.Node[len(l.Graph.Node)-1].Output[0] = "mine"
		l.Graph.Output[0].Name = proto.String("mine")
	},
	"input-name": func(l layer) {
		old := l.Graph.Input[0].GetName()
		l.Graph.Input[0].Name = proto.String("mine")
		for _, n := range l.Graph.Node {
			for i, name := range n.Input {
				if name == old {
					n.Input[i] = "mine"
				}
			}
		}
	},
	"missing-input": func(l layer) { // the residual sum becomes twice the branch
		gone := l.Graph.Input[1].GetName()
		l.Graph.Input = l.Graph.Input[:1]
		for _, n := range l.Graph.Node {
			if i := slices.Index(n.Input, gone); i >= 0 {
				n.Input[i] = n.Input[1-i]
			}
		}
	},
	"extra-input": func(l layer) { l.Graph.Input = append(l.Graph.Input, onnxpb.NewValue("more", ort.Float, 1)) },
	"extra-output": func(l layer) {
		l.Graph.Output = append(l.Graph.Output, onnxpb.NewValue(l.Graph.Node[0].Output[0], ort.Float, 1, 32, 24, 24))
	},
	"operator": func(l layer) { l.Graph.Node[0].OpType = proto.String("Frobnicate") },
	"outside": func(l layer) {
		t := l.Graph.Initializer[0]
		t.RawData, t.DataLocation = nil, onnxpb.TensorProto_EXTERNAL.Enum()
		location := proto.String(filepath.Join("..", "weights.bin"))
		t.ExternalData = []*onnxpb.StringStringEntryProto{{Key: proto.String("location"), Value: location}}
	},
}

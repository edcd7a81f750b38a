package variants

import (
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	pb "github.com/terastal/terastal/internal/onnxpb"
	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched/plan"
	"github.com/terastal/terastal/variants/internal/chain"
)

// Accelerators compute variants that are for one provider, where their accuracy is measured. Each accelerator is opened
// when it is first needed.
type Accelerators = chain.Accelerators

// NewAccelerators makes accelerators that open opens, by provider. They have to be closed, after what uses them.
func NewAccelerators(open func(provider string) (runtime.Accelerator, error)) *Accelerators {
	return chain.NewAccelerators(open)
}

// precision is a way to compute the whole of a layer with fewer bits, on accelerators that have units for it. Nothing
// is fitted. What it computes depends on the accelerator, so that a candidate is for one provider, and its accuracy is
// measured there.
type precision struct {
	// narrow makes the layer's model of the candidate; nil where it is the layer's own.
	narrow func(*models.Layer, graph) (graph, error)
	// options are the provider's for the layer; provider is the only one that has them, empty for any but the CPU.
	options  map[string]string
	provider string
}

// tf32 computes float32 convolutions and products with 10 bits of fraction, as CUDA does on Ampere and later.
var tf32 = &precision{options: map[string]string{"use_tf32": "1"}, provider: "cuda"}

var (
	fp16 = &precision{narrow: func(l *models.Layer, g graph) (graph, error) { return narrowed(l, g, &half) }}
	bf16 = &precision{narrow: func(l *models.Layer, g graph) (graph, error) { return narrowed(l, g, &brain) }}
)

var errNoProvider = errors.New("it is not for this provider")

// candidate is the layer in this precision for a provider.
func (p *precision) candidate(family string, l *models.Layer, g graph, provider string) (*Candidate, error) {
	name := ort.ProviderName(provider)
	if name == "cpu" || p.provider != "" && name != p.provider {
		return nil, errNoProvider
	}
	if !slices.ContainsFunc(l.Ops, heavy) {
		return nil, errors.New("no convolution or matrix product")
	}
	c := &Candidate{Variant: plan.Variant{Layer: l.Index, LayerName: l.Name, Family: family, Parameters: name,
		Provider: name, Options: p.options, MACs: l.MACs},
		OriginalMACs: l.MACs, OriginalBytes: 4 * l.Parameters, layer: l, base: g, own: p.narrow == nil}
	if !c.own {
		var err error
		if c.base, err = p.narrow(l, g); err != nil {
			return nil, err
		}
		c.Bytes = c.base.storage()
	}
	return c, nil
}

// heavy reports whether units for few bits speed an operator up.
func heavy(op string) bool {
	return slices.Contains([]string{"Conv", "ConvTranspose", "MatMul", "Gemm"}, op)
}

// format is a number format of 16 bits.
type format struct {
	kind   models.DataType
	narrow func(float32) uint16
	// from is the opset from which an operator takes the format, where it does.
	from func(op string) (opset int64, ok bool)
}

var half = format{ort.Float16, toHalf, func(op string) (int64, bool) {
	_, ok := elementwise[op]
	return 1, ok
}}

var brain = format{ort.BFloat16, toBrain, func(op string) (int64, bool) {
	opset, ok := elementwise[op]
	return opset, ok
}}

// elementwise are operators whose floating-point inputs and outputs are all of one type, which may be one of 16 bits,
// with the opset from which that may be bfloat16.
var elementwise = map[string]int64{
	"Conv": 22, "ConvTranspose": 22, "MatMul": 13, "Gemm": 13,
	"Add": 13, "Sub": 13, "Mul": 13, "Div": 13, "Neg": 13, "Sqrt": 13, "Erf": 13, "Exp": 13, "Pow": 15,
	"Relu": 13, "LeakyRelu": 16, "PRelu": 16, "Sigmoid": 13, "Tanh": 13, "Clip": 13, "HardSigmoid": 22, "HardSwish": 22,
	"Elu": 22, "Gelu": 20, "Softmax": 13, "LayerNormalization": 17,
	"MaxPool": 22, "AveragePool": 22, "GlobalAveragePool": 22, "GlobalMaxPool": 22,
	"ReduceMean": 13, "Concat": 13, "Reshape": 13, "Transpose": 13, "Flatten": 13, "Squeeze": 13, "Unsqueeze": 13,
	"Slice": 13, "Split": 13, "Gather": 13, "Expand": 13, "Identity": 13, "DepthToSpace": 13, "SpaceToDepth": 13,
}

// brainOpset is the first opset in which convolutions take bfloat16.
const brainOpset = 22

// stable are operators that mean the same in every opset from 13 to brainOpset, with the attributes that are older.
var stable = []string{"Conv", "ConvTranspose", "MatMul", "Gemm", "Add", "Sub", "Mul", "Div", "Neg", "Sqrt", "Erf", "Exp",
	"Relu", "Sigmoid", "Tanh", "Clip", "Softmax", "MaxPool", "GlobalAveragePool", "GlobalMaxPool", "Concat", "Transpose",
	"Flatten", "Squeeze", "Unsqueeze", "Slice", "Gather", "Expand", "Identity", "Reshape", "Constant", "Shape"}

// narrowed is a layer's model with all that can be in 16 bits: weights are stored so, and values are cast where they
// enter and leave. The layer's inputs and outputs stay as they are.
func narrowed(l *models.Layer, g graph, f *format) (graph, error) {
	if len(g.GetFunctions()) > 0 {
		return graph{}, errors.New("it has functions")
	}
	g = g.clone()
	if f.kind == ort.BFloat16 {
		g.raiseTo(brainOpset)
	}
	n := narrower{builder{prefix: "narrow"}, f, g, l, map[string]string{}, map[string]bool{}}
	for _, t := range g.GetGraph().GetInput() {
		n.wide[t.GetName()] = true
	}
	done := false
	for _, node := range g.GetGraph().GetNode() {
		if n.narrows(node) {
			n.node16(node)
			done = done || heavy(node.GetOpType())
		} else {
			n.node32(node)
		}
	}
	if !done {
		return graph{}, fmt.Errorf("no convolution or matrix product of it takes %v", f.kind)
	}
	for _, t := range g.GetGraph().GetOutput() {
		n.asWide(t.GetName())
	}
	g.Graph.Node = n.nodes
	g.Graph.Initializer = append(g.Graph.Initializer, n.stored...)
	g.prune()
	return g, nil
}

// raiseTo declares a later opset, where all of a model's operators mean the same in it.
func (g graph) raiseTo(opset int64) {
	for _, n := range g.GetGraph().GetNode() {
		if n.GetDomain() != "" && n.GetDomain() != "ai.onnx" || !slices.Contains(stable, n.GetOpType()) {
			return
		}
	}
	for _, o := range g.GetOpsetImport() {
		if (o.GetDomain() == "" || o.GetDomain() == "ai.onnx") && o.GetVersion() >= 13 && o.GetVersion() < opset {
			o.Version = proto.Int64(opset)
		}
	}
}

// narrower rewrites a model. Every float32 value has a form in 32 bits, under its own name, a form in 16 bits, or both.
type narrower struct {
	builder
	format *format
	graph  graph
	layer  *models.Layer
	by     map[string]string // the names of the forms in 16 bits
	wide   map[string]bool   // values that have a form in 32 bits, or are no float32
}

// narrows reports whether a node computes in 16 bits.
func (n *narrower) narrows(x *pb.NodeProto) bool {
	from, ok := n.format.from(x.GetOpType())
	if !ok || x.GetDomain() != "" && x.GetDomain() != "ai.onnx" || n.graph.opset() < from || len(x.Subgraphs()) > 0 {
		return false
	}
	// Further outputs of normalisations are of other types.
	return n.isFloat(x.GetOutput()[0]) && (len(x.GetOutput()) == 1 || x.GetOpType() == "Split" ||
		x.GetOpType() == "MaxPool")
}

// isFloat reports whether a value or constant is of float32.
func (n *narrower) isFloat(name string) bool {
	if t := n.graph.stored(name); t != nil {
		return t.GetDataType() == int32(ort.Float)
	}
	return n.layer.Type(name) == ort.Float
}

func (n *narrower) node16(x *pb.NodeProto) {
	for i, name := range x.Input {
		if name != "" && n.isFloat(name) {
			x.Input[i] = n.asNarrow(name)
		}
	}
	for i, name := range x.Output {
		switch {
		case name == "":
		case n.isFloat(name):
			n.by[name] = "narrow/of/" + name
			x.Output[i] = n.by[name]
		default:
			n.wide[name] = true
		}
	}
	n.nodes = append(n.nodes, x)
}

func (n *narrower) node32(x *pb.NodeProto) {
	read := map[string]bool{}
	reads(x, read)
	for name := range read {
		n.asWide(name)
	}
	for _, name := range x.GetOutput() {
		n.wide[name] = true
	}
	n.nodes = append(n.nodes, x)
}

// asNarrow is the name of a value's form in 16 bits, which is made where there is none.
func (n *narrower) asNarrow(name string) string {
	if n.by[name] == "" {
		if v := storedFloats(n.graph.stored(name)); v != nil {
			n.by[name] = n.store16(v, n.graph.stored(name).GetDims())
		} else {
			n.by[name] = n.builder.node("Cast", []string{name}, attribute{"to", int64(n.format.kind)})
		}
	}
	return n.by[name]
}

// asWide makes a value's form in 32 bits where there is none.
func (n *narrower) asWide(name string) {
	if n.by[name] == "" || n.wide[name] || n.graph.stored(name) != nil {
		return
	}
	n.builder.node("Cast", []string{n.by[name]}, attribute{"to", int64(ort.Float)})
	n.result(name)
	n.wide[name] = true
}

func (n *narrower) store16(v []float32, dims []int64) string {
	rounded := make([]uint16, len(v))
	for i, x := range v {
		rounded[i] = n.format.narrow(x)
	}
	return n.constant(n.format.kind, ort.Data(rounded), dims)
}

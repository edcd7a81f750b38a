package variants

import (
	"errors"
	"fmt"
	"slices"

	pb "github.com/terastal/terastal/internal/onnxpb"
	"github.com/terastal/terastal/variants/internal/chain"
)

// Op is the operator of a layer that a variant replaces: a two-dimensional convolution, or a matrix product with
// constant weights. The rest of the layer (activation, residual sum, pooling) stays as it is.
//
// A matrix product is described as a 1x1 convolution over its rows: its input
// of shape [..., C] has H = rows, W = 1 and its channels last.
type Op struct {
	Name string
	Type string // Conv, Gemm or MatMul
	// Input and Output are the values it reads and makes.
	Input, Output string
	InputShape    []int64
	OutputShape   []int64

	C, K          int // input and output channels
	H, W          int // of the input
	OutH, OutW    int
	KernelH       int
	KernelW       int
	StrideH       int
	StrideW       int
	DilationH     int
	DilationW     int
	Group         int
	Top, Left     int // padding
	Bottom, Right int
	Weight        []float32 // [K, C/Group, KernelH, KernelW]
	Bias          []float32 // [K]; zeros where the operator has none
	Low, High     float32   // what the operator behind it clips the output to; infinite without
	Opset         int64     // of the layer's standard operators
}

// linear reports whether the operator is a matrix product.
func (o *Op) linear() bool { return o.Type != "Conv" }

// patch is the number of inputs that one output channel reads.
func (o *Op) patch() int { return o.C / o.Group * o.KernelH * o.KernelW }

// MACs is the number of multiply-accumulates of the original.
func (o *Op) MACs() int64 { return int64(o.K) * int64(o.OutH) * int64(o.OutW) * int64(o.patch()) }

// errNoOp says that there is nothing to replace in a layer.
var errNoOp = errors.New("no convolution or matrix product with constant weights")

// findOps lists the operators of a layer that variants can replace, in
// execution order. Reasons says why others cannot be.
func findOps(g graph, shape func(string) []int64) (ops []*Op, reasons []error) {
	for _, n := range g.GetGraph().GetNode() {
		var o *Op
		var err error
		switch n.GetOpType() {
		case "Conv":
			o, err = convolution(g, n, shape)
		case "Gemm", "MatMul":
			o, err = product(g, n, shape)
		default:
			continue
		}
		if err != nil {
			reasons = append(reasons, fmt.Errorf("%s %q: %w", n.GetOpType(), n.GetName(), err))
			continue
		}
		o.Low, o.High = clip(g, o.Output)
		o.Opset = g.opset()
		ops = append(ops, o)
	}
	if len(ops) == 0 && len(reasons) == 0 {
		reasons = append(reasons, errNoOp)
	}
	return ops, reasons
}

func convolution(g graph, n *pb.NodeProto, shape func(string) []int64) (*Op, error) {
	w := g.stored(n.GetInput()[1])
	in, out := shape(n.GetInput()[0]), shape(n.GetOutput()[0])
	switch {
	case w == nil:
		return nil, errors.New("its weights are not constant")
	case len(w.GetDims()) != 4:
		return nil, fmt.Errorf("it has %d spatial dimensions, variants are for two", len(w.GetDims())-2)
	case len(in) != 4 || len(out) != 4:
		return nil, errors.New("its shapes are unknown")
	case len(n.GetInput()) > 3:
		return nil, errors.New("it is a fused operator")
	}
	two := []int64{1, 1}
	strides, dilations, pads := intsOr(n, "strides", two), intsOr(n, "dilations", two),
		intsOr(n, "pads", []int64{0, 0, 0, 0})
	d := w.GetDims()
	o := &Op{Name: n.GetName(), Type: "Conv", Input: n.GetInput()[0], Output: n.GetOutput()[0],
		InputShape: in, OutputShape: out, C: int(in[1]), K: int(d[0]), H: int(in[2]), W: int(in[3]),
		OutH: int(out[2]), OutW: int(out[3]), KernelH: int(d[2]), KernelW: int(d[3]),
		StrideH: int(strides[0]), StrideW: int(strides[1]), DilationH: int(dilations[0]),
		DilationW: int(dilations[1]), Group: int(intOr(n, "group", 1)),
		Top: int(pads[0]), Left: int(pads[1]), Bottom: int(pads[2]), Right: int(pads[3]), Weight: storedFloats(w)}
	if a := n.Attr("auto_pad"); a != nil {
		o.imply(string(a.GetS()))
	}
	if in[0] != 1 {
		return nil, fmt.Errorf("its batch is %d, variants are designed for 1", in[0])
	}
	return o, o.bias(g, n, 1)
}

// imply sets the padding that ONNX's auto_pad stands for.
func (o *Op) imply(mode string) {
	if mode != "SAME_UPPER" && mode != "SAME_LOWER" && mode != "VALID" {
		return
	}
	for _, side := range []struct {
		in, out, kernel, stride, dilation int
		begin, end                        *int
	}{{o.H, o.OutH, o.KernelH, o.StrideH, o.DilationH, &o.Top, &o.Bottom},
		{o.W, o.OutW, o.KernelW, o.StrideW, o.DilationW, &o.Left, &o.Right}} {
		all := max(0, (side.out-1)*side.stride+side.dilation*(side.kernel-1)+1-side.in)
		if mode == "VALID" {
			all = 0
		}
		*side.begin, *side.end = all/2, all-all/2
		if mode == "SAME_LOWER" {
			*side.begin, *side.end = all-all/2, all/2
		}
	}
}

// bias reads the third input and checks the weights.
func (o *Op) bias(g graph, n *pb.NodeProto, scale float32) error {
	if o.Weight == nil {
		return errors.New("its weights are not float32")
	}
	if !chain.Finite(o.Weight) {
		return errors.New("its weights hold NaN or infinity")
	}
	o.Bias = make([]float32, o.K)
	if len(n.GetInput()) < 3 || n.GetInput()[2] == "" {
		return nil
	}
	b := storedFloats(g.stored(n.GetInput()[2]))
	if len(b) != o.K && len(b) != 1 {
		return errors.New("its bias is not a constant for each output channel")
	}
	for i := range o.Bias {
		o.Bias[i] = scale * b[i%len(b)]
	}
	if !chain.Finite(o.Bias) {
		return errors.New("its bias holds NaN or infinity")
	}
	return nil
}

func product(g graph, n *pb.NodeProto, shape func(string) []int64) (*Op, error) {
	w := g.stored(n.GetInput()[1])
	in, out := shape(n.GetInput()[0]), shape(n.GetOutput()[0])
	alpha, beta := float32(1), float32(1)
	isTransposed := false
	if n.GetOpType() == "Gemm" {
		alpha, beta, isTransposed = floatOr(n, "alpha", 1), floatOr(n, "beta", 1), intOr(n, "transB", 0) != 0
	}
	switch {
	case w == nil:
		return nil, errors.New("both of its factors depend on the input")
	case len(w.GetDims()) != 2:
		return nil, fmt.Errorf("its weights have %d dimensions, variants are for two", len(w.GetDims()))
	case len(in) < 2 || len(out) != len(in) || intOr(n, "transA", 0) != 0:
		return nil, errors.New("its input is no matrix of rows")
	}
	c, k := int(w.GetDims()[0]), int(w.GetDims()[1])
	values := storedFloats(w)
	if isTransposed {
		c, k = k, c
	}
	rows := 1
	for _, d := range in[:len(in)-1] {
		rows *= int(d)
	}
	o := &Op{Name: n.GetName(), Type: n.GetOpType(), Input: n.GetInput()[0], Output: n.GetOutput()[0],
		InputShape: in, OutputShape: out, C: c, K: k, H: rows, W: 1, OutH: rows, OutW: 1,
		KernelH: 1, KernelW: 1, StrideH: 1, StrideW: 1, DilationH: 1, DilationW: 1, Group: 1}
	if values != nil && !isTransposed {
		values = transposed(values, c)
	}
	for i := range values {
		values[i] *= alpha
	}
	o.Weight = values
	return o, o.bias(g, n, beta)
}

// clip is the range that the only reader of a value clips it to.
func clip(g graph, value string) (low, high float32) {
	low, high = negInf, posInf
	var readers []*pb.NodeProto
	for _, n := range g.GetGraph().GetNode() {
		if slices.Contains(n.GetInput(), value) {
			readers = append(readers, n)
		}
	}
	isOutput := slices.ContainsFunc(g.GetGraph().GetOutput(),
		func(o *pb.ValueInfoProto) bool { return o.GetName() == value })
	if len(readers) != 1 || isOutput {
		return low, high
	}
	n := readers[0]
	switch n.GetOpType() {
	case "Relu":
		return 0, high
	case "Clip":
		bound := func(i int, attribute string, or float32) float32 {
			if a := n.Attr(attribute); a != nil {
				return a.GetF()
			}
			if i < len(n.GetInput()) && n.GetInput()[i] != "" {
				if v := storedFloats(g.stored(n.GetInput()[i])); len(v) == 1 {
					return v[0]
				}
			}
			return or
		}
		return bound(1, "min", low), bound(2, "max", high)
	}
	return low, high
}

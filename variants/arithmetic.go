package variants

import (
	"fmt"
	"math"
	"slices"

	"google.golang.org/protobuf/proto"

	pb "github.com/terastal/terastal/internal/onnxpb"
	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/models"
)

// Arithmetic is what becomes of unsigned 8-bit inputs times signed 8-bit weights in ONNX Runtime's CPU provider on a
// processor. x86 without VNNI adds the products of two neighbouring inputs in 16 bits, with saturation: 2 x 255 x 127
// does not fit.
type Arithmetic string

const (
	// Exact: all sums are what integers give.
	Exact Arithmetic = "exact"
	// Saturating: sums of two products saturate in 16 bits, but not in depthwise
	// convolutions, which have special kernels.
	Saturating Arithmetic = "saturating"
	// SaturatingThroughout: in depthwise convolutions too. No processor is known that does; the probe would tell.
	SaturatingThroughout Arithmetic = "saturating-throughout"
)

// arithmetics are all of them, the most exact first.
var arithmetics = []Arithmetic{Exact, Saturating, SaturatingThroughout}

// ParseArithmetic is the arithmetic of this name.
func ParseArithmetic(name string) (Arithmetic, error) {
	if a := Arithmetic(name); slices.Contains(arithmetics, a) {
		return a, nil
	}
	return "", fmt.Errorf("arithmetic is %q, must be exact, saturating or saturating-throughout", name)
}

// The largest stored weights. Two products of an input of at most 255 and a
// weight of at most 64 fit in 16 bits: 2 x 255 x 64 = 32640.
const (
	fullWeight    = 127
	reducedWeight = 64
)

// weightLimit is the largest weight with which an operator's sums are exact.
func (a Arithmetic) weightLimit(depthwise bool) int {
	if a == Exact || a == Saturating && depthwise {
		return fullWeight
	}
	return reducedWeight
}

// depthwise reports whether ONNX Runtime has a special kernel for it.
func (o *Op) depthwise() bool { return !o.linear() && o.Group > 1 && o.C == o.Group && o.K == o.Group }

// trial is an operator on inputs that are all 255, with weights that are all 127
// or all -127: the sum of any two products saturates in 16 bits.
type trial struct {
	name  string
	shape []int64 // of the input: [rows, C], or [1, C, H, W]
	k     int     // output channels
	size  int     // of the kernel; 0 for a matrix product
	group int
}

// Of sizes that go to vectorised kernels, whole vectors and remainders, with
// and without the kernels for a single row and for images.
var trials = []trial{
	{"product of one row", []int64{1, 64}, 33, 0, 1},
	{"product", []int64{16, 64}, 32, 0, 1},
	{"odd product", []int64{7, 37}, 19, 0, 1},
	{"1x1 convolution", []int64{1, 32, 6, 6}, 32, 1, 1},
	{"3x3 convolution", []int64{1, 16, 8, 8}, 24, 3, 1},
	{"odd convolution", []int64{1, 3, 9, 9}, 17, 3, 1},
	{"grouped convolution", []int64{1, 16, 8, 8}, 16, 3, 2},
	{"multiplied channels", []int64{1, 8, 8, 8}, 16, 3, 8},
	{"depthwise", []int64{1, 8, 8, 8}, 8, 3, 8},
	{"wide depthwise", []int64{1, 32, 8, 8}, 32, 3, 32},
	{"odd depthwise", []int64{1, 19, 9, 9}, 19, 5, 19},
}

func (t *trial) depthwise() bool { return t.group > 1 && int(t.shape[1]) == t.group && t.k == t.group }

func (t *trial) patch() int { return int(t.shape[1]) / t.group * max(1, t.size*t.size) }

// exactly is what every output is.
func (t *trial) exactly(weight int) float64 { return float64(t.patch() * 255 * weight) }

// build adds the operator on weights that are all the same. Its result is exactly, within a 200th.
func (t *trial) build(b *builder, in string, weight int) {
	w := make([]int8, t.k*t.patch())
	for i := range w {
		w[i] = int8(weight)
	}
	one, zero := b.scalar(1), b.uint8s(0)
	x := b.node("QuantizeLinear", []string{in, one, zero})
	if t.size == 0 {
		x = b.node("MatMulInteger", []string{x, b.int8s(w, t.shape[1], int64(t.k)), zero})
		b.node("Cast", []string{x}, attribute{"to", int64(ort.Float)})
		return
	}
	// An output that uses 200 of the 255 steps, on the side of the sign.
	step, at := b.scalar(float32(math.Abs(t.exactly(weight))/200)), b.uint8s(0)
	if weight < 0 {
		at = b.uint8s(255)
	}
	k, size := int64(t.k), int64(t.size)
	weights := b.int8s(w, k, t.shape[1]/int64(t.group), size, size)
	scales, zeros, bias := b.floats(slices.Repeat([]float32{1}, t.k), k), b.int8s(make([]int8, t.k), k),
		b.int32s(make([]int32, t.k), k)
	x = b.node("QLinearConv", []string{x, one, zero, weights, scales, zeros, step, at, bias},
		attribute{"group", int64(t.group)}, attribute{"kernel_shape", []int64{size, size}})
	b.node("DequantizeLinear", []string{x, step, at})
}

// ProbeArithmetic multiplies numbers whose sums would saturate, through ONNX Runtime's CPU provider on this processor,
// and reports the result. It takes some milliseconds; ONNX Runtime has to be started.
func ProbeArithmetic() (Arithmetic, error) {
	wrong, err := tryAll(fullWeight)
	if err != nil {
		return "", fmt.Errorf("try 8-bit arithmetic: %w", err)
	}
	out := Exact
	for _, t := range wrong {
		if t.depthwise() {
			return SaturatingThroughout, nil
		}
		out = Saturating
	}
	return out, nil
}

// tryAll returns the trials whose results are wrong, with weights of one size and both signs.
func tryAll(weight int) (wrong []*trial, err error) {
	var b builder
	g := &pb.GraphProto{Name: proto.String("arithmetic")}
	var inputs []models.Tensor
	var outputs []string
	given := map[string][]byte{}
	signs := []int{weight, -weight}
	for i := range trials {
		t := &trials[i]
		in := models.Tensor{Name: fmt.Sprintf("x%d", i), Type: ort.Float, Shape: t.shape}
		inputs = append(inputs, in)
		given[in.Name] = raw(slices.Repeat([]float32{255}, int(in.Elements())))
		g.Input = append(g.Input, pb.NewValue(in.Name, in.Type, in.Shape...))
		for s, w := range signs {
			b.prefix = fmt.Sprintf("t%d/%d", i, s)
			t.build(&b, in.Name, w)
			name := fmt.Sprintf("y%d/%d", i, s)
			b.result(name)
			outputs = append(outputs, name)
		}
	}
	g.Node, g.Initializer = b.nodes, b.stored
	m := graph{&pb.ModelProto{IrVersion: proto.Int64(8), Graph: g,
		OpsetImport: []*pb.OperatorSetIdProto{{Version: proto.Int64(qdqOpset)}}}}
	for _, name := range outputs {
		m.expose(name)
	}
	r, err := newRunner(m, inputs, outputs, "none")
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if err := r.Run(given); err != nil {
		return nil, err
	}
	for i := range trials {
		t := &trials[i]
		right := true
		for s, w := range signs {
			want := t.exactly(w)
			for _, y := range floats(r.Results[i*len(signs)+s]) {
				right = right && math.Abs(float64(y)-want) <= math.Abs(want)/200
			}
		}
		if !right {
			wrong = append(wrong, t)
		}
	}
	return wrong, nil
}

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
	// Saturating: sums of two products saturate in 16 bits, but not in depthwise convolutions, which have special kernels.
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

func (t *trial) op(input string) *Op {
	o := &Op{Type: "MatMul", Input: input, C: int(t.shape[1]), K: t.k, Group: t.group, KernelH: 1, KernelW: 1,
		StrideH: 1, StrideW: 1, DilationH: 1, DilationW: 1}
	if t.size > 0 {
		o.Type, o.KernelH, o.KernelW = "Conv", t.size, t.size
	}
	return o
}

// exactly is what every output is.
func (t *trial) exactly(weight int) float64 { return float64(t.op("").patch() * 255 * weight) }

// build adds the operator on weights that are all the same. Its result is exactly, within a 200th.
func (t *trial) build(b *builder, in string, weight int) {
	o := t.op(in)
	// An output that uses 200 of the 255 steps, on the side of the sign.
	out := affine{scale: float32(math.Abs(t.exactly(weight)) / 200)}
	if weight < 0 {
		out.zero = 255
	}
	r := quantised{op: o, form: integerForm, in: affine{scale: 1}, out: out,
		w: slices.Repeat([]int8{int8(weight)}, o.K*o.patch()), scale: slices.Repeat([]float32{1}, o.K),
		bias: make([]float32, o.K)}
	r.build(b)
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
		if t.op("").depthwise() {
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

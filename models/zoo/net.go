package zoo

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"

	"google.golang.org/protobuf/proto"

	pb "github.com/terastal/terastal/internal/onnxpb"
)

const (
	opset     = 17
	irVersion = 8
)

// feature is a value of the network under construction: a feature map of shape
// [1, c, h, w].
type feature struct {
	name    string
	c, h, w int
}

func (x feature) tensor() tensor { return tensor{x.name, []int{1, x.c, x.h, x.w}} }

// net builds one graph. Values are named after the node that makes them.
type net struct {
	graph  *pb.GraphProto
	random *rand.Rand
	counts map[string]int
}

func newNet(name string, seed uint64) *net {
	return &net{
		graph:  &pb.GraphProto{Name: proto.String(name)},
		random: rand.New(rand.NewPCG(seed, 0x7a6f6f)),
		counts: make(map[string]int),
	}
}

// input declares the image (or spectrogram) that a request brings.
func (n *net) input(c, h, w int) feature {
	f := feature{"input", c, h, w}
	n.graph.Input = append(n.graph.Input, valueInfo(f.name, 1, int64(c), int64(h), int64(w)))
	return f
}

// output makes a value a result of the network and gives it that name.
func (n *net) output(name string, x tensor) tensor {
	rename := func(values []string) {
		for i, v := range values {
			if v == x.name {
				values[i] = name
			}
		}
	}
	for _, node := range n.graph.Node {
		rename(node.Input)
		rename(node.Output)
	}
	n.graph.Output = append(n.graph.Output, valueInfo(name, long(x.shape)...))
	return tensor{name, x.shape}
}

// classes makes the scores that dense computed the network's only result.
func (n *net) classes(x feature) { n.output("output", tensor{x.name, []int{1, x.c}}) }

// bytes writes the model.
func (n *net) bytes() ([]byte, error) {
	return proto.MarshalOptions{Deterministic: true}.Marshal(&pb.ModelProto{
		IrVersion:    proto.Int64(irVersion),
		ProducerName: proto.String("terastal"),
		OpsetImport:  []*pb.OperatorSetIdProto{{Domain: proto.String(""), Version: proto.Int64(opset)}},
		Graph:        n.graph,
	})
}

func valueInfo(name string, dims ...int64) *pb.ValueInfoProto {
	shape := &pb.TensorShapeProto{}
	for _, d := range dims {
		shape.Dim = append(shape.Dim, &pb.TensorShapeProto_Dimension{Value: &pb.TensorShapeProto_Dimension_DimValue{DimValue: d}})
	}
	return &pb.ValueInfoProto{
		Name: proto.String(name),
		Type: &pb.TypeProto{Value: &pb.TypeProto_TensorType{TensorType: &pb.TypeProto_Tensor{
			ElemType: proto.Int32(int32(pb.TensorProto_FLOAT)), Shape: shape,
		}}},
	}
}

// node appends an operator and returns the name of its only output.
func (n *net) node(op string, inputs []string, attributes ...*pb.AttributeProto) string {
	name := fmt.Sprintf("%s_%d", op, n.counts[op])
	n.counts[op]++
	n.graph.Node = append(n.graph.Node, &pb.NodeProto{
		OpType: proto.String(op), Name: proto.String(name), Input: inputs, Output: []string{name + ":0"}, Attribute: attributes,
	})
	return name + ":0"
}

// next is the name that node will give the next operator of this type.
func (n *net) next(op string) string { return fmt.Sprintf("%s_%d", op, n.counts[op]) }

// store adds a weight tensor with elements drawn uniformly around center.
func (n *net) store(name string, center, spread float32, dims ...int64) string {
	count := int64(1)
	for _, d := range dims {
		count *= d
	}
	raw := make([]byte, 4*count)
	for at := 0; at < len(raw); at += 4 {
		unit := float32(n.random.Float32()*2) - 1 // the conversion keeps every machine from fusing the steps
		binary.LittleEndian.PutUint32(raw[at:], math.Float32bits(center+float32(spread*unit)))
	}
	return n.initializer(name, pb.TensorProto_FLOAT, raw, dims...)
}

// constant adds a tensor of given elements.
func (n *net) constant(name string, elements []float32, dims ...int64) string {
	raw := make([]byte, 0, 4*len(elements))
	for _, e := range elements {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(e))
	}
	return n.initializer(name, pb.TensorProto_FLOAT, raw, dims...)
}

// indices adds a tensor of whole numbers: shapes, axes, places to gather.
// Like masks, they are not counted as parameters.
func (n *net) indices(name string, elements []int, dims ...int64) string {
	raw := make([]byte, 0, 8*len(elements))
	for _, e := range elements {
		raw = binary.LittleEndian.AppendUint64(raw, uint64(e))
	}
	return n.initializer(name, pb.TensorProto_INT64, raw, dims...)
}

func (n *net) mask(name string, elements []bool, dims ...int64) string {
	raw := make([]byte, len(elements))
	for i, e := range elements {
		if e {
			raw[i] = 1
		}
	}
	return n.initializer(name, pb.TensorProto_BOOL, raw, dims...)
}

func (n *net) initializer(name string, kind pb.TensorProto_DataType, raw []byte, dims ...int64) string {
	n.graph.Initializer = append(n.graph.Initializer, &pb.TensorProto{
		Name: proto.String(name), DataType: proto.Int32(int32(kind)), Dims: dims, RawData: raw,
	})
	return name
}

// once tells whether it is called with this name for the first time: for
// constants that several nodes share.
func (n *net) once(name string) bool {
	n.counts[name]++
	return n.counts[name] == 1
}

// he is the spread of uniform weights that keep the variance of activations
// through a rectifier (He et al., "Delving Deep into Rectifiers", 2015).
func he(fanIn int) float32 { return float32(math.Sqrt(6 / float64(fanIn))) }

// conv describes a convolution; the zero values of its fields mean: a square
// kernel of the height, stride 1, padding that keeps the size, one group.
type conv struct {
	out    int
	k, kw  int
	stride int
	groups int
	valid  bool // no padding
	bias   bool
}

func (n *net) conv(x feature, c conv) feature {
	if c.kw == 0 {
		c.kw = c.k
	}
	c.stride, c.groups = max(c.stride, 1), max(c.groups, 1)
	top, bottom, h := window(x.h, c.k, c.stride, c.valid)
	left, right, w := window(x.w, c.kw, c.stride, c.valid)
	name, inner := n.next("Conv"), x.c/c.groups
	inputs := []string{x.name, n.store(name+".weight", 0, he(inner*c.k*c.kw), int64(c.out), int64(inner), int64(c.k), int64(c.kw))}
	if c.bias {
		inputs = append(inputs, n.store(name+".bias", 0, 0.1, int64(c.out)))
	}
	return feature{n.node("Conv", inputs,
		ints("kernel_shape", c.k, c.kw), ints("strides", c.stride, c.stride), ints("pads", top, left, bottom, right), integer("group", c.groups),
	), c.out, h, w}
}

// window is the padding before and after, and the size that results, of a
// window moved over size elements. Odd kernels pad both sides alike, as
// PyTorch does; even ones pad as TensorFlow's "same" does.
func window(size, k, stride int, valid bool) (before, after, out int) {
	if valid {
		return 0, 0, (size-k)/stride + 1
	}
	before, after = (k-1)/2, (k-1)/2
	if k%2 == 0 {
		need := max(0, ((size+stride-1)/stride-1)*stride+k-size)
		before, after = need/2, need-need/2
	}
	return before, after, (size+before+after-k)/stride + 1
}

// norm is an inference BatchNormalization whose scale lies around gain.
func (n *net) norm(x feature, gain float32) feature {
	name, c := n.next("BatchNormalization"), int64(x.c)
	x.name = n.node("BatchNormalization", []string{
		x.name,
		n.store(name+".scale", gain, gain/10, c), n.store(name+".bias", 0, 0.1, c),
		n.store(name+".mean", 0, 0.1, c), n.store(name+".variance", 1, 0.1, c),
	})
	return x
}

func (n *net) relu(x feature) feature {
	x.name = n.node("Relu", []string{x.name})
	return x
}

func (n *net) relu6(x feature) feature {
	if n.counts["Clip"] == 0 {
		n.store("zero", 0, 0)
		n.store("six", 6, 0)
	}
	x.name = n.node("Clip", []string{x.name, "zero", "six"})
	return x
}

func (n *net) convNormRelu(x feature, c conv) feature { return n.relu(n.norm(n.conv(x, c), 1)) }

func (n *net) convNormRelu6(x feature, c conv) feature { return n.relu6(n.norm(n.conv(x, c), 1)) }

func (n *net) add(a, b feature) feature {
	a.name = n.node("Add", []string{a.name, b.name})
	return a
}

func (n *net) concat(parts ...feature) feature {
	sum := parts[0]
	names := []string{sum.name}
	for _, p := range parts[1:] {
		names = append(names, p.name)
		sum.c += p.c
	}
	sum.name = n.node("Concat", names, integer("axis", 1))
	return sum
}

// pool is a MaxPool or AveragePool. Averages do not count padding.
func (n *net) pool(op string, x feature, k, stride int, valid bool) feature {
	top, bottom, h := window(x.h, k, stride, valid)
	left, right, w := window(x.w, k, stride, valid)
	x.name = n.node(op, []string{x.name}, ints("kernel_shape", k, k), ints("strides", stride, stride), ints("pads", top, left, bottom, right))
	x.h, x.w = h, w
	return x
}

func (n *net) globalAverage(x feature) feature {
	x.name = n.node("GlobalAveragePool", []string{x.name})
	x.h, x.w = 1, 1
	return x
}

func (n *net) flatten(x feature) feature {
	x.name = n.node("Flatten", []string{x.name}, integer("axis", 1))
	return feature{x.name, x.c * x.h * x.w, 1, 1}
}

func (n *net) dense(x feature, out int) feature {
	name := n.next("Gemm")
	return feature{n.node("Gemm", []string{
		x.name, n.store(name+".weight", 0, he(x.c), int64(out), int64(x.c)), n.store(name+".bias", 0, 0.1, int64(out)),
	}, integer("transB", 1)), out, 1, 1}
}

// classify pools, flattens and ends in a dense layer: the usual head.
func (n *net) classify(x feature, classes int) {
	n.classes(n.dense(n.flatten(n.globalAverage(x)), classes))
}

// unpool doubles height and width with zeros: each element becomes the upper
// left one of four.
func (n *net) unpool(x feature) feature {
	corners := make([]float32, 4*x.c)
	for c := range x.c {
		corners[4*c] = 1
	}
	weight := n.constant(n.next("ConvTranspose")+".weight", corners, int64(x.c), 1, 2, 2)
	return feature{n.node("ConvTranspose", []string{x.name, weight},
		ints("kernel_shape", 2, 2), ints("strides", 2, 2), integer("group", x.c),
	), x.c, 2 * x.h, 2 * x.w}
}

// resize interpolates bilinearly, corners kept in place.
func (n *net) resize(x feature, h, w int) feature {
	sizes := n.indices(n.next("Resize")+".sizes", []int{1, x.c, h, w}, 4)
	return feature{n.node("Resize", []string{x.name, "", "", sizes},
		text("mode", "linear"), text("coordinate_transformation_mode", "align_corners"),
	), x.c, h, w}
}

func integer(name string, v int) *pb.AttributeProto {
	return &pb.AttributeProto{Name: proto.String(name), Type: pb.AttributeProto_INT.Enum(), I: proto.Int64(int64(v))}
}

func text(name, v string) *pb.AttributeProto {
	return &pb.AttributeProto{Name: proto.String(name), Type: pb.AttributeProto_STRING.Enum(), S: []byte(v)}
}

func ints(name string, v ...int) *pb.AttributeProto {
	a := &pb.AttributeProto{Name: proto.String(name), Type: pb.AttributeProto_INTS.Enum()}
	for _, x := range v {
		a.Ints = append(a.Ints, int64(x))
	}
	return a
}

func long(v []int) []int64 {
	wide := make([]int64, len(v))
	for i, x := range v {
		wide[i] = int64(x)
	}
	return wide
}

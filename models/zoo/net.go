package zoo

import (
	"fmt"
	"math"
	"math/rand/v2"

	"google.golang.org/protobuf/proto"

	pb "github.com/terastal/terastal/internal/onnxpb"
	"github.com/terastal/terastal/internal/ort"
)

const opset = 17

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
func (n *net) input(c, h, w int) tensor {
	x := tensor{"input", []int{1, c, h, w}}
	n.graph.Input = append(n.graph.Input, pb.NewValue(x.name, pb.TensorProto_FLOAT, long(x.shape)...))
	return x
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
	n.graph.Output = append(n.graph.Output, pb.NewValue(name, pb.TensorProto_FLOAT, long(x.shape)...))
	return tensor{name, x.shape}
}

// bytes writes the model.
func (n *net) bytes() ([]byte, error) {
	m := pb.NewModel(n.graph, opset)
	m.ProducerName = proto.String("terastal")
	return proto.MarshalOptions{Deterministic: true}.Marshal(m)
}

// node appends an operator and returns the name of its only output.
func (n *net) node(op string, inputs []string, attributes ...*pb.AttributeProto) string {
	name := n.next(op)
	n.counts[op]++
	out := name + ":0"
	n.graph.Node = append(n.graph.Node, pb.NewNode(op, inputs, []string{out}, attributes...).Named(name))
	return out
}

// next is the name that node will give the next operator of this type.
func (n *net) next(op string) string { return fmt.Sprintf("%s_%d", op, n.counts[op]) }

// store adds a weight tensor with elements drawn uniformly around center.
func (n *net) store(name string, center, spread float32, dims ...int64) string {
	count := int64(1)
	for _, d := range dims {
		count *= d
	}
	elements := make([]float32, count)
	for i := range elements {
		unit := float32(n.random.Float32()*2) - 1 // the conversion keeps every machine from fusing the steps
		elements[i] = center + float32(spread*unit)
	}
	return n.constant(name, elements, dims...)
}

// constant adds a tensor of given elements.
func (n *net) constant(name string, elements []float32, dims ...int64) string {
	return n.initializer(name, pb.TensorProto_FLOAT, ort.Data(elements), dims...)
}

// indices adds a tensor of whole numbers: shapes, axes, places to gather.
// Like masks, they are not counted as parameters.
func (n *net) indices(name string, elements []int, dims ...int64) string {
	return n.initializer(name, pb.TensorProto_INT64, ort.Data(long(elements)), dims...)
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
	n.graph.Initializer = append(n.graph.Initializer, pb.NewTensor(name, kind, raw, dims...))
	return name
}

// once tells whether it is called with this name for the first time: for constants that several nodes share.
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

func (n *net) conv(x tensor, c conv) tensor {
	if c.kw == 0 {
		c.kw = c.k
	}
	c.stride, c.groups = max(c.stride, 1), max(c.groups, 1)
	top, bottom, h := window(x.h(), c.k, c.stride, c.valid)
	left, right, w := window(x.w(), c.kw, c.stride, c.valid)
	name, inner := n.next("Conv"), x.c()/c.groups
	weight := n.store(name+".weight", 0, he(inner*c.k*c.kw), int64(c.out), int64(inner), int64(c.k), int64(c.kw))
	inputs := []string{x.name, weight}
	if c.bias {
		inputs = append(inputs, n.store(name+".bias", 0, 0.1, int64(c.out)))
	}
	return tensor{n.node("Conv", inputs,
		attr("kernel_shape", []int{c.k, c.kw}), attr("strides", []int{c.stride, c.stride}),
		attr("pads", []int{top, left, bottom, right}), attr("group", c.groups),
	), []int{1, c.out, h, w}}
}

// window is the padding before and after, and the size that results, of a window moved over size elements. Odd kernels
// pad both sides alike, as PyTorch does; even ones pad as TensorFlow's "same" does.
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
func (n *net) norm(x tensor, gain float32) tensor {
	name, c := n.next("BatchNormalization"), int64(x.c())
	return tensor{n.node("BatchNormalization", []string{
		x.name,
		n.store(name+".scale", gain, gain/10, c), n.store(name+".bias", 0, 0.1, c),
		n.store(name+".mean", 0, 0.1, c), n.store(name+".variance", 1, 0.1, c),
	}), x.shape}
}

func (n *net) relu(x tensor) tensor { return n.apply("Relu", x) }

func (n *net) relu6(x tensor) tensor {
	if n.counts["Clip"] == 0 {
		n.store("zero", 0, 0)
		n.store("six", 6, 0)
	}
	return tensor{n.node("Clip", []string{x.name, "zero", "six"}), x.shape}
}

func (n *net) convNormRelu(x tensor, c conv) tensor { return n.relu(n.norm(n.conv(x, c), 1)) }

func (n *net) convNormRelu6(x tensor, c conv) tensor { return n.relu6(n.norm(n.conv(x, c), 1)) }

// pool is a MaxPool or AveragePool. Averages do not count padding.
func (n *net) pool(op string, x tensor, k, stride int, valid bool) tensor {
	top, bottom, h := window(x.h(), k, stride, valid)
	left, right, w := window(x.w(), k, stride, valid)
	return tensor{n.node(op, []string{x.name},
		attr("kernel_shape", []int{k, k}), attr("strides", []int{stride, stride}),
		attr("pads", []int{top, left, bottom, right}),
	), []int{1, x.c(), h, w}}
}

func (n *net) globalAverage(x tensor) tensor {
	return tensor{n.node("GlobalAveragePool", []string{x.name}), []int{1, x.c(), 1, 1}}
}

func (n *net) flatten(x tensor) tensor {
	return tensor{n.node("Flatten", []string{x.name}, attr("axis", 1)), []int{1, x.c() * x.h() * x.w()}}
}

func (n *net) dense(x tensor, out int) tensor {
	name, in := n.next("Gemm"), x.dim(-1)
	return tensor{n.node("Gemm", []string{
		x.name, n.store(name+".weight", 0, he(in), int64(out), int64(in)), n.store(name+".bias", 0, 0.1, int64(out)),
	}, attr("transB", 1)), []int{1, out}}
}

// classify pools, flattens and ends in a dense layer: the usual head.
func (n *net) classify(x tensor, classes int) {
	n.output("output", n.dense(n.flatten(n.globalAverage(x)), classes))
}

// unpool doubles height and width with zeros: each element becomes the upper left one of four.
func (n *net) unpool(x tensor) tensor {
	corners := make([]float32, 4*x.c())
	for c := range x.c() {
		corners[4*c] = 1
	}
	weight := n.constant(n.next("ConvTranspose")+".weight", corners, int64(x.c()), 1, 2, 2)
	return tensor{n.node("ConvTranspose", []string{x.name, weight},
		attr("kernel_shape", []int{2, 2}), attr("strides", []int{2, 2}), attr("group", x.c()),
	), []int{1, x.c(), 2 * x.h(), 2 * x.w()}}
}

// resize interpolates bilinearly, corners kept in place.
func (n *net) resize(x tensor, h, w int) tensor {
	shape := []int{1, x.c(), h, w}
	sizes := n.indices(n.next("Resize")+".sizes", shape, 4)
	return tensor{n.node("Resize", []string{x.name, "", "", sizes},
		attr("mode", "linear"), attr("coordinate_transformation_mode", "align_corners"),
	), shape}
}

func attr(name string, v any) *pb.AttributeProto { return pb.NewAttribute(name, v) }

func long(v []int) []int64 {
	wide := make([]int64, len(v))
	for i, x := range v {
		wide[i] = int64(x)
	}
	return wide
}

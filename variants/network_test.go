package variants

import (
	"math"
	"math/rand/v2"
	"sync"
	"testing"

	"gorgonia.org/tensor"

	pb "github.com/terastal/terastal/internal/onnxpb"
	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/internal/ort/orttest"
	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/internal/testkit/rig"
	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/runtime"
)

// net makes small networks for tests.
type net struct {
	builder
	rng   *rand.Rand
	in    []int64
	opset int64
}

func newNet(in ...int64) *net {
	return &net{builder: builder{prefix: "n"}, rng: rand.New(rand.NewPCG(1, 2)), in: in, opset: 17}
}

func (n *net) random(size int, scale float64) []float32 {
	v := make([]float32, size)
	for i := range v {
		v[i] = float32(n.rng.NormFloat64() * scale)
	}
	return v
}

// conv adds a convolution with given weights, or random ones for nil.
func (n *net) conv(in string, c, k, size, stride, pad, group int, w []float32) string {
	if w == nil {
		w = n.random(k*c/group*size*size, 1/math.Sqrt(float64(c/group*size*size)))
	}
	s, p := int64(stride), int64(pad)
	return n.node("Conv", []string{in, n.floats(w, int64(k), int64(c/group), int64(size), int64(size)),
		n.floats(n.random(k, 0.1), int64(k))},
		attribute{"strides", []int64{s, s}}, attribute{"pads", []int64{p, p, p, p}}, attribute{"group", int64(group)},
		attribute{"kernel_shape", []int64{int64(size), int64(size)}})
}

// value is an input or output; its shape is not known without sizes.
func value(name string, shape ...int64) *pb.ValueInfoProto {
	v := pb.NewValue(name, ort.Float, shape...)
	if len(shape) == 0 {
		v.Type.GetTensorType().Shape = nil
	}
	return v
}

// network is what the net makes, cut at every operator.
func (n *net) network(t *testing.T, granularity string) *runtime.Network {
	t.Helper()
	n.result("y")
	return rig.Graph(t, "net", &pb.GraphProto{Node: n.nodes, Initializer: n.stored,
		Input: []*pb.ValueInfoProto{value("x", n.in...)}, Output: []*pb.ValueInfoProto{value("y")}}, n.opset, granularity)
}

// noise is random inputs, each labelled with its number modulo classes.
type noise struct {
	n, size, classes int
	spoil            func(i int, v []float32)
	shape            []int // of the model's input, if it has this size
}

// of is noise for a network.
func (d noise) of(n *runtime.Network) noise {
	d.shape = nil
	if in := n.Model.Inputs()[0]; in.Elements() == int64(d.size) {
		for _, size := range in.Shape {
			d.shape = append(d.shape, int(size))
		}
	}
	return d
}

func (d noise) Len() int { return d.n }

func (d noise) numbers(i int) []float32 {
	rng := rand.New(rand.NewPCG(uint64(i), 7))
	v := make([]float32, d.size)
	for j := range v {
		v[j] = float32(rng.NormFloat64())
	}
	if d.spoil != nil {
		d.spoil(i, v)
	}
	return v
}

func (d noise) Inputs(i int) ([]*tensor.Dense, error) {
	v := d.numbers(i)
	if d.shape == nil {
		return []*tensor.Dense{tensor.New(tensor.WithBacking(v))}, nil
	}
	return []*tensor.Dense{tensor.New(tensor.WithShape(d.shape...), tensor.WithBacking(v))}, nil
}

func (d noise) Label(i int) int {
	if d.classes == 0 {
		return -1
	}
	return i % d.classes
}

// fitted fits the candidates of a layer.
func fitted(t *testing.T, n *runtime.Network, layer int, d noise, list []*Candidate) {
	t.Helper()
	f := testkit.Must(NewFitter(n, d.of(n)))(t)
	defer f.Close()
	testkit.OK(t, f.Fit(t.Context(), layer, list, nil, nil))
}

// probed is this processor's arithmetic.
var probed = sync.OnceValues(ProbeArithmetic)

func arithmetic(t *testing.T) Arithmetic {
	t.Helper()
	orttest.Start(t)
	return testkit.Must(probed())(t)
}

// candidates are those of a layer for this processor.
func candidates(t *testing.T, l *models.Layer) []*Candidate {
	t.Helper()
	return candidatesFor(t, l, arithmetic(t))
}

func candidatesFor(t *testing.T, l *models.Layer, a Arithmetic) []*Candidate {
	t.Helper()
	list, notes := Candidates(l, a)
	if len(list) == 0 {
		t.Fatal(notes)
	}
	return list
}

// candidate is one of a layer with one replacement of its own making.
func candidate(t *testing.T, l *models.Layer, make func(*Op) Replacement) *Candidate {
	t.Helper()
	c := *candidates(t, l)[0]
	c.Family, c.Parameters = "test", "test"
	for i, o := range c.ops {
		c.replacements[i] = make(o)
	}
	return &c
}

func one(c *Candidate) []*Candidate { return []*Candidate{c} }

package variants

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	pb "github.com/terastal/terastal/internal/onnxpb"
	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/plan"
	"github.com/terastal/terastal/variants/internal/chain"
)

func TestSameTensors(t *testing.T) {
	x := models.Tensor{Name: "x", Type: ort.Float, Shape: []int64{1, 4}}
	y := models.Tensor{Name: "y", Type: ort.Float, Shape: []int64{}}
	wide, half := x, x
	wide.Shape, half.Type = []int64{1, 5}, ort.Float16
	long := models.Tensor{Name: strings.Repeat("n\n", 500), Type: ort.Float}
	for _, c := range []struct {
		name      string
		want, got []models.Tensor
		says      string // "" means they are the same
	}{
		{"the same", []models.Tensor{x, y}, []models.Tensor{x, y}, ""},
		{"another order", []models.Tensor{x, y}, []models.Tensor{y, x}, ""},
		{"one is missing", []models.Tensor{x, y}, []models.Tensor{x}, `it has no input "y", only ["x"]`},
		{"all are missing", []models.Tensor{x}, nil, `it has no input "x", only []`},
		{"one more", []models.Tensor{x}, []models.Tensor{x, y}, `its input "y" is none of the layer's`},
		{"another shape", []models.Tensor{x}, []models.Tensor{wide}, `its input "x" has the shape [1 5], the layer's [1 4]`},
		{"another type", []models.Tensor{x}, []models.Tensor{half}, `its input "x" is of float16, the layer's of float32`},
		{"a long name", nil, []models.Tensor{long}, `is none of the layer's`},
	} {
		err := sameTensors("input", c.want, c.got)
		switch {
		case c.says == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.says != "" && (!errors.Is(err, ErrBoundary) || !strings.Contains(err.Error(), c.says)):
			t.Errorf("%s: %v, want %q", c.name, err, c.says)
		case err != nil && (len(err.Error()) > 400 || strings.Contains(err.Error(), "\n")):
			t.Errorf("%s: not one short line: %v", c.name, err)
		}
	}
}

// own is a model with the layer's boundary, made of nodes that f adds.
func own(t *testing.T, l *models.Layer, f func(b *builder) string) *models.Model {
	t.Helper()
	b := &builder{prefix: "own"}
	f(b)
	b.result(l.Outputs[0].Name)
	g := &pb.GraphProto{Name: proto.String("own"), Node: b.nodes, Initializer: b.stored}
	g.Output = []*pb.ValueInfoProto{value(l.Outputs[0].Name)}
	for _, in := range l.Inputs {
		g.Input = append(g.Input, value(in.Name, in.Shape...))
	}
	opset := []*pb.OperatorSetIdProto{{Version: proto.Int64(17)}}
	data := testkit.Must(proto.Marshal(&pb.ModelProto{IrVersion: proto.Int64(8), OpsetImport: opset, Graph: g}))(t)
	return testkit.Must(models.Parse("own", data, models.Options{}))(t)
}

// Compared is what reaches the layer in the network, and the error is what it says it is.
func TestCompare(t *testing.T) {
	b := newNet(1, 2, 8, 8)
	doubled := b.node("Mul", []string{"x", b.floats([]float32{2}, 1)})
	b.conv(b.conv(doubled, 2, 4, 3, 1, 1, 1, nil), 4, 4, 1, 1, 0, 1, nil)
	n := b.network(t, "op")
	last := &n.Layers[len(n.Layers)-1]
	data := noise{n: 7, size: 128}.of(n)
	// What the layer makes of its input, by the model as a whole.
	onnx := testkit.Must(n.Model.ONNX())(t)
	whole := testkit.Must(chain.Open(onnx, n.Model.Inputs(), []string{"y"}, "all"))(t)
	defer whole.Close()
	var outputs []float64
	for i := range data.n {
		testkit.OK(t, whole.Run(map[string][]byte{"x": raw(data.numbers(i))}))
		for _, x := range floats(whole.Results[0]) {
			outputs = append(outputs, float64(x))
		}
	}
	mean, variance, size := 0.0, 0.0, 0.0
	for _, x := range outputs {
		mean += x / float64(len(outputs))
	}
	for _, x := range outputs {
		variance += (x - mean) * (x - mean)
		size += x * x
	}
	conv := func(b *builder, scale float32) string {
		w := n.Layers[len(n.Layers)-1]
		data := testkit.Must(w.ONNX())(t)
		g := testkit.Must(parseGraph(data))(t)
		b.stored = append(b.stored, g.Graph.Initializer...)
		b.nodes = append(b.nodes, g.Graph.Node...)
		return b.node("Mul", []string{b.nodes[len(b.nodes)-1].Output[0] + "/own", b.floats([]float32{scale}, 1)})
	}
	for _, c := range []struct {
		scale float32
		want  float64
	}{{1, 0}, {1.5, 0.25 * size / variance}, {-1, 4 * size / variance}} {
		m := own(t, last, func(b *builder) string {
			out := conv(b, c.scale)
			b.nodes[len(b.nodes)-2].Output[0] += "/own"
			return out
		})
		x := testkit.Must(New(last, "scaled", m))(t)
		shares := 0
		testkit.OK(t, x.Compare(t.Context(), n, data, func(float64) { shares++ }))
		if math.Abs(x.Error-c.want) > 1e-4*(1+c.want) || shares != data.n {
			t.Errorf("scaled by %v: error %v, want %v; %d calls", c.scale, x.Error, c.want, shares)
		}
		if x.String() != "added scaled" || x.Bytes != 4*(16+4+1) || x.MACs != last.MACs || x.Layer != last.Index {
			t.Errorf("%+v", x)
		}
		testkit.Fails(t, x.Compare(t.Context(), n, noise{}, nil), errNoRows)
	}
}

// A value that is not finite is an error only where the original's is.
func TestCompareNotFinite(t *testing.T) {
	b := newNet(1, 4, 4, 4)
	b.node("Log", []string{b.conv("x", 4, 4, 1, 1, 0, 1, []float32{1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1})})
	n := b.network(t, "model")
	l := &n.Layers[0]
	data := noise{n: 3, size: 64}.of(n) // half of it negative: the logarithm is NaN there
	same := testkit.Must(l.ONNX())(t)
	m := testkit.Must(models.Parse("same", same, models.Options{}))(t)
	c := testkit.Must(New(l, "same", m))(t)
	if err := c.Compare(t.Context(), n, data, nil); err != nil || c.Error != 0 {
		t.Errorf("the original itself: error %v, %v", c.Error, err)
	}
	// The square root of x-100 is nowhere a number.
	c = testkit.Must(New(l, "nan", own(t, l, func(b *builder) string {
		return b.node("Sqrt", []string{b.node("Add", []string{"x", b.floats([]float32{-100}, 1)})})
	})))(t)
	testkit.Fails(t, c.Compare(t.Context(), n, data, nil), ErrNotFinite, `output "y"`)
	other := &models.Layer{Inputs: []models.Tensor{{Name: "x", Shape: []int64{1, 3, 4, 4}}}, Outputs: l.Outputs}
	m = own(t, other, func(b *builder) string { return b.node("Sqrt", []string{"x"}) })
	testkit.Refused(New(l, "of another", m))(t, ErrBoundary)
}

func TestPruneKeeps(t *testing.T) {
	// All three keep 0.7; without 0, 0.75; without 1, 0.95; without 2, 0.9.
	p := &plan.Proof{Exhaustive: true, Sets: []sched.VariantSet{0, 1, 2, 3, 4, 5, 6, 7},
		Accuracy: []float64{1, .96, .8, .9, .99, .95, .75, .7}}
	for _, c := range []struct {
		keep  []int
		least float64
		want  []int
	}{
		{nil, 0.7, nil},
		{nil, 0.9, []int{1}},
		{[]int{1}, 0.9, []int{2}},
		{[]int{0, 1, 2}, 0.9, nil},    // whatever is left
		{[]int{0}, 0.97, []int{1, 2}}, // all that may go, and 0.96 is left
		{nil, 0.97, []int{0, 1}},      // 2 alone
	} {
		keep := map[int]bool{}
		for _, i := range c.keep {
			keep[i] = true
		}
		var got []int
		for i := range p.Prune(keep, nil, 3, c.least) {
			got = append(got, i)
		}
		slices.Sort(got)
		if !slices.Equal(got, c.want) {
			t.Errorf("keeping %v at %v: %v go, want %v", c.keep, c.least, got, c.want)
		}
	}
}

package models

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	pb "github.com/terastal/terastal/internal/onnxpb"
	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/internal/ort/orttest"
	"github.com/terastal/terastal/internal/testkit"
)

// sketch builds small test models: values of shape [1, 4, 6, 6] unless said otherwise.
type sketch struct {
	g pb.GraphProto
}

func (s *sketch) input(name string, shape ...int64) string {
	s.g.Input = append(s.g.Input, pb.NewValue(name, ort.Float, shape...))
	return name
}

func (s *sketch) output(names ...string) {
	for _, name := range names {
		s.g.Output = append(s.g.Output, &pb.ValueInfoProto{Name: proto.String(name)})
	}
}

func (s *sketch) floats(values []float32, dims ...int64) string {
	return s.raw(ort.Data(values), dims...)
}

// raw is floats of values that are little-endian bytes already.
func (s *sketch) raw(raw []byte, dims ...int64) string {
	name := fmt.Sprintf("w%d", len(s.g.Initializer))
	s.g.Initializer = append(s.g.Initializer, pb.NewTensor(name, ort.Float, raw, dims...))
	return name
}

func (s *sketch) node(op string, inputs []string, outputs ...string) *pb.NodeProto {
	n := pb.NewNode(op, inputs, outputs).Named("n" + fmt.Sprint(len(s.g.Node)))
	s.g.Node = append(s.g.Node, n)
	return n
}

func set(n *pb.NodeProto, attributes ...*pb.AttributeProto) { n.Attribute = attributes }

// conv is a 1x1 convolution from 4 channels to 4.
func (s *sketch) conv(in, out string) {
	weights := make([]float32, 16)
	for i := range weights {
		weights[i] = float32((i*7+len(s.g.Node)*3)%11)/10 - 0.5
	}
	s.node("Conv", []string{in, s.floats(weights, 4, 4, 1, 1)}, out)
}

func (s *sketch) bytes(t testkit.T) []byte {
	s.g.Name = proto.String("sketch")
	return testkit.Must(marshal(pb.NewModel(&s.g, 17)))(t)
}

func (s *sketch) parse(t testkit.T) *Model {
	t.Helper()
	return testkit.Must(Parse("sketch", s.bytes(t), Options{}))(t)
}

// exact splits, checks the boundaries and requires bit-identical outputs.
func exact(t testkit.T, m *Model, granularity string) []Layer {
	t.Helper()
	layers := cut(t, m, granularity)
	available := make(map[string]bool)
	for _, in := range m.Inputs() {
		available[in.Name] = true
	}
	nodes := 0
	for _, l := range layers {
		nodes += len(l.Ops)
		if len(l.Inputs) == 0 || len(l.Outputs) == 0 {
			t.Errorf("%s: layer %d has %d inputs and %d outputs", granularity, l.Index, len(l.Inputs), len(l.Outputs))
		}
		for _, in := range l.Inputs {
			if !available[in.Name] {
				t.Errorf("%s: layer %d reads %s, which nothing before it makes", granularity, l.Index, in.Name)
			}
		}
		for _, out := range l.Outputs {
			available[out.Name] = true
		}
	}
	if nodes != len(m.graph.GetGraph().GetNode()) {
		t.Errorf("%s: layers hold %d nodes, the model has %d", granularity, nodes, len(m.graph.GetGraph().GetNode()))
	}
	v := testkit.Must(Verify(m, layers, RandomInputs(m, 11), "none", false))(t)
	if !v.Identical {
		t.Errorf("%s: outputs differ by %g", granularity, v.MaxAbsDiff)
	}
	return layers
}

func opsOf(layers []Layer) []string {
	var list []string
	for _, l := range layers {
		list = append(list, strings.Join(l.Ops, " "))
	}
	return list
}

func wantOps(t *testing.T, layers []Layer, want ...string) {
	t.Helper()
	if got := opsOf(layers); !slices.Equal(got, want) {
		t.Errorf("layers are %q, want %q", got, want)
	}
}

func TestResidualBlockStaysWhole(t *testing.T) {
	orttest.Start(t)
	s := &sketch{}
	s.conv(s.input("x", 1, 4, 6, 6), "a")
	s.node("Relu", []string{"a"}, "b")
	s.conv("b", "c")
	s.node("Relu", []string{"c"}, "d")
	s.conv("d", "e")
	s.node("Add", []string{"e", "b"}, "f")
	s.conv("f", "y")
	s.output("y")
	m := s.parse(t)
	wantOps(t, exact(t, m, "op"), "Conv Relu", "Conv Relu", "Conv Add", "Conv")
	wantOps(t, exact(t, m, "block"), "Conv Relu", "Conv Relu Conv Add", "Conv")
	wantOps(t, exact(t, m, "model"), "Conv Relu Conv Relu Conv Add Conv")
	wantOps(t, exact(t, m, "cuts:c,f"), "Conv Relu Conv", "Relu Conv Add", "Conv")
	if layers := exact(t, m, "auto:1h"); len(layers) != 1 {
		t.Errorf("auto:1h gave %d layers, want 1", len(layers))
	}
	for _, cuts := range []string{"cuts:nowhere", "cuts:y"} {
		g, _ := ParseGranularity(cuts)
		testkit.Refused(m.Split(g))(t, ErrGranularity)
	}
}

func TestQuantizedOperatorsStayWhole(t *testing.T) {
	orttest.Start(t)
	s := &sketch{}
	scale := s.floats([]float32{0.05})
	s.g.Initializer[0].Dims = nil
	s.g.Initializer = append(s.g.Initializer,
		&pb.TensorProto{Name: proto.String("zero"), DataType: proto.Int32(2), RawData: []byte{128}},
		&pb.TensorProto{Name: proto.String("zero8"), DataType: proto.Int32(3), RawData: []byte{0}},
		pb.NewTensor("q8", ort.Int8, []byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}, 4, 4, 1, 1))
	in := s.input("x", 1, 4, 6, 6)
	for i := range 2 {
		n := fmt.Sprint(i)
		s.node("QuantizeLinear", []string{in, scale, "zero"}, "q"+n)
		s.node("DequantizeLinear", []string{"q" + n, scale, "zero"}, "d"+n)
		s.node("DequantizeLinear", []string{"q8", scale, "zero8"}, "w"+n+"d")
		s.node("Conv", []string{"d" + n, "w" + n + "d"}, "c"+n)
		in = "c" + n
	}
	s.node("QuantizeLinear", []string{in, scale, "zero"}, "q2")
	s.node("DequantizeLinear", []string{"q2", scale, "zero"}, "y")
	s.output("y")
	m := s.parse(t)
	layers := exact(t, m, "op")
	wantOps(t, layers,
		"QuantizeLinear DequantizeLinear DequantizeLinear Conv QuantizeLinear",
		"DequantizeLinear DequantizeLinear Conv QuantizeLinear DequantizeLinear")
	if got := layers[1].Inputs[0].Type.String(); got != "uint8" {
		t.Errorf("the boundary carries %s, want uint8", got)
	}
	g, _ := ParseGranularity("cuts:d1")
	testkit.Refused(m.Split(g))(t, ErrGranularity)
}

func TestSubgraphCapturesBecomeInputs(t *testing.T) {
	orttest.Start(t)
	s := &sketch{}
	s.input("x", 1, 4, 6, 6)
	s.g.Input = append(s.g.Input, pb.NewValue("which", ort.Bool))
	s.conv("x", "a")
	s.conv("a", "b")
	branch := func(op string, operands ...string) *pb.GraphProto {
		return &pb.GraphProto{
			Name:   proto.String(op),
			Node:   []*pb.NodeProto{pb.NewNode(op, operands, []string{"result" + op})},
			Output: []*pb.ValueInfoProto{pb.NewValue("result"+op, ort.Float, square...)},
		}
	}
	set(s.node("If", []string{"which"}, "c"), pb.NewAttribute("then_branch", branch("Add", "a", "b")),
		pb.NewAttribute("else_branch", branch("Mul", "a", "x")))
	s.conv("c", "y")
	s.output("y")
	layers := exact(t, s.parse(t), "op")
	wantOps(t, layers, "Conv", "Conv", "If", "Conv")
	if got := names(layers[2].Inputs); !slices.Equal(got, []string{"which", "a", "b", "x"}) {
		t.Errorf("the If layer reads %q, want its condition and captures which, a, b, x", got)
	}
}

func TestFoldedOutputAndDataDependentShapes(t *testing.T) {
	orttest.Start(t)
	s := &sketch{}
	s.conv(s.input("x", 1, 4, 6, 6), "a")
	s.node("NonZero", []string{"a"}, "where") // shape depends on the data
	s.node("Relu", []string{"a"}, "r")
	s.conv("r", "b")
	set(s.node("Cast", []string{"where"}, "wheref"), pb.NewAttribute("to", 1))
	s.node("ReduceSum", []string{"wheref"}, "sum")
	s.node("Mul", []string{"b", "sum"}, "c")
	s.conv("c", "y")
	s.node("Neg", []string{s.floats([]float32{3}, 1)}, "constant")
	s.output("y", "constant")
	m := s.parse(t)
	for _, g := range []string{"op", "block", "model"} {
		exact(t, m, g)
	}
	for _, l := range exact(t, m, "op") {
		for _, out := range l.Outputs {
			if strings.HasPrefix(out.Name, "where") {
				t.Errorf("layer %d hands over %s, whose size is not fixed", l.Index, out)
			}
		}
	}

	s = &sketch{}
	s.node("NonZero", []string{s.input("x", 1, 4)}, "y")
	s.output("y")
	testkit.Refused(Parse("sketch", s.bytes(t), Options{}))(t, ErrUnsupported)
}

// TestAnyGraphSplitsExactly: random graphs with shared, unused and long-lived
// values, several inputs and outputs, cut everywhere.
func TestAnyGraphSplitsExactly(t *testing.T) {
	orttest.Start(t)
	rapid.Check(t, func(t *rapid.T) {
		s := &sketch{}
		var values []string
		for i := range rapid.IntRange(1, 3).Draw(t, "inputs") {
			values = append(values, s.input(fmt.Sprint("x", i), 1, 4, 6, 6))
		}
		inputs := len(values)
		nodes := rapid.IntRange(1, 14).Draw(t, "nodes")
		for i := range nodes {
			pick := func() string { return rapid.SampledFrom(values).Draw(t, "operand") }
			out := fmt.Sprint("v", i)
			switch rapid.IntRange(0, 5).Draw(t, "op") {
			case 0, 1:
				s.conv(pick(), out)
			case 2:
				s.node("Relu", []string{pick()}, out)
			case 3:
				s.node("Add", []string{pick(), pick()}, out)
			case 4:
				s.node("Sigmoid", []string{pick()}, out)
			case 5:
				s.node("Mul", []string{pick(), s.floats([]float32{0.5})}, out)
				s.g.Initializer[len(s.g.Initializer)-1].Dims = nil
			}
			values = append(values, out)
		}
		made := values[inputs:]
		s.output(made[len(made)-1])
		if also := rapid.SampledFrom(made).Draw(t, "second output"); also != made[len(made)-1] {
			s.output(also)
		}
		m := testkit.Must(Parse("sketch", s.bytes(t), Options{}))(t)
		exact(t, m, "op")
		exact(t, m, "block")
		var cuts []string
		for _, n := range m.graph.GetGraph().GetNode()[:len(m.graph.GetGraph().GetNode())-1] {
			if rapid.Bool().Draw(t, "cut") {
				cuts = append(cuts, n.GetOutput()[0])
			}
		}
		if len(cuts) > 0 {
			exact(t, m, "cuts:"+strings.Join(cuts, ","))
		}
	})
}

func TestBuffersNeverShareLiveMemory(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		count := rapid.IntRange(1, 12).Draw(t, "layers")
		align := rapid.SampledFrom([]int{1, 16, 64}).Draw(t, "align")
		layers := make([]Layer, count)
		var made []Tensor
		until := make(map[string]int)
		from := make(map[string]int)
		for i := range layers {
			layers[i].results = make(map[string]bool)
			for _, x := range made {
				if rapid.IntRange(0, 3).Draw(t, "reads") == 0 {
					layers[i].Inputs = append(layers[i].Inputs, x)
					until[x.Name] = max(until[x.Name], i)
				}
			}
			for j := range rapid.IntRange(1, 3).Draw(t, "outputs") {
				x := Tensor{Name: fmt.Sprintf("t%d_%d", i, j), Type: 1, Shape: []int64{rapid.Int64Range(0, 300).Draw(t, "size")}}
				made = append(made, x)
				layers[i].Outputs = append(layers[i].Outputs, x)
				from[x.Name], until[x.Name] = i, i
				if rapid.IntRange(0, 5).Draw(t, "result") == 0 {
					layers[i].results[x.Name] = true
				}
			}
		}
		for _, l := range layers {
			for name := range l.results {
				until[name] = count
			}
		}
		forms := make([]Form, count)
		for i := range layers {
			forms[i] = layers[i].Form()
		}
		offsets, size := Buffers(Chain(forms), align)
		most := int64(0) // no placement can be smaller than the largest tensor
		for i, a := range made {
			at := offsets[a.Name]
			most = max(most, a.Bytes())
			if at%int64(align) != 0 || at < 0 || at+a.Bytes() > size {
				t.Fatalf("%s at %d of %d, align %d", a, at, size, align)
			}
			for _, b := range made[:i] {
				together := from[a.Name] <= until[b.Name] && from[b.Name] <= until[a.Name]
				if together && at < offsets[b.Name]+b.Bytes() && offsets[b.Name] < at+a.Bytes() {
					t.Fatalf("%s at %d and %s at %d are alive together and overlap", a, at, b, offsets[b.Name])
				}
			}
		}
		if len(offsets) != len(made) || size < most {
			t.Fatalf("%d tensors placed of %d, in %d bytes", len(offsets), len(made), size)
		}
	})
}

func TestSplitIsDeterministic(t *testing.T) {
	orttest.Start(t)
	make := func() []Layer {
		s := &sketch{}
		s.conv(s.input("x", 1, 4, 6, 6), "a")
		s.conv("a", "b")
		s.node("Add", []string{"a", "b"}, "y")
		s.output("y")
		return exact(t, s.parse(t), "op")
	}
	a, b := make(), make()
	for i := range a {
		if a[i].SHA256 != b[i].SHA256 || a[i].SHA256 == "" {
			t.Errorf("layer %d has SHA-256 %s and %s", i, a[i].SHA256, b[i].SHA256)
		}
	}
	if a[0].SHA256 == a[1].SHA256 {
		t.Error("different layers have the same SHA-256")
	}
}

func TestGranularityForms(t *testing.T) {
	for _, s := range []string{"op", "block", "model", "auto:200µs", "cuts:a,b"} {
		if g, err := ParseGranularity(s); err != nil || g.String() != s {
			t.Errorf("%s: got %v, %v", s, g, err)
		}
	}
	for _, s := range []string{"", "ops", "op:1", "auto", "auto:", "auto:0s", "auto:-1ms", "cuts", "cuts:", "cuts:a,,b"} {
		testkit.Refused(ParseGranularity(s))(t, ErrGranularity)
	}
}

func TestDimensionsAreBound(t *testing.T) {
	orttest.Start(t)
	s := &sketch{}
	s.conv(s.input("x", 1, 4, 6, 6), "y")
	s.output("y")
	dims := s.g.Input[0].GetType().GetTensorType().GetShape().GetDim()
	dims[0].Value = &pb.TensorShapeProto_Dimension_DimParam{DimParam: "batch"}
	dims[3].Value = nil
	m := testkit.Must(Parse("sketch", s.bytes(t), Options{Dims: map[string]int64{"batch": 3}}))(t)
	if got := m.Outputs()[0].Shape; !slices.Equal(got, []int64{3, 4, 6, 1}) {
		t.Errorf("output shape %v, want [3 4 6 1]", got)
	}
	if m.MACs() != 3*4*6*4 {
		t.Errorf("%d MACs, want %d", m.MACs(), 3*4*6*4)
	}
	testkit.Refused(Parse("sketch", s.bytes(t), Options{Dims: map[string]int64{"bach": 3}}))(t, ErrDims, `"bach"`)
}

func TestExternalDataStaysInTheFolder(t *testing.T) {
	orttest.Start(t)
	outside := filepath.Join(t.TempDir(), "secret.bin")
	testkit.Write(t, outside, make([]byte, 4096))
	folder := t.TempDir()
	testkit.Write(t, filepath.Join(folder, "w.bin"), make([]byte, 72))
	if err := os.Symlink(outside, filepath.Join(folder, "link.bin")); err != nil {
		t.Skip(err)
	}
	for _, test := range []struct{ location, offset, length, says string }{
		{"w.bin", "8", "64", ""},
		{"w.bin", "16", "", "72 bytes"},
		{"w.bin", "0", "8", "length"},
		{"w.bin", "-8", "", "offset"},
		{"../secret.bin", "", "", "outside"},
		{outside, "", "", "outside"},
		{"link.bin", "", "", "link.bin"},
		{"missing.bin", "", "", "missing.bin"},
		{"", "", "", "outside"},
	} {
		s := &sketch{}
		s.conv(s.input("x", 1, 4, 6, 6), "y")
		s.output("y")
		w := s.g.Initializer[0]
		w.RawData, w.DataLocation = nil, pb.TensorProto_EXTERNAL.Enum()
		for key, value := range map[string]string{"location": test.location, "offset": test.offset, "length": test.length} {
			if value != "" {
				entry := &pb.StringStringEntryProto{Key: proto.String(key), Value: proto.String(value)}
				w.ExternalData = append(w.ExternalData, entry)
			}
		}
		file := filepath.Join(folder, "m.onnx")
		testkit.Write(t, file, s.bytes(t))
		m, err := Load(file, Options{})
		switch {
		case test.says == "" && err != nil:
			t.Errorf("%+v: %v", test, err)
		case test.says == "":
			exact(t, m, "op")
		case !errors.Is(err, ErrExternalData) || !strings.Contains(err.Error(), test.says):
			t.Errorf("%+v: got %v", test, err)
		}
	}
}

func TestFunctionsAreInlined(t *testing.T) {
	orttest.Start(t)
	s := &sketch{}
	s.conv(s.input("x", 1, 4, 6, 6), "a")
	s.node("Twice", []string{"a"}, "b").Domain = proto.String("test")
	s.conv("b", "y")
	s.output("y")
	twice := pb.NewModel(&s.g, 17, &pb.OperatorSetIdProto{Domain: proto.String("test"), Version: proto.Int64(1)})
	twice.Functions = []*pb.FunctionProto{{
		Name: proto.String("Twice"), Domain: proto.String("test"), Input: []string{"p"}, Output: []string{"q"},
		OpsetImport: twice.OpsetImport[:1],
		Node: []*pb.NodeProto{
			pb.NewNode("Add", []string{"p", "p"}, []string{"r"}),
			pb.NewNode("Relu", []string{"r"}, []string{"q"}),
		},
	}}
	data := testkit.Must(marshal(twice))(t)
	s.g.Name = proto.String("functions")
	m := testkit.Must(Parse("functions", data, Options{}))(t)
	wantOps(t, exact(t, m, "op"), "Conv Add Relu", "Conv")
}

func TestLayersKeepOpsetAndIR(t *testing.T) {
	orttest.Start(t)
	s := &sketch{}
	s.conv(s.input("x", 1, 4, 6, 6), "a")
	s.conv("a", "y")
	s.output("y")
	for _, l := range exact(t, s.parse(t), "op") {
		data := testkit.Must(l.ONNX())(t)
		var m pb.ModelProto
		testkit.OK(t, proto.Unmarshal(data, &m))
		if len(m.OpsetImport) != 1 || m.OpsetImport[0].GetVersion() != 17 || m.GetIrVersion() != 8 {
			t.Errorf("layer %d imports %v at IR %d, want opset 17 at IR 8", l.Index, m.OpsetImport, m.GetIrVersion())
		}
		if len(m.Graph.Initializer) != 1 {
			t.Errorf("layer %d stores %d tensors, want its own weights only", l.Index, len(m.Graph.Initializer))
		}
	}
}

package models

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	pb "github.com/terastal/terastal/internal/onnxpb"
	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/internal/ort/orttest"
	"github.com/terastal/terastal/internal/testkit"
)

func (s *sketch) constant(name string, kind DataType, dims []int64, raw ...byte) string {
	s.g.Initializer = append(s.g.Initializer, pb.NewTensor(name, kind, raw, dims...))
	return name
}

var square = []int64{1, 4, 6, 6}

// constructs are what ONNX files contain besides chains of operators; each is
// cut at every operator and at the named tensors.
var constructs = []struct {
	name  string
	build func(s *sketch)
	cuts  string   // also cut after these
	ops   []string // wanted at granularity op, if given
}{
	{"loop that captures across a cut", func(s *sketch) {
		s.conv(s.input("x", square...), "a")
		s.conv("a", "b")
		s.constant("times", ort.Int64, nil, 3, 0, 0, 0, 0, 0, 0, 0)
		body := &pb.GraphProto{
			Name: proto.String("body"),
			Input: []*pb.ValueInfoProto{
				pb.NewValue("i", ort.Int64), pb.NewValue("go", ort.Bool), pb.NewValue("sum", ort.Float, square...),
			},
			Node: []*pb.NodeProto{
				pb.NewNode("Identity", []string{"go"}, []string{"on"}),
				pb.NewNode("Add", []string{"sum", "a"}, []string{"next"}),
			},
			Output: []*pb.ValueInfoProto{pb.NewValue("on", ort.Bool), pb.NewValue("next", ort.Float, square...)},
		}
		set(s.node("Loop", []string{"times", "", "b"}, "c"), pb.NewAttribute("body", body))
		s.conv("c", "y")
		s.output("y")
	}, "b,c", []string{"Conv", "Conv", "Loop", "Conv"}},
	{"scan that captures across a cut", func(s *sketch) {
		s.conv(s.input("x", square...), "a")
		s.conv("a", "b")
		set(s.node("ReduceMean", []string{"a"}, "start"), pb.NewAttribute("axes", []int64{0}), pb.NewAttribute("keepdims", 0))
		step := []int64{4, 6, 6}
		body := &pb.GraphProto{
			Name:  proto.String("body"),
			Input: []*pb.ValueInfoProto{pb.NewValue("state", ort.Float, step...), pb.NewValue("slice", ort.Float, step...)},
			Node: []*pb.NodeProto{
				pb.NewNode("Add", []string{"state", "slice"}, []string{"next"}),
				pb.NewNode("Mul", []string{"next", "start"}, []string{"each"}),
			},
			Output: []*pb.ValueInfoProto{pb.NewValue("next", ort.Float, step...), pb.NewValue("each", ort.Float, step...)},
		}
		set(s.node("Scan", []string{"start", "b"}, "last", "c"),
			pb.NewAttribute("body", body), pb.NewAttribute("num_scan_inputs", 1))
		s.conv("c", "y")
		s.output("y", "last")
	}, "b", []string{"Conv", "Conv ReduceMean", "Scan", "Conv"}},
	{"optional inputs left empty", func(s *sketch) {
		s.conv(s.input("x", square...), "a")
		s.constant("most", ort.Float, nil, 0, 0, 0x80, 0x3e) // 0.25
		s.node("Clip", []string{"a", "", "most"}, "b")
		s.conv("b", "c")
		s.constant("scales", ort.Float, []int64{4}, 0, 0, 0x80, 0x3f, 0, 0, 0x80, 0x3f, 0, 0, 0, 0x40, 0, 0, 0, 0x40)
		set(s.node("Resize", []string{"c", "", "scales"}, "d"), pb.NewAttribute("mode", "nearest"))
		s.conv("d", "y")
		s.output("y")
	}, "a,c", []string{"Conv Clip", "Conv Resize", "Conv"}},
	{"operators of ONNX Runtime's own domain", func(s *sketch) {
		s.conv(s.input("x", square...), "a")
		s.node("Gelu", []string{"a"}, "b").Domain = proto.String("com.microsoft")
		n := s.node("FusedMatMul", []string{"b", "a"}, "c")
		n.Domain, n.Attribute = proto.String("com.microsoft"), []*pb.AttributeProto{pb.NewAttribute("transB", 1)}
		s.conv("c", "y")
		s.output("y")
	}, "a,b", []string{"Conv Gelu", "FusedMatMul", "Conv"}},
	{"tensors alive across many cuts", func(s *sketch) {
		s.conv(s.input("x", square...), "v0")
		for i := range 6 {
			s.conv(fmt.Sprint("v", i), fmt.Sprint("v", i+1))
		}
		s.node("Sum", []string{"v6", "v3", "v0", "x"}, "y")
		s.output("y", "v1")
	}, "", []string{"Conv", "Conv", "Conv", "Conv", "Conv", "Conv", "Conv Sum"}},
	{"outputs of nodes that nobody reads", func(s *sketch) {
		s.conv(s.input("x", square...), "a")
		set(s.node("Split", []string{"a"}, "b", "unread"), pb.NewAttribute("axis", 2))
		set(s.node("MaxPool", []string{"b"}, "c", "indices"), pb.NewAttribute("kernel_shape", []int64{1, 1}))
		s.conv("c", "y")
		s.conv("a", "dead")
		s.output("y")
	}, "b", []string{"Conv Split MaxPool", "Conv"}},
	{"several inputs and outputs", func(s *sketch) {
		s.conv(s.input("left", square...), "a")
		s.conv(s.input("right", square...), "b")
		s.node("Add", []string{"a", "b"}, "c")
		s.conv("c", "y")
		s.output("y", "a", "c")
	}, "a,b", []string{"Conv", "Conv Add", "Conv"}},
	{"an input passed through", func(s *sketch) {
		s.conv(s.input("x", square...), "a")
		s.conv("a", "y")
		s.input("aside", 3)
		s.output("aside", "y", "x")
	}, "a", []string{"Conv", "Conv"}},
	{"initialisers that are outputs", func(s *sketch) {
		s.conv(s.input("x", square...), "a")
		s.node("Conv", []string{"a", "w0"}, "y") // shares the weights, which are an output
		s.output("w0", "y")
	}, "a", []string{"Identity Conv", "Conv"}},
	{"text inside the model", func(s *sketch) {
		s.conv(s.input("x", square...), "a")
		set(s.node("Cast", []string{"a"}, "text"), pb.NewAttribute("to", int(ort.String)))
		s.conv("a", "b")
		set(s.node("Cast", []string{"text"}, "numbers"), pb.NewAttribute("to", int(ort.Float)))
		s.node("Add", []string{"b", "numbers"}, "c")
		s.conv("c", "y")
		s.output("y")
	}, "", nil},
}

func TestConstructsSplitExactly(t *testing.T) {
	orttest.Start(t)
	for _, test := range constructs {
		t.Run(test.name, func(t *testing.T) {
			s := &sketch{}
			test.build(s)
			m := s.parse(t)
			layers := exact(t, m, "op")
			if test.ops != nil {
				wantOps(t, layers, test.ops...)
			}
			exact(t, m, "block")
			exact(t, m, "model")
			if test.cuts != "" {
				if got, want := len(exact(t, m, "cuts:"+test.cuts)), 1+strings.Count(test.cuts, ",")+1; got != want {
					t.Errorf("%d layers with cuts after %s, want %d", got, test.cuts, want)
				}
			}
			for _, l := range layers {
				for _, x := range slices.Concat(l.Inputs, l.Outputs) {
					if x.Type == ort.String {
						t.Errorf("layer %d exchanges %v", l.Index, x)
					}
				}
			}
			v := testkit.Must(Verify(m, layers, RandomInputs(m, 11), "all", true))(t)
			if !v.Holds("all") {
				t.Errorf("at full optimisation: %+v", v)
			}
		})
	}
}

func TestNothingToRun(t *testing.T) {
	orttest.Start(t)
	s := &sketch{}
	s.conv(s.input("x", square...), "dead")
	s.output("x")
	m := s.parse(t)
	for _, granularity := range []string{"op", "block", "model"} {
		g, _ := ParseGranularity(granularity)
		testkit.Refused(m.Split(g))(t, ErrUnsupported, "nothing to run")
	}
}

// TestTypesCrossCuts: every element type that a buffer can hold.
func TestTypesCrossCuts(t *testing.T) {
	orttest.Start(t)
	for _, kind := range []DataType{
		ort.Float, ort.Double, ort.Float16, ort.BFloat16, ort.Bool,
		ort.Int8, ort.Int16, ort.Int32, ort.Int64, ort.Uint8, ort.Uint16, ort.Uint32, ort.Uint64,
	} {
		t.Run(kind.String(), func(t *testing.T) {
			s := &sketch{}
			s.g.Input = append(s.g.Input, valueInfo(Tensor{Name: "x", Type: kind, Shape: []int64{3, 5}}))
			s.node("Transpose", []string{"x"}, "a")
			set(s.node("Concat", []string{"a", "a"}, "b"), pb.NewAttribute("axis", 1))
			s.node("Transpose", []string{"b"}, "y")
			s.output("y")
			layers := exact(t, s.parse(t), "cuts:a,b")
			wantOps(t, layers, "Transpose", "Concat", "Transpose")
			for _, l := range layers {
				if l.Inputs[0].Type != kind || l.Outputs[0].Type != kind {
					t.Errorf("layer %d takes %v and gives %v", l.Index, l.Inputs[0], l.Outputs[0])
				}
			}
		})
	}
}

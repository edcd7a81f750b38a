package models

import (
	"bytes"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	pb "github.com/terastal/terastal/internal/onnxpb"
	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/internal/testkit"
)

// tiny is x -> Relu -> Add(w) -> y, changed by edit.
func tiny(edit func(*pb.ModelProto)) []byte {
	m := pb.NewModel(&pb.GraphProto{
		Name:        proto.String("tiny"),
		Input:       []*pb.ValueInfoProto{pb.NewValue("x", ort.Float, 1, 4)},
		Output:      []*pb.ValueInfoProto{pb.NewValue("y", ort.Float, 1, 4)},
		Initializer: []*pb.TensorProto{pb.NewTensor("w", ort.Float, make([]byte, 16), 4)},
		Node: []*pb.NodeProto{
			pb.NewNode("Relu", []string{"x"}, []string{"a"}).Named("r"),
			pb.NewNode("Add", []string{"a", "w"}, []string{"y"}).Named("s"),
		},
	}, 17)
	if edit != nil {
		edit(m)
	}
	data, err := marshal(m)
	if err != nil {
		panic(err)
	}
	return data
}

// calling is functions of which each calls the next.
func calling(names ...string) (list []*pb.FunctionProto) {
	for i, name := range names[:len(names)-1] {
		call := pb.NewNode(names[i+1], nil, []string{"out"})
		list = append(list, &pb.FunctionProto{Name: proto.String(name), Node: []*pb.NodeProto{call}})
	}
	return list
}

var broken = []struct {
	name  string
	edit  func(*pb.ModelProto)
	class error
	says  string
}{
	{"no graph", func(m *pb.ModelProto) { m.Graph = nil }, ErrCorrupt, "no graph"},
	{"no nodes", func(m *pb.ModelProto) { m.Graph.Node = nil }, ErrUnsupported, "no nodes"},
	{"future IR", func(m *pb.ModelProto) { m.IrVersion = proto.Int64(99) }, ErrUnsupported, "IR version 99"},
	{"no opset", func(m *pb.ModelProto) { m.OpsetImport = nil }, ErrCorrupt, "no opset"},
	{"cycle", func(m *pb.ModelProto) { m.Graph.Node[0].Input[0] = "y" }, ErrCorrupt, "cycle"},
	{"dangling input", func(m *pb.ModelProto) { m.Graph.Node[0].Input[0] = "gone" }, ErrCorrupt,
		`node "r" ("Relu"): input "gone"`},
	{"dangling output", func(m *pb.ModelProto) { m.Graph.Output[0].Name = proto.String("gone") }, ErrCorrupt,
		`output "gone"`},
	{"duplicate value", func(m *pb.ModelProto) { m.Graph.Node[1].Output[0] = "a" }, ErrCorrupt,
		`value "a" is already defined`},
	{"duplicate initializer", func(m *pb.ModelProto) {
		m.Graph.Initializer = append(m.Graph.Initializer, m.Graph.Initializer[0])
	}, ErrCorrupt, `initializer "w" is declared twice`},
	{"short weights", func(m *pb.ModelProto) { m.Graph.Initializer[0].RawData = make([]byte, 15) }, ErrCorrupt,
		`initializer "w"`},
	{"negative weights", func(m *pb.ModelProto) { m.Graph.Initializer[0].Dims[0] = -4 }, ErrCorrupt,
		"impossible shape [-4]"},
	{"absurd weights", func(m *pb.ModelProto) { m.Graph.Initializer[0].Dims = []int64{1 << 40, 1 << 40} }, ErrCorrupt,
		"impossible shape"},
	{"huge input", func(m *pb.ModelProto) {
		m.Graph.Input[0] = valueInfo(Tensor{Name: "x", Type: 1, Shape: []int64{1 << 20, 1 << 20}})
	}, ErrUnsupported, `input "x" has shape [1048576 1048576]`},
	{"negative input", func(m *pb.ModelProto) {
		m.Graph.Input[0] = valueInfo(Tensor{Name: "x", Type: 1, Shape: []int64{-3}})
	}, ErrCorrupt, `input "x": dimension 0 is -3`},
	{"string input", func(m *pb.ModelProto) {
		m.Graph.Input[0].Type.GetTensorType().ElemType = proto.Int32(8)
	}, ErrUnsupported, "strings"},
	{"sparse weights", func(m *pb.ModelProto) {
		m.Graph.SparseInitializer = []*pb.SparseTensorProto{{Values: &pb.TensorProto{Name: proto.String("thin")}}}
	}, ErrUnsupported, `sparse initializer "thin"`},
	{"sparse attribute", func(m *pb.ModelProto) {
		set(m.Graph.Node[0], &pb.AttributeProto{Name: proto.String("sparse_value"), SparseTensor: &pb.SparseTensorProto{}})
	}, ErrUnsupported, `node "r" ("Relu"): attribute "sparse_value" is a sparse tensor`},
	{"nameless operator", func(m *pb.ModelProto) { m.Graph.Node[0].OpType = nil }, ErrCorrupt, "no operator type"},
	{"external in memory", func(m *pb.ModelProto) {
		m.Graph.Initializer[0].DataLocation = pb.TensorProto_EXTERNAL.Enum()
	}, ErrExternalData, `tensor "w"`},
	{"recursive function", func(m *pb.ModelProto) {
		m.Functions = []*pb.FunctionProto{{Name: proto.String("f"), Node: []*pb.NodeProto{{OpType: proto.String("f")}}}}
	}, ErrCorrupt, "calls itself"},
	{"functions in a ring", func(m *pb.ModelProto) { m.Functions = calling("f", "g", "f") }, ErrCorrupt, "calls itself"},
	{"functions too deep", func(m *pb.ModelProto) {
		m.Functions = calling(strings.Fields("a b c d e f g h i j k l m n o p q r s t u v w x y z A B C D E F G H I")...)
	}, ErrCorrupt, "more than 32 deep"},
	{"dangling in subgraph", func(m *pb.ModelProto) {
		set(m.Graph.Node[0], pb.NewAttribute("body", &pb.GraphProto{
			Output: []*pb.ValueInfoProto{{Name: proto.String("inner")}},
			Node:   []*pb.NodeProto{pb.NewNode("Neg", []string{"nowhere"}, []string{"inner"})},
		}))
	}, ErrCorrupt, `input "nowhere"`},
}

func TestBrokenModelsAreNamed(t *testing.T) {
	for _, test := range broken {
		t.Run(test.name, func(t *testing.T) {
			_, err := Parse("tiny", tiny(test.edit), Options{})
			testkit.Fails(t, err, test.class, test.says, "tiny")
			if err != nil && strings.Contains(err.Error(), "\n") {
				t.Errorf("more than one line: %q", err)
			}
		})
	}
	for _, data := range [][]byte{[]byte("not a model"), tiny(nil)[:40]} {
		testkit.Refused(Parse("tiny", data, Options{}))(t, ErrCorrupt)
	}
}

// FuzzParse feeds damaged models to everything that runs before ONNX Runtime,
// which is not started here: no panic, and memory in proportion to the input.
func FuzzParse(f *testing.F) {
	whole := tiny(nil)
	f.Add(whole)
	for _, test := range broken {
		f.Add(tiny(test.edit))
	}
	for cut := 0; cut < len(whole); cut += 7 {
		f.Add(whole[:cut])
	}
	for bit := 0; bit < 8*len(whole); bit += 53 {
		flipped := bytes.Clone(whole)
		flipped[bit/8] ^= 1 << (bit % 8)
		f.Add(flipped)
	}
	f.Add(nested(maxDepth + 2))
	f.Fuzz(func(t *testing.T, data []byte) {
		if m, err := Parse("fuzz", data, Options{}); err == nil && m == nil {
			t.Fatal("neither a model nor an error")
		}
	})
}

// nested is a model with subgraphs in subgraphs.
func nested(depth int) []byte {
	return tiny(func(m *pb.ModelProto) {
		n := m.Graph.Node[0]
		for range depth {
			inner := pb.NewNode("Relu", []string{"x"}, []string{"inner"})
			set(n, pb.NewAttribute("body", &pb.GraphProto{
				Node: []*pb.NodeProto{inner}, Output: []*pb.ValueInfoProto{{Name: proto.String("inner")}},
			}))
			n = inner
		}
	})
}

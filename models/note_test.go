package models

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	pb "github.com/terastal/terastal/internal/onnxpb"
	"github.com/terastal/terastal/internal/ort/orttest"
)

// choice is If(which) over two bodies of as many products with weights of their own, behind some convolutions.
func choice(before, products int) *sketch {
	s := &sketch{}
	value := s.input("x", 1, 4, 6, 6)
	s.g.Input = append(s.g.Input, valueInfo(Tensor{Name: "which", Type: 9}))
	for i := range before {
		out := "before" + string(rune('a'+i))
		s.conv(value, out)
		value = out
	}
	var bodies []*pb.AttributeProto
	for _, branch := range []string{"then_branch", "else_branch"} {
		body := &sketch{}
		inner := value
		for i := range products {
			out := branch + string(rune('a'+i))
			body.conv(inner, out)
			inner = out
		}
		for i, w := range body.g.Initializer {
			w.Name = proto.String(branch + w.GetName())
			body.g.Node[i].Input[1] = w.GetName()
		}
		body.g.Name = proto.String(branch)
		body.g.Output = []*pb.ValueInfoProto{valueInfo(Tensor{Name: inner, Type: 1, Shape: []int64{1, 4, 6, 6}})}
		bodies = append(bodies, pb.NewAttribute(branch, &body.g))
	}
	s.node("If", []string{"which"}, "y").Attribute = bodies
	s.output("y")
	return s
}

func TestOneControlFlowNodeIsNoted(t *testing.T) {
	orttest.Start(t)
	for _, test := range []struct {
		before, products, layers int
		says                     string
	}{
		{0, 3, 1, `the whole model is one If, node "n0" ("If"): it stays one layer; ` +
			`the parameters in its bodies are counted, their MACs are not`},
		{1, 8, 2, "nearly the whole model is one If"},
		{3, 2, 4, ""},
	} {
		m := choice(test.before, test.products).parse(t)
		if got := m.Note(); !strings.HasPrefix(got, test.says) || test.says == "" && got != "" {
			t.Errorf("%+v: got %q", test, got)
		}
		if layers := exact(t, m, "op"); len(layers) != test.layers {
			t.Errorf("%+v: %d layers", test, len(layers))
		}
		if want := int64(16 * (test.before + 2*test.products)); m.Parameters() != want {
			t.Errorf("%+v: %d parameters, want %d", test, m.Parameters(), want)
		}
		if want := int64(16 * 36 * test.before); m.MACs() != want {
			t.Errorf("%+v: %d MACs, want %d", test, m.MACs(), want)
		}
	}
}

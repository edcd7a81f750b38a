package variants

import (
	"slices"
	"strings"
	"testing"

	pb "github.com/terastal/terastal/internal/onnxpb"
	"github.com/terastal/terastal/internal/testkit"
)

// operators are a graph's, in order.
func (g graph) operators() string {
	var list []string
	for _, n := range g.GetGraph().GetNode() {
		list = append(list, n.GetOpType())
	}
	return strings.Join(list, " ")
}

// Within a layer convolutions in 8 bits hand on 8 bits: what the activation between them clips the next one's range
// clips, too, and rounding once in place of twice changes the output by next to nothing.
func TestFuse(t *testing.T) {
	for name, c := range map[string]struct {
		between        func(b *net, x string) string
		family, layers string
	}{
		"relu":   {func(b *net, x string) string { return b.node("Relu", []string{x}) }, "int8", "QuantizeLinear QLinearConv QLinearConv DequantizeLinear Add"},
		"clip":   {func(b *net, x string) string { return b.node("Clip", []string{x, b.scalar(0), b.scalar(1)}) }, "int8", "QuantizeLinear QLinearConv QLinearConv DequantizeLinear Add"},
		"pruned": {func(b *net, x string) string { return b.node("Relu", []string{x}) }, "pruned-int8", "Gather QuantizeLinear QLinearConv Gather QLinearConv DequantizeLinear Add"},
		"sigmoid": {func(b *net, x string) string { return b.node("Sigmoid", []string{x}) }, "int8",
			"QuantizeLinear QLinearConv DequantizeLinear Sigmoid QuantizeLinear QLinearConv DequantizeLinear Add"},
	} {
		b := newNet(1, 16, 8, 8)
		in := b.conv("x", 16, 16, 1, 1, 0, 1, nil)
		x := c.between(b, b.conv(in, 16, 16, 3, 1, 1, 1, nil))
		b.node("Add", []string{in, b.conv(x, 16, 16, 3, 1, 1, 1, nil)})
		n := b.network(t, "block")
		list := candidates(t, &n.Layers[1])
		i := slices.IndexFunc(list, func(x *Candidate) bool { return x.Family == c.family })
		one := list[i : i+1]
		if got := one[0].upTo(2).operators(); got != c.layers {
			t.Errorf("%s, measured: %s, want %s", name, got, c.layers)
		}
		fitted(t, n, 1, noise{n: 40, size: 1024}, one)
		if got := one[0].upTo(2).operators(); got != c.layers {
			t.Errorf("%s, fitted: %s, want %s", name, got, c.layers)
		}
		if one[0].Refusal != nil {
			t.Errorf("%s: %v", name, one[0].Refusal)
		}
		step := one[0].replacements[1].(interface{ outputs() affine }).outputs().scale
		var outputs [][]float32
		for _, g := range []graph{one[0].upTo(2), one[0].replaced(2)} {
			r := testkit.Must(newRunner(g, n.Layers[1].Inputs, []string{"y"}, "all"))(t)
			defer r.Close()
			testkit.OK(t, r.Run(map[string][]byte{in: raw(noise{size: 1024}.numbers(3))}))
			outputs = append(outputs, floats(r.Results[0]))
		}
		for i, y := range outputs[0] {
			if off := y - outputs[1][i]; off > 4*step || off < -4*step {
				t.Errorf("%s: output %d is %v, in floats between %v", name, i, y, outputs[1][i])
				break
			}
		}
	}
}

// What more than one node reads stays, and what the next one's range reaches beyond.
func TestFuseLeavesAlone(t *testing.T) {
	for name, c := range map[string]struct {
		zero  uint8
		again bool
	}{"a range below zero": {3, false}, "another reader": {0, true}} {
		b := builder{prefix: "b"}
		s, z := b.scalar(0.1), b.uint8s(c.zero)
		w := b.int8s(make([]int8, 4), 2, 2, 1, 1)
		ws, wz := b.scalar(1), b.int8s([]int8{0})
		conv := func(x string) string { return b.node("QLinearConv", []string{x, s, z, w, ws, wz, s, z}) }
		relu := b.node("Relu", []string{b.node("DequantizeLinear", []string{conv("x"), s, z})})
		b.node("DequantizeLinear", []string{conv(b.node("QuantizeLinear", []string{relu, s, z})), s, z})
		if c.again {
			b.node("Identity", []string{relu})
		}
		g := graph{&pb.ModelProto{Graph: &pb.GraphProto{Node: b.nodes, Initializer: b.stored}}}
		before := g.operators()
		g.fuse()
		if got := g.operators(); got != before {
			t.Errorf("%s: %s became %s", name, before, got)
		}
	}
}

func (r *quantised) outputs() affine  { return r.out }
func (r *prunedInt8) outputs() affine { return r.inner.out }

package models

import (
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	pb "github.com/terastal/terastal/internal/onnxpb"
)

// basic is the optimisation level whose result is portable, standard ONNX: constants folded, BatchNormalization fused,
// dead nodes gone, functions inlined; no layout changes and no operators of one execution provider.
const basic = "basic"

// simplify has ONNX Runtime write its basic-optimised form of the model, and
// puts the nodes into the order that layers are cut from.
func (m *Model) simplify() error {
	simple, err := m.optimise(m.whole, basic)
	if err != nil {
		return err
	}
	if n := foreign(simple.ModelProto, m.whole.ModelProto); n != nil {
		return fail(ErrUnsupported, m.source, "%s came out of basic optimisation in domain %s, which only ONNX Runtime's "+
			"CPU provider runs", nodeName(n), quote(n.GetDomain()))
	}
	if err := check(m.source+" (simplified)", simple.ModelProto); err != nil {
		return err
	}
	dropStoredInputs(simple.ModelProto)
	g := simple.GetGraph()
	produceOutputs(g)
	g.Node = order(alive(g), g.GetInput())
	g.ValueInfo = nil
	m.graph = simple
	return nil
}

// foreign finds a node in a domain that no node of the given model is in.
func foreign(simple, given *pb.ModelProto) *pb.NodeProto {
	known := map[string]bool{"": true}
	for _, n := range everyNode(given) {
		known[canonicalDomain(n.GetDomain())] = true
	}
	for _, n := range withNested(simple.GetGraph().GetNode()...) {
		if !known[canonicalDomain(n.GetDomain())] {
			return n
		}
	}
	return nil
}

// produceOutputs gives every graph output that was folded into a constant a producing node, an Identity. Outputs that
// are inputs passed through need none: the request's own tensor is the result.
func produceOutputs(g *pb.GraphProto) {
	by := producers(g.GetNode())
	for _, v := range g.GetOutput() {
		name := v.GetName()
		at := slices.IndexFunc(g.GetInitializer(), func(t *pb.TensorProto) bool { return t.GetName() == name })
		if _, made := by[name]; made || at < 0 {
			continue
		}
		constant := name + "/constant"
		g.Initializer[at].Name = proto.String(constant)
		g.Node = append(g.Node, pb.NewNode("Identity", []string{constant}, []string{name}).Named(constant))
	}
}

// alive returns the nodes that graph outputs depend on, sorted.
func alive(g *pb.GraphProto) []*pb.NodeProto {
	nodes, stuck := topological(g.GetNode())
	if stuck != nil {
		panic(fmt.Sprintf("models: %s in a cycle after check", nodeName(stuck)))
	}
	needed := nameSet(g.GetOutput())
	var kept []*pb.NodeProto
	for _, n := range slices.Backward(nodes) {
		if !slices.ContainsFunc(n.GetOutput(), func(out string) bool { return out != "" && needed[out] }) {
			continue
		}
		for _, name := range reads(n) {
			needed[name] = true
		}
		kept = append(kept, n)
	}
	slices.Reverse(kept)
	return kept
}

// order keeps quantised operators whole and constants near their use: a DequantizeLinear, and any node that reads
// constants only, moves down to just before the first node that needs it; a QuantizeLinear moves up to its producer.
// nodes are sorted; inputs are the graph's inputs.
func order(nodes []*pb.NodeProto, inputs []*pb.ValueInfoProto) []*pb.NodeProto {
	by := producers(nodes)
	late := lateNodes(nodes, inputs)
	quantizers := make(map[int][]int) // nodes whose output a QuantizeLinear reads
	for i, n := range nodes {
		if !isQuantize(n) || len(n.GetInput()) == 0 {
			continue
		}
		p, ok := by[n.GetInput()[0]]
		produced := 0
		for _, name := range reads(n) {
			if _, ok := by[name]; ok {
				produced++
			}
		}
		if ok && produced == 1 && !late[i] {
			quantizers[p] = append(quantizers[p], i)
		}
	}
	done := make([]bool, len(nodes))
	sorted := make([]*pb.NodeProto, 0, len(nodes))
	var emit func(i int)
	emit = func(i int) {
		if done[i] {
			return
		}
		done[i] = true
		for _, name := range reads(nodes[i]) {
			if p, ok := by[name]; ok {
				emit(p)
			}
		}
		sorted = append(sorted, nodes[i])
		for _, q := range quantizers[i] {
			emit(q)
		}
	}
	for i := range nodes {
		if !late[i] {
			emit(i)
		}
	}
	for i := range nodes {
		emit(i)
	}
	return sorted
}

// lateNodes marks the nodes that order moves down.
func lateNodes(nodes []*pb.NodeProto, inputs []*pb.ValueInfoProto) []bool {
	varying := nameSet(inputs)
	late := make([]bool, len(nodes))
	for i, n := range nodes {
		constant := !slices.ContainsFunc(reads(n), func(name string) bool { return varying[name] })
		late[i] = constant || isDequantize(n)
		if !constant {
			for _, out := range n.GetOutput() {
				varying[out] = true
			}
		}
	}
	return late
}

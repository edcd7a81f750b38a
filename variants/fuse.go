package variants

import (
	"slices"

	pb "github.com/terastal/terastal/internal/onnxpb"
)

// fuse lets convolutions in 8 bits hand on their outputs in 8 bits to the next ones in the layer, where nothing lies
// between but an activation that clips, which rounding to what the next one reads does anyway, and a choice of channels.
func (g graph) fuse() {
	for _, q := range slices.Clone(g.GetGraph().GetNode()) {
		if q.GetOpType() == "QuantizeLinear" {
			g.fuseInto(q)
		}
	}
	g.prune()
}

// fuseInto removes what stands between a convolution in 8 bits and the node that makes the next one's input.
func (g graph) fuseInto(q *pb.NodeProto) {
	scale, zero := storedFloats(g.stored(q.GetInput()[1])), g.stored(q.GetInput()[2])
	if len(scale) != 1 || len(zero.GetRawData()) != 1 {
		return
	}
	var gone []*pb.NodeProto
	// before is what makes the first input of a node for it alone.
	before := func(n *pb.NodeProto) *pb.NodeProto {
		value := n.GetInput()[0]
		if !g.readOnce(value) {
			return nil
		}
		return g.producer(value)
	}
	at := before(q)
	var gather *pb.NodeProto
	if at.GetOpType() == "Gather" {
		gather, at = at, before(at)
	}
	low, high := negInf, posInf
	if op := at.GetOpType(); op == "Relu" || op == "Clip" {
		low, high = clip(g, at.GetInput()[0])
		gone, at = append(gone, at), before(at)
	}
	if at.GetOpType() != "DequantizeLinear" {
		return
	}
	gone = append(gone, at)
	conv := before(at)
	step, z := scale[0], float32(zero.GetRawData()[0])
	const rounding = 1e-3 // of a step
	if conv.GetOpType() != "QLinearConv" || -(z-rounding)*step < low || (255-z-rounding)*step > high {
		return
	}
	const scaleOut, zeroOut = 6, 7 // the inputs of QLinearConv
	conv.Input[scaleOut], conv.Input[zeroOut] = q.Input[1], q.Input[2]
	last := conv
	if gather != nil {
		last, gather.Input[0] = gather, conv.Output[0]
	}
	last.Output[0] = q.Output[0]
	g.Graph.Node = slices.DeleteFunc(g.Graph.Node, func(n *pb.NodeProto) bool {
		return n == q || slices.Contains(gone, n)
	})
}

// producer is the node that makes a value, nil for inputs and constants.
func (g graph) producer(value string) *pb.NodeProto {
	for _, n := range g.GetGraph().GetNode() {
		if slices.Contains(n.GetOutput(), value) {
			return n
		}
	}
	return nil
}

// readOnce reports whether one node reads a value, once, and nothing else does.
func (g graph) readOnce(value string) bool {
	count := 0
	for _, n := range g.GetGraph().GetNode() {
		for _, in := range n.GetInput() {
			if in == value {
				count++
			}
		}
		read := map[string]bool{}
		for _, sub := range n.Subgraphs() {
			for _, inner := range sub.GetNode() {
				reads(inner, read)
			}
		}
		if read[value] {
			return false
		}
	}
	return count == 1 && !slices.ContainsFunc(g.GetGraph().GetOutput(),
		func(o *pb.ValueInfoProto) bool { return o.GetName() == value })
}

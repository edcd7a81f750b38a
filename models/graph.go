package models

import (
	"container/heap"
	"fmt"
	"slices"
	"sort"

	pb "github.com/terastal/terastal/internal/onnxpb"
)

// nodeName is how messages call a node: many exporters leave names empty.
func nodeName(n *pb.NodeProto) string {
	switch {
	case n.GetName() != "":
		return fmt.Sprintf("node %s (%s)", quote(n.GetName()), quote(n.GetOpType()))
	case len(n.GetOutput()) > 0:
		return fmt.Sprintf("the %s node producing %s", quote(n.GetOpType()), quote(n.GetOutput()[0]))
	}
	return fmt.Sprintf("a node of type %s", quote(n.GetOpType()))
}

// subgraphs visits the graphs in a node's attributes (If, Loop, Scan).
func subgraphs(n *pb.NodeProto, visit func(*pb.GraphProto)) {
	for _, g := range n.Subgraphs() {
		visit(g)
	}
}

// reads visits every value of the enclosing graph that a node reads: its
// inputs, and what its subgraphs capture at any depth. Optional inputs left
// empty are skipped; a value read twice is visited twice.
func reads(n *pb.NodeProto, visit func(string)) {
	for _, name := range n.GetInput() {
		if name != "" {
			visit(name)
		}
	}
	subgraphs(n, func(g *pb.GraphProto) { captures(g, visit) })
}

// captures visits the names that a subgraph uses and does not define.
func captures(g *pb.GraphProto, visit func(string)) {
	own := make(map[string]bool)
	for _, v := range g.GetInput() {
		own[v.GetName()] = true
	}
	for _, t := range g.GetInitializer() {
		own[t.GetName()] = true
	}
	for _, n := range g.GetNode() {
		for _, name := range n.GetOutput() {
			own[name] = true
		}
	}
	outer := func(name string) {
		if !own[name] {
			visit(name)
		}
	}
	for _, n := range g.GetNode() {
		reads(n, outer)
	}
	for _, v := range g.GetOutput() {
		outer(v.GetName())
	}
}

// walkNodes visits nodes and all nodes of their subgraphs.
func walkNodes(nodes []*pb.NodeProto, visit func(*pb.NodeProto)) {
	for _, n := range nodes {
		visit(n)
		subgraphs(n, func(g *pb.GraphProto) { walkNodes(g.GetNode(), visit) })
	}
}

// storedNames is the set of a graph's initialisers.
func storedNames(g *pb.GraphProto) map[string]bool {
	stored := make(map[string]bool)
	for _, t := range g.GetInitializer() {
		stored[t.GetName()] = true
	}
	return stored
}

// producers maps each value to the index of the node that makes it.
func producers(nodes []*pb.NodeProto) map[string]int {
	by := make(map[string]int)
	for i, n := range nodes {
		for _, name := range n.GetOutput() {
			if name != "" {
				by[name] = i
			}
		}
	}
	return by
}

// topological returns the nodes in an order where producers come before
// consumers, keeping the given order wherever it can. When a cycle makes that
// impossible it returns a node of the cycle's downstream.
func topological(nodes []*pb.NodeProto) ([]*pb.NodeProto, *pb.NodeProto) {
	by := producers(nodes)
	waiting := make([]int, len(nodes))
	consumers := make([][]int32, len(nodes))
	for i, n := range nodes {
		reads(n, func(name string) {
			if p, ok := by[name]; ok {
				consumers[p] = append(consumers[p], int32(i))
				waiting[i]++
			}
		})
	}
	var ready indexHeap
	for i := range nodes {
		if waiting[i] == 0 {
			ready.Push(i)
		}
	}
	heap.Init(&ready)
	sorted := make([]*pb.NodeProto, 0, len(nodes))
	for ready.Len() > 0 {
		i := heap.Pop(&ready).(int)
		sorted = append(sorted, nodes[i])
		for _, c := range consumers[i] {
			if waiting[c]--; waiting[c] == 0 {
				heap.Push(&ready, int(c))
			}
		}
	}
	if stuck := slices.IndexFunc(waiting, func(n int) bool { return n > 0 }); stuck >= 0 {
		return nil, nodes[stuck]
	}
	return sorted, nil
}

type indexHeap struct{ sort.IntSlice }

func (h *indexHeap) Push(x any) { h.IntSlice = append(h.IntSlice, x.(int)) }
func (h *indexHeap) Pop() any {
	last := h.IntSlice[len(h.IntSlice)-1]
	h.IntSlice = h.IntSlice[:len(h.IntSlice)-1]
	return last
}

package models

import (
	"container/heap"
	"fmt"
	"maps"
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

// reads are the values of the enclosing graph that a node reads: its inputs, and what its subgraphs capture at any
// depth. Optional inputs left empty are skipped; a value read twice is there twice.
func reads(n *pb.NodeProto) (names []string) {
	for _, name := range n.GetInput() {
		if name != "" {
			names = append(names, name)
		}
	}
	for _, g := range n.Subgraphs() {
		names = append(names, captures(g)...)
	}
	return names
}

// captures are the names that a subgraph uses and does not define.
func captures(g *pb.GraphProto) (used []string) {
	own := nameSet(g.GetInput())
	maps.Copy(own, nameSet(g.GetInitializer()))
	for _, n := range g.GetNode() {
		used = append(used, reads(n)...)
		for _, name := range n.GetOutput() {
			own[name] = true
		}
	}
	for _, v := range g.GetOutput() {
		used = append(used, v.GetName())
	}
	return slices.DeleteFunc(used, func(name string) bool { return own[name] })
}

// withNested are nodes and all nodes of their subgraphs.
func withNested(nodes ...*pb.NodeProto) (list []*pb.NodeProto) {
	for _, n := range nodes {
		list = append(list, n)
		for _, g := range n.Subgraphs() {
			list = append(list, withNested(g.GetNode()...)...)
		}
	}
	return list
}

// everyNode are all nodes of a model, those of subgraphs and functions too.
func everyNode(m *pb.ModelProto) []*pb.NodeProto {
	list := withNested(m.GetGraph().GetNode()...)
	for _, f := range m.GetFunctions() {
		list = append(list, withNested(f.GetNode()...)...)
	}
	return list
}

// nameSet is the set of the names of a graph's inputs, outputs or initialisers.
func nameSet[T interface{ GetName() string }](list []T) map[string]bool {
	set := make(map[string]bool)
	for _, x := range list {
		set[x.GetName()] = true
	}
	return set
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

// topological returns the nodes in an order where producers come before consumers, keeping the given order wherever it
// can. When a cycle makes that impossible it returns a node of the cycle's downstream.
func topological(nodes []*pb.NodeProto) ([]*pb.NodeProto, *pb.NodeProto) {
	by := producers(nodes)
	waiting := make([]int, len(nodes))
	consumers := make([][]int32, len(nodes))
	for i, n := range nodes {
		for _, name := range reads(n) {
			if p, ok := by[name]; ok {
				consumers[p] = append(consumers[p], int32(i))
				waiting[i]++
			}
		}
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

package models

import (
	"math"

	pb "github.com/terastal/terastal/internal/onnxpb"
	"github.com/terastal/terastal/internal/ort"
)

// Bounds on what a model may declare. They keep a damaged or hostile file from
// costing more than a constant times its own size.
const (
	maxDepth        = 32      // nested subgraphs
	maxRank         = 64      // dimensions of a tensor
	maxTensorBytes  = 1 << 33 // one model input
	maxProtobufSize = math.MaxInt32
	newestIR        = 14
)

// check walks a parsed model and returns the first structural fault: what ONNX
// Runtime would need to trust, found before it sees the bytes.
func check(name string, m *pb.ModelProto) error {
	g := m.GetGraph()
	if g == nil {
		return fail(ErrCorrupt, name, "the file holds no graph")
	}
	if v := m.GetIrVersion(); v < 1 || v > newestIR {
		return fail(ErrUnsupported, name, "IR version %d; versions 1 to %d are read, export with an older opset", v, newestIR)
	}
	if len(m.GetOpsetImport()) == 0 {
		return fail(ErrCorrupt, name, "no opset is imported")
	}
	domains := make(map[string]bool)
	for _, o := range m.GetOpsetImport() {
		domain := canonicalDomain(o.GetDomain())
		if domains[domain] {
			return fail(ErrCorrupt, name, "opset domain %s is imported twice", quote(domain))
		}
		domains[domain] = true
	}
	c := checker{name: name}
	if err := c.functions(m.GetFunctions()); err != nil {
		return err
	}
	if len(g.GetNode()) == 0 {
		return fail(ErrUnsupported, name, "the graph has no nodes, so there is nothing to run")
	}
	return c.graph(g, nil, 0)
}

// canonicalDomain spells the default ONNX domain one way.
func canonicalDomain(d string) string {
	if d == "ai.onnx" {
		return ""
	}
	return d
}

type checker struct{ name string }

// values is what a graph's nodes may read: its own names and those around it.
type values struct {
	own   map[string]bool
	outer *values
}

func (v *values) has(name string) bool {
	for ; v != nil; v = v.outer {
		if v.own[name] {
			return true
		}
	}
	return false
}

func (c checker) graph(g *pb.GraphProto, outer *values, depth int) error {
	if depth > maxDepth {
		return fail(ErrUnsupported, c.name, "graph %s: subgraphs are nested more than %d deep", quote(g.GetName()), maxDepth)
	}
	if len(g.GetSparseInitializer()) > 0 {
		return fail(ErrUnsupported, c.name, "sparse initializer %s: export the weights as dense tensors",
			quote(g.GetSparseInitializer()[0].GetValues().GetName()))
	}
	scope := &values{own: make(map[string]bool), outer: outer}
	for _, v := range g.GetInput() {
		if err := c.declare(scope.own, g, "input", v.GetName()); err != nil {
			return err
		}
	}
	stored := make(map[string]bool)
	for _, t := range g.GetInitializer() {
		if err := c.declare(stored, g, "initializer", t.GetName()); err != nil {
			return err
		}
		scope.own[t.GetName()] = true
		if err := c.tensor(t, "initializer "+quote(t.GetName())); err != nil {
			return err
		}
	}
	if err := c.nodes(g.GetNode(), scope, depth); err != nil {
		return err
	}
	seen := make(map[string]bool)
	for _, v := range g.GetOutput() {
		if depth > 0 {
			clear(seen) // a subgraph may give a value more than once
		}
		if err := c.declare(seen, g, "output", v.GetName()); err != nil {
			return err
		}
		if !scope.has(v.GetName()) {
			return fail(ErrCorrupt, c.name, "output %s is produced by no node", quote(v.GetName()))
		}
	}
	if len(g.GetOutput()) == 0 {
		return fail(ErrCorrupt, c.name, "graph %s has no outputs", quote(g.GetName()))
	}
	return nil
}

// declare adds a name to those that a graph declares as what.
func (c checker) declare(names map[string]bool, g *pb.GraphProto, what, name string) error {
	if name == "" {
		return fail(ErrCorrupt, c.name, "graph %s has an %s without a name", quote(g.GetName()), what)
	}
	if names[name] {
		return fail(ErrCorrupt, c.name, "%s %s is declared twice", what, quote(name))
	}
	names[name] = true
	return nil
}

// nodes checks a node list whose graph inputs and initialisers are in scope, and adds what the nodes produce.
func (c checker) nodes(nodes []*pb.NodeProto, scope *values, depth int) error {
	for _, n := range nodes {
		if n.GetOpType() == "" {
			return fail(ErrCorrupt, c.name, "%s has no operator type", nodeName(n))
		}
		for _, out := range n.GetOutput() {
			if out == "" {
				continue
			}
			if scope.own[out] {
				return fail(ErrCorrupt, c.name, "%s: value %s is already defined by another node, input or initializer",
					nodeName(n), quote(out))
			}
			scope.own[out] = true
		}
	}
	for _, n := range nodes {
		for _, in := range n.GetInput() {
			if in != "" && !scope.has(in) {
				return fail(ErrCorrupt, c.name, "%s: input %s is produced by no node, input or initializer", nodeName(n), quote(in))
			}
		}
		if err := c.attributes(n, scope, depth); err != nil {
			return err
		}
	}
	if _, stuck := topological(nodes); stuck != nil {
		return fail(ErrCorrupt, c.name, "%s depends on its own output (the graph has a cycle)", nodeName(stuck))
	}
	return nil
}

func (c checker) attributes(n *pb.NodeProto, scope *values, depth int) error {
	seen := make(map[string]bool)
	for _, a := range n.GetAttribute() {
		if a.GetName() == "" || seen[a.GetName()] {
			return fail(ErrCorrupt, c.name, "%s: attribute %s is nameless or given twice", nodeName(n), quote(a.GetName()))
		}
		seen[a.GetName()] = true
		if a.GetSparseTensor() != nil || len(a.GetSparseTensors()) > 0 {
			return fail(ErrUnsupported, c.name, "%s: attribute %s is a sparse tensor; export it as a dense one",
				nodeName(n), quote(a.GetName()))
		}
		for _, t := range tensorsOf(a) {
			if err := c.tensor(t, nodeName(n)+": attribute "+quote(a.GetName())); err != nil {
				return err
			}
		}
	}
	for _, g := range n.Subgraphs() {
		if err := c.graph(g, scope, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// functions checks the bodies of model-local functions and that none calls itself.
func (c checker) functions(functions []*pb.FunctionProto) error {
	depth := make(map[string]int) // of the calls in each function
	calls := make([]*pb.NodeProto, len(functions))
	for i, f := range functions {
		k := functionKey(f.GetDomain(), f.GetName(), f.GetOverload())
		if _, twice := depth[k]; twice || f.GetName() == "" {
			return fail(ErrCorrupt, c.name, "function %s is nameless or defined twice", quote(f.GetName()))
		}
		depth[k] = 0
		scope := &values{own: make(map[string]bool)}
		for _, in := range f.GetInput() {
			scope.own[in] = true
		}
		if err := c.nodes(f.GetNode(), scope, 0); err != nil {
			return err
		}
		for _, out := range f.GetOutput() {
			if !scope.has(out) {
				return fail(ErrCorrupt, c.name, "function %s: output %s is produced by no node", quote(f.GetName()), quote(out))
			}
		}
		// A call graph is a graph: who is called makes what the caller reads.
		calls[i] = &pb.NodeProto{Name: f.Name, Output: []string{k}}
		for _, n := range withNested(f.GetNode()...) {
			calls[i].Input = append(calls[i].Input, functionKey(n.GetDomain(), n.GetOpType(), n.GetOverload()))
		}
	}
	sorted, wrong := topological(calls)
	for _, f := range sorted {
		for _, callee := range f.GetInput() {
			if below, is := depth[callee]; is {
				depth[f.Output[0]] = max(depth[f.Output[0]], 1+below)
			}
		}
		if depth[f.Output[0]] > maxDepth {
			wrong = f
		}
	}
	if wrong != nil {
		return fail(ErrCorrupt, c.name, "function %s calls itself, or calls are nested more than %d deep",
			quote(wrong.GetName()), maxDepth)
	}
	return nil
}

func functionKey(domain, name, overload string) string {
	return canonicalDomain(domain) + "\x00" + name + "\x00" + overload
}

// tensor checks that a stored tensor holds exactly the data its shape needs.
func (c checker) tensor(t *pb.TensorProto, what string) error {
	bits, ok := elementBits(t.GetDataType())
	if !ok {
		return fail(ErrCorrupt, c.name, "%s has unknown element type %d", what, t.GetDataType())
	}
	if t.GetSegment() != nil {
		return fail(ErrUnsupported, c.name, "%s is stored in segments", what)
	}
	n, ok := elements(t.GetDims())
	if !ok {
		return fail(ErrCorrupt, c.name, "%s has the impossible shape %v", what, head(t.GetDims()))
	}
	if t.GetDataLocation() == pb.TensorProto_EXTERNAL {
		return nil // read, and compared with the shape, by Load
	}
	have, want := int64(0), n
	switch kind := pb.TensorProto_DataType(t.GetDataType()); {
	case kind == pb.TensorProto_STRING:
		have = int64(len(t.GetStringData()))
	case len(t.GetRawData()) > 0:
		have, want = int64(len(t.GetRawData())), packedBytes(n, bits)
	case kind == pb.TensorProto_FLOAT:
		have = int64(len(t.GetFloatData()))
	case kind == pb.TensorProto_COMPLEX64:
		have, want = int64(len(t.GetFloatData())), 2*n
	case kind == pb.TensorProto_DOUBLE:
		have = int64(len(t.GetDoubleData()))
	case kind == pb.TensorProto_COMPLEX128:
		have, want = int64(len(t.GetDoubleData())), 2*n
	case kind == pb.TensorProto_INT64:
		have = int64(len(t.GetInt64Data()))
	case kind == pb.TensorProto_UINT32, kind == pb.TensorProto_UINT64:
		have = int64(len(t.GetUint64Data()))
	case bits < 8:
		have, want = int64(len(t.GetInt32Data())), packedBytes(n, bits)
	default:
		have = int64(len(t.GetInt32Data()))
	}
	if have != want {
		return fail(ErrCorrupt, c.name, "%s has shape %v but holds %d values or bytes instead of %d",
			what, head(t.GetDims()), have, want)
	}
	return nil
}

// head bounds a shape before it reaches a message.
func head(dims []int64) []int64 { return dims[:min(len(dims), 8)] }

// elements is the number of elements of a shape; false for negative sizes, an
// absurd rank, or a product that cannot be addressed.
func elements(dims []int64) (int64, bool) {
	if len(dims) > maxRank {
		return 0, false
	}
	n, zero := int64(1), false
	for _, d := range dims {
		switch {
		case d < 0:
			return 0, false
		case d == 0:
			zero = true
		case n > math.MaxInt64/16/d:
			return 0, false
		default:
			n *= d
		}
	}
	if zero {
		return 0, true
	}
	return n, true
}

func packedBytes(elements, bits int64) int64 { return (elements*bits + 7) / 8 }

// elementBits is the stored size of one element, 0 of text; false for types that do not exist.
func elementBits(kind int32) (int64, bool) {
	switch t := DataType(kind); t {
	case ort.String:
		return 0, true
	case ort.Int4, ort.Uint4, ort.Float4E2M1:
		return 4, true
	case ort.Int2, ort.Uint2:
		return 2, true
	default:
		return int64(8 * t.Size()), t.Size() > 0
	}
}

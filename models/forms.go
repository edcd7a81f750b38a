package models

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	pb "github.com/terastal/terastal/internal/onnxpb"
	"github.com/terastal/terastal/internal/ort"
)

// Form is a layer in a form that some accelerators run: the portable one, or the one that ONNX Runtime's CPU provider
// makes of the layer inside the whole model, whose boundary tensors may be blocked. All forms of a layer compute the
// same; a tensor that the next layer's form wants in another layout is converted on the way (Reorder).
type Form struct {
	// Inputs and Outputs of the form; their IDs are its ONNX value names.
	Inputs, Outputs []Tensor
	// Optimized forms are to be loaded with optimisation "none".
	Optimized bool
	// InPlace[o] is the input whose memory output o should share, or -1. Without sharing, a convolution that adds its
	// result to that input copies it first. It is allowed where no later layer needs the input.
	InPlace []int

	model   func() ([]byte, error)
	results map[string]bool // outputs that are outputs of the model
}

// ONNX is the form as an ONNX model.
func (f *Form) ONNX() ([]byte, error) { return f.model() }

// Chain is the forms of a model's layers as Buffers takes them when each layer has one form only.
func Chain(forms []Form) [][]Form {
	chain := make([][]Form, len(forms))
	for i := range forms {
		chain[i] = forms[i : i+1]
	}
	return chain
}

// Form is the layer's portable form: plain layouts, standard operators.
func (l *Layer) Form() Form {
	return Form{
		Inputs: l.Inputs, Outputs: l.Outputs, InPlace: notInPlace(len(l.Outputs)), model: l.ONNX, results: l.results,
	}
}

func notInPlace(outputs int) []int { return slices.Repeat([]int{-1}, outputs) }

// Portable is the level at which Forms returns portable forms.
const Portable = "none"

// FormLevel is the level whose forms an accelerator runs that optimises at the
// given one: Portable where that keeps layouts as they are.
func FormLevel(optimization string) string {
	switch level := strings.ToLower(optimization); level {
	case "":
		return "all"
	case "all", "layout":
		return level
	}
	return Portable
}

// Forms returns the layers, which Split made of this model, in the form that ONNX Runtime's CPU provider runs at an
// optimisation level: cut after the whole model was optimised, where the level changes layouts ("layout", "all"), else
// the portable form. A model whose optimised graph cannot be cut at the layers' boundaries keeps the portable form too.
func (m *Model) Forms(layers []Layer, optimization string) ([]Form, error) {
	plain := make([]Form, len(layers))
	for i := range layers {
		plain[i] = layers[i].Form()
	}
	level := FormLevel(optimization)
	if level == Portable {
		return plain, nil
	}
	whole, err := m.optimized(layers, level)
	if err != nil {
		return nil, err
	}
	c, err := m.formCutter(whole, layers)
	if err != nil {
		return nil, err
	}
	if forms := c.forms(layers); forms != nil {
		return forms, nil
	}
	return plain, nil
}

// optimized is the model as the CPU provider optimises it, with every boundary
// tensor of the layers kept as an output, so that none is optimised away.
func (m *Model) optimized(layers []Layer, level string) (*document, error) {
	given := m.graph.GetGraph()
	g := &pb.GraphProto{
		Name: given.Name, Node: given.GetNode(), Initializer: given.GetInitializer(),
		Input: given.GetInput(), Output: valueInfos(m.outputs),
	}
	for _, l := range layers {
		for _, t := range l.Outputs {
			if !l.results[t.Name] {
				g.Output = append(g.Output, valueInfo(t))
			}
		}
	}
	whole, err := m.optimise(m.graph.with(g), level)
	if err != nil {
		return nil, err
	}
	produceOutputs(whole.GetGraph())
	return whole, nil
}

// formCutter cuts an optimised model at the layers' boundaries.
type formCutter struct {
	model  *Model
	whole  *document
	nodes  []*pb.NodeProto
	by     map[string]int    // the node that makes a value
	born   map[string]int    // the layer that makes a boundary tensor; -1 for inputs
	twins  map[string]Tensor // values that are boundary tensors in the blocked layout
	twinOf map[string]string // the reverse, by the tensor's name
	stored map[string]bool
}

// domainNCHWc holds ONNX Runtime's operators on blocked tensors.
const domainNCHWc = "com.microsoft.nchwc"

func (m *Model) formCutter(whole *document, layers []Layer) (*formCutter, error) {
	nodes, stuck := topological(whole.GetGraph().GetNode())
	if stuck != nil {
		return nil, fail(ErrRuntime, m.source, "ONNX Runtime's optimised form has a cycle at %s", nodeName(stuck))
	}
	c := &formCutter{
		model: m, whole: whole, nodes: nodes, by: producers(nodes),
		born: make(map[string]int), twins: make(map[string]Tensor), twinOf: make(map[string]string),
		stored: nameSet(whole.GetGraph().GetInitializer()),
	}
	for _, t := range m.inputs {
		c.born[t.Name] = -1
	}
	for i, l := range layers {
		for _, t := range l.Outputs {
			c.born[t.Name] = i
		}
	}
	block := int64(0)
	for _, n := range nodes {
		if n.GetOpType() != "ReorderOutput" || n.GetDomain() != domainNCHWc || n.Attr("channels_last").GetI() != 0 {
			continue
		}
		at, boundary := c.born[n.GetOutput()[0]]
		t := m.tensors[n.GetOutput()[0]]
		if _, taken := c.twins[n.GetInput()[0]]; !boundary || at < 0 || taken || t.Type != ort.Float || len(t.Shape) != 4 {
			continue
		}
		if block == 0 {
			var err error
			if block, err = blockSize(); err != nil {
				return nil, err
			}
		}
		t.Block = block
		c.twins[n.GetInput()[0]] = t
		c.twinOf[t.Name] = n.GetInput()[0]
	}
	return c, nil
}

// piece is what one layer needs of the optimised graph.
type piece struct {
	nodes  map[int]bool
	inputs []string        // values from outside, in order of first use
	known  map[string]bool // values visited
}

// forms cuts; nil when a layer would need a value that is no boundary tensor
// of an earlier one, or heavy work would be done twice.
func (c *formCutter) forms(layers []Layer) []Form {
	pieces := make([]piece, len(layers))
	wanted := make(map[string]bool) // values that a layer reads from an earlier one
	times := make([]int, len(c.nodes))
	for i, l := range layers {
		p := &pieces[i]
		p.nodes, p.known = make(map[int]bool), make(map[string]bool)
		for _, t := range l.Outputs {
			root := t.Name
			if twin, has := c.twinOf[t.Name]; has {
				root = twin
			}
			if !c.collect(p, i, root) {
				return nil
			}
		}
		for _, v := range p.inputs {
			wanted[v] = true
		}
		for n := range p.nodes {
			if times[n]++; times[n] > 1 && isCompute(c.nodes[n]) {
				return nil
			}
		}
	}
	forms := make([]Form, len(layers))
	for i := range layers {
		forms[i] = c.form(&layers[i], &pieces[i], wanted)
		if len(forms[i].Inputs) == 0 {
			return nil
		}
	}
	return forms
}

// collect adds to a layer's piece everything that a value depends on, back to boundary tensors of earlier layers.
func (c *formCutter) collect(p *piece, layer int, value string) bool {
	if p.known[value] || c.stored[value] {
		return true
	}
	p.known[value] = true
	name := value
	if t, twin := c.twins[value]; twin {
		name = t.Name
	}
	if at, boundary := c.born[name]; boundary && at != layer {
		p.inputs = append(p.inputs, value)
		return at < layer
	}
	n, made := c.by[value]
	if !made {
		return false
	}
	if p.nodes[n] {
		return true
	}
	p.nodes[n] = true
	return !slices.ContainsFunc(reads(c.nodes[n]), func(name string) bool { return !c.collect(p, layer, name) })
}

// tensor is the boundary tensor that a value of the optimised graph is.
func (c *formCutter) tensor(value string) Tensor {
	if t, twin := c.twins[value]; twin {
		return t
	}
	return c.model.tensors[value]
}

// form makes the form of a layer whose piece is known. An output leaves in
// every layout in which a later layer of the same accelerator reads it.
func (c *formCutter) form(l *Layer, p *piece, wanted map[string]bool) Form {
	f := Form{Optimized: true, results: l.results}
	for _, v := range p.inputs {
		f.Inputs = append(f.Inputs, c.tensor(v))
	}
	for _, t := range l.Outputs {
		twin, has := c.twinOf[t.Name]
		if has && (wanted[twin] || !wanted[t.Name] && !l.results[t.Name]) {
			f.Outputs = append(f.Outputs, c.twins[twin])
		}
		if !has || wanted[t.Name] || l.results[t.Name] {
			p.nodes[c.by[t.Name]] = true
			f.Outputs = append(f.Outputs, t)
		}
	}
	var nodes []*pb.NodeProto
	for i, n := range c.nodes {
		if p.nodes[i] {
			nodes = append(nodes, n)
		}
	}
	f.InPlace = c.inPlace(nodes, f)
	name := fmt.Sprintf("%s/%d", c.model.name, l.Index)
	f.model = func() ([]byte, error) { return c.onnx(name, nodes, f) }
	return f
}

// inPlace finds the outputs that a convolution adds to an input of the form.
func (c *formCutter) inPlace(nodes []*pb.NodeProto, f Form) []int {
	index := make(map[string]int)
	for i, t := range f.Inputs {
		if t.Block > 0 {
			index[t.ID()] = i
		}
	}
	shared := notInPlace(len(f.Outputs))
	for o, t := range f.Outputs {
		at := slices.IndexFunc(nodes, func(n *pb.NodeProto) bool { return n.GetOutput()[0] == c.twinOf[t.Name] })
		if t.Block == 0 || at < 0 || nodes[at].GetOpType() != "Conv" || len(nodes[at].GetInput()) != 4 {
			continue
		}
		added := nodes[at].GetInput()[3]
		i, outside := index[c.twins[added].ID()]
		if !outside || !slices.Equal(c.twins[added].Shape, t.Shape) {
			continue
		}
		if c.lastReader(nodes, at, added) {
			shared[o] = i
		}
	}
	return shared
}

// lastReader tells whether the node at index at reads a value once, and every
// other node that reads it has run before, because that one depends on it.
func (c *formCutter) lastReader(nodes []*pb.NodeProto, at int, value string) bool {
	reader := func(n *pb.NodeProto) bool { return slices.Contains(reads(n), value) }
	needed := make(map[string]int) // how often by the node at index at, directly or not
	need := func(n *pb.NodeProto) {
		for _, name := range reads(n) {
			needed[name]++
		}
	}
	need(nodes[at])
	if needed[value] != 1 || slices.ContainsFunc(nodes[at+1:], reader) {
		return false
	}
	for _, n := range slices.Backward(nodes[:at]) {
		switch {
		case slices.ContainsFunc(n.GetOutput(), func(out string) bool { return needed[out] > 0 }):
			need(n)
		case reader(n):
			return false
		}
	}
	return true
}

// onnx writes nodes of the optimised graph as a model whose boundary values are called by their tensors' IDs.
func (c *formCutter) onnx(name string, nodes []*pb.NodeProto, f Form) ([]byte, error) {
	g := &pb.GraphProto{
		Name: proto.String(name), Initializer: initializersOf(c.whole.GetGraph(), nodes),
		Input: valueInfos(f.Inputs), Output: valueInfos(f.Outputs),
	}
	for _, n := range nodes {
		n = proto.CloneOf(n)
		for _, inner := range withNested(n) {
			c.rename(inner)
		}
		g.Node = append(g.Node, n)
	}
	d := c.whole.with(g)
	d.OpsetImport = opsets(c.whole.ModelProto, nodes)
	data, err := d.bytes()
	if err != nil {
		return nil, fail(ErrUnsupported, c.model.source, "layer %s: %v", name, err)
	}
	return data, nil
}

// rename calls blocked boundary tensors by their IDs.
func (c *formCutter) rename(n *pb.NodeProto) {
	for _, list := range [][]string{n.Input, n.Output} {
		for i, v := range list {
			if t, twin := c.twins[v]; twin {
				list[i] = t.ID()
			}
		}
	}
}

// Reorder is the model that converts a tensor between its plain and its
// blocked layout: one input and one output, called by the tensors' IDs.
func Reorder(from, to Tensor) (Form, error) {
	f := Form{Inputs: []Tensor{from}, Outputs: []Tensor{to}, Optimized: true, InPlace: notInPlace(1)}
	g := &pb.GraphProto{Name: proto.String("reorder"), Input: valueInfos(f.Inputs), Output: valueInfos(f.Outputs)}
	n := pb.NewNode("ReorderOutput", []string{from.ID()}, []string{to.ID()})
	n.Domain = proto.String(domainNCHWc)
	switch {
	case from.Name != to.Name || len(from.Shape) != 4 || !slices.Equal(from.Shape, to.Shape),
		(from.Block == 0) == (to.Block == 0):
		return Form{}, fmt.Errorf("reorder: %v and %v are not two layouts of one tensor", from, to)
	case to.Block > 0:
		n.OpType = proto.String("ReorderInput")
		if more := -from.Shape[1] & 3; more > 0 { // it takes channels by four
			pads := ort.Data([]int64{0, 0, 0, 0, 0, more, 0, 0})
			g.Initializer = []*pb.TensorProto{pb.NewTensor("pads", ort.Int64, pads, 8)}
			n.Input = []string{"padded"}
			g.Node = []*pb.NodeProto{pb.NewNode("Pad", []string{from.ID(), "pads"}, n.Input)}
		}
	default:
		n.Attribute = []*pb.AttributeProto{pb.NewAttribute("channels", from.Shape[1])}
	}
	g.Node = append(g.Node, n)
	f.model = func() ([]byte, error) { return marshal(withNCHWc(g)) }
	return f, nil
}

// withNCHWc is a model of a graph that uses operators on blocked tensors.
func withNCHWc(g *pb.GraphProto) *pb.ModelProto {
	return pb.NewModel(g, 17, &pb.OperatorSetIdProto{Domain: proto.String(domainNCHWc), Version: proto.Int64(1)})
}

// blockSize asks ONNX Runtime how many channels a block has on this machine: it runs a reorder of zeros.
func blockSize() (int64, error) {
	const channels = 4 // the fewest that can be blocked
	plain := Tensor{Name: "x", Type: ort.Float, Shape: []int64{1, channels, 1, 1}}
	n := pb.NewNode("ReorderInput", []string{"x"}, []string{"y"})
	n.Domain = proto.String(domainNCHWc)
	y := pb.NewValue("y", ort.Float)
	y.Type.GetTensorType().Shape = nil
	data, err := marshal(withNCHWc(&pb.GraphProto{
		Name: proto.String("block"), Node: []*pb.NodeProto{n},
		Input: []*pb.ValueInfoProto{valueInfo(plain)}, Output: []*pb.ValueInfoProto{y},
	}))
	if err != nil {
		return 0, err
	}
	s, err := ort.NewSession(data, nil, nil, ort.Config{Provider: "CPU", Optimization: "none", Threads: 1})
	if err != nil {
		return 0, fmt.Errorf("asking for the block size: %w", err)
	}
	defer s.Close()
	out, err := runOnce(s, []Tensor{plain}, [][]byte{make([]byte, plain.Bytes())}, 1)
	if err != nil {
		return 0, fmt.Errorf("asking for the block size: %w", err)
	}
	defer destroy(out)
	_, shape := ort.Info(out[0])
	if len(shape) != 4 || shape[1] < 1 {
		return 0, fmt.Errorf("asking for the block size: ONNX Runtime answered %v", shape)
	}
	return shape[1], nil
}

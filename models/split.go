package models

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	pb "github.com/terastal/terastal/internal/onnxpb"
)

// Granularity says where to cut a model into layers. The zero value is not a granularity; ParseGranularity makes one.
type Granularity struct {
	kind   string
	least  time.Duration // auto: what a layer must cost
	values []string      // cuts: tensors to cut after
	nodes  []int         // nodes: the first ones of all layers but the first
}

// ParseGranularity reads one of
//
//	op           every compute operator with the cheap ones that follow it
//	block        between operators where a single tensor is alive: residual,
//	             inverted-bottleneck and branch groups stay whole
//	model        no cut
//	auto:200us   op layers merged until each costs that on one CPU core
//	cuts:a,b     after the nodes that produce the named tensors
//	nodes:3,7    before these nodes, counted from 0 after simplification: what
//	             Cut gives, which makes the same layers again
//
// and otherwise returns an error that matches ErrGranularity.
func ParseGranularity(s string) (Granularity, error) {
	kind, argument, given := strings.Cut(s, ":")
	switch {
	case !given && (kind == "op" || kind == "block" || kind == "model"):
		return Granularity{kind: kind}, nil
	case given && kind == "auto":
		least, err := time.ParseDuration(argument)
		if err != nil || least <= 0 {
			return Granularity{}, fmt.Errorf("granularity %q: %q is not a positive duration: %w", s, argument, ErrGranularity)
		}
		return Granularity{kind: kind, least: least}, nil
	case given && kind == "cuts":
		values := strings.Split(argument, ",")
		if !slices.Contains(values, "") {
			return Granularity{kind: kind, values: values}, nil
		}
		return Granularity{}, fmt.Errorf("granularity %q: an empty tensor name: %w", s, ErrGranularity)
	case given && kind == "nodes":
		g := Granularity{kind: kind}
		for field := range strings.SplitSeq(argument, ",") {
			n, err := strconv.Atoi(field)
			if err != nil || n < 1 || len(g.nodes) > 0 && n <= g.nodes[len(g.nodes)-1] {
				return Granularity{}, fmt.Errorf("granularity %q: %q is not a rising list of whole numbers from 1: %w",
					s, argument, ErrGranularity)
			}
			g.nodes = append(g.nodes, n)
		}
		return g, nil
	}
	return Granularity{}, fmt.Errorf("granularity %q: %w", s, ErrGranularity)
}

// String is the form that ParseGranularity reads.
func (g Granularity) String() string {
	switch g.kind {
	case "auto":
		return "auto:" + g.least.String()
	case "cuts":
		return "cuts:" + strings.Join(g.values, ",")
	case "nodes":
		return "nodes:" + strings.ReplaceAll(strings.Trim(fmt.Sprint(g.nodes), "[]"), " ", ",")
	}
	return g.kind
}

// Measures reports whether splitting takes measurements, so that the result can differ from run to run; Cut keeps it.
func (g Granularity) Measures() bool { return g.kind == "auto" }

// Cut is the granularity that splits a model into these layers again, with the same version of ONNX Runtime.
func Cut(layers []Layer) Granularity {
	if len(layers) < 2 {
		return Granularity{kind: "model"}
	}
	g := Granularity{kind: "nodes"}
	node := 0
	for _, l := range layers[:len(layers)-1] {
		node += len(l.nodes)
		g.nodes = append(g.nodes, node)
	}
	return g
}

// Split cuts the model into layers. Every granularity keeps quantised operators together with their QuantizeLinear and
// DequantizeLinear, gives every layer at least one input, and never cuts where a value is alive whose shape depends on
// the data, or that is no tensor of numbers. auto measures, so its result can differ from run to run; the others depend
// on the model and the version of ONNX Runtime alone.
func (m *Model) Split(g Granularity) ([]Layer, error) {
	c := m.cutter()
	var cuts []int
	var err error
	switch g.kind {
	case "model":
	case "op":
		cuts = c.ops()
	case "block":
		cuts = c.blocks()
	case "auto":
		var fine []Layer
		if fine, err = m.layers(c.ops()); err == nil {
			cuts, err = m.costly(fine, g.least)
		}
	case "cuts":
		cuts, err = c.after(g.values)
	case "nodes":
		cuts = g.nodes
		for _, n := range cuts {
			if n >= len(c.nodes) || c.blocked[n] > 0 {
				err = fail(ErrGranularity, m.source, "cannot cut before node %d of %d", n, len(c.nodes))
			}
		}
	default:
		err = fail(ErrGranularity, m.source, "no granularity given")
	}
	if err != nil {
		return nil, err
	}
	return m.layers(cuts)
}

// cutter knows what a cut before each node would separate. A cut is the index
// of the node that starts a layer, 1 to len(nodes)-1.
type cutter struct {
	model   *Model
	nodes   []*pb.NodeProto
	born    map[string]int
	alive   []int // per cut: values made before it and read after it
	blocked []int // per cut: how many reasons forbid it
	late    []bool
}

func (m *Model) cutter() *cutter {
	g := m.graph.GetGraph()
	nodes := g.GetNode()
	c := &cutter{
		model: m, nodes: nodes, born: producers(nodes),
		alive: make([]int, len(nodes)+1), blocked: make([]int, len(nodes)+1),
		late: lateNodes(nodes, g.GetInput()),
	}
	last := make(map[string]int)
	for i, n := range nodes {
		for _, name := range reads(n) {
			last[name] = i
		}
	}
	// Counts of open intervals first, summed up below.
	open := func(count []int, from, to int) {
		if from <= to {
			count[from]++
			count[min(to+1, len(nodes))]--
		}
	}
	for name, at := range c.born {
		end, read := last[name]
		if !read {
			continue
		}
		open(c.alive, at+1, end)
		if t, known := m.tensors[name]; !known || !m.fixed[name] || t.Type.Size() == 0 || isDequantize(nodes[at]) {
			open(c.blocked, at+1, end)
		}
	}
	for i, n := range nodes {
		if !isQuantize(n) || len(n.GetInput()) == 0 {
			continue
		}
		if at, ok := c.born[n.GetInput()[0]]; ok {
			open(c.blocked, at+1, i)
		}
	}
	for i := 1; i <= len(nodes); i++ {
		c.alive[i] += c.alive[i-1]
		c.blocked[i] += c.blocked[i-1]
	}
	return c
}

// ops cuts right before every compute node but the first, if it may.
func (c *cutter) ops() []int {
	return c.perCompute(func(cut, latest int) bool { return cut == latest })
}

// blocks cuts between compute nodes as late as a single tensor is alive.
func (c *cutter) blocks() []int {
	return c.perCompute(func(cut, _ int) bool { return c.alive[cut] == 1 })
}

// perCompute makes at most one cut between each two consecutive compute nodes: the latest one that is allowed and fits.
// latest takes along constants and dequantisers placed right before the second node.
func (c *cutter) perCompute(fits func(cut, latest int) bool) []int {
	var cuts []int
	previous := -1
	for i, n := range c.nodes {
		if !isCompute(n) {
			continue
		}
		latest := i
		for latest > 0 && c.late[latest-1] {
			latest--
		}
		for cut := latest; previous >= 0 && cut > previous; cut-- {
			if c.blocked[cut] == 0 && fits(cut, latest) {
				cuts = append(cuts, cut)
				break
			}
		}
		previous = i
	}
	return cuts
}

func (c *cutter) after(values []string) ([]int, error) {
	at := make(map[int]bool)
	for _, v := range values {
		i, ok := c.born[v]
		why := ""
		switch {
		case !ok:
			why = "no node produces tensor %s after simplification; `terastal models inspect` lists the tensors between layers"
		case i+1 >= len(c.nodes):
			why = "tensor %s comes out of the last node, nothing is left after it"
		case c.blocked[i+1] > 0:
			why = "cannot cut after tensor %s: a quantised operator would be torn apart, or a value alive there holds no " +
				"numbers or has a data-dependent shape"
		}
		if why != "" {
			return nil, fail(ErrGranularity, c.model.source, why, quote(v))
		}
		at[i+1] = true
	}
	return slices.Sorted(maps.Keys(at)), nil
}

// layers builds the layers between the cuts (ascending). Runs of nodes that
// read nothing from outside join the next run, or the last one the previous.
func (m *Model) layers(cuts []int) ([]Layer, error) {
	g := m.graph.GetGraph()
	if len(g.GetNode()) == 0 {
		return nil, fail(ErrUnsupported, m.source, "all outputs are inputs passed through unchanged, so there is nothing "+
			"to run")
	}
	stored := nameSet(g.GetInitializer())
	var runs [][]*pb.NodeProto
	start := 0
	for _, end := range append(slices.Clone(cuts), len(g.GetNode())) {
		run := g.GetNode()[start:end]
		if len(outside(run, stored)) == 0 {
			if end < len(g.GetNode()) {
				continue
			}
			if len(runs) == 0 {
				return nil, fail(ErrUnsupported, m.source, "no node reads an input: the model always gives the same result")
			}
			start -= len(runs[len(runs)-1])
			runs, run = runs[:len(runs)-1], g.GetNode()[start:end]
		}
		runs = append(runs, run)
		start = end
	}
	return m.describe(runs, stored)
}

// outside lists what a run of nodes reads and neither makes nor stores, in order of first use.
func outside(run []*pb.NodeProto, stored map[string]bool) []string {
	known := make(map[string]bool)
	var names []string
	for _, n := range run {
		for _, name := range reads(n) {
			if !known[name] && !stored[name] {
				known[name] = true
				names = append(names, name)
			}
		}
		for _, out := range n.GetOutput() {
			known[out] = true
		}
	}
	return names
}

// describe turns runs of nodes into layers with named boundaries.
func (m *Model) describe(runs [][]*pb.NodeProto, stored map[string]bool) ([]Layer, error) {
	results := make(map[string]bool)
	for _, t := range m.outputs {
		results[t.Name] = true
	}
	needed := make([][]string, len(runs))
	readLater := make(map[string]int) // last run that reads a value from outside
	for i, run := range runs {
		needed[i] = outside(run, stored)
		for _, name := range needed[i] {
			readLater[name] = i
		}
	}
	shape := m.shapes()
	layers := make([]Layer, len(runs))
	for i, run := range runs {
		l := Layer{Index: i, model: m, nodes: run, results: make(map[string]bool)}
		for _, name := range needed[i] {
			l.Inputs = append(l.Inputs, m.tensors[name])
		}
		for _, n := range run {
			for _, name := range n.GetOutput() {
				if name == "" || (readLater[name] <= i && !results[name]) {
					continue
				}
				l.Outputs = append(l.Outputs, m.tensors[name])
				if results[name] {
					l.results[name] = true
				}
			}
		}
		if err := l.describe(shape); err != nil {
			return nil, err
		}
		layers[i] = l
	}
	return layers, nil
}

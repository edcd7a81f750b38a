package ort

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"google.golang.org/protobuf/proto"

	pb "github.com/terastal/terastal/internal/onnxpb"
)

// Probe tells whether a provider really computes on this machine: it opens a model of one matrix product with fallback
// to the CPU off, runs it and checks the numbers. The error says why not. A broken driver can crash the process, so
// probe unknown ones in a child process.
func Probe(c Config) error {
	c.AllowFallback = false
	c.SaveOptimized, c.Engines, c.Profile = "", "", ""
	s, err := NewSession(probeModel(), nil, nil, c)
	if err != nil {
		return err
	}
	defer s.Close()
	in, err := NewTensor(Float, []int64{1, probeSize}, floats(1, 2, 3, 4))
	if err != nil {
		return err
	}
	defer in.Destroy()
	out := []Value{nil}
	if err := s.Run([]Value{in}, out); err != nil {
		return err
	}
	defer out[0].Destroy()
	got, err := Bytes(out[0])
	if err != nil {
		return err
	}
	if want := floats(2, 4, 6, 8); !closeTo(got, want) {
		return errors.New("the provider computes wrong numbers: update its driver")
	}
	return nil
}

const probeSize = 4

// closeTo compares float32s; accelerators may round to 16 bits.
func closeTo(got, want []byte) bool {
	return slices.EqualFunc(Numbers[float32](got), Numbers[float32](want), func(g, w float32) bool {
		return math.Abs(float64(g-w)) <= 0.05*math.Abs(float64(w))
	})
}

func floats(values ...float32) []byte { return Data(values) }

// probeModel is y = x · 2I: a product with a constant matrix is what every provider can do.
func probeModel() []byte {
	weights := make([]float32, probeSize*probeSize)
	for i := range probeSize {
		weights[i*probeSize+i] = 2
	}
	return modelBytes(
		node("MatMul", []string{"x", "w"}, []string{"y"}),
		constant("w", Float, []int64{probeSize, probeSize}, floats(weights...)),
		input("x", Float, 1, probeSize),
		output("y", Float, 1, probeSize),
	)
}

// graphField adds a field to a graph.
type graphField func(*pb.GraphProto)

// modelBytes is a model of the latest operators that these fields make up.
func modelBytes(fields ...graphField) []byte {
	g := &pb.GraphProto{Name: proto.String("graph")}
	for _, add := range fields {
		add(g)
	}
	data, err := proto.Marshal(pb.NewModel(g, 21))
	if err != nil {
		panic(fmt.Sprintf("ort: writing a model: %v", err))
	}
	return data
}

func node(op string, inputs, outputs []string) graphField {
	return func(g *pb.GraphProto) { g.Node = append(g.Node, pb.NewNode(op, inputs, outputs)) }
}

func constant(name string, t DataType, shape []int64, data []byte) graphField {
	return func(g *pb.GraphProto) { g.Initializer = append(g.Initializer, pb.NewTensor(name, t, data, shape...)) }
}

func input(name string, t DataType, shape ...int64) graphField {
	return func(g *pb.GraphProto) { g.Input = append(g.Input, value(name, t, shape)) }
}

func output(name string, t DataType, shape ...int64) graphField {
	return func(g *pb.GraphProto) { g.Output = append(g.Output, value(name, t, shape)) }
}

// value describes a tensor; a negative dimension is a dynamic one.
func value(name string, t DataType, shape []int64) *pb.ValueInfoProto {
	v := pb.NewValue(name, t, shape...)
	for i, d := range v.GetType().GetTensorType().GetShape().GetDim() {
		if shape[i] < 0 {
			d.Value = &pb.TensorShapeProto_Dimension_DimParam{DimParam: fmt.Sprintf("%s_%d", name, i)}
		}
	}
	return v
}

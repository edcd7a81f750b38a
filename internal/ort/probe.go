package ort

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// Probe tells whether a provider really computes on this machine: it opens a
// model of one matrix product with fallback to the CPU off, runs it and checks
// the numbers. The error says why not. A broken driver can crash the process,
// so probe unknown ones in a child process.
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
	if len(got) != len(want) {
		return false
	}
	for i, w := range Numbers[float32](want) {
		if g := Numbers[float32](got)[i]; !(math.Abs(float64(g-w)) <= 0.05*math.Abs(float64(w))) {
			return false
		}
	}
	return true
}

func floats(values ...float32) []byte { return Data(values) }

// probeModel is y = x · 2I: a product with a constant matrix is what every
// provider can do.
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

// The rest writes the few ONNX messages that the model needs, in protobuf's
// wire format; the field numbers are those of onnx.proto.

// graphField is an encoded field of GraphProto.
type graphField []byte

func modelBytes(fields ...graphField) []byte {
	var graph []byte
	for _, f := range fields {
		graph = append(graph, f...)
	}
	graph = append(graph, text(2, "graph")...)
	var model []byte
	model = append(model, number(1, 10)...)             // ir_version
	model = append(model, message(7, graph)...)         // graph
	model = append(model, message(8, number(2, 21))...) // opset_import
	return model
}

func node(op string, inputs, outputs []string, attributes ...[]byte) graphField {
	var n []byte
	for _, s := range inputs {
		n = append(n, text(1, s)...)
	}
	for _, s := range outputs {
		n = append(n, text(2, s)...)
	}
	n = append(n, text(4, op)...)
	for _, a := range attributes {
		n = append(n, message(5, a)...)
	}
	return message(1, n)
}

func constant(name string, t DataType, shape []int64, data []byte) graphField {
	var c []byte
	for _, d := range shape {
		c = append(c, number(1, uint64(d))...)
	}
	c = append(c, number(2, uint64(t))...)
	c = append(c, text(8, name)...)
	c = append(c, message(9, data)...)
	return message(5, c)
}

func input(name string, t DataType, shape ...int64) graphField {
	return message(11, valueInfo(name, t, shape))
}

func output(name string, t DataType, shape ...int64) graphField {
	return message(12, valueInfo(name, t, shape))
}

// valueInfo encodes a ValueInfoProto; a negative dimension is a dynamic one.
func valueInfo(name string, t DataType, shape []int64) []byte {
	var dims []byte
	for i, d := range shape {
		dim := number(1, uint64(d))
		if d < 0 {
			dim = text(2, fmt.Sprintf("%s_%d", name, i))
		}
		dims = append(dims, message(1, dim)...)
	}
	tensorType := append(number(1, uint64(t)), message(2, dims)...)
	return append(text(1, name), message(2, message(1, tensorType))...)
}

func number(field int, v uint64) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(nil, uint64(field)<<3), v)
}

func message(field int, data []byte) []byte {
	b := binary.AppendUvarint(nil, uint64(field)<<3|2)
	b = binary.AppendUvarint(b, uint64(len(data)))
	return append(b, data...)
}

func text(field int, s string) []byte { return message(field, []byte(s)) }

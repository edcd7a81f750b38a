package models

import (
	"bytes"
	"fmt"
	"testing"

	pb "github.com/terastal/terastal/internal/onnxpb"
	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/internal/ort/orttest"
	"github.com/terastal/terastal/internal/sequential"
	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/models/zoo"
)

// Plain to blocked and back gives the same bytes, for any number of channels that a boundary tensor can have.
func TestReorderRoundTrip(t *testing.T) {
	orttest.Start(t)
	block := testkit.Must(blockSize())(t)
	for _, channels := range []int64{1, 2, 3, 4, 5, 8, 24, 30, 64, 65} {
		plain := Tensor{Name: "x", Type: ort.Float, Shape: []int64{2, channels, 3, 5}}
		blocked := plain
		blocked.Block = block
		m := &Model{inputs: []Tensor{plain}}
		data := RandomInputs(m, 1)
		there := convert(t, plain, blocked, data[0])
		if back := convert(t, blocked, plain, there); !bytes.Equal(back, data[0]) {
			t.Errorf("%d channels: the round trip changed the data", channels)
		}
	}
}

func convert(t *testing.T, from, to Tensor, data []byte) []byte {
	t.Helper()
	f := testkit.Must(Reorder(from, to))(t)
	model := testkit.Must(f.ONNX())(t)
	s := testkit.Must(ort.NewSession(model, nil, nil, ort.Config{Optimization: "none"}))(t)
	defer s.Close()
	in := testkit.Must(ort.NewTensor(from.Type, from.Stored(), data))(t)
	defer in.Destroy()
	result := aligned(to.Bytes())
	out := testkit.Must(ort.NewTensor(to.Type, to.Stored(), result))(t)
	defer out.Destroy()
	if err := s.Run([]ort.Value{in}, []ort.Value{out}); err != nil {
		t.Errorf("%v to %v: %v", from, to, err)
	}
	return result
}

// residual is a chain of 3x3 convolutions of the given channels, every second
// one added to the value before it where that has the same shape.
func residual(t testkit.T, channels ...int64) *Model {
	s := &sketch{}
	x, previous := s.input("x", 1, channels[0], 9, 7), ""
	for i, out := range channels[1:] {
		weights := make([]float32, out*channels[i]*9)
		for j := range weights {
			weights[j] = float32((j*31+i*17)%23)/100 - 0.11
		}
		y := fmt.Sprint("v", i)
		s.node("Conv", []string{x, s.floats(weights, out, channels[i], 3, 3)}, y).Attribute = pads(1)
		if previous != "" && i >= 2 && out == channels[i-1] {
			s.node("Add", []string{y, previous}, y+"+")
			y += "+"
		}
		s.node("Relu", []string{y}, y+"r")
		previous, x = x, y+"r"
	}
	s.output(x)
	return s.parse(t)
}

func pads(n int64) []*pb.AttributeProto {
	return []*pb.AttributeProto{pb.NewAttribute("pads", []int64{n, n, n, n})}
}

// Channels that do not fill their last block, and sums in place.
func TestOptimizedFormsOfOddChannels(t *testing.T) {
	orttest.Start(t)
	m := residual(t, 3, 24, 28, 28, 28, 28, 36, 20, 6)
	layers := exact(t, m, "op")
	forms := testkit.Must(m.Forms(layers, "all"))(t)
	blocked, inPlace := 0, 0
	for _, f := range forms {
		if !f.Optimized {
			t.Error("a layer stayed in its portable form")
		}
		for _, out := range f.Outputs {
			if out.Block > 0 {
				blocked++
			}
		}
		for _, i := range f.InPlace {
			if i >= 0 {
				inPlace++
			}
		}
	}
	if blocked < 4 || inPlace < 2 {
		t.Errorf("%d blocked outputs, %d computed in place", blocked, inPlace)
	}
	v := testkit.Must(Verify(m, layers, RandomInputs(m, 1), "all", false))(t)
	if !v.Holds("all") {
		t.Errorf("%+v", v)
	}
}

// Convolutional networks do not lose the optimised forms silently. (Attention
// does: ONNX Runtime moves its scale across a layer's boundary.)
func TestZooHasOptimizedForms(t *testing.T) {
	if testing.Short() {
		t.Skip("large networks")
	}
	sequential.Skip(t)
	orttest.Start(t)
	for _, name := range []string{"inceptionv3", "mobilenetv2_ssdlite", "resnet18"} {
		m := zooModel(t, name)
		layers := cut(t, m, "op")
		forms := testkit.Must(m.Forms(layers, "all"))(t)
		if !forms[0].Optimized {
			t.Errorf("%s: its optimised form could not be cut", name)
		}
		v := testkit.Must(Verify(m, layers, RandomInputs(m, 1), "all", false))(t)
		if !v.Holds("all") {
			t.Errorf("%s: %+v", name, v)
		}
	}
}

func zooModel(t testing.TB, name string) *Model {
	t.Helper()
	data := testkit.Must(zoo.Build(name, 1))(t)
	return testkit.Must(Parse(name, data, Options{}))(t)
}

func cut(t testkit.T, m *Model, granularity string) []Layer {
	t.Helper()
	g := testkit.Must(ParseGranularity(granularity))(t)
	return testkit.Must(m.Split(g))(t)
}

// Memory is shared in place only if every form of the layer may overwrite it.
func TestBuffersInPlace(t *testing.T) {
	x, y := Tensor{Name: "x", Type: ort.Float, Shape: []int64{16}}, Tensor{Name: "y", Type: ort.Float, Shape: []int64{16}}
	first := Form{Outputs: []Tensor{x}, InPlace: []int{-1}}
	form := func(input int) Form {
		return Form{Inputs: []Tensor{x}, Outputs: []Tensor{y}, InPlace: []int{input}, results: map[string]bool{"y": true}}
	}
	late := Form{Inputs: []Tensor{x, y}, InPlace: []int{}}
	for _, c := range []struct {
		what   string
		chain  [][]Form
		shared bool
	}{
		{"in place", [][]Form{{first}, {form(0)}}, true},
		{"both forms in place", [][]Form{{first}, {form(0), form(0)}}, true},
		{"one form reads on", [][]Form{{first}, {form(0), form(-1)}}, false},
		{"a later layer reads the input", [][]Form{{first}, {form(0)}, {late}}, false},
	} {
		offsets, _ := Buffers(c.chain, 64)
		if shared := offsets["x"] == offsets["y"]; shared != c.shared {
			t.Errorf("%s: shared is %t", c.what, shared)
		}
	}
}

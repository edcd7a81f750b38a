package variants

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	pb "github.com/terastal/terastal/internal/onnxpb"
	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/internal/testkit/rig"
	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/variants/internal/chain"
)

// residual is a network of two convolutions with a sum, an activation and a product behind them, in one layer.
func residual(t *testing.T, opset int64) *runtime.Network {
	b := newNet(1, 8, 6, 6)
	b.opset = opset
	x := b.node("Relu", []string{b.conv("x", 8, 8, 3, 1, 1, 1, nil)})
	x = b.node("Add", []string{b.conv(x, 8, 8, 3, 1, 1, 1, nil), "x"})
	x = b.node("Reshape", []string{b.node("Clip", []string{x, b.floats([]float32{-1}), b.floats([]float32{2})}),
		b.ints([]int64{8, 36})})
	b.node("MatMul", []string{x, b.floats(b.random(36*5, 0.2), 36, 5)})
	return b.network(t, "model")
}

// of finds the candidate of a family.
func ofFamily(t *testing.T, l *models.Layer, family string, providers ...string) *Candidate {
	t.Helper()
	list, notes := Candidates(l, Exact, providers...)
	i := slices.IndexFunc(list, func(c *Candidate) bool { return c.Family == family })
	if i < 0 {
		t.Fatalf("no %s: %v", family, notes)
	}
	return list[i]
}

func parsed(t *testing.T, c *Candidate) *pb.GraphProto {
	t.Helper()
	m := new(pb.ModelProto)
	testkit.OK(t, proto.Unmarshal(testkit.Must(c.ONNX())(t), m))
	return m.GetGraph()
}

func count(g *pb.GraphProto, op string) (n int) {
	for _, x := range g.GetNode() {
		if x.GetOpType() == op {
			n++
		}
	}
	return n
}

// In 16 bits the whole of a layer is, between casts of what enters and leaves it; weights take half the room.
func TestNarrowedLayers(t *testing.T) {
	n := residual(t, 17)
	l := &n.Layers[0]
	for family, kind := range map[string]models.DataType{"fp16": ort.Float16, "bf16": ort.BFloat16} {
		c := ofFamily(t, l, family, "cuda")
		g := parsed(t, c)
		if count(g, "Cast") != 2 || len(g.GetNode()) != len(l.Ops)+2 {
			t.Errorf("%s: nodes %v", family, g.GetNode())
		}
		for _, x := range g.GetInitializer() {
			if x.GetDataType() == int32(ort.Float) {
				t.Errorf("%s: constant %s is float32", family, x.GetName())
			}
		}
		for _, x := range slices.Concat(g.GetInput(), g.GetOutput()) {
			if x.GetType().GetTensorType().GetElemType() != int32(ort.Float) {
				t.Errorf("%s: %s is not float32", family, x.GetName())
			}
		}
		if c.Bytes >= 4*l.Parameters || c.Provider != "cuda" || c.Parameters != "cuda" || c.MACs != l.MACs ||
			c.Bytes < 2*l.Parameters {
			t.Errorf("%s: %+v for %d parameters", family, c.Variant, l.Parameters)
		}
		if at := slices.IndexFunc(g.GetInitializer(), func(x *pb.TensorProto) bool { return x.GetDataType() == int32(kind) }); at < 0 {
			t.Errorf("%s: no constant of %v", family, kind)
		}
	}
	// The CPU computes half precision too.
	c := ofFamily(t, l, "fp16", "cuda")
	r := testkit.Must(chain.OpenLayer(l, testkit.Must(c.ONNX())(t)))(t)
	defer r.Close()
	original := testkit.Must(chain.OpenLayer(l, nil))(t)
	defer original.Close()
	in := map[string][]byte{"x": raw(noise{size: 288}.numbers(1))}
	testkit.OK(t, r.Run(in))
	testkit.OK(t, original.Run(in))
	d := testkit.Must(models.Compare(ort.Float, r.Results[0], original.Results[0]))(t)
	if !(d.MaxRel > 1e-6 && d.MaxRel < 5e-3) {
		t.Errorf("half precision differs by %g", d.MaxRel)
	}
}

// Operators that do not take 16 bits stay as they are, between casts, and a value in both forms is cast once.
func TestNarrowedAroundOthers(t *testing.T) {
	b := newNet(1, 4, 6, 6)
	x := b.conv("x", 4, 4, 3, 1, 1, 1, nil)
	y := b.node("LRN", []string{x}, attribute{"size", int64(3)})
	z := b.node("LRN", []string{x}, attribute{"size", int64(1)})
	x = b.node("Add", []string{b.node("Add", []string{x, y}), z})
	b.node("Add", []string{x, b.node("Cast", []string{b.node("Shape", []string{x}, attribute{"start", int64(3)})},
		attribute{"to", int64(ort.Float)})})
	n := b.network(t, "model")
	l := &n.Layers[0]
	g := parsed(t, ofFamily(t, l, "fp16", "webgpu"))
	// x and the end; once out to both LRN, back from each; what is made of the shape, if that was not folded.
	want := 5
	if count(g, "Shape") > 0 {
		want += 2
	}
	if count(g, "LRN") != 2 || count(g, "Cast") != want {
		t.Errorf("casts %d, want %d: %v", count(g, "Cast"), want, g.GetNode())
	}
	r := testkit.Must(chain.OpenLayer(l, testkit.Must(ofFamily(t, l, "fp16", "webgpu").ONNX())(t)))(t)
	defer r.Close()
	testkit.OK(t, r.Run(map[string][]byte{"x": raw(noise{size: 144}.numbers(1))}))
}

// Convolutions take bfloat16 from opset 22 on, which is declared where all of a layer means the same in it; matrix
// products have taken it for longer.
func TestOpsetsOfBrain(t *testing.T) {
	opset := func(c *Candidate) int64 {
		return testkit.Must(parseGraph(testkit.Must(c.ONNX())(t)))(t).opset()
	}
	if got := opset(ofFamily(t, &residual(t, 17).Layers[0], "bf16", "cuda")); got != 22 {
		t.Errorf("declared opset %d", got)
	}
	if got := opset(ofFamily(t, &residual(t, 17).Layers[0], "fp16", "cuda")); got != 17 {
		t.Errorf("half precision declares opset %d", got)
	}
	b := newNet(1, 4, 6, 6)
	b.node("LRN", []string{b.conv("x", 4, 4, 3, 1, 1, 1, nil)}, attribute{"size", int64(3)})
	_, notes := Candidates(&b.network(t, "model").Layers[0], Exact, "cuda")
	if !slices.ContainsFunc(notes, func(err error) bool {
		return strings.Contains(err.Error(), "bf16 does not apply: no convolution or matrix product of it takes bfloat16")
	}) {
		t.Errorf("notes %v", notes)
	}
	b = newNet(5, 8)
	b.node("Softplus", []string{b.node("MatMul", []string{"x", b.floats(b.random(64, 1), 8, 8)})})
	if got := opset(ofFamily(t, &b.network(t, "model").Layers[0], "bf16", "cuda")); got != 17 {
		t.Errorf("a product declares opset %d", got)
	}
}

// TF32 is the layer's own model with an option of CUDA, offered for that provider and for layers that it changes.
func TestTF32Candidates(t *testing.T) {
	n := residual(t, 17)
	c := ofFamily(t, &n.Layers[0], "tf32", "webgpu", "CUDAExecutionProvider", "cpu")
	u := testkit.Must(c.Unit())(t)
	if u.ONNX != nil || u.Provider != "cuda" || u.Options["use_tf32"] != "1" || c.Bytes != 0 {
		t.Errorf("unit %+v, variant %+v", u, c.Variant)
	}
	if sum := SHA256(testkit.Must(c.ONNX())(t)); sum != n.Layers[0].SHA256 || strings.HasSuffix(u.Name, sum[:8]) {
		t.Errorf("%s of a model with SHA-256 %s: the name has to hold the options too", u.Name, sum)
	}
	families := func(l *models.Layer, providers ...string) (names []string) {
		list, _ := Candidates(l, Exact, providers...)
		for _, c := range list {
			if Lower(c.Family) {
				names = append(names, c.String())
			}
		}
		return names
	}
	testkit.Equal(t, []string{"fp16 webgpu", "bf16 webgpu"}, families(&n.Layers[0], "webgpu"))
	testkit.Equal(t, []string{"tf32 cuda", "fp16 cuda", "fp16 openvino", "bf16 cuda", "bf16 openvino"},
		families(&n.Layers[0], "cuda", "openvino"))
	b := newNet(1, 4, 6, 6)
	b.node("Relu", []string{"x"})
	if onCPU, idle := families(&n.Layers[0], "cpu"), families(&b.network(t, "op").Layers[0], "cuda"); len(onCPU)+len(idle) > 0 {
		t.Errorf("candidates on the CPU %v, for a layer without products %v", onCPU, idle)
	}
	if a, b := ofFamily(t, &n.Layers[0], "tf32", "cuda").Shape(), ofFamily(t, &n.Layers[0], "fp16", "cuda").Shape(); a == b {
		t.Error("TF32 and half precision have the same shape")
	}
	if a, b := ofFamily(t, &n.Layers[0], "fp16", "cuda").Shape(), ofFamily(t, &n.Layers[0], "fp16", "webgpu").Shape(); a == b {
		t.Error("candidates for two providers have the same shape")
	}
}

// The error of lower precision is measured on the accelerator: on the CPU TF32 would have none. Where there is nothing
// to compute it on it is refused.
func TestLowerPrecisionIsMeasuredWhereItRuns(t *testing.T) {
	n := residual(t, 17)
	device := rig.Precise(t, "gpu", "cuda")
	opened := 0
	on := NewAccelerators(func(provider string) (runtime.Accelerator, error) {
		if opened++; provider != "cuda" {
			return nil, errors.New("nothing else is here")
		}
		return device, nil
	})
	defer on.Close()
	list, _ := Candidates(&n.Layers[0], Exact, "cuda", "webgpu")
	list = slices.DeleteFunc(list, func(c *Candidate) bool { return !Lower(c.Family) && c.Family != "lowrank" })
	f := testkit.Must(NewFitter(n, noise{n: 20, size: 288}.of(n)))(t)
	defer f.Close()
	f.Accelerators, f.Workers = on, 2
	testkit.OK(t, f.Fit(t.Context(), 0, list, nil, nil))
	found := 0
	for _, c := range list {
		switch c.String() {
		case "tf32 cuda", "fp16 cuda":
			if found++; c.Refusal != nil || !(c.Error > 1e-9 && c.Error < 1e-5) {
				t.Errorf("%s: error %g, %v", c, c.Error, c.Refusal)
			}
		case "bf16 cuda": // as the CPU provider refuses it
			testkit.Fails(t, c.Refusal, "ONNX Runtime refuses it")
		case "fp16 webgpu":
			testkit.Fails(t, c.Refusal, "webgpu: nothing else is here")
		}
	}
	if found != 2 || opened != 2 {
		t.Errorf("%d candidates computed, %d accelerators opened", found, opened)
	}
	c := ofFamily(t, &n.Layers[0], "tf32", "cuda")
	f.Accelerators = nil
	testkit.OK(t, f.Fit(t.Context(), 0, one(c), nil, nil))
	testkit.Fails(t, c.Refusal, "no accelerator to compute it on")
}

// bfloat16 keeps 8 bits of the significand, ties to even, and never becomes infinite.
func TestToBrain(t *testing.T) {
	for x, want := range map[float32]uint16{0: 0, 1: 0x3f80, -1: 0xbf80, 1 + 1.0/256: 0x3f80, 1 + 3.0/256: 0x3f82,
		1 + 1.1/256: 0x3f81, math.MaxFloat32: 0x7f7f, -math.MaxFloat32: 0xff7f, float32(math.Inf(1)): 0x7f7f,
		float32(math.Inf(-1)): 0xff7f, math.SmallestNonzeroFloat32: 0, 3e38: 0x7f62} {
		if got := toBrain(x); got != want {
			t.Errorf("%v: %#x, want %#x", x, got, want)
		}
	}
	if got := toBrain(float32(math.NaN())); got&0x7f80 != 0x7f80 || got&0x7f == 0 {
		t.Errorf("NaN: %#x", got)
	}
}

package ort

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/terastal/terastal/internal/testkit"
	ort "github.com/yalue/onnxruntime_go"
)

// start is orttest.Start, which cannot be imported from inside the package.
func start(t testing.TB) {
	t.Helper()
	if _, err := Start(""); err != nil {
		if os.Getenv("CI") == "" && os.Getenv("TERASTAL_REQUIRE_ORT") != "1" && (errors.Is(err, ErrNotFound) ||
			errors.Is(err, ErrVersion)) {
			t.Skip(err)
		}
		t.Fatal(err)
	}
}

func open(t testing.TB, model []byte, inputs, outputs []string, c Config) *Session {
	t.Helper()
	s := testkit.Must(NewSession(model, inputs, outputs, c))(t)
	t.Cleanup(func() { s.Close() })
	return s
}

func newTensor(t testing.TB, typ DataType, shape []int64, data []byte) Value {
	t.Helper()
	v := testkit.Must(NewTensor(typ, shape, data))(t)
	t.Cleanup(func() { v.Destroy() })
	return v
}

func bytesOf(t testing.TB, v Value) []byte {
	t.Helper()
	return testkit.Must(Bytes(v))(t)
}

// identity is y = x for one type; negative dimensions are dynamic.
func identity(typ DataType, shape ...int64) []byte {
	return modelBytes(node("Identity", []string{"x"}, []string{"y"}), input("x", typ, shape...),
		output("y", typ, shape...))
}

// TestIdentity sends tensors of every type and awkward shapes through ONNX
// Runtime, into tensors of ours and into ones it allocates.
func TestIdentity(t *testing.T) {
	start(t)
	shapes := map[string][]int64{"scalar": {}, "vector": {3}, "empty": {0}, "emptied": {2, 0, 3}, "matrix": {2, 3}}
	for typ := DataType(0); typ <= Int2; typ++ {
		if typ.Size() == 0 {
			continue
		}
		for name, shape := range shapes {
			t.Run(typ.String()+"/"+name, func(t *testing.T) {
				dynamic := slices.Clone(shape)
				for i := range dynamic {
					dynamic[i] = -1
				}
				s, err := NewSession(identity(typ, dynamic...), nil, nil, Config{})
				if err != nil {
					if typ == Float8E8M0 || typ == Complex64 || typ == Complex128 {
						t.Skipf("this ONNX Runtime has no Identity for it: %v", err)
					}
					t.Fatal(err)
				}
				defer s.Close()
				size := testkit.Must(byteSize(typ, shape))(t)
				data := make([]byte, size)
				for i := range data {
					data[i] = byte(i & 1)
				}
				x, y := newTensor(t, typ, shape, data), newTensor(t, typ, shape, make([]byte, size))
				fresh := []Value{nil}
				for _, out := range [][]Value{{y}, fresh} {
					testkit.OK(t, s.Run([]Value{x}, out))
					if got := bytesOf(t, out[0]); !bytes.Equal(got, data) {
						t.Errorf("got %v, want %v", got, data)
					}
					if gotType, gotShape := Info(out[0]); gotType != typ || !slices.Equal(gotShape, shape) {
						t.Errorf("got %s %v, want %s %v", gotType, gotShape, typ, shape)
					}
				}
				fresh[0].Destroy()
				fresh[0].Destroy()
			})
		}
	}
}

func TestNewTensorWrapsItsData(t *testing.T) {
	start(t)
	s := open(t, identity(Float, 2), nil, nil, Config{})
	in, out := floats(1, 2), make([]byte, 8)
	x, y := newTensor(t, Float, []int64{2}, in), newTensor(t, Float, []int64{2}, out)
	copy(in, floats(5, 6))
	testkit.OK(t, s.Run([]Value{x}, []Value{y}))
	if !bytes.Equal(out, floats(5, 6)) {
		t.Errorf("got %v: the data was copied", out)
	}
}

func TestDynamicDimensions(t *testing.T) {
	start(t)
	s := open(t, identity(Float, -1, -1), nil, nil, Config{})
	if shape := s.Inputs()[0].Shape; !slices.Equal(shape, []int64{-1, -1}) {
		t.Errorf("dynamic dimensions are %v, want -1", shape)
	}
}

// noInputs is a model whose only output is a constant.
func noInputs() []byte {
	return modelBytes(
		node("Identity", []string{"c"}, []string{"y"}),
		constant("c", Float, []int64{3}, floats(7, 8, 9)),
		output("y", Float, 3),
	)
}

func TestModelWithoutInputs(t *testing.T) {
	start(t)
	for _, level := range []string{"none", "all"} {
		s := open(t, noInputs(), nil, nil, Config{Optimization: level})
		if len(s.Inputs()) != 0 {
			t.Errorf("inputs: %v", s.Inputs())
		}
		data := make([]byte, 12)
		given := newTensor(t, Float, []int64{3}, data)
		fresh := []Value{nil}
		testkit.OK(t, errors.Join(s.Run(nil, []Value{given}), s.Run([]Value{}, fresh)))
		// What a run gave has to outlive the session it came from.
		testkit.OK(t, s.Close())
		if want := floats(7, 8, 9); !bytes.Equal(data, want) || !bytes.Equal(bytesOf(t, fresh[0]), want) {
			t.Errorf("%s: got %v and %v", level, data, bytesOf(t, fresh[0]))
		}
		fresh[0].Destroy()
	}
}

// twoByTwo has two inputs and two outputs: sum and product.
func twoByTwo() []byte {
	return modelBytes(
		node("Add", []string{"a", "b"}, []string{"sum"}),
		node("Mul", []string{"a", "b"}, []string{"product"}),
		input("a", Float, 2), input("b", Float, 2),
		output("sum", Float, 2), output("product", Float, -1),
	)
}

func TestChoiceAndOrder(t *testing.T) {
	start(t)
	s := open(t, twoByTwo(), []string{"b", "a"}, []string{"product"}, Config{})
	want := "[{b float32 [2]} {a float32 [2]}] [{product float32 [2]}]"
	if got := fmt.Sprint(s.Inputs(), s.Outputs()); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	s.Inputs()[0].Shape[0] = 99
	if s.Inputs()[0].Shape[0] != 2 {
		t.Error("a caller can change the session's description")
	}
	a, b := newTensor(t, Float, []int64{2}, floats(2, 3)), newTensor(t, Float, []int64{2}, floats(5, 7))
	out := []Value{nil}
	testkit.OK(t, s.Run([]Value{b, a}, out))
	defer out[0].Destroy()
	if got := bytesOf(t, out[0]); !bytes.Equal(got, floats(10, 21)) {
		t.Errorf("got %v", got)
	}
}

func TestNewSessionErrors(t *testing.T) {
	start(t)
	for _, c := range []struct {
		name            string
		model           []byte
		inputs, outputs []string
		config          Config
		says            string
	}{
		{"empty", nil, nil, nil, Config{}, "empty"},
		{"garbage", []byte("not a model"), nil, nil, Config{}, "cpu"},
		{"half", twoByTwo()[:50], nil, nil, Config{}, "cpu"},
		{"unknown input", twoByTwo(), []string{"a", "z"}, nil, Config{}, `no input "z": it has ["a" "b"]`},
		{"unknown output", twoByTwo(), nil, []string{"z"}, Config{}, `no output "z": it has ["sum" "product"]`},
		{"input left out", twoByTwo(), []string{"a"}, nil, Config{}, `needs input "b" too`},
		{"input twice", twoByTwo(), []string{"a", "a", "b"}, nil, Config{}, "twice"},
		{"no outputs", twoByTwo(), nil, []string{}, Config{}, "no outputs"},
		{"config", twoByTwo(), nil, nil, Config{Provider: "gpu"}, "unknown provider"},
		{"provider not built in", twoByTwo(), nil, nil, Config{Provider: "snpe"}, "on snpe: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := NewSession(c.model, c.inputs, c.outputs, c.config)
			if err == nil {
				s.Close()
				t.Fatal("opened")
			}
			testkit.Fails(t, err, c.says)
		})
	}
	testkit.Refused(NewSessionFromFile(filepath.Join(t.TempDir(), "gone.onnx"), nil, nil, Config{}))(t, "gone.onnx")
}

func TestRunErrors(t *testing.T) {
	start(t)
	s := open(t, twoByTwo(), nil, nil, Config{})
	two := []int64{2}
	a := newTensor(t, Float, two, floats(1, 2))
	long := newTensor(t, Float, []int64{3}, floats(1, 2, 3))
	ints := newTensor(t, Int32, two, make([]byte, 8))
	gone := newTensor(t, Float, two, floats(1, 2))
	gone.Destroy()
	for _, c := range []struct {
		name    string
		in, out []Value
		says    string
	}{
		{"too few inputs", []Value{a}, []Value{nil, nil}, "2 inputs and 2 outputs, Run got 1 and 2"},
		{"too few outputs", []Value{a, a}, []Value{nil}, "Run got 2 and 1"},
		{"nothing", nil, nil, "Run got 0 and 0"},
		{"nil input", []Value{a, nil}, []Value{nil, nil}, `input "b" is nil`},
		{"destroyed input", []Value{a, gone}, []Value{nil, nil}, `input "b" has been destroyed`},
		{"destroyed output", []Value{a, a}, []Value{gone, nil}, `output "sum" has been destroyed`},
		{"input type", []Value{a, ints}, []Value{nil, nil}, `input "b" is a tensor of float32, got int32`},
		{"output type", []Value{a, a}, []Value{nil, ints}, `output "product" is a tensor of float32, got int32`},
		{"input shape", []Value{a, long}, []Value{nil, nil}, "running a session: "},
		{"output shape", []Value{a, a}, []Value{nil, long}, "running a session: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			testkit.Fails(t, s.Run(c.in, c.out), c.says)
			if len(c.out) == 2 && c.out[0] != gone && c.out[0] != nil {
				t.Error("an output was replaced by a run that failed")
			}
		})
	}
	testkit.OK(t, errors.Join(s.Close(), s.Close()))
	testkit.Fails(t, s.Run([]Value{a, a}, []Value{nil, nil}), ErrClosed)
}

func TestNewTensorErrors(t *testing.T) {
	start(t)
	for _, c := range []struct {
		typ   DataType
		shape []int64
		data  []byte
		says  string
	}{
		{String, []int64{1}, []byte("a"), "strings"},
		{Int4, []int64{2}, []byte{1}, "int4"},
		{DataType(99), []int64{1}, []byte{1}, "DataType(99)"},
		{Float, []int64{2}, make([]byte, 7), "needs 8 bytes, got 7"},
		{Float, nil, nil, "needs 4 bytes, got 0"},
		{Float, []int64{0}, make([]byte, 4), "needs 0 bytes, got 4"},
		{Float, []int64{-1}, make([]byte, 4), "negative"},
		{Float, []int64{1 << 40, 1 << 40}, nil, "larger than memory"},
		{Int8, make([]int64, maxRank+1), nil, "dimensions"},
		{Double, []int64{1}, make([]byte, 16)[1:9], "aligned"},
	} {
		v, err := NewTensor(c.typ, c.shape, c.data)
		testkit.Fails(t, err, c.says)
		if v != nil {
			v.Destroy()
		}
	}
	if _, err := Bytes(nil); err == nil {
		t.Error("Bytes(nil) passed")
	}
	if typ, shape := Info(nil); typ != Undefined || shape != nil {
		t.Errorf("Info(nil) = %s %v", typ, shape)
	}
}

func TestSaveOptimized(t *testing.T) {
	start(t)
	path := filepath.Join(t.TempDir(), "optimised.onnx")
	open(t, twoByTwo(), nil, nil, Config{SaveOptimized: path})
	s := testkit.Must(NewSessionFromFile(path, nil, nil, Config{Optimization: "none"}))(t)
	defer s.Close()
	if len(s.Inputs()) != 2 || len(s.Outputs()) != 2 {
		t.Errorf("got %v, %v", s.Inputs(), s.Outputs())
	}
}

func TestConcurrentRuns(t *testing.T) {
	start(t)
	s := open(t, twoByTwo(), nil, nil, Config{})
	var wait sync.WaitGroup
	for i := range 8 {
		wait.Go(func() {
			a, err := NewTensor(Float, []int64{2}, floats(float32(i), 1))
			if err != nil {
				t.Error(err)
				return
			}
			defer a.Destroy()
			for range 200 {
				out := []Value{nil, nil}
				if err := s.Run([]Value{a, a}, out); err != nil {
					t.Error(err)
					return
				}
				if got, err := Bytes(out[0]); err != nil || !bytes.Equal(got, floats(float32(2*i), 2)) {
					t.Errorf("got %v, %v", got, err)
				}
				out[0].Destroy()
				out[1].Destroy()
			}
		})
	}
	runtime.GC()
	wait.Wait()
}

func TestRunMakesNoGarbage(t *testing.T) {
	start(t)
	s := open(t, twoByTwo(), nil, nil, Config{})
	in := []Value{newTensor(t, Float, []int64{2}, floats(1, 2)), newTensor(t, Float, []int64{2}, floats(1, 2))}
	out := []Value{newTensor(t, Float, []int64{2}, make([]byte, 8)), newTensor(t, Float, []int64{2}, make([]byte, 8))}
	n := testing.AllocsPerRun(100, func() {
		testkit.OK(t, s.Run(in, out))
	})
	if n != 0 {
		t.Errorf("a run makes %v allocations", n)
	}
}

func BenchmarkRun(b *testing.B) {
	start(b)
	s := open(b, twoByTwo(), nil, nil, Config{})
	in := []Value{newTensor(b, Float, []int64{2}, floats(1, 2)), newTensor(b, Float, []int64{2}, floats(1, 2))}
	out := []Value{newTensor(b, Float, []int64{2}, make([]byte, 8)), newTensor(b, Float, []int64{2}, make([]byte, 8))}
	b.ReportAllocs()
	for b.Loop() {
		testkit.OK(b, s.Run(in, out))
	}
}

func TestOneLine(t *testing.T) {
	for in, want := range map[string]string{
		"plain":          "plain",
		"two\n  lines\n": "two lines",
		"Error: /src/webgpu_context.cc:100 f(const T&)::<lambda()> status == OK was false. No adapter": "Error: No adapter",
		"/src/a.cc:1988 ns::P& ns::L::Get() [ONNXRuntimeError] : 1 : FAIL : Failed to load : x.so":     "Failed to load : x.so",
		"[ONNXRuntimeError] : what":   "[ONNXRuntimeError] : what",
		"/src/a.cc:1 f x was false. ": "/src/a.cc:1 f x was false.",
		"this was false. that":        "this was false. that",
	} {
		if got := oneLine(in); got != want {
			t.Errorf("oneLine(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestMarksOfDataTypes(t *testing.T) {
	for typ, want := range map[DataType]string{Float: "float32 4", Int64: "int64 8", String: "string 0",
		BFloat16: "bfloat16 2",
		Int4:     "int4 0", Bool: "bool 1", Undefined: "undefined 0", -1: "DataType(-1) 0", 77: "DataType(77) 0"} {
		if got := fmt.Sprintf("%s %d", typ, typ.Size()); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	for typ, wrapper := range map[DataType]ort.TensorElementDataType{Double: ort.TensorElementDataTypeDouble,
		BFloat16: ort.TensorElementDataTypeBFloat16, Float8E8M0: ort.TensorElementDataTypeFloat8E8M0, Uint2: ort.TensorElementDataTypeUint2,
		Int2: ort.TensorElementDataTypeInt2, Float4E2M1: ort.TensorElementDataTypeFloat4E2M1, Uint4: ort.TensorElementDataTypeUint4} {
		if typ.native() != int32(wrapper) || fromNative(int32(wrapper)) != typ {
			t.Errorf("%s is %d to ONNX Runtime, want %d", typ, typ.native(), wrapper)
		}
	}
}

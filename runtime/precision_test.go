package runtime_test

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"
	"testing"

	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/runtime"
)

func TestPrecision(t *testing.T) {
	for _, c := range []struct {
		provider, option, value string
		want                    float64
	}{
		{"cuda", "", "", 1e-4}, {"cuda", "use_tf32", "0", 1e-4}, {"cuda", "use_tf32", "1", 1e-2},
		{"CUDAExecutionProvider", "use_tf32", "true", 1e-2}, {"", "use_tf32", "1", 1e-4},
		{"tensorrt", "trt_fp16_enable", "1", 2e-2}, {"tensorrt", "trt_fp16_enable", "False", 1e-4},
		{"openvino", "precision", "FP32", 1e-4}, {"openvino", "precision", "fp16", 2e-2},
	} {
		s := runtime.Spec{Name: "x", Provider: c.provider, Options: map[string]string{c.option: c.value}}
		name, got := s.Precision()
		if got != c.want || (name == "") != (got == runtime.Tolerance) {
			t.Errorf("%s %s=%s: %q, %v, want %v", c.provider, c.option, c.value, name, got, c.want)
		}
	}
	both := runtime.Spec{Provider: "tensorrt", Options: map[string]string{"trt_fp16_enable": "1", "trt_int8_enable": "1"}}
	if name, got := both.Precision(); name != "8-bit integers" || got != 2e-1 {
		t.Errorf("the lower one counts: %q, %v", name, got)
	}
}

// inexact is an accelerator that says that it computes in less than float32.
type inexact struct{ runtime.Accelerator }

func (inexact) Tolerance() float64 { return 1e-2 }

// off are outputs of which every number is off by a thousandth.
func off(outputs [][]byte) (out [][]byte) {
	for _, data := range outputs {
		data = bytes.Clone(data)
		for i := 0; i+4 <= len(data); i += 4 {
			x := math.Float32frombits(binary.LittleEndian.Uint32(data[i:]))
			binary.LittleEndian.PutUint32(data[i:], math.Float32bits(x*(1+1e-3)))
		}
		out = append(out, data)
	}
	return out
}

// A sample is held to what the accelerators promise that computed it, also through faults, and no further.
func TestToleranceFits(t *testing.T) {
	never := testkit.Must(runtime.ParseFault("error accelerator=basic after=1000000"))(t)
	d := runtime.NewDrill([]runtime.Fault{never}, 1)
	b := open(t, func(a runtime.Accelerator) runtime.Accelerator {
		if a.Name() == "basic" {
			a = inexact{a}
		}
		return d.Wrap(a)
	}, "op", "model")
	e, r := play(t, b, runtime.Options{})
	check(t, r)
	s := r.Samples[0]
	s.Outputs = off(s.Outputs)
	for last, want := range []runtime.Verification{{Wrong: 1}, {Verified: 1, Tolerance: 1e-2}} {
		s.Ran = slices.Clone(s.Ran)
		for l := range s.Ran {
			s.Ran[l].Accelerator = 0
		}
		s.Ran[len(s.Ran)-1].Accelerator = last
		v := testkit.Must(e.Verify([]runtime.Sample{s}))(t)
		if v.Wrong != want.Wrong || v.Verified != want.Verified || v.Tolerance != want.Tolerance {
			t.Errorf("the last layer on accelerator %d: %+v, want %+v", last, v, want)
		}
	}
}

package runtime_test

import (
	"encoding/binary"
	"math"
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

// inexact computes on the CPU as a device would that rounds to ten bits: all outputs are off by a little, and it says
// so where honest.
type inexact struct {
	runtime.Accelerator
	honest bool
}

func (a *inexact) Tolerance() float64 {
	if a.honest {
		return 1e-2
	}
	return runtime.Tolerance
}

func (a *inexact) Prepare(u runtime.Unit) (runtime.Kernel, error) {
	k, err := a.Accelerator.Prepare(u)
	return rounding{k}, err
}

type rounding struct{ runtime.Kernel }

func (k rounding) Run(in, out []*runtime.Tensor) error {
	err := k.Kernel.Run(in, out)
	for _, t := range out {
		for i := 0; i+4 <= len(t.Data); i += 4 {
			x := math.Float32frombits(binary.LittleEndian.Uint32(t.Data[i:]))
			binary.LittleEndian.PutUint32(t.Data[i:], math.Float32bits(x*(1+1e-3)))
		}
	}
	return err
}

// Outputs are held to what the accelerators that computed them promise, also through faults, and no further.
func TestToleranceFits(t *testing.T) {
	for _, honest := range []bool{false, true} {
		d := runtime.NewDrill([]runtime.Fault{testkit.Must(runtime.ParseFault("error accelerator=basic after=1000000"))(t)}, 1)
		b := open(t, func(a runtime.Accelerator) runtime.Accelerator {
			if a.Name() == "basic" {
				a = &inexact{a, honest}
			}
			return d.Wrap(a)
		}, "op", "model")
		e, r := play(t, b, runtime.Options{})
		check(t, r)
		v := testkit.Must(e.Verify(r.Samples))(t)
		onlyExact, some := 0, 0
		for _, s := range r.Samples {
			exact := true
			for _, ran := range s.Ran {
				exact = exact && ran.Accelerator == 0
			}
			some++
			if exact {
				onlyExact++
			}
		}
		switch {
		case honest && (v.Wrong > 0 || v.Verified == 0 || v.Tolerance != 1e-2):
			t.Errorf("with a tolerance that fits: %+v", v)
		case !honest && (v.Wrong == 0 || v.Tolerance != 0 || v.Wrong != some-onlyExact):
			t.Errorf("float32 that is not: %+v, %d of %d samples ran on the exact accelerator alone", v, onlyExact, some)
		}
	}
}

package runtime

import (
	"slices"
	"strings"

	"github.com/terastal/terastal/internal/ort"
)

// lowered are the options by which providers compute float32 in less, what that is, and by what share of the largest
// magnitude of a tensor outputs may differ then: fractions of 10 bits, of 10 with a small exponent, of 7, and 8-bit
// numbers, through networks of some tens of layers.
var lowered = []struct {
	provider, option, value string // any value but "0" and "false" where it is empty
	name                    string
	tolerance               float64
}{
	{"cuda", "use_tf32", "", "TF32", 1e-2},
	{"tensorrt", "trt_fp16_enable", "", "half precision", 2e-2},
	{"tensorrt", "trt_bf16_enable", "", "bfloat16", 5e-2},
	{"tensorrt", "trt_int8_enable", "", "8-bit integers", 2e-1},
	{"openvino", "precision", "FP16", "half precision", 2e-2},
	{"qnn", "enable_htp_fp16_precision", "", "half precision", 2e-2},
	{"coreml", "AllowLowPrecisionAccumulationOnGPU", "", "half precision", 2e-2},
}

// Precision is what the accelerator's options have it compute float32 in, such as "TF32", and the share of a tensor's
// largest magnitude that outputs may differ by then. It is "" and Tolerance for float32 itself.
func (s Spec) Precision() (name string, tolerance float64) {
	tolerance = Tolerance
	provider := ort.ProviderName(s.Provider)
	for _, l := range lowered {
		v, given := s.Options[l.option]
		if l.provider != provider || !given || l.value != "" && !strings.EqualFold(l.value, v) ||
			slices.Contains([]string{"", "0", "false"}, strings.ToLower(v)) {
			continue
		}
		if l.tolerance > tolerance {
			name, tolerance = l.name, l.tolerance
		}
	}
	return name, tolerance
}

// Tolerance is that of the precision that the options ask for.
func (o opened) Tolerance() float64 {
	_, t := o.spec.Precision()
	return t
}

// toleranceOf is by what share of a tensor's largest magnitude an accelerator's outputs may differ.
func toleranceOf(a Accelerator) float64 {
	if x, says := as[interface{ Tolerance() float64 }](a); says {
		return x.Tolerance()
	}
	return Tolerance
}

// tolerance is that of the accelerator with the least precision that computed a layer of the sample, or of all where
// the sample does not say which did, or of the place where the whole model ran.
func (e *Executor) tolerance(s Sample) float64 {
	if s.Tolerance > 0 {
		return s.Tolerance
	}
	t := Tolerance
	for _, a := range e.accs {
		if s.Ran == nil {
			t = max(t, toleranceOf(a))
		}
	}
	for _, r := range s.Ran {
		t = max(t, toleranceOf(e.accs[r.Accelerator]))
	}
	return t
}

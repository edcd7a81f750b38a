package models

import (
	"math"
	"testing"

	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/internal/testkit"
)

func TestCompare(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for _, test := range []struct {
		name      string
		got, want []float32
		abs, rel  float64
		argmax    bool
	}{
		{"equal", []float32{1, 2}, []float32{1, 2}, 0, 0, true},
		{"share of the largest", []float32{1, 4.5}, []float32{1, 4}, 0.5, 0.125, true},
		{"another largest", []float32{3, 2}, []float32{1, 2}, 2, 1, false},
		{"a NaN is no number", []float32{nan, 2}, []float32{1, 2}, math.NaN(), math.NaN(), false},
		{"NaNs and infinities agree", []float32{nan, inf, 1}, []float32{nan, inf, 2}, 1, 0.5, true},
		{"zeros of both signs agree", []float32{0}, []float32{float32(math.Copysign(0, -1))}, 0, 0, true},
	} {
		d := testkit.Must(Compare(ort.Float, ort.Data(test.got), ort.Data(test.want)))(t)
		same := func(a, b float64) bool { return a == b || math.IsNaN(a) && math.IsNaN(b) }
		if !same(d.MaxAbs, test.abs) || !same(d.MaxRel, test.rel) {
			t.Errorf("%s: got %+v, want %g and %g", test.name, d, test.abs, test.rel)
		}
		if d.Argmax != test.argmax && !math.IsNaN(test.abs) {
			t.Errorf("%s: same largest element %t, want %t", test.name, d.Argmax, test.argmax)
		}
	}
	if d, _ := Compare(ort.Complex64, make([]byte, 8), []byte{1, 0, 0, 0, 0, 0, 0, 0}); !math.IsNaN(d.MaxAbs) {
		t.Errorf("different complex numbers: got %+v, want NaN", d)
	}
	if _, err := Compare(ort.Float, make([]byte, 4), make([]byte, 8)); err == nil {
		t.Error("different lengths: no error")
	}
}

// Every type of numbers is compared as numbers: 3 against 1.
func TestCompareTypes(t *testing.T) {
	for kind, data := range map[DataType][2][]byte{
		ort.Float:    {ort.Data([]float32{3}), ort.Data([]float32{1})},
		ort.Double:   {ort.Data([]float64{3}), ort.Data([]float64{1})},
		ort.Float16:  {ort.Data([]uint16{0x4200}), ort.Data([]uint16{0x3c00})},
		ort.BFloat16: {ort.Data([]uint16{0x4040}), ort.Data([]uint16{0x3f80})},
		ort.Int8:     {{3}, {1}}, ort.Uint8: {{3}, {1}}, ort.Bool: {{3}, {1}},
		ort.Int16: {{3, 0}, {1, 0}}, ort.Uint16: {{3, 0}, {1, 0}},
		ort.Int32: {{3, 0, 0, 0}, {1, 0, 0, 0}}, ort.Uint32: {{3, 0, 0, 0}, {1, 0, 0, 0}},
		ort.Int64: {ort.Data([]int64{3}), ort.Data([]int64{1})}, ort.Uint64: {ort.Data([]uint64{3}), ort.Data([]uint64{1})},
	} {
		if d, err := Compare(kind, data[0], data[1]); err != nil || d.MaxAbs != 2 || d.MaxRel != 2 || !d.Argmax {
			t.Errorf("%v: %+v, %v", kind, d, err)
		}
	}
}

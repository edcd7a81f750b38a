package models

import (
	"encoding/binary"
	"math"
	"testing"

	"github.com/terastal/terastal/internal/ort"
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
		d, err := Compare(ort.Float, encode(test.got), encode(test.want))
		if err != nil {
			t.Fatal(err)
		}
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

func encode(v []float32) []byte {
	var b []byte
	for _, x := range v {
		b = binary.NativeEndian.AppendUint32(b, math.Float32bits(x))
	}
	return b
}

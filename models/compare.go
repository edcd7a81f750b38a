package models

import (
	"bytes"
	"fmt"
	"math"
)

// Difference is how far two tensors are apart.
type Difference struct {
	MaxAbs float64 // largest absolute difference of any element; NaN where only one side is a NaN, or elements differ that are no real numbers
	MaxRel float64 // MaxAbs as a share of the largest finite magnitude of the wanted tensor
	Argmax bool    // the largest element is at the same place
}

// Compare holds the bytes of a tensor against those wanted. Both need the same
// length.
func Compare(kind DataType, got, want []byte) (Difference, error) {
	if len(got) != len(want) {
		return Difference{}, fmt.Errorf("%d bytes against %d", len(got), len(want))
	}
	if bytes.Equal(got, want) {
		return Difference{Argmax: true}, nil
	}
	w, g := floats(kind, want), floats(kind, got)
	if w == nil {
		return Difference{MaxAbs: math.NaN(), MaxRel: math.NaN()}, nil
	}
	d := Difference{Argmax: argmax(w) == argmax(g)}
	most := 0.0
	for i := range w {
		d.MaxAbs = max(d.MaxAbs, distance(w[i], g[i]))
		if !math.IsInf(w[i], 0) && !math.IsNaN(w[i]) {
			most = max(most, math.Abs(w[i]))
		}
	}
	if d.MaxAbs != 0 {
		d.MaxRel = d.MaxAbs / most
	}
	return d, nil
}

// distance is |a-b|, where infinities of one sign and NaNs equal each other.
func distance(a, b float64) float64 {
	if a == b || math.IsNaN(a) && math.IsNaN(b) {
		return 0
	}
	return math.Abs(a - b)
}

func argmax(v []float64) int {
	best := 0
	for i := range v {
		if v[i] > v[best] {
			best = i
		}
	}
	return best
}

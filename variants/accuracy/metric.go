// Package accuracy measures what networks with layer variants keep of the accuracy of the originals: [Prove] computes
// every request of a data set with combinations of the variants and scores it by a [Metric].
package accuracy

import (
	"fmt"
	"strings"

	"github.com/terastal/terastal/models"
)

// Metric judges one request. Applications bring metrics for their own tasks.
type Metric struct {
	// Name says what the number is.
	Name string
	// Score is how good outputs are, the more the better: those of the network, those of the originals on the same
	// inputs, and the label, -1 without one. Its mean over all requests is the accuracy.
	Score func(outputs, originals [][]float32, label int) float64
	// Labels is true when it needs labels.
	Labels bool
}

// Top is the share of requests whose label is among the n largest elements of the first output.
func Top(n int) Metric {
	return Metric{Name: fmt.Sprintf("top-%d", n), Labels: true, Score: func(out, _ [][]float32, label int) float64 {
		larger := 0
		for i, x := range out[0] {
			if x > out[0][label] || x == out[0][label] && i < label || x != x {
				larger++
			}
		}
		if larger < n {
			return 1
		}
		return 0
	}}
}

// Agreement is the share of requests on which the largest element of the first output is in the same place as with the
// originals. This is no accuracy, but all that can be said without labels.
func Agreement() Metric {
	return Metric{Name: "agreement with the original", Score: func(out, original [][]float32, _ int) float64 {
		if largest(out[0]) == largest(original[0]) {
			return 1
		}
		return 0
	}}
}

// Fidelity is 1 less the squared error of all outputs as a share of their size,
// at least 0: for networks whose outputs are not the scores of classes.
func Fidelity() Metric {
	return Metric{Name: "1 - relative output error", Score: func(out, original [][]float32, _ int) float64 {
		e, size := 0.0, 0.0
		for o := range out {
			for i, x := range out[o] {
				off, y := float64(x)-float64(original[o][i]), float64(original[o][i])
				e, size = e+off*off, size+y*y
			}
		}
		if size == 0 {
			size = 1
		}
		return max(0, 1-e/size)
	}}
}

func largest(v []float32) int {
	best := 0
	for i, x := range v {
		if x > v[best] {
			best = i
		}
	}
	return best
}

// Named is the metric of a name, top-1, top-5, agreement or error, for a network with these outputs. Without a name it
// is what suits: top-1 with labels, agreement where the only output is the scores of classes, otherwise error. The
// error wraps [ErrData] where the metric needs labels.
func Named(name string, outputs []models.Tensor, labelled bool) (Metric, error) {
	one := outputs[0]
	classes := len(outputs) == 1 && one.Elements() > 1 && one.Elements() == one.Shape[len(one.Shape)-1]
	switch {
	case strings.HasPrefix(name, "top-") && !labelled:
		return Metric{}, fmt.Errorf("%w: metric %s needs labels: name them under labelled", ErrData, name)
	case name == "top-5":
		return Top(5), nil
	case name == "top-1", name == "" && labelled:
		return Top(1), nil
	case name == "agreement", name == "" && classes:
		return Agreement(), nil
	}
	return Fidelity(), nil
}

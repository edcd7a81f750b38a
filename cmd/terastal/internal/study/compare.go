package study

import (
	"math"

	"gonum.org/v1/gonum/stat"
	"gonum.org/v1/gonum/stat/distuv"
)

// Paired compares the mean miss rates of a and b over the same seeds: the p value of a two-sided paired t test, and 1
// where fewer than two seeds or no differences leave nothing to test.
func Paired(a, b []float64) (p float64) {
	d := make([]float64, min(len(a), len(b)))
	for i := range d {
		d[i] = a[i] - b[i]
	}
	mean, sd := stat.MeanStdDev(d, nil)
	switch {
	case len(d) < 2 || (sd == 0 && mean == 0):
		return 1
	case sd == 0:
		return 0
	}
	t := math.Abs(mean) / (sd / math.Sqrt(float64(len(d))))
	return 2 * distuv.StudentsT{Mu: 0, Sigma: 1, Nu: float64(len(d) - 1)}.Survival(t)
}

package validation

import (
	"cmp"
	"math"
	"slices"

	"github.com/terastal/terastal/internal/stats"
)

// pair is a predicted and a measured value of the same thing, in any unit.
type pair struct{ predicted, measured float64 }

// errorQuantiles are the shares of Agreement.Errors.
var errorQuantiles = [...]float64{.01, .05, .25, .50, .75, .95, .99}

// agree summarises pairs. Those measured as zero or less have no relative error and are left out.
func agree(pairs []pair) Agreement {
	var errs []float64
	var a Agreement
	for _, p := range pairs {
		if !(p.measured > 0) {
			continue
		}
		off := (p.measured - p.predicted) / p.measured
		errs = append(errs, off)
		a.MAPE += math.Abs(off)
		a.Bias += off
		if math.Abs(off) <= 0.05 {
			a.Within5++
		}
		if math.Abs(off) <= 0.10 {
			a.Within10++
		}
	}
	a.N = len(errs)
	if a.N == 0 {
		return a
	}
	n := float64(a.N)
	a.MAPE, a.Bias, a.Within5, a.Within10 = a.MAPE/n, a.Bias/n, a.Within5/n, a.Within10/n
	slices.Sort(errs)
	for _, q := range errorQuantiles {
		a.Errors = append(a.Errors, stats.Quantile(errs, q))
	}
	a.Rank = rank(pairs)
	return a
}

// rank is Spearman's correlation: Pearson's of the ranks, ties sharing the mean
// of theirs. It is nil below three values or where one side is constant.
func rank(pairs []pair) *float64 {
	if len(pairs) < 3 {
		return nil
	}
	x := ranks(pairs, func(p pair) float64 { return p.predicted })
	y := ranks(pairs, func(p pair) float64 { return p.measured })
	mean := float64(len(pairs)-1) / 2
	var xy, xx, yy float64
	for i := range x {
		xy += (x[i] - mean) * (y[i] - mean)
		xx += (x[i] - mean) * (x[i] - mean)
		yy += (y[i] - mean) * (y[i] - mean)
	}
	if xx == 0 || yy == 0 {
		return nil
	}
	r := max(-1, min(1, xy/math.Sqrt(xx*yy)))
	return &r
}

// ranks are the values' positions in order, from 0.
func ranks(pairs []pair, value func(pair) float64) []float64 {
	order := make([]int, len(pairs))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(value(pairs[a]), value(pairs[b])) })
	out := make([]float64, len(pairs))
	for i := 0; i < len(order); {
		j := i
		for j < len(order) && value(pairs[order[j]]) == value(pairs[order[i]]) {
			j++
		}
		for n := i; n < j; n++ {
			out[order[n]] = float64(i+j-1) / 2
		}
		i = j
	}
	return out
}

// median is the middle value; the slice is sorted in place.
func median(xs []float64) float64 {
	slices.Sort(xs)
	n := len(xs)
	switch {
	case n == 0:
		return 0
	case n%2 == 1:
		return xs[n/2]
	}
	return (xs[n/2-1] + xs[n/2]) / 2
}

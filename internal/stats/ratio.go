package stats

import "math"

// Pairs sums N pairs of scores, each from 0 to 1, that depend on each other: those of one input, say.
type Pairs struct {
	N    int
	X, Y float64
}

// Add adds a pair.
func (p *Pairs) Add(x, y float64) {
	p.N, p.X, p.Y = p.N+1, p.X+x, p.Y+y
}

// PairedRatio is the ratio of the sums of X and Y over groups that are independent of each other, with its 95 %
// interval: that of the ratio estimator's linearised variance, with half a difference of either sign added. So groups
// without any difference leave an interval as wide as their number asks for (Agresti and Min, Statistics in Medicine 24,
// 2005, do so for paired shares). All are NaN if the sum of Y is not positive.
func PairedRatio(groups []Pairs) (ratio, low, high float64) {
	var x, y float64
	pairs, count := 0, 0.0
	for _, g := range groups {
		if g.N > 0 {
			x, y, pairs, count = x+g.X, y+g.Y, pairs+g.N, count+1
		}
	}
	if !(y > 0) {
		return math.NaN(), math.NaN(), math.NaN()
	}
	ratio = x / y
	size := float64(pairs) / count // of a group that chance made differ
	sum := size * size
	for _, g := range groups {
		d := g.X - ratio*g.Y
		sum += d * d
	}
	half := Normal95 * math.Sqrt(sum*count/max(1, count-1)) / y
	return ratio, max(0, ratio-half), ratio + half
}

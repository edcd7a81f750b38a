package view

import (
	"math"
)

// interval is a quantity with its 95 % interval.
type interval struct{ value, low, high float64 }

// overlaps reports whether two intervals have a value in common.
func (i interval) overlaps(o interval) bool { return i.low <= o.high && o.low <= i.high }

// percent words the interval; nothing where it is not known.
func (i interval) percent() string {
	if math.IsNaN(i.low) {
		return ""
	}
	return between(percent(i.low), percent(i.high))
}

// z is the normal quantile of a 95 % interval.
const z = 1.959964

// wilson is the score interval of a share of n, which need not be whole.
func wilson(misses int, n float64) interval {
	if n == 0 {
		return interval{0, 0, 1}
	}
	return wilsonOf(float64(misses)/n, n)
}

func wilsonOf(p, n float64) interval {
	d := 1 + z*z/n
	mid := (p + z*z/(2*n)) / d
	half := z / d * math.Sqrt(p*(1-p)/n+z*z/(4*n*n))
	return interval{p, min(p, max(0, mid-half)), max(p, min(1, mid+half))}
}

// blocks is how many parts of a run the clustering of misses is measured from.
const blocks = 20

// tBlocks is the quantile of Student's t of a 95 % interval from a variance between so many blocks.
const tBlocks = 2.093024

// missInterval is the miss rate of requests in order of release. Misses come in clusters, so that n requests say less
// than n independent ones: the variance of the rate between blocks of the run, over that of independent requests, is
// the factor by which n counts less in Wilson's interval (the effective sample size of survey statistics as in Korn and
// Graubard, 1998, with the variance of batch means).
func missInterval(missed []bool) interval {
	n := len(missed)
	total := 0
	for _, m := range missed {
		if m {
			total++
		}
	}
	if n < 2*blocks || total == 0 || total == n {
		return wilson(total, float64(n))
	}
	p := float64(total) / float64(n)
	between := 0.0
	for b := range blocks {
		from, to := b*n/blocks, (b+1)*n/blocks
		k := 0
		for _, m := range missed[from:to] {
			if m {
				k++
			}
		}
		d := float64(k)/float64(to-from) - p
		between += d * d
	}
	between /= blocks - 1
	effect := max(1, between/(p*(1-p)/(float64(n)/blocks))*(tBlocks/z)*(tBlocks/z))
	return wilsonOf(p, float64(n)/effect)
}

// meanOf is the mean of the models' miss rates; its interval adds the distances of theirs in quadrature.
func meanOf(models []outcomes) interval {
	n := float64(len(models))
	if n == 0 {
		return interval{}
	}
	var out interval
	var low, high float64
	for _, m := range models {
		out.value += m.miss.value / n
		low += (m.miss.value - m.miss.low) * (m.miss.value - m.miss.low)
		high += (m.miss.high - m.miss.value) * (m.miss.high - m.miss.value)
	}
	out.low, out.high = max(0, out.value-math.Sqrt(low)/n), min(1, out.value+math.Sqrt(high)/n)
	return out
}

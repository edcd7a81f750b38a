// Package stats holds the order statistics that profiles and metrics share.
package stats

import (
	"cmp"
	"math"
	"slices"
)

// Quantile returns the q-quantile (0 to 1) of sorted values by the nearest-rank method: the smallest value with at
// least a share q of all values at or below it. It returns the zero value when there is none.
func Quantile[T cmp.Ordered](sorted []T, q float64) T {
	var zero T
	if len(sorted) == 0 {
		return zero
	}
	// Less a rounding error: 0.28 * 25 is above 7 in floating point.
	rank := int(math.Ceil(q*float64(len(sorted))*(1-1e-12))) - 1
	return sorted[max(0, min(len(sorted)-1, rank))]
}

// MedianCI returns the order statistics that enclose the median with at least 95 % confidence whatever the distribution
// (exact binomial up to 50 values, normal approximation above), or the extremes when there are too few values (below 6)
// for that.
func MedianCI[T cmp.Ordered](sorted []T) (low, high T) {
	n := len(sorted)
	if n == 0 {
		return low, high
	}
	// The interval is from the k-th smallest value to the k-th largest. It misses the median with probability 2 P(X < k)
	// for X binomial(n, 1/2): k is the largest for which P(X < k) is at most 2.5 %.
	k := 0
	if n <= 50 {
		tail, p := 0.0, math.Pow(0.5, float64(n))
		for i := 0; i < n/2; i++ {
			tail += p
			if tail > 0.025 {
				break
			}
			k = i + 1
			p *= float64(n-i) / float64(i+1)
		}
	} else {
		k = int(math.Floor(float64(n)/2 - 0.98*math.Sqrt(float64(n))))
	}
	k = max(1, min(k, (n+1)/2))
	return sorted[k-1], sorted[n-k]
}

// Sorted returns a sorted copy.
func Sorted[T cmp.Ordered](xs []T) []T {
	out := slices.Clone(xs)
	slices.Sort(out)
	return out
}

// Normal95 is how many standard errors a 95 % interval of a normal quantity reaches to both sides.
const Normal95 = 1.959964

// Wilson is the 95 % score interval of a share p of n, which need not be whole; 0 to 1 of none.
func Wilson(p, n float64) (low, high float64) {
	if n == 0 {
		return 0, 1
	}
	const z = Normal95
	d := 1 + z*z/n
	mid, half := (p+z*z/(2*n))/d, z/d*math.Sqrt(p*(1-p)/n+z*z/(4*n*n))
	return min(p, max(0, mid-half)), max(p, min(1, mid+half))
}

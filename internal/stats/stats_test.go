package stats

import (
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/terastal/terastal/internal/sequential"
)

func TestQuantile(t *testing.T) {
	ten := []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}
	for _, c := range []struct {
		sorted []int
		q      float64
		want   int
	}{
		{nil, 0.5, 0},
		{[]int{7}, 0, 7}, {[]int{7}, 0.5, 7}, {[]int{7}, 1, 7},
		{[]int{1, 2}, 0.5, 1}, {[]int{1, 2}, 0.51, 2},
		{[]int{1, 2, 3}, 0.5, 2},
		{ten, 0, 1}, {ten, 0.1, 1}, {ten, 0.101, 2}, {ten, 0.5, 5}, {ten, 0.9, 9}, {ten, 0.99, 10}, {ten, 1, 10},
	} {
		if got := Quantile(c.sorted, c.q); got != c.want {
			t.Errorf("quantile %v of %v is %d, want %d", c.q, c.sorted, got, c.want)
		}
	}
}

// TestQuantileRank: for every share of a hundredth, the rank is the exact ceiling; 0.07 x 100 must not become 8.
func TestQuantileRank(t *testing.T) {
	ranks := make([]int, 3000)
	for i := range ranks {
		ranks[i] = i + 1
	}
	for n := 1; n <= len(ranks); n++ {
		for percent := range 101 {
			want := max(1, (percent*n+99)/100)
			if got := Quantile(ranks[:n], float64(percent)/100); got != want {
				t.Fatalf("quantile %d %% of %d values has rank %d, want %d", percent, n, got, want)
			}
		}
	}
}

// coverage is the exact probability that the interval from the order statistic of rank low to that of rank high,
// counted from 1, holds the median of any continuous distribution: P(low <= X < high) for X binomial(n, 1/2).
func coverage(n, low, high int) float64 {
	sum := new(big.Int)
	for i := low; i < high; i++ {
		sum.Add(sum, new(big.Int).Binomial(int64(n), int64(i)))
	}
	all := new(big.Int).Lsh(big.NewInt(1), uint(n))
	p, _ := new(big.Rat).SetFrac(sum, all).Float64()
	return p
}

// TestMedianCI: the interval covers the median with at least 95 % wherever the
// extremes can, and up to 50 values is the narrowest symmetric one that does.
func TestMedianCI(t *testing.T) {
	sequential.Skip(t)
	var ranks []int
	for n := 1; n <= 600; n++ {
		ranks = append(ranks, n)
		low, high := MedianCI(ranks)
		if low+high != n+1 {
			t.Errorf("n=%d: ranks %d to %d are not symmetric", n, low, high)
		}
		p := coverage(n, low, high)
		if n < 6 {
			if low != 1 || high != n {
				t.Errorf("n=%d: ranks %d to %d, want the extremes", n, low, high)
			}
			continue
		}
		if p < 0.95 {
			t.Errorf("n=%d: ranks %d to %d cover the median with only %.4f", n, low, high, p)
		}
		if n <= 50 && low+1 < high && coverage(n, low+1, high-1) >= 0.95 {
			t.Errorf("n=%d: ranks %d to %d are wider than need be", n, low, high)
		}
	}
	if low, high := MedianCI[int](nil); low != 0 || high != 0 {
		t.Errorf("no values: %d to %d", low, high)
	}
}

// TestMedianCISimulated counts how often the interval holds the median of a
// skewed distribution, against the exact coverage.
func TestMedianCISimulated(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	const runs = 5000
	const median = 0.6931471805599453 // of the exponential distribution
	for _, n := range []int{6, 11, 30, 75} {
		held := 0
		values := make([]float64, n)
		for range runs {
			for i := range values {
				values[i] = rng.ExpFloat64()
			}
			slices.Sort(values)
			if low, high := MedianCI(values); low <= median && median <= high {
				held++
			}
		}
		// Four standard deviations below 95 % for 5000 runs.
		if share := float64(held) / runs; share < 0.95-0.0123 {
			t.Errorf("n=%d: the interval held the median in %.4f of the runs", n, share)
		}
	}
}

func TestSorted(t *testing.T) {
	in := []int{3, 1, 2}
	if got := Sorted(in); !slices.Equal(got, []int{1, 2, 3}) || !slices.Equal(in, []int{3, 1, 2}) {
		t.Errorf("sorted %v, input now %v", got, in)
	}
}

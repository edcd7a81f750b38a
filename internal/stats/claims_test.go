package stats

import (
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/terastal/terastal/internal/sequential"
)

// TestMinJobsPublished: the counts that LoadGen's documentation gives for the 99th percentile, and those for other
// percentiles that follow from the binomial distribution (docs/NUMBERS.md lists them).
func TestMinJobsPublished(t *testing.T) {
	for _, c := range []struct {
		q, confidence float64
		over, want    int
	}{
		{0.99, 0.99, 0, 459}, {0.99, 0.99, 1, 662}, {0.99, 0.99, 5, 1307},
		{0.90, 0.99, 0, 44}, {0.50, 0.99, 0, 7}, {0.50, 0.99, 1, 11}, {0.90, 0.99, 1, 64}, {0.50, 0.99, 5, 22}, {0.90, 0.99, 5, 127}, {0.90, 0.95, 0, 29}, {0.97, 0.99, 0, 152},
	} {
		if got := MinJobs(c.q, c.confidence, c.over); got != c.want {
			t.Errorf("q %v, confidence %v, %d over: %d jobs, want %d", c.q, c.confidence, c.over, got, c.want)
		}
	}
	if MinJobs(1, 0.99, 0) != math.MaxInt || MinJobs(0.99, 1, 0) != math.MaxInt {
		t.Error("certainty is to be had")
	}
	if Claimable(458, 0.99) || !Claimable(459, 0.99) || Claimable(6, 0.5) || !Claimable(7, 0.5) {
		t.Error("a percentile is claimable from the wrong count on")
	}
}

// TestMinJobs holds the count against exact arithmetic: one job fewer is not enough.
func TestMinJobs(t *testing.T) {
	exact := func(n, over int, percent int64) *big.Rat {
		p, q := big.NewRat(100-percent, 100), big.NewRat(percent, 100)
		sum := new(big.Rat)
		for k := 0; k <= over; k++ {
			term := new(big.Rat).SetInt(new(big.Int).Binomial(int64(n), int64(k)))
			for i := range n {
				if i < k {
					term.Mul(term, p)
				} else {
					term.Mul(term, q)
				}
			}
			sum.Add(sum, term)
		}
		return sum
	}
	limit := big.NewRat(1, 100)
	for _, percent := range []int64{50, 75, 90, 95} {
		for _, over := range []int{0, 1, 2, 7} {
			n := MinJobs(float64(percent)/100, 0.99, over)
			if exact(n, over, percent).Cmp(limit) > 0 || exact(n-1, over, percent).Cmp(limit) <= 0 {
				t.Errorf("p%d with %d over: %d jobs are not the fewest", percent, over, n)
			}
		}
	}
}

// TestSignedRank counts all signs by brute force, with ties and zeros.
func TestSignedRank(t *testing.T) {
	sequential.Skip(t)
	rng := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		d := make([]float64, rng.IntN(11))
		for i := range d {
			d[i] = float64(rng.IntN(9) - 3) // ties, zeros, more positive ones
		}
		want, nonzero := bruteSignedRank(d)
		if p, n := SignedRank(d); n != nonzero || math.Abs(p-want) > 1e-12 {
			t.Fatalf("%v: p %v of %d, want %v of %d", d, p, n, want, nonzero)
		}
	}
}

func bruteSignedRank(d []float64) (p float64, n int) {
	d = slices.DeleteFunc(slices.Clone(d), func(x float64) bool { return x == 0 })
	if len(d) == 0 {
		return 1, 0
	}
	// The mean rank of |x|: the mean of the places it could be sorted to.
	rank := func(x float64) float64 {
		below, equal := 0, 0
		for _, y := range d {
			if math.Abs(y) < math.Abs(x) {
				below++
			} else if math.Abs(y) == math.Abs(x) {
				equal++
			}
		}
		return float64(below) + float64(equal+1)/2
	}
	distance := func(sign func(int) bool) float64 {
		w := 0.0
		for i, x := range d {
			if sign(i) {
				w += rank(x)
			} else {
				w -= rank(x)
			}
		}
		return math.Abs(w)
	}
	seen := distance(func(i int) bool { return d[i] > 0 })
	as := 0
	for signs := range 1 << len(d) {
		if distance(func(i int) bool { return signs>>i&1 == 1 }) >= seen-1e-9 {
			as++
		}
	}
	return float64(as) / float64(int(1)<<len(d)), len(d)
}

// TestSignedRankLarge: the approximation continues where the exact count ends.
func TestSignedRankLarge(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for range 20 {
		d := make([]float64, exactPairs)
		for i := range d {
			d[i] = rng.NormFloat64() + 0.15
		}
		exact, _ := SignedRank(d)
		more, _ := SignedRank(append(d, 1e-9))
		if math.Abs(exact-more) > 0.012 {
			t.Errorf("p is %v of 100 pairs and %v of 101", exact, more)
		}
	}
	// At 20 pairs, where a step of the ranks still shows.
	d, ranks := make([]float64, 20), make([]int, 20)
	for i := range d {
		d[i], ranks[i] = float64(i+1), 2*(i+1)
	}
	for i := 15; i < 20; i++ {
		d[i] = -d[i] // ranks 16 to 20: 90 of 210
	}
	exact, _ := SignedRank(d)
	if near := normalRanks(ranks, 420, 180); math.Abs(exact-near) > 0.01 {
		t.Errorf("p is %v by the normal distribution, %v exactly", near, exact)
	}
	if p, n := SignedRank([]float64{1, 1, 1, 1, 1}); p <= 0.05 || n != 5 {
		t.Errorf("5 pairs give p %v", p)
	}
	if p, _ := SignedRank([]float64{1, 2, 3, 4, 5, 6}); p != 1.0/32 {
		t.Errorf("6 pairs on one side give p %v, want 1/32", p)
	}
}

// TestSignedRankLevel: where there is no difference, at most 5 % of the tests
// find one; where there is one of a standard deviation, most do.
func TestSignedRankLevel(t *testing.T) {
	sequential.Skip(t)
	rng := rand.New(rand.NewPCG(7, 8))
	const runs = 4000
	for _, n := range []int{6, 8, 12, 20} {
		for _, shift := range []float64{0, 1} {
			found := 0
			d := make([]float64, n)
			for range runs {
				for i := range d {
					d[i] = rng.NormFloat64() + shift
				}
				if p, _ := SignedRank(d); p <= 0.05 {
					found++
				}
			}
			share := float64(found) / runs
			// Four standard deviations of a share of 5 % over the runs are 1.4 %.
			if shift == 0 && share > 0.064 || shift == 1 && share < map[int]float64{6: 0.3, 8: 0.55, 12: 0.8, 20: 0.97}[n] {
				t.Errorf("n=%d, shift %v: a difference was found in %.3f of the runs", n, shift, share)
			}
		}
	}
}

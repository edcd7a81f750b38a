package stats

import (
	"cmp"
	"math"
	"slices"
	"sort"
)

// ClaimConfidence is the confidence with which percentiles are claimed, that of MLPerf LoadGen.
const ClaimConfidence = 0.99

// MinJobs is how many jobs it takes to claim, with the given confidence, that a share q of all jobs stays within a
// bound when `over` of those seen exceeded it: the smallest n for which as few as that would have been seen with a
// probability of at most 1 - confidence if the share were q. This is the rule by which MLPerf LoadGen stops early (its
// tolerance being 0): for q = 0.99 it asks for 459, 662 and 1307 jobs with 0, 1 and 5 over. q and confidence lie
// between 0 and 1; no number of jobs is enough to be certain, or for all jobs.
func MinJobs(q, confidence float64, over int) int {
	if !(q < 1 && confidence < 1) {
		return math.MaxInt
	}
	enough := func(n int) bool { return tail(n, over, 1-q) <= 1-confidence }
	high := over + 1
	for !enough(high) {
		high *= 2
	}
	return sort.Search(high, enough)
}

// tail is the probability of at most `most` successes in n trials that succeed with probability p each.
func tail(n, most int, p float64) float64 {
	if most >= n {
		return 1
	}
	sum, logs := 0.0, float64(n)*math.Log1p(-p)
	for k := 0; ; k++ {
		sum += math.Exp(logs)
		if k == most {
			return min(1, sum)
		}
		logs += math.Log(float64(n-k)) - math.Log(float64(k+1)) + math.Log(p) - math.Log1p(-p)
	}
}

// Claimable reports whether n finished jobs are enough to claim a q-quantile of their response times at all: whether,
// with none above it, it would hold with ClaimConfidence. It takes 7 jobs for the median, 44 for the 90th percentile
// and 459 for the 99th.
func Claimable(n int, q float64) bool { return n >= MinJobs(q, ClaimConfidence, 0) }

// exactPairs is up to how many differences SignedRank counts exactly.
const exactPairs = 100

// SignedRank is Wilcoxon's signed-rank test of paired differences: the two-sided probability that ranks as lopsided
// come about when each difference is as likely to be positive as negative. Differences of zero are left out, equal ones
// share their mean rank, and up to 100 differences the probability is counted exactly, ties included; above, it is the
// normal approximation. n is the number of differences that are not zero; fewer than 6 cannot give a probability of 5 %
// or less.
func SignedRank(differences []float64) (p float64, n int) {
	var d []float64
	for _, x := range differences {
		if x != 0 {
			d = append(d, x)
		}
	}
	if n = len(d); n == 0 {
		return 1, 0
	}
	slices.SortFunc(d, func(a, b float64) int { return cmp.Compare(math.Abs(a), math.Abs(b)) })
	// Twice the ranks are whole numbers even where ranks are shared.
	ranks := make([]int, n)
	for i := 0; i < n; {
		j := i
		for j < n && math.Abs(d[j]) == math.Abs(d[i]) {
			j++
		}
		for k := i; k < j; k++ {
			ranks[k] = i + 1 + j
		}
		i = j
	}
	positive, total := 0, 0
	for i, r := range ranks {
		total += r
		if d[i] > 0 {
			positive += r
		}
	}
	extreme := min(positive, total-positive)
	if n > exactPairs {
		return normalRanks(ranks, total, extreme), n
	}
	// ways[s] is the probability that the positive ones among the ranks so far sum up to s.
	ways := make([]float64, total+1)
	ways[0] = 1
	sum := 0
	for _, r := range ranks {
		sum += r
		for s := sum; s >= 0; s-- {
			ways[s] /= 2
			if s >= r {
				ways[s] += ways[s-r] / 2
			}
		}
	}
	for s := range extreme + 1 {
		p += ways[s]
	}
	return min(1, 2*p), n
}

// normalRanks is the two-sided probability of a sum of doubled ranks as far
// from its mean, by the normal distribution with correction for continuity.
func normalRanks(ranks []int, total, extreme int) float64 {
	variance := 0.0
	for _, r := range ranks {
		variance += float64(r) * float64(r) / 4
	}
	z := max(0, float64(total)/2-float64(extreme)-1) / math.Sqrt(variance)
	return math.Erfc(z / math.Sqrt2)
}

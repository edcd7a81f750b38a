package accuracy

import (
	"math"

	"github.com/terastal/terastal/sched/plan"
)

// judge fills in what the scores say, by request and combination, of which the first uses no variants. They are added
// up in the order of requests.
//
// Combinations and the original are scored on the same requests. The variance of the ratio of their means is, by the
// delta method, that of the mean difference between a request's score and the ratio times the original's, over the
// baseline squared. Where scores are right or wrong, one request more is counted as having changed: that none of n did
// does not say that none ever will.
func judge(p *plan.Proof, scores [][]float64) {
	n := float64(len(scores))
	sums, binary := make([]float64, len(p.Sets)), true
	for _, of := range scores {
		for s, x := range of {
			sums[s] += x
			binary = binary && (x == 0 || x == 1)
		}
	}
	if p.Baseline = sums[0] / n; !(p.Baseline > 0) {
		return
	}
	for s, sum := range sums {
		ratio, squares := sum/sums[0], 0.0
		p.Accuracy = append(p.Accuracy, ratio)
		if n < 2 {
			continue
		}
		for _, of := range scores {
			off := of[s] - ratio*of[0]
			squares += off * off
		}
		if binary && p.Sets[s] != 0 {
			squares++
		}
		p.StandardError = append(p.StandardError, math.Sqrt(squares/(n-1)/n)/p.Baseline)
	}
}

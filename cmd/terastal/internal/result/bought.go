package result

import "fmt"

// The policy with and without layer variants.
const (
	withVariants    = "terastal"
	withoutVariants = "terastal-novariants"
)

// Bought says in plain words what layer variants bought: the published policy with them against the same policy
// without, on the same arrivals. It is empty where one of the two was not run, or there are no variants.
func (r *Result) Bought() string {
	var with, without *PolicyResult
	for i := range r.Policies {
		switch p := &r.Policies[i]; p.Policy {
		case withVariants:
			with = p
		case withoutVariants:
			without = p
		}
	}
	planned, requests, metric := 0, 0, ""
	for _, m := range r.Models {
		if planned += m.Variants; m.Variants > 0 && (requests == 0 || m.AccuracyRequests < requests) {
			requests, metric = m.AccuracyRequests, m.AccuracyMetric
		}
	}
	if with == nil || without == nil || planned == 0 {
		return ""
	}
	missed, missedWithout := r.missRate(with), r.missRate(without)
	text := fmt.Sprintf("What layer variants bought: the mean miss rate of %s is %.1f %% with them and %.1f %% without "+
		"(%s); variants ran %.1f %% of its layers", withVariants, 100*missed, 100*missedWithout, fewer(missed, missedWithout),
		100*with.VariantShare())
	if kept := with.AccuracyKept(); kept != nil {
		text += fmt.Sprintf(", and finished requests kept %.2f %% of the accuracy (%s, measured here on %d inputs of each "+
			"model)", 100**kept, metric, requests)
	}
	if r.Comparison == nil || r.Comparison.Repeats < 2 {
		text += ". One run each: `terastal compare` tells a difference from chance"
	}
	return text + "."
}

// missRate is a policy's mean miss rate, the median of repeats where there are any.
func (r *Result) missRate(p *PolicyResult) float64 {
	if r.Comparison != nil {
		for i := range r.Comparison.Policies {
			if c := &r.Comparison.Policies[i]; c.Policy == p.Policy {
				return c.Miss.Median
			}
		}
	}
	return p.MeanMissRate
}

// fewer words the change of a miss rate.
func fewer(with, without float64) string {
	switch {
	case with < without:
		return fmt.Sprintf("%.0f %% fewer misses", 100*(1-with/without))
	case with > without && without > 0:
		return fmt.Sprintf("%.0f %% more misses", 100*(with/without-1))
	case with > without:
		return "more misses"
	}
	return "as many misses"
}

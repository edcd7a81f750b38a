package result

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// spending are the policies that may use layer variants; whatever else ran variants counts as one, too.
var spending = []string{"terastal", "terastal-nobudgets", "terastal-budget", "pedf", "rollout"}

// Bought says in plain words what layer variants bought: how many requests per second the best policy with them answers
// in time, against the best without, on the same arrivals, and at which accuracy. It is empty where one of the two kinds
// was not run, or there are no variants.
func (r *Result) Bought() string {
	planned, inputs, metric := 0, 0, ""
	for _, m := range r.Models {
		if planned += m.Variants; m.Variants > 0 && (inputs == 0 || m.AccuracyRequests < inputs) {
			inputs, metric = m.AccuracyRequests, m.AccuracyMetric
		}
	}
	with, _ := r.best(withVariants)
	without, _ := r.best(func(p *PolicyResult) bool { return !withVariants(p) })
	if with == nil || without == nil || planned == 0 {
		return ""
	}
	rate, other := r.inTime(with.Policy), r.inTime(without.Policy)
	text := fmt.Sprintf("What layer variants bought: with them, %s answered %s requests per second in time, %s %s, the best "+
		"scheduler without them (%s).", with.Policy, perSecond(rate), more(rate, other), without.Policy, perSecond(other))
	if kept := with.delivered(); kept != nil {
		text += fmt.Sprintf(" By the variants that they used, its requests kept %.2f %% of the accuracy (%s, measured here on %d "+
			"inputs of each model%s).", 100**kept, metric, inputs, with.floor())
	}
	if x, ok := r.OnLabels(with.Policy); ok {
		text += fmt.Sprintf(" By the outputs of %d requests on labelled data it is %.2f %% (95 %% interval %.2f to %.2f %%).",
			x.Requests, 100*x.Normalized, 100*x.Low, 100*x.High)
	}
	text += fmt.Sprintf(" Variants ran %.1f %% of its layers. ", 100*with.VariantShare())
	if n := len(r.Later) + 1; n > 1 {
		return text + fmt.Sprintf("Means of %d repeats.", n)
	}
	return text + "One run each: `terastal compare` tells a difference from chance."
}

// delivered is the accuracy of the policy's finished requests over all models, as it is held against floors where there
// are any; nil where it is unknown or none finished.
func (p *PolicyResult) delivered() *float64 {
	sum, all := 0.0, 0
	for i := range p.Models {
		m := &p.Models[i]
		finished, kept := m.Met+m.Late, cmp.Or(m.DeliveredAccuracy, m.NormalizedAccuracy)
		if finished == 0 {
			continue
		}
		if kept == nil {
			return nil
		}
		sum, all = sum+*kept*float64(finished), all+finished
	}
	if all == 0 {
		return nil
	}
	sum /= float64(all)
	return &sum
}

// floor words the accuracy floor that all models with one have in common; empty without.
func (p *PolicyResult) floor() string {
	least := 0.0
	for i := range p.Models {
		x := p.Models[i].AccuracyFloor
		if x != 0 && least != 0 && x != least {
			return ""
		}
		least = max(least, x)
	}
	if least == 0 {
		return ""
	}
	return "; the floor is " + Share(least)
}

// withVariants reports whether a policy may use layer variants, or did.
func withVariants(p *PolicyResult) bool {
	return slices.Contains(spending, p.Policy) || p.VariantShare() > 0
}

// best is the one that answers the most requests in time of those policies that are meant, nil if none was run, and of
// how many it is the best.
func (r *Result) best(meant func(*PolicyResult) bool) (best *PolicyResult, of int) {
	for i := range r.Policies {
		p := &r.Policies[i]
		if !meant(p) {
			continue
		}
		if of++; best == nil || r.inTime(p.Policy) > r.inTime(best.Policy) {
			best = p
		}
	}
	return best, of
}

// inTime is how many requests per second a policy answers in time, the mean over its runs.
func (r *Result) inTime(policy string) float64 {
	met, runs := 0, 0
	add := func(policies []PolicyResult) {
		for i := range policies {
			if p := &policies[i]; p.Policy == policy {
				met, runs = met+p.Met, runs+1
			}
		}
	}
	add(r.Policies)
	for _, x := range r.Later {
		add(x.Policies)
	}
	if runs == 0 || r.Traffic.DurationS <= 0 {
		return 0
	}
	return float64(met) / float64(runs) / r.Traffic.DurationS
}

// more words how one rate compares with another.
func more(rate, other float64) string {
	if math.Abs(rate-other) < 0.05 { // which would be worded as 0.0
		return "as many as"
	}
	word := "more"
	if rate < other {
		word = "fewer"
	}
	share := ""
	if other > 0 {
		share = fmt.Sprintf(" (%.0f %%)", 100*math.Abs(rate/other-1))
	}
	return perSecond(math.Abs(rate-other)) + share + " " + word + " than"
}

// perSecond words a rate: tenths of a request matter where there are few.
func perSecond(rate float64) string {
	if rate >= 100 {
		return fmt.Sprintf("%.0f", rate)
	}
	return fmt.Sprintf("%.1f", rate)
}

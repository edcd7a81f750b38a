// Package comparison holds policies side by side: repeated runs on the same traffic with medians, intervals and tests,
// and how miss rates grow with the rates. It computes; it neither runs nor prints.
package comparison

import "slices"

// Comparison is several policies on the same seeded traffic, repeated.
type Comparison struct {
	Driver string `json:"driver"` // "real" or "simulated"
	// Repeats is how often each policy played; all policies of a repeat got the same arrivals.
	Repeats int `json:"repeats"`
	// Order is, by repeat, the policies as they played one after the other.
	Order [][]string `json:"order"`
	// Confidence is that of the intervals: 0.95, or less with fewer than 6
	// repeats, which also are too few for any difference to be significant.
	Confidence float64 `json:"interval_confidence"`
	// Baseline is the policy that the others are compared with.
	Baseline string `json:"baseline"`
	// AA is the baseline held against itself: it played twice in every repeat.
	// What differs is the machine's noise. Nil if that was not asked for.
	AA       *Policy  `json:"a_a,omitempty"`
	Policies []Policy `json:"policies"`
}

// Policy is what one policy got over the repeats.
type Policy struct {
	Policy string  `json:"policy"`
	Miss   Measure `json:"mean_miss_rate"` // mean over models
	Models []Model `json:"models"`
	// Geomean is the geometric mean over models of the ratio of this policy's
	// P50 response time to the baseline's, where both are known.
	Geomean *float64 `json:"geomean_p50_ratio,omitempty"`
	// PerMet is the energy per request that met its deadline, in joules; nil where it was not metered in every repeat.
	PerMet *Measure `json:"j_per_met,omitempty"`
}

// Model is one model under one policy.
type Model struct {
	Model string  `json:"model"`
	Miss  Measure `json:"miss_rate"`
	P50   Measure `json:"p50_ms"`
	P99   Measure `json:"p99_ms"`
	// Accuracy is what finished requests kept of the accuracy, and Worst the least worst window of all repeats; see
	// [eventlog.ModelMetrics]. Nil where no repeat used variants and nothing was promised, or it is unknown. Floor is what
	// was promised.
	Accuracy *Measure `json:"normalized_accuracy,omitempty"`
	Floor    float64  `json:"accuracy_floor,omitempty"`
	Worst    *float64 `json:"worst_window_accuracy,omitempty"`
}

// UsedVariants reports whether what requests kept of the accuracy is known and was not 1 in all repeats.
func (m *Model) UsedVariants() bool {
	return m.Accuracy != nil && slices.ContainsFunc(m.Accuracy.Values, func(x float64) bool { return x != 1 })
}

// Measure is a quantity over repeats.
type Measure struct {
	// Median of the repeats, with an interval that covers it with 95 % confidence, or, with too few repeats for that, from
	// the lowest to the highest; Values are those of the repeats in their order. There are none for response times if in
	// some repeat no request finished.
	Median float64   `json:"median"`
	Low    float64   `json:"low"`
	High   float64   `json:"high"`
	Values []float64 `json:"values"`
	// Claimed is false where, in some repeat, too few requests finished to say this at all: [stats.Claimable] for response
	// times, [MinMissJobs] for miss rates.
	Claimed bool `json:"claimed"`
	// Against the baseline: the median over repeats of the difference, with its interval, the p value of Wilcoxon's
	// signed-rank test, which is two-sided, and whether it is significant at 5 %. Absent for the baseline, and where this
	// or the baseline's is not claimed.
	Difference     *float64 `json:"difference,omitempty"`
	DifferenceLow  *float64 `json:"difference_low,omitempty"`
	DifferenceHigh *float64 `json:"difference_high,omitempty"`
	P              *float64 `json:"p,omitempty"`
	Significant    bool     `json:"significant,omitempty"`
}

// Package comparison holds policies side by side: repeated runs on the same
// traffic with medians, intervals and tests, and how miss rates grow with the
// rates. It computes; it neither runs nor prints.
package comparison

// Comparison is several policies on the same seeded traffic, repeated.
type Comparison struct {
	Driver string `json:"driver"` // "real" or "simulated"
	// Repeats is how often each policy played; all policies of a repeat got the
	// same arrivals.
	Repeats int `json:"repeats"`
	// Baseline is the policy that the others are compared with.
	Baseline string `json:"baseline"`
	// AA is the baseline held against itself; nil if that was not asked for.
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
}

// Model is one model under one policy.
type Model struct {
	Model string  `json:"model"`
	Miss  Measure `json:"miss_rate"`
	P50   Measure `json:"p50_ms"`
	P99   Measure `json:"p99_ms"`
}

// Measure is a quantity over repeats.
type Measure struct {
	// Median of the repeats, with an interval that covers it with 95 %
	// confidence, or, with too few repeats for that, from the lowest to the
	// highest; Values are those of the repeats in their order.
	Median float64   `json:"median"`
	Low    float64   `json:"low"`
	High   float64   `json:"high"`
	Values []float64 `json:"values"`
	// Claimed is false where too few requests finished to say this at all.
	Claimed bool `json:"claimed"`
	// Against the baseline: the median difference over repeats, its p value,
	// and whether it is significant at 5 %. Absent for the baseline.
	Difference  *float64 `json:"difference,omitempty"`
	P           *float64 `json:"p,omitempty"`
	Significant bool     `json:"significant,omitempty"`
}

// Curves is how miss rates grow with the rates.
type Curves struct {
	Driver string `json:"driver"`
	// Limit is the mean miss rate that a policy may have to sustain a scale.
	Limit  float64 `json:"limit"`
	Curves []Curve `json:"curves"`
}

// Curve is one policy.
type Curve struct {
	Policy string  `json:"policy"`
	Points []Point `json:"points"` // in rising order of scale
	// Sustains is the largest scale found at which the miss rate stays within
	// the limit; Exceeds the smallest above it at which it does not. Nil where
	// all scales looked at are on one side.
	Sustains *float64 `json:"sustains,omitempty"`
	Exceeds  *float64 `json:"exceeds,omitempty"`
}

// Point is one scale.
type Point struct {
	Scale float64 `json:"scale"` // factor on all rates
	Load  float64 `json:"load"`  // demand over the fluid bound
	Miss  float64 `json:"miss_rate"`
	Low   float64 `json:"low"` // 95 % interval
	High  float64 `json:"high"`
	Runs  int     `json:"runs"`
}

// Package validation holds predictions of a run, by this project's simulator or by somebody else's, against what the
// hardware did: layer by layer, job by job, and decision by decision; and says what the two disagree about and why.
package validation

import (
	"math"

	"github.com/terastal/terastal/sched/eventlog"
)

// Validation is one real run held against a prediction of it.
type Validation struct {
	Policy string `json:"policy"`
	// Log is the real run's event log, Predictor what predicted: "simulator" or
	// the names of the files that the predictions came from.
	Log       string `json:"log,omitempty"`
	Predictor string `json:"predictor"`
	// Draws is how many simulations predicted the jobs; 0 where a file did.
	Draws int `json:"draws"`
	// Decisions is how many recorded decisions were replayed through the engine with the run's own durations; Difference
	// describes the first that came out otherwise.
	Decisions  int    `json:"decisions_replayed"`
	Difference string `json:"first_difference,omitempty"`
	// Layers holds all layer runs against what was predicted for each in the state of the machine that it met; Cells the
	// same by layer, implementation and accelerator, those with most disagreement in total first.
	Layers Agreement `json:"layers"`
	Cells  []Cell    `json:"cells"`
	// Models compares jobs, by model; Accelerators utilisation.
	Models       []Model       `json:"models"`
	Accelerators []Accelerator `json:"accelerators"`
	// Sources are what prediction and hardware disagree about, the largest first.
	Sources []Source `json:"sources"`
	// Checks are what a good prediction has to hold, with the limit of each.
	Checks []Check `json:"checks"`
	// Valid is false when the run is too short or too disturbed for its claims; Reasons say why and what to change.
	Valid   bool     `json:"valid"`
	Reasons []string `json:"invalid_reasons,omitempty"`

	traffic string // what has to be the same to compare policies
}

// Agreement says how well predicted values match measured ones. Errors are
// measured minus predicted, as a share of what was measured.
type Agreement struct {
	N        int     `json:"n"`
	MAPE     float64 `json:"mape"`      // mean absolute error
	Bias     float64 `json:"bias"`      // mean signed error
	Within5  float64 `json:"within_5"`  // share within 5 %
	Within10 float64 `json:"within_10"` // and within 10 %
	// Rank is Spearman's rank correlation; absent below 3 values.
	Rank *float64 `json:"rank_correlation,omitempty"`
	// Errors are quantiles of the signed error at 1, 5, 25, 50, 75, 95 and 99 %.
	Errors []float64 `json:"error_quantiles,omitempty"`
}

// Cell is one implementation of a layer on an accelerator.
type Cell struct {
	Model          string  `json:"model"`
	Layer          string  `json:"layer"`
	Implementation string  `json:"implementation"`
	Accelerator    string  `json:"accelerator"`
	Runs           int     `json:"runs"`
	PredictedUS    float64 `json:"predicted_us"` // median over runs of what was predicted for each
	MeasuredUS     float64 `json:"measured_us"`  // median
	Agreement
}

// Model compares the jobs of one model.
type Model struct {
	Model     string   `json:"model"`
	Deadline  float64  `json:"deadline_ms"`
	Real      Outcomes `json:"real"`
	Predicted Outcomes `json:"predicted"`
	// Given is simulated at the pace that the machine had during the run: with the layers' medians of the run, the speed
	// of every accelerator from moment to moment, and the noise around it. It knows what no prediction can, and says how
	// much of a disagreement is the machine's and how much the simulator's. Absent where a file predicted.
	Given *Outcomes `json:"given_pace,omitempty"`
	// Jobs matches the response times of jobs that finished in both, release by release.
	Jobs Agreement `json:"requests"`
}

// Outcomes is what one model's jobs got. Response times are from the scheduled release, in milliseconds; Quantiles
// holds those at 1 to 99 %, in steps of one, over jobs that finished.
type Outcomes struct {
	eventlog.Totals
	MissRate     float64   `json:"miss_rate"`
	MissLow      float64   `json:"miss_rate_low"` // 95 % interval
	MissHigh     float64   `json:"miss_rate_high"`
	P50MS        float64   `json:"p50_ms"`
	P90MS        float64   `json:"p90_ms"`
	P99MS        float64   `json:"p99_ms"`
	VariantsUsed int       `json:"variants_used"`
	Quantiles    []float64 `json:"quantiles_ms,omitempty"`
}

// Accelerator compares how busy one was, as a share of the run.
type Accelerator struct {
	Accelerator string  `json:"accelerator"`
	Real        float64 `json:"real"`
	Predicted   float64 `json:"predicted"`
}

// Source is one cause of disagreement.
type Source struct {
	// Name is a short key: interference, handoff, dispatch, release-lag, drift, outliers, bias, noise.
	Name string `json:"name"`
	What string `json:"what"` // one sentence with the figures
	// Share is its part of all absolute error of layer times, 0 to 1; MeanUS
	// what it adds to a layer run on average, signed.
	Share  float64 `json:"share"`
	MeanUS float64 `json:"mean_us"`
}

// Check is one quantity with the limit a good prediction stays within.
type Check struct {
	What      string  `json:"what"`
	Real      float64 `json:"real"`
	Predicted float64 `json:"predicted"`
	Unit      string  `json:"unit"`
	// Off is the error, as a share of the real value or in the unit's own points; Limit is what it may be.
	Off   float64 `json:"off"`
	Limit float64 `json:"limit"`
	OK    bool    `json:"ok"`
	// OffGiven is the error of the simulation at the run's own pace; absent where a file predicted. What it is within the
	// limit of, and Off is not, the machine was not as profiled.
	OffGiven *float64 `json:"off_given_pace,omitempty"`
}

// Holds reports whether an error is within the check's limit.
func (c *Check) Holds(off float64) bool { return math.Abs(off) <= c.Limit }

// Held counts the checks that hold, and those that hold at the run's own pace.
func (v *Validation) Held() (held, given int) {
	for i := range v.Checks {
		c := &v.Checks[i]
		if c.OK {
			held++
		}
		if c.OffGiven != nil && c.Holds(*c.OffGiven) {
			given++
		}
	}
	return held, given
}

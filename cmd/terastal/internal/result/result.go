// Package result has the documents of runs and simulations, and judges whether a run supports what it says. Sessions
// write them, views read them; it knows neither.
package result

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"path/filepath"

	"github.com/terastal/terastal/cmd/terastal/internal/comparison"
	"github.com/terastal/terastal/internal/document"
	"github.com/terastal/terastal/internal/hostinfo"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched/eventlog"
	"github.com/terastal/terastal/sched/plan"
)

// Result is what a run or simulation of several policies on the same arrivals
// gave: the document that --json prints and that result.json holds.
type Result struct {
	Driver       string         `json:"driver"`
	Hardware     string         `json:"hardware"`
	Host         hostinfo.Info  `json:"host"`
	ORT          string         `json:"onnxruntime"`
	Accelerators []runtime.Spec `json:"accelerators"`
	Traffic      TrafficInfo    `json:"traffic"`
	Models       []ModelInfo    `json:"models"`
	// ClockStepNS is the step in which the clock that everything is timed by advances; 0 in simulations.
	ClockStepNS int64 `json:"clock_step_ns,omitempty"`
	// Policies are the runs of every policy, in the order of the configuration; of several repeats, the first. Again is
	// then the baseline's second run, if an A/A comparison was asked for, and Later holds the other repeats.
	Policies []PolicyResult `json:"policies"`
	Again    *PolicyResult  `json:"a_a,omitempty"`
	Later    []Repeat       `json:"later_repeats,omitempty"`
	// Comparison holds the policies against each other, over all repeats that
	// are whole; nil where policies were not compared or no repeat is whole.
	Comparison *comparison.Comparison `json:"comparison,omitempty"`
	// Labelled are the accuracies of requests on labelled data, by policy and model, over all runs.
	Labelled []LabelledAccuracy `json:"labelled,omitempty"`
	// Valid is false when the run cannot support what it says; Reasons say why and what to change.
	Valid   bool     `json:"valid"`
	Reasons []string `json:"invalid_reasons,omitempty"`

	doubts []Doubt
}

// Repeat is one repeat of a comparison after the first, with other arrivals.
type Repeat struct {
	Seed     uint64         `json:"seed"`
	Policies []PolicyResult `json:"policies"`
	Again    *PolicyResult  `json:"a_a,omitempty"`
}

// TrafficInfo is the traffic that all policies got.
type TrafficInfo struct {
	Arrivals  string  `json:"arrivals"`
	Phases    string  `json:"phases"`
	Jitter    float64 `json:"jitter"`
	DurationS float64 `json:"duration_s"`
	Seed      uint64  `json:"seed"`
	Drop      string  `json:"drop"`
	// Load is the demand as a share of the measured capacity: the fluid bound, which no schedule exceeds that meets all
	// deadlines.
	Load float64 `json:"load"`
}

// ModelInfo is what was planned for a model.
type ModelInfo struct {
	Name        string  `json:"name"`
	Granularity string  `json:"granularity"`
	Layers      int     `json:"layers"`
	RatePerS    float64 `json:"rate_per_s"`
	DeadlineMS  float64 `json:"deadline_ms"`
	// LatencyMS is the sum of the layers' medians on each accelerator, where
	// all layers run there; FastestMS with each layer where it is fastest.
	LatencyMS map[string]float64 `json:"latency_ms"`
	FastestMS float64            `json:"fastest_ms"`
	// Level and Infeasible are Algorithm 1's; Preferred counts the layers that are fastest on each accelerator.
	Level      int            `json:"budget_level"`
	Infeasible bool           `json:"infeasible,omitempty"`
	Preferred  map[string]int `json:"preferred_layers"`
	// NeedsMS is the deadline that it would need where it meets its own nowhere; else 0.
	NeedsMS float64 `json:"needs_ms,omitempty"`
	// Variants counts the layer variants that the plan has; their accuracy was measured as AccuracyMetric, on
	// AccuracyRequests inputs, on which the original's is AccuracyOriginal.
	Variants         int     `json:"variants_planned,omitempty"`
	AccuracyMetric   string  `json:"accuracy_metric,omitempty"`
	AccuracyRequests int     `json:"accuracy_requests,omitempty"`
	AccuracyOriginal float64 `json:"accuracy_original,omitempty"`
	// AccuracyFloor is what finished requests are promised to keep on the mean; 0 where nothing is promised.
	AccuracyFloor float64 `json:"accuracy_floor,omitempty"`
}

// PolicyResult is one policy's run.
type PolicyResult struct {
	eventlog.Metrics
	DecisionP50NS int64 `json:"decision_ns_p50,omitempty"`
	DecisionP99NS int64 `json:"decision_ns_p99,omitempty"`
	*runtime.Verification
	*Execution
	// Energy is what the run took; nil in simulations, and where nothing can be metered.
	Energy *Energy `json:"energy,omitempty"`
	Log    string  `json:"log,omitempty"`
	Trace  string  `json:"trace,omitempty"`
}

// Lanes are, under the policy that schedules nothing, how many requests ran at once at most, each in its lane, and how
// busy lanes were on average; 0 for other policies, whose utilization is that of accelerators.
func (p *PolicyResult) Lanes() (n int, mean float64) {
	if !runtime.IsUnscheduled(p.Policy) {
		return 0, 0
	}
	for _, x := range p.Utilization {
		mean += x / float64(len(p.Utilization))
	}
	return len(p.Utilization), mean
}

// Accuracy is what the combinations of a model's variants keep.
type Accuracy struct {
	plan.Variants
	// Delivered is the mean normalised accuracy of the requests that a run finished, every combination that they used
	// measured; Finished how many these were. Absent without a run.
	Delivered *float64 `json:"delivered,omitempty"`
	Finished  int      `json:"finished,omitempty"`
	// Low and High hold Delivered with 95 % confidence, as far as accuracy was measured on few requests. Floor is what was
	// promised of it in the run; 0 where nothing was.
	Low   *float64 `json:"delivered_low,omitempty"`
	High  *float64 `json:"delivered_high,omitempty"`
	Floor float64  `json:"accuracy_floor,omitempty"`
}

// Broken says which models kept significantly less of the accuracy than was promised: the whole interval is below the
// floor, or, where there is no interval, the mean is.
func Broken(list []Accuracy) (reasons []string) {
	for i := range list {
		a := &list[i]
		if a.Delivered == nil || *cmp.Or(a.High, a.Delivered) >= a.Floor-rounding {
			continue
		}
		interval := ""
		if a.High != nil {
			interval = fmt.Sprintf(" (%s to %s with 95 %% confidence)", Share(*a.Low), Share(*a.High))
		}
		reasons = append(reasons, fmt.Sprintf("measured again, the %d finished requests of %s kept %s of the accuracy%s, the "+
			"floor is %s: plan again with this proof, or lower the floor (--accuracy)", a.Finished, a.Model,
			Share(*a.Delivered), interval, Share(a.Floor)))
	}
	return reasons
}

// Write writes the result to its file in the output folder.
func (r *Result) Write(folder string) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("", "  ")
	if err := e.Encode(r); err != nil {
		return err
	}
	return document.WriteFile(filepath.Join(folder, r.FileName()), b.Bytes())
}

// FileName is the name of the result's file in the output folder.
func (r *Result) FileName() string {
	if r.Driver == eventlog.Simulated {
		return "simulated.json"
	}
	return "result.json"
}

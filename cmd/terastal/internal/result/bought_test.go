package result

import (
	"strings"
	"testing"
)

// ran is a policy's run of ten seconds with so many requests in time.
func ran(policy string, met, variants int) PolicyResult {
	p := *calmRun(policy)
	p.Met = met
	for i := range p.Models {
		accuracy, delivered := 1.003, 0.995
		p.Models[i].LayersRun, p.Models[i].NormalizedAccuracy, p.Models[i].DeliveredAccuracy = 1000, &accuracy, &delivered
	}
	p.Models[0].VariantsUsed, p.Models[0].AccuracyFloor = variants, .99
	return p
}

// The sentence about variants holds the best policy with them against the best without, and is not there where nothing
// can be said.
func TestBought(t *testing.T) {
	r := &Result{Models: []ModelInfo{{Variants: 2, AccuracyMetric: "top-1", AccuracyRequests: 500}, {}},
		Traffic: TrafficInfo{DurationS: 10},
		Policies: []PolicyResult{ran("fcfs", 5000, 0), ran("rollout-novariants", 6000, 0), ran("edf-model", 100, 0),
			ran("terastal", 4000, 100), ran("pedf", 7500, 200)},
		Labelled: []LabelledAccuracy{
			{Policy: "fcfs", Model: "a", Requests: 100, Normalized: 1, Low: .9, High: 1.1},
			{Policy: "pedf", Model: "a", Requests: 300, Normalized: .99, Low: .97, High: 1.01},
			{Policy: "pedf", Model: "b", Requests: 100, Normalized: .95, Low: .93, High: .97}}}
	says := func(want ...string) {
		t.Helper()
		for _, w := range want {
			if got := r.Bought(); !strings.Contains(got, w) {
				t.Errorf("%q does not say %q", got, w)
			}
		}
	}
	says("with them, pedf answered 750 requests per second in time, 150 (25 %) more than rollout-novariants, the best " +
		"scheduler without them (600). By the variants that they used, its requests kept 99.50 % of the accuracy (top-1, " +
		"measured here on 500 inputs of each model; the floor is 99 %). By the outputs of 400 requests on labelled data it is " +
		"98.00 % (95 % interval 96.42 to 99.58 %). Variants ran 10.0 % of its layers. One run each: ")
	r.Later = []Repeat{{Policies: []PolicyResult{ran("rollout-novariants", 9000, 0), ran("pedf", 7000, 200)}}}
	says("25.0 (3 %) fewer than rollout-novariants", "Means of 2 repeats")
	r.Later, r.Labelled = nil, nil
	if got := r.Bought(); strings.Contains(got, "labelled") {
		t.Errorf("without labels: %q", got)
	}
	for name, spoil := range map[string]func(*Result){
		"no variants":           func(r *Result) { r.Models = r.Models[1:] },
		"no policy with them":   func(r *Result) { r.Policies = r.Policies[:3] },
		"no policy without":     func(r *Result) { r.Policies = r.Policies[3:] },
		"a strange one is with": func(r *Result) { r.Policies = []PolicyResult{ran("mine", 5000, 7), ran("pedf", 4000, 0)} },
	} {
		x := *r
		if spoil(&x); x.Bought() != "" {
			t.Errorf("%s: %q", name, x.Bought())
		}
	}
}

// A result is invalid where the whole interval of what was measured lies below the floor, and says whose.
func TestJudgeLabelled(t *testing.T) {
	x := LabelledAccuracy{Policy: "pedf", Model: "a", Requests: 812, Inputs: 400, Normalized: .98, Low: .97, High: .99,
		Floor: .99}
	r := Result{Valid: true, Labelled: []LabelledAccuracy{x, {Policy: "pedf", Model: "b", Normalized: .5, High: .6}}}
	if r.JudgeLabelled(); !r.Valid {
		t.Errorf("its interval holds the floor: %v", r.doubts)
	}
	r.Labelled[0].High = .9899
	r.JudgeLabelled()
	r.Conclude()
	if want := "pedf: requests of a kept 98 % of the accuracy on labelled data (95 % interval to 98.99 %, 812 requests, " +
		"400 inputs), its floor is 99 %"; r.Valid || r.MachineOnly() || len(r.Reasons) != 1 ||
		!strings.HasPrefix(r.Reasons[0], want) {
		t.Errorf("valid %v: %q", r.Valid, r.Reasons)
	}
}

package result

import (
	"fmt"
	"math"

	"github.com/terastal/terastal/sched/policy"
)

// LabelledAccuracy is what a policy's requests of a model really computed: their inputs were the model's labelled data,
// and their outputs were scored by its metric, those of all runs of the policy together.
type LabelledAccuracy struct {
	Policy string `json:"policy"`
	Model  string `json:"model"`
	Metric string `json:"metric"`
	// Requests is how many were scored, Inputs how many different inputs they had.
	Requests int `json:"requests"`
	Inputs   int `json:"inputs"`
	// Score is their mean score, Original that of the whole original model on the same inputs, each as often.
	Score    float64 `json:"score"`
	Original float64 `json:"original"`
	// Normalized is the first as a share of the second, Low to High its 95 % interval, for which requests with the same
	// input count as one.
	Normalized float64 `json:"normalized"`
	Low        float64 `json:"low"`
	High       float64 `json:"high"`
	// Floor is the accuracy floor of the model; 0 without one.
	Floor float64 `json:"accuracy_floor,omitempty"`
}

// OnLabels is the accuracy of a policy's requests on labelled data over all models, weighted by their scored requests;
// Model, Metric and Floor are empty where they differ. It is false where none were scored.
func (r *Result) OnLabels(policy string) (LabelledAccuracy, bool) {
	var out LabelledAccuracy
	variance := 0.0
	for i := range r.Labelled {
		x := &r.Labelled[i]
		if x.Policy != policy {
			continue
		}
		if out.Requests == 0 {
			out = LabelledAccuracy{Policy: policy, Model: x.Model, Metric: x.Metric, Floor: x.Floor}
		}
		if out.Model != x.Model {
			out.Model = ""
		}
		if out.Floor != x.Floor {
			out.Floor = 0
		}
		if out.Metric != x.Metric {
			out.Metric = ""
		}
		n := float64(x.Requests)
		out.Requests, out.Inputs = out.Requests+x.Requests, out.Inputs+x.Inputs
		out.Score, out.Original = out.Score+n*x.Score, out.Original+n*x.Original
		out.Normalized += n * x.Normalized
		variance += math.Pow(n*(x.High-x.Normalized), 2)
	}
	if out.Requests == 0 {
		return out, false
	}
	n := float64(out.Requests)
	out.Score, out.Original, out.Normalized = out.Score/n, out.Original/n, out.Normalized/n
	half := math.Sqrt(variance) / n
	out.Low, out.High = max(0, out.Normalized-half), out.Normalized+half
	return out, true
}

// JudgeLabelled doubts what a policy delivered where requests on labelled data say that it is below a model's accuracy
// floor: the whole interval is.
func (r *Result) JudgeLabelled() {
	for _, x := range r.Labelled {
		if x.High < x.Floor {
			r.Doubt(Doubt{About: "labelled " + x.Policy + " " + x.Model, Worst: x.Floor - x.High,
				Machine: !policy.Spends(x.Policy), Text: fmt.Sprintf(
					"%s: requests of %s kept %s of the accuracy on labelled data (95 %% interval to %s, %d requests, %d inputs), its "+
						"floor is %s: measure its combinations again on more data (`terastal variants accuracy`), or lower the floor "+
						"(--accuracy)", x.Policy, x.Model, Share(x.Normalized), Share(x.High), x.Requests, x.Inputs, Share(x.Floor))})
		}
	}
}

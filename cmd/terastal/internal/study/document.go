package study

import (
	"github.com/terastal/terastal/sched/eventlog"
	"github.com/terastal/terastal/sched/fluid"
	"github.com/terastal/terastal/sched/plan"
)

// Document is what simulations over several seeds came to.
type Document struct {
	Driver   string         `json:"driver"`
	Scenario string         `json:"scenario"`
	Source   string         `json:"source"`
	Note     string         `json:"note,omitempty"`
	Capacity fluid.Capacity `json:"capacity"`
	// Hopeless are the models that meet their deadline nowhere.
	Hopeless []plan.Hopeless `json:"hopeless,omitempty"`
	Seeds    int             `json:"seeds"`
	Policies []Policy        `json:"policies"`
	// Reasons say which accuracy floors policies did not keep; none if they kept them.
	Reasons []string `json:"invalid_reasons,omitempty"`
}

// Policy is a policy's part of a document.
type Policy struct {
	Policy       string  `json:"policy"`
	MeanMissRate float64 `json:"mean_miss_rate"`
	Low          float64 `json:"mean_miss_rate_low"`
	High         float64 `json:"mean_miss_rate_high"`
	Summary
}

// Add puts results into the document.
func (d *Document) Add(results []Result, seeds int) {
	d.Driver, d.Seeds = eventlog.Simulated, seeds
	for i := range results {
		r := &results[i]
		d.Policies = append(d.Policies, Policy{r.Policy, r.Miss, r.Low, r.High, r.Summary})
	}
}

package view

import (
	"slices"

	"github.com/terastal/terastal/cmd/terastal/internal/result"
	"github.com/terastal/terastal/cmd/terastal/internal/table"
)

// labelledTable has what requests on labelled data really kept of the accuracy: a row by policy and model, of which a
// terminal has those of all models together only.
func labelledTable(results []result.Result) *table.Table {
	t := table.New("policy", "model", "+metric", ">requests", "+>inputs", ">original", ">as run", ">accuracy kept",
		">95 % interval", ">floor")
	t.Title = "Accuracy measured on labelled requests"
	t.Explain("requests", "requests: those whose outputs were scored; original: what the whole original models score on their "+
		"inputs; accuracy kept: as run over original; in its interval, requests with the same input count as one")
	t.Explain("inputs", "inputs: how many different ones the requests had")
	row := func(x *result.LabelledAccuracy, policy, model string) *table.Row {
		return t.Add(policy, model, x.Metric, x.Requests, x.Inputs, kept(x.Original), kept(x.Score), kept(x.Normalized),
			between(kept(x.Low), kept(x.High)), floorText(x.Floor))
	}
	for i := range results {
		r := &results[i]
		var policies []string
		for _, x := range r.Labelled {
			if !slices.Contains(policies, x.Policy) {
				policies = append(policies, x.Policy)
			}
		}
		for _, p := range policies {
			all, _ := r.OnLabels(p)
			for n := range r.Labelled {
				if x := &r.Labelled[n]; x.Policy == p {
					row(x, p, x.Model).Wide = all.Model == ""
				}
			}
			if all.Model == "" {
				row(&all, p, "all")
			}
		}
	}
	return t.Dense()
}

package view

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/terastal/terastal/cmd/terastal/internal/comparison"
	"github.com/terastal/terastal/cmd/terastal/internal/result"
	"github.com/terastal/terastal/cmd/terastal/internal/study"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched/eventlog"
)

// manyPolicies are more than anybody compares; their names are as long as any.
func manyPolicies() (names []string) {
	for n := range 10 {
		names = append(names, fmt.Sprintf("terastal-novariants%d", n)[1:])
	}
	return names
}

// TestWidth: tables of many policies and models, with variants, floors and intervals, stay within what a terminal shows.
func TestWidth(t *testing.T) {
	accuracy := 0.9876
	var metrics []eventlog.Metrics
	var results []study.Result
	c := comparison.Comparison{Driver: eventlog.Simulated, Repeats: 6, Confidence: .95, Baseline: manyPolicies()[0]}
	p, difference := 0.01, -0.1234
	measure := comparison.Measure{Values: []float64{1}, Median: 0.1234, Low: 0.1, High: 0.2, P: &p, Significant: true,
		Difference: &difference, DifferenceLow: &difference, DifferenceHigh: &difference}
	joules := measure
	joules.Median = 1234
	var runs []result.PolicyResult
	for _, policy := range manyPolicies() {
		m := eventlog.Metrics{Policy: policy}
		compared := comparison.Policy{Policy: policy, Miss: measure, PerMet: &joules}
		for n := range 5 {
			x := eventlog.ModelMetrics{Model: fmt.Sprint("mobilenetv2_ssd", n), P50MS: 123.4, P90MS: 123.4, P99MS: 234.5,
				DeadlineMS: 300, LayersRun: 100, VariantsUsed: 5, AccuracyFloor: 0.98,
				NormalizedAccuracy: &accuracy, WorstWindow: &accuracy}
			x.Totals = eventlog.Totals{Released: 12345, Met: 10000, Late: 1000, Dropped: 1000, Failed: 345}
			m.Models = append(m.Models, x)
			m.Totals.Add(x.Totals)
			compared.Models = append(compared.Models, comparison.Model{Model: x.Model, Miss: measure, P50: joules, P99: joules})
		}
		metrics = append(metrics, m)
		over := study.Result{Seeds: 8, Miss: .1, Low: .09, High: .12}
		over.Policy, over.Models = policy, m.Models
		results = append(results, over)
		c.Policies = append(c.Policies, compared)
		m.ReleaseLagP50US, m.ReleaseLagP99US, m.IdleLagP99US = 123, 1234, 1234
		r := result.PolicyResult{Metrics: m}
		r.DecisionP50NS, r.DecisionP99NS, r.Execution = 12345, 123456, &result.Execution{}
		r.Utilization = map[string]float64{"cpu0-all": .9, "cpu1-basic": .8, "gpu": .7}
		r.Verification = &runtime.Verification{Verified: 1234, MaxAbsDiff: 1e-6}
		runs = append(runs, r)
	}
	for name, print := range map[string]func(w io.Writer){
		"outcomes":   func(w io.Writer) { Policies(w, metrics) },
		"seeds":      func(w io.Writer) { Scenario(w, results) },
		"comparison": func(w io.Writer) { PoliciesCompared(w, &result.Result{Comparison: &c, Policies: runs}) },
		"execution":  func(w io.Writer) { Verification(w, runs) },
	} {
		var b bytes.Buffer
		print(&b)
		for line := range strings.Lines(b.String()) {
			if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > tableWidth {
				t.Errorf("%s: a line of %d characters: %s", name, n, line)
				break
			}
		}
		for _, policy := range manyPolicies() {
			if !strings.Contains(b.String(), policy) {
				t.Errorf("%s: %s is gone", name, policy)
			}
		}
	}
}

package result

import (
	"strings"
	"testing"
)

// The sentence about variants says what was measured, and is not there where nothing can be said.
func TestBought(t *testing.T) {
	of := func(policy string, miss float64) PolicyResult {
		p := *calmRun(policy)
		p.MeanMissRate = miss
		for i := range p.Models {
			accuracy := 0.995
			p.Models[i].LayersRun, p.Models[i].NormalizedAccuracy = 1000, &accuracy
		}
		return p
	}
	with := of(withVariants, 0.15)
	with.Models[0].VariantsUsed = 100
	r := &Result{Models: []ModelInfo{{Variants: 2, AccuracyMetric: "top-1", AccuracyRequests: 500}, {}},
		Policies: []PolicyResult{of(withoutVariants, 0.20), with}}
	for _, want := range []string{"15.0 % with them and 20.0 % without", "(25 % fewer misses)", "ran 5.0 % of its layers",
		"kept 99.50 % of the accuracy (top-1, measured here on 500 inputs"} {
		if got := r.Bought(); !strings.Contains(got, want) {
			t.Errorf("%q does not say %q", got, want)
		}
	}
	r.Policies[0].MeanMissRate = 0.12
	if got := r.Bought(); !strings.Contains(got, "(25 % more misses)") {
		t.Errorf("worse with variants: %q", got)
	}
	r.Policies[0].MeanMissRate = 0
	if got := r.Bought(); !strings.Contains(got, "(more misses)") {
		t.Errorf("no misses without variants: %q", got)
	}
	r.Models[0].Variants = 0
	if got := r.Bought(); got != "" {
		t.Errorf("without variants: %q", got)
	}
	r.Models[0].Variants, r.Policies = 2, r.Policies[:1]
	if got := r.Bought(); got != "" {
		t.Errorf("without the policy: %q", got)
	}
}

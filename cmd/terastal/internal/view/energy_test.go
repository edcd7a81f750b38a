package view

import (
	"bytes"
	"strings"
	"testing"

	"github.com/terastal/terastal/internal/energy"
	"github.com/terastal/terastal/internal/testkit"
)

// Energy is shown where it was metered, on the terminal and on the page, and how; elsewhere nothing speaks of it.
func TestEnergy(t *testing.T) {
	p := testkit.Must(Open(folder(t, "mobile", 300*msec)))(t)
	r := &p.Results[0]
	shown := func() map[string]string {
		var compared, alone bytes.Buffer
		Result(&compared, r, "result.json")
		page := markup(t, p)
		c := r.Comparison
		r.Comparison = nil
		Result(&alone, r, "result.json")
		r.Comparison = c
		return map[string]string{"compare": compared.String(), "run": alone.String(), "page": page}
	}
	for where, words := range map[string][]string{
		"compare": {"J per met", "480.0 mJ ± 10 %", "-80.0 mJ", "per request that met its deadline. Energy is the total of"},
		"run":     {"Energy by policy:", "212 J", "40.00 J", "120 W", "505.0 mJ", "processor packages, by their counters (RAPL)"},
		"page":    {">J per met<", ">480.0 mJ ± 10 %<", ">212 J<", ">126 W<", "package-0 40.00 J", "idle"},
	} {
		text := strings.Join(strings.Fields(strings.ReplaceAll(shown()[where], "−", "-")), " ")
		for _, word := range words {
			if !strings.Contains(text, word) {
				t.Errorf("%s does not say %q:\n%s", where, word, text)
			}
		}
	}
	for i := range r.Policies {
		r.Policies[i].Energy.Sources = []energy.Source{{Kind: energy.GPU, How: energy.ByPower}}
	}
	if text := shown()["run"]; !strings.Contains(text, "by their power 20 times a second") || strings.Contains(text, "RAPL") {
		t.Errorf("metered by power:\n%s", text)
	}
	for i := range r.Policies {
		r.Policies[i].Energy, r.Comparison.Policies[i].PerMet = nil, nil
	}
	for where, text := range shown() {
		for _, word := range []string{"nergy", "J per met", " 0.0 mJ"} {
			if strings.Contains(text, word) {
				t.Errorf("%s speaks of %q that was not metered", where, word)
			}
		}
	}
}

package view

import (
	"fmt"
	"io"

	"github.com/terastal/terastal/cmd/terastal/internal/study"
	"github.com/terastal/terastal/cmd/terastal/internal/table"
)

func accuracyText(x *float64) string {
	if x == nil {
		return "unknown"
	}
	return fmt.Sprintf("%.4f", *x)
}

// Scenario prints the results of a scenario's policies as text.
func Scenario(w io.Writer, results []study.Result) {
	t := table.New("policy", "model", ">released", ">met", ">late", ">dropped", ">miss rate", ">p50", ">p90", ">p99", ">accuracy")
	for n, r := range results {
		if n > 0 {
			t.AppendSeparator()
		}
		for i, m := range r.Models {
			name := ""
			if i == 0 {
				name = r.Policy
			}
			p50, p90, p99 := latenciesInText(m)
			t.AppendRow(table.Row{name, m.Model, m.Released, m.Met, m.Late, m.Dropped, percentInText(m.MissRate), p50, p90, p99, accuracyText(m.NormalizedAccuracy)})
		}
		t.AppendRow(table.Row{"", "mean of miss rates", "", "", "", "", percentInText(r.Miss), fmt.Sprintf("%.1f", 100*max(0, r.Low)), "to", percentInText(r.High), accuracyText(r.Accuracy)})
	}
	render(w, t)
	for i := range results {
		for _, base := range results[:i] {
			if base.Miss > 0 && i == len(results)-1 {
				p := study.Paired(results[i].BySeed, base.BySeed)
				fmt.Fprintf(w, "%s misses %.0f %% less than %s (p = %.2g, paired over seeds)\n", results[i].Policy, 100*(1-results[i].Miss/base.Miss), base.Policy, p)
			}
		}
	}
}

// Package report lays results out as text tables for people.
package view

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/terastal/terastal/cmd/terastal/internal/result"
	"github.com/terastal/terastal/cmd/terastal/internal/table"
	"github.com/terastal/terastal/internal/stats"
	"github.com/terastal/terastal/sched/eventlog"
)

// render writes a finished table.
func render(w io.Writer, t table.Table) { fmt.Fprintln(w, t.Render()) }

// width is where running text is broken into lines.
const widthInText = 100

// Paragraph prints running text, broken into lines between words.
func Paragraph(w io.Writer, s string) {
	line := ""
	for _, word := range strings.Fields(s) {
		if line != "" && len([]rune(line))+1+len([]rune(word)) > widthInText {
			fmt.Fprintln(w, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	fmt.Fprintln(w, line)
}

// Plan prints what was planned for each model.
func Plan(w io.Writer, infos []result.ModelInfo, load float64) {
	if len(infos) == 0 {
		return
	}
	var accs []string
	for _, i := range infos {
		for a := range i.LatencyMS {
			if !slices.Contains(accs, a) {
				accs = append(accs, a)
			}
		}
		for a := range i.Preferred {
			if !slices.Contains(accs, a) {
				accs = append(accs, a)
			}
		}
	}
	slices.Sort(accs)
	variants := slices.ContainsFunc(infos, func(i result.ModelInfo) bool { return i.Variants > 0 })
	header := []string{"model", ">layers", ">rate/s", ">deadline"}
	if variants {
		header = []string{"model", ">layers", ">variants", ">rate/s", ">deadline"}
	}
	for _, a := range accs {
		header = append(header, ">"+a)
	}
	t := table.New(append(header, ">fastest")...)
	infeasible := []string{}
	for _, i := range infos {
		row := table.Row{i.Name, i.Layers}
		if variants {
			row = append(row, i.Variants)
		}
		row = append(row, fmt.Sprintf("%.1f", i.RatePerS), msTextInText(i.DeadlineMS))
		for _, a := range accs {
			latencyInText := "-"
			if ms, ok := i.LatencyMS[a]; ok {
				latencyInText = msTextInText(ms)
			}
			row = append(row, fmt.Sprintf("%s (%d)", latencyInText, i.Preferred[a]))
		}
		t.AppendRow(append(row, msTextInText(i.FastestMS)))
		if i.Infeasible {
			infeasible = append(infeasible, i.Name)
		}
	}
	render(w, t)
	fmt.Fprintf(w, "latencies are sums of the layers' medians; (n): layers that are fastest there; fastest: each layer on its best accelerator\n")
	fmt.Fprintf(w, "demand: %.3g of the measured capacity (the fluid bound, which no schedule of the originals exceeds)\n", load)
	if len(infeasible) > 0 {
		fmt.Fprintf(w, "warning: even the fastest accelerators take longer than the deadline of %s\n", strings.Join(infeasible, ", "))
	}
}

// Policies prints miss rates and latencies per policy and model.
func Policies(w io.Writer, metrics []eventlog.Metrics) {
	header := []string{"policy", "model", ">released", ">met", ">late", ">dropped", ">failed",
		">miss rate", ">p50", ">p90", ">p99"}
	variants := slices.ContainsFunc(metrics, func(m eventlog.Metrics) bool { return m.VariantShare() > 0 })
	if variants {
		header = append(header, ">as variants", ">accuracy kept")
	}
	t := table.New(header...)
	few := false
	for n, m := range metrics {
		if n > 0 {
			t.AppendSeparator()
		}
		for i, x := range m.Models {
			name := ""
			if i == 0 {
				name = m.Policy
			}
			p50, p90, p99 := latenciesInText(x)
			few = few || strings.HasSuffix(p99, "*")
			row := table.Row{name, x.Model, x.Released, x.Met, x.Late, x.Dropped, x.Failed, percentInText(x.MissRate), p50, p90, p99}
			if variants {
				row = append(row, percentInText(x.VariantShare()), accuracyKept(x.NormalizedAccuracy))
			}
			t.AppendRow(row)
		}
		row := table.Row{"", "all (mean of miss rates)", m.Released, m.Met, m.Late, m.Dropped, m.Failed,
			percentInText(m.MeanMissRate), "", "", ""}
		if variants {
			row = append(row, percentInText(m.VariantShare()), accuracyKept(m.AccuracyKept()))
		}
		t.AppendRow(row)
	}
	render(w, t)
	if variants {
		Paragraph(w, "as variants: the share of the layers of finished requests that variants ran; accuracy kept: the mean "+
			"over finished requests of the accuracy measured for the variants each used, as a share of the originals'")
	}
	if len(metrics) == 1 {
		for _, x := range metrics[0].Models {
			if len(x.Variants) > 0 {
				Paragraph(w, variantsUsed(metrics[0].Policy, x))
			}
		}
	}
	if few {
		fmt.Fprintln(w, unclaimed())
	}
}

// accuracyKept words a normalised accuracy, "-" where none was measured.
func accuracyKept(x *float64) string {
	if x == nil {
		return "-"
	}
	return fmt.Sprintf("%.2f %%", 100**x)
}

// variantsUsed says which variants finished requests used, and what accuracy
// that left.
func variantsUsed(policy string, x eventlog.ModelMetrics) string {
	var parts []string
	for _, u := range x.Variants {
		parts = append(parts, fmt.Sprintf("%s by %s %d times", u.Layer, u.Variant, u.Runs))
	}
	text := fmt.Sprintf("%s, %s: %d layers were run by variants (%s)", policy, x.Model, x.VariantsUsed, strings.Join(parts, ", "))
	if x.NormalizedAccuracy != nil {
		text += fmt.Sprintf("; finished requests kept %.2f %% of the accuracy on average", 100**x.NormalizedAccuracy)
	}
	return text
}

// unclaimed explains the star at percentiles.
func unclaimed() string {
	return fmt.Sprintf("* too few finished requests to claim it: that takes %d for p50, %d for p90, %d for p99", jobsFor(0.50), jobsFor(0.90), jobsFor(0.99))
}

func jobsFor(q float64) int { return stats.MinJobs(q, stats.ClaimConfidence, 0) }

// latencies are a model's percentiles as text: "-" when no request finished,
// and a star at those that too few support.
func latenciesInText(x eventlog.ModelMetrics) (p50, p90, p99 string) {
	n := x.Met + x.Late
	if n == 0 {
		return "-", "-", "-"
	}
	text := func(ms, q float64) string {
		if !stats.Claimable(n, q) {
			return msTextInText(ms) + "*"
		}
		return msTextInText(ms)
	}
	return text(x.P50MS, 0.50), text(x.P90MS, 0.90), text(x.P99MS, 0.99)
}

// Verification prints what was verified and how much the machine got in the
// way, a line per policy.
func Verification(w io.Writer, policies []result.PolicyResult) {
	t := table.New("policy", ">verified", ">largest difference", ">decision p50", ">p99", ">release lag p50", ">p99", ">while idle p99", "utilization")
	for _, p := range policies {
		verified, diff := "-", "-"
		if v := p.Verification; v != nil {
			verified = fmt.Sprintf("%d of %d", v.Verified, v.Verified+v.Wrong)
			diff = fmt.Sprintf("%.1e", v.MaxAbsDiff)
		}
		var use []string
		if lanes, mean := p.Lanes(); lanes > 0 {
			use = append(use, fmt.Sprintf("%d lanes, mean %s", lanes, percentInText(mean)))
		} else {
			for _, name := range slices.Sorted(mapKeys(p.Utilization)) {
				use = append(use, fmt.Sprintf("%s %s", name, percentInText(p.Utilization[name])))
			}
		}
		t.AppendRow(table.Row{p.Policy, verified, diff, usTextInText(float64(p.DecisionP50NS) / 1e3), usTextInText(float64(p.DecisionP99NS) / 1e3),
			usTextInText(p.ReleaseLagP50US), usTextInText(p.ReleaseLagP99US), usTextInText(p.IdleLagP99US), strings.Join(use, ", ")})
	}
	render(w, t)
}

func mapKeys[V any](m map[string]V) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

func percentInText(x float64) string { return fmt.Sprintf("%.1f %%", 100*x) }

// msText prints milliseconds with a sensible number of digits.
func msTextInText(ms float64) string {
	switch {
	case ms >= 100:
		return fmt.Sprintf("%.0f ms", ms)
	case ms >= 10:
		return fmt.Sprintf("%.1f ms", ms)
	default:
		return fmt.Sprintf("%.2f ms", ms)
	}
}

func usTextInText(us float64) string {
	if us >= 1000 {
		return msTextInText(us / 1e3)
	}
	return fmt.Sprintf("%.1f us", us)
}

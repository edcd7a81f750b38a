package view

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/terastal/terastal/cmd/terastal/internal/result"
	"github.com/terastal/terastal/cmd/terastal/internal/table"
	"github.com/terastal/terastal/internal/stats"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/plan"
	"github.com/terastal/terastal/variants"
)

// Target is a variants.Target with names.
type Target struct {
	Model       string        `json:"model"`
	Layer       string        `json:"layer"`
	Accelerator string        `json:"accelerator"`
	Latency     time.Duration `json:"latency_ns"`
	Budget      time.Duration `json:"budget_ns"`
	Speedup     float64       `json:"speedup_needed"`
}

// Named gives targets their names.
func Named(s *sched.System, targets []variants.Target) []Target {
	out := []Target{}
	for _, x := range targets {
		m := &s.Models[x.Model]
		out = append(out, Target{m.Name, m.Layers[x.Layer].Name, s.Accelerators[x.Accelerator], x.Latency, x.Budget,
			x.Speedup()})
	}
	return out
}

// Targets prints where variants are wanted.
func Targets(w io.Writer, targets []Target) {
	if len(targets) == 0 {
		fmt.Fprintln(w, "every layer fits its budget on every accelerator that runs it: no variants are wanted")
		return
	}
	t := table.New("model", "layer", "accelerator", ">latency", ">budget", ">speed-up needed")
	for _, x := range targets {
		t.Add(x.Model, shorten(x.Layer, 40), x.Accelerator, took(x.Latency), took(x.Budget), fmt.Sprintf("%.2fx", x.Speedup))
	}
	t.Text(w)
}

// Variants prints what was designed for each model: a line per variant in use, or per candidate with all.
func Variants(w io.Writer, list []plan.Variants, all bool) {
	if len(list) == 0 {
		fmt.Fprintln(w, "no variants: `terastal variants design --config FILE` makes them")
		return
	}
	for n := range list {
		v := &list[n]
		if n > 0 {
			fmt.Fprintln(w)
		}
		use := "in use"
		if v.Off {
			use = "that this plan does not use"
		}
		fmt.Fprintf(w, "%s, %d variants %s\n", v.Model, len(v.Chosen), use)
		rows := v.Chosen
		if all {
			rows = v.Candidates
		}
		if len(rows) > 0 {
			variantTable(v, rows).Text(w)
		}
		for _, line := range proofLines(v) {
			fmt.Fprintln(w, line)
		}
	}
}

// variantTable has a row for every variant or candidate.
func variantTable(v *plan.Variants, rows []plan.Variant) *table.Table {
	t := table.New("layer", "family", "parameters")
	for _, a := range v.Accelerators {
		t.Column(">"+a, ">gain")
	}
	t.Column(">error", ">accuracy alone", ">bytes", "for")
	for i := range rows {
		x := &rows[i]
		row := []any{shorten(x.LayerName, 30), x.Family, x.Parameters}
		for k := range v.Accelerators {
			latency, gain := "-", "-"
			if k < len(x.Latency) && x.Latency[k] > 0 {
				latency = took(x.Latency[k])
				if g := x.Gain(k); g > 0 {
					gain = fmt.Sprintf("%.2fx", g)
				}
			}
			row = append(row, latency, gain)
		}
		e, alone, mark := "-", "-", ""
		if x.Promise > 0 || x.Error > 0 || x.Family == variants.Added {
			e = fmt.Sprintf("%.2g", x.Error)
		}
		if x.Alone > 0 {
			alone = kept(x.Alone)
		}
		switch {
		case len(x.Wanted) > 0:
			mark = fmt.Sprint(x.Wanted)
		case x.Refused != "":
			mark = "refused: " + x.Refused
		case x.Frontier:
			mark = "frontier"
		}
		t.Add(append(row, e, alone, x.Bytes, mark)...)
	}
	return t
}

// proofLines say what the variants of a model keep, and what they cost.
func proofLines(v *plan.Variants) []string {
	var out []string
	add := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if len(v.Chosen) > 0 {
		add("accuracy: %s, %.4f without variants on %d requests of %s; combinations below %.3g of that are not used",
			v.Metric, v.Baseline, v.Requests, v.Data, v.Theta)
		if v.Arithmetic != "" {
			add("8-bit products of the processor that it was measured on: %s", v.Arithmetic)
		}
		measured := "measured, all there are"
		if !v.Exhaustive {
			measured = "measured; the others by the bound that these give"
		}
		valid := 0
		for _, a := range v.Accuracy {
			if a >= v.Theta {
				valid++
			}
		}
		add("combinations: %d %s; %d may be used; all variants together keep %s", len(v.Sets), measured, valid, together(v))
		add("storage: %.1f %% of the model's weights", 100*v.Overhead())
	}
	for _, n := range v.Notes {
		add("note: %s", n)
	}
	return out
}

// together is the accuracy of the largest combination that was measured.
func together(v *plan.Variants) string {
	if len(v.Accuracy) == 0 {
		return "-"
	}
	s, accuracy := v.Largest()
	text := kept(accuracy) + " of the accuracy"
	if i := slices.Index(v.Sets, s); i >= 0 && i < len(v.StandardError) && s != 0 {
		text += fmt.Sprintf(" ± %s points with 95 %% confidence", hundredths(stats.Normal95*v.StandardError[i]))
	}
	return fmt.Sprintf("%s (%d variants)", text, s.Len())
}

// plusMinus is how far the interval of a combination's accuracy reaches; empty where its standard error is unknown.
func plusMinus(v *plan.Variants, combination int) string {
	if combination >= len(v.StandardError) {
		return ""
	}
	return fmt.Sprintf("%.4f", stats.Normal95*v.StandardError[combination])
}

// deliveredText says what a run's requests kept of the accuracy; empty without a run.
func deliveredText(a *result.Accuracy) string {
	if a.Delivered == nil {
		return ""
	}
	text := fmt.Sprintf("the %d requests that the run finished kept %s of the accuracy on average", a.Finished,
		result.Share(*a.Delivered))
	if a.Low != nil && a.High != nil {
		text += fmt.Sprintf(" (%s with 95 %% confidence)", between(result.Share(*a.Low), result.Share(*a.High)))
	}
	if a.Floor > 0 {
		text += "; the floor was " + floorText(a.Floor)
	}
	return text
}

// combinationsShown is how many of a model Combinations prints.
const combinationsShown = 40

// Combinations prints every combination that was measured, the best first.
func Combinations(w io.Writer, list []result.Accuracy) {
	for n := range list {
		v := &list[n].Variants
		fmt.Fprintf(w, "%s: %s %.4f on %d requests of %s\n", v.Model, v.Metric, v.Baseline, v.Requests, v.Data)
		order := make([]int, len(v.Sets))
		for i := range order {
			order[i] = i
		}
		slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(v.Accuracy[b], v.Accuracy[a]) })
		t := table.New("variants", ">normalised accuracy", ">± (95 %)", "may be used")
		for i, s := range order[:min(combinationsShown, len(order))] {
			var names []string
			for b := range v.Chosen {
				if v.Sets[s]>>b&1 != 0 {
					names = append(names, v.Chosen[b].LayerName+" "+v.Chosen[b].Family)
				}
			}
			use := "no"
			if v.Accuracy[s] >= v.Theta {
				use = "yes"
			}
			t.Add(shorten(cmp.Or(strings.Join(names, " + "), "none"), 90), fmt.Sprintf("%.4f", v.Accuracy[s]), plusMinus(v, s), use)
			if more := len(order) - i - 1; i+1 == combinationsShown && more > 0 {
				t.Note("and %d more, in the JSON document", more)
			}
		}
		t.Dense().Text(w)
		if text := deliveredText(&list[n]); text != "" {
			table.Paragraph(w, text)
		}
	}
}

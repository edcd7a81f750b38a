package view

import (
	"fmt"
	"io"
	"slices"

	"github.com/terastal/terastal/cmd/terastal/internal/result"
	"github.com/terastal/terastal/cmd/terastal/internal/table"
	"github.com/terastal/terastal/sched/plan"
	"github.com/terastal/terastal/variants"
)

// Variants prints what was designed for each model: a line per variant in use,
// or per candidate with all.
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
		variantsOf(w, v, all)
	}
}

func variantsOf(w io.Writer, v *plan.Variants, all bool) {
	header := []string{"layer", "family", "parameters"}
	for _, a := range v.Accelerators {
		header = append(header, ">"+a, ">gain")
	}
	header = append(header, ">error", ">accuracy alone", ">bytes", "for")
	t := table.New(header...)
	rows := v.Chosen
	if all {
		rows = v.Candidates
	}
	last := -1
	for i := range rows {
		x := &rows[i]
		name := ""
		if x.Layer != last {
			name = shorten(x.LayerName, 30)
			last = x.Layer
		}
		row := table.Row{name, x.Family, x.Parameters}
		for k := range v.Accelerators {
			latencyInText, gain := "-", "-"
			if k < len(x.Latency) && x.Latency[k] > 0 {
				latencyInText = usTextInText(float64(x.Latency[k]) / 1e3)
				if g := x.Gain(k); g > 0 {
					gain = fmt.Sprintf("%.2fx", g)
				}
			}
			row = append(row, latencyInText, gain)
		}
		e, alone := "-", "-"
		if x.Promise > 0 || x.Error > 0 || x.Family == variants.Added {
			e = fmt.Sprintf("%.2g", x.Error)
		}
		if x.Alone > 0 {
			alone = fmt.Sprintf("%.2f %%", 100*x.Alone)
		}
		mark := ""
		switch {
		case len(x.Wanted) > 0:
			mark = fmt.Sprint(x.Wanted)
		case x.Refused != "":
			mark = "refused: " + x.Refused
		case x.Frontier:
			mark = "frontier"
		}
		t.AppendRow(append(row, e, alone, x.Bytes, mark))
	}
	use := "in use"
	if v.Off {
		use = "that this plan does not use"
	}
	fmt.Fprintf(w, "%s, %d variants %s\n", v.Model, len(v.Chosen), use)
	if len(rows) > 0 {
		render(w, t)
	}
	if len(v.Chosen) > 0 {
		fmt.Fprintf(w, "accuracy: %s, %.4f without variants on %d requests of %s; combinations below %.3g of that are not used\n", v.Metric, v.Baseline, v.Requests, v.Data, v.Theta)
		if v.Arithmetic != "" {
			fmt.Fprintf(w, "8-bit products of the processor that it was measured on: %s\n", v.Arithmetic)
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
		fmt.Fprintf(w, "combinations: %d %s; %d may be used; all variants together keep %s\n", len(v.Sets), measured, valid, together(v))
		fmt.Fprintf(w, "storage: %.1f %% of the model's weights\n", 100*v.Overhead())
	}
	for _, n := range v.Notes {
		fmt.Fprintln(w, "note:", n)
	}
}

// together is the accuracy of the largest combination that was measured.
func together(v *plan.Variants) string {
	if len(v.Accuracy) == 0 {
		return "-"
	}
	s, accuracy := v.Largest()
	return fmt.Sprintf("%.2f %% of the accuracy (%d variants)", 100*accuracy, s.Len())
}

// Combinations prints every combination that was measured, the best first.
func Combinations(w io.Writer, list []result.Accuracy) {
	for n := range list {
		v := &list[n].Variants
		fmt.Fprintf(w, "%s: %s %.4f on %d requests of %s\n", v.Model, v.Metric, v.Baseline, v.Requests, v.Data)
		order := make([]int, len(v.Sets))
		for i := range order {
			order[i] = i
		}
		slices.SortStableFunc(order, func(a, b int) int {
			switch {
			case v.Accuracy[a] > v.Accuracy[b]:
				return -1
			case v.Accuracy[a] < v.Accuracy[b]:
				return 1
			}
			return 0
		})
		t := table.New("variants", ">normalised accuracy", "may be used")
		const shownInText = 40
		for i, s := range order {
			if i == shownInText {
				break
			}
			names := ""
			for b := range v.Chosen {
				if v.Sets[s]>>b&1 != 0 {
					if names != "" {
						names += " + "
					}
					names += v.Chosen[b].LayerName + " " + v.Chosen[b].Family
				}
			}
			if names == "" {
				names = "none"
			}
			use := "no"
			if v.Accuracy[s] >= v.Theta {
				use = "yes"
			}
			t.AppendRow(table.Row{shorten(names, 90), fmt.Sprintf("%.4f", v.Accuracy[s]), use})
		}
		render(w, t)
		if len(order) > shownInText {
			fmt.Fprintf(w, "and %d more, in the JSON document\n", len(order)-shownInText)
		}
		if x := list[n].Delivered; x != nil {
			fmt.Fprintf(w, "the %d requests that the run finished kept %.3f %% of the accuracy on average\n", list[n].Finished, 100**x)
		}
	}
}

package view

import (
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/terastal/terastal/cmd/terastal/internal/table"
	"github.com/terastal/terastal/cmd/terastal/internal/validation"
	"github.com/terastal/terastal/internal/stats"
)

// worstCells is how many cells Validation shows.
const worstCells = 8

// Validation prints how real runs compare with predictions.
func Validation(w io.Writer, d *validation.Document) {
	for _, n := range d.Notes {
		Paragraph(w, "note: "+n)
	}
	for i := range d.Validations {
		if i > 0 || len(d.Notes) > 0 {
			fmt.Fprintln(w)
		}
		validatedInText(w, &d.Validations[i])
	}
	orders(w, d.Order)
}

// ValidationLine says in a line what validations came to.
func ValidationLine(w io.Writer, d *validation.Document) {
	held, given, checks := d.Held()
	valid, _ := d.Valid()
	runs := fmt.Sprintf("%d runs", len(d.Validations))
	if len(d.Validations) == 1 {
		runs = "run of " + d.Validations[0].Policy
	}
	line := fmt.Sprintf("validation of %s: %s, %d of %d checks pass", runs, word(valid), held, checks)
	if given > 0 {
		line += fmt.Sprintf(" (%d at the pace that the machine had)", given)
	}
	for i := range d.Validations {
		if v := &d.Validations[i]; v.Difference != "" {
			line += "; replayed decisions of " + v.Policy + " differ"
		}
	}
	fmt.Fprintln(w, line)
}

// word is a verdict.
func word(valid bool) string {
	if valid {
		return "VALID"
	}
	return "INVALID"
}

// validated prints one run.
func validatedInText(w io.Writer, v *validation.Validation) {
	verdictInText(w, v)
	fmt.Fprintln(w)
	validatedModels(w, v)
	validatedAccelerators(w, v)
	fmt.Fprintln(w)
	validatedSources(w, v)
	validatedCells(w, v)
}

// verdict says in a few lines what came out.
func verdictInText(w io.Writer, v *validation.Validation) {
	passed, given := v.Held()
	paced := slices.ContainsFunc(v.Checks, func(c validation.Check) bool { return c.OffGiven != nil })
	fmt.Fprintf(w, "%s: %s, %d of %d checks pass, predicted by %s", v.Policy, word(v.Valid), passed, len(v.Checks), v.Predictor)
	if v.Draws > 1 {
		fmt.Fprintf(w, " (%d draws)", v.Draws)
	}
	fmt.Fprintln(w)
	if paced {
		fmt.Fprintf(w, "the simulator itself: at the pace that the machine had in this run, %d of %d would pass\n", given, len(v.Checks))
	}
	for _, r := range v.Reasons {
		Paragraph(w, "invalid: "+r)
	}
	if v.Difference == "" {
		fmt.Fprintf(w, "decisions: all %d replayed decisions are the recorded ones\n", v.Decisions)
	} else {
		Paragraph(w, fmt.Sprintf("decisions: %d replayed decisions are the recorded ones, the next differs: %s", v.Decisions, v.Difference))
	}
	e := &v.Layers
	fmt.Fprintf(w, "layers: %d runs, mean absolute error %s, bias %+.1f %%, within 5 %%: %s, within 10 %%: %s%s\n",
		e.N, percentInText(e.MAPE), 100*e.Bias, percentInText(e.Within5), percentInText(e.Within10), rankText(e))
}

func rankText(a *validation.Agreement) string {
	if a.Rank == nil {
		return ""
	}
	return fmt.Sprintf(", rank correlation %.2f", *a.Rank)
}

// validatedModels prints each model's outcomes, real, predicted and at the run's
// pace, and what the checks say of the differences.
func validatedModels(w io.Writer, v *validation.Validation) {
	t := table.New("model", "", ">released", ">dropped", ">variants", ">miss rate", "95 % interval", ">p50", ">p90", ">p99", ">each job")
	few := false
	for i, m := range v.Models {
		if i > 0 {
			t.AppendSeparator()
		}
		row := func(name, side string, o *validation.Outcomes, each string) {
			p50, p90, p99 := quantilesInText(o)
			if p99 != "-" && !stats.Claimable(o.Met+o.Late, 0.99) {
				p99, few = p99+"*", true
			}
			t.AppendRow(table.Row{name, side, o.Released, o.Dropped, o.VariantsUsed, percentInText(o.MissRate), fmt.Sprintf("%s to %s", percentInText(o.MissLow), percentInText(o.MissHigh)), p50, p90, p99, each})
		}
		row(m.Model, "real", &m.Real, "")
		row("", "predicted", &m.Predicted, "± "+percentInText(m.Jobs.MAPE))
		t.AppendRow(differences(v, m.Model, false))
		if m.Given != nil {
			row("", "at its pace", m.Given, "")
			t.AppendRow(differences(v, m.Model, true))
		}
	}
	render(w, t)
	fmt.Fprintln(w, "! beyond the limit of a check; each job: mean absolute error of response times, matched by release")
	if len(v.Models) > 0 && v.Models[0].Given != nil {
		fmt.Fprintln(w, "at its pace: simulated with the speed that the accelerators had during the run, which no prediction knows")
	}
	if few {
		fmt.Fprintf(w, "* fewer than %d finished requests: too few to claim a 99th percentile\n", jobsFor(0.99))
	}
}

// quantiles are shown with a dash where no job finished.
func quantilesInText(o *validation.Outcomes) (p50, p90, p99 string) {
	if o.Met+o.Late == 0 {
		return "-", "-", "-"
	}
	return msTextInText(o.P50MS), msTextInText(o.P90MS), msTextInText(o.P99MS)
}

// differences is the row of a model's checks, of the prediction or at the run's
// own pace.
func differences(v *validation.Validation, model string, given bool) table.Row {
	text := map[string]string{}
	for _, c := range v.Checks {
		off := c.Off
		if given && c.OffGiven != nil {
			off = *c.OffGiven
		}
		s := fmt.Sprintf("%+.1f %%", 100*off)
		if c.Unit == "points" {
			s = fmt.Sprintf("%+.1f points", 100*off)
		}
		if !c.Holds(off) {
			s = "! " + s
		}
		text[c.What] = s
	}
	return table.Row{"", "  off by", "", "", "", text[model+" miss rate"], "", text[model+" p50"], "", text[model+" p99"], ""}
}

func validatedAccelerators(w io.Writer, v *validation.Validation) {
	if len(v.Accelerators) == 0 {
		return
	}
	line := "busy, real and predicted:"
	for i, a := range v.Accelerators {
		if i > 0 {
			line += ";"
		}
		line += fmt.Sprintf(" %s %s, %s", a.Accelerator, percentInText(a.Real), percentInText(a.Predicted))
	}
	Paragraph(w, line)
}

func validatedSources(w io.Writer, v *validation.Validation) {
	fmt.Fprintln(w, "what prediction and hardware disagree about, as parts of all error of layer times:")
	t := table.New("source", ">share", ">per layer run", "what was found")
	for _, s := range v.Sources {
		t.AppendRow(table.Row{s.Name, percentInText(s.Share), fmt.Sprintf("%+.1f us", s.MeanUS), s.What})
	}
	render(w, t)
}

func validatedCells(w io.Writer, v *validation.Validation) {
	if len(v.Cells) == 0 {
		return
	}
	fmt.Fprintln(w, "\nwhere layers are off most, by total time:")
	t := table.New("model", "layer", "implementation", "accelerator", ">runs", ">predicted", ">measured", ">off", ">within 10 %")
	for _, c := range v.Cells[:min(len(v.Cells), worstCells)] {
		off := math.NaN()
		if c.MeasuredUS > 0 {
			off = (c.PredictedUS - c.MeasuredUS) / c.MeasuredUS
		}
		t.AppendRow(table.Row{c.Model, shorten(c.Layer, 28), shorten(c.Implementation, 16), c.Accelerator, c.Runs, usTextInText(c.PredictedUS), usTextInText(c.MeasuredUS), fmt.Sprintf("%+.1f %%", 100*off), percentInText(c.Within10)})
	}
	render(w, t)
}

// orders prints how pairs of policies compare.
func orders(w io.Writer, all []validation.Order) {
	if len(all) == 0 {
		return
	}
	fmt.Fprintln(w, "\norder of the policies by mean miss rate:")
	t := table.New("fewer misses", "more misses", ">real", ">predicted", "order")
	for _, o := range all {
		text := "kept"
		switch {
		case !o.Decided:
			text = "~ intervals overlap: no order to keep"
		case !o.Kept:
			text = "! not kept"
		}
		t.AppendRow(table.Row{o.Better, o.Worse, percentInText(o.RealBetter) + " < " + percentInText(o.RealWorse), percentInText(o.PredictedBetter) + ", " + percentInText(o.PredictedWorse), text})
	}
	render(w, t)
}

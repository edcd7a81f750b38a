package view

import (
	"fmt"
	"io"
	"math"
	"path/filepath"
	"slices"

	"github.com/terastal/terastal/cmd/terastal/internal/table"
	"github.com/terastal/terastal/cmd/terastal/internal/validation"
)

// Validation prints how real runs compare with predictions.
func Validation(w io.Writer, d *validation.Document) {
	for _, n := range d.Notes {
		table.Paragraph(w, "note: "+n)
	}
	for i := range d.Validations {
		if i > 0 || len(d.Notes) > 0 {
			fmt.Fprintln(w)
		}
		v := &d.Validations[i]
		for _, text := range validationText(v) {
			table.Paragraph(w, text)
		}
		fmt.Fprintln(w)
		fit(w, requestTable(v), 2, table.Part{Goes: []int{10}})
		for _, t := range []*table.Table{utilisationTable(v), sourceTable(v), cellTable(v)} {
			if len(t.Rows) > 0 {
				fmt.Fprintln(w)
				t.Titled(w)
			}
		}
	}
	if t := orderTable(d.Order); len(t.Rows) > 0 {
		fmt.Fprintln(w)
		t.Titled(w)
	}
}

// ValidationLine says in a line what validations came to.
func ValidationLine(w io.Writer, d *validation.Document) {
	held, given, checks := d.Held()
	valid, _ := d.Valid()
	runs := plural(len(d.Validations), "run")
	if len(d.Validations) == 1 {
		runs = "run of " + d.Validations[0].Policy
	}
	line := fmt.Sprintf("validation of %s: %s, %d of %d checks held", runs, verdict(valid), held, checks)
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

// validationText says what came out of a run.
func validationText(v *validation.Validation) []string {
	held, given := v.Held()
	text := fmt.Sprintf("%s: %s, %d of %d checks held, predicted by %s", v.Policy, verdict(v.Valid), held, len(v.Checks),
		v.Predictor)
	if v.Draws > 1 {
		text += fmt.Sprintf(" (%d draws)", v.Draws)
	}
	out := []string{text}
	add := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if slices.ContainsFunc(v.Checks, func(c validation.Check) bool { return c.OffGiven != nil }) {
		add("the simulator itself: at the pace that the machine had in this run, %d of %d would hold", given, len(v.Checks))
	}
	for _, r := range v.Reasons {
		add("invalid: %s", r)
	}
	if v.Difference == "" {
		add("decisions: all %d replayed decisions are the recorded ones", v.Decisions)
	} else {
		add("decisions: %d replayed decisions are the recorded ones, the next differs: %s", v.Decisions, v.Difference)
	}
	e, rank := &v.Layers, ""
	if e.Rank != nil {
		rank = fmt.Sprintf(", rank correlation %.2f", *e.Rank)
	}
	add("layers: %d runs, mean absolute error %s, bias %s, within 5 %%: %s, within 10 %%: %s%s", e.N, percent(e.MAPE),
		signed(e.Bias), percent(e.Within5), percent(e.Within10), rank)
	return out
}

// side is what a model got on the hardware or in a simulation of it; n is its colour.
type side struct {
	name string
	n    int
	of   *validation.Outcomes
}

// sidesOf are those of a model that there are, the hardware first.
func sidesOf(m *validation.Model) []side {
	out := []side{{"measured", 0, &m.Real}, {"predicted", 1, &m.Predicted}}
	if m.Given != nil {
		out = append(out, side{"at its pace", 2, m.Given})
	}
	return out
}

// requestTable has each model's outcomes, measured, predicted and at the run's own
// pace, and below each of the latter two what the checks say of it.
func requestTable(v *validation.Validation) *table.Table {
	t := table.New("model", "", ">released", ">dropped", ">variants", ">miss rate", "95 % interval", ">p50", ">p90",
		">p99", ">each request")
	t.Title = "Requests of " + v.Policy
	t.Explain("each request", "✗: beyond the limit of a check; each request: mean absolute error of response times, matched by "+
		"release")
	for i := range v.Models {
		m := &v.Models[i]
		for _, x := range sidesOf(m) {
			o, each := x.of, ""
			p50, p90, p99 := percentiles(o.P50MS, o.P90MS, o.P99MS, o.Met+o.Late)
			if p99 != msText(o.P99MS) {
				t.Explain("p99", "%s", fewNote())
			}
			if x.n == 1 {
				each = "± " + percent(m.Jobs.MAPE)
			}
			t.Add(m.Model, x.name, o.Released, o.Dropped, o.VariantsUsed, percent(o.MissRate),
				between(percent(o.MissLow), percent(o.MissHigh)), p50, p90, p99, each)
			if x.n > 0 {
				off := func(what string) string { return offOf(v, m.Model+" "+what, x.n == 2) }
				t.Add(m.Model, "  off by", "", "", "", off("miss rate"), "", off("p50"), "", off("p99"))
			}
			if x.n == 2 {
				t.Explain("", "at its pace: simulated with the speed that the accelerators had during the run, which no "+
					"prediction knows: it says how much of a disagreement is the machine's and how much the simulator's")
			}
		}
	}
	return t
}

// offOf words the error of a check, of the prediction or at the run's own pace; nothing where it has no such.
func offOf(v *validation.Validation, what string, given bool) string {
	n := slices.IndexFunc(v.Checks, func(c validation.Check) bool { return c.What == what })
	if n < 0 {
		return ""
	}
	c := &v.Checks[n]
	off := c.Off
	if given {
		if c.OffGiven == nil {
			return ""
		}
		off = *c.OffGiven
	}
	if c.Holds(off) {
		return offText(c, off)
	}
	return "✗ " + offText(c, off)
}

// offText words an error of a check.
func offText(c *validation.Check, off float64) string {
	if c.Unit == "points" {
		return fmt.Sprintf("%+.1f points", 100*off)
	}
	return signed(off)
}

// checkTable has a row for every check and a column for every policy.
func checkTable(firsts []*validation.Validation) *table.Table {
	t := table.New("check", ">limit")
	t.Title = "How far off each prediction is, ✗ beyond the limit of the check; in parentheses at the run's own pace"
	var names []string
	for _, v := range firsts {
		t.Column(">" + v.Policy)
		for i := range v.Checks {
			if c := &v.Checks[i]; !slices.Contains(names, c.What) {
				names = append(names, c.What)
				t.Add(c.What, offText(c, c.Limit)[1:])
			}
		}
	}
	for n, name := range names {
		for _, v := range firsts {
			text := offOf(v, name, false)
			if given := offOf(v, name, true); given != "" {
				text += " (" + given + ")"
			}
			t.Rows[n].Cells = append(t.Rows[n].Cells, text)
		}
	}
	return t
}

// runTable has a row for every run, with its log where policies ran more than once.
func runTable(all []*validation.Validation, repeated bool) *table.Table {
	t := table.New("policy", "verdict", ">checks held", ">at its pace", ">error of layer times", ">bias", ">within 10 %",
		"decisions replayed", "predicted by", "log")
	t.Title = "Runs held against predictions of them"
	for _, v := range all {
		replayed := fmt.Sprintf("all %d the same", v.Decisions)
		switch {
		case v.Difference != "":
			replayed = "✗ they differ"
		case v.Decisions == 0:
			replayed = "none"
		}
		by, log, paced := v.Predictor, "", ""
		if v.Draws > 0 {
			by += ", " + plural(v.Draws, "draw")
		}
		if repeated {
			log = filepath.Base(v.Log)
		}
		held, given := v.Held()
		if slices.ContainsFunc(v.Models, func(m validation.Model) bool { return m.Given != nil }) {
			paced = fmt.Sprintf("%d of %d", given, len(v.Checks))
		}
		t.Add(v.Policy, verdict(v.Valid), fmt.Sprintf("%d of %d", held, len(v.Checks)), paced, percent(v.Layers.MAPE),
			signed(v.Layers.Bias), percent(v.Layers.Within10), replayed, by, log)
	}
	return t.Dense()
}

func utilisationTable(v *validation.Validation) *table.Table {
	t := table.New("accelerator", ">measured", ">predicted")
	t.Title = "How busy accelerators were under " + v.Policy
	for _, a := range v.Accelerators {
		t.Add(a.Accelerator, percent(a.Real), percent(a.Predicted))
	}
	return t
}

func sourceTable(v *validation.Validation) *table.Table {
	t := table.New("source", ">share", ">per layer run", "what was found")
	t.Title = "What prediction and hardware disagree about, as parts of all error of layer times"
	for _, s := range v.Sources {
		t.Add(s.Name, percent(s.Share), fmt.Sprintf("%+.1f us", s.MeanUS), s.What)
	}
	return t
}

// How many layers cellTable has, on a terminal and on a page.
const (
	cellsShown = 8
	cellsWide  = 25
)

func cellTable(v *validation.Validation) *table.Table {
	t := table.New("model", "layer", "implementation", "accelerator", ">runs", ">predicted", ">measured", ">off",
		">within 10 %", "+>mean error", "+>bias")
	t.Title = "Where layers are off most, by total time"
	t.Folded = fmt.Sprintf("Layers of %s that are off most: %d of %s", v.Policy, min(cellsWide, len(v.Cells)),
		group(len(v.Cells)))
	for i, c := range v.Cells[:min(cellsWide, len(v.Cells))] {
		off := "-"
		if c.MeasuredUS > 0 {
			off = signed((c.PredictedUS - c.MeasuredUS) / c.MeasuredUS)
		}
		t.Add(c.Model, shorten(c.Layer, 28), shorten(c.Implementation, 16), c.Accelerator, c.Runs, usText(c.PredictedUS),
			usText(c.MeasuredUS), off, percent(c.Within10), percent(c.MAPE), signed(c.Bias)).Wide = i >= cellsShown
	}
	return t
}

// orderTable says for pairs of policies whether a prediction orders them as the hardware did.
func orderTable(all []validation.Order) *table.Table {
	t := table.New("fewer misses", "more misses", ">measured", ">predicted", "order")
	t.Title = "Order of the policies by mean miss rate"
	for _, o := range all {
		text := "✓ kept"
		switch {
		case !o.Decided:
			text = "~ intervals overlap: no order to keep"
		case !o.Kept:
			text = "✗ not kept"
		}
		t.Add(o.Better, o.Worse, percent(o.RealBetter)+" < "+percent(o.RealWorse),
			percent(o.PredictedBetter)+", "+percent(o.PredictedWorse), text)
	}
	return t
}

// validated holds predictions against what the hardware did. Figures and tables
// in detail are those of the first run of every policy.
func (p *Page) validated() section {
	s := section{ID: "validation", Title: "Predicted against measured", Wide: true}
	var all, firsts []*validation.Validation
	var orders []validation.Order
	for i := range p.Validations {
		d := &p.Validations[i]
		s.Text, orders = append(s.Text, d.Notes...), append(orders, d.Order...)
		for n := range d.Validations {
			v := &d.Validations[n]
			all = append(all, v)
			if !slices.ContainsFunc(firsts, func(x *validation.Validation) bool { return x.Policy == v.Policy }) {
				firsts = append(firsts, v)
			}
		}
	}
	if len(all) == 0 {
		return s
	}
	s.Tables = append(s.Tables, runTable(all, len(firsts) < len(all)), checkTable(firsts), orderTable(orders))
	if len(firsts) < len(all) {
		s.Text = append(s.Text, "Of repeated runs of a policy the details are those of the first.")
	}
	for _, v := range firsts {
		s.Groups = append(s.Groups, detailed(v))
	}
	return s
}

// detailed is one run in detail.
func detailed(v *validation.Validation) section {
	held, _ := v.Held()
	s := section{Title: fmt.Sprintf("%s in detail: %d of %d checks held", v.Policy, held, len(v.Checks)),
		Text: validationText(v), Figures: []chart{scatter(v)}, Tables: []*table.Table{requestTable(v),
			utilisationTable(v), sourceTable(v), cellTable(v)}}
	for m := range v.Models {
		s.Figures = append(s.Figures, quantiles(&v.Models[m]))
	}
	s.Figures = append(s.Figures, missPairs(v), sources(v))
	return s
}

// scatter draws predicted against measured medians of layers.
func scatter(v *validation.Validation) chart {
	low, high := math.Inf(1), 0.0
	var accs []string
	cells := slices.DeleteFunc(slices.Clone(v.Cells), func(c validation.Cell) bool {
		return c.PredictedUS <= 0 || c.MeasuredUS <= 0
	})
	for _, c := range cells {
		low, high = min(low, c.PredictedUS, c.MeasuredUS), max(high, c.PredictedUS, c.MeasuredUS)
		if !slices.Contains(accs, c.Accelerator) {
			accs = append(accs, c.Accelerator)
		}
	}
	if high == 0 {
		return chart{}
	}
	slices.Sort(accs)
	f := newFigure(360, 320, "Predicted against measured median latencies of layers, both axes logarithmic; on the "+
		"diagonal they are equal")
	f.x.min, f.x.max, f.x.log = low/1.3, high*1.3, true
	f.y.min, f.y.max, f.y.log = f.x.min, f.x.max, true
	f.axes("predicted, us", "measured, us", compact, compact)
	diagonal := func(by float64, class string) {
		from, to := f.x.min, f.x.max
		if by > 1 {
			to /= by
		} else {
			from /= by
		}
		f.line([]point{{from, from * by}, {to, to * by}}, class, "")
	}
	diagonal(1, "equal")
	diagonal(1.1, "limit")
	diagonal(1/1.1, "limit")
	for _, c := range cells {
		f.marker(point{c.PredictedUS, c.MeasuredUS}, slices.Index(accs, c.Accelerator),
			fmt.Sprintf("%s %s (%s) on %s: predicted %s, measured %s, %s", c.Model, c.Layer, c.Implementation, c.Accelerator,
				usText(c.PredictedUS), usText(c.MeasuredUS), plural(c.Runs, "run")))
	}
	var l []legend
	for n, a := range accs {
		l = append(l, legend{markKey(n), a})
	}
	return chart{Caption: "Layers: predicted and measured medians", SVG: f.done(), Legend: l}
}

// quantiles draws quantiles of response times against each other: the prediction's, and those at the run's own pace.
func quantiles(m *validation.Model) chart {
	n, top := len(m.Real.Quantiles), 0.0
	sides := slices.DeleteFunc(sidesOf(m), func(x side) bool { return x.n == 2 && len(x.of.Quantiles) == 0 })
	for _, x := range sides {
		n = min(n, len(x.of.Quantiles))
	}
	if n == 0 {
		return chart{}
	}
	for _, x := range sides {
		top = max(top, x.of.Quantiles[n-1])
	}
	top = niceMax(1.02 * top)
	f := newFigure(360, 260, "Quantiles of response times of "+m.Model+", predicted against measured; on the diagonal "+
		"they are equal")
	f.x.max, f.y.max = top, top
	f.axes("predicted, ms", "measured, ms", compact, compact)
	f.line([]point{{0, 0}, {top, top}}, "equal", "")
	if m.Deadline > 0 && m.Deadline < top {
		f.level(m.Deadline, "deadline", "deadline")
	}
	var l []legend
	for _, x := range sides[1:] {
		l = append(l, legend{key(x.n), x.name})
		var line []point
		for i := range n {
			line = append(line, point{x.of.Quantiles[i], m.Real.Quantiles[i]})
		}
		f.line(line, seriesClass(x.n), x.name+", 1st to 99th percentile")
		for _, q := range []int{50, 90, 99} {
			if q <= n {
				p := line[q-1]
				f.marker(p, x.n, fmt.Sprintf("p%d: %s %s, measured %s", q, x.name, msText(p.x), msText(p.y)))
				f.text(f.x.at(p.x)+7, f.y.at(p.y)+12, "tick", "start", fmt.Sprintf("p%d", q))
			}
		}
	}
	return chart{Caption: m.Model + ": response times, quantile by quantile", SVG: f.done(), Legend: l}
}

// missPairs draws measured and predicted miss rates of each model.
func missPairs(v *validation.Validation) chart {
	var rows []row
	top := 0.05
	for i := range v.Models {
		m := &v.Models[i]
		if m.Real.Released == 0 {
			continue
		}
		for _, x := range sidesOf(m) {
			name := m.Model
			if x.n > 0 {
				name = x.name
			}
			o := x.of
			rows = append(rows, row{name, interval{o.MissRate, o.MissLow, max(o.MissRate, o.MissHigh)}, x.n,
				percent(o.MissRate)})
			top = max(top, o.MissRate, o.MissHigh)
		}
	}
	if len(rows) == 0 {
		return chart{}
	}
	title := "Miss rates by model, measured, predicted and at the run's own pace"
	return chart{Caption: "Miss rates: measured and predicted", SVG: intervals(title, rows, top, "miss rate")}
}

func sources(v *validation.Validation) chart {
	var rows []row
	for _, s := range v.Sources {
		rows = append(rows, row{name: s.Name, value: interval{value: s.Share}, text: percent(s.Share)})
	}
	if len(rows) == 0 {
		return chart{}
	}
	return chart{Caption: "Where the error of layer times comes from",
		SVG: bars("Share of the error of layer times by source", rows)}
}

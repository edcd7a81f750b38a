package view

import (
	"cmp"
	"fmt"
	"html/template"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"github.com/terastal/terastal/cmd/terastal/internal/comparison"
	"github.com/terastal/terastal/cmd/terastal/internal/validation"
)

// validated holds predictions against what the hardware did. Figures and tables
// in detail are those of the first run of every policy.
func (p *Page) validated() (section, bool) {
	s := section{ID: "validation", Title: "Predicted against measured", Wide: true}
	var all, firsts []*validation.Validation
	paced := false
	for i := range p.Validations {
		d := &p.Validations[i]
		s.Text = append(s.Text, d.Notes...)
		for n := range d.Validations {
			v := &d.Validations[n]
			all = append(all, v)
			paced = paced || slices.ContainsFunc(v.Models, func(m validation.Model) bool { return m.Given != nil })
			if !slices.ContainsFunc(firsts, func(x *validation.Validation) bool { return x.Policy == v.Policy }) {
				firsts = append(firsts, v)
			}
		}
	}
	if len(all) == 0 {
		return s, false
	}
	if paced {
		s.Text = append(s.Text, "\"At the run's own pace\" is simulated with the speed that the accelerators had from moment to moment during this very run: it is no prediction, because that is known only afterwards, and says how much of a disagreement is the machine's and how much the simulator's.")
	}
	s.Tables = append(s.Tables, validationTable(all, paced, len(firsts) < len(all)))
	if len(firsts) > 1 {
		s.Tables = append(s.Tables, checkTable(firsts, paced))
	}
	if g := orderTable(p.Validations); len(g.Rows) > 0 {
		s.Tables = append(s.Tables, g)
	}
	if len(firsts) < len(all) {
		s.Text = append(s.Text, "Of repeated runs of a policy the details are those of the first.")
	}
	for _, v := range firsts {
		s.Groups = append(s.Groups, detailed(v))
	}
	return s, true
}

// validationTable has a row for every run, with its log where policies ran more
// than once.
func validationTable(all []*validation.Validation, paced, repeated bool) grid {
	g := grid{Caption: "Runs held against predictions of them", Head: columns("policy", "verdict", ">checks held", ">error of layer times", ">bias", ">within 10 %", "decisions replayed", "predicted by")}
	if paced {
		g.Head = slices.Insert(g.Head, 3, column{"at the run's own pace", true})
	}
	if repeated {
		g.Head = append(g.Head, column{"log", false})
	}
	for _, v := range all {
		verdict := "VALID"
		if !v.Valid {
			verdict = "INVALID"
		}
		replayed := "all " + count(v.Decisions) + " the same"
		switch {
		case v.Difference != "":
			replayed = "✗ they differ"
		case v.Decisions == 0:
			replayed = "none"
		}
		by := v.Predictor
		if v.Draws > 0 {
			by += ", " + plural(v.Draws, "draw")
		}
		held, given := v.Held()
		row := []string{v.Policy, verdict, fmt.Sprintf("%d of %d", held, len(v.Checks)), percent(v.Layers.MAPE), signedPercent(v.Layers.Bias), percent(v.Layers.Within10), replayed, by}
		if paced {
			row = slices.Insert(row, 3, fmt.Sprintf("%d of %d", given, len(v.Checks)))
		}
		if repeated {
			row = append(row, filepath.Base(v.Log))
		}
		g.Rows = append(g.Rows, row)
	}
	return g
}

// checkTable has a column for every policy and a row for every check.
func checkTable(firsts []*validation.Validation, paced bool) grid {
	g := grid{Caption: "How far off each prediction is: ✓ within the limit of the check, ✗ beyond, in its unit", Head: columns("check", ">limit")}
	if paced {
		g.Caption += "; in parentheses at the run's own pace"
	}
	var names []string
	limits := map[string]string{}
	for _, v := range firsts {
		g.Head = append(g.Head, column{v.Policy, true})
		for i := range v.Checks {
			c := &v.Checks[i]
			if limits[c.What] == "" {
				names = append(names, c.What)
				limits[c.What] = strings.TrimPrefix(offText(c, c.Limit), "+")
			}
		}
	}
	for _, name := range names {
		row := []string{name, limits[name]}
		for _, v := range firsts {
			n := slices.IndexFunc(v.Checks, func(c validation.Check) bool { return c.What == name })
			if n < 0 {
				row = append(row, "")
				continue
			}
			c := &v.Checks[n]
			text := heldMark(c, c.Off) + offNumber(c.Off)
			if c.OffGiven != nil {
				text += " (" + heldMark(c, *c.OffGiven) + offNumber(*c.OffGiven) + ")"
			}
			row = append(row, text)
		}
		g.Rows = append(g.Rows, row)
	}
	return g
}

func heldMark(c *validation.Check, off float64) string {
	if c.Holds(off) {
		return "✓" + nbsp
	}
	return "✗" + nbsp
}

// offText words an error of a check.
func offText(c *validation.Check, off float64) string {
	if c.Unit == "points" {
		return points(off)
	}
	return signedPercent(off)
}

// offNumber is an error where the unit stands beside it.
func offNumber(off float64) string { return minus(fmt.Sprintf("%+.1f", 100*off)) }

// orderTable says for pairs of policies whether a prediction orders them as the
// hardware did.
func orderTable(all []validation.Document) grid {
	g := grid{Caption: "Order of policies by mean miss rate: measured, and in parentheses predicted", Head: columns("fewer misses", ">miss rate", "more misses", ">miss rate", "order kept")}
	for i := range all {
		for _, o := range all[i].Order {
			kept := "✗ no"
			switch {
			case !o.Decided:
				kept = "not decided: intervals overlap"
			case o.Kept:
				kept = "✓ yes"
			}
			pair := func(real, predicted float64) string { return percent(real) + " (" + percent(predicted) + ")" }
			g.Rows = append(g.Rows, []string{o.Better, pair(o.RealBetter, o.PredictedBetter), o.Worse, pair(o.RealWorse, o.PredictedWorse), kept})
		}
	}
	return g
}

// detailed is one run in detail.
func detailed(v *validation.Validation) section {
	held, _ := v.Held()
	g := section{Title: fmt.Sprintf("%s in detail: %d of %d checks held", v.Policy, held, len(v.Checks)), Text: []string{validationText(v)}}
	if f, l, ok := scatter(v); ok {
		g.Figures = append(g.Figures, chart{Caption: "Layers: predicted and measured medians", SVG: f, Legend: l})
	}
	for m := range v.Models {
		if f, l, ok := quantiles(&v.Models[m]); ok {
			g.Figures = append(g.Figures, chart{Caption: v.Models[m].Model + ": response times, quantile by quantile", SVG: f, Legend: l})
		}
	}
	if f, ok := missPairs(v); ok {
		g.Figures = append(g.Figures, chart{Caption: "Miss rates: measured and predicted", SVG: f})
	}
	if f, ok := sources(v); ok {
		g.Figures = append(g.Figures, chart{Caption: "Where the error of layer times comes from", SVG: f})
	}
	g.Tables = validationTables(v)
	return g
}

func validationText(v *validation.Validation) string {
	text := fmt.Sprintf("%s, predicted by %s: %s of layers, off by %s on average (bias %s), %s within 5 %% and %s within 10 %%.", v.Policy, v.Predictor, plural(v.Layers.N, "run"),
		percent(v.Layers.MAPE), signedPercent(v.Layers.Bias), percent(v.Layers.Within5), percent(v.Layers.Within10))
	if v.Layers.Rank != nil {
		text += fmt.Sprintf(" Rank correlation %.3f.", *v.Layers.Rank)
	}
	switch {
	case v.Difference != "":
		text += " Replayed decisions differ: " + v.Difference + "."
	case v.Decisions > 0:
		text += fmt.Sprintf(" All %s decisions came out the same when replayed with the measured durations.", count(v.Decisions))
	}
	return text
}

func signedPercent(x float64) string { return minus(fmt.Sprintf("%+.1f"+nbsp+"%%", 100*x)) }

// scatter draws predicted against measured medians of layers.
func scatter(v *validation.Validation) (template.HTML, []legend, bool) {
	low, high := math.Inf(1), 0.0
	var accs []string
	for _, c := range v.Cells {
		if c.PredictedUS <= 0 || c.MeasuredUS <= 0 {
			continue
		}
		low, high = min(low, c.PredictedUS, c.MeasuredUS), max(high, c.PredictedUS, c.MeasuredUS)
		if !slices.Contains(accs, c.Accelerator) {
			accs = append(accs, c.Accelerator)
		}
	}
	if high == 0 {
		return "", nil, false
	}
	slices.Sort(accs)
	f := newFigure(360, 320, "Predicted against measured median latencies of layers, both axes logarithmic; on the diagonal they are equal")
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
	for _, c := range v.Cells {
		if c.PredictedUS <= 0 || c.MeasuredUS <= 0 {
			continue
		}
		n := slices.Index(accs, c.Accelerator)
		f.marker(point{c.PredictedUS, c.MeasuredUS}, n, fmt.Sprintf("%s %s (%s) on %s: predicted %s, measured %s, %s", c.Model, c.Layer, c.Implementation, c.Accelerator,
			usText(c.PredictedUS), usText(c.MeasuredUS), plural(c.Runs, "run")))
	}
	var l []legend
	for n, a := range accs {
		l = append(l, legend{markKey(n), a})
	}
	return f.done(), l, true
}

// markKey is the sample of a marker without a line.
func markKey(n int) template.HTML {
	f := newFigure(14, 14, "")
	f.shape(7, 7, n, "")
	return template.HTML(`<svg class="key" viewBox="0 0 14 14" width="14" height="14" aria-hidden="true">` + f.b.String() + `</svg>`)
}

// quantiles draws quantiles of response times against each other: the
// prediction's, and those at the run's own pace.
func quantiles(m *validation.Model) (template.HTML, []legend, bool) {
	sides := []side{{"predicted", 1, &m.Predicted}}
	if m.Given != nil && len(m.Given.Quantiles) > 0 {
		sides = append(sides, side{"at the run's own pace", 2, m.Given})
	}
	n := len(m.Real.Quantiles)
	top := 0.0
	for _, x := range sides {
		n = min(n, len(x.of.Quantiles))
	}
	if n == 0 {
		return "", nil, false
	}
	for _, x := range append(sides, side{of: &m.Real}) {
		top = max(top, x.of.Quantiles[n-1])
	}
	top = niceMax(1.02 * top)
	f := newFigure(360, 260, "Quantiles of response times of "+m.Model+", predicted against measured; on the diagonal they are equal")
	f.x.max, f.y.max = top, top
	f.axes("predicted, ms", "measured, ms", compact, compact)
	f.line([]point{{0, 0}, {top, top}}, "equal", "")
	if m.Deadline > 0 && m.Deadline < top {
		f.level(m.Deadline, "deadline", "deadline")
	}
	var l []legend
	for _, x := range sides {
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
	return f.done(), l, true
}

// side is what a model got on the hardware or in a simulation of it; n is its
// colour.
type side struct {
	name string
	n    int
	of   *validation.Outcomes
}

// sidesOf are those of a model that there are, the hardware first.
func sidesOf(m *validation.Model) []side {
	out := []side{{"measured", 0, &m.Real}, {"predicted", 1, &m.Predicted}}
	if m.Given != nil {
		out = append(out, side{"at its own pace", 2, m.Given})
	}
	return out
}

// missPairs draws measured and predicted miss rates of each model.
func missPairs(v *validation.Validation) (template.HTML, bool) {
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
			rows = append(rows, row{name, interval{x.of.MissRate, x.of.MissLow, max(x.of.MissRate, x.of.MissHigh)}, x.n, percent(x.of.MissRate)})
			top = max(top, x.of.MissRate, x.of.MissHigh)
		}
	}
	if len(rows) == 0 {
		return "", false
	}
	return intervals("Miss rates by model, measured, predicted and at the run's own pace", rows, min(1, niceMax(top)), "miss rate", percentTick), true
}

func sources(v *validation.Validation) (template.HTML, bool) {
	var rows []row
	for _, s := range v.Sources {
		rows = append(rows, row{name: s.Name, value: interval{value: s.Share}, text: percent(s.Share)})
	}
	if len(rows) == 0 {
		return "", false
	}
	return bars("Share of the error of layer times by source", rows), true
}

// cellsShown is how many layers the table of a validation has.
const cellsShown = 25

func validationTables(v *validation.Validation) []grid {
	var out []grid
	if len(v.Checks) > 0 {
		g := grid{Caption: "Checks of " + v.Policy, Head: columns("check", "held", ">measured", ">predicted", ">off by", ">limit", ">off at the run's own pace")}
		for i := range v.Checks {
			c := &v.Checks[i]
			held, given := "✓ yes", ""
			if !c.OK {
				held = "✗ no"
			}
			if c.OffGiven != nil {
				given = heldMark(c, *c.OffGiven) + offText(c, *c.OffGiven)
			}
			value := func(x float64) string { return number(x) + nbsp + c.Unit }
			switch c.Unit {
			case "ms":
				value = msText
			case "points":
				value = percent
			}
			g.Rows = append(g.Rows, []string{c.What, held, value(c.Real), value(c.Predicted), offText(c, c.Off), strings.TrimPrefix(offText(c, c.Limit), "+"), given})
		}
		out = append(out, g)
	}
	if len(v.Models) > 0 {
		g := grid{Caption: "Requests of " + v.Policy, Head: columns("model", "", ">released", ">dropped", ">variants used", ">miss rate", ">95 % interval", ">p50", ">p90", ">p99")}
		for i := range v.Models {
			m := &v.Models[i]
			for _, x := range sidesOf(m) {
				o := x.of
				g.Rows = append(g.Rows, []string{m.Model, x.name, count(o.Released), count(o.Dropped), count(o.VariantsUsed), percent(o.MissRate),
					between(interval{o.MissRate, o.MissLow, o.MissHigh}, percent), msText(o.P50MS), msText(o.P90MS), msText(o.P99MS)})
			}
		}
		out = append(out, g)
	}
	if len(v.Accelerators) > 0 {
		g := grid{Caption: "Utilisation under " + v.Policy, Head: columns("accelerator", ">measured", ">predicted")}
		for _, a := range v.Accelerators {
			g.Rows = append(g.Rows, []string{a.Accelerator, percent(a.Real), percent(a.Predicted)})
		}
		out = append(out, g)
	}
	if len(v.Sources) > 0 {
		g := grid{Caption: "Sources of disagreement under " + v.Policy, Head: columns("source", ">share", ">per layer run", "what")}
		for _, s := range v.Sources {
			g.Rows = append(g.Rows, []string{s.Name, percent(s.Share), signedMS(s.MeanUS / 1e3), s.What})
		}
		out = append(out, g)
	}
	if len(v.Cells) > 0 {
		n := min(cellsShown, len(v.Cells))
		g := grid{Summary: fmt.Sprintf("Layers of %s with the most disagreement: %d of %s", v.Policy, n, count(len(v.Cells))), Caption: "Layers with the most disagreement under " + v.Policy,
			Head: columns("model", "layer", "implementation", "accelerator", ">runs", ">predicted", ">measured", ">mean error", ">bias")}
		for _, c := range v.Cells[:n] {
			g.Rows = append(g.Rows, []string{c.Model, c.Layer, c.Implementation, c.Accelerator, count(c.Runs), usText(c.PredictedUS), usText(c.MeasuredUS), percent(c.MAPE), signedPercent(c.Bias)})
		}
		out = append(out, g)
	}
	return out
}

// swept shows how miss rates grow with the rates.
func (p *Page) swept() (section, bool) {
	s := section{ID: "sweep", Title: "Miss rates as rates grow"}
	for i := range p.Curves {
		c := &p.Curves[i]
		f, ok := sweepChart(c)
		if !ok {
			continue
		}
		s.Wide = true
		s.Text = append(s.Text, fmt.Sprintf("All rates of %s times a factor (%s, %s s a run). A policy sustains a scale at which its mean miss rate stays within %s; where that lies is as sure as the interval is narrow: below it the 95 %% intervals of all points are within the limit, beyond it all are above.",
			cmp.Or(c.Source, "the configuration"), c.Driver, number(c.DurationS), percent(c.Limit)))
		s.Figures = append(s.Figures, chart{Caption: "Mean miss rate by scale (" + c.Driver + ")", SVG: f})
		g := grid{Caption: "Largest scale sustained", Head: columns("policy", ">sustains", ">surely", ">surely not", ">exceeds at")}
		points := grid{Summary: "The points of the curves", Caption: "Points", Head: columns("policy", ">scale", ">load", ">miss rate", ">95 % interval", ">runs")}
		for n, x := range c.Curves {
			if len(s.Legend) < len(c.Curves) {
				s.Legend = append(s.Legend, legend{key(n), x.Policy})
			}
			g.Rows = append(g.Rows, []string{x.Policy, optional(x.Sustains, "none looked at"), optional(x.Surely, "?"), optional(x.SurelyNot, "?"), optional(x.Exceeds, "none looked at")})
			for _, q := range x.Points {
				points.Rows = append(points.Rows, []string{x.Policy, number(q.Scale), number(q.Load), percent(q.Miss), between(interval{q.Miss, q.Low, q.High}, percent), count(q.Runs)})
			}
		}
		s.Tables = append(s.Tables, g, points)
	}
	return s, len(s.Figures) > 0
}

func optional(x *float64, none string) string {
	if x == nil {
		return none
	}
	return number(*x) + "x"
}

func sweepChart(c *comparison.Curves) (template.HTML, bool) {
	low, high, top := math.Inf(1), math.Inf(-1), c.Limit
	for _, x := range c.Curves {
		for _, q := range x.Points {
			low, high, top = min(low, q.Scale), max(high, q.Scale), max(top, q.High, q.Miss)
		}
	}
	if math.IsInf(low, 0) {
		return "", false
	}
	f := newFigure(680, 320, "Mean miss rate by scale of the rates, by policy")
	f.x.min, f.x.max = low, high
	if high == low {
		f.x.min, f.x.max = low-.1, high+.1
	}
	f.y.max = min(1, niceMax(1.02*top))
	f.axes("scale of all rates", "mean miss rate", compact, percentTick)
	f.level(c.Limit, "deadline", "limit "+percent(c.Limit))
	for n, x := range c.Curves {
		var line []point
		for _, q := range x.Points {
			line = append(line, point{q.Scale, q.Miss})
			at := f.x.at(q.Scale)
			f.segment(at, f.y.at(f.y.inside(q.Low)), at, f.y.at(f.y.inside(q.High)), fmt.Sprintf("whisker s%d", n%colours))
		}
		f.line(line, seriesClass(n), x.Policy)
		for i, p := range line {
			q := &x.Points[i]
			f.marker(p, n, strings.Join([]string{x.Policy, "scale " + number(q.Scale), "load " + number(q.Load), percent(q.Miss)}, ", "))
		}
	}
	return f.done(), true
}

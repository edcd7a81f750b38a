package page

import (
	"fmt"
	"html/template"
	"math"
	"slices"
	"strings"

	"github.com/terastal/terastal/internal/comparison"
	"github.com/terastal/terastal/internal/validation"
)

// validated holds predictions against what the hardware did.
func (p *Page) validated() (section, bool) {
	s := section{ID: "validation", Title: "Predicted against measured"}
	for i := range p.Validations {
		v := &p.Validations[i]
		of := v.Policy
		s.Text = append(s.Text, validationText(v))
		caption := func(what string) string { return what + " (" + of + ")" }
		if f, l, ok := scatter(v); ok {
			s.Figures = append(s.Figures, chart{caption("Layers: predicted and measured medians"), f})
			if len(s.Legend) == 0 {
				s.Legend = l
			}
		}
		for m := range v.Models {
			if f, ok := quantiles(&v.Models[m]); ok {
				s.Figures = append(s.Figures, chart{caption(v.Models[m].Model + ": response times, quantile by quantile"), f})
			}
		}
		if f, ok := missPairs(v); ok {
			s.Figures = append(s.Figures, chart{caption("Miss rates: measured and predicted"), f})
		}
		if f, ok := sources(v); ok {
			s.Figures = append(s.Figures, chart{caption("Where the error comes from"), f})
		}
		s.Tables = append(s.Tables, validationTables(v)...)
	}
	if len(p.Orders) > 0 {
		g := grid{Caption: "Order of policies by mean miss rate: measured, and in parentheses predicted", Head: columns("fewer misses", ">miss rate", "more misses", ">miss rate", "order kept")}
		for _, o := range p.Orders {
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
		s.Tables = append(s.Tables, g)
	}
	return s, len(p.Validations) > 0
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

// quantiles draws quantiles of response times against each other.
func quantiles(m *validation.Model) (template.HTML, bool) {
	n := min(len(m.Real.Quantiles), len(m.Predicted.Quantiles))
	if n == 0 {
		return "", false
	}
	f := newFigure(360, 260, "Quantiles of response times of "+m.Model+", predicted against measured; on the diagonal they are equal")
	top := niceMax(1.02 * max(m.Real.Quantiles[n-1], m.Predicted.Quantiles[n-1]))
	f.x.max, f.y.max = top, top
	f.axes("predicted, ms", "measured, ms", compact, compact)
	f.line([]point{{0, 0}, {top, top}}, "equal", "")
	if m.Deadline > 0 && m.Deadline < top {
		f.level(m.Deadline, "deadline", "deadline")
	}
	var line []point
	for i := range n {
		line = append(line, point{m.Predicted.Quantiles[i], m.Real.Quantiles[i]})
	}
	f.line(line, "s0 d0", "1st to 99th percentile")
	for _, q := range []int{50, 90, 99} {
		if q <= n {
			p := line[q-1]
			f.marker(p, 0, fmt.Sprintf("p%d: predicted %s, measured %s", q, msText(p.x), msText(p.y)))
			f.text(f.x.at(p.x)+7, f.y.at(p.y)+12, "tick", "start", fmt.Sprintf("p%d", q))
		}
	}
	return f.done(), true
}

// missPairs draws measured and predicted miss rates of each model.
func missPairs(v *validation.Validation) (template.HTML, bool) {
	var rows []row
	top := 0.05
	for _, m := range v.Models {
		if m.Real.Released == 0 {
			continue
		}
		for n, o := range []validation.Outcomes{m.Real, m.Predicted} {
			name := m.Model
			if n == 1 {
				name = "  predicted"
			}
			rows = append(rows, row{name, interval{o.MissRate, o.MissLow, max(o.MissRate, o.MissHigh)}, n, percent(o.MissRate)})
			top = max(top, o.MissRate, o.MissHigh)
		}
	}
	if len(rows) == 0 {
		return "", false
	}
	return intervals("Miss rates by model, measured and predicted", rows, min(1, niceMax(top)), "miss rate", percentTick), true
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
		g := grid{Caption: "Checks of " + v.Policy, Head: columns("check", "held", ">measured", ">predicted", ">off by", ">limit")}
		for _, c := range v.Checks {
			held := "✓ yes"
			if !c.OK {
				held = "✗ no"
			}
			g.Rows = append(g.Rows, []string{c.What, held, number(c.Real) + " " + c.Unit, number(c.Predicted) + " " + c.Unit, number(c.Off), number(c.Limit)})
		}
		out = append(out, g)
	}
	if len(v.Models) > 0 {
		g := grid{Caption: "Requests of " + v.Policy + ": measured, and in parentheses predicted", Head: columns("model", ">released", ">miss rate", ">p50", ">p90", ">p99", ">dropped", ">variants used")}
		for _, m := range v.Models {
			pair := func(f func(o *validation.Outcomes) string) string { return f(&m.Real) + " (" + f(&m.Predicted) + ")" }
			g.Rows = append(g.Rows, []string{m.Model,
				pair(func(o *validation.Outcomes) string { return count(o.Released) }),
				pair(func(o *validation.Outcomes) string { return percent(o.MissRate) }),
				pair(func(o *validation.Outcomes) string { return msText(o.P50MS) }),
				pair(func(o *validation.Outcomes) string { return msText(o.P90MS) }),
				pair(func(o *validation.Outcomes) string { return msText(o.P99MS) }),
				pair(func(o *validation.Outcomes) string { return count(o.Dropped) }),
				pair(func(o *validation.Outcomes) string { return count(o.VariantsUsed) })})
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
		f, ok := sweepChart(&c.Curves)
		if !ok {
			continue
		}
		s.Wide = true
		s.Text = append(s.Text, fmt.Sprintf("All rates times a factor (%s). A policy sustains a scale at which its mean miss rate stays within %s.", c.Driver, percent(c.Limit)))
		s.Figures = append(s.Figures, chart{"Mean miss rate by scale (" + c.Driver + ")", f})
		g := grid{Caption: "Largest scale sustained", Head: columns("policy", ">sustains", ">exceeds at")}
		points := grid{Summary: "The points of the curves", Caption: "Points", Head: columns("policy", ">scale", ">load", ">miss rate", ">95 % interval", ">runs")}
		for n, x := range c.Curves.Curves {
			if len(s.Legend) < len(c.Curves.Curves) {
				s.Legend = append(s.Legend, legend{key(n), x.Policy})
			}
			g.Rows = append(g.Rows, []string{x.Policy, optional(x.Sustains, "none looked at"), optional(x.Exceeds, "none looked at")})
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

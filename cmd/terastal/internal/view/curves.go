package view

import (
	"cmp"
	"fmt"
	"html/template"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/terastal/terastal/cmd/terastal/internal/comparison"
	"github.com/terastal/terastal/cmd/terastal/internal/table"
)

// Curves prints miss rates by scale, and what each policy sustains.
func Curves(w io.Writer, c *comparison.Curves) {
	tables := []*table.Table{scaleTable(c)}
	for limit := range c.Limits() {
		tables = append(tables, sustainedTable(c, limit))
	}
	if t := floorTable(c); t != nil {
		tables = append(tables, t)
	}
	for i, t := range tables {
		if i > 0 {
			fmt.Fprintln(w)
		}
		if i == 0 {
			fit(w, t, 2, several(t, 2)...)
		} else {
			t.Text(w)
		}
	}
}

// several are the columns of a table after the first ones, as many side by side as fit, but for those that stay in it.
func several(t *table.Table, first int) (parts []table.Part) {
	if n := len(t.Columns) - first; n > 0 {
		groups := (t.Width() + tableWidth - 1) / tableWidth
		each := (n + groups - 1) / groups
		for from := first + each; from < len(t.Columns); from += each {
			var p table.Part
			for at := from; at < min(from+each, len(t.Columns)); at++ {
				p.Goes = append(p.Goes, at)
			}
			parts = append(parts, p)
		}
	}
	return parts
}

// CurvesLine says in a line what the policies sustain.
func CurvesLine(w io.Writer, c *comparison.Curves) {
	var parts []string
	for i := range c.Curves {
		parts = append(parts, curveName(&c.Curves[i])+" "+sustained(&c.Curves[i].Crossing))
	}
	fmt.Fprintf(w, "curves of %s (%s): %s, at most %g %% missed up to scale: %s\n", c.Source, c.Driver,
		verdict(len(c.Reasons) == 0), 100*c.Limit, strings.Join(parts, ", "))
}

// scaleTable has a row for every scale and a column for every policy; scales that
// only some were looked at are for pages.
func scaleTable(c *comparison.Curves) *table.Table {
	t := table.New(">scale", ">load")
	t.Title, t.Folded = "Miss rates by scale ("+c.Driver+")", "The points of the curves"
	var scales []float64
	for i := range c.Curves {
		t.Column(">" + curveName(&c.Curves[i]))
		for _, p := range c.Curves[i].Points {
			scales = append(scales, p.Scale)
		}
	}
	slices.Sort(scales)
	common := commonScales(c)
	for _, scale := range slices.Compact(scales) {
		r := t.Add(number(scale), "")
		r.Wide = !slices.Contains(common, scale)
		for i := range c.Curves {
			p, text := c.Curves[i].Point(scale), ""
			if p != nil {
				r.Cells[1], text = fmt.Sprintf("%.2f", p.Load), hundredths(p.Miss)+" %"
				if p.Runs > 1 {
					text = fmt.Sprintf("%s ± %s %%", hundredths(p.Miss), hundredths(max(p.High-p.Miss, p.Miss-p.Low)))
				}
			}
			r.Cells = append(r.Cells, text)
		}
	}
	return t
}

// sustainedTable has a row for every policy, at every accuracy floor.
func sustainedTable(c *comparison.Curves, limit int) *table.Table {
	scales, most := commonScales(c), c.Limits()[limit]
	miss := "miss rate"
	if len(scales) > 1 {
		miss += fmt.Sprintf(" from %g to %g", scales[0], scales[len(scales)-1])
	}
	sustains, title := "sustains scale", "Largest scale sustained"
	if len(c.Further) > 0 {
		sustains = fmt.Sprintf("scale at %g %%", 100*most)
		title += fmt.Sprintf(" at %g %% missed", 100*most)
	}
	t := table.New("policy", ">"+sustains, ">interval", ">load", "+>accuracy", "+>exceeds at", miss)
	t.Title = title + " (" + c.Driver + ")"
	scale := func(x float64) string { return fmt.Sprintf("%.3g", x) }
	for i := range c.Curves {
		x, load, kept := c.Curves[i].At(limit), "", "-"
		if p := sustainedPoint(&c.Curves[i], limit); p != nil {
			load = fmt.Sprintf("%.2f", p.Load)
			kept = optional(p.Accuracy, func(a float64) string { return fmt.Sprintf("%.4f", a) })
		}
		low, high := "?", "?"
		if x.Surely != nil {
			low = scale(*x.Surely)
		}
		if x.SurelyNot != nil {
			high = scale(*x.SurelyNot)
		}
		t.Add(curveName(&c.Curves[i]), sustained(x), low+" to "+high, load, kept, optional(x.Exceeds, scale),
			plot(&c.Curves[i], scales, most))
	}
	t.Explain("accuracy", "accuracy: the mean normalised accuracy of finished requests at the scale sustained")
	if limit < len(c.Further) {
		return t // the last one has the notes
	}
	t.Note("All rates of %s times a scale. Mean over models of the miss rate, mean over %s of %g s (%s); ± covers the "+
		"mean with 95 %% confidence (Student's t). Sustains: the largest scale found below the first at which it is above "+
		"%s. Load: demand over the fluid bound; above 1 no schedule without variants meets all deadlines. Interval: "+
		"below it the intervals of all points are within the limit, beyond it all are above; more seeds and longer runs "+
		"narrow it.", cmp.Or(c.Source, "the configuration"), runsOf(c), c.DurationS, c.Driver, limitsText(c))
	t.Note("plot: %c is within the limit, %c below 12.5 %%, %c below 25 %%, and so on to %c", within, firstBar, firstBar+1,
		firstBar+7)
	return t
}

// limitsText words the limits.
func limitsText(c *comparison.Curves) string {
	if len(c.Further) > 0 {
		return "the limit"
	}
	return fmt.Sprintf("%g %%", 100*c.Limit)
}

// sustained words the scale that a policy sustains.
func sustained(c *comparison.Crossing) string {
	switch {
	case c.Sustains == nil:
		return "none of these"
	case c.Exceeds == nil:
		return fmt.Sprintf("%.3g or more", *c.Sustains)
	}
	return fmt.Sprintf("%.3g", *c.Sustains)
}

// commonScales are the scales at which all policies were looked at.
func commonScales(c *comparison.Curves) (out []float64) {
	for i := range c.Curves {
		for _, p := range c.Curves[i].Points {
			missing := func(x comparison.Curve) bool { return x.Point(p.Scale) == nil }
			if i == 0 && !slices.ContainsFunc(c.Curves, missing) {
				out = append(out, p.Scale)
			}
		}
	}
	return out
}

// runsOf words how many runs there were of each point.
func runsOf(c *comparison.Curves) string {
	least, most := 0, 0
	for i := range c.Curves {
		for _, p := range c.Curves[i].Points {
			if least == 0 || p.Runs < least {
				least = p.Runs
			}
			most = max(most, p.Runs)
		}
	}
	if least != most {
		return fmt.Sprintf("%d to %d runs", least, most)
	}
	return plural(most, "run")
}

// Characters of plots: firstBar is the first of eight, one higher than the other.
const (
	within   = '·'
	firstBar = '▁'
)

// plot is a curve as a line of text, a character per scale.
func plot(c *comparison.Curve, scales []float64, limit float64) string {
	var b strings.Builder
	for _, s := range scales {
		p := c.Point(s)
		if p.Miss <= limit {
			b.WriteRune(within)
			continue
		}
		b.WriteRune(firstBar + rune(min(7, 8*p.Miss)))
	}
	return b.String()
}

// swept shows how miss rates grow with the rates.
func (p *Page) swept() section {
	s := section{ID: "sweep", Title: "Miss rates as rates grow"}
	for i := range p.Curves {
		c := &p.Curves[i]
		f := sweepChart(c)
		if f == "" {
			continue
		}
		s.Wide = true
		s.Figures = append(s.Figures, chart{Caption: "Mean miss rate by scale (" + c.Driver + ")", SVG: f})
		for n, x := range c.Curves {
			if len(s.Legend) < len(c.Curves) {
				s.Legend = append(s.Legend, legend{key(n), curveName(&x)})
			}
		}
		for limit := range c.Limits() {
			s.Tables = append(s.Tables, sustainedTable(c, limit))
		}
		s.Tables = append(s.Tables, scaleTable(c))
		s.Figures = append(s.Figures, floorFigures(c)...)
		if t := floorTable(c); t != nil {
			s.Tables = append(s.Tables, t)
		}
	}
	return s
}

func sweepChart(c *comparison.Curves) template.HTML {
	low, high, top := math.Inf(1), math.Inf(-1), slices.Max(c.Limits())
	for _, x := range c.Curves {
		for _, q := range x.Points {
			low, high, top = min(low, q.Scale), max(high, q.Scale), max(top, q.High, q.Miss)
		}
	}
	if math.IsInf(low, 0) {
		return ""
	}
	f := newFigure(680, 320, "Mean miss rate by scale of the rates, by policy")
	f.x.min, f.x.max = low, high
	if high == low {
		f.x.min, f.x.max = low-.1, high+.1
	}
	f.y.max = min(1, niceMax(1.02*top))
	f.axes("scale of all rates", "mean miss rate", compact, percentTick)
	limits := c.Limits()
	var words []string
	for _, limit := range limits {
		if words = append(words, percent(limit)); limit < slices.Max(limits) {
			f.level(limit, "deadline", "")
		}
	}
	// One name for all: limits lie close to each other.
	f.level(slices.Max(limits), "deadline", "limit "+strings.Join(words, ", "))
	for n, x := range c.Curves {
		var line []point
		for _, q := range x.Points {
			line = append(line, point{q.Scale, q.Miss})
			at := f.x.at(q.Scale)
			f.segment(at, f.y.at(f.y.inside(q.Low)), at, f.y.at(f.y.inside(q.High)), fmt.Sprintf("whisker s%d", n%colours))
		}
		f.line(line, seriesClass(n), curveName(&x))
		for i, p := range line {
			q := &x.Points[i]
			f.marker(p, n, fmt.Sprintf("%s, scale %s, load %.2f, %s %%", curveName(&x), number(q.Scale), q.Load, hundredths(q.Miss)))
		}
	}
	return f.done()
}

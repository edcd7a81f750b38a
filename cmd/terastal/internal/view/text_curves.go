package view

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/terastal/terastal/cmd/terastal/internal/comparison"
	"github.com/terastal/terastal/cmd/terastal/internal/table"
)

// Curves prints miss rates by scale, and what each policy sustains.
func Curves(w io.Writer, c *comparison.Curves) {
	header := []string{">scale", ">load"}
	for i := range c.Curves {
		header = append(header, ">"+c.Curves[i].Policy)
	}
	t := table.New(header...)
	scales, runs := common(c)
	for _, scale := range scales {
		row := table.Row{fmt.Sprintf("%g", scale), ""}
		for i := range c.Curves {
			p := at(&c.Curves[i], scale)
			row[1] = fmt.Sprintf("%.2f", p.Load)
			text := pointsInText(p.Miss) + " %"
			if p.Runs > 1 {
				text = fmt.Sprintf("%s ± %s %%", pointsInText(p.Miss), pointsInText(max(p.High-p.Miss, p.Miss-p.Low)))
			}
			row = append(row, text)
		}
		t.AppendRow(row)
	}
	render(w, t)
	fmt.Fprintln(w)
	t = table.New("policy", ">sustains scale", ">interval", ">load", fmt.Sprintf("miss rate%s", betweenInText(scales)))
	for i := range c.Curves {
		x := &c.Curves[i]
		load := ""
		if x.Sustains != nil {
			load = fmt.Sprintf("%.2f", at(x, *x.Sustains).Load)
		}
		t.AppendRow(table.Row{x.Policy, sustained(x), surely(x), load, plot(x, scales, c.Limit)})
	}
	render(w, t)
	Paragraph(w, fmt.Sprintf("Mean over models of the miss rate, mean over %s of %g s (%s); ± covers the mean with 95 %% confidence (Student's t). Sustains: the largest scale found below the first at which it is above %g %%. Load: demand over the fluid bound, which no schedule exceeds. Interval: below it the intervals of all points are within the limit, beyond it all are above; more seeds and longer runs narrow it.",
		runs, c.DurationS, c.Driver, 100*c.Limit))
	fmt.Fprintf(w, "plot: %c is within the limit, %c below 12.5 %%, %c below 25 %%, and so on to %c\n", within, barsInText, barsInText+1, barsInText+7)
}

// CurvesLine says in a line what the policies sustain.
func CurvesLine(w io.Writer, c *comparison.Curves) {
	var parts []string
	for i := range c.Curves {
		x := &c.Curves[i]
		parts = append(parts, x.Policy+" "+sustained(x))
	}
	fmt.Fprintf(w, "curves of %s (%s): %s, at most %g %% missed up to scale: %s\n", c.Source, c.Driver, word(len(c.Reasons) == 0), 100*c.Limit, strings.Join(parts, ", "))
}

// sustained words the scale that a policy sustains.
func sustained(c *comparison.Curve) string {
	switch {
	case c.Sustains == nil:
		return "none of these"
	case c.Exceeds == nil:
		return fmt.Sprintf("%.3g or more", *c.Sustains)
	}
	return fmt.Sprintf("%.3g", *c.Sustains)
}

// surely is where the scale that a policy sustains may lie.
func surely(c *comparison.Curve) string {
	low, high := "?", "?"
	if c.Surely != nil {
		low = fmt.Sprintf("%.3g", *c.Surely)
	}
	if c.SurelyNot != nil {
		high = fmt.Sprintf("%.3g", *c.SurelyNot)
	}
	return low + " to " + high
}

// common are the scales at which all policies were looked at, and in words how
// many runs there were of each.
func common(c *comparison.Curves) (scales []float64, runs string) {
	least, most := 0, 0
	for i := range c.Curves {
		for _, p := range c.Curves[i].Points {
			if least == 0 || p.Runs < least {
				least = p.Runs
			}
			most = max(most, p.Runs)
			missing := func(x comparison.Curve) bool { return at(&x, p.Scale) == nil }
			if i == 0 && !slices.ContainsFunc(c.Curves, missing) {
				scales = append(scales, p.Scale)
			}
		}
	}
	switch {
	case least == 1 && most == 1:
		return scales, "one run"
	case least == most:
		return scales, fmt.Sprintf("%d runs", most)
	}
	return scales, fmt.Sprintf("%d to %d runs", least, most)
}

func at(c *comparison.Curve, scale float64) *comparison.Point {
	i := slices.IndexFunc(c.Points, func(p comparison.Point) bool { return p.Scale == scale })
	if i < 0 {
		return nil
	}
	return &c.Points[i]
}

func betweenInText(scales []float64) string {
	if len(scales) < 2 {
		return ""
	}
	return fmt.Sprintf(" from %g to %g", scales[0], scales[len(scales)-1])
}

// Characters of plots: bars is the first of eight, one higher than the other.
const (
	within     = '·'
	barsInText = '▁'
)

// plot is a curve as a line of text, a character per scale.
func plot(c *comparison.Curve, scales []float64, limit float64) string {
	var b strings.Builder
	for _, s := range scales {
		p := at(c, s)
		if p.Miss <= limit {
			b.WriteRune(within)
			continue
		}
		b.WriteRune(barsInText + rune(min(7, 8*p.Miss)))
	}
	return b.String()
}

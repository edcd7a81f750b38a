package view

import (
	"fmt"
	"html/template"
	"slices"

	"github.com/terastal/terastal/cmd/terastal/internal/comparison"
	"github.com/terastal/terastal/cmd/terastal/internal/table"
)

// floorsOf are the accuracy floors that curves were looked at with, in their order; nil if there are none.
func floorsOf(c *comparison.Curves) (out []float64) {
	for i := range c.Curves {
		if f := c.Curves[i].Floor; f != nil && !slices.Contains(out, *f) {
			out = append(out, *f)
		}
	}
	return out
}

// floorName words a floor.
func floorName(floor float64) string {
	if floor == 0 {
		return "no floor"
	}
	return fmt.Sprintf("%g", floor)
}

// curveName is the policy's, with the accuracy floor that it kept.
func curveName(c *comparison.Curve) string {
	if c.Floor == nil {
		return c.Policy
	}
	return c.Policy + " at " + floorName(*c.Floor)
}

// byFloor is what one policy sustains.
type byFloor struct {
	policy string
	any    *comparison.Curve   // of a policy that floors mean nothing to
	at     []*comparison.Curve // by floor
}

func policiesByFloor(c *comparison.Curves) (out []byFloor) {
	floors := floorsOf(c)
	for i := range c.Curves {
		x := &c.Curves[i]
		if len(out) == 0 || out[len(out)-1].policy != x.Policy {
			out = append(out, byFloor{policy: x.Policy, at: make([]*comparison.Curve, len(floors))})
		}
		p := &out[len(out)-1]
		if x.Floor == nil {
			p.any = x
			continue
		}
		p.at[slices.Index(floors, *x.Floor)] = x
	}
	return out
}

// sustainedPoint is that of the largest scale that a curve sustains; nil if there is no such scale.
func sustainedPoint(c *comparison.Curve, limit int) *comparison.Point {
	if x := c.At(limit); x.Sustains != nil {
		return c.Point(*x.Sustains)
	}
	return nil
}

// sustainedLoad words the load that a curve sustains.
func sustainedLoad(c *comparison.Curve, limit int) string {
	if c == nil {
		return ""
	}
	p := sustainedPoint(c, limit)
	switch {
	case p == nil:
		return "none of these"
	case c.At(limit).Exceeds == nil:
		return fmt.Sprintf("%.2f or more", p.Load)
	}
	return fmt.Sprintf("%.2f", p.Load)
}

// floorTable says how much load policies sustain with every accuracy floor; nil if there are no floors.
func floorTable(c *comparison.Curves) *table.Table {
	floors := floorsOf(c)
	if floors == nil {
		return nil
	}
	t := table.New("policy", ">missed at most", ">any floor")
	for _, f := range floors {
		t.Column(">" + floorName(f))
	}
	t.Title = "Load sustained by accuracy floor (" + c.Driver + ")"
	for limit, most := range c.Limits() {
		for _, p := range policiesByFloor(c) {
			r := t.Add(p.policy, fmt.Sprintf("%g %%", 100*most), sustainedLoad(p.any, limit))
			for _, x := range p.at {
				r.Cells = append(r.Cells, sustainedLoad(x, limit))
			}
		}
	}
	t.Note("Load: demand over the fluid bound of the originals. Accuracy floor: the least mean normalised accuracy of a model's " +
		"finished requests; at 1 only originals run, with no floor variants are a last resort. Other policies know no floor and " +
		"sustain the same with any.")
	return t
}

// floorChart draws the load that policies sustain with every floor, at one limit; nothing where none sustains any that
// was looked at. Floors have equal distances: what the first tenth of a point buys would hide behind the axis otherwise.
func floorChart(c *comparison.Curves, limit int) template.HTML {
	floors, policies := floorsOf(c), policiesByFloor(c)
	top, any := 1.0, false
	for i := range c.Curves {
		if p := sustainedPoint(&c.Curves[i], limit); p != nil {
			top, any = max(top, p.Load), true
		}
	}
	if !any {
		return ""
	}
	f := newFigure(680, 300, "Load sustained by accuracy floor, by policy")
	f.x.max, f.y.max = float64(max(1, len(floors)-1)), niceMax(1.02*top)
	f.axes("accuracy floor", "load sustained", func(x float64) string {
		if i := int(x); float64(i) == x && i < len(floors) {
			return floorName(floors[i])
		}
		return ""
	}, compact)
	f.level(1, "deadline", "the fluid bound of the originals")
	for n, p := range policies {
		var line []point
		for i, x := range p.at {
			if p.any != nil {
				x = p.any
			}
			if x == nil {
				continue
			}
			q := sustainedPoint(x, limit)
			if q == nil {
				continue // which is not to say that it sustains no load
			}
			at, kept := point{float64(i), q.Load}, ""
			if q.Accuracy != nil {
				kept = fmt.Sprintf(", accuracy %.4f", *q.Accuracy)
			}
			line = append(line, at)
			f.marker(at, n, fmt.Sprintf("%s: load %s%s", curveName(x), sustainedLoad(x, limit), kept))
		}
		f.line(line, seriesClass(n), p.policy)
	}
	return f.done()
}

// floorFigures are the charts of [floorChart], one for each limit; none for less than two floors.
func floorFigures(c *comparison.Curves) (out []chart) {
	if len(floorsOf(c)) < 2 {
		return nil
	}
	var legends []legend
	for n, p := range policiesByFloor(c) {
		legends = append(legends, legend{key(n), p.policy})
	}
	for limit, most := range c.Limits() {
		if svg := floorChart(c, limit); svg != "" {
			out = append(out, chart{Caption: fmt.Sprintf("Load sustained at %g %% missed, by accuracy floor (%s)", 100*most,
				c.Driver), SVG: svg, Legend: legends})
		}
	}
	return out
}

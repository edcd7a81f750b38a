package view

import (
	"fmt"
	"html"
	"html/template"
	"math"
	"strings"
)

// Charts are SVG whose colours are classes of page.css, so that they follow the
// theme. Series differ by colour (s0 to s7), dash and marker.

const (
	colours  = 8
	dashes   = 5
	markers  = 6
	textSize = 11.0
	// charWidth is about that of a character of the charts' text.
	charWidth = 6.2
)

// scale maps values to pixels.
type scale struct {
	min, max float64
	from, to float64 // pixels
	log      bool
}

func (s scale) at(v float64) float64 {
	a, b, x := s.min, s.max, v
	if s.log {
		a, b, x = math.Log(a), math.Log(b), math.Log(max(v, s.min))
	}
	if b == a {
		return s.from
	}
	return s.from + (x-a)/(b-a)*(s.to-s.from)
}

// inside is v, or the end of the scale beyond which it lies.
func (s scale) inside(v float64) float64 { return max(s.min, min(s.max, v)) }

// ticks are round values on the scale, about n of them.
func (s scale) ticks(n int) []float64 {
	var out []float64
	if s.log {
		for e := math.Floor(math.Log10(s.min)); ; e++ {
			for _, m := range []float64{1, 2, 5} {
				v := m * math.Pow(10, e)
				if v > s.max*(1+1e-9) {
					return thin(out, n)
				}
				if v >= s.min*(1-1e-9) {
					out = append(out, v)
				}
			}
		}
	}
	step := niceStep((s.max - s.min) / float64(n))
	for i := math.Ceil(s.min/step - 1e-9); i*step <= s.max+step*1e-9; i++ {
		out = append(out, i*step+0) // no negative zero
	}
	return out
}

// thin keeps about n of the ticks of a logarithmic scale, decades first.
func thin(ticks []float64, n int) []float64 {
	if len(ticks) <= n+2 {
		return ticks
	}
	var out []float64
	for _, v := range ticks {
		if l := math.Log10(v); math.Abs(l-math.Round(l)) < 1e-9 {
			out = append(out, v)
		}
	}
	return out
}

// niceStep is 1, 2 or 5 times a power of ten, at least about x.
func niceStep(x float64) float64 {
	if !(x > 0) || math.IsInf(x, 0) {
		return 1
	}
	e := math.Pow(10, math.Floor(math.Log10(x)))
	switch m := x / e; {
	case m <= 1.000001:
		return e
	case m <= 2.000001:
		return 2 * e
	case m <= 5.000001:
		return 5 * e
	}
	return 10 * e
}

// niceMax is a round value not below x.
func niceMax(x float64) float64 {
	if !(x > 0) || math.IsInf(x, 0) {
		return 1
	}
	step := niceStep(x / 5)
	return math.Ceil(x/step-1e-9) * step
}

// figure is a chart under construction.
type figure struct {
	b      strings.Builder
	w, h   float64
	x, y   scale
	label  string // what a screen reader says
	scroll bool   // keeps its size, its box scrolls
}

// newFigure makes a chart of a size in pixels with room for axes.
func newFigure(w, h float64, label string) *figure {
	return &figure{w: w, h: h, label: label,
		x: scale{min: 0, max: 1, from: 46, to: w - 12}, y: scale{min: 0, max: 1, from: h - 36, to: 24}}
}

type point struct{ x, y float64 }

// px is a coordinate as text.
func px(v float64) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		v = 0
	}
	s := fmt.Sprintf("%.1f", v)
	return strings.TrimSuffix(s, ".0")
}

// text writes text at a place; anchor is start, middle or end.
func (f *figure) text(x, y float64, class, anchor, s string) {
	fmt.Fprintf(&f.b, `<text x="%s" y="%s" class="%s" text-anchor="%s">%s</text>`, px(x), px(y), class, anchor,
		html.EscapeString(s))
}

func (f *figure) rect(x, y, w, h float64, class, title string) {
	fmt.Fprintf(&f.b, `<rect x="%s" y="%s" width="%s" height="%s" class="%s"`, px(x), px(y), px(max(0, w)), px(max(0, h)),
		class)
	f.close("rect", title)
}

// close ends a shape, with what a pointer over it shows.
func (f *figure) close(element, title string) {
	if title == "" {
		f.b.WriteString("/>")
		return
	}
	fmt.Fprintf(&f.b, "><title>%s</title></%s>", html.EscapeString(title), element)
}

func (f *figure) segment(x1, y1, x2, y2 float64, class string) {
	fmt.Fprintf(&f.b, `<line x1="%s" y1="%s" x2="%s" y2="%s" class="%s"/>`, px(x1), px(y1), px(x2), px(y2), class)
}

// axes draws ticks, grid lines and names; format makes the text of a tick.
func (f *figure) axes(xName, yName string, xFormat, yFormat func(float64) string) {
	for _, v := range f.y.ticks(5) {
		f.segment(f.x.from, f.y.at(v), f.x.to, f.y.at(v), "grid")
		f.text(f.x.from-5, f.y.at(v)+4, "tick", "end", yFormat(v))
	}
	f.xAxis(xName, xFormat)
	f.text(4, 11, "name", "start", yName)
}

func (f *figure) xAxis(name string, format func(float64) string) {
	ticks := f.x.ticks(6)
	right := math.Inf(-1)
	for _, v := range ticks {
		s, at := format(v), f.x.at(v)
		if s == "" {
			continue
		}
		f.segment(at, f.y.from, at, f.y.from+4, "axis")
		half := charWidth * float64(len([]rune(s))) / 2
		if at-half < right {
			continue // it would run into the one before
		}
		right = at + half + charWidth
		f.text(at, f.y.from+16, "tick", "middle", s)
	}
	f.segment(f.x.from, f.y.from, f.x.to, f.y.from, "axis")
	f.text((f.x.from+f.x.to)/2, f.y.from+31, "name", "middle", name)
}

func (f *figure) path(points []point) string {
	var b strings.Builder
	for i, p := range points {
		c := "L"
		if i == 0 {
			c = "M"
		}
		b.WriteString(c + px(f.x.at(f.x.inside(p.x))) + " " + px(f.y.at(f.y.inside(p.y))))
	}
	return b.String()
}

// line draws points in order; title is shown under a pointer.
func (f *figure) line(points []point, class, title string) {
	if len(points) == 0 {
		return
	}
	fmt.Fprintf(&f.b, `<path d="%s" class="line %s"`, f.path(points), class)
	f.close("path", title)
}

// band fills what lies between two lines.
func (f *figure) band(upper, lower []point, class string) {
	if len(upper) == 0 || len(lower) == 0 {
		return
	}
	back := make([]point, len(lower))
	for i, p := range lower {
		back[len(lower)-1-i] = p
	}
	fmt.Fprintf(&f.b, `<path d="%sL%sZ" class="band %s"/>`, f.path(upper), f.path(back)[1:], class)
}

// marker draws the mark of a series at a value.
func (f *figure) marker(p point, n int, title string) {
	f.shape(f.x.at(f.x.inside(p.x)), f.y.at(f.y.inside(p.y)), n, title)
}

// shapes are the marks of series, around the origin.
var shapes = [markers]string{
	"M-4 0A4 4 0 1 0 4 0A4 4 0 1 0 -4 0Z", "M-3.6-3.6H3.6V3.6H-3.6Z", "M0-4.6L4.4 3.6H-4.4Z",
	"M0-5L4.4 0L0 5L-4.4 0Z", "M0 4.6L4.4-3.6H-4.4Z", "M-4.6-1.6H-1.6V-4.6H1.6V-1.6H4.6V1.6H1.6V4.6H-1.6V1.6H-4.6Z",
}

func (f *figure) shape(x, y float64, n int, title string) {
	fmt.Fprintf(&f.b, `<path d="%s" transform="translate(%s %s)" class="mark s%d"`, shapes[n%markers], px(x), px(y),
		n%colours)
	f.close("path", title)
}

// across marks a value of x by an upright line with text above it.
func (f *figure) across(x float64, class, name string) {
	at := f.x.at(x)
	f.segment(at, f.y.from, at, f.y.to-4, class)
	half := charWidth * float64(len(name)) / 2
	f.text(min(at, f.w-4-half), f.y.to-8, class+"-name", "middle", name)
}

// level marks a value of y by a level line with text.
func (f *figure) level(y float64, class, name string) {
	f.segment(f.x.from, f.y.at(y), f.x.to, f.y.at(y), class)
	if name != "" {
		f.text(f.x.from+4, f.y.at(y)-4, class+"-name", "start", name)
	}
}

func (f *figure) done() template.HTML {
	class, size := "chart", ""
	if f.scroll {
		class, size = "chart keep", fmt.Sprintf(` width="%s" height="%s"`, px(f.w), px(f.h))
	}
	return template.HTML(fmt.Sprintf(`<svg class="%s" viewBox="0 0 %s %s"%s role="img" aria-label="%s">%s</svg>`,
		class, px(f.w), px(f.h), size, html.EscapeString(f.label), f.b.String()))
}

// key is the sample of a series in a legend.
func key(n int) template.HTML {
	f := newFigure(34, 14, "")
	fmt.Fprintf(&f.b, `<path d="M1 7H33" class="line %s"/>`, seriesClass(n))
	f.shape(17, 7, n, "")
	return keySVG(34, f.b.String())
}

// seriesClass is the colour and dash of the n-th series.
func seriesClass(n int) string { return fmt.Sprintf("s%d d%d", n%colours, n%dashes) }

// row is one line of an interval chart.
type row struct {
	name  string
	value interval
	n     int // series
	text  string
}

// rowName is how many characters of the name of a row are shown.
const rowName = 19

// rowFigure begins a chart with a row for each of a list, with room for names, texts and so much below; from 0 to top.
func rowFigure(title string, rows []row, height, below, top float64) *figure {
	const width = 360.0
	names, texts := 0, 0
	for _, r := range rows {
		names, texts = max(names, len([]rune(clip(r.name, rowName)))), max(texts, len([]rune(r.text)))
	}
	f := newFigure(width, float64(len(rows))*height+below, title)
	f.x = scale{min: 0, max: top, from: 10 + charWidth*float64(names), to: width - 12 - charWidth*float64(texts)}
	return f
}

// intervals draws miss rates with their intervals, one per row, on a scale from 0 to about top.
func intervals(title string, rows []row, top float64, axis string) template.HTML {
	const h = 22.0
	f := rowFigure(title, rows, h, 44, min(1, niceMax(top)))
	f.y = scale{min: 0, max: 1, from: float64(len(rows))*h + 8, to: 6}
	for _, v := range f.x.ticks(6) {
		f.segment(f.x.at(v), f.y.from, f.x.at(v), f.y.to, "grid")
	}
	for i, r := range rows {
		y := 8 + h*(float64(i)+.5)
		at := func(v float64) float64 { return f.x.at(f.x.inside(v)) }
		f.text(f.x.from-6, y+4, "row", "end", clip(r.name, rowName))
		low, high := px(at(r.value.low)), px(at(r.value.high))
		fmt.Fprintf(&f.b, `<path d="M%s %sH%sM%s %sv8M%s %sv8" class="whisker s%d"/>`, low, px(y), high, low, px(y-4), high,
			px(y-4), r.n%colours)
		f.shape(at(r.value.value), y, r.n, r.name+": "+r.text)
		f.text(f.w-4, y+4, "value", "end", r.text)
	}
	f.xAxis(axis, percentTick)
	return f.done()
}

// bars draws shares of a whole, one per row, with text at their ends.
func bars(title string, rows []row) template.HTML {
	const h = 24.0
	top := 1e-9
	for _, r := range rows {
		top = max(top, r.value.value)
	}
	f := rowFigure(title, rows, h, 8, top)
	for i, r := range rows {
		y, end := 4+h*float64(i), f.x.at(max(0, r.value.value))
		f.text(f.x.from-6, y+15, "row", "end", clip(r.name, rowName))
		f.rect(f.x.from, y+4, end-f.x.from, h-9, "bar", r.name+": "+r.text)
		f.text(end+5, y+15, "value", "start", r.text)
	}
	return f.done()
}

// markKey is the sample of a marker without a line.
func markKey(n int) template.HTML {
	f := newFigure(14, 14, "")
	f.shape(7, 7, n, "")
	return keySVG(14, f.b.String())
}

// keySVG is a sample in a legend.
func keySVG(width int, shapes string) template.HTML {
	return template.HTML(fmt.Sprintf(`<svg class="key" viewBox="0 0 %d 14" width="%d" height="14" aria-hidden="true">%s</svg>`,
		width, width, shapes))
}

package view

import (
	"cmp"
	"fmt"
	"html/template"
	"math"
	"slices"
	"strings"
	"time"
)

// view is what page.html shows.
type view struct {
	Title    string
	CSP      string
	Style    template.CSS
	Script   template.JS
	Headline string
	Detail   string
	Verdict  string // VALID, INVALID or nothing
	Reasons  []string
	// Distorted has, by run, why its times are not to be trusted.
	Distorted []string
	Sections  []section
	Timeline  *timeline
}

// section is one part of the page; only those with something to show are made.
type section struct {
	ID, Title string
	Text      []string
	Legend    []legend
	Figures   []chart
	Wide      bool // one figure per line
	Tables    []grid
	Groups    []section // folded away behind their titles; a single one is open
	Timeline  bool      // the place for the timeline
}

type legend struct {
	Key  template.HTML
	Name string
}

type chart struct {
	Caption string
	SVG     template.HTML
	Legend  []legend
}

// grid is a table. One with a Summary is folded away behind it.
type grid struct {
	Caption string
	Summary string
	Head    []column
	Rows    [][]string
}

// Begins reports whether row i begins a block: rows whose first cells are the
// same belong together, where a table has such.
func (g grid) Begins(i int) bool {
	same := func(i int) bool { return g.Rows[i][0] == g.Rows[i-1][0] }
	if i == 0 || same(i) {
		return false
	}
	for n := 1; n < len(g.Rows); n++ {
		if same(n) {
			return true
		}
	}
	return false
}

// column is the head of one; right-aligned if it holds numbers.
type column struct {
	Name   string
	Number bool
}

// columns makes heads from names; ">" in front is for numbers.
func columns(names ...string) []column {
	var out []column
	for _, n := range names {
		name, number := strings.CutPrefix(n, ">")
		out = append(out, column{name, number})
	}
	return out
}

func (p *Page) view() *view {
	all := p.allSeries()
	v := &view{Title: p.Title, CSP: policy(), Style: template.CSS(style), Script: template.JS(script)}
	v.Headline, v.Detail = p.headline(all)
	for i := range p.Results {
		v.judge(p.Results[i].Valid, p.Results[i].Reasons)
	}
	for i := range p.Validations {
		v.judge(p.Validations[i].Valid())
	}
	for i := range p.Curves {
		v.judge(len(p.Curves[i].Reasons) == 0, p.Curves[i].Reasons)
	}
	v.Distorted = p.distorted()
	add := func(s section, ok bool) {
		if ok {
			v.Sections = append(v.Sections, s)
		}
	}
	add(p.ran())
	add(missRates(all))
	add(p.compared())
	add(responses(all))
	t, note := newTimeline(all, maxTimeline)
	v.Timeline = t
	add(timelineSection(all, t, note))
	add(p.heat(all))
	add(budgets(all))
	add(p.accuracy(all))
	add(p.validated())
	add(p.swept())
	add(p.machine())
	add(p.provenance())
	return v
}

// distorted says which logs are of runs whose times were distorted on purpose.
func (p *Page) distorted() []string {
	var out []string
	for _, l := range p.Logs {
		if why := l.Header.Distorted; why != "" {
			out = append(out, fmt.Sprintf("%s: %s", l.File, why))
		}
	}
	return out
}

// judge collects verdicts: one INVALID makes the page so.
func (v *view) judge(valid bool, reasons []string) {
	if v.Verdict == "" {
		v.Verdict = "VALID"
	}
	if valid {
		return
	}
	v.Verdict = "INVALID"
	for _, r := range reasons {
		if !slices.Contains(v.Reasons, r) {
			v.Reasons = append(v.Reasons, r)
		}
	}
}

// headline says who won and by how much.
func (p *Page) headline(all []*series) (headline, detail string) {
	if len(all) == 0 || len(ranked(all)) == 0 {
		return p.otherHeadline(), ""
	}
	order := ranked(all)
	best := order[0]
	of := "over all requests"
	if n := len(best.models); n > 1 {
		of = fmt.Sprintf("as the mean over %d models", n)
	}
	released := 0
	for _, m := range best.models {
		released += m.totals.Released
	}
	where := "on real accelerators"
	if best.driver != "real" {
		where = "in simulation"
	}
	kind := "95 % interval"
	if best.compare != nil {
		kind = "interval over repeats"
	}
	detail = fmt.Sprintf("Missed deadlines of %s: %s %s, %s; %s released per policy, %s.", best.label, kind, between(best.miss, percent), of, plural(released, "request"), where)
	if len(order) == 1 {
		return fmt.Sprintf("%s missed %s of deadlines.", best.label, percent(best.miss.value)), detail
	}
	next := order[1]
	gap := 100 * (next.miss.value - best.miss.value)
	switch {
	case gap == 0:
		var tied []string
		for _, s := range order {
			if s.miss.value == best.miss.value {
				tied = append(tied, s.label)
			}
		}
		return fmt.Sprintf("%s missed the same: %s of deadlines.", strings.Join(tied, ", "), percent(best.miss.value)), detail
	case best.miss.overlaps(next.miss):
		return fmt.Sprintf("%s missed the fewest deadlines, %s, but %s with %s cannot be told apart from it.", best.label, percent(best.miss.value), next.label, percent(next.miss.value)), detail
	}
	return fmt.Sprintf("%s missed the fewest deadlines: %s. Next is %s with %s, %.1f points more.", best.label, percent(best.miss.value), next.label, percent(next.miss.value), gap), detail
}

// otherHeadline is that of a page without runs.
func (p *Page) otherHeadline() string {
	switch {
	case len(p.Validations) > 0:
		held, checks := 0, 0
		for i := range p.Validations {
			h, _, n := p.Validations[i].Held()
			held, checks = held+h, checks+n
		}
		return fmt.Sprintf("The prediction held %d of %d checks.", held, checks)
	case len(p.Curves) > 0:
		return fmt.Sprintf("How miss rates of %d policies grow with the rates.", len(p.Curves[0].Curves))
	case p.Profile != nil:
		layers := 0
		for _, m := range p.Profile.Models {
			layers += len(m.Layers)
		}
		return fmt.Sprintf("%d layers of %d models, measured on %d accelerators.", layers, len(p.Profile.Models), len(p.Profile.Accelerators))
	}
	return "No run is in this folder yet."
}

// legends is one for series.
func legends(all []*series) []legend {
	var out []legend
	for _, s := range all {
		out = append(out, legend{key(s.number), s.label})
	}
	return out
}

// modelNames are those of all series, in order.
func modelNames(all []*series) []string {
	var out []string
	for _, s := range all {
		for _, m := range s.models {
			if !slices.Contains(out, m.name) {
				out = append(out, m.name)
			}
		}
	}
	return out
}

// model is a series' outcomes of a model; nil if it did not have it.
func (s *series) model(name string) *outcomes {
	for i := range s.models {
		if s.models[i].name == name {
			return &s.models[i]
		}
	}
	return nil
}

// Text of numbers, which is not broken before a unit.

const nbsp = "\u00a0"

func percent(x float64) string {
	if x > 0 && x < 0.001 {
		return fmt.Sprintf("%.2f"+nbsp+"%%", 100*x)
	}
	return fmt.Sprintf("%.1f"+nbsp+"%%", 100*x)
}

func percentTick(x float64) string { return number(100*x) + nbsp + "%" }

// number has no more digits than it needs.
func number(x float64) string {
	return strings.TrimSuffix(strings.TrimRight(fmt.Sprintf("%.3f", math.Round(x*1e6)/1e6), "0"), ".")
}

// compact is a number of any size in few characters.
func compact(x float64) string {
	switch a := math.Abs(x); {
	case a >= 1e6:
		return number(x/1e6) + "M"
	case a >= 1e4:
		return number(x/1e3) + "k"
	}
	return number(x)
}

// msText has three digits.
func msText(x float64) string {
	switch {
	case x >= 100:
		return fmt.Sprintf("%.0f"+nbsp+"ms", x)
	case x >= 10:
		return fmt.Sprintf("%.1f"+nbsp+"ms", x)
	case x >= 1:
		return fmt.Sprintf("%.2f"+nbsp+"ms", x)
	case x == 0:
		return "0" + nbsp + "ms"
	}
	return fmt.Sprintf("%.3g"+nbsp+"us", x*1e3)
}

func usText(x float64) string { return msText(x / 1e3) }

func secondsText(d time.Duration) string { return fmt.Sprintf("%.3g"+nbsp+"s", d.Seconds()) }

// count separates thousands.
func count(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + nbsp + s[i:]
	}
	return s
}

// plural is "1 layer", "2 layers".
func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return count(n) + " " + what + "s"
}

// sortedKeys are a map's keys in order.
func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K {
	out := make([]K, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// Package view shows results to people: tables for a terminal, and the report of a folder of results as one HTML file.
// Both come from the same tables, which are computed once for each subject, so that their words, figures and marks are
// the same.
//
// The HTML file needs nothing else: it loads nothing from a network (its own policy forbids it to), opens from disk,
// prints, and follows the reader's light or dark theme. The same documents give the same bytes. [Open] and [OpenLogs]
// read documents, [Page.Write] writes the file. The charts are SVG drawn here; the timeline is drawn by the script in
// page.js from data that the file carries. Names in documents are the user's: they reach the page through
// html/template, or through the escaping of package table and of chart.go.
package view

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"slices"
	"strings"

	"github.com/terastal/terastal/cmd/terastal/internal/table"
	"github.com/terastal/terastal/internal/document"
)

//go:embed page.html
var layout string

//go:embed page.css
var style string

//go:embed page.js
var script string

// FileName is what the report of a folder is called in it.
const FileName = "report.html"

// Write writes the report to a file, atomically.
func (p *Page) Write(path string) error {
	data, err := p.HTML()
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return document.WriteFile(path, data)
}

// HTML is the report.
func (p *Page) HTML() ([]byte, error) {
	t, err := template.New("report").Funcs(template.FuncMap{"keep": table.Keep, "sentence": sentence}).Parse(layout)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := t.Execute(&out, p.view()); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// sentence is a text in which commands stand between backquotes.
func sentence(s string) template.HTML {
	parts := strings.Split(template.HTMLEscapeString(table.Keep(s)), "`")
	if len(parts)%2 == 0 { // one of them is not a pair's
		return template.HTML(strings.Join(parts, "`"))
	}
	for i := 1; i < len(parts); i += 2 {
		parts[i] = "<code>" + parts[i] + "</code>"
	}
	return template.HTML(strings.Join(parts, ""))
}

// policy is the page's Content-Security-Policy: nothing may be loaded, and only this very script and style apply.
func policy() string {
	hash := func(s string) string {
		sum := sha256.Sum256([]byte(s))
		return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
	}
	return "default-src 'none'; script-src " + hash(script) + "; style-src " + hash(style) +
		"; base-uri 'none'; form-action 'none'"
}

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

// section is one part of the page; only those with a figure or a table are shown.
type section struct {
	ID, Title string
	Text      []string
	Legend    []legend
	Figures   []chart
	Wide      bool // one figure per line
	Tables    []*table.Table
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
	t, note := newTimeline(all, maxTimeline)
	v.Timeline = t
	for _, s := range []section{p.ran(), missRates(all, p.Results), p.compared(), responses(all),
		timelineSection(all, t, note), p.heat(all), p.deviceSection(), budgets(all), p.skew(), p.capacities(),
		p.accuracy(all), p.validated(), p.swept(), p.machine(), p.provenance()} {
		if s.trim(); s.Timeline || len(s.Figures)+len(s.Tables) > 0 {
			v.Sections = append(v.Sections, s)
		}
	}
	return v
}

// trim leaves out figures and tables that show nothing.
func (s *section) trim() {
	s.Figures = slices.DeleteFunc(s.Figures, func(c chart) bool { return c.SVG == "" })
	s.Tables = slices.DeleteFunc(s.Tables, func(t *table.Table) bool { return len(t.Rows) == 0 })
	for i := range s.Groups {
		s.Groups[i].trim()
	}
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
	where := "on real accelerators"
	if best.driver != "real" {
		where = "in simulation"
	}
	kind := "95 % interval"
	if best.compare != nil {
		kind = "interval over repeats"
	}
	miss := percent(best.miss.value)
	detail = fmt.Sprintf("Missed deadlines of %s: %s %s, %s; %s released per policy, %s.", best.label, kind,
		best.miss.percent(), of, plural(best.all.Released, "request"), where)
	if len(order) == 1 {
		return fmt.Sprintf("%s missed %s of deadlines.", best.label, miss), detail
	}
	next := order[1]
	gap := next.miss.value - best.miss.value
	switch {
	case gap == 0:
		var tied []string
		for _, s := range order {
			if s.miss.value == best.miss.value {
				tied = append(tied, s.label)
			}
		}
		return fmt.Sprintf("%s missed the same: %s of deadlines.", strings.Join(tied, ", "), miss), detail
	case best.miss.overlaps(next.miss):
		return fmt.Sprintf("%s missed the fewest deadlines, %s, but %s with %s cannot be told apart from it.", best.label,
			miss, next.label, percent(next.miss.value)), detail
	}
	return fmt.Sprintf("%s missed the fewest deadlines: %s. Next is %s with %s, %.1f points more.", best.label, miss,
		next.label, percent(next.miss.value), 100*gap), detail
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
		return fmt.Sprintf("%d layers of %d models, measured on %d accelerators.", layers, len(p.Profile.Models),
			len(p.Profile.Accelerators))
	}
	return "No run is in this folder yet."
}

package view

import (
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"

	"github.com/terastal/terastal/cmd/terastal/internal/session"
	"github.com/terastal/terastal/cmd/terastal/internal/table"
)

// Skew prints how unlike accelerators are, and what choosing one for every layer is worth there; nothing for nil.
func Skew(w io.Writer, s *session.Skew) {
	if s == nil {
		return
	}
	for _, t := range skewTables(s) {
		if len(t.Rows) > 0 {
			fmt.Fprintln(w)
			t.Titled(w)
		}
	}
	fmt.Fprintln(w)
	for _, text := range skewText(s) {
		table.Paragraph(w, text)
	}
}

// skewText is the verdict, what variants would buy, and what the figures rest on.
func skewText(s *session.Skew) []string {
	out := []string{s.Verdict, s.Variants}
	if !slices.ContainsFunc(s.Models, func(m session.ModelSkew) bool { return m.Cut > 0 }) {
		out = append(out, "How long sessions with whole models take was not measured: their layers in a row stand for them.")
	}
	if s.Assumed != "" {
		out = append(out, "Assumed: "+s.Assumed+". A configuration (--config FILE) or a plan has those that count.")
	}
	return append(out, "Capacity is not everything: between layers urgent requests overtake others, also where all accelerators "+
		"are alike. `terastal compare --simulated` shows what that is worth in missed deadlines.")
}

func skewTables(s *session.Skew) []*table.Table {
	return []*table.Table{spreadTable(s), skewHistogram(s), reachTable(s)}
}

// spreadTable has a row for every model, and one for all.
func spreadTable(s *session.Skew) *table.Table {
	t := table.New("model", ">layers", ">least", ">p10", ">p50", ">p90", ">most")
	t.Title = "How unlike the accelerators are: time of a layer on the slowest over that on the fastest"
	t.Column("fastest on", "as a whole", ">saves", ">layers/whole")
	add := func(name string, x *session.Spread, fastest []int) *table.Row {
		row := []any{shorten(name, 20), x.N + x.Only, "", "", "", "", ""}
		if x.N > 0 {
			for i, v := range []float64{x.Min, x.P10, x.P50, x.P90, x.Max} {
				row[2+i] = times(v)
			}
		}
		var places []string
		for k, n := range fastest {
			if n > 0 {
				places = append(places, fmt.Sprintf("%s %d", clip(s.Accelerators[k], 12), n))
			}
		}
		if x.Max == 1 { // as fast everywhere
			places = []string{"any"}
		}
		return t.Add(append(row, firstOf(places, 3))...)
	}
	sum := make([]int, len(s.Accelerators))
	for i := range s.Models {
		m := &s.Models[i]
		for k, n := range m.Fastest {
			sum[k] += n
		}
		cut := ""
		if m.Cut > 0 {
			cut = times(m.Cut)
		}
		r := add(m.Model, &m.Spread, m.Fastest)
		r.Cells = append(r.Cells, clip(m.Whole, 16), percent(m.Saves), cut)
	}
	if len(s.Models) > 1 {
		add("all", &s.Layers, sum)
	}
	t.Explain("fastest on", "fastest on: how many layers are on which accelerator")
	t.Explain("as a whole", "as a whole: where the layers of a model together are fastest; saves: the share of that time that it "+
		"saves to run each layer where it is fastest; layers/whole: how many times as long the layers take there as one session "+
		"with the whole model")
	if s.Layers.Only > 0 {
		t.Note("%s on one accelerator only: no spread has them", plural(s.Layers.Only, "layer"))
	}
	return t.Dense()
}

// times words a factor.
func times(x float64) string {
	if x >= 100 {
		return fmt.Sprintf("%.0fx", x)
	}
	return fmt.Sprintf("%.2fx", x)
}

// plotWidth is how long the longest bar of the histogram is, in characters.
const plotWidth = 40

func binText(b *session.SkewBin) string {
	if b.To == 0 {
		return number(b.From) + "x and more"
	}
	return number(b.From) + "x to " + number(b.To) + "x"
}

// skewHistogram is a plot of characters; pages draw one.
func skewHistogram(s *session.Skew) *table.Table {
	t := table.New("slowest over fastest", ">layers", "")
	t.Title = "Layers by how unlike accelerators are for them"
	most := 1
	for _, b := range s.Histogram {
		most = max(most, b.N)
	}
	for i := range s.Histogram {
		b := &s.Histogram[i]
		n := (b.N*plotWidth + most - 1) / most
		t.Add(binText(b), b.N, strings.Repeat("█", n))
	}
	return t
}

// reachTable has the capacities.
func reachTable(s *session.Skew) *table.Table {
	t := table.New("capacity", ">requests/s", ">times whole models")
	t.Title = "What can be served at most"
	for _, r := range s.Reaches {
		gain := ""
		if s.High > 0 {
			gain = fmt.Sprintf("%.3fx", r.Bound/s.Reaches[0].Scale)
		}
		t.Add(r.Name, compact(float64(int(r.PerS+0.5))), gain)
	}
	t.Explain("requests/s", "requests of all models in the ratio of their rates, by the fluid bound: no schedule serves more, and "+
		"real ones serve less")
	return t
}

// skew shows how unlike the accelerators are.
func (p *Page) skew() section {
	s := section{ID: "skew", Title: "How unlike the accelerators are"}
	x := p.judged()
	if x == nil {
		return s
	}
	s.Text = skewText(x)
	if f := skewChart(x); f != "" {
		s.Figures = []chart{{Caption: "Layers by how many times as long they take on the slowest accelerator as on the fastest",
			SVG: f}}
	}
	s.Tables = []*table.Table{reachTable(x), spreadTable(x)}
	return s
}

// judged is the judgement of the plan, or of the profile without one; nil where nothing can be said.
func (p *Page) judged() *session.Skew {
	var s *session.Skew
	var err error
	switch {
	case p.Plan != nil:
		s, err = session.PlanSkew(p.Plan, p.Profile)
	case p.Profile != nil:
		s, err = session.ProfileSkew(p.Profile)
	}
	if err != nil { // a measurement that was stopped before its end
		return nil
	}
	return s
}

func skewChart(s *session.Skew) template.HTML {
	if len(s.Histogram) < 2 {
		return ""
	}
	var rows []row
	for i := range s.Histogram {
		b := &s.Histogram[i]
		rows = append(rows, row{binText(b), interval{value: float64(b.N)}, 0, fmt.Sprint(b.N)})
	}
	return bars("How many layers take how many times as long on the slowest accelerator as on the fastest", rows)
}

package view

import (
	"cmp"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"

	"github.com/terastal/terastal/cmd/terastal/internal/table"
	"github.com/terastal/terastal/sched/plan"
)

// Capacities prints what the variants of a plan buy: the capacity by accuracy floor, and what each variant saves and
// loses. It prints nothing for a plan without variants.
func Capacities(w io.Writer, p *plan.Plan) {
	if len(p.Capacities) == 0 {
		return
	}
	fmt.Fprintln(w)
	capacityTable(p).Titled(w)
	fmt.Fprintln(w)
	priceTable(p).Titled(w)
}

// capacityTable has a row for every floor.
func capacityTable(p *plan.Plan) *table.Table {
	t := table.New("accuracy floor", ">capacity", ">of the originals'")
	t.Title = "What accuracy buys"
	own, requests := p.Floor(), 0.0
	for _, r := range p.System.Pricing.Rates {
		requests += r
	}
	for _, c := range p.Capacities {
		floor := number(c.Floor)
		switch {
		case c.Floor == 0:
			floor = "each model's own"
		case c.Floor == 1:
			floor = "1, originals only"
		}
		if c.Floor == own && own > 0 {
			floor += ", as configured"
		}
		t.Add(floor, fmt.Sprintf("%s/s", compact(float64(int(requests*c.Scale+0.5)))),
			fmt.Sprintf("%.3fx", c.Scale/p.Capacities[0].Scale))
	}
	t.Explain("capacity", "capacity: the fluid bound in requests of all models, in the ratio of their rates; no schedule that keeps "+
		"the floor and all deadlines exceeds it")
	return t
}

// pricesShown is how many variants a terminal shows; a page shows all.
const pricesShown = 12

// priceTable has a row for every variant.
func priceTable(p *plan.Plan) *table.Table {
	t := table.New("model", "layer", "variant", ">saves", ">loses", ">saves per point")
	t.Title = "What each variant saves and loses"
	for i := range p.VariantPrices {
		x := &p.VariantPrices[i]
		loses, rate := "unknown", ""
		switch {
		case x.Loss == nil:
		case *x.Loss == 0:
			if loses = "nothing"; x.SavedUS > 0 {
				rate = "free"
			}
		default:
			if loses = fmt.Sprintf("%.2f %%", 100**x.Loss); x.SavedUS > 0 {
				rate = usText(x.SavedUS / (100 * *x.Loss))
			}
		}
		t.Add(x.Model, shorten(x.Layer, 24), clip(x.Implementation, 30), usText(x.SavedUS), loses, rate).Wide =
			i >= pricesShown
	}
	if more := len(p.VariantPrices) - pricesShown; more > 0 {
		t.Folded = t.Title + ", " + plural(len(p.VariantPrices), "variant")
		t.Explain("model", "a terminal shows the best %d; plan.json and the report have all", pricesShown)
	}
	var weights []string
	for k, x := range p.System.Pricing.Prices {
		weights = append(weights, fmt.Sprintf("%s %.2f", p.System.Accelerators[k], x))
	}
	t.Explain("saves", "saves: time of accelerators per request, weighted with their prices at these rates: %s",
		strings.Join(weights, ", "))
	t.Explain("loses", "loses: share of the model's accuracy, with this variant alone; a point is 1 %% of it")
	if text := worth(p); text != "" {
		t.Explain("saves per point", "%s", text)
	}
	return t
}

// worth says what a point of accuracy is worth at the floors; nothing where no model has one that variants can use.
func worth(p *plan.Plan) string {
	var parts []string
	for m, x := range p.System.Pricing.Accuracy {
		if x > 0 {
			parts = append(parts, p.System.Models[m].Name+" "+usText(x*1e6/100))
		}
	}
	switch {
	case p.System.Pricing.Accuracy == nil:
		return ""
	case parts == nil:
		return "the floors leave more accuracy than variants can use at these rates"
	}
	return "a point is worth, at the floors as configured: " + strings.Join(parts, ", ") + "; a variant that saves more per " +
		"point pays"
}

// capacities shows what accuracy buys.
func (p *Page) capacities() section {
	s := section{ID: "capacity", Title: "What accuracy buys"}
	if p.Plan == nil || len(p.Plan.Capacities) == 0 {
		return s
	}
	s.Text = []string{"How much traffic the accelerators could serve at most if layers were divided over them in any " +
		"proportion, nothing ever waited and every request met its deadline, with layer variants, where the mean accuracy " +
		"of every model keeps a floor."}
	if f := capacityChart(p.Plan); f != "" {
		s.Figures = []chart{{Caption: "Capacity by accuracy floor, in times that of the originals", SVG: f}}
	}
	s.Tables = []*table.Table{capacityTable(p.Plan), priceTable(p.Plan)}
	return s
}

// The capacity's chart has points at so many floors from lowestDrawn to 1. It is drawn where it differs by worthDrawing
// between those floors at which variants are used at all: a level line says no more than the table.
const (
	floorsDrawn  = 41
	lowestDrawn  = 0.9
	worthDrawing = 1.005
)

func capacityChart(p *plan.Plan) template.HTML {
	var floors []float64
	for i := range floorsDrawn {
		floors = append(floors, 1-(1-lowestDrawn)*float64(i)/(floorsDrawn-1))
	}
	for _, c := range p.Capacities { // so that their markers are on the line
		if c.Floor >= lowestDrawn && c.Floor < 1 {
			floors = append(floors, c.Floor)
		}
	}
	slices.SortFunc(floors, func(a, b float64) int { return cmp.Compare(b, a) })
	all, err := p.CapacitiesAt(floors)
	if err != nil || all[len(all)-1].Scale < worthDrawing*all[1].Scale {
		return ""
	}
	f := newFigure(360, 240, "Capacity with variants, in times that of the originals, by accuracy floor")
	f.x.min, f.x.max, f.y.min = lowestDrawn, 1, 1
	base := all[0].Scale
	f.y.max = 1 + niceMax(all[len(all)-1].Scale/base-1)
	f.axes("accuracy floor", "capacity", number, func(v float64) string { return number(v) + "x" })
	var line []point
	for _, c := range all {
		line = append(line, point{c.Floor, c.Scale / base})
	}
	f.line(line, seriesClass(0), "capacity")
	for _, c := range p.Capacities {
		if c.Floor >= lowestDrawn {
			f.marker(point{c.Floor, c.Scale / base}, 0, fmt.Sprintf("floor %s: %.3fx", number(c.Floor), c.Scale/base))
		}
	}
	return f.done()
}

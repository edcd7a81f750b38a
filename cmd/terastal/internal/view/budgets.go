package view

import (
	"fmt"
	"html/template"
	"math"
	"slices"

	"github.com/terastal/terastal/cmd/terastal/internal/table"
	"github.com/terastal/terastal/internal/stats"
	"github.com/terastal/terastal/sched"
)

// focal is the series that budgets are shown for: the policy that works by them, else the one with the fewest misses.
func focal(all []*series) *series {
	var best *series
	for _, x := range ranked(all) {
		if len(x.logs) == 0 {
			continue
		}
		if x.policy == "terastal" {
			return x
		}
		if best == nil {
			best = x
		}
	}
	return best
}

// budgets holds virtual budgets against when layers were really done.
func budgets(all []*series) section {
	x := focal(all)
	s := section{ID: "budgets", Title: "Virtual budgets against progress"}
	if x == nil {
		return s
	}
	s.Text = []string{"Algorithm 1 divides each deadline among the layers. The steps are the virtual deadlines: the " +
		"budgets of a layer and those before it. The line is when requests under " + x.label + " had the layer done " +
		"(median), the band is from the 10th to the 90th percentile, over requests that got so far."}
	t := table.New("model", ">layer", "name", ">budget", ">virtual deadline", ">p10", ">p50", ">p90", ">requests",
		">in time")
	t.Title = "Time since the scheduled release at which layers were done, under " + x.label
	t.Folded = "Budgets and progress as a table"
	sys := &x.logs[0].Header.System
	for m := range sys.Models {
		b, err := sched.ComputeBudgets(&sys.Models[m])
		if err != nil || b.Infeasible && len(b.Layer) == 0 {
			continue
		}
		s.Figures = append(s.Figures, chart{Caption: sys.Models[m].Name,
			SVG: budgetChart(&sys.Models[m], b, x.progress(m, len(b.Layer)), t)})
	}
	s.Tables = []*table.Table{t}
	return s
}

// progress is, by layer of a model, when requests had it done, in ms since their release, sorted.
func (s *series) progress(model, layers int) [][]float64 {
	out := make([][]float64, layers)
	for _, h := range s.logs {
		for i := range h.spans {
			x := &h.spans[i]
			if j := &h.jobs[x.job]; j.model == model && x.layer < layers {
				out[x.layer] = append(out[x.layer], ms(x.end-j.release))
			}
		}
	}
	for l := range out {
		slices.Sort(out[l])
	}
	return out
}

// budgetChart draws a model, and adds its figures to the table.
func budgetChart(m *sched.Model, b sched.Budgets, progress [][]float64, t *table.Table) template.HTML {
	deadline := ms(m.Deadline)
	f := newFigure(360, 240, "Virtual deadlines of the layers of "+m.Name+" against when requests had them done")
	f.x.min, f.x.max = .5, float64(len(b.Layer))+.5
	top := deadline
	var low, mid, high []point
	steps := []point{{.5, 0}}
	sum := 0.0
	for l, share := range b.Layer {
		sum += ms(share)
		at := float64(l + 1)
		steps = append(steps, point{at - .5, sum}, point{at + .5, sum})
		d := progress[l]
		row := []any{m.Name, l + 1, m.Layers[l].Name, msText(ms(share)), msText(sum), "", "", "", len(d), ""}
		if len(d) > 0 {
			p10, p50, p90 := stats.Quantile(d, .1), stats.Quantile(d, .5), stats.Quantile(d, .9)
			low, mid, high = append(low, point{at, p10}), append(mid, point{at, p50}), append(high, point{at, p90})
			top = max(top, p90)
			k, _ := slices.BinarySearch(d, sum+1e-9)
			row[5], row[6], row[7] = msText(p10), msText(p50), msText(p90)
			row[9] = percent(float64(k) / float64(len(d)))
		}
		t.Add(row...)
	}
	f.y.max = niceMax(1.05 * top)
	f.axes("layer", "ms", func(v float64) string {
		if v != math.Trunc(v) {
			return ""
		}
		return compact(v)
	}, compact)
	f.band(high, low, "s0")
	if len(mid) == 1 { // one layer has no line
		f.segment(f.x.at(mid[0].x), f.y.at(low[0].y), f.x.at(mid[0].x), f.y.at(high[0].y), "whisker s0")
	}
	f.line(steps, "budget", "virtual deadlines")
	f.line(mid, "s0 d0", "median progress")
	if len(mid) <= 40 {
		for _, p := range mid {
			f.marker(p, 0, "")
		}
	}
	f.level(deadline, "deadline", "deadline")
	return f.done()
}

// accuracy says what accuracy was delivered; only models with variants are of interest.
func (p *Page) accuracy(all []*series) section {
	s := section{ID: "accuracy", Title: "Accuracy delivered"}
	metric, theta := map[string]string{}, map[string]float64{}
	if p.Plan != nil {
		for i := range p.Plan.Variants {
			v := &p.Plan.Variants[i]
			if !v.Off && len(v.Chosen) > 0 {
				metric[v.Model], theta[v.Model] = v.Metric, v.Theta
			}
		}
	}
	for _, l := range p.Logs {
		for i := range l.Header.System.Models {
			if m := &l.Header.System.Models[i]; m.Variants > 0 && metric[m.Name] == "" {
				metric[m.Name] = "not named in the log"
			}
		}
	}
	s.Tables = []*table.Table{labelledTable(p.Results)}
	if len(metric) == 0 {
		return s
	}
	s.Text = []string{"Accuracy kept is the mean over finished requests of the accuracy measured for the variants each " +
		"used, as a share of the original's. Theta is the least that the variants of a single request may keep together."}
	t := table.New("policy", "model", ">accuracy kept", ">its interval", ">floor", worstColumn, ">theta", "metric",
		">as variants")
	t.Title = "Accuracy by policy"
	t.Explain("its interval", "%s", intervalNote)
	if anyFloor(all) {
		explainFloor(t, "")
	}
	for _, x := range all {
		for _, m := range x.models {
			if metric[m.Model] == "" {
				continue
			}
			promise := ""
			if least, ok := theta[m.Model]; ok {
				promise = kept(least)
			}
			t.Add(x.label, m.Model, optional(m.NormalizedAccuracy, kept), accuracyInterval(m.ModelMetrics),
				floorText(m.AccuracyFloor), worstText(m.ModelMetrics), promise, metric[m.Model],
				percent(m.VariantShare()))
		}
	}
	s.Tables = append([]*table.Table{t.Dense()}, append(s.Tables, variantRuns(all))...)
	if s.Figures = keptCharts(all); len(s.Figures) > 0 {
		s.Text = append(s.Text, fmt.Sprintf("Curves are the mean over the last %d requests that finished, in the first run of "+
			"each policy.", sched.AccuracyWindow))
		for _, x := range all {
			s.Legend = append(s.Legend, legend{key(x.number), x.label})
		}
	}
	for i := range p.Results {
		if text := p.Results[i].Bought(); text != "" {
			s.Text = append(s.Text, text)
		}
	}
	return s
}

// variantRuns has a row for every variant that finished requests used; folded away, since it is long.
func variantRuns(all []*series) *table.Table {
	t := table.New("policy", "model", "layer", "variant", ">runs")
	t.Title, t.Folded = "Variants used", "Variants that finished requests used"
	for _, x := range all {
		for _, m := range x.models {
			for _, u := range m.Variants {
				t.Add(x.label, m.Model, u.Layer, u.Variant, group(u.Runs))
			}
		}
	}
	return t
}

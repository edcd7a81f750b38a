package view

import (
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"

	"github.com/terastal/terastal/cmd/terastal/internal/result"
	"github.com/terastal/terastal/cmd/terastal/internal/study"
	"github.com/terastal/terastal/cmd/terastal/internal/table"
	"github.com/terastal/terastal/sched/eventlog"
)

// Policies prints miss rates and response times per policy and model.
func Policies(w io.Writer, metrics []eventlog.Metrics) { policies(w, metrics, "floor") }

// policies is [Policies] with these of the columns that otherwise only pages have.
func policies(w io.Writer, metrics []eventlog.Metrics, columns ...string) {
	outcomeText(w, with(outcomeTable(seriesOf(metrics)), columns...))
	if len(metrics) != 1 {
		return
	}
	for _, x := range metrics[0].Models {
		if len(x.Variants) > 0 {
			table.Paragraph(w, variantsUsed(metrics[0].Policy, &x))
		}
	}
}

// outcomeText prints outcomes; with many columns the accuracy comes below, then the intervals, then the times.
func outcomeText(w io.Writer, t *table.Table) {
	var kept []int
	for n := outcomeColumns; n < len(t.Columns); n++ {
		kept = append(kept, n)
	}
	fit(w, t, 2, table.Part{Goes: kept}, table.Part{Goes: []int{8}, Repeated: []int{7}}, table.Part{Goes: []int{9, 10, 11, 12}})
}

// fit prints a table, parts of it below where it gets too wide; its first columns say what a row is about.
func fit(w io.Writer, t *table.Table, first int, parts ...table.Part) {
	for i, x := range t.Within(tableWidth, first, parts...) {
		if i > 0 {
			fmt.Fprintln(w)
		}
		x.Text(w)
	}
}

// with is the table with these columns on terminals, too.
func with(t *table.Table, columns ...string) *table.Table {
	for i := range t.Columns {
		t.Columns[i].Wide = t.Columns[i].Wide && !slices.Contains(columns, t.Columns[i].Name)
	}
	return t
}

// Scenario prints what policies got over seeds.
func Scenario(w io.Writer, results []study.Result) {
	outcomeText(w, with(outcomeTable(seriesOver(results)), "interval", "floor"))
	last := len(results) - 1
	for i := range results[:max(0, last)] {
		if base := &results[i]; base.Miss > 0 {
			less, word := 1-results[last].Miss/base.Miss, "less"
			if less < 0 {
				less, word = -less, "more"
			}
			test := "one seed: it may be chance"
			if len(base.BySeed) > 1 {
				test = fmt.Sprintf("p = %.2g, paired over seeds", study.Paired(results[last].BySeed, base.BySeed))
			}
			fmt.Fprintf(w, "%s misses %.0f %% %s than %s (%s)\n", results[last].Policy, 100*less, word, base.Policy, test)
		}
	}
}

// Study prints what simulations of a scenario came to, below a line about its traffic, and first which models meet their
// deadline nowhere.
func Study(w io.Writer, d *study.Document, results []study.Result, line string) {
	Hopeless(w, d.Hopeless)
	table.Paragraph(w, strings.TrimSuffix(d.Scenario+": "+d.Note, ": "))
	fmt.Fprintf(w, "%s\n\n", line)
	Scenario(w, results)
}

// outcomeColumns is how many columns an outcome has before those about accuracy.
const outcomeColumns = 13

// outcomeTable is what the requests of every model got under every policy.
func outcomeTable(all []*series) *table.Table {
	t := table.New("policy", "model", ">released", ">met", ">late", ">dropped", ">failed", ">miss rate", "+>interval",
		">p50", ">p90", ">p99", "+>deadline")
	t.Explain("model", "all: all requests; their miss rate is the mean of the models'")
	variants := slices.ContainsFunc(all, func(s *series) bool { return s.all.VariantShare() > 0 })
	if variants {
		t.Column(">as variants", ">accuracy kept", "+>its interval")
		t.Explain("accuracy kept", "as variants: the share of the layers of finished requests that variants ran; accuracy "+
			"kept: the mean over finished requests of the accuracy measured for the variants each used, as a share of the "+
			"originals'")
		t.Explain("its interval", "%s", intervalNote)
	}
	promised := variants && anyFloor(all)
	if promised {
		t.Column("+>floor", worstColumn)
		explainFloor(t, "")
	}
	for _, s := range all {
		for _, m := range s.models {
			p50, p90, p99 := percentiles(m.P50MS, m.P90MS, m.P99MS, m.Met+m.Late)
			if strings.HasSuffix(p99, "*") {
				t.Explain("p99", "%s", fewNote())
			}
			r := t.Add(s.label, m.Model, m.Released, m.Met, m.Late, m.Dropped, m.Failed, percent(m.miss.value),
				m.miss.percent(), p50, p90, p99, msText(m.DeadlineMS))
			if variants && s.all.VariantShare() > 0 {
				r.Cells = append(r.Cells, percent(m.VariantShare()), optional(m.NormalizedAccuracy, kept),
					accuracyInterval(m.ModelMetrics), floorText(m.AccuracyFloor), worstText(m.ModelMetrics))
			}
		}
		r := t.Add(s.label, "all", s.all.Released, s.all.Met, s.all.Late, s.all.Dropped,
			s.all.Failed, percent(s.miss.value), s.miss.percent(), "", "", "", "")
		if variants && s.all.VariantShare() > 0 {
			r.Cells = append(r.Cells, percent(s.all.VariantShare()), optional(s.all.AccuracyKept(), kept))
		}
	}
	return t
}

// variantsUsed says which variants finished requests used, and what accuracy that left.
func variantsUsed(policy string, x *eventlog.ModelMetrics) string {
	var parts []string
	for _, u := range x.Variants {
		parts = append(parts, fmt.Sprintf("%s by %s %d times", u.Layer, u.Variant, u.Runs))
	}
	text := fmt.Sprintf("%s, %s: %d layers were run by variants (%s)", policy, x.Model, x.VariantsUsed,
		strings.Join(parts, ", "))
	if x.NormalizedAccuracy != nil {
		text += fmt.Sprintf("; finished requests kept %s of the accuracy on average", kept(*x.NormalizedAccuracy))
	}
	return text
}

// missRates shows how many deadlines each policy missed.
func missRates(all []*series, results []result.Result) section {
	s := section{ID: "misses", Title: "Miss rates"}
	if len(ranked(all)) == 0 {
		return s
	}
	repeated := slices.ContainsFunc(all, func(x *series) bool { return x.compare != nil })
	s.Text = []string{"The share of released requests that did not meet their deadline: late, dropped or failed."}
	if repeated {
		s.Text = append(s.Text, "Marks are medians over repeats of the whole run, whiskers the interval that covers them "+
			"with 95 % confidence or, with fewer than 6 repeats, from the lowest to the highest.")
	} else {
		s.Text = append(s.Text, "Whiskers are 95 % intervals of one run: Wilson's, with fewer requests counted where misses "+
			"come in clusters. They hold what chance does within the run, not what differs from one run or machine to the next.")
	}
	for i := range results {
		if text := results[i].Gained(); text != "" {
			s.Text = append(s.Text, text)
		}
	}
	top := 0.05
	for _, x := range all {
		top = max(top, x.miss.high)
		for _, m := range x.models {
			top = max(top, m.miss.high)
		}
	}
	names := modelNames(all)
	add := func(caption, title string, of func(*series) (interval, bool)) {
		var rows []row
		for _, x := range all {
			if i, ok := of(x); ok {
				rows = append(rows, row{x.label, i, x.number, percent(i.value)})
			}
		}
		s.Figures = append(s.Figures, chart{Caption: caption, SVG: intervals(title, rows, top, "miss rate")})
	}
	if len(names) > 1 {
		add("Mean over models", "Miss rate by policy, mean over models",
			func(x *series) (interval, bool) { return x.miss, true })
	}
	for _, name := range names {
		add(name, "Miss rate of "+name+" by policy", func(x *series) (interval, bool) {
			m := x.model(name)
			if m == nil {
				return interval{}, false
			}
			return m.miss, true
		})
	}
	t := outcomeTable(all)
	columns := []int{0, 1, 2, 3, 4, 5, 6, 7, 8}
	if at := outcomeColumns; at < len(t.Columns) { // how much is due to variants; the section about accuracy has the rest
		columns = append(columns, at, at+1)
	}
	s.Tables = []*table.Table{t.Pick("Requests by outcome", columns...)}
	return s
}

// curvePoints is how many points a distribution is drawn with.
const curvePoints = 100

// responses shows how long requests took.
func responses(all []*series) section {
	s := section{ID: "responses", Title: "Response times"}
	for _, name := range modelNames(all) {
		if f := distribution(all, name); f != "" {
			s.Figures = append(s.Figures, chart{Caption: name, SVG: f})
		}
	}
	if len(s.Figures) > 0 {
		s.Text = []string{"Each curve is the share of all released requests that had finished so long after their " +
			"scheduled " +
			"release. Where it crosses the deadline is the share that met it; what it lacks to 100 % was dropped or failed."}
		for _, x := range all {
			s.Legend = append(s.Legend, legend{key(x.number), x.label})
		}
	}
	s.Tables = []*table.Table{outcomeTable(all).Pick("Response times of requests that finished, from their scheduled "+
		"release", 0, 1, 9, 10, 11, 12)}
	return s
}

// distribution draws the response times of a model under every series.
func distribution(all []*series, name string) template.HTML {
	deadline, tail := 0.0, 0.0
	for _, x := range all {
		if m := x.model(name); m != nil && len(m.responses) > 0 {
			deadline, tail = max(deadline, m.DeadlineMS), max(tail, m.P99MS)
		}
	}
	if deadline == 0 {
		return ""
	}
	f := newFigure(360, 250, "Share of requests of "+name+" that finished within a time, by policy, against the "+
		"deadline of "+msText(deadline))
	f.x.max = max(1.15*deadline, min(1.8*deadline, 1.05*tail))
	f.axes("ms since the scheduled release", "finished", compact, percentTick)
	f.across(deadline, "deadline", "deadline")
	for _, x := range all {
		m := x.model(name)
		if m == nil || len(m.responses) == 0 {
			continue
		}
		n, released := len(m.responses), float64(m.Released)
		line := []point{{0, 0}}
		for k := 0; k <= curvePoints; k++ {
			i := min(n-1, k*n/curvePoints)
			if m.responses[i] > f.x.max {
				break
			}
			line = append(line, point{m.responses[i], float64(i+1) / released})
		}
		within := func(t float64) float64 {
			k, _ := slices.BinarySearch(m.responses, t+1e-9)
			return float64(k) / released
		}
		line = append(line, point{f.x.max, within(f.x.max)})
		p50, _, p99 := percentiles(m.P50MS, m.P90MS, m.P99MS, n)
		title := fmt.Sprintf("%s: p50 %s, p99 %s, met %s", x.label, p50, p99, percent(1-m.miss.value))
		f.line(line, seriesClass(x.number), title)
		f.marker(point{deadline, within(deadline)}, x.number, title)
		f.marker(point{m.P50MS, within(m.P50MS)}, x.number, title)
	}
	return f.done()
}

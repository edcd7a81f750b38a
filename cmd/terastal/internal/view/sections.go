package view

import (
	"cmp"
	"fmt"
	"html/template"
	"math"
	"slices"
	"strings"

	"github.com/terastal/terastal/cmd/terastal/internal/comparison"
	"github.com/terastal/terastal/cmd/terastal/internal/result"
	"github.com/terastal/terastal/internal/stats"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
)

// ran says what was run on what.
func (p *Page) ran() (section, bool) {
	s := section{ID: "ran", Title: "What was run on what", Wide: true}
	switch {
	case len(p.Results) > 0:
		r := &p.Results[0]
		s.Text = append(s.Text, r.Hardware, trafficText(r.Driver, &r.Traffic))
		s.Tables = append(s.Tables, modelTable(r.Models), specTable(r.Accelerators))
	case len(p.Logs) > 0:
		h := &p.Logs[0].Header
		s.Text = append(s.Text, fmt.Sprintf("From %s (%s), without the result of a run beside it. Requests were released for %s; seed %d; late requests: drop %s.",
			plural(len(p.Logs), "event log"), h.Driver, secondsText(h.Duration), h.Seed, h.Drop))
		g := grid{Caption: "Models", Head: columns("model", ">layers", ">rate", ">deadline")}
		for m := range h.System.Models {
			x := &h.System.Models[m]
			g.Rows = append(g.Rows, []string{x.Name, count(len(x.Layers)), number(math.Round(h.Rates[m]*10)/10) + "/s", msText(ms(x.Deadline))})
		}
		s.Tables = append(s.Tables, g)
	case p.Profile != nil:
		s.Text = append(s.Text, fmt.Sprintf("A profile measured on %s.", cmp.Or(p.Profile.Host.CPU, "an unnamed processor")))
		g := grid{Caption: "Models", Head: columns("model", ">layers", "granularity")}
		for _, m := range p.Profile.Models {
			g.Rows = append(g.Rows, []string{m.Name, count(len(m.Layers)), m.Granularity})
		}
		s.Tables = append(s.Tables, g, specTable(p.Profile.Accelerators))
	default:
		return s, false
	}
	return s, true
}

func trafficText(driver string, t *result.TrafficInfo) string {
	text := fmt.Sprintf("Traffic: %s arrivals for %s s per policy, the same for all policies (seed %d); demand is %.2f of the measured capacity (the fluid bound, which no schedule of the originals exceeds); drop %s.",
		t.Arrivals, number(t.DurationS), t.Seed, t.Load, t.Drop)
	if driver != "real" {
		text = "Played on the simulator, in virtual time. " + text
	}
	return text
}

func modelTable(models []result.ModelInfo) grid {
	accs := map[string]bool{}
	for _, m := range models {
		for a := range m.LatencyMS {
			accs[a] = true
		}
		for a := range m.Preferred {
			accs[a] = true
		}
	}
	names := sortedKeys(accs)
	g := grid{Caption: "Models: latencies are sums of the layers' medians, in parentheses how many layers are fastest there; fastest is each layer on its best accelerator",
		Head: columns("model", "granularity", ">layers", ">variants", ">rate", ">deadline")}
	for _, a := range names {
		g.Head = append(g.Head, column{a, true})
	}
	g.Head = append(g.Head, columns(">fastest", ">budget level")...)
	for _, m := range models {
		row := []string{m.Name, m.Granularity, count(m.Layers), count(m.Variants), number(math.Round(m.RatePerS*10)/10) + "/s", msText(m.DeadlineMS)}
		for _, a := range names {
			text := "not all layers"
			if l, ok := m.LatencyMS[a]; ok {
				text = msText(l)
			}
			row = append(row, fmt.Sprintf("%s (%d)", text, m.Preferred[a]))
		}
		level := fmt.Sprint(m.Level)
		if m.Infeasible {
			level = "infeasible"
		}
		g.Rows = append(g.Rows, append(row, msText(m.FastestMS), level))
	}
	return g
}

func specTable(specs []runtime.Spec) grid {
	g := grid{Caption: "Accelerators", Head: columns("accelerator", "provider", "optimisation", ">threads", "cores", "options")}
	for _, a := range specs {
		var options []string
		for _, k := range sortedKeys(a.Options) {
			options = append(options, k+"="+a.Options[k])
		}
		g.Rows = append(g.Rows, []string{a.Name, cmp.Or(a.Provider, "cpu"), cmp.Or(a.Optimization, "default"), fmt.Sprint(max(1, a.Threads)),
			strings.Trim(fmt.Sprint(a.Cores), "[]"), strings.Join(options, ", ")})
	}
	return g
}

// missRates shows how many deadlines each policy missed.
func missRates(all []*series) (section, bool) {
	s := section{ID: "misses", Title: "Miss rates"}
	if len(ranked(all)) == 0 {
		return s, false
	}
	repeated := slices.ContainsFunc(all, func(x *series) bool { return x.compare != nil })
	s.Text = []string{"The share of released requests that did not meet their deadline: late, dropped or failed."}
	if repeated {
		s.Text = append(s.Text, "Marks are medians over repeats of the whole run, whiskers the interval that covers them with 95 % confidence or, with fewer than 6 repeats, from the lowest to the highest.")
	} else {
		s.Text = append(s.Text, "Whiskers are 95 % intervals of one run: Wilson's, with fewer requests counted where misses come in clusters. They hold what chance does within the run, not what differs from one run or machine to the next.")
	}
	top := 0.05
	for _, x := range all {
		top = max(top, x.miss.high)
		for _, m := range x.models {
			top = max(top, m.miss.high)
		}
	}
	top = min(1, niceMax(top))
	text := func(i interval) string { return percent(i.value) }
	var mean []row
	for _, x := range all {
		mean = append(mean, row{x.label, x.miss, x.number, text(x.miss)})
	}
	names := modelNames(all)
	if len(names) > 1 {
		s.Figures = append(s.Figures, chart{Caption: "Mean over models", SVG: intervals("Miss rate by policy, mean over models", mean, top, "miss rate", percentTick)})
	}
	g := grid{Caption: "Requests by outcome", Head: columns("policy", "model", ">released", ">met", ">late", ">dropped", ">failed",
		">miss rate", ">interval")}
	variants := slices.ContainsFunc(all, func(x *series) bool {
		return slices.ContainsFunc(x.models, func(m outcomes) bool { return m.variants > 0 })
	})
	if variants {
		g.Head = append(g.Head, columns(">as variants", ">accuracy kept")...)
	}
	for _, name := range names {
		var rows []row
		for _, x := range all {
			if m := x.model(name); m != nil {
				rows = append(rows, row{x.label, m.miss, x.number, text(m.miss)})
			}
		}
		s.Figures = append(s.Figures, chart{Caption: name, SVG: intervals("Miss rate of "+name+" by policy", rows, top, "miss rate", percentTick)})
	}
	for _, x := range all {
		for _, m := range x.models {
			t := m.totals
			row := []string{x.label, m.name, count(t.Released), count(t.Met), count(t.Late), count(t.Dropped), count(t.Failed),
				percent(m.miss.value), between(m.miss, percent)}
			if variants {
				row = append(row, percent(m.variantShare()), m.accuracyKept())
			}
			g.Rows = append(g.Rows, row)
		}
		if len(x.models) > 1 {
			row := []string{x.label, "mean over models", "", "", "", "", "", percent(x.miss.value), between(x.miss, percent)}
			if variants {
				row = append(row, "", "")
			}
			g.Rows = append(g.Rows, row)
		}
	}
	s.Tables = []grid{g}
	return s, true
}

func between(i interval, format func(float64) string) string {
	return format(i.low) + " to " + format(i.high)
}

// compared shows comparisons over repeats.
func (p *Page) compared() (section, bool) {
	s := section{ID: "comparison", Title: "Policies compared", Wide: true}
	for i := range p.Results {
		c := p.Results[i].Comparison
		if c == nil || len(c.Policies) == 0 {
			continue
		}
		s.Text = append(s.Text, fmt.Sprintf("%s, played %s per policy on arrivals that all policies of a repeat shared. Medians of the repeats, in parentheses with their intervals (%.3g %% confidence); differences are from %s. ~ stands before those that are not significant at 5 %% (Wilcoxon's signed-rank test).",
			strings.ToUpper(c.Driver[:min(1, len(c.Driver))])+c.Driver[min(1, len(c.Driver)):], plural(c.Repeats, "time"), 100*c.Confidence, c.Baseline))
		if c.Repeats < comparison.Enough {
			s.Text = append(s.Text, fmt.Sprintf("%s are too few for any difference to be significant: `terastal compare --repeats %d` or more.", plural(c.Repeats, "repeat"), comparison.Enough))
		}
		means := grid{Caption: "Mean miss rates over models (" + c.Driver + ")", Head: columns("policy", ">mean miss rate", ">difference", ">p", ">p50, geomean of ratios")}
		for n := range c.Policies {
			means.Rows = append(means.Rows, meanRow(&c.Policies[n], c.Policies[n].Policy))
		}
		if c.AA != nil {
			means.Rows = append(means.Rows, meanRow(c.AA, c.AA.Policy+" again (A/A)"))
			s.Text = append(s.Text, againText(c))
		}
		s.Tables = append(s.Tables, means, missComparison(c), responseComparison(c))
	}
	return s, len(s.Tables) > 0
}

// againText says what the baseline's second turns showed.
func againText(c *comparison.Comparison) string {
	m := &c.AA.Miss
	switch {
	case c.Driver != "real":
		return "A/A: simulations repeat exactly, so that " + c.Baseline + " never differs from itself."
	case m.Difference == nil:
		return "A/A: " + c.Baseline + " played twice in every repeat, on too few requests to test it against itself."
	}
	text := fmt.Sprintf("A/A: between two runs of %s in the same repeat the mean miss rate differs by %s: what is no larger is noise of this machine.", c.Baseline, apart(m, points))
	if what, tested := c.AA.Differs(); len(what) > 0 {
		text += fmt.Sprintf(" Of %d quantities %d differ significantly where nothing can: %s.", tested, len(what), strings.Join(what, ", "))
	}
	return text
}

func meanRow(p *comparison.Policy, name string) []string {
	ratio := ""
	if p.Geomean != nil {
		ratio = fmt.Sprintf("%.2fx", *p.Geomean)
	}
	return append([]string{name}, append(measureCells(&p.Miss, percent, points), ratio)...)
}

// missComparison has the miss rates of a model under all policies one below the
// other, responseComparison its response times.
func missComparison(c *comparison.Comparison) grid {
	g := grid{Caption: "Miss rates by model (" + c.Driver + ")", Head: columns("model", "policy", ">miss rate", ">difference", ">p")}
	g.Rows = byModel(c, func(m *comparison.Model) []string { return measureCells(&m.Miss, percent, points) })
	return g
}

func responseComparison(c *comparison.Comparison) grid {
	g := grid{Caption: "Response times by model (" + c.Driver + "), of requests that finished", Head: columns("model", "policy", ">p50", ">difference", ">p99", ">difference")}
	g.Rows = byModel(c, func(m *comparison.Model) []string {
		return append(measureCells(&m.P50, msText, signedMS)[:2], measureCells(&m.P99, msText, signedMS)[:2]...)
	})
	return g
}

// byModel makes a row for every model and policy, with what of says about it.
func byModel(c *comparison.Comparison, of func(*comparison.Model) []string) (rows [][]string) {
	for m := range c.Policies[0].Models {
		add := func(p *comparison.Policy, label string) {
			if m < len(p.Models) {
				rows = append(rows, append([]string{p.Models[m].Model, label}, of(&p.Models[m])...))
			}
		}
		for n := range c.Policies {
			add(&c.Policies[n], c.Policies[n].Policy)
		}
		if c.AA != nil && c.Driver == "real" {
			add(c.AA, c.AA.Policy+" again (A/A)")
		}
	}
	return rows
}

// measureCells are the median with its interval, the difference with its own,
// and its p.
func measureCells(m *comparison.Measure, format, signed func(float64) string) []string {
	value := spread(format(m.Median), format(m.Low), format(m.High))
	if !m.Claimed {
		value = "too few requests"
	}
	p := ""
	if m.P != nil {
		p = fmt.Sprintf("%.3f", *m.P)
	}
	return []string{value, difference(m, signed), p}
}

// difference words that from the baseline, behind "~" where it is not
// significant.
func difference(m *comparison.Measure, signed func(float64) string) string {
	switch {
	case m.Difference == nil:
		return ""
	case !m.Significant:
		return "~" + nbsp + apart(m, signed)
	}
	return apart(m, signed)
}

// apart is the difference with its interval.
func apart(m *comparison.Measure, signed func(float64) string) string {
	if m.DifferenceLow == nil || m.DifferenceHigh == nil {
		return signed(*m.Difference)
	}
	return spread(signed(*m.Difference), signed(*m.DifferenceLow), signed(*m.DifferenceHigh))
}

// spread is a value with its interval; a unit that all three have stands once.
func spread(value, low, high string) string {
	if n := strings.LastIndexAny(value, " "+nbsp); n >= 0 {
		unit := value[n:]
		if strings.HasSuffix(low, unit) && strings.HasSuffix(high, unit) {
			low, high = strings.TrimSuffix(low, unit), strings.TrimSuffix(high, unit)
		}
	}
	return fmt.Sprintf("%s (%s to %s)", value, low, high)
}

func points(x float64) string { return minus(fmt.Sprintf("%+.1f points", 100*x)) }

// minus sets the sign that is as wide as a plus.
func minus(s string) string { return strings.Replace(s, "-", "−", 1) }

func signedMS(x float64) string {
	if x < 0 {
		return "−" + msText(-x)
	}
	return "+" + msText(x)
}

// curvePoints is how many points a distribution is drawn with.
const curvePoints = 100

// responses shows how long requests took.
func responses(all []*series) (section, bool) {
	s := section{ID: "responses", Title: "Response times", Legend: legends(all)}
	g := grid{Caption: "Response times of requests that finished, from their scheduled release", Head: columns("policy", "model", ">finished", ">p50", ">p90", ">p99", ">deadline")}
	for _, name := range modelNames(all) {
		if f, ok := distribution(all, name); ok {
			s.Figures = append(s.Figures, chart{Caption: name, SVG: f})
		}
	}
	for _, x := range all {
		for _, m := range x.models {
			p99 := msText(m.p99)
			if m.totals.Met+m.totals.Late < minP99 {
				p99 = "(" + p99 + ")"
			}
			g.Rows = append(g.Rows, []string{x.label, m.name, count(m.totals.Met + m.totals.Late), msText(m.p50), msText(m.p90), p99, msText(m.deadline)})
		}
	}
	if len(g.Rows) == 0 {
		return s, false
	}
	if len(s.Figures) > 0 {
		s.Text = append(s.Text, "Each curve is the share of all released requests that had finished so long after their scheduled release. Where it crosses the deadline is the share that met it; what it lacks to 100 % was dropped or failed.")
	} else {
		s.Legend = nil
	}
	s.Text = append(s.Text, fmt.Sprintf("A 99th percentile in parentheses is of fewer than %d requests, too few to claim it.", minP99))
	s.Tables = []grid{g}
	return s, true
}

// minP99 is how many finished requests the 99th percentile needs to be claimed
// with 99 % confidence when none may be above it (MLPerf LoadGen).
const minP99 = 459

// distribution draws the response times of a model under every series.
func distribution(all []*series, name string) (template.HTML, bool) {
	deadline, tail := 0.0, 0.0
	for _, x := range all {
		if m := x.model(name); m != nil && len(m.responses) > 0 {
			deadline, tail = max(deadline, m.deadline), max(tail, m.p99)
		}
	}
	if deadline == 0 {
		return "", false
	}
	f := newFigure(360, 250, "Share of requests of "+name+" that finished within a time, by policy, against the deadline of "+msText(deadline))
	f.x.max = max(1.15*deadline, min(1.8*deadline, 1.05*tail))
	f.axes("ms since the scheduled release", "finished", compact, percentTick)
	f.across(deadline, "deadline", "deadline")
	for _, x := range all {
		m := x.model(name)
		if m == nil || len(m.responses) == 0 {
			continue
		}
		n, released := len(m.responses), float64(m.totals.Released)
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
		title := fmt.Sprintf("%s: p50 %s, p99 %s, met %s", x.label, msText(m.p50), msText(m.p99), percent(1-m.miss.value))
		f.line(line, seriesClass(x.number), title)
		f.marker(point{deadline, within(deadline)}, x.number, title)
		f.marker(point{m.p50, within(m.p50)}, x.number, title)
	}
	return f.done(), true
}

// missedShown is how many missed requests are listed per policy.
const missedShown = 20

func timelineSection(all []*series, t *timeline, note string) (section, bool) {
	s := section{ID: "timeline", Title: "Timeline", Timeline: true, Wide: true}
	if t == nil {
		return s, false
	}
	s.Text = []string{"Each row is an accelerator, each block a layer in the colour of its model; variants are hatched, and a red edge marks layers of requests that missed. The row below has a mark for every missed request, at its deadline or where it was dropped. Select a block to follow its request."}
	if slices.ContainsFunc(all, func(x *series) bool { return len(x.logs) > 1 }) {
		s.Text = append(s.Text, "Of repeated runs it shows the first.")
	}
	if note != "" {
		s.Text = append(s.Text, note)
	}
	for _, x := range all {
		if len(x.logs) > 0 {
			if g, ok := missedTable(x); ok {
				s.Tables = append(s.Tables, g)
			}
		}
	}
	return s, true
}

// missedTable lists the first missed requests of a series, and where their time
// went.
func missedTable(x *series) (grid, bool) {
	h := x.logs[0]
	g := grid{Head: columns(">request", "model", ">released at", ">deadline", "outcome", ">after", ">running", ">waiting", "reason")}
	missed := 0
	for i := range h.jobs {
		j := &h.jobs[i]
		if !j.missed() {
			continue
		}
		if missed++; missed > missedShown {
			continue
		}
		g.Rows = append(g.Rows, []string{fmt.Sprint(j.id), h.Header.System.Models[j.model].Name, fmt.Sprintf("%.4f s", j.release.Seconds()), msText(ms(j.deadline - j.release)),
			j.outcome.String(), msText(ms(j.end - j.release)), msText(ms(j.ran)), msText(max(0, ms(j.end-j.release-j.ran))), j.detail})
	}
	g.Summary = fmt.Sprintf("Missed requests of %s: the first %d of %s", x.label, len(g.Rows), count(missed))
	g.Caption = "Missed requests of " + x.label
	return g, missed > 0
}

// latencies are what is known of the layers of one model on accelerators: from
// the profile, or what decisions expected.
type latencies struct {
	name   string
	layers []layerLatencies
}

type layerLatencies struct {
	name, ops string
	names     []string    // of implementations
	us        [][]float64 // by implementation and accelerator; 0 where it cannot run
}

// best is the fastest of some implementations on any accelerator, and where.
func (l *layerLatencies) best(implementations [][]float64) (us float64, accelerator int) {
	accelerator = -1
	for _, row := range implementations {
		for k, x := range row {
			if x > 0 && (accelerator < 0 || x < us) {
				us, accelerator = x, k
			}
		}
	}
	return us, accelerator
}

func profileLatencies(p *profiler.Profile) (accs []string, out []latencies) {
	for _, a := range p.Accelerators {
		accs = append(accs, a.Name)
	}
	for m, model := range p.Models {
		x := latencies{name: model.Name}
		for _, l := range model.Layers {
			y := layerLatencies{name: l.Name, ops: strings.Join(l.Ops, " "), names: l.Implementations}
			for i := range l.Implementations {
				row := make([]float64, len(accs))
				for k, d := range p.Medians(m, len(x.layers), i) {
					row[k] = d.Seconds() * 1e6
				}
				y.us = append(y.us, row)
			}
			x.layers = append(x.layers, y)
		}
		out = append(out, x)
	}
	return accs, out
}

func systemLatencies(s *sched.System) (accs []string, out []latencies) {
	for _, m := range s.Models {
		x := latencies{name: m.Name}
		for _, l := range m.Layers {
			y := layerLatencies{name: l.Name}
			for _, im := range l.Implementations {
				row := make([]float64, len(s.Accelerators))
				for k, c := range im.Latency {
					if c > 0 {
						row[k] = c.Seconds() * 1e6
					}
				}
				y.names, y.us = append(y.names, im.Name), append(y.us, row)
			}
			x.layers = append(x.layers, y)
		}
		out = append(out, x)
	}
	return s.Accelerators, out
}

// heat shows which layers like which accelerator.
func (p *Page) heat(all []*series) (section, bool) {
	s := section{ID: "layers", Title: "Layers on accelerators"}
	var accs []string
	var models []latencies
	switch {
	case p.Profile != nil:
		accs, models = profileLatencies(p.Profile)
		s.Text = []string{"Medians of layers that run alone, from the profile."}
	case p.Plan != nil:
		accs, models = systemLatencies(&p.Plan.System)
		s.Text = []string{"What decisions expect layers to take, from the plan."}
	case len(p.Logs) > 0:
		accs, models = systemLatencies(&p.Logs[0].Header.System)
		s.Text = []string{"What decisions expected layers to take, from the log."}
	default:
		return s, false
	}
	s.Text[0] += " A cell is a layer, in the order of the model; the stronger its colour, the longer it takes beside the accelerator that is fastest for it, which the dot marks. Rows of variants show the fastest variant there, a ring where a run used one."
	for i, name := range heatNames {
		s.Legend = append(s.Legend, legend{heatKey(i), name})
	}
	used := usesOf(all)
	for i := range models {
		s.Wide = s.Wide || len(models[i].layers) > 9
		s.Figures = append(s.Figures, chart{Caption: models[i].name, SVG: heatMap(&models[i], accs, used)})
		s.Tables = append(s.Tables, latencyTable(&models[i], accs, used))
	}
	return s, true
}

// use is a variant of a layer on an accelerator.
type use struct{ model, layer, variant, accelerator string }

// usesOf counts the runs of variants.
func usesOf(all []*series) map[use]int {
	out := map[use]int{}
	for _, x := range all {
		for _, h := range x.logs {
			for i := range h.spans {
				s := &h.spans[i]
				if s.implementation == 0 {
					continue
				}
				m := &h.Header.System.Models[h.jobs[s.job].model]
				l := &m.Layers[s.layer]
				out[use{m.Name, l.Name, l.Implementations[s.implementation].Name, h.Header.System.Accelerators[s.accelerator]}]++
			}
		}
	}
	return out
}

// Steps of relative latency that the heat map tells apart.
var heatSteps = [...]float64{1.02, 1.25, 1.6, 2.2, 4}

var heatNames = [...]string{"fastest", "to 1.25x", "to 1.6x", "to 2.2x", "to 4x", "above 4x", "cannot run"}

// heatClass is the class of a latency relative to the fastest; 0 is none.
func heatClass(relative float64) string {
	if relative <= 0 {
		return "h6"
	}
	for i, s := range heatSteps {
		if relative <= s {
			return fmt.Sprintf("h%d", i)
		}
	}
	return fmt.Sprintf("h%d", len(heatSteps))
}

func heatKey(i int) template.HTML {
	return template.HTML(fmt.Sprintf(`<svg class="key" viewBox="0 0 14 14" width="14" height="14" aria-hidden="true"><rect x="0.5" y="0.5" width="13" height="13" class="cell h%d"/></svg>`, i))
}

func heatMap(m *latencies, accs []string, used map[use]int) template.HTML {
	const rowHeight = 22.0
	variants := slices.ContainsFunc(m.layers, func(l layerLatencies) bool { return len(l.names) > 1 })
	width := max(9.0, min(28, 620/float64(len(m.layers))))
	longest := 0
	for _, a := range accs {
		longest = max(longest, len([]rune(clip(a, 20))))
	}
	if variants {
		longest += len(", variants")
	}
	left := 8 + charWidth*float64(longest)
	rows := len(accs)
	if variants {
		rows *= 2
	}
	f := newFigure(left+width*float64(len(m.layers))+8, float64(rows)*rowHeight+22, "Relative latency of the layers of "+m.name+" by accelerator")
	f.scroll = true
	for k, a := range accs {
		f.text(left-6, rowHeight*float64(k)+15, "row", "end", clip(a, 20))
		if variants {
			f.text(left-6, rowHeight*float64(len(accs)+k)+15, "row", "end", clip(a, 20)+", variants")
		}
	}
	for i := range m.layers {
		l := &m.layers[i]
		x := left + width*float64(i)
		fastest, preferred := l.best(l.us[:1])
		for k := range accs {
			y := rowHeight * float64(k)
			title := fmt.Sprintf("%s on %s: cannot run", l.name, accs[k])
			relative := 0.0
			if us := l.us[0][k]; us > 0 {
				relative = us / fastest
				title = fmt.Sprintf("%s on %s: %s, %.2fx the fastest", l.name, accs[k], usText(us), relative)
			}
			f.rect(x+.5, y+1, width-1, rowHeight-2, "cell "+heatClass(relative), title)
			if k == preferred {
				fmt.Fprintf(&f.b, `<circle cx="%s" cy="%s" r="3" class="preferred"/>`, px(x+width/2), px(y+rowHeight/2))
			}
			if variants {
				f.variantCell(m, l, k, x, rowHeight*float64(len(accs)+k), width, rowHeight, fastest, used, accs)
			}
		}
		if i == 0 || (i+1)%10 == 0 {
			f.text(x+width/2, rowHeight*float64(rows)+14, "tick", "middle", fmt.Sprint(i+1))
		}
	}
	return f.done()
}

// variantCell draws the fastest variant of a layer on an accelerator, if it has
// one.
func (f *figure) variantCell(m *latencies, l *layerLatencies, k int, x, y, w, h, fastest float64, used map[use]int, accs []string) {
	best, name, runs := 0.0, "", 0
	for i := 1; i < len(l.us); i++ {
		if us := l.us[i][k]; us > 0 && (best == 0 || us < best) {
			best, name = us, l.names[i]
		}
		runs += used[use{m.name, l.name, l.names[i], accs[k]}]
	}
	if best == 0 {
		return
	}
	f.rect(x+.5, y+1, w-1, h-2, "cell "+heatClass(best/fastest), fmt.Sprintf("%s as %s on %s: %s, %.2fx the fastest original; variants ran %s here", l.name, name, accs[k], usText(best), best/fastest, plural(runs, "time")))
	f.rect(x+.5, y+1, w-1, h-2, "hatch", "")
	if runs > 0 {
		fmt.Fprintf(&f.b, `<circle cx="%s" cy="%s" r="3.5" class="ring"/>`, px(x+w/2), px(y+h/2))
	}
}

func latencyTable(m *latencies, accs []string, used map[use]int) grid {
	g := grid{Summary: fmt.Sprintf("Latencies of %s, %s", m.name, plural(len(m.layers), "layer")), Caption: "Latencies of " + m.name, Head: columns(">layer", "name", "implementation")}
	for _, a := range accs {
		g.Head = append(g.Head, column{a, true})
	}
	g.Head = append(g.Head, columns("fastest on", ">runs as variant")...)
	for i := range m.layers {
		l := &m.layers[i]
		_, preferred := l.best(l.us[:1])
		for n, name := range l.names {
			row := []string{fmt.Sprint(i + 1), l.name, name}
			for k := range accs {
				text := "cannot run"
				if us := l.us[n][k]; us > 0 {
					text = usText(us)
				}
				row = append(row, text)
			}
			on, runs := "", ""
			if n == 0 && preferred >= 0 {
				on = accs[preferred]
			}
			if n > 0 {
				n := 0
				for _, a := range accs {
					n += used[use{m.name, l.name, name, a}]
				}
				runs = count(n)
			}
			g.Rows = append(g.Rows, append(row, on, runs))
		}
	}
	return g
}

// focal is the series that budgets are shown for: the policy that works by
// them, else the one with the fewest misses.
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
func budgets(all []*series) (section, bool) {
	x := focal(all)
	s := section{ID: "budgets", Title: "Virtual budgets against progress"}
	if x == nil {
		return s, false
	}
	s.Text = []string{"Algorithm 1 divides each deadline among the layers. The steps are the virtual deadlines: the budgets of a layer and those before it. The line is when requests under " + x.label + " had the layer done (median), the band is from the 10th to the 90th percentile, over requests that got so far."}
	g := grid{Summary: "Budgets and progress as a table", Caption: "Time since the scheduled release at which layers were done, under " + x.label,
		Head: columns("model", ">layer", "name", ">budget", ">virtual deadline", ">p10", ">p50", ">p90", ">requests", ">in time")}
	sys := &x.logs[0].Header.System
	for m := range sys.Models {
		b, err := sched.ComputeBudgets(&sys.Models[m])
		if err != nil || b.Infeasible && len(b.Layer) == 0 {
			continue
		}
		progress := x.progress(m, len(b.Layer))
		f, rows := budgetChart(&sys.Models[m], b, progress)
		s.Figures = append(s.Figures, chart{Caption: sys.Models[m].Name, SVG: f})
		g.Rows = append(g.Rows, rows...)
	}
	s.Tables = []grid{g}
	return s, len(g.Rows) > 0
}

// progress is, by layer of a model, when requests had it done, in ms since
// their release, sorted.
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

func budgetChart(m *sched.Model, b sched.Budgets, progress [][]float64) (template.HTML, [][]string) {
	deadline := ms(m.Deadline)
	f := newFigure(360, 240, "Virtual deadlines of the layers of "+m.Name+" against when requests had them done")
	f.x.min, f.x.max = .5, float64(len(b.Layer))+.5
	top := deadline
	var low, mid, high []point
	steps := []point{{.5, 0}}
	var rows [][]string
	sum := 0.0
	for l, share := range b.Layer {
		sum += ms(share)
		at := float64(l + 1)
		steps = append(steps, point{at - .5, sum}, point{at + .5, sum})
		row := []string{m.Name, fmt.Sprint(l + 1), m.Layers[l].Name, msText(ms(share)), msText(sum)}
		if d := progress[l]; len(d) > 0 {
			p10, p50, p90 := stats.Quantile(d, .1), stats.Quantile(d, .5), stats.Quantile(d, .9)
			low, mid, high = append(low, point{at, p10}), append(mid, point{at, p50}), append(high, point{at, p90})
			top = max(top, p90)
			k, _ := slices.BinarySearch(d, sum+1e-9)
			row = append(row, msText(p10), msText(p50), msText(p90), count(len(d)), percent(float64(k)/float64(len(d))))
		} else {
			row = append(row, "", "", "", "0", "")
		}
		rows = append(rows, row)
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
	return f.done(), rows
}

// accuracy says what accuracy was delivered; only models with variants are of
// interest.
func (p *Page) accuracy(all []*series) (section, bool) {
	s := section{ID: "accuracy", Title: "Accuracy delivered", Wide: true}
	metric := map[string]string{}
	theta := map[string]float64{}
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
	if len(metric) == 0 {
		return s, false
	}
	s.Text = []string{"Normalised accuracy is the mean over finished requests of the accuracy measured for the variants each used, as a share of the original's. The promise is the least that a combination of variants may have."}
	g := grid{Caption: "Accuracy by policy", Head: columns("policy", "model", ">normalised accuracy", ">promise", "metric", ">runs of variants", ">of all layers", "variants used")}
	for _, x := range all {
		for _, m := range x.models {
			if metric[m.name] == "" {
				continue
			}
			value, promise := "not measured", ""
			if m.accuracy != nil {
				value = fmt.Sprintf("%.4f", *m.accuracy)
			}
			if t, ok := theta[m.name]; ok {
				promise = number(t)
			}
			var uses []string
			for _, u := range m.uses {
				uses = append(uses, fmt.Sprintf("%s as %s: %s", u.Layer, u.Variant, count(u.Runs)))
			}
			g.Rows = append(g.Rows, []string{x.label, m.name, value, promise, metric[m.name], count(m.variants), percent(m.variantShare()), strings.Join(uses, "; ")})
		}
	}
	s.Tables = []grid{g}
	for i := range p.Results {
		if text := p.Results[i].Bought(); text != "" {
			s.Text = append(s.Text, text)
		}
	}
	return s, len(g.Rows) > 0
}

// variantShare is the share of the layers of finished requests that variants ran.
func (o *outcomes) variantShare() float64 {
	return float64(o.variants) / float64(max(1, o.layers))
}

// accuracyKept words the normalised accuracy, "-" where none was measured.
func (o *outcomes) accuracyKept() string {
	if o.accuracy == nil {
		return "-"
	}
	return fmt.Sprintf("%.2f %%", 100**o.accuracy)
}

// machine says how well the machine carried the runs out.
func (p *Page) machine() (section, bool) {
	s := section{ID: "machine", Title: "How the machine and the scheduler did", Wide: true}
	g := grid{Caption: "By policy", Head: columns("policy", "utilisation", ">decision p50", ">p99", ">release lag p99", ">while idle p99", ">outputs verified", "taken by other processes")}
	notes := grid{Caption: "Doubts about the runs", Head: columns("policy", "doubt")}
	for i := range p.Results {
		r := &p.Results[i]
		for n := range r.Policies {
			x := &r.Policies[n]
			var util, taken []string
			if lanes, mean := x.Lanes(); lanes > 0 {
				util = append(util, fmt.Sprintf("mean of %s %s", plural(lanes, "lane"), percent(mean)))
			} else {
				for _, k := range sortedKeys(x.Utilization) {
					util = append(util, k+" "+percent(x.Utilization[k]))
				}
			}
			verified, d50, d99 := "", "", ""
			if v := x.Verification; v != nil {
				verified = fmt.Sprintf("%d of %d", v.Verified, v.Verified+v.Wrong)
			}
			if x.DecisionP99NS > 0 {
				d50, d99 = usText(float64(x.DecisionP50NS)/1e3), usText(float64(x.DecisionP99NS)/1e3)
			}
			if e := x.Execution; e != nil {
				for _, k := range sortedKeys(e.Preempted) {
					taken = append(taken, k+" "+percent(e.Preempted[k]))
				}
			}
			label := x.Policy
			if r.Driver != p.Results[0].Driver {
				label += " (" + r.Driver + ")"
			}
			if e := x.Execution; e != nil {
				for _, note := range e.Notes {
					notes.Rows = append(notes.Rows, []string{label, note})
				}
			}
			g.Rows = append(g.Rows, []string{label, strings.Join(util, ", "), d50, d99, usText(x.ReleaseLagP99US), usText(x.IdleLagP99US), verified, strings.Join(taken, ", ")})
		}
	}
	s.Tables = []grid{g}
	if len(notes.Rows) > 0 {
		notes.Summary = plural(len(notes.Rows), "doubt") + " about the runs"
		s.Tables = append(s.Tables, notes)
	}
	return s, len(g.Rows) > 0
}

// provenance lists settings, seeds, versions and files.
func (p *Page) provenance() (section, bool) {
	s := section{ID: "provenance", Title: "Settings and provenance", Wide: true}
	g := grid{Caption: "Settings", Head: columns("what", "value")}
	add := func(what, value string) {
		if value != "" {
			g.Rows = append(g.Rows, []string{what, value})
		}
	}
	for i := range p.Results {
		r := &p.Results[i]
		add("driver", r.Driver)
		add("ONNX Runtime", r.ORT)
		t := &r.Traffic
		add("traffic", fmt.Sprintf("arrivals %s, phases %s, jitter %s, %s s, seed %d, drop %s", t.Arrivals, t.Phases, number(t.Jitter), number(t.DurationS), t.Seed, t.Drop))
		h := &r.Host
		add("system", strings.TrimSpace(strings.Join([]string{h.OS, h.Arch, h.Kernel}, " ")))
		add("processor", fmt.Sprintf("%s, %d cores, governor %s, load average %.1f before", cmp.Or(h.CPU, "unnamed"), h.LogicalCores, cmp.Or(h.Governor, "unknown"), h.Load1m))
		if h.MemoryBytes > 0 {
			add("memory", fmt.Sprintf("%.1f GiB", float64(h.MemoryBytes)/(1<<30)))
		}
		if r.ClockStepNS > 0 {
			add("clock", fmt.Sprintf("advances in steps of %s", usText(float64(r.ClockStepNS)/1e3)))
		}
		for _, gpu := range h.GPUs {
			add("graphics processor", strings.TrimSpace(gpu.Vendor+" "+gpu.Model+" "+gpu.Driver))
		}
		add("CUDA driver", h.CUDA.Driver)
	}
	for _, l := range p.Logs {
		h := &l.Header
		text := fmt.Sprintf("%s, %s, seed %d, queue %d, drop %s, %s records", h.Driver, h.Policy, h.Seed, h.Queue, h.Drop, count(len(l.Records)))
		if h.Adapt {
			text += ", adapting"
		}
		if h.Distorted != "" {
			text += "; its times are distorted: " + h.Distorted
		}
		add(l.File, text)
	}
	if p.Profile != nil {
		add("profile", fmt.Sprintf("measured %s with ONNX Runtime %s on %s", p.Profile.Created, p.Profile.ORT, cmp.Or(p.Profile.Host.CPU, "an unnamed processor")))
		for _, m := range p.Profile.Models {
			add("model "+m.Name, "SHA-256 "+m.SHA256+", cut "+cmp.Or(m.Cut, m.Granularity))
		}
		for _, w := range p.Profile.Warnings {
			add("doubt about the profile", w.Text)
		}
	}
	add("files read", strings.Join(p.Files, ", "))
	s.Text = p.Notes
	s.Tables = []grid{g}
	return s, len(g.Rows) > 0
}

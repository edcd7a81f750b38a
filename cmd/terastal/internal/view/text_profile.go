package view

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/terastal/terastal/cmd/terastal/internal/table"
	"github.com/terastal/terastal/profiler"
)

// ProfileOptions choose the columns of a profile's table.
type ProfileOptions struct {
	Wide    bool     // all columns
	Columns []string // these, if not empty
}

// tableWidth is what a profile's table may need unless asked for more.
const tableWidth = 120

// column is a column of a profile's table; those of accelerators are there for
// each of them.
type columnInText struct {
	name, header string
	of           func(v *profileView, m, l int) string                            // of a layer
	on           func(v *profileView, c *profiler.Cell, sum time.Duration) string // of a cell
}

// columns are in the order of the table. A column is left out where nothing is
// known of it; giveUp lists them in the order in which
// they are left out where it gets too wide.
var columnsInText = []columnInText{
	{name: "ops", header: "ops", of: func(v *profileView, m, l int) string { return shorten(strings.Join(v.layer(m, l).Ops, "+"), 20) }},
	{name: "shape", header: "shape", of: func(v *profileView, m, l int) string { return v.layer(m, l).Shape }},
	{name: "macs", header: ">MMACs", of: func(v *profileView, m, l int) string { return millions(v.layer(m, l).MACs) }},
	{name: "parameters", header: ">params", of: func(v *profileView, m, l int) string { return countInText(v.layer(m, l).Parameters) }},
	{name: "p99", header: ">p99", on: func(_ *profileView, c *profiler.Cell, _ time.Duration) string {
		if c.N == 1 && c.P99 == c.P50 {
			return "" // of a table without percentiles
		}
		return usTextInText(float64(c.P99) / 1e3)
	}},
	{name: "share", header: ">share", on: func(_ *profileView, c *profiler.Cell, sum time.Duration) string {
		if c.Implementation > 0 || sum == 0 {
			return ""
		}
		return percentInText(float64(c.P50) / float64(sum))
	}},
	{name: "gmacs", header: ">GMAC/s", on: func(v *profileView, c *profiler.Cell, _ time.Duration) string {
		if r, ok := v.p.Rate(c); ok {
			return fmt.Sprintf("%.3g", r)
		}
		return ""
	}},
	{name: "peak", header: ">of peak", on: func(v *profileView, c *profiler.Cell, _ time.Duration) string {
		if r, ok := v.p.PeakShare(c); ok {
			return fmt.Sprintf("%.0f %%", 100*r)
		}
		return ""
	}},
	{name: "load", header: ">load", on: func(_ *profileView, c *profiler.Cell, _ time.Duration) string {
		if c.Load == 0 {
			return ""
		}
		return usTextInText(float64(c.Load) / 1e3)
	}},
	{name: "memory", header: ">memory", on: func(_ *profileView, c *profiler.Cell, _ time.Duration) string {
		if c.Memory == 0 {
			return ""
		}
		return fmt.Sprintf("%.1f MB", float64(c.Memory)/1e6)
	}},
}

var giveUp = []string{"memory", "load", "peak", "parameters", "shape", "gmacs", "ops", "p99", "share", "macs"}

// ProfileColumns are the names that ProfileOptions.Columns takes.
func ProfileColumns() []string {
	var names []string
	for _, c := range columnsInText {
		names = append(names, c.name)
	}
	return names
}

// Check fails for a column that does not exist.
func (o ProfileOptions) Check() error {
	for _, name := range o.Columns {
		if !slices.Contains(ProfileColumns(), name) {
			return fmt.Errorf("unknown column %q, have %s", name, strings.Join(ProfileColumns(), ", "))
		}
	}
	return nil
}

// Profile prints a profile: every model's layers with their medians on every
// accelerator, and what was measured beside them.
func Profile(w io.Writer, p *profiler.Profile) { ProfileTable(w, p, ProfileOptions{}) }

// ProfileTable is Profile with other columns.
func ProfileTable(w io.Writer, p *profiler.Profile, o ProfileOptions) {
	v := newProfileView(p)
	v.provenance(w)
	var left []string
	for m := range p.Models {
		fmt.Fprintf(w, "\n%s (%s, %d layers)\n", p.Models[m].Name, p.Models[m].Granularity, len(p.Models[m].Layers))
		text, without := v.fit(m, o)
		fmt.Fprintln(w, text)
		if len(without) > len(left) {
			left = without
		}
	}
	if len(left) > 0 {
		fmt.Fprintf(w, "left out to fit %d characters: %s; --wide shows them\n", tableWidth, strings.Join(left, ", "))
	}
	fmt.Fprintln(w)
	v.models(w)
	v.between(w)
	v.accelerators(w)
	v.refused(w)
	v.warnings(w)
}

// ProfileSummary prints a profile without its layers.
func ProfileSummary(w io.Writer, p *profiler.Profile) {
	v := newProfileView(p)
	v.provenance(w)
	fmt.Fprintln(w)
	v.models(w)
	v.warnings(w)
}

// profileView is a profile with what several of its tables need.
type profileView struct {
	p    *profiler.Profile
	sums [][]time.Duration // of a model's originals, by model and accelerator; 0 where a layer has no time
}

func newProfileView(p *profiler.Profile) *profileView { return &profileView{p, p.Sums()} }

func (v *profileView) layer(m, l int) *profiler.Layer { return &v.p.Models[m].Layers[l] }

// fit renders a model's table with as many columns as there is room for, and
// names those left out.
func (v *profileView) fit(m int, o ProfileOptions) (text string, without []string) {
	chosen := columnsInText
	if len(o.Columns) > 0 {
		chosen = nil
		for _, c := range columnsInText {
			if slices.Contains(o.Columns, c.name) {
				chosen = append(chosen, c)
			}
		}
	}
	chosen = slices.DeleteFunc(slices.Clone(chosen), func(c columnInText) bool { return len(o.Columns) == 0 && !v.known(m, c) })
	text = v.table(m, chosen)
	for _, name := range giveUp {
		if o.Wide || len(o.Columns) > 0 || widest(text) <= tableWidth {
			return text, without
		}
		if at := slices.IndexFunc(chosen, func(c columnInText) bool { return c.name == name }); at >= 0 {
			chosen = slices.Delete(chosen, at, at+1)
			without = append(without, name)
			text = v.table(m, chosen)
		}
	}
	return text, without
}

// known reports whether a column has anything in it: imported tables lack much.
func (v *profileView) known(m int, c columnInText) bool {
	for l := range v.p.Models[m].Layers {
		if c.of != nil && c.of(v, m, l) != "" {
			return true
		}
		for k := range v.p.Accelerators {
			if x := v.p.Cell(m, l, 0, k); c.on != nil && x.Measured() && c.on(v, x, v.sums[m][k]) != "" {
				return true
			}
		}
	}
	return false
}

func widest(text string) int {
	most := 0
	for line := range strings.Lines(text) {
		most = max(most, utf8.RuneCountInString(strings.TrimRight(line, "\n")))
	}
	return most
}

func (v *profileView) table(m int, chosen []columnInText) string {
	header := []string{"layer"}
	for _, c := range chosen {
		if c.of != nil {
			header = append(header, c.header)
		}
	}
	for _, a := range v.p.Accelerators {
		header = append(header, ">"+a.Name)
		for _, c := range chosen {
			if c.on != nil {
				header = append(header, c.header)
			}
		}
	}
	several := len(v.p.Accelerators) > 1
	if several {
		header = append(header, "prefers", ">skew")
	}
	t := table.New(header...)
	for l, layer := range v.p.Models[m].Layers {
		for i, name := range layer.Implementations {
			row := table.Row{shorten(layer.Name, 30)}
			if i > 0 {
				row[0] = "  as " + shorten(name, 25)
			}
			for _, c := range chosen {
				switch {
				case c.of != nil && i == 0:
					row = append(row, c.of(v, m, l))
				case c.of != nil:
					row = append(row, "")
				}
			}
			t.AppendRow(append(row, v.times(m, l, i, chosen, several)...))
		}
	}
	return t.Render()
}

// times are the cells of a row that are about the accelerators.
func (v *profileView) times(m, l, i int, chosen []columnInText, several bool) table.Row {
	var row table.Row
	best, worst := -1, -1
	at := func(k int) *profiler.Cell { return v.p.Cell(m, l, i, k) }
	for k := range v.p.Accelerators {
		c := at(k)
		if !c.Measured() {
			row = append(row, map[bool]string{true: "refused", false: "not measured"}[c.Refused != ""])
			for _, x := range chosen {
				if x.on != nil {
					row = append(row, "")
				}
			}
			continue
		}
		median := usTextInText(float64(c.P50) / 1e3)
		if c.Unstable {
			median += "~"
		}
		row = append(row, median)
		for _, x := range chosen {
			if x.on != nil {
				row = append(row, x.on(v, c, v.sums[m][k]))
			}
		}
		if best < 0 || c.P50 < at(best).P50 {
			best = k
		}
		if worst < 0 || c.P50 > at(worst).P50 {
			worst = k
		}
	}
	switch {
	case !several:
	case best < 0:
		row = append(row, "", "")
	default:
		row = append(row, v.p.Accelerators[best].Name, fmt.Sprintf("%.2fx", float64(at(worst).P50)/float64(at(best).P50)))
	}
	return row
}

// provenance says what was measured on what, and how well.
func (v *profileView) provenance(w io.Writer) {
	p, h := v.p, &v.p.Host
	if p.ORT == "" {
		fmt.Fprintf(w, "not measured: a table of latencies, imported %s\n", p.Created)
	} else {
		facts := []string{cmp.Or(h.CPU, "unknown processor"), fmt.Sprintf("%d cores", h.LogicalCores)}
		if len(h.AllowedCores) > 0 && len(h.AllowedCores) != h.LogicalCores {
			facts = append(facts, fmt.Sprintf("%d allowed", len(h.AllowedCores)))
		}
		if h.CPUQuota > 0 {
			facts = append(facts, fmt.Sprintf("quota %.3g", h.CPUQuota))
		}
		facts = append(facts, "governor "+cmp.Or(h.Governor, "unknown"), fmt.Sprintf("load %.2f", h.Load1m))
		for _, g := range h.GPUs {
			facts = append(facts, strings.TrimSpace(g.Vendor+" "+g.Model))
		}
		if h.CUDA.Driver != "" {
			facts = append(facts, "NVIDIA driver "+h.CUDA.Driver)
		}
		facts = append(facts, "ONNX Runtime "+p.ORT)
		Paragraph(w, strings.Join(facts, ", "))
		if len(h.CPUFlags) > 0 {
			Paragraph(w, "instruction sets: "+strings.Join(h.CPUFlags, " "))
		}
		took := ""
		if p.Took > 0 {
			took = fmt.Sprintf(" in %v", p.Took.Round(100*time.Millisecond))
		}
		fmt.Fprintf(w, "measured %s%s%s\n", p.Created, took, map[bool]string{true: ", PARTIAL: stopped before the end"}[p.Partial])
		fmt.Fprintln(w, v.precision())
	}
	names := map[string][]string{} // by description: many accelerators have the same
	var order []string
	for _, a := range p.Accelerators {
		text := profiler.DescribeSpec(a)
		if names[text] == nil {
			order = append(order, text)
		}
		names[text] = append(names[text], a.Name)
	}
	for _, text := range order {
		Paragraph(w, strings.Join(names[text], ", ")+": "+text)
	}
}

// precision says how many cells reached what was aimed at.
func (v *profileView) precision() string {
	measured, reached := 0, 0
	var widths []float64
	for i := range v.p.Cells {
		c := &v.p.Cells[i]
		if !c.Measured() || c.N < 2 {
			continue
		}
		measured++
		if !c.Unstable {
			reached++
		}
		widths = append(widths, float64(c.High-c.Low)/2/float64(c.P50))
	}
	if measured == 0 {
		return "no cell was measured more than once"
	}
	slices.Sort(widths)
	text := fmt.Sprintf("precision of the medians: half of the cells within ± %.1f %%, all within ± %.1f %%", 100*widths[(len(widths)-1)/2], 100*widths[len(widths)-1])
	if v.p.Precision > 0 {
		text += fmt.Sprintf("; %d of %d reached ± %.1f %%", reached, measured, 100*v.p.Precision)
	}
	if n := v.p.Noise; n != nil {
		text += fmt.Sprintf("; noise floor %.1f %% (p90 %.1f %%)", 100*n.Median, 100*n.P90)
	}
	return text
}

// models prints sums, and what chains and whole models take where they were
// measured: a sum that predicts the chain is additive.
func (v *profileView) models(w io.Writer) {
	header := []string{"model", "accelerator", ">sum of medians"}
	if len(v.p.Chains) > 0 {
		header = append(header, ">chain", ">sum/chain", ">whole model", ">chain/whole")
	}
	t := table.New(header...)
	chains := map[[2]int]profiler.Chain{}
	for _, c := range v.p.Chains {
		chains[[2]int{c.Model, c.Accelerator}] = c
	}
	for m, model := range v.p.Models {
		if m > 0 {
			t.AppendSeparator()
		}
		name := model.Name
		for k, a := range v.p.Accelerators {
			row := table.Row{name, a.Name, "-"}
			name = ""
			if s := v.sums[m][k]; s > 0 {
				row[2] = msTextInText(s.Seconds() * 1e3)
			}
			if c, ok := chains[[2]int{m, k}]; ok && c.Chained > 0 {
				row = append(row, msTextInText(c.Chained.Seconds()*1e3), signed(float64(c.Sum)/float64(c.Chained)-1))
				if c.Whole > 0 {
					row = append(row, msTextInText(c.Whole.Seconds()*1e3), signed(float64(c.Chained)/float64(c.Whole)-1))
				}
			}
			t.AppendRow(row)
		}
		if d, ok := v.p.Latency(m, profiler.Fastest); ok && len(v.p.Accelerators) > 1 {
			t.AppendRow(table.Row{"", "each layer where it is fastest", msTextInText(d.Seconds() * 1e3)})
		}
	}
	render(w, t)
}

func signed(x float64) string { return fmt.Sprintf("%+.1f %%", 100*x) }

// between prints what changes of accelerator and busy neighbours cost.
func (v *profileView) between(w io.Writer) {
	p := v.p
	for m := range p.Models {
		if text := v.handoffs(m); text != "" {
			fmt.Fprintf(w, "%s, changing accelerator between layers: %s\n", p.Models[m].Name, text)
		}
	}
	if len(p.Interference) == 0 {
		return
	}
	fmt.Fprintln(w, "\nhow much longer layers take while another accelerator is busy (quartiles of the layers):")
	header := []string{"layers on"}
	for _, a := range p.Accelerators {
		header = append(header, ">"+a.Name+" busy")
	}
	cells := map[[2]int]profiler.Interference{}
	for _, x := range p.Interference {
		cells[[2]int{x.Accelerator, x.Busy}] = x
	}
	t := table.New(header...)
	for k, a := range p.Accelerators {
		row := table.Row{a.Name}
		for o := range p.Accelerators {
			text := ""
			if x, ok := cells[[2]int{k, o}]; ok {
				text = fmt.Sprintf("%s (%s to %s)", signed(x.Slowdown), signed(x.Q1), signed(x.Q3))
			}
			row = append(row, text)
		}
		t.AppendRow(row)
	}
	render(w, t)
}

// handoffs tells what the conversions of a model's tensors cost, per change of
// accelerator: the median over its layers and the most.
func (v *profileView) handoffs(model int) string {
	costs := map[[2]int][]time.Duration{}
	for _, h := range v.p.Handoffs {
		if h.Model == model {
			costs[[2]int{h.From, h.To}] = append(costs[[2]int{h.From, h.To}], h.P50)
		}
	}
	var parts []string
	for from, a := range v.p.Accelerators {
		for to, b := range v.p.Accelerators {
			if c := costs[[2]int{from, to}]; len(c) > 0 {
				slices.Sort(c)
				parts = append(parts, fmt.Sprintf("%s to %s %s, at most %s", a.Name, b.Name, usTextInText(float64(c[len(c)/2])/1e3), usTextInText(float64(c[len(c)-1])/1e3)))
			}
		}
	}
	return strings.Join(parts, "; ")
}

// accelerators prints what each reaches and what dispatching to it costs.
func (v *profileView) accelerators(w io.Writer) {
	p := v.p
	if len(p.Peaks)+len(p.Dispatches) == 0 {
		return
	}
	rows := make([]table.Row, len(p.Accelerators))
	for k, a := range p.Accelerators {
		rows[k] = table.Row{a.Name, "", "", "", ""}
	}
	for _, x := range p.Peaks {
		rows[x.Accelerator][1], rows[x.Accelerator][2] = fmt.Sprintf("%.3g GMAC/s", x.GMACs), fmt.Sprintf("%.3g GB/s", x.CopyGB)
	}
	for _, d := range p.Dispatches {
		rows[d.Accelerator][3], rows[d.Accelerator][4] = usTextInText(float64(d.P50)/1e3), usTextInText(float64(d.P99)/1e3)
	}
	fmt.Fprintln(w)
	t := table.New("accelerator", ">matrix product", ">copy", ">dispatch p50", ">p99")
	t.AppendRows(rows)
	render(w, t)
}

// refused prints why cells have no times, a line per accelerator and reason.
func (v *profileView) refused(w io.Writer) {
	type why struct {
		acc    int
		reason string
	}
	layers := map[why][]string{}
	var order []why
	for i := range v.p.Cells {
		c := &v.p.Cells[i]
		if c.Measured() {
			continue
		}
		x := why{c.Accelerator, cmp.Or(c.Refused, "not measured")}
		if layers[x] == nil {
			order = append(order, x)
		}
		n := v.p.Name(c)
		name := n.Model + " " + shorten(n.Layer, 30)
		if c.Implementation > 0 {
			name += " as " + n.Implementation
		}
		layers[x] = append(layers[x], name)
	}
	for _, x := range order {
		const most = 3
		names := layers[x]
		text := strings.Join(names[:min(most, len(names))], ", ")
		if len(names) > most {
			text += fmt.Sprintf(" and %d more", len(names)-most)
		}
		fmt.Fprintf(w, "no times on %s: %s: %s\n", v.p.Accelerators[x.acc].Name, text, strings.Join(strings.Fields(x.reason), " "))
	}
}

func (v *profileView) warnings(w io.Writer) {
	for _, s := range v.p.Warnings {
		fmt.Fprintf(w, "warning (%s): %s\n", s.Code, s.Text)
	}
}

// millions and count are numbers of multiply-accumulates and of parameters;
// nothing where they are not known.
func millions(n int64) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("%.1f", float64(n)/1e6)
}

func countInText(n int64) string {
	switch {
	case n == 0:
		return ""
	case n >= 1e6:
		return fmt.Sprintf("%.1fM", float64(n)/1e6)
	case n >= 1e4:
		return fmt.Sprintf("%.0fk", float64(n)/1e3)
	}
	return fmt.Sprint(n)
}

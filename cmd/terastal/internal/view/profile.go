package view

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/terastal/terastal/cmd/terastal/internal/table"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
)

// ProfileOptions choose the columns of a profile's table.
type ProfileOptions struct {
	Wide    bool     // all columns
	Columns []string // these, if not empty
}

// tableWidth is how wide tables may be, unless asked for more.
const tableWidth = 120

// giveUp lists the columns that can be chosen in the order in which they are left out where a table gets too wide.
var giveUp = [...]string{"memory", "load", "peak", "parameters", "shape", "gmacs", "ops", "p99", "share", "macs"}

// ProfileColumns are the names that ProfileOptions.Columns takes, in the order of the table.
func ProfileColumns() []string {
	return []string{"ops", "shape", "macs", "parameters", "p99", "share", "gmacs", "peak", "load", "memory"}
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

// Profile prints a profile: every model's layers with their medians on every accelerator, and what else was measured.
func Profile(w io.Writer, p *profiler.Profile) { ProfileTable(w, p, ProfileOptions{}) }

// ProfileTable is Profile with other columns.
func ProfileTable(w io.Writer, p *profiler.Profile, o ProfileOptions) {
	v := newProfileView(p)
	v.provenance(w)
	left := 0
	for m := range p.Models {
		t, keys := v.layerTable(m, o)
		cut := strings.TrimPrefix(p.Models[m].Granularity+", ", ", ") // of a scenario nobody knows
		fmt.Fprintf(w, "\n%s (%s%s)\n", p.Models[m].Name, cut, plural(len(p.Models[m].Layers), "layer"))
		without := 0
		for !o.Wide && len(o.Columns) == 0 && without < len(giveUp) && t.Width() > tableWidth {
			for i, key := range keys {
				t.Columns[i].Wide = t.Columns[i].Wide || key == giveUp[without]
			}
			without++
		}
		t.Text(w)
		left = max(left, without)
	}
	if left > 0 {
		fmt.Fprintf(w, "left out to fit %d characters: %s; --wide shows them\n", tableWidth, strings.Join(giveUp[:left],
			", "))
	}
	fmt.Fprintln(w)
	v.modelTable().Text(w)
	v.between(w)
	v.devices(w)
	if t := v.acceleratorTable(); len(t.Rows) > 0 {
		fmt.Fprintln(w)
		t.Text(w)
	}
	v.refused(w)
	v.warnings(w)
}

// ProfileSummary prints a profile without its layers.
func ProfileSummary(w io.Writer, p *profiler.Profile) {
	v := newProfileView(p)
	v.provenance(w)
	fmt.Fprintln(w)
	v.modelTable().Text(w)
	v.warnings(w)
}

// profileView is a profile with what several of its tables need.
type profileView struct {
	whole *profiler.Profile
	p     *profiler.Profile // the same with one stream of every device
	sums  [][]time.Duration // of a model's originals, by model and accelerator; 0 where a layer has no time
}

func newProfileView(p *profiler.Profile) *profileView {
	one := OneStream(p)
	return &profileView{p, one, one.Sums()}
}

// systemProfile is what decisions expect, as a profile.
func systemProfile(s *sched.System) *profiler.Profile {
	p := &profiler.Profile{Devices: profileDevices(s.Devices)}
	var names []string
	for _, a := range s.Accelerators {
		p.Accelerators = append(p.Accelerators, runtime.Spec{Name: a})
	}
	for m, x := range s.Models {
		model := profiler.Model{Name: x.Name}
		for l, y := range x.Layers {
			layer := profiler.Layer{Name: y.Name}
			for i, im := range y.Implementations {
				layer.Implementations = append(layer.Implementations, im.Name)
				for k, d := range im.Latency {
					c := profiler.Cell{Model: m, Layer: l, Implementation: i, Accelerator: k, N: 1, P50: d, P99: d}
					if d == sched.Unavailable {
						c = profiler.Cell{Model: m, Layer: l, Implementation: i, Accelerator: k, Refused: "cannot run"}
					}
					p.Cells = append(p.Cells, c)
				}
			}
			model.Layers = append(model.Layers, layer)
		}
		p.Models, names = append(p.Models, model), append(names, x.Name)
	}
	if indexed, err := p.Select(names, nil); err == nil { // its cells are found faster
		return indexed
	}
	return p
}

// median of a layer on an accelerator; 0 where it was not measured.
func (v *profileView) median(m, l, i, k int) time.Duration { return v.p.Medians(m, l, i)[k] }

// extremes are the accelerators on which an implementation is fastest and slowest; -1 where it runs on none.
func (v *profileView) extremes(m, l, i int) (best, worst int) {
	best, worst = -1, -1
	for k := range v.p.Accelerators {
		d := v.median(m, l, i, k)
		if d > 0 && (best < 0 || d < v.median(m, l, i, best)) {
			best = k
		}
		if d > 0 && (worst < 0 || d > v.median(m, l, i, worst)) {
			worst = k
		}
	}
	return best, worst
}

// layerTable has a row for every layer and implementation of a model, and the columns of which anything is known; keys
// are their names, of those that can be chosen.
func (v *profileView) layerTable(m int, o ProfileOptions) (t *table.Table, keys []string) {
	t = table.New("layer")
	keys = []string{""}
	layers := v.p.Models[m].Layers
	for l := range layers {
		for i, name := range layers[l].Implementations {
			if i == 0 {
				t.Add(shorten(layers[l].Name, 30))
			} else {
				t.Add("  as " + shorten(name, 25))
			}
		}
	}
	add := func(key, head string, cell func(l, i int) string) {
		if key != "" && len(o.Columns) > 0 && !slices.Contains(o.Columns, key) {
			return
		}
		var cells []string
		known := key == "" || len(o.Columns) > 0
		for l := range layers {
			for i := range layers[l].Implementations {
				cells = append(cells, cell(l, i))
				known = known || cells[len(cells)-1] != ""
			}
		}
		if !known {
			return
		}
		t.Column(head)
		keys = append(keys, key)
		for n := range t.Rows {
			t.Rows[n].Cells = append(t.Rows[n].Cells, cells[n])
		}
	}
	original := func(of func(x *profiler.Layer) string) func(l, i int) string {
		return func(l, i int) string {
			if i > 0 {
				return ""
			}
			return of(&layers[l])
		}
	}
	add("ops", "ops", original(func(x *profiler.Layer) string { return shorten(strings.Join(x.Ops, "+"), 20) }))
	add("shape", "shape", original(func(x *profiler.Layer) string { return x.Shape }))
	add("macs", ">MMACs", original(func(x *profiler.Layer) string {
		if x.MACs == 0 {
			return ""
		}
		return fmt.Sprintf("%.1f", float64(x.MACs)/1e6)
	}))
	add("parameters", ">params", original(func(x *profiler.Layer) string { return parameters(x.Parameters) }))
	for k := range v.p.Accelerators {
		v.timesOn(m, k, add)
	}
	if len(v.p.Accelerators) > 1 {
		add("", "prefers", func(l, i int) string {
			if best, _ := v.extremes(m, l, i); best >= 0 {
				return v.p.Accelerators[best].Name
			}
			return ""
		})
		add("", ">skew", func(l, i int) string {
			best, worst := v.extremes(m, l, i)
			if best < 0 {
				return ""
			}
			return fmt.Sprintf("%.2fx", float64(v.median(m, l, i, worst))/float64(v.median(m, l, i, best)))
		})
	}
	return t, keys
}

// timesOn adds the columns of an accelerator.
func (v *profileView) timesOn(m, k int, add func(key, head string, cell func(l, i int) string)) {
	on := func(key, head string, of func(c *profiler.Cell) string) {
		add(key, head, func(l, i int) string {
			if c := v.p.Cell(m, l, i, k); c != nil && c.Measured() {
				return of(c)
			}
			return ""
		})
	}
	add("", ">"+v.p.Accelerators[k].Name, func(l, i int) string {
		c := v.p.Cell(m, l, i, k)
		switch {
		case c != nil && c.Refused != "":
			return "refused"
		case c == nil || !c.Measured():
			return "not measured"
		case c.Unstable:
			return took(c.P50) + "~"
		}
		return took(c.P50)
	})
	on("p99", ">p99", func(c *profiler.Cell) string {
		if c.N == 1 && c.P99 == c.P50 {
			return "" // of a table without percentiles
		}
		return took(c.P99)
	})
	on("share", ">share", func(c *profiler.Cell) string {
		sum := v.sums[m][k]
		if c.Implementation > 0 || sum == 0 {
			return ""
		}
		return percent(float64(c.P50) / float64(sum))
	})
	on("gmacs", ">GMAC/s", func(c *profiler.Cell) string {
		if r, ok := v.p.Rate(c); ok {
			return fmt.Sprintf("%.3g", r)
		}
		return ""
	})
	on("peak", ">of peak", func(c *profiler.Cell) string {
		if r, ok := v.p.PeakShare(c); ok {
			return fmt.Sprintf("%.0f %%", 100*r)
		}
		return ""
	})
	on("load", ">load", func(c *profiler.Cell) string {
		if c.Load == 0 {
			return ""
		}
		return took(c.Load)
	})
	on("memory", ">memory", func(c *profiler.Cell) string {
		if c.Memory == 0 {
			return ""
		}
		return fmt.Sprintf("%.1f MB", float64(c.Memory)/1e6)
	})
}

// parameters words how many there are; nothing where that is not known.
func parameters(n int64) string {
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
		table.Paragraph(w, strings.Join(facts, ", "))
		if len(h.CPUFlags) > 0 {
			table.Paragraph(w, "instruction sets: "+strings.Join(h.CPUFlags, " "))
		}
		text := "measured " + p.Created
		if p.Took > 0 {
			text += fmt.Sprintf(" in %v", p.Took.Round(100*time.Millisecond))
		}
		if p.Partial {
			text += ", PARTIAL: stopped before the end"
		}
		fmt.Fprintln(w, text)
		fmt.Fprintln(w, v.precision())
	}
	names := map[string][]string{} // by description: many accelerators have the same
	var order []string
	for _, a := range v.whole.Accelerators {
		text := profiler.DescribeSpec(a)
		if names[text] == nil {
			order = append(order, text)
		}
		names[text] = append(names[text], a.Name)
	}
	for _, text := range order {
		table.Paragraph(w, strings.Join(names[text], ", ")+": "+text)
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
	text := fmt.Sprintf("precision of the medians: half of the cells within ± %.1f %%, all within ± %.1f %%",
		100*widths[(len(widths)-1)/2], 100*widths[len(widths)-1])
	if v.p.Precision > 0 {
		text += fmt.Sprintf("; %d of %d reached ± %.1f %%", reached, measured, 100*v.p.Precision)
	}
	if n := v.p.Noise; n != nil {
		text += fmt.Sprintf("; noise floor %.1f %% (p90 %.1f %%)", 100*n.Median, 100*n.P90)
	}
	return text
}

// modelTable has sums, and what chains and whole models take where they were
// measured: a sum that predicts the chain is additive.
func (v *profileView) modelTable() *table.Table {
	t := table.New("model", "accelerator", ">sum of medians", ">chain", ">sum/chain", ">whole model", ">chain/whole",
		">one graph", ">chain/graph", ">captured", "+>plain chain")
	t.Explain("one graph", "one graph: the whole model captured as one CUDA graph; captured: how many of the "+
		"layers are")
	chains := map[[2]int]profiler.Chain{}
	for _, c := range v.p.Chains {
		chains[[2]int{c.Model, c.Accelerator}] = c
	}
	for m, model := range v.p.Models {
		for k, a := range v.p.Accelerators {
			row := []any{model.Name, a.Name, "-"}
			if sum := v.sums[m][k]; sum > 0 {
				row[2] = sumText(sum)
			}
			if c, ok := chains[[2]int{m, k}]; ok && c.Chained > 0 {
				row = append(row, sumText(c.Chained), signed(float64(c.Sum)/float64(c.Chained)-1))
				row = append(row, against(c.Chained, c.Whole)...)
				row = append(row, against(c.Chained, c.Graph)...)
				row = append(row, capturedText(&c, len(model.Layers)), "")
				if c.Plain > 0 {
					row[len(row)-1] = sumText(c.Plain)
				}
			}
			t.Add(row...)
		}
		if d, ok := v.p.Latency(m, profiler.Fastest); ok && len(v.p.Accelerators) > 1 {
			t.Add(model.Name, "each layer where it is fastest", sumText(d))
		}
	}
	return t.Dense()
}

// against words a time, and by how much a chain takes longer; both are empty where it was not measured.
func against(chain, other time.Duration) []any {
	if other == 0 {
		return []any{"", ""}
	}
	return []any{sumText(other), signed(float64(chain)/float64(other) - 1)}
}

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
	cells := map[[2]int]profiler.Interference{}
	for _, x := range p.Interference {
		cells[[2]int{x.Accelerator, x.Busy}] = x
	}
	t := table.New("layers on")
	t.Title = "how much longer layers take while another accelerator is busy (quartiles of the layers)"
	for k, a := range p.Accelerators {
		t.Column(">" + a.Name + " busy")
		row := []any{a.Name}
		for o := range p.Accelerators {
			text := ""
			if x, ok := cells[[2]int{k, o}]; ok {
				text = fmt.Sprintf("%s (%s to %s)", signed(x.Slowdown), signed(x.Q1), signed(x.Q3))
			}
			row = append(row, text)
		}
		t.Add(row...)
	}
	fmt.Fprintln(w)
	t.Titled(w)
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
				parts = append(parts, fmt.Sprintf("%s to %s %s, at most %s", a.Name, b.Name, took(c[len(c)/2]), took(c[len(c)-1])))
			}
		}
	}
	return strings.Join(parts, "; ")
}

// acceleratorTable has what each reaches and what dispatching to it costs.
func (v *profileView) acceleratorTable() *table.Table {
	p := v.p
	t := table.New("accelerator", ">matrix product", ">copy", ">dispatch p50", ">p99")
	if len(p.Peaks)+len(p.Dispatches) == 0 {
		return t
	}
	for _, a := range p.Accelerators {
		t.Add(a.Name, "", "", "", "")
	}
	for _, x := range p.Peaks {
		row := t.Rows[x.Accelerator].Cells
		row[1], row[2] = fmt.Sprintf("%.3g GMAC/s", x.GMACs), fmt.Sprintf("%.3g GB/s", x.CopyGB)
	}
	for _, d := range p.Dispatches {
		row := t.Rows[d.Accelerator].Cells
		row[3], row[4] = took(d.P50), took(d.P99)
	}
	return t
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
		fmt.Fprintf(w, "no times on %s: %s: %s\n", v.p.Accelerators[x.acc].Name, firstOf(layers[x], 3),
			strings.Join(strings.Fields(x.reason), " "))
	}
}

func (v *profileView) warnings(w io.Writer) {
	for _, s := range v.p.Warnings {
		fmt.Fprintf(w, "warning (%s): %s\n", s.Code, s.Text)
	}
}

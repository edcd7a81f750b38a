package view

import (
	"fmt"
	"html/template"
	"slices"

	"github.com/terastal/terastal/cmd/terastal/internal/table"
)

// use is a layer run by a variant on an accelerator.
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
				out[use{m.Name, l.Name, l.Implementations[s.implementation].Name, placeName(&h.Header.System, s.accelerator)}]++
			}
		}
	}
	return out
}

// heat shows which layers like which accelerator.
func (p *Page) heat(all []*series) section {
	s := section{ID: "layers", Title: "Layers on accelerators"}
	x, source := p.Profile, "Medians of layers that run alone, from the profile."
	switch {
	case x != nil:
	case p.Plan != nil:
		x, source = systemProfile(&p.Plan.System), "What decisions expect layers to take, from the plan."
	case len(p.Logs) > 0:
		x, source = systemProfile(&p.Logs[0].Header.System), "What decisions expected layers to take, from the log."
	default:
		return s
	}
	s.Text = []string{source + " A cell is a layer, in the order of the model; the stronger its colour, the longer it " +
		"takes next to the accelerator that is fastest for it, which the dot marks. Rows of variants show the fastest " +
		"variant there, a ring where a run used one."}
	for i, name := range heatNames {
		key := fmt.Sprintf(`<rect x="0.5" y="0.5" width="13" height="13" class="cell h%d"/>`, i)
		s.Legend = append(s.Legend, legend{keySVG(14, key), name})
	}
	v := newProfileView(x)
	used := usesOf(all)
	for m := range x.Models {
		s.Wide = s.Wide || len(x.Models[m].Layers) > 9
		s.Figures = append(s.Figures, chart{Caption: x.Models[m].Name, SVG: v.heatMap(m, used)})
		s.Tables = append(s.Tables, v.usedTable(m, used))
	}
	return s
}

// usedTable is the profile's table of a model's layers, with how often runs used each variant.
func (v *profileView) usedTable(m int, used map[use]int) *table.Table {
	t, _ := v.layerTable(m, ProfileOptions{Wide: true})
	model := &v.p.Models[m]
	t.Title = "Latencies of " + model.Name
	t.Folded = t.Title + ", " + plural(len(model.Layers), "layer")
	t.Column(">runs as variant")
	n := 0
	for l := range model.Layers {
		for i := range model.Layers[l].Implementations {
			text := ""
			if i > 0 {
				runs := 0
				for k := range v.p.Accelerators {
					runs += used[v.use(m, l, i, k)]
				}
				text = fmt.Sprint(runs)
			}
			t.Rows[n].Cells = append(t.Rows[n].Cells, text)
			n++
		}
	}
	return t.Dense()
}

func (v *profileView) use(m, l, i, k int) use {
	layer := &v.p.Models[m].Layers[l]
	return use{v.p.Models[m].Name, layer.Name, layer.Implementations[i], v.p.Accelerators[k].Name}
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

// Sizes of the heat map's cells.
const (
	heatRow   = 22.0
	heatLabel = 20 // characters
)

func (v *profileView) heatMap(m int, used map[use]int) template.HTML {
	layers, accs := v.p.Models[m].Layers, v.p.Accelerators
	variants := false
	for l := range layers {
		variants = variants || len(layers[l].Implementations) > 1
	}
	width := max(9.0, min(28, 620/float64(len(layers))))
	longest, rows := 0, len(accs)
	for _, a := range accs {
		longest = max(longest, len([]rune(clip(a.Name, heatLabel))))
	}
	if variants {
		longest += len(", variants")
		rows *= 2
	}
	left := 8 + charWidth*float64(longest)
	f := newFigure(left+width*float64(len(layers))+8, float64(rows)*heatRow+22,
		"Relative latency of the layers of "+v.p.Models[m].Name+" by accelerator")
	f.scroll = true
	for k, a := range accs {
		f.text(left-6, heatRow*float64(k)+15, "row", "end", clip(a.Name, heatLabel))
		if variants {
			f.text(left-6, heatRow*float64(len(accs)+k)+15, "row", "end", clip(a.Name, heatLabel)+", variants")
		}
	}
	for l := range layers {
		x := left + width*float64(l)
		preferred, _ := v.extremes(m, l, 0)
		fastest := v.median(m, l, 0, max(0, preferred))
		for k := range accs {
			y := heatRow * float64(k)
			title := fmt.Sprintf("%s on %s: cannot run", layers[l].Name, accs[k].Name)
			relative := 0.0
			if d := v.median(m, l, 0, k); d > 0 {
				relative = float64(d) / float64(fastest)
				title = fmt.Sprintf("%s on %s: %s, %.2fx the fastest", layers[l].Name, accs[k].Name, took(d), relative)
			}
			f.rect(x+.5, y+1, width-1, heatRow-2, "cell "+heatClass(relative), title)
			if k == preferred {
				fmt.Fprintf(&f.b, `<circle cx="%s" cy="%s" r="3" class="preferred"/>`, px(x+width/2), px(y+heatRow/2))
			}
			if variants {
				f.variantCell(v, [3]int{m, l, k}, x, heatRow*float64(len(accs)+k), width, used)
			}
		}
		if l == 0 || (l+1)%10 == 0 {
			f.text(x+width/2, heatRow*float64(rows)+14, "tick", "middle", fmt.Sprint(l+1))
		}
	}
	return f.done()
}

// variantCell draws the fastest variant of a layer on an accelerator, if it has
// one; at are model, layer and accelerator.
func (f *figure) variantCell(v *profileView, at [3]int, x, y, width float64, used map[use]int) {
	m, l, k := at[0], at[1], at[2]
	layer := &v.p.Models[m].Layers[l]
	best, runs := 0, 0
	for i := 1; i < len(layer.Implementations); i++ {
		if d := v.median(m, l, i, k); d > 0 && (best == 0 || d < v.median(m, l, best, k)) {
			best = i
		}
		runs += used[v.use(m, l, i, k)]
	}
	if best == 0 {
		return
	}
	d, relative := v.median(m, l, best, k), 0.0
	if preferred, _ := v.extremes(m, l, 0); preferred >= 0 {
		relative = float64(d) / float64(v.median(m, l, 0, preferred))
	}
	f.rect(x+.5, y+1, width-1, heatRow-2, "cell "+heatClass(relative),
		fmt.Sprintf("%s as %s on %s: %s, %.2fx the fastest original; variants ran %s here", layer.Name,
			layer.Implementations[best], v.p.Accelerators[k].Name, took(d), relative, plural(runs, "time")))
	f.rect(x+.5, y+1, width-1, heatRow-2, "hatch", "")
	if runs > 0 {
		fmt.Fprintf(&f.b, `<circle cx="%s" cy="%s" r="3.5" class="ring"/>`, px(x+width/2), px(y+heatRow/2))
	}
}

// missedShown is how many missed requests are listed per policy.
const missedShown = 20

func timelineSection(all []*series, t *timeline, note string) section {
	s := section{ID: "timeline", Title: "Timeline", Timeline: t != nil, Wide: true}
	if t == nil {
		return s
	}
	s.Text = []string{"Each row is an accelerator, each block a layer in the colour of its model; variants are hatched, " +
		"and a red edge marks layers of requests that missed. The row below has a mark for every missed request, at its " +
		"deadline or where it was dropped. Select a block to follow its request."}
	onDevices := func(x *series) bool { return len(x.logs) > 0 && len(x.logs[0].Header.System.Devices) > 0 }
	if slices.ContainsFunc(all, onDevices) {
		s.Text = append(s.Text, "Each stream of a device has a row. Blocks are where layers really ran: one that was decided "+
			"before it could begin says by how much.")
	}
	if slices.ContainsFunc(all, func(x *series) bool { return len(x.logs) > 1 }) {
		s.Text = append(s.Text, "Of repeated runs it shows the first.")
	}
	if note != "" {
		s.Text = append(s.Text, note)
	}
	for _, x := range all {
		if len(x.logs) > 0 {
			s.Tables = append(s.Tables, missedTable(x))
		}
	}
	return s
}

// missedTable lists the first missed requests of a series, and where their time went.
func missedTable(x *series) *table.Table {
	h := x.logs[0]
	t := table.New(">request", "model", ">released at", ">deadline", "outcome", ">after", ">running", ">waiting", "reason")
	missed := 0
	for i := range h.jobs {
		j := &h.jobs[i]
		if !j.missed() {
			continue
		}
		if missed++; missed > missedShown {
			continue
		}
		t.Add(j.id, h.Header.System.Models[j.model].Name, fmt.Sprintf("%.4f s", j.release.Seconds()),
			msText(ms(j.deadline-j.release)), j.outcome, msText(ms(j.end-j.release)), msText(ms(j.ran)),
			msText(max(0, ms(j.end-j.release-j.ran))), j.detail)
	}
	t.Title = "Missed requests of " + x.label
	t.Folded = fmt.Sprintf("%s: the first %d of %s", t.Title, len(t.Rows), group(missed))
	return t
}

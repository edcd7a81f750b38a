package report

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/terastal/terastal/internal/flow"
	"github.com/terastal/terastal/internal/table"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/eventlog"
	"github.com/terastal/terastal/variants"
)

// handoffs tells what the conversions of a model's tensors cost, per change of
// accelerator: the median over its layers and the most.
func handoffs(p *profiler.Profile, model int) string {
	var parts []string
	for from := range p.Accelerators {
		for to := range p.Accelerators {
			var costs []time.Duration
			for _, h := range p.Handoffs {
				if h.Model == model && h.From == from && h.To == to {
					costs = append(costs, h.P50)
				}
			}
			if len(costs) > 0 {
				slices.Sort(costs)
				parts = append(parts, fmt.Sprintf("%s to %s %s, at most %s", p.Accelerators[from].Name, p.Accelerators[to].Name,
					usText(float64(costs[len(costs)/2])/1e3), usText(float64(costs[len(costs)-1])/1e3)))
			}
		}
	}
	return strings.Join(parts, "; ")
}

// Profile prints a profile: a line per layer with its median on every
// accelerator and where it is fastest.
func Profile(w io.Writer, p *profiler.Profile) {
	fmt.Fprintf(w, "%s, ONNX Runtime %s, measured %s\n", p.Host.CPU, p.ORT, p.Created)
	header := []string{"model", "layer", "ops", ">MMACs"}
	for _, a := range p.Accelerators {
		header = append(header, ">"+a.Name, ">p99")
	}
	cells := map[[3]int]*profiler.Cell{}
	for i := range p.Cells {
		if c := &p.Cells[i]; c.Implementation == 0 {
			cells[[3]int{c.Model, c.Layer, c.Accelerator}] = c
		}
	}
	t := table.New(append(header, "fastest on")...)
	for m, model := range p.Models {
		if m > 0 {
			t.AppendSeparator()
		}
		for l, layer := range model.Layers {
			name := ""
			if l == 0 {
				name = model.Name
			}
			row := table.Row{name, shorten(layer.Name, 34), shorten(strings.Join(layer.Ops, "+"), 24), fmt.Sprintf("%.1f", float64(layer.MACs)/1e6)}
			best := -1
			for k := range p.Accelerators {
				c := cells[[3]int{m, l, k}]
				if c.Refused != "" {
					row = append(row, "refused", "")
					continue
				}
				median := usText(float64(c.P50) / 1e3)
				if c.Unstable {
					median += "~"
				}
				row = append(row, median, usText(float64(c.P99)/1e3))
				if best < 0 || c.P50 < cells[[3]int{m, l, best}].P50 {
					best = k
				}
			}
			if best >= 0 {
				row = append(row, p.Accelerators[best].Name)
			}
			t.AppendRow(row)
		}
	}
	render(w, t)
	for m, model := range p.Models {
		parts := []string{}
		for k, a := range p.Accelerators {
			if d, ok := p.Latency(m, k); ok {
				parts = append(parts, fmt.Sprintf("%s %s", a.Name, msText(d.Seconds()*1e3)))
			}
		}
		if d, ok := p.Latency(m, profiler.Fastest); ok {
			parts = append(parts, fmt.Sprintf("each layer where it is fastest %s", msText(d.Seconds()*1e3)))
		}
		fmt.Fprintf(w, "%s, sum of medians: %s\n", model.Name, strings.Join(parts, ", "))
		if text := handoffs(p, m); text != "" {
			fmt.Fprintf(w, "%s, changing accelerator between layers: %s\n", model.Name, text)
		}
	}
	for _, s := range p.Warnings {
		fmt.Fprintf(w, "warning (%s): %s\n", s.Code, s.Text)
	}
}

// shorten keeps the end of a long name, which tells layers apart.
func shorten(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return "…" + string(r[len(r)-n+1:])
	}
	return s
}

// Validation prints how a real run compares with the simulator.
func Validation(w io.Writer, v *flow.Validation) {
	if v.Difference == "" {
		fmt.Fprintf(w, "decisions: all %d replayed decisions of %s are the recorded ones\n", v.Decisions, v.Policy)
	} else {
		fmt.Fprintf(w, "decisions: %d replayed decisions of %s are the recorded ones, the next differs\n", v.Decisions, v.Policy)
	}
	e := &v.Layers
	fmt.Fprintf(w, "layers: %d runs, mean absolute error %s of the prediction, bias %+.1f %%, within 5 %%: %s, within 10 %%: %s\n\n",
		e.Runs, percent(e.MAPE), 100*e.Bias, percent(e.Within5), percent(e.Within10))
	t := table.New("", "model", ">released", ">miss rate", ">dropped", ">p50", ">p90", ">p99")
	for i, m := range v.Models {
		if i > 0 {
			t.AppendSeparator()
		}
		for _, side := range []struct {
			name, model string
			m           eventlog.ModelMetrics
		}{{"real", m.Model, m.Real}, {"simulated", "", m.Simulated}} {
			p50, p90, p99 := latencies(side.m)
			t.AppendRow(table.Row{side.name, side.model, side.m.Released, percent(side.m.MissRate), side.m.Dropped, p50, p90, p99})
		}
	}
	render(w, t)
	if len(e.Worst) == 0 {
		return
	}
	fmt.Fprintln(w, "\nwhere the predictions are off most:")
	t = table.New(">", "model", "layer", "accelerator", ">runs", ">predicted", ">measured p50")
	for i, x := range e.Worst {
		t.AppendRow(table.Row{i + 1, x.Model, shorten(x.Layer, 34), x.Accelerator, x.Runs, usText(x.PredictedUS), usText(x.MeasuredUS)})
	}
	render(w, t)
}

// Target is a variants.Target with names.
type Target struct {
	Model       string        `json:"model"`
	Layer       string        `json:"layer"`
	Accelerator string        `json:"accelerator"`
	Latency     time.Duration `json:"latency_ns"`
	Budget      time.Duration `json:"budget_ns"`
	Speedup     float64       `json:"speedup_needed"`
}

// Named gives targets their names.
func Named(s *sched.System, targets []variants.Target) []Target {
	out := []Target{}
	for _, x := range targets {
		m := &s.Models[x.Model]
		out = append(out, Target{m.Name, m.Layers[x.Layer].Name, s.Accelerators[x.Accelerator], x.Latency, x.Budget, x.Speedup()})
	}
	return out
}

// Targets prints where variants are wanted.
func Targets(w io.Writer, targets []Target) {
	if len(targets) == 0 {
		fmt.Fprintln(w, "every layer fits its budget on every accelerator that runs it: no variants are wanted")
		return
	}
	t := table.New("model", "layer", "accelerator", ">latency", ">budget", ">speed-up needed")
	for _, x := range targets {
		t.AppendRow(table.Row{x.Model, shorten(x.Layer, 40), x.Accelerator, usText(float64(x.Latency) / 1e3), usText(float64(x.Budget) / 1e3), fmt.Sprintf("%.2fx", x.Speedup)})
	}
	render(w, t)
}

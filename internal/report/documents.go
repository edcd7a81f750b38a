package report

import (
	"fmt"
	"io"
	"time"

	"github.com/terastal/terastal/internal/flow"
	"github.com/terastal/terastal/internal/table"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/eventlog"
	"github.com/terastal/terastal/variants"
)

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

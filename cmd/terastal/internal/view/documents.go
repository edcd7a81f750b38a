package view

import (
	"fmt"
	"io"
	"time"

	"github.com/terastal/terastal/cmd/terastal/internal/table"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/variants"
)

// shorten keeps the end of a long name, which tells layers apart.
func shorten(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return "…" + string(r[len(r)-n+1:])
	}
	return s
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
		t.AppendRow(table.Row{x.Model, shorten(x.Layer, 40), x.Accelerator, usTextInText(float64(x.Latency) / 1e3), usTextInText(float64(x.Budget) / 1e3), fmt.Sprintf("%.2fx", x.Speedup)})
	}
	render(w, t)
}

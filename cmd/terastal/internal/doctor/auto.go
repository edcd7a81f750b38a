package doctor

import (
	"fmt"
	"slices"
	"strings"

	"github.com/terastal/terastal/cmd/terastal/internal/auto"
	"github.com/terastal/terastal/cmd/terastal/internal/table"
	"github.com/terastal/terastal/internal/hostinfo"
	"github.com/terastal/terastal/runtime"
)

// guessed are accelerators for a machine of which nothing was calibrated yet, on which the given providers open: every
// core for itself, the optimisation levels in turn, one core left from four on; and a GPU.
func guessed(info hostinfo.Info, open []string) []runtime.Spec {
	specs := []runtime.Spec{}
	cores := info.AllowedCores
	var gpu []runtime.Spec
	for _, s := range auto.GPUs() {
		if len(info.GPUs) > 0 && len(gpu) == 0 && slices.Contains(open, s.Provider) {
			if n := len(cores); n > 1 {
				s.Cores, cores = cores[n-1:], cores[:n-1]
			}
			gpu = append(gpu, s)
		}
	}
	if len(cores) >= 4 {
		cores = cores[1:]
	}
	if !slices.Contains(open, "cpu") {
		return append(specs, gpu...)
	}
	for i := range max(1, len(cores)) {
		level := []string{"all", "basic"}[i%2]
		specs = append(specs, runtime.Spec{Name: fmt.Sprintf("cpu%d-%s", i, level), Provider: "cpu", Optimization: level,
			Threads: 1, Cores: slices.Clone(cores[min(i, len(cores)):min(i+1, len(cores))])})
	}
	return append(specs, gpu...)
}

// acceleratorTable are the accelerators that "auto" stands for.
func (r Report) acceleratorTable() *table.Table {
	head := "Accelerator (auto chose last)"
	if r.Guessed {
		head = "Accelerator (a guess: auto chooses by measuring your models)"
	}
	t := table.New(head, "Provider", "Optimization", "Threads", "Cores")
	for _, a := range r.Accelerators {
		name := a.Name
		if r.Guessed && a.HasStreams() {
			name += ", as many streams as pay"
		}
		t.Add(name, a.Provider, a.Optimization, max(1, a.Threads), joinCores(a.Cores))
	}
	return t
}

// maxCalibrations is how many calibrations fit a terminal; --json has all.
const maxCalibrations = 4

// calibrationTable are the sets of accelerators that were compared, for some models each.
func (r Report) calibrationTable() *table.Table {
	t := table.New("Calibrated for (auto)", "Accelerators compared", "Requests/s at most", "Models always late")
	for _, c := range r.Calibrations[:min(maxCalibrations, len(r.Calibrations))] {
		var models []string
		for _, m := range c.Models {
			models = append(models, m.Name)
		}
		label := strings.Join(models, ", ")
		for i, s := range c.Choice.Compared {
			if s.Free {
				s.Name += ", a core left"
			}
			late := ""
			if s.Late > 0 {
				late = fmt.Sprint(s.Late)
			}
			t.Add([]string{label, ""}[min(i, 1)], s.Name, fmt.Sprintf("%.0f", s.Capacity), late)
		}
	}
	return t
}

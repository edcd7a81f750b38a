package view

import (
	"fmt"
	"slices"
	"strings"

	"github.com/terastal/terastal/cmd/terastal/internal/comparison"
	"github.com/terastal/terastal/cmd/terastal/internal/result"
	"github.com/terastal/terastal/cmd/terastal/internal/table"
	"github.com/terastal/terastal/internal/energy"
)

// joules words an energy with a sensible number of digits.
func joules(j float64) string {
	switch {
	case j >= 10_000:
		return fmt.Sprintf("%.1f kJ", j/1000)
	case j >= 100:
		return fmt.Sprintf("%.0f J", j)
	case j >= 1:
		return fmt.Sprintf("%.2f J", j)
	}
	return fmt.Sprintf("%.1f mJ", 1000*j)
}

func signedJoules(j float64) string {
	if j < 0 {
		return "-" + joules(-j)
	}
	return "+" + joules(j)
}

// jouleRange is a median with its interval as a share of it.
func jouleRange(m *comparison.Measure) string {
	text := joules(m.Median)
	if len(m.Values) > 1 && m.Median > 0 {
		text += fmt.Sprintf(" ± %.0f %%", 100*reach(m)/m.Median)
	}
	return text
}

// energyTable has a row for every run whose energy was metered; those of repeats are in the comparison.
func energyTable(results []result.Result) *table.Table {
	t := table.New("policy", ">GPUs", ">processors", ">mean power", ">per met request", "+sources")
	t.Title = "Energy by policy"
	known := func(j float64) string {
		if j == 0 {
			return ""
		}
		return joules(j)
	}
	var metered []result.PolicyResult
	for i := range results {
		for _, p := range results[i].Policies {
			e := p.Energy
			if e == nil {
				continue
			}
			metered = append(metered, p)
			var sources []string
			for _, s := range e.Sources {
				sources = append(sources, s.Name+" "+joules(s.Joules))
			}
			power := ""
			if e.ElapsedS > 0 {
				power = fmt.Sprintf("%.3g W", (e.GPUJ+e.CPUJ)/e.ElapsedS)
			}
			t.Add(p.Policy, known(e.GPUJ), known(e.CPUJ), power, known(e.PerMet), strings.Join(sources, ", "))
		}
	}
	if len(metered) > 0 {
		t.Note("%s", energyText(metered))
	}
	return t.Dense()
}

// energyText says what joules are of.
func energyText(policies []result.PolicyResult) string {
	ways := map[string]string{energy.GPU + energy.ByCounter: "GPUs, by their counters (NVML)",
		energy.GPU + energy.ByPower:   "GPUs, by their power 20 times a second (NVML)",
		energy.CPU + energy.ByCounter: "processor packages, by their counters (RAPL)"}
	var parts []string
	for _, p := range policies {
		if p.Energy == nil {
			continue
		}
		for _, s := range p.Energy.Sources {
			if way := ways[s.Kind+s.How]; way != "" && !slices.Contains(parts, way) {
				parts = append(parts, way)
			}
		}
	}
	return "Energy is the total of " + strings.Join(parts, " and ") +
		", while the policy ran: what they take when idle, and what other processes made them do, is in it."
}

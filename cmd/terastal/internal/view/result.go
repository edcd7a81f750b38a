package view

import (
	"fmt"
	"io"
	"slices"

	"github.com/terastal/terastal/cmd/terastal/internal/result"
	"github.com/terastal/terastal/cmd/terastal/internal/table"
	"github.com/terastal/terastal/sched/eventlog"
)

// Result prints what a run or simulation of several policies gave; file is where it was written.
func Result(w io.Writer, r *result.Result, file string) {
	Hopeless(w, hopeless(r.Models))
	table.Paragraph(w, r.Hardware)
	fmt.Fprintln(w)
	planTable(w, r.Models, planned(r.Accelerators), r.Traffic.Load)
	fmt.Fprintln(w)
	if r.Comparison != nil {
		PoliciesCompared(w, r)
	} else {
		var metrics []eventlog.Metrics
		for _, p := range r.Policies {
			metrics = append(metrics, p.Metrics)
		}
		policies(w, metrics) // the table of models has the floors
		if r.Driver == eventlog.Real {
			fmt.Fprintln(w)
			Verification(w, r.Policies)
			more(w, energyTable([]result.Result{*r}))
		}
	}
	more(w, append(runTables([]result.Result{*r}), labelledTable([]result.Result{*r}))...)
	for _, text := range []string{r.Gained(), r.Bought()} {
		if text != "" {
			fmt.Fprintln(w)
			table.Paragraph(w, text)
		}
	}
	fmt.Fprintf(w, "\nwritten: %s", file)
	if len(r.Policies) > 0 {
		fmt.Fprintf(w, "; for each policy a log and a trace (open in ui.perfetto.dev), such as %s",
			r.Policies[len(r.Policies)-1].Trace)
	}
	fmt.Fprintln(w)
}

// more prints tables that have rows, each below an empty line and its title.
func more(w io.Writer, tables ...*table.Table) {
	for _, t := range tables {
		if slices.ContainsFunc(t.Rows, func(r table.Row) bool { return !r.Wide }) {
			fmt.Fprintln(w)
			t.Titled(w)
		}
	}
}

// Text prints what a report is of: the comparison of a result that has one, and a table of the logs that no comparison
// is of; a line for what else was found out about them.
func (p *Page) Text(w io.Writer) {
	first := true
	next := func() { // block of text
		if !first {
			fmt.Fprintln(w)
		}
		first = false
	}
	compared := map[string]bool{} // by driver
	for i := range p.Results {
		if r := &p.Results[i]; r.Comparison != nil {
			compared[r.Driver] = true
			next()
			PoliciesCompared(w, r)
		}
	}
	var rest []eventlog.Metrics
	for _, l := range p.Logs {
		if !compared[l.Header.Driver] {
			rest = append(rest, l.Metrics())
		}
	}
	if len(rest) > 0 {
		next()
		Policies(w, rest)
	}
	if len(p.Validations)+len(p.Curves) > 0 {
		next()
	}
	for i := range p.Validations {
		ValidationLine(w, &p.Validations[i])
	}
	for i := range p.Curves {
		CurvesLine(w, &p.Curves[i])
	}
}

package view

import (
	"fmt"
	"io"
	"strings"

	"github.com/terastal/terastal/cmd/terastal/internal/session"
	"github.com/terastal/terastal/cmd/terastal/internal/study"
	"github.com/terastal/terastal/cmd/terastal/internal/table"
	"github.com/terastal/terastal/sched/scenario"
)

// PublishedTables prints the published tables of latencies.
func PublishedTables(w io.Writer, list []session.PublishedTable) {
	t := table.New("set", ">layers", ">variants")
	for _, x := range list {
		t.Add(x.Set, x.Layers, x.Variants)
	}
	t.Add(session.PublishedPrefix+"all", "all of them", "")
	t.Text(w)
	var accelerators []string
	for _, a := range scenario.Kinds() {
		accelerators = append(accelerators, fmt.Sprintf("%s (%s, %d processing elements)", a.Name, a.Dataflow, a.PEs))
	}
	table.Paragraph(w, "Accelerators: "+strings.Join(accelerators, ", ")+
		"; with @4K or @6K those of a published platform. From: "+scenario.Origin+".")
}

// Scenarios prints the published scenarios.
func Scenarios(w io.Writer, list []session.ListedScenario) {
	t := table.New("scenario", "accelerators", "models at requests per second")
	for _, s := range list {
		for i, m := range s.Models {
			accelerators := ""
			if i == 0 {
				accelerators = fmt.Sprint(len(s.Accelerators))
			}
			t.Add(s.Name, accelerators, m)
		}
	}
	t.Text(w)
}

// Study prints what simulations of a scenario came to, below a line about its traffic.
func Study(w io.Writer, d *study.Document, results []study.Result, line string) {
	table.Paragraph(w, strings.TrimSuffix(d.Scenario+": "+d.Note, ": "))
	fmt.Fprintf(w, "%s\n\n", line)
	Scenario(w, results)
}

package view

import (
	"fmt"
	"io"
	"strings"

	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/terastal/terastal/cmd/terastal/internal/inspect"
	"github.com/terastal/terastal/cmd/terastal/internal/session"
	"github.com/terastal/terastal/cmd/terastal/internal/table"
	"github.com/terastal/terastal/sched/scenario"
)

// Networks prints the built-in networks.
func Networks(w io.Writer, list []inspect.Network) {
	t := table.New("network", "task", "input", ">parameters", ">MACs", "counts are", "weights", ">accuracy")
	for _, n := range list {
		counts, weights, accuracy := "our own", "random", ""
		if n.Published {
			counts = "published"
		}
		if n.Trained {
			weights, accuracy = "trained", fmt.Sprintf("%.2f %%", 100*n.Accuracy)
		}
		t.Add(session.ZooPrefix+n.Name, n.Task, dims(n.Input), prefixed(n.Parameters), prefixed(n.MACs),
			counts, weights, accuracy)
	}
	t.Text(w)
}

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

// Scenarios prints the scenarios that ship, and where each comes from.
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
	var sources []string
	of := map[string][]string{} // names by source
	for _, s := range list {
		if of[s.Source] == nil {
			sources = append(sources, s.Source)
		}
		of[s.Source] = append(of[s.Source], s.Name)
	}
	for _, source := range sources {
		table.Paragraph(w, strings.Join(of[source], ", ")+": "+source+".")
	}
}

// Model prints a model's layers.
func Model(w io.Writer, m *inspect.Model) {
	fmt.Fprintf(w, "%s: %s parameters, %s MACs, %d layers at %s, %s bytes of buffers between them\n",
		m.Model, prefixed(m.Parameters), prefixed(m.MACs), len(m.Layers), m.Granularity, prefixed(m.BufferBytes))
	fmt.Fprintf(w, "inputs %v, outputs %v\n", m.Inputs, m.Outputs)
	if m.Note != "" {
		fmt.Fprintln(w, m.Note)
	}
	fmt.Fprintln(w)
	t := table.New(">#", "layer", "ops", ">MACs", ">parameters", "in", ">bytes", "out", ">bytes")
	for _, l := range m.Layers {
		t.Add(l.Index, text.Snip(l.Name, 32, "~"), text.Snip(tally(l.Ops), 40, "~"),
			prefixed(l.MACs), prefixed(l.Parameters), text.Snip(shapeList(l.Inputs), 32, "~"), prefixed(total(l.Inputs)),
			text.Snip(shapeList(l.Outputs), 32, "~"), prefixed(total(l.Outputs)))
	}
	t.Text(w)
}

// Split prints what came of splitting a model.
func Split(w io.Writer, r *inspect.Result, folder string) {
	fmt.Fprintf(w, "%s: %d layers at %s\n", r.Model, r.Layers, r.Granularity)
	if r.Note != "" {
		fmt.Fprintln(w, r.Note)
	}
	if r.Files != nil {
		fmt.Fprintf(w, "%s: %d files\n", folder, len(r.Files))
	}
	if r.Identical == nil {
		return
	}
	verdict := "bit-identical"
	if !*r.Identical {
		verdict = fmt.Sprintf("within %s (relative %s, same largest element: %t)",
			largest(r.MaxAbsDiff), largest(r.MaxRelDiff), *r.Argmax)
	}
	fmt.Fprintf(w, "outputs of the chain: %s; whole %.3f ms, chained %.3f ms, ratio %.3f\n",
		verdict, r.WholeMS, r.ChainedMS, r.Ratio)
}

// largest writes the largest difference of outputs, nil where it is no number.
func largest(x *float64) string {
	if x == nil {
		return "no number"
	}
	return fmt.Sprintf("%.3g", *x)
}

// prefixed writes a large number with its SI prefix: 25.6M.
func prefixed(n int64) string {
	for _, unit := range []struct {
		size   int64
		suffix string
	}{{1e9, "G"}, {1e6, "M"}, {1e3, "k"}} {
		if n >= unit.size {
			return fmt.Sprintf("%.3g%s", float64(n)/float64(unit.size), unit.suffix)
		}
	}
	return fmt.Sprint(n)
}

func dims(shape []int64) string {
	return strings.ReplaceAll(strings.Trim(fmt.Sprint(shape), "[]"), " ", "x")
}

func shapeList(tensors []inspect.Tensor) string {
	var list []string
	for _, t := range tensors {
		list = append(list, dims(t.Shape))
	}
	return strings.Join(list, " ")
}

// tally writes operators in order of first use, with how often each occurs: Conv Relu*2.
func tally(ops []string) string {
	times := make(map[string]int)
	var order []string
	for _, op := range ops {
		if times[op]++; times[op] == 1 {
			order = append(order, op)
		}
	}
	for i, op := range order {
		if times[op] > 1 {
			order[i] = fmt.Sprintf("%s*%d", op, times[op])
		}
	}
	return strings.Join(order, " ")
}

func total(tensors []inspect.Tensor) int64 {
	sum := int64(0)
	for _, t := range tensors {
		sum += t.Bytes
	}
	return sum
}

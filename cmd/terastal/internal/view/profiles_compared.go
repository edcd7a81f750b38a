package view

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/terastal/terastal/cmd/terastal/internal/table"
	"github.com/terastal/terastal/profiler"
)

// Comparison prints two profiles, or two accelerators, side by side: a table
// per accelerator with "~" where there is no significant difference.
func Comparison(w io.Writer, c *profiler.Comparison) {
	fmt.Fprintf(w, "A: %s%s\nB: %s%s\n", c.A, doubts(c.DoubtsA), c.B, doubts(c.DoubtsB))
	for i, d := range c.Differences {
		lead := "they differ in"
		if i > 0 {
			lead = "              "
		}
		fmt.Fprintf(w, "%s %s: %s against %s\n", lead, d.What, d.A, d.B)
	}
	for i := range c.Accelerators {
		x := &c.Accelerators[i]
		fmt.Fprintf(w, "\n%s\n", x.Accelerator)
		cellsCompared(x).Text(w)
		for _, g := range x.Models {
			if g.SumA > 0 {
				fmt.Fprintf(w, "%s, sum over layers compared: A %s, B %s, each layer where it is faster %s\n", g.Model,
					sumText(g.SumA), sumText(g.SumB), sumText(g.SumBest))
			}
		}
	}
	fmt.Fprintln(w)
	for _, x := range []struct {
		what  string
		cells []profiler.CellName
	}{{"only in A", c.OnlyA}, {"only in B", c.OnlyB}, {"without times on one side", c.Unmeasured}} {
		if len(x.cells) > 0 {
			fmt.Fprintf(w, "%s: %d cells, %s\n", x.what, len(x.cells), cellNames(x.cells))
		}
	}
	fmt.Fprintf(w, "%d cells: median |difference| %s, beyond %.0f %%: %s, significant: %s\n", c.Summary.Cells,
		percent(c.Summary.MedianChange), 100*profiler.AgreementLimit, percent(c.Summary.Beyond),
		percent(c.Summary.Significant))
}

// doubts are what a reader of a comparison has to know about one side.
func doubts(d profiler.Doubts) string {
	text := ""
	if d.Noise != nil {
		text = fmt.Sprintf(", noise floor %.1f %%", 100*d.Noise.Median)
	}
	if len(d.Warnings) > 0 {
		text += ", warnings: " + strings.Join(d.Warnings, " ")
	}
	return text
}

// cellsCompared has a row for every cell, and the geometric means of every model.
func cellsCompared(x *profiler.AcceleratorComparison) *table.Table {
	variants := false
	for _, c := range x.Cells {
		variants = variants || c.Implementation != x.Cells[0].Implementation
	}
	t := table.New("model", "layer", ">A median", ">B median", ">difference", "")
	mean := func(g profiler.Geomean, name string) {
		t.Add(shorten(name, 24), "geomean", took(time.Duration(g.A)), took(time.Duration(g.B)), signed(g.Change),
			fmt.Sprintf("%d slower, %d faster", g.FasterA, g.FasterB))
	}
	for i, c := range x.Cells {
		layer := shorten(c.Layer, 36)
		if variants {
			layer = shorten(c.Layer, 26)
			if c.Implementation != x.Cells[0].Implementation {
				layer += " as " + shorten(c.Implementation, 9)
			}
		}
		difference := "~"
		if c.Significant {
			difference = signed(c.Change)
		}
		t.Add(shorten(c.Model, 24), layer, medianText(c.A), medianText(c.B), difference, testText(&c))
		if i+1 < len(x.Cells) && x.Cells[i+1].Model == c.Model {
			continue
		}
		for _, g := range x.Models {
			if g.Model == c.Model {
				mean(g, g.Model)
			}
		}
	}
	if len(x.Models) > 1 {
		mean(x.All, "all")
	}
	return t
}

func medianText(m profiler.Median) string {
	if m.Low == m.High {
		return took(m.P50)
	}
	return fmt.Sprintf("%s ± %3.1f %%", took(m.P50), 100*m.Within())
}

// testText is how a difference was judged: p and n of the U test, or that intervals were compared.
func testText(c *profiler.CellComparison) string {
	n := fmt.Sprintf("n=%d+%d", c.A.N, c.B.N)
	if c.A.N == c.B.N {
		n = fmt.Sprintf("n=%d", c.A.N)
	}
	if c.P == nil {
		return "intervals, " + n
	}
	return fmt.Sprintf("p=%.3f %s", *c.P, n)
}

// cellNames names the first few.
func cellNames(cells []profiler.CellName) string {
	const most = 2
	var parts []string
	for i, c := range cells {
		if i == most {
			parts = append(parts, "...")
			break
		}
		text := c.Model + " " + shorten(c.Layer, 20)
		if c.Implementation != "original" {
			text += " as " + shorten(c.Implementation, 9)
		}
		if c.Accelerator != "" && !strings.Contains(c.Accelerator, " against ") {
			text += " on " + c.Accelerator
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, ", ")
}

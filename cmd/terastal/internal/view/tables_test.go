package view

import (
	"bytes"
	"html"
	"io"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/terastal/terastal/cmd/terastal/internal/table"
	"github.com/terastal/terastal/internal/testkit"
)

// grid is a table as a reader finds it: a header and rows of cells.
type grid struct {
	head []string
	rows [][]string
}

// textGrids finds the tables in a terminal's output. Columns are told apart by two spaces that all lines of a table
// have in the same place; where a name is left out it is that of the row above.
func textGrids(text string) (out []grid) {
	lines := strings.Split(text, "\n")
	for i := 1; i < len(lines); i++ {
		if !strings.HasPrefix(lines[i], "──") || strings.HasPrefix(lines[i-1], "──") {
			continue
		}
		width := len([]rune(lines[i]))
		block := [][]rune{pad(lines[i-1], width)}
		end := i + 1
		for ; end < len(lines) && lines[end] != ""; end++ {
			if strings.HasPrefix(lines[end], "──") {
				if len([]rune(lines[end])) != width { // of the next table
					break
				}
				continue
			}
			if !strings.Contains(lines[end], "  ") {
				break // a note
			}
			block = append(block, pad(lines[end], width))
		}
		out = append(out, cut(block, width))
		i = end - 1
	}
	return out
}

func pad(line string, width int) []rune {
	return append([]rune(line), slices.Repeat([]rune{' '}, max(0, width-len([]rune(line))))...)
}

func cut(block [][]rune, width int) (g grid) {
	blank := func(at int) bool {
		return at >= width || !slices.ContainsFunc(block, func(l []rune) bool { return l[at] != ' ' })
	}
	var starts []int
	for at := range width {
		if !blank(at) && (at == 0 || at > 1 && blank(at-1) && blank(at-2)) {
			starts = append(starts, at)
		}
	}
	for n, line := range block {
		var row []string
		for i, from := range starts {
			to := width
			if i+1 < len(starts) {
				to = starts[i+1]
			}
			row = append(row, strings.TrimSpace(string(line[from:to])))
		}
		switch {
		case n == 0:
			g.head = row
			continue
		case row[0] == "" && len(g.rows) > 0:
			row[0] = g.rows[len(g.rows)-1][0]
		}
		g.rows = append(g.rows, row)
	}
	return g
}

// pageGrids finds the tables of a page.
func pageGrids(page string) (out []grid) {
	cells := func(text, element string) (row []string) {
		for _, m := range regexp.MustCompile(`(?s)<`+element+`[^>]*>(.*?)</`+element+`>`).FindAllStringSubmatch(text, -1) {
			row = append(row, strings.TrimSpace(strings.NewReplacer("\u00a0", " ", "−", "-").Replace(html.UnescapeString(m[1]))))
		}
		return row
	}
	for _, m := range regexp.MustCompile(`(?s)<table.*?</table>`).FindAllString(page, -1) {
		var g grid
		for i, row := range regexp.MustCompile(`(?s)<tr.*?</tr>`).FindAllString(m, -1) {
			if i == 0 {
				g.head = cells(row, "th")
			} else {
				g.rows = append(g.rows, cells(row, "td"))
			}
		}
		out = append(out, g)
	}
	return out
}

// column is the place of a column of another table. Where several have its name, it is the one of the same rank, or in
// a part of the table that with the same column to its left.
func (g *grid) column(of []string, at int) int {
	places := func(head []string) (out []int) {
		for i, name := range head {
			if name == of[at] {
				out = append(out, i)
			}
		}
		return out
	}
	mine, theirs := places(g.head), places(of)
	for n, i := range mine {
		if len(mine) == len(theirs) && theirs[n] == at || len(mine) != len(theirs) && i > 0 && g.head[i-1] == of[at-1] {
			return i
		}
	}
	return -1
}

// row is the n-th row that has the two cells in the columns of these names.
func (g *grid) row(names, cells []string, n int) []string {
	a, b := g.column(names, 0), g.column(names, 1)
	if a < 0 || b < 0 {
		return nil
	}
	for _, r := range g.rows {
		if r[a] == cells[0] && r[b] == cells[1] {
			if n == 0 {
				return r
			}
			n--
		}
	}
	return nil
}

// hold holds a table of the terminal against those of the page. Every cell has to be in some row of the page that has
// the same first two cells, and the same in all of them. It returns how many cells were held against each other.
func hold(t *testing.T, text grid, page []grid) (cells int) {
	t.Helper()
	for i, name := range text.head {
		keys := map[string]int{}
		for _, r := range text.rows {
			key, found := strings.Join(r[:2], "\n"), false
			for p := range page {
				at, other := page[p].column(text.head, i), page[p].row(text.head, r, keys[key])
				if at < 0 || other == nil || page[p].head[0] != text.head[0] {
					continue
				}
				if found = true; other[at] != r[i] {
					t.Errorf("%q, column %q: the terminal has %q, the page %q", r[:2], name, r[i], other[at])
				}
			}
			switch keys[key]++; {
			case found:
				cells++
			case r[i] != "": // a part of a table leaves out rows without numbers
				t.Errorf("%q, column %q: the terminal has %q, the page nothing", r[:2], name, r[i])
			}
		}
	}
	return cells
}

// TestTextIsHTML holds every table that the terminal and the page both have against each other, cell by cell.
func TestTextIsHTML(t *testing.T) {
	dir := folder(t, "mobile", 300*msec)
	compared := pageGrids(rendered(t, dir))
	r := testkit.Must(readResult(filepath.Join(dir, "result.json")))(t)
	p := testkit.Must(Open(dir))(t)
	p.Results[0].Comparison = nil
	alone := pageGrids(markup(t, p))
	for _, c := range []struct {
		name  string
		page  []grid
		print func(w io.Writer)
		cells int // at least
	}{
		{"Plan", alone, func(w io.Writer) { Plan(w, r.Models, nil, .8) }, 12},
		{"Policies", alone, func(w io.Writer) { Policies(w, p.Metrics()) }, 70},
		{"Verification", alone, func(w io.Writer) { Verification(w, r.Policies) }, 18},
		{"Energy", alone, func(w io.Writer) { energyTable(p.Results).Text(w) }, 8},
		{"Skew", alone, func(w io.Writer) { Skew(w, p.judged()) }, 20},
		{"Capacities", alone, func(w io.Writer) { Capacities(w, p.Plan) }, 12},
		{"PoliciesCompared", compared, func(w io.Writer) { PoliciesCompared(w, r) }, 45},
		{"Validation", compared, func(w io.Writer) { Validation(w, &p.Validations[0]) }, 130},
		{"Curves", compared, func(w io.Writer) { Curves(w, &p.Curves[0]) }, 50},
		{"ProfileTable", compared, func(w io.Writer) { ProfileTable(w, p.Profile, ProfileOptions{Wide: true}) }, 30},
	} {
		t.Run(c.name, func(t *testing.T) {
			var b bytes.Buffer
			c.print(&b)
			grids := textGrids(b.String())
			if c.name == "Skew" { // the page draws it
				grids = slices.DeleteFunc(grids, func(g grid) bool { return g.head[0] == "slowest over fastest" })
			}
			if c.name == "ProfileTable" { // sums are for the terminal only
				grids = slices.DeleteFunc(grids, func(g grid) bool { return g.head[0] != "layer" })
			}
			cells := 0
			for _, g := range grids {
				cells += hold(t, g, c.page)
			}
			if cells < c.cells {
				t.Errorf("%d cells, want %d at least, in\n%s", cells, c.cells, &b)
			}
		})
	}
}

// TestMarks: a percentile that too few requests support is marked wherever it is
// shown, and the mark is explained there.
func TestMarks(t *testing.T) {
	dir := folder(t, "mobile", 100*msec)
	page := strings.ReplaceAll(rendered(t, dir), "\u00a0", " ")
	p := testkit.Must(Open(dir))(t)
	var text bytes.Buffer
	Policies(&text, p.Metrics())
	for where, s := range map[string]string{"terminal": text.String(), "page": page} {
		if !regexp.MustCompile(`[0-9] ms\*`).MatchString(s) || !strings.Contains(s, fewNote()) {
			t.Errorf("the %s claims a 99th percentile of few requests", where)
		}
	}
}

// TestKeep: numbers stay with their units; names are left alone.
func TestKeep(t *testing.T) {
	for text, want := range map[string]string{"5.0 % of 3 ms": "5.0\u00a0% of 3\u00a0ms", "2 models": "2 models",
		"1 s": "1\u00a0s", "2.5 mJ at 70 W": "2.5\u00a0mJ at 70\u00a0W"} {
		if got := table.Keep(text); got != want {
			t.Errorf("%q is set as %q, want %q", text, got, want)
		}
	}
}

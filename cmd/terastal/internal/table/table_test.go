package table

import (
	"strings"
	"testing"
)

// example has a block, a column and a row for pages only, a mark and markup in a name.
func example() *Table {
	t := New("policy", ">misses", "+>interval", "why", ">none")
	t.Title = "A & B"
	t.Add("edf", 1, "-2 to +3", "<late>", "")
	t.Add("edf", "22*", "", "", "")
	t.Add("fcfs", 3, "", "5 %", "")
	t.Add("wide", 4).Wide = true
	t.Explain("misses", "* few of %d", 7)
	t.Explain("interval", "for pages")
	t.Note("all of it")
	return t.Dense()
}

func TestText(t *testing.T) {
	var b strings.Builder
	example().Titled(&b)
	const want = `A & B:
policy  misses  why
────────────────────────
edf          1  <late>
           22*
────────────────────────
fcfs         3  5 %
* few of 7
all of it
`
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", &b, want)
	}
}

func TestHTML(t *testing.T) {
	table := example()
	table.Folded = "more"
	got := string(table.HTML())
	for _, want := range []string{"<details><summary>more</summary>", "<figcaption>A &amp; B</figcaption>",
		`<th scope="col" class="n">misses</th>`,
		"<tr><td>edf</td><td class=\"n\">1</td><td class=\"n\">−2 to +3</td><td>&lt;late&gt;</td></tr>",
		`<tr><td>edf</td><td class="n">22*</td>`,
		`<tr class="begins"><td>fcfs</td>`, "<td>5\u00a0%</td>", ">wide<",
		`<p class="small">* few of 7</p><p class="small">for pages</p><p class="small">all of it</p>`} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

// TestBegins: blocks of rows that begin alike are told apart, where there are any and each stands together.
func TestBegins(t *testing.T) {
	for names, want := range map[string]string{"a a b b c": "x.x.x", "a b c": "...", "a": ".", "": "", "a a b a": "...."} {
		var rows []Row
		for _, n := range strings.Fields(names) {
			rows = append(rows, Row{Cells: []string{n}})
		}
		got := ""
		for _, b := range begins(rows) {
			got += map[bool]string{true: "x", false: "."}[b]
		}
		if got != want {
			t.Errorf("rows %q begin blocks at %q, want %q", names, got, want)
		}
	}
}

// TestPick: a part of a table has the same cells, and no rows without numbers.
func TestPick(t *testing.T) {
	p := example().Pick("part", 2, 0)
	if len(p.Columns) != 2 || len(p.Rows) != 1 || strings.Join(p.Rows[0].Cells, ",") != "-2 to +3,edf" ||
		p.Columns[0].Note != "for pages" {
		t.Errorf("%+v", p)
	}
}

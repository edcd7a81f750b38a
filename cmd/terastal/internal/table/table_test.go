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

// TestWithin: parts go below, one after the other, until the rest fits, with the rows that have anything in them and the
// columns that say what a row is about.
func TestWithin(t *testing.T) {
	wide := New("policy", "model", ">rate", ">interval", ">p50", "+>p99")
	wide.Explain("policy", "who")
	wide.Explain("interval", "of what")
	wide.Add("edf", "one", "1", "", "10 ms", "20 ms")
	wide.Add("edf", "all", "2", "0 to 3", "", "30 ms")
	parts := []Part{{Goes: []int{4, 5}}, {Goes: []int{3}, Repeated: []int{2}}}
	for _, c := range []struct {
		width int
		want  string
	}{
		{100, "policy model rate interval p50 | edf one 1  10 ms | edf all 2 0 to 3  | who of what"},
		{34, "policy model rate interval | edf one 1  | edf all 2 0 to 3 | who of what\n" +
			"policy model p50 | edf one 10 ms | "},
		{10, "policy model rate | edf one 1 | edf all 2 | who\n" +
			"policy model p50 | edf one 10 ms | \n" +
			"policy model rate interval | edf all 2 0 to 3 | of what"},
	} {
		var got []string
		for _, x := range wide.Within(c.width, 2, parts...) {
			var lines []string
			head := []string{}
			for _, col := range x.Columns {
				if !col.Wide {
					head = append(head, col.Name)
				}
			}
			lines = append(lines, strings.Join(head, " "))
			for _, r := range x.Rows {
				lines = append(lines, strings.Join(r.Cells[:len(head)], " "))
			}
			got = append(got, strings.Join(append(lines, strings.Join(x.notes(false), " ")), " | "))
		}
		if text := strings.Join(got, "\n"); text != c.want {
			t.Errorf("within %d:\n%s\nwant\n%s", c.width, text, c.want)
		}
	}
	if len(wide.Columns) != 6 || len(wide.Rows) != 2 {
		t.Error("the table itself has changed")
	}
}

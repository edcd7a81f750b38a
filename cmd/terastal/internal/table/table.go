// Package table is the one model of everything that the command line shows in rows and columns. A table is computed
// once; [Table.Text] lays it out for a terminal and [Table.HTML] for a page. Words, figures and marks are in the cells,
// so that the two cannot say different things.
package table

import (
	"fmt"
	"html"
	"html/template"
	"io"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// Table is a table under construction.
type Table struct {
	Title   string
	Folded  string // on a page, the text behind which the table is folded away
	Columns []Column
	Rows    []Row
	Notes   []string // below the table, after those of its columns
}

// Column is the head of one.
type Column struct {
	Name   string
	Number bool // aligned to the right
	Wide   bool // for pages only, which have the room
	Note   string
}

// Row is a row of cells, one for each column; trailing ones may be missing.
type Row struct {
	Cells []string
	Wide  bool // for pages only
}

// New starts a table. A ">" before the name of a column is for numbers, a "+"
// before that for columns that only pages have.
func New(columns ...string) *Table {
	t := &Table{}
	t.Column(columns...)
	return t
}

// Column adds columns.
func (t *Table) Column(names ...string) {
	for _, n := range names {
		n, wide := strings.CutPrefix(n, "+")
		n, number := strings.CutPrefix(n, ">")
		t.Columns = append(t.Columns, Column{Name: n, Number: number, Wide: wide})
	}
}

// Add adds a row.
func (t *Table) Add(cells ...any) *Row {
	r := Row{Cells: make([]string, len(cells))}
	for i, c := range cells {
		r.Cells[i] = fmt.Sprint(c)
	}
	t.Rows = append(t.Rows, r)
	return &t.Rows[len(t.Rows)-1]
}

// Explain says below the table what a column or a mark in it means.
func (t *Table) Explain(column, format string, args ...any) {
	if at := slices.IndexFunc(t.Columns, func(c Column) bool { return c.Name == column }); at >= 0 {
		t.Columns[at].Note = fmt.Sprintf(format, args...)
	}
}

// Note adds a line below the table.
func (t *Table) Note(format string, args ...any) {
	t.Notes = append(t.Notes, fmt.Sprintf(format, args...))
}

// Pick is a table of some of the columns, under another title, without the rows that have no numbers in them.
func (t *Table) Pick(title string, columns ...int) *Table {
	out := &Table{Title: title}
	for _, at := range columns {
		out.Columns = append(out.Columns, t.Columns[at])
	}
	for i := range t.Rows {
		row, numbers := Row{Wide: t.Rows[i].Wide}, false
		for _, at := range columns {
			text := t.Rows[i].cell(at)
			row.Cells = append(row.Cells, text)
			numbers = numbers || t.Columns[at].Number && text != ""
		}
		if numbers {
			out.Rows = append(out.Rows, row)
		}
	}
	return out
}

// Part are columns that are set as a table below where all of them side by side are too wide: those that go there, by
// index, and those that stay and are repeated there.
type Part struct{ Goes, Repeated []int }

// Width is how wide the widest line of the table is, without its notes.
func (t *Table) Width() int {
	most := 0
	for line := range strings.Lines(t.String()) {
		most = max(most, utf8.RuneCountInString(strings.TrimRight(line, "\n")))
	}
	return most
}

// Within are tables that are no wider than this if the parts allow it: the table as it is, or without the first parts, as
// many as it takes, and each of these with the first columns, which say what a row is about, and the rows that have
// anything in it.
func (t *Table) Within(width, first int, parts ...Part) []*Table {
	var names, gone []int
	for n := range first {
		names = append(names, n)
	}
	out := []*Table{t}
	for _, p := range parts {
		if out[0].Width() <= width {
			break
		}
		gone = append(gone, p.Goes...)
		out[0] = t.columns(func(n int) bool { return !slices.Contains(gone, n) })
		shown := slices.Concat(names, p.Repeated, p.Goes)
		part := t.columns(func(n int) bool { return slices.Contains(shown, n) })
		part.Title, part.Notes, part.Rows = "", nil, nil
		for n := range first {
			part.Columns[n].Note = "" // said above
		}
		for _, r := range t.Rows {
			if slices.ContainsFunc(p.Goes, func(n int) bool { return r.cell(n) != "" && !t.Columns[n].Wide }) {
				part.Rows = append(part.Rows, r.columns(shown, len(t.Columns)))
			}
		}
		if len(part.Rows) > 0 {
			out = append(out, part)
		}
	}
	return out
}

// columns is the table with some of its columns.
func (t *Table) columns(keep func(n int) bool) *Table {
	out := *t
	var kept []int
	out.Columns = nil
	for n, c := range t.Columns {
		if keep(n) {
			kept, out.Columns = append(kept, n), append(out.Columns, c)
		}
	}
	out.Rows = nil
	for _, r := range t.Rows {
		out.Rows = append(out.Rows, r.columns(kept, len(t.Columns)))
	}
	return &out
}

// columns is a row with some of its cells.
func (r *Row) columns(kept []int, of int) Row {
	out := Row{Wide: r.Wide}
	for n := range of {
		if slices.Contains(kept, n) {
			out.Cells = append(out.Cells, r.cell(n))
		}
	}
	return out
}

// Dense drops the columns that no row has anything in.
func (t *Table) Dense() *Table {
	for n := len(t.Columns) - 1; n > 0; n-- {
		if slices.ContainsFunc(t.Rows, func(r Row) bool { return r.cell(n) != "" }) {
			continue
		}
		t.Columns = slices.Delete(t.Columns, n, n+1)
		for i := range t.Rows {
			if r := &t.Rows[i]; n < len(r.Cells) {
				r.Cells = slices.Delete(r.Cells, n, n+1)
			}
		}
	}
	return t
}

// notes are those of the columns that are shown, and the table's, each once.
func (t *Table) notes(wide bool) []string {
	var out []string
	for _, c := range t.Columns {
		if c.Note != "" && (wide || !c.Wide) && !slices.Contains(out, c.Note) {
			out = append(out, c.Note)
		}
	}
	return append(out, t.Notes...)
}

func (r *Row) cell(at int) string {
	if at < len(r.Cells) {
		return r.Cells[at]
	}
	return ""
}

// begins reports for every row whether it begins a block: rows whose first cells
// are the same belong together, where such rows stand together throughout.
func begins(rows []Row) []bool {
	out := make([]bool, len(rows))
	seen, repeated := map[string]bool{}, false
	for i := range rows {
		name := rows[i].cell(0)
		switch {
		case i > 0 && name == rows[i-1].cell(0):
			repeated = true
		case seen[name]:
			return make([]bool, len(rows))
		default:
			out[i] = true
		}
		seen[name] = true
	}
	if !repeated {
		return make([]bool, len(rows))
	}
	return out
}

// Text writes the table for a terminal: a line under the header, no frame, no
// trailing spaces. Blocks are told apart by lines, their names stand once.
func (t *Table) Text(w io.Writer) {
	fmt.Fprintln(w, t.String())
	for _, n := range t.notes(false) {
		Paragraph(w, n)
	}
}

// Titled writes the title, and below it the table.
func (t *Table) Titled(w io.Writer) {
	fmt.Fprintln(w, t.Title+":")
	t.Text(w)
}

// String is the table as text, without its notes.
func (t *Table) String() string {
	p := table.NewWriter()
	p.SetStyle(table.StyleLight)
	p.Style().Options = table.Options{SeparateHeader: true}
	p.Style().Box.PaddingLeft, p.Style().Box.PaddingRight = "", "  "
	p.Style().Format.Header = text.FormatDefault
	p.SuppressTrailingSpaces()
	var head table.Row
	var configs []table.ColumnConfig
	for _, c := range t.Columns {
		if c.Wide {
			continue
		}
		head = append(head, c.Name)
		if c.Number {
			configs = append(configs, table.ColumnConfig{Number: len(head), Align: text.AlignRight,
				AlignHeader: text.AlignRight})
		}
	}
	p.AppendHeader(head)
	p.SetColumnConfigs(configs)
	rows := slices.DeleteFunc(slices.Clone(t.Rows), func(r Row) bool { return r.Wide })
	blocks := slices.Contains(begins(rows), true)
	for i, begin := range begins(rows) {
		var row table.Row
		for n := range t.Columns {
			if !t.Columns[n].Wide {
				row = append(row, rows[i].cell(n))
			}
		}
		switch {
		case begin && i > 0:
			p.AppendSeparator()
		case blocks && i > 0:
			row[0] = ""
		}
		p.AppendRow(row)
	}
	return p.Render()
}

// HTML is the table as a figure of a page.
func (t *Table) HTML() template.HTML {
	var b strings.Builder
	title := html.EscapeString(t.Title)
	if t.Folded != "" {
		fmt.Fprintf(&b, "<details><summary>%s</summary>", html.EscapeString(t.Folded))
	}
	fmt.Fprintf(&b, `<figure class="table"><figcaption>%s</figcaption><div class="scroll" tabindex="0" role="group" `+
		`aria-label="%s"><table aria-label="%s">`, title, title, title)
	cell := func(element string, c Column, text string) {
		class := ""
		if c.Number { // a minus is as wide as a plus
			class, text = ` class="n"`, signs.ReplaceAllString(text, "$1−$2")
		}
		fmt.Fprintf(&b, "<%s%s>%s</%s>", element, class, html.EscapeString(Keep(text)), element[:2])
	}
	b.WriteString("\n<thead><tr>")
	for _, c := range t.Columns {
		cell(`th scope="col"`, c, c.Name)
	}
	b.WriteString("</tr></thead>\n<tbody>")
	for i, begin := range begins(t.Rows) {
		class := ""
		if begin && i > 0 {
			class = ` class="begins"`
		}
		fmt.Fprintf(&b, "\n<tr%s>", class)
		for n, c := range t.Columns {
			cell("td", c, t.Rows[i].cell(n))
		}
		b.WriteString("</tr>")
	}
	b.WriteString("\n</tbody></table></div>")
	for _, n := range t.notes(true) {
		fmt.Fprintf(&b, `<p class="small">%s</p>`, html.EscapeString(Keep(n)))
	}
	b.WriteString("</figure>")
	if t.Folded != "" {
		b.WriteString("</details>")
	}
	return template.HTML(b.String())
}

var (
	units = regexp.MustCompile(`([0-9]) (%|us\b|ms\b|s\b|points\b|GiB\b|[mk]?J\b|W\b)`)
	signs = regexp.MustCompile(`(^|[ (~✗✓])-([0-9])`)
)

// Keep sets a text for a page: numbers stay on the line of their units.
func Keep(s string) string { return units.ReplaceAllString(s, "$1\u00a0$2") }

// Paragraph prints running text, broken into lines between words.
func Paragraph(w io.Writer, s string) {
	const width = 100
	line := ""
	for _, word := range strings.Split(Keep(strings.Join(strings.Fields(s), " ")), " ") {
		word = strings.ReplaceAll(word, "\u00a0", " ")
		if line != "" && len([]rune(line))+1+len([]rune(word)) > width {
			fmt.Fprintln(w, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	fmt.Fprintln(w, line)
}

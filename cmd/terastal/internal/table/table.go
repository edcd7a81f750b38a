// Package table is the look of every table that the command line prints: a line
// under the header, no frame, no trailing spaces.
package table

import (
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// Row is a row of cells.
type Row = table.Row

// Table is a table under construction; Render returns it as text.
type Table = table.Writer

// New starts a table. The cells of a column whose header begins with ">" are
// aligned to the right, for numbers.
func New(columns ...string) Table {
	t := table.NewWriter()
	t.SetStyle(table.StyleLight)
	t.Style().Options = table.Options{SeparateHeader: true}
	t.Style().Box.PaddingLeft = ""
	t.Style().Box.PaddingRight = "  "
	t.Style().Format.Header = text.FormatDefault
	t.SuppressTrailingSpaces()
	header := make(Row, len(columns))
	var configs []table.ColumnConfig
	for i, c := range columns {
		name, right := strings.CutPrefix(c, ">")
		header[i] = name
		if right {
			configs = append(configs, table.ColumnConfig{Number: i + 1, Align: text.AlignRight, AlignHeader: text.AlignRight})
		}
	}
	t.AppendHeader(header)
	t.SetColumnConfigs(configs)
	return t
}

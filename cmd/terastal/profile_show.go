package main

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/terastal/terastal/cmd/terastal/internal/session"
	"github.com/terastal/terastal/cmd/terastal/internal/view"
	"github.com/terastal/terastal/profiler"
)

func newProfileShow(s *streams) *cobra.Command {
	var format string
	var o view.ProfileOptions
	cmd := &cobra.Command{
		Use:   "show FILE",
		Short: "Print a profile as a table, as CSV or for benchstat",
		Long: `Prints what was measured: a table per model, with as many columns as fit in 120
characters, and what was measured besides the layers. --wide shows all columns,
--columns the named ones: ` + strings.Join(view.ProfileColumns(), ", ") + `.
The median of every accelerator is always there, "~" at one that did not reach the
precision. --format csv and benchfmt write every cell for other tools.`,
		Example: `  terastal profile show out/profile.json
  terastal profile show out/profile.json --columns shape,macs,gmacs
  terastal profile show out/profile.json --format csv >layers.csv
  terastal profile show out/profile.json --format benchfmt >a.txt && benchstat -col /acc a.txt`,
		Args: exactArgs("FILE"),
		RunE: func(_ *cobra.Command, args []string) error { return showProfile(s, args[0], format, o) },
	}
	cmd.Flags().StringVar(&format, "format", "table", "table, csv or benchfmt")
	cmd.Flags().BoolVar(&o.Wide, "wide", false, "all columns of the table, however wide")
	cmd.Flags().StringSliceVar(&o.Columns, "columns", nil, "columns of the table")
	return cmd
}

func showProfile(s *streams, path, format string, o view.ProfileOptions) error {
	if s.json && format != "table" {
		return usagef("--json and --format %s both say what goes to standard output: leave one out", format)
	}
	if err := o.Check(); err != nil {
		return session.UsageError{Err: err}
	}
	p, err := profiler.Read(path)
	if err != nil {
		return err
	}
	switch format {
	case "csv":
		return p.WriteCSV(s.out)
	case "benchfmt":
		return p.WriteBenchfmt(s.out)
	case "table":
		view.ProfileTable(s.text(), p, o)
		return s.document(p)
	}
	return usagef("unknown format %q, have table, csv, benchfmt", format)
}

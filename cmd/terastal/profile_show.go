package main

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/terastal/terastal/cmd/terastal/internal/session"
	"github.com/terastal/terastal/cmd/terastal/internal/view"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/sched/plan"
)

func newProfileShow(s *streams) *cobra.Command {
	var format string
	var o view.ProfileOptions
	cmd := &cobra.Command{
		Use:   "show FILE",
		Short: "Print a profile as a table, as CSV or for benchstat",
		Long: `Prints what was measured: a table per model, with as many columns as fit in 120
characters, and what was measured besides the layers; where the plan that was made
from it lies next to it and has layer variants, also what these buy.
--wide shows all columns, --columns the named ones: ` + strings.Join(view.ProfileColumns(), ", ") + `.
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
		made := planOf(path, p)
		if made != nil {
			view.Hopeless(s.text(), made.Hopeless)
		}
		view.ProfileTable(s.text(), p, o)
		if made != nil {
			view.Capacities(s.text(), made)
		}
		return s.document(p)
	}
	return usagef("unknown format %q, have table, csv, benchfmt", format)
}

// planOf is the plan next to a profile, of the same models and accelerators; nil without one. It knows the rates, without
// which there is no capacity.
func planOf(path string, p *profiler.Profile) *plan.Plan {
	made, _, err := plan.Read(filepath.Join(filepath.Dir(path), "plan.json"))
	if err != nil || len(made.Accelerators) != len(p.Accelerators) {
		return nil // it is not this command's to say what is wrong with it
	}
	for i := range made.Accelerators {
		if made.Accelerators[i].Name != p.Accelerators[i].Name {
			return nil
		}
	}
	for i := range made.Models {
		m := &made.Models[i]
		if !slices.ContainsFunc(p.Models, func(x profiler.Model) bool { return x.Name == m.Name && x.SHA256 == m.SHA256 }) {
			return nil
		}
	}
	return made
}

func newProfileCompare(s *streams) *cobra.Command {
	var accelerators []string
	cmd := &cobra.Command{
		Use:   "compare A B | FILE --accelerators X,Y",
		Short: "Compare two profiles, or two accelerators of one",
		Long: `Compares the medians of all layers that have the same names in two profiles, or on
two accelerators of one profile. A change is shown where it is significant: by the
Mann-Whitney U test at 5 % on the samples that the profiles keep, else because
the medians' 95 % confidence intervals do not overlap; "~" stands where it is not.

p-values compare these two measurements. The runs of one measurement share the state
of the machine, so that two measurements of the same thing can differ significantly
by little: the last line says by how much cells differ.`,
		Example: `  terastal profile compare before.json after.json
  terastal profile compare out/profile.json --accelerators cpu-0,gpu
  terastal profile compare a.json b.json --json | jq .summary`,
		Args: func(cmd *cobra.Command, args []string) error {
			switch {
			case cmd.Flags().Changed("accelerators") && len(accelerators) != 2:
				return usagef("--accelerators takes two names, got %d", len(accelerators))
			case cmd.Flags().Changed("accelerators"):
				return exactArgs("FILE")(cmd, args)
			}
			return exactArgs("A", "B")(cmd, args)
		},
		RunE: func(_ *cobra.Command, args []string) error { return compareProfiles(s, args, accelerators) },
	}
	cmd.Flags().StringSliceVar(&accelerators, "accelerators", nil, "compare these two accelerators of one profile")
	return cmd
}

func compareProfiles(s *streams, paths, accelerators []string) error {
	var profiles []*profiler.Profile
	for _, path := range paths {
		g, err := session.ReadGiven(path)
		if err != nil {
			return err
		}
		profiles = append(profiles, g.Profile)
	}
	if len(accelerators) == 2 {
		return shows(s, view.Comparison)(profiler.CompareAccelerators(profiles[0], accelerators[0], accelerators[1]))
	}
	c, err := profiler.Compare(view.OneStream(profiles[0]), view.OneStream(profiles[1]))
	if err == nil {
		c.A, c.B = paths[0]+", measured "+profiles[0].Created, paths[1]+", measured "+profiles[1].Created
	}
	return shows(s, view.Comparison)(c, err)
}

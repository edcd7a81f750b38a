package main

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/terastal/terastal/cmd/terastal/internal/config"
	"github.com/terastal/terastal/cmd/terastal/internal/session"
	"github.com/terastal/terastal/cmd/terastal/internal/view"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/sched/plan"
)

func newProfileShow(s *streams) *cobra.Command {
	var o showOptions
	cmd := &cobra.Command{
		Use:   "show FILE",
		Short: "Print a profile or a plan as a table, as CSV or for benchstat",
		Long: `Prints what was measured: a table per model, with as many columns as fit in 120
characters, and what was measured besides the layers; where the plan that was made
from it lies next to it and has layer variants, also what these buy.

Then it says how unlike the accelerators are, and whether that is worth something:
how much more traffic they can serve when every layer may run on another one than
when models are placed as a whole, and what layer variants would add. That depends
on the models' rates and deadlines. These are the plan's, or those of --config FILE;
without either it says what it assumes.

--wide shows all columns, --columns the named ones: ` + strings.Join(view.ProfileColumns(), ", ") + `.
The median of every accelerator is always there, "~" at one that did not reach the
precision. --format csv and benchfmt write every cell for other tools.`,
		Example: `  terastal profile show out/profile.json
  terastal profile show h100.json --config system.yaml
  terastal profile show out/profile.json --columns shape,macs,gmacs
  terastal profile show out/profile.json --format csv >layers.csv
  terastal profile show out/profile.json --format benchfmt >a.txt && benchstat -col /acc a.txt`,
		Args: exactArgs("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error { return o.show(s, cmd.Flags(), args[0]) },
	}
	configFlag(cmd, &o.config)
	cmd.Flags().StringVar(&o.format, "format", "table", "table, csv or benchfmt")
	cmd.Flags().BoolVar(&o.Wide, "wide", false, "all columns of the table, however wide")
	cmd.Flags().StringSliceVar(&o.Columns, "columns", nil, "columns of the table")
	return cmd
}

// showOptions are the flags of profile show.
type showOptions struct {
	view.ProfileOptions
	format, config string
}

func (o *showOptions) show(s *streams, flags *pflag.FlagSet, path string) error {
	if s.json && o.format != "table" {
		return usagef("--json and --format %s both say what goes to standard output: leave one out", o.format)
	}
	if err := o.Check(); err != nil {
		return session.UsageError{Err: err}
	}
	g, err := session.ReadGiven(path)
	if err != nil {
		return err
	}
	p := g.Profile
	switch o.format {
	case "csv":
		return p.WriteCSV(s.out)
	case "benchfmt":
		return p.WriteBenchfmt(s.out)
	case "table":
		return o.table(s, flags, g)
	}
	return usagef("unknown format %q, have table, csv, benchfmt", o.format)
}

// shownProfile is the document of a profile, with the judgement.
type shownProfile struct {
	*profiler.Profile
	Skew *session.Skew `json:"skew,omitempty"`
}

func (o *showOptions) table(s *streams, flags *pflag.FlagSet, g *session.Given) error {
	made := planOf(g)
	skew, err := judged(g, made, o.config, flags)
	if err != nil {
		return err
	}
	if skew != nil {
		view.Hopeless(s.text(), skew.Hopeless)
	}
	view.ProfileTable(s.text(), g.Profile, o.ProfileOptions)
	if made != nil {
		view.Capacities(s.text(), made)
	}
	view.Skew(s.text(), skew)
	return s.document(shownProfile{g.Profile, skew})
}

// judged says how unlike the accelerators of a document are, at the rates and deadlines of a configuration, else of the
// plan, if there is one. Of a profile that is not whole it knows nothing.
func judged(g *session.Given, made *plan.Plan, file string, flags *pflag.FlagSet) (*session.Skew, error) {
	if file != "" {
		c, err := config.Load(file, flags)
		if err != nil {
			return nil, err
		}
		return session.SkewOf(g, c)
	}
	if g.Plan == nil && made != nil {
		return session.PlanSkew(made, g.Profile)
	}
	skew, err := session.SkewOf(g, nil)
	if errors.Is(err, profiler.ErrPartial) {
		return nil, nil
	}
	return skew, err
}

// planOf is the plan that was given, or the one next to a profile, of the same models and accelerators; nil without one.
// It knows the rates, without which there is no capacity.
func planOf(g *session.Given) *plan.Plan {
	if g.Plan != nil {
		return g.Plan
	}
	p := g.Profile
	made, _, err := plan.Read(filepath.Join(filepath.Dir(g.Path), "plan.json"))
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

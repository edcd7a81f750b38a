package main

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/terastal/terastal/cmd/terastal/internal/config"
	"github.com/terastal/terastal/cmd/terastal/internal/session"
	"github.com/terastal/terastal/cmd/terastal/internal/view"
	"github.com/terastal/terastal/internal/document"
	"github.com/terastal/terastal/sched/eventlog"
	"github.com/terastal/terastal/sched/plan"
	"github.com/terastal/terastal/variants"
	"github.com/terastal/terastal/variants/design"
)

func newVariants(s *streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "variants",
		Short: "Find where layer variants are wanted, design or add them, prove their accuracy",
		Args:  noArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newVariantsTargets(s), newVariantsDesign(s), newVariantsAdd(s), newVariantsShow(s),
		newVariantsAccuracy(s))
	return cmd
}

func newVariantsTargets(s *streams) *cobra.Command {
	return &cobra.Command{
		Use:   "targets PLAN",
		Short: "List layers that miss their budget on an accelerator, the greatest need first",
		Long: `Lists, from a plan, the layers and accelerators that Algorithm 1 excludes and on
which the original does not fit the layer's virtual budget: where a cheaper
implementation would let the scheduler use the accelerator.`,
		Example: `  terastal plan --config my.yaml
  terastal variants targets out/plan.json`,
		Args: exactArgs("PLAN"),
		RunE: func(_ *cobra.Command, args []string) error {
			_, t, err := plan.Read(args[0])
			if err != nil {
				return err
			}
			targets := view.Named(t.System(), variants.Targets(t))
			view.Targets(s.text(), targets)
			return s.document(targets)
		},
	}
}

type designOptions struct {
	playOptions
	design.Options
}

func newVariantsDesign(s *streams) *cobra.Command {
	o := designOptions{playOptions: playOptions{streams: s}}
	cmd := &cobra.Command{
		Use:   "design --config FILE",
		Short: "Design variants from measurements, fit them without training, prove their accuracy",
		Long: `For every layer and accelerator that Algorithm 1 excludes, measures the variants
of every family that applies on that accelerator, fits those that are faster
than the original to the calibration inputs (least squares on real activations,
no labels, no training), and takes the one with the least error that is fast
enough. The accuracy of all combinations is then measured on the labelled data.
What was found goes into plan.json in the output folder, the variants next to it,
where run, simulate and compare find them; the profile is measured again with
them. A plot of each model's candidates goes to OUT/variants.

Each model needs calibration data in the configuration, and should have labelled
data; see docs/CONFIG.md and docs/VARIANTS.md.`,
		Example: `  terastal variants design --config my.yaml
  terastal variants design --config my.yaml --all --speedup 3
  terastal variants design --config my.yaml --all --families d2s
  terastal variants show out/plan.json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	configFlag(cmd, &o.config)
	f := cmd.Flags()
	f.Float64Var(&o.Speedup, "speedup", 0,
		"how many times faster than the original a variant has to be at least (0: what the budgets need)")
	f.BoolVar(&o.All, "all", false, "for every layer on every accelerator that is not its fastest "+
		"(without --speedup: to be as fast there as on the fastest), not only where a budget is missed")
	lossFlags(cmd, &o.MaxLoss, &o.Together)
	f.StringSliceVar(&o.Families, "families", nil,
		"families to consider, separated by commas: "+strings.Join(familyNames(), ", ")+" (default: all)")
	config.AddFlags(f, "load", "out", "budget", "precision", "seed", "cost", "arithmetic")
	return cmd
}

// lossFlags define how much accuracy variants may cost.
func lossFlags(cmd *cobra.Command, alone, together *float64) {
	cmd.Flags().Float64Var(alone, "max-loss", 0.01, "how much of the accuracy a variant may cost alone")
	cmd.Flags().Float64Var(together, "max-together", 0.03, "how much of the accuracy all variants may cost together")
}

// lossLimits checks what lossFlags were given.
func lossLimits(alone, together float64) error {
	for name, x := range map[string]float64{"max-loss": alone, "max-together": together} {
		if !(x >= 0 && x <= 1) {
			return usagef("--%s is %v, must be 0 to 1", name, x)
		}
	}
	return nil
}

func familyNames() (out []string) {
	for _, f := range variants.Families(false, variants.Exact) {
		out = append(out, f.Name())
	}
	return out
}

func (o *designOptions) run(cmd *cobra.Command) error {
	if o.Speedup < 0 {
		return usagef("--speedup is %v, must not be negative", o.Speedup)
	}
	if err := lossLimits(o.MaxLoss, o.Together); err != nil {
		return err
	}
	for _, name := range o.Families {
		if !strings.Contains(" "+strings.Join(familyNames(), " ")+" ", " "+name+" ") {
			return usagef("--families: there is no %q, have %s", name, strings.Join(familyNames(), ", "))
		}
	}
	f, err := o.open(cmd)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Design(cmd.Context(), o.Options); err != nil {
		return err
	}
	if err := f.EnsureProfile(cmd.Context(), f.ProfilePath(), false); err != nil {
		return err
	}
	if err := f.Plan(); err != nil {
		return err
	}
	if err := f.Planned.Write(f.PlanPath()); err != nil {
		return err
	}
	view.Variants(o.text(), f.Planned.Variants, false)
	written := []string{"written: " + f.PlanPath()}
	for i := range f.Planned.Variants {
		v := &f.Planned.Variants[i]
		for k, name := range v.Accelerators {
			var b bytes.Buffer
			if err := view.Frontier(&b, v, k); err != nil {
				return err
			}
			path := filepath.Join(f.Config.Out, "variants", v.Model+"-"+name+".svg")
			if err := document.WriteFile(path, b.Bytes()); err != nil {
				return err
			}
			written = append(written, "written: "+path)
		}
	}
	if err := printLines(o.text(), written...); err != nil {
		return err
	}
	return o.document(f.Planned.Variants)
}

// open opens the configuration.
func (o *playOptions) open(cmd *cobra.Command) (*session.Flow, error) {
	if o.config == "" {
		return nil, usagef("`%s` needs --config FILE", cmd.CommandPath())
	}
	c, err := config.Load(o.config, cmd.Flags())
	if err != nil {
		return nil, err
	}
	return o.openFlow(cmd.Context(), c, "")
}

func newVariantsShow(s *streams) *cobra.Command {
	all := false
	cmd := &cobra.Command{
		Use:   "show PLAN",
		Short: "Print the variants of a plan as a table",
		Example: `  terastal variants show out/plan.json
  terastal variants show out/plan.json --all`,
		Args: exactArgs("PLAN"),
		RunE: func(_ *cobra.Command, args []string) error {
			p, _, err := plan.Read(args[0])
			if err != nil {
				return err
			}
			view.Variants(s.text(), p.Variants, all)
			return s.document(p.Variants)
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "show all candidates, with the reasons why they are not in use")
	return cmd
}

func newVariantsAccuracy(s *streams) *cobra.Command {
	o := playOptions{streams: s}
	file := ""
	cmd := &cobra.Command{
		Use:   "accuracy --config FILE",
		Short: "Measure the accuracy of the combinations of variants again",
		Long: `Measures every combination of the variants that lie in the output folder, on the
labelled data of the configuration (without: agreement with the original on the
calibration inputs), and writes the result into plan.json. With the log of a
run, also the combinations that its requests used, and the accuracy that the run
delivered.`,
		Example: `  terastal variants accuracy --config my.yaml
  terastal variants accuracy --config my.yaml --log out/terastal.log.json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var log *eventlog.Log
			if file != "" {
				var err error
				if log, err = eventlog.Read(file); err != nil {
					return err
				}
			}
			f, err := o.open(cmd)
			if err != nil {
				return err
			}
			defer f.Close()
			list, err := f.Prove(cmd.Context(), log)
			if err != nil {
				return err
			}
			if len(list) == 0 {
				return errors.New("there are no variants in use: `terastal variants design` makes them")
			}
			if err := f.EnsureProfile(cmd.Context(), f.ProfilePath(), false); err != nil {
				return err
			}
			if err := f.Plan(); err != nil {
				return err
			}
			if err := f.Planned.Write(f.PlanPath()); err != nil {
				return err
			}
			view.Combinations(s.text(), list)
			if err := printLines(s.text(), fmt.Sprintf("written: %s", f.PlanPath())); err != nil {
				return err
			}
			return s.document(list)
		},
	}
	configFlag(cmd, &o.config)
	cmd.Flags().StringVar(&file, "log", "", "event log of a run with these variants")
	config.AddFlags(cmd.Flags(), "out", "budget", "precision", "seed", "cost", "load", "arithmetic")
	return cmd
}

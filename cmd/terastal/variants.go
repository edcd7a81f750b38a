package main

import (
	"cmp"

	"github.com/spf13/cobra"

	"github.com/terastal/terastal/cmd/terastal/internal/config"
	"github.com/terastal/terastal/cmd/terastal/internal/result"
	"github.com/terastal/terastal/cmd/terastal/internal/view"
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

// variantFlags are the flags of verbs that measure and plan with variants.
func variantFlags(cmd *cobra.Command, file *string) {
	configFlag(cmd, file)
	config.AddFlags(cmd.Flags(), "auto", "load", "out", "budget", "precision", "seed", "cost", "arithmetic")
}

// lossFlags define how much accuracy variants may cost.
func lossFlags(cmd *cobra.Command, l *design.Limits) {
	cmd.Flags().Float64Var(&l.MaxLoss, "max-loss", 0.01, "how much of the accuracy a variant may cost alone")
	cmd.Flags().Float64Var(&l.Together, "max-together", 0.03, "how much of the accuracy all variants may cost together")
}

// lossLimits checks what lossFlags were given.
func lossLimits(l design.Limits) error {
	for name, x := range map[string]float64{"max-loss": l.MaxLoss, "max-together": l.Together} {
		if !(x >= 0 && x <= 1) {
			return usagef("--%s is %v, must be 0 to 1", name, x)
		}
	}
	return nil
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
	var file, log string
	cmd := &cobra.Command{
		Use:   "accuracy --config FILE",
		Short: "Measure the accuracy of the combinations of variants again",
		Long: `Measures every combination of the variants that lie in the output folder, on the
labelled data of the configuration (without: agreement with the original on the
calibration inputs), and writes the result into plan.json. With the log of a
run, also the combinations that its requests used, and the accuracy that the run
delivered, with an interval, next to its floor. Exits with 3 where the whole
interval is below the floor.`,
		Example: `  terastal variants accuracy --config my.yaml
  terastal variants accuracy --config my.yaml --log out/pedf.log.json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			w, err := s.openConfig(cmd, file)
			if err != nil {
				return err
			}
			list, path, err := w.Variants.Accuracy(cmd.Context(), log)
			if err != nil {
				return err
			}
			view.Combinations(s.text(), list)
			return cmp.Or(s.written(list, path), invalid(result.Broken(list)))
		},
	}
	variantFlags(cmd, &file)
	cmd.Flags().StringVar(&log, "log", "", "event log of a run with these variants")
	return cmd
}

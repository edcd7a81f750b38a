package main

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/terastal/terastal/cmd/terastal/internal/config"
	"github.com/terastal/terastal/cmd/terastal/internal/session"
	"github.com/terastal/terastal/cmd/terastal/internal/view"
	"github.com/terastal/terastal/variants/design"
)

type designOptions struct {
	*streams
	config string
	design.Options
}

func newVariantsDesign(s *streams) *cobra.Command {
	o := designOptions{streams: s}
	cmd := &cobra.Command{
		Use:   "design --config FILE",
		Short: "Design variants from measurements, fit them without training, prove their accuracy",
		Long: `Variants are designed for capacity where a model may lose accuracy (` + "`accuracy`" + ` in
the configuration, or --accuracy, is between 0 and 1): for every layer, on every
accelerator, also on the one that runs the original fastest. Accelerator time
counts at its price, which the rates give: that of the busiest accelerators is
dearest. The candidates of every family that save priced time are fitted to the
calibration inputs (least squares on real activations, no labels, no training),
and the accuracy of the model with each of them is measured. Those are chosen
that bring a request's cost down furthest at the accuracy that it has to keep:
lossless ones first, faster and lossier ones where they buy more than they lose,
two of a layer where both do, up to 10 a model.

With --all or --speedup, or with accuracy 0 or 1, they are designed for speed
where the original is too slow: on the accelerators that Algorithm 1 excludes, or
that --all names. Of the candidates that are fast enough there, the one with the
least error is taken.

The accuracy of all combinations is then measured on the labelled data. Variants
and what was found go into the output folder and into its plan.json, where run,
simulate and compare find them; the profile is measured again with them. A plot
of each model's candidates goes to OUT/variants.

Each model needs calibration data in the configuration, and should have labelled
data; see docs/CONFIG.md and docs/VARIANTS.md.`,
		Example: `  terastal variants design --config my.yaml
  terastal variants design --config my.yaml --accuracy 0.98
  terastal variants design --config my.yaml --all --speedup 3
  terastal variants design --config my.yaml --all --families d2s
  terastal variants show out/plan.json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	variantFlags(cmd, &o.config)
	lossFlags(cmd, &o.Limits)
	config.AddFlags(cmd.Flags(), "accuracy")
	f := cmd.Flags()
	f.Float64Var(&o.Speedup, "speedup", 0,
		"how many times faster than the original a variant has to be at least, in place of designing for capacity "+
			"(0: what the budgets need)")
	f.BoolVar(&o.All, "all", false, "for every layer on every accelerator that is not its fastest (without --speedup: "+
		"to be as fast there as on the fastest), not only where a budget is missed")
	f.StringSliceVar(&o.Families, "families", nil,
		"families to consider, separated by commas: "+strings.Join(session.FamilyNames(), ", ")+" (default: all)")
	return cmd
}

func (o *designOptions) run(cmd *cobra.Command) error {
	if o.Speedup < 0 {
		return usagef("--speedup is %v, must not be negative", o.Speedup)
	}
	if err := lossLimits(o.Limits); err != nil {
		return err
	}
	if err := session.CheckFamilies(o.Families); err != nil {
		return err
	}
	w, err := o.openConfig(cmd, o.config)
	if err != nil {
		return err
	}
	s, path, err := w.Variants.Design(cmd.Context(), o.Options)
	if err != nil {
		return err
	}
	list := s.Plan.Document.Variants
	view.Variants(o.text(), list, false)
	plots, err := view.WriteFrontiers(w.Config.Out, list)
	if err != nil {
		return err
	}
	return o.written(list, append([]string{path}, plots...)...)
}

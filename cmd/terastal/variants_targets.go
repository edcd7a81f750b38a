package main

import (
	"github.com/spf13/cobra"

	"github.com/terastal/terastal/cmd/terastal/internal/view"
	"github.com/terastal/terastal/sched/plan"
	"github.com/terastal/terastal/variants"
)

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

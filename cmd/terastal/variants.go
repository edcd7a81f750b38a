package main

import (
	"github.com/spf13/cobra"

	"github.com/terastal/terastal/cmd/terastal/internal/config"
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
	config.AddFlags(cmd.Flags(), "load", "out", "budget", "precision", "seed", "cost", "arithmetic")
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

package main

import (
	"github.com/spf13/cobra"

	"github.com/terastal/terastal/cmd/terastal/internal/view"
)

func newVariantsAccuracy(s *streams) *cobra.Command {
	var file, log string
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
			w, err := s.openConfig(cmd, file)
			if err != nil {
				return err
			}
			list, path, err := w.Variants.Accuracy(cmd.Context(), log)
			if err != nil {
				return err
			}
			view.Combinations(s.text(), list)
			return s.written(list, path)
		},
	}
	variantFlags(cmd, &file)
	cmd.Flags().StringVar(&log, "log", "", "event log of a run with these variants")
	return cmd
}

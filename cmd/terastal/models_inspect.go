package main

import (
	"github.com/spf13/cobra"

	"github.com/terastal/terastal/cmd/terastal/internal/view"
)

func newModelsInspect(s *streams) *cobra.Command {
	var f modelFlags
	cmd := &cobra.Command{
		Use:   "inspect FILE|zoo:NAME",
		Short: "Show a model's layers: operators, work, weights and boundary tensors",
		Example: `  terastal models inspect zoo:mobilenetv2
  terastal models inspect model.onnx --granularity block --json
  terastal models inspect speech.onnx --dim sequence=576`,
		Args: exactArgs("FILE|zoo:NAME"),
		RunE: func(_ *cobra.Command, args []string) error {
			split, err := f.open(s, args[0])
			if err != nil {
				return err
			}
			m, err := split.Describe()
			if err != nil {
				return err
			}
			view.Model(s.text(), m)
			return s.document(m)
		},
	}
	f.bind(cmd)
	return cmd
}

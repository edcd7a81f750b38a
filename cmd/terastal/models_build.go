package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/terastal/terastal/cmd/terastal/internal/inspect"
	"github.com/terastal/terastal/cmd/terastal/internal/session"
)

func newModelsBuild(s *streams) *cobra.Command {
	var out string
	var seed uint64
	cmd := &cobra.Command{
		Use:   "build NAME",
		Short: "Write a built-in network as an ONNX file with weights drawn from a seed (glyph networks: trained)",
		Example: `  terastal models build resnet50
  terastal models build ds_cnn_kws --seed 7 --out kws.onnx`,
		Args: exactArgs("NAME"),
		RunE: func(_ *cobra.Command, args []string) error {
			built, err := inspect.Build(args[0], seed, out)
			if err != nil {
				return err
			}
			fmt.Fprintf(s.text(), "%s: %d bytes\n", built.File, built.Bytes)
			return s.document(built)
		},
	}
	cmd.Flags().StringVar(&out, "out", "",
		"file to write (default: NAME.onnx in the zoo folder of $TERASTAL_CACHE, or of the user's cache folder)")
	cmd.Flags().Uint64Var(&seed, "seed", session.ZooSeed, "seed of the weights")
	return cmd
}

package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/terastal/terastal/cmd/terastal/internal/inspect"
	"github.com/terastal/terastal/cmd/terastal/internal/view"
)

func newModelsSplit(s *streams) *cobra.Command {
	var f modelFlags
	var o inspect.SplitOptions
	cmd := &cobra.Command{
		Use:   "split FILE|zoo:NAME",
		Short: "Cut a model into layers, write them, verify that their chain equals the whole",
		Long: `Cut a model into layers. --out writes each layer as an ONNX model; their weights
lie in one file next to them, weights.bin, each stored once.
--verify runs the whole model and the chain of layers on the same inputs on one
CPU core, compares every output, and reports how much longer the chain takes
("ratio"). With --optimization none, outputs must be bit-identical. Inputs are
random unless --input names a NumPy file.`,
		Example: `  terastal models split model.onnx --granularity op --verify --json
  terastal models split zoo:resnet18 --granularity block --out layers/
  terastal models split model.onnx --granularity auto:200us --verify --input image=cat.npy
  terastal models split model.onnx --granularity cuts:relu1,pool2 --out layers/`,
		Args: exactArgs("FILE|zoo:NAME"),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := o.Check(); err != nil {
				return err
			}
			split, err := f.open(s, args[0])
			if err != nil {
				return err
			}
			r, failed := split.Write(o)
			if r == nil {
				return failed
			}
			view.Split(s.text(), r, o.Out)
			return errors.Join(s.document(r), failed)
		},
	}
	f.bind(cmd)
	cmd.Flags().StringVar(&o.Out, "out", "", "folder to write the layers to, as 000.onnx, 001.onnx, ... and weights.bin")
	cmd.Flags().BoolVar(&o.Verify, "verify", false, "compare the chain of layers with the whole model")
	cmd.Flags().StringVar(&o.Optimization, "optimization", "none",
		"optimisation level of the comparison: none, basic, extended, all")
	cmd.Flags().StringArrayVar(&o.Inputs, "input", nil,
		"array for --verify to run on, as NAME=FILE.npy, or FILE.npy for a single input (repeatable; default random)")
	cmd.Flags().Uint64Var(&o.Seed, "seed", 1, "seed of the random inputs")
	return cmd
}

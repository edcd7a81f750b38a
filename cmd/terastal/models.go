package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/terastal/terastal/cmd/terastal/internal/inspect"
	"github.com/terastal/terastal/cmd/terastal/internal/session"
	"github.com/terastal/terastal/cmd/terastal/internal/view"
)

func newModels(s *streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "models",
		Short: "List, build, inspect and split ONNX models",
		Example: `  terastal models list
  terastal models inspect zoo:resnet50
  terastal models split model.onnx --granularity block --verify`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newModelsList(s), newModelsBuild(s), newModelsInspect(s), newModelsSplit(s))
	return cmd
}

// modelFlags are what every verb that opens a model takes.
func modelFlags(cmd *cobra.Command, o *inspect.Options) {
	cmd.Flags().StringVar(&o.Granularity, "granularity", "op",
		"where to cut: op, block, model, auto:DURATION or cuts:TENSOR,TENSOR")
	cmd.Flags().StringToInt64Var(&o.Dims, "dim", nil, "size of a symbolic input dimension, as NAME=SIZE (default 1; "+
		"repeatable)")
}

func (s *streams) openModel(ref string, o inspect.Options) (*inspect.Split, error) {
	o.ORT, o.Root = s.ort, s.models
	return inspect.Open(ref, o)
}

func newModelsList(s *streams) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the built-in networks",
		Example: `  terastal models list
  terastal models list --json`,
		Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			list, err := inspect.Networks()
			if err != nil {
				return err
			}
			view.Networks(s.text(), list)
			return s.document(map[string]any{"networks": list})
		},
	}
}

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

func newModelsInspect(s *streams) *cobra.Command {
	var o inspect.Options
	cmd := &cobra.Command{
		Use:   "inspect FILE|zoo:NAME",
		Short: "Show a model's layers: operators, work, weights and boundary tensors",
		Example: `  terastal models inspect zoo:mobilenetv2
  terastal models inspect model.onnx --granularity block --json
  terastal models inspect speech.onnx --dim sequence=576`,
		Args: exactArgs("FILE|zoo:NAME"),
		RunE: func(_ *cobra.Command, args []string) error {
			split, err := s.openModel(args[0], o)
			if err != nil {
				return err
			}
			return shows(s, view.Model)(split.Describe())
		},
	}
	modelFlags(cmd, &o)
	return cmd
}

func newModelsSplit(s *streams) *cobra.Command {
	var model inspect.Options
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
			split, err := s.openModel(args[0], model)
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
	modelFlags(cmd, &model)
	cmd.Flags().StringVar(&o.Out, "out", "", "folder to write the layers to, as 000.onnx, 001.onnx, ... and weights.bin")
	cmd.Flags().BoolVar(&o.Verify, "verify", false, "compare the chain of layers with the whole model")
	cmd.Flags().StringVar(&o.Optimization, "optimization", "none",
		"optimisation level of the comparison: none, basic, extended, all")
	cmd.Flags().StringArrayVar(&o.Inputs, "input", nil,
		"array for --verify to run on, as NAME=FILE.npy, or FILE.npy for a single input (repeatable; default random)")
	cmd.Flags().Uint64Var(&o.Seed, "seed", 1, "seed of the random inputs")
	return cmd
}

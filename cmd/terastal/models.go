package main

import (
	"github.com/spf13/cobra"

	"github.com/terastal/terastal/cmd/terastal/internal/inspect"
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
type modelFlags struct {
	granularity string
	dims        map[string]int64
}

func (f *modelFlags) bind(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.granularity, "granularity", "op",
		"where to cut: op, block, model, auto:DURATION or cuts:TENSOR,TENSOR")
	cmd.Flags().StringToInt64Var(&f.dims, "dim", nil, "size of a symbolic input dimension, as NAME=SIZE (default 1; "+
		"repeatable)")
}

func (f *modelFlags) open(s *streams, ref string) (*inspect.Split, error) {
	return inspect.Open(ref, inspect.Options{ORT: s.ort, Root: s.models, Granularity: f.granularity, Dims: f.dims})
}

package main

import (
	"github.com/spf13/cobra"

	"github.com/terastal/terastal/cmd/terastal/internal/session"
	"github.com/terastal/terastal/cmd/terastal/internal/view"
)

type addOptions struct {
	*streams
	config string
	session.AddOptions
}

func newVariantsAdd(s *streams) *cobra.Command {
	o := addOptions{streams: s}
	cmd := &cobra.Command{
		Use:   "add --config FILE --model NAME --layer LAYER FILE.onnx",
		Short: "Add a variant that was trained or written elsewhere, after checks and a proof",
		Long: `Adds an implementation of a layer that was trained or written elsewhere. It has
to have the layer's inputs and outputs: the same names, types and shapes; start
from the file of the layer that ` + "`terastal models split --out`" + ` writes. The file has
to lie in the folder of the configuration, or of --models-dir.

It is run on the model's calibration or labelled data, proven in all combinations
with the variants in use, and measured next to the original on every accelerator.
It goes into the plan if it makes no NaN or infinity, costs no more accuracy than
allowed, and is faster than the original on an accelerator. Otherwise one line
says why not, and no file is changed. A variant added to the layer under the same
name before is replaced. ` + "`variants design`" + ` keeps what was added.`,
		Example: `  terastal models split detector.onnx --granularity op --out layers
  terastal variants add --config my.yaml --model detector --layer block1/conv2 narrow.onnx
  terastal variants add --config my.yaml --model detector --layer 2 narrow.onnx --name "rank 8" --max-loss 0.02
  terastal variants show out/plan.json`,
		Args: exactArgs("FILE.onnx"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.File = args[0]
			return o.run(cmd)
		},
	}
	variantFlags(cmd, &o.config)
	lossFlags(cmd, &o.Limits)
	f := cmd.Flags()
	f.StringVar(&o.Model, "model", "", "the model's name in the configuration")
	f.StringVar(&o.Layer, "layer", "", "the layer's name or its number from 0, as 'terastal models inspect' lists them")
	f.StringVar(&o.Name, "name", "", "the variant's name (default: the file's, without .onnx)")
	return cmd
}

func (o *addOptions) run(cmd *cobra.Command) error {
	for _, flag := range [][2]string{{"config", o.config}, {"model", o.Model}, {"layer", o.Layer}} {
		if flag[1] == "" {
			return usagef("`%s` needs --config, --model and --layer: --%s is missing", cmd.CommandPath(), flag[0])
		}
	}
	if err := lossLimits(o.Limits); err != nil {
		return err
	}
	w, err := o.openConfig(cmd, o.config)
	if err != nil {
		return err
	}
	list, plan, err := w.Variants.Add(cmd.Context(), o.AddOptions)
	if err != nil {
		return err
	}
	if plan == "" {
		return o.said(list, o.File+" is a variant of layer "+o.Layer+" in use already: nothing to do")
	}
	view.Variants(o.text(), list, false)
	return o.written(list, plan)
}

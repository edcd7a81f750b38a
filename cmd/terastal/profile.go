package main

import (
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/terastal/terastal/internal/config"
	"github.com/terastal/terastal/internal/report"
)

type profileOptions struct {
	*streams
	config      string
	models      []string
	granularity string
	file        string
}

func newProfile(s *streams) *cobra.Command {
	o := profileOptions{streams: s}
	cmd := &cobra.Command{
		Use:   "profile (--config FILE | --model SOURCE)",
		Short: "Measure every layer on every accelerator",
		Long: `Measures every layer of the models on every accelerator until the medians are
known to the target precision or the time is over, and writes the profile. With
--model no configuration is needed: the accelerators are those that suit the
machine.`,
		Example: `  terastal profile --model zoo:mobilenetv2
  terastal profile --model net.onnx --granularity op --file net.profile.json
  terastal profile --config my.yaml --budget 30s --precision 0.01
  terastal profile show out/profile.json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	configFlag(cmd, &o.config)
	cmd.Flags().StringSliceVar(&o.models, "model", nil, "ONNX file or zoo:NAME to measure instead of the configuration's models (repeatable)")
	cmd.Flags().StringVar(&o.granularity, "granularity", config.DefaultGranularity, "how --model is split: op, block, model, auto:TIME, cuts:TENSOR,...")
	cmd.Flags().StringVar(&o.file, "file", "", "where to write the profile (default: OUT/profile.json)")
	config.AddFlags(cmd.Flags(), "out", "budget", "precision", "seed")
	cmd.AddCommand(newProfileShow(s), newProfileCompare(s), newProfileImport(s))
	return cmd
}

func (o *profileOptions) run(cmd *cobra.Command) error {
	if (o.config == "") == (len(o.models) == 0) {
		return usagef("`%s` needs either --config FILE or --model SOURCE", cmd.CommandPath())
	}
	c, err := config.Load(o.config, cmd.Flags())
	if err != nil {
		return err
	}
	for _, source := range o.models {
		name := strings.TrimPrefix(source, "zoo:")
		if name == source {
			name = strings.TrimSuffix(filepath.Base(source), filepath.Ext(source))
			// A file named on the command line is trusted where it lies.
			if source, err = filepath.Abs(source); err != nil {
				return err
			}
			o.streams.models = string(filepath.Separator)
		}
		c.Models = append(c.Models, config.Model{Name: name, Source: source, Rate: 1, Granularity: o.granularity})
	}
	f, err := o.openFlow(cmd.Context(), c)
	if err != nil {
		return err
	}
	defer f.Close()
	path := o.file
	if path == "" {
		path = f.ProfilePath()
	}
	if err := f.Measure(cmd.Context(), path); err != nil {
		return err
	}
	report.Profile(o.text(), f.Profile)
	if err := printLines(o.text(), "written: "+path); err != nil {
		return err
	}
	return o.document(f.Profile)
}

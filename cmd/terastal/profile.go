package main

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/terastal/terastal/cmd/terastal/internal/config"
	"github.com/terastal/terastal/cmd/terastal/internal/session"
	"github.com/terastal/terastal/cmd/terastal/internal/view"
	"github.com/terastal/terastal/profiler"
)

type profileOptions struct {
	*streams
	config       string
	models       []string
	granularity  string
	accelerators []string
	file         string
	force        bool
}

func newProfile(s *streams) *cobra.Command {
	o := profileOptions{streams: s}
	cmd := &cobra.Command{
		Use:   "profile (--config FILE | --model SOURCE)",
		Short: "Measure every layer on every accelerator",
		Long: `Measures every layer of the models on every accelerator until the medians are
known to the target precision or the time is over, and writes the profile: also
what accelerators cost each other, what changing accelerator costs, and how well
the layers' sum predicts the whole model. Without a configuration the
accelerators are those that suit the machine.

Every accelerator runs in another process: a provider that crashes or hangs
costs the cell that it did it in, after three attempts. What has been measured
is kept as it comes in. After an interrupt (Ctrl-C), a crash or a power cut the
same command continues from there; Ctrl-C three times ends at once.`,
		Example: `  terastal profile --model zoo:mobilenetv2
  terastal profile --model net.onnx --granularity op --out net.profile.json
  terastal profile --model zoo:resnet50 --accelerators cpu,webgpu
  terastal profile --config my.yaml --accelerators new --budget 1m --precision 0.01
  terastal profile show out/profile.json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	configFlag(cmd, &o.config)
	f := cmd.Flags()
	f.StringSliceVar(&o.models, "model", nil,
		"ONNX file or zoo:NAME to measure instead of the configuration's models (repeatable)")
	f.StringVar(&o.granularity, "granularity", config.DefaultGranularity,
		"how --model is split: op, block, model, auto:TIME, cuts:TENSOR,...")
	f.StringSliceVar(&o.accelerators, "accelerators", nil, "names of the configuration's accelerators or of execution "+
		"providers, or auto for those that suit the machine (default: the configuration's); gpu stands for all streams of "+
		"gpu, gpu.1 for one")
	f.StringVar(&o.file, "out", "", "where to write the profile (default: profile.json in the configuration's output "+
		"folder)")
	f.BoolVar(&o.force, "force", false, "replace what lies at --out even if it is something else, and start over")
	config.AddFlags(f, "auto", "budget", "precision", "seed")
	cmd.AddCommand(newProfileShow(s), newProfileCompare(s), newProfileImport(s), newProfileWorker())
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
		if err := c.AddSource(source, o.granularity); err != nil {
			return err
		}
		o.streams.models = string(filepath.Separator) // a file named on the command line is trusted where it lies
	}
	plugins, err := o.plugins()
	if err != nil {
		return err
	}
	c.ChooseAccelerators(o.accelerators, slices.Collect(maps.Keys(plugins))...)
	w, err := o.open(cmd, c, o.file)
	if err != nil {
		return err
	}
	inTheWay := session.Refuse
	if o.force {
		inTheWay = session.Replace
	}
	path, err := w.Measure(cmd.Context(), inTheWay)
	if errors.Is(err, session.ErrInTheWay) || errors.Is(err, profiler.ErrJournal) {
		return fmt.Errorf("%w; name another file with --out, or use --force", err)
	}
	if err != nil {
		return err
	}
	view.Profile(o.text(), w.Profile)
	return o.written(w.Profile, path)
}

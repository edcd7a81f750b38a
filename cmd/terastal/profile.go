package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

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

Every accelerator runs in a process of its own: a provider that crashes or hangs
costs the cell that it did it in, after three attempts. What has been measured
is kept as it comes in. After an interrupt (Ctrl-C), a crash or a power cut the
same command goes on from there; Ctrl-C three times ends at once.`,
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
	f.StringSliceVar(&o.models, "model", nil, "ONNX file or zoo:NAME to measure instead of the configuration's models (repeatable)")
	f.StringVar(&o.granularity, "granularity", config.DefaultGranularity, "how --model is split: op, block, model, auto:TIME, cuts:TENSOR,...")
	f.StringSliceVar(&o.accelerators, "accelerators", nil, "names of the configuration's accelerators or of execution providers, or auto for those that suit the machine (default: the configuration's)")
	f.StringVar(&o.file, "out", "", "where to write the profile (default: profile.json in the configuration's output folder)")
	f.BoolVar(&o.force, "force", false, "replace what lies at --out even if it is something else, and begin anew")
	config.AddFlags(f, "budget", "precision", "seed")
	cmd.AddCommand(newProfileShow(s), newProfileCompare(s), newProfileImport(s), newProfileWorker())
	return cmd
}

// newProfileWorker is what measures one accelerator, for this program's own
// use.
func newProfileWorker() *cobra.Command {
	return &cobra.Command{
		Use:    "worker",
		Short:  "Measure on one accelerator as another process asks",
		Hidden: true,
		Args:   noArgs,
		RunE: func(*cobra.Command, []string) error {
			// Ctrl-C is for the process that asks.
			signal.Ignore(os.Interrupt)
			err := session.Work(&lifeline{os.Stdin}, profiler.Output(), openModel)
			if errors.Is(err, syscall.EPIPE) {
				return nil // nobody listens any more
			}
			return err
		},
	}
}

// lifeline ends the process some time after the one that asks has gone, whatever
// native code is doing.
type lifeline struct{ io.Reader }

// lastWords is how long a worker may take to end by itself.
const lastWords = 8 * time.Second

func (l *lifeline) Read(b []byte) (int, error) {
	n, err := l.Reader.Read(b)
	if err != nil {
		time.AfterFunc(lastWords, func() { os.Exit(exitFailed) })
	}
	return n, err
}

func (o *profileOptions) run(cmd *cobra.Command) error {
	if (o.config == "") == (len(o.models) == 0) {
		return usagef("`%s` needs either --config FILE or --model SOURCE", cmd.CommandPath())
	}
	c, err := config.Load(o.config, cmd.Flags())
	if err != nil {
		return err
	}
	if err := o.choose(c); err != nil {
		return err
	}
	f, err := o.openFlow(cmd.Context(), c, o.file)
	if err != nil {
		return err
	}
	defer f.Close()
	path := o.file
	if path == "" {
		path = f.ProfilePath()
	}
	if o.force {
		err = f.MeasureAnew(cmd.Context(), path)
	} else {
		err = f.Measure(cmd.Context(), path)
	}
	if errors.Is(err, session.ErrInTheWay) || errors.Is(err, profiler.ErrJournal) {
		return fmt.Errorf("%w; name another file with --out, or use --force", err)
	}
	if err != nil {
		return err
	}
	view.Profile(o.text(), f.Profile)
	if err := printLines(o.text(), "written: "+path); err != nil {
		return err
	}
	return o.document(f.Profile)
}

// choose sets the models and the accelerators that the flags name.
func (o *profileOptions) choose(c *config.Config) error {
	for _, source := range o.models {
		name := strings.TrimPrefix(source, zooPrefix)
		if name == source {
			name = strings.TrimSuffix(filepath.Base(source), filepath.Ext(source))
			// A file named on the command line is trusted where it lies.
			var err error
			if source, err = filepath.Abs(source); err != nil {
				return err
			}
			o.streams.models = string(filepath.Separator)
		}
		c.Models = append(c.Models, config.Model{Name: name, Source: source, Rate: 1, Granularity: o.granularity})
	}
	switch {
	case len(o.accelerators) == 0:
	case slices.Equal(o.accelerators, []string{"auto"}):
		c.Accelerators = nil
	default:
		var chosen []config.Accelerator
		for _, name := range o.accelerators {
			i := slices.IndexFunc(c.Accelerators, func(a config.Accelerator) bool { return a.Name == name })
			a := config.Accelerator{Name: name, Provider: name}
			if i >= 0 {
				a = c.Accelerators[i]
			}
			chosen = append(chosen, a)
		}
		c.Accelerators = chosen
	}
	return nil
}

package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/terastal/terastal/cmd/terastal/internal/config"
	"github.com/terastal/terastal/cmd/terastal/internal/live"
	"github.com/terastal/terastal/cmd/terastal/internal/result"
	"github.com/terastal/terastal/cmd/terastal/internal/session"
	"github.com/terastal/terastal/cmd/terastal/internal/view"
)

// trafficFlags are the flags of every verb that plays traffic.
var trafficFlags = strings.Fields("duration seed load scale arrivals phases jitter burst-on burst-off trace policies " +
	"cost adapt drop queue realtime retries faults save-outputs out auto budget precision")

// playOptions are what the verbs that play traffic have in common.
type playOptions struct {
	*streams
	config    string
	profile   string
	scenario  string // in place of a configuration
	simulated bool
	emulated  bool // accelerators take as long as the profile says, and compute nothing
	// comparing holds policies against each other, where that is asked for.
	comparing *session.CompareOptions
	real      session.Real
	watching  live.Options
}

// flags defines the flags; policy, if not empty, is the default of --policies.
func (o *playOptions) flags(cmd *cobra.Command, policy string) {
	configFlag(cmd, &o.config)
	profileFlag(cmd, &o.profile)
	config.AddFlags(cmd.Flags(), trafficFlags...)
	if policy != "" {
		config.SetDefault(cmd.Flags(), "policies", policy)
	}
}

func profileFlag(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVar(file, "profile", "",
		"profile to use, or a plan, which needs no --config where nothing is measured; of any machine, plain or gzipped "+
			"(default: OUT/profile.json, measured if it is not there or does not fit)")
}

// watchFlags defines the flags of verbs that run for real.
func (o *playOptions) watchFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.watching.Metrics, "metrics", "",
		"serve Prometheus metrics of the run at this address, such as :9464 (this machine only) or 0.0.0.0:9464")
	cmd.Flags().StringVar(&o.watching.Log, "log", "",
		"write structured log lines (JSON) to this file while running; - for standard error")
}

// scenarioFlag defines --scenario; how, if not empty, says how verbs that run play it.
func scenarioFlag(cmd *cobra.Command, name *string, how string) {
	cmd.Flags().StringVar(name, "scenario", "", "`NAME` of a scenario"+how+" in place of a configuration (\"terastal simulate "+
		"--scenario help\" lists them); profile:FILE makes one of a profile or a plan")
}

// onEmulated is how verbs that run play a scenario.
const onEmulated = " to run on emulated accelerators, which take as long as it says,"

// emulatedFlag defines --emulated.
func (o *playOptions) emulatedFlag(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&o.emulated, "emulated", false, "play a profile or a plan of another machine in real time, on "+
		"accelerators that take as long as it says and compute nothing")
}

// load reads the configuration, and refuses what it cannot be compared with before anything is measured.
func (o *playOptions) load(cmd *cobra.Command) (*config.Config, error) {
	switch {
	case o.scenario != "" && (o.config != "" || o.profile != ""):
		return nil, usagef("--scenario brings its own models: leave out --config and --profile")
	case o.scenario == "" && o.config == "" && o.profile == "":
		return nil, usagef("`%s` needs --config FILE, or a plan with --profile; `terastal demo` needs neither", cmd.CommandPath())
	case o.emulated && o.simulated:
		return nil, usagef("--emulated is for real time, and simulated time was asked for: leave one out")
	}
	c, err := config.Load(o.config, cmd.Flags())
	if err != nil || o.comparing == nil {
		return c, err
	}
	o.comparing.Simulated = o.simulated
	return c, o.comparing.Check(c)
}

// planned plans what was loaded.
func (o *playOptions) planned(cmd *cobra.Command, c *config.Config) (*session.Session, error) {
	so, err := o.options(cmd.Context(), o.profile)
	if err != nil {
		return nil, err
	}
	if o.scenario != "" {
		return session.OpenScenario(c, o.scenario, o.simulated, so)
	}
	so.Emulated = o.emulated
	return session.Prepare(cmd.Context(), c, o.simulated, so)
}

func (o *playOptions) play(cmd *cobra.Command) error {
	c, err := o.load(cmd)
	if err != nil {
		return err
	}
	s, err := o.planned(cmd, c)
	if err != nil {
		return err
	}
	if o.comparing != nil || !o.simulated { // what takes long
		view.Hopeless(o.err, s.Plan.Document.Hopeless)
	}
	if o.comparing != nil {
		fmt.Fprintln(o.err, o.comparing.Announce(c))
	}
	r, err := o.execute(cmd.Context(), s)
	if err != nil {
		return err
	}
	return o.show(r, c.Out)
}

// execute plays, watched where anybody asks for it.
func (o *playOptions) execute(ctx context.Context, s *session.Session) (r *result.Result, err error) {
	if o.simulated && o.comparing == nil {
		return s.Simulate()
	}
	done := func() error { return nil }
	if !o.simulated {
		if o.real.Watch, done, err = o.watch(); err != nil {
			return nil, err
		}
	}
	if o.comparing != nil {
		o.comparing.Real = o.real
		r, err = s.Compare(ctx, *o.comparing)
	} else {
		r, err = s.Run(ctx, o.real)
	}
	return r, errors.Join(err, done())
}

// watch opens what the flags ask for, and a live view on a terminal.
func (o *playOptions) watch() (live.Update, func() error, error) {
	update, done, err := live.Watch(o.watching, o.err)
	if errors.Is(err, live.ErrAddress) {
		err = session.UsageError{Err: err}
	}
	return update, done, err
}

// show prints a result and turns one that is not valid into an error.
func (o *playOptions) show(r *result.Result, folder string) error {
	view.Result(o.text(), r, filepath.Join(folder, r.FileName()))
	o.report(folder)
	return o.concluded(r, r.Reasons)
}

func newRun(s *streams) *cobra.Command {
	o := playOptions{streams: s}
	cmd := &cobra.Command{
		Use:   "run (--config FILE | --profile PLAN --emulated | --scenario NAME)",
		Short: "Run the configured models on the real accelerators",
		Long: `Splits the models, measures their layers (or uses the profile of an earlier run
when it still fits), plans budgets, and plays the configured traffic on the real
accelerators. Prints miss rates and latencies; writes plan.json, result.json, and
for every policy the event log and a trace for ui.perfetto.dev, to the output
folder.

A profile or a plan of another machine (--profile) is played with --emulated, in real
time on accelerators that only take the time: it needs none of that machine's
accelerators, providers and model files, outputs are not computed, and
layers take what the profile's distributions say. With --scenario: a task system that
ships, in the same way; "terastal simulate --scenario help" lists them.`,
		Example: `  terastal run --config my.yaml
  terastal run --config my.yaml --policies edf,terastal --duration 30s
  terastal run --config my.yaml --policies pedf,rollout --accuracy 0.98
  terastal run --config my.yaml --load 0.9 --json | jq '.policies[].mean_miss_rate'
  terastal run --config my.yaml --duration 10m --metrics :9464 --log run.jsonl
  terastal run --config my.yaml --policies unscheduled,fifo,pedf --realtime 20
  terastal run --config my.yaml --retries 1 --faults "error accelerator=gpu p=0.01"
  terastal run --config my.yaml --ort-trace --duration 2s
  terastal run --config my.yaml --profile h100.profile.json.gz --emulated
  terastal run --scenario hw/h100-5nets --policies edf,terastal --duration 5s`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.play(cmd) },
	}
	o.flags(cmd, "pedf")
	config.AddFlags(cmd.Flags(), "accuracy")
	scenarioFlag(cmd, &o.scenario, onEmulated)
	o.emulatedFlag(cmd)
	o.watchFlags(cmd)
	cmd.Flags().BoolVar(&o.real.TraceORT, "ort-trace", false, "put the nodes that ONNX Runtime's own profiler saw into "+
		"the traces, below their layers; it makes layers take longer, so that the run is INVALID")
	return cmd
}

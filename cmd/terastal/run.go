package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/terastal/terastal/cmd/terastal/internal/config"
	"github.com/terastal/terastal/cmd/terastal/internal/result"
	"github.com/terastal/terastal/cmd/terastal/internal/session"
	"github.com/terastal/terastal/cmd/terastal/internal/table"
	"github.com/terastal/terastal/cmd/terastal/internal/view"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/sched/eventlog"
	"github.com/terastal/terastal/sched/scenario"
)

// trafficFlags are the flags of every verb that plays traffic.
var trafficFlags = []string{"duration", "seed", "load", "scale", "arrivals", "phases", "jitter", "burst-on", "burst-off", "trace",
	"policies", "cost", "adapt", "drop", "queue", "realtime", "retries", "faults", "save-outputs", "out", "budget", "precision"}

// playOptions are what the verbs that play traffic have in common.
type playOptions struct {
	*streams
	config    string
	profile   string
	scenario  string // published, in place of a configuration
	simulated bool
	// comparing holds policies against each other, where that is asked for.
	comparing *session.CompareOptions
	ortTrace  bool
	watchOptions
}

func newRun(s *streams) *cobra.Command {
	o := playOptions{streams: s}
	cmd := &cobra.Command{
		Use:   "run (--config FILE | --scenario NAME)",
		Short: "Run the configured models on the real accelerators",
		Long: `Splits the models, measures their layers (or uses the profile of an earlier run
when it still fits), plans budgets, and plays the configured traffic on the real
accelerators. Prints miss rates and latencies; writes result.json, and for every
policy the event log and a trace for ui.perfetto.dev, to the output folder.

With --scenario: a published task system in real time, on accelerators that only
take the time that its tables say.`,
		Example: `  terastal run --config my.yaml
  terastal run --config my.yaml --policies edf,terastal --duration 30s
  terastal run --config my.yaml --load 0.9 --json | jq '.policies[].mean_miss_rate'
  terastal run --config my.yaml --duration 10m --metrics :9464 --log run.jsonl
  terastal run --config my.yaml --policies unscheduled,edf-model,terastal --realtime 20
  terastal run --config my.yaml --retries 1 --faults "error accelerator=gpu p=0.01"
  terastal run --config my.yaml --ort-trace --duration 2s
  terastal run --scenario paper/mcv_heavy --policies edf,terastal --duration 5s`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.play(cmd) },
	}
	o.flags(cmd, "terastal")
	o.scenarioFlag(cmd)
	o.watchFlags(cmd)
	cmd.Flags().BoolVar(&o.ortTrace, "ort-trace", false, "put the nodes that ONNX Runtime's own profiler saw into the traces, below their layers; it makes layers take longer, so that the run is INVALID")
	return cmd
}

// flags defines the flags; policy, if not empty, is the default of --policies.
func (o *playOptions) flags(cmd *cobra.Command, policy string) {
	configFlag(cmd, &o.config)
	cmd.Flags().StringVar(&o.profile, "profile", "", "profile to use (default: OUT/profile.json, measured if it is not there or does not fit)")
	config.AddFlags(cmd.Flags(), trafficFlags...)
	if policy != "" {
		config.SetDefault(cmd.Flags(), "policies", policy)
	}
}

// planned opens the configuration, gets a profile and plans.
func (o *playOptions) planned(cmd *cobra.Command) (*session.Flow, error) {
	if o.scenario != "" {
		return o.published(cmd)
	}
	if o.config == "" {
		return nil, usagef("`%s` needs --config FILE; `terastal demo` needs none", cmd.CommandPath())
	}
	c, err := o.load(cmd, o.config)
	if err != nil {
		return nil, err
	}
	if f, err := o.tables(c); f != nil || err != nil {
		return f, err
	}
	f, err := o.openFlow(cmd.Context(), c, o.profile)
	if err != nil {
		return nil, err
	}
	named := o.profile != ""
	if !named {
		o.profile = f.ProfilePath()
	}
	if err := f.EnsureProfile(cmd.Context(), o.profile, named); err != nil {
		f.Close()
		return nil, err
	}
	if err := f.Plan(); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// load reads the configuration, and refuses what it cannot be compared with
// before anything is measured.
func (o *playOptions) load(cmd *cobra.Command, file string) (*config.Config, error) {
	c, err := config.Load(file, cmd.Flags())
	if err != nil || o.comparing == nil {
		return c, err
	}
	o.comparing.Simulated = o.simulated
	return c, o.comparing.Check(c)
}

// tables plans from a profile that only the simulator can use, without ONNX
// Runtime. It returns nil when the profile is another one, or not there.
func (o *playOptions) tables(c *config.Config) (*session.Flow, error) {
	path := cmp.Or(o.profile, session.ProfilePath(c))
	p, err := profiler.Read(path)
	if err != nil {
		return nil, nil // what follows says so, or measures one
	}
	real, why := p.Measurable()
	switch {
	case real:
		return nil, nil
	case !o.simulated:
		return nil, usagef("%s: %s, so that nothing can run on it: `terastal simulate` can use this profile, others need one that `terastal profile` measured (--profile FILE or another --out)", path, why)
	}
	f, err := session.OpenProfile(c, p, session.Options{Root: o.models, Progress: o.progress, Note: session.NoteTo(o.err)})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	fmt.Fprintf(o.err, "using the profile %s: %s; ONNX Runtime is not needed\n", path, why)
	return f, f.Plan()
}

// published opens a scenario on emulated accelerators.
func (o *playOptions) published(cmd *cobra.Command) (*session.Flow, error) {
	if o.config != "" || o.profile != "" {
		return nil, usagef("--scenario brings its own models: leave out --config and --profile")
	}
	s, err := scenario.Load(o.scenario)
	if err != nil {
		return nil, usageError{err}
	}
	c, err := o.load(cmd, "")
	if err != nil {
		return nil, err
	}
	return session.OpenScenario(c, s, o.flowOptions(cmd.Context(), c, ""))
}

// scenarioFlag defines --scenario.
func (o *playOptions) scenarioFlag(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.scenario, "scenario", "", "published scenario to run on emulated accelerators, which take as long as its tables say, in place of a configuration (`terastal simulate --scenario help` lists them)")
}

func (o *playOptions) play(cmd *cobra.Command) error {
	f, err := o.planned(cmd)
	if err != nil {
		return err
	}
	defer f.Close()
	if o.ortTrace {
		f.TraceORT()
	}
	if o.comparing != nil {
		o.announce(f.Config)
	}
	r, err := o.execute(cmd.Context(), f)
	if err != nil {
		return err
	}
	return o.show(r, filepath.Join(f.Config.Out, r.FileName()))
}

func (o *playOptions) execute(ctx context.Context, f *session.Flow) (*result.Result, error) {
	switch {
	case o.simulated && o.comparing != nil:
		return f.Compare(ctx, *o.comparing)
	case o.simulated:
		return f.Simulate()
	}
	watch, done, err := o.watch(&o.watchOptions)
	if err != nil {
		return nil, err
	}
	f.Watch(watch)
	var r *result.Result
	if o.comparing != nil {
		r, err = f.Compare(ctx, *o.comparing)
	} else {
		r, err = f.Run(ctx)
	}
	return r, errors.Join(err, done())
}

// show prints a result and turns one that is not valid into an error.
func (o *playOptions) show(r *result.Result, file string) error {
	w := o.text()
	table.Paragraph(w, r.Hardware)
	fmt.Fprintln(w)
	view.Plan(w, r.Models, r.Traffic.Load)
	fmt.Fprintln(w)
	if r.Comparison != nil {
		view.PoliciesCompared(w, r)
	} else {
		var metrics []eventlog.Metrics
		for _, p := range r.Policies {
			metrics = append(metrics, p.Metrics)
		}
		view.Policies(w, metrics)
		if r.Driver == eventlog.Real {
			fmt.Fprintln(w)
			view.Verification(w, r.Policies)
		}
	}
	if text := r.Bought(); text != "" {
		fmt.Fprintln(w)
		table.Paragraph(w, text)
	}
	fmt.Fprintf(w, "\nwritten: %s", file)
	if len(r.Policies) > 0 {
		fmt.Fprintf(w, "; for each policy a log and a trace (open in ui.perfetto.dev), such as %s", r.Policies[len(r.Policies)-1].Trace)
	}
	fmt.Fprintln(w)
	o.writePage(filepath.Dir(file))
	if err := o.document(r); err != nil {
		return err
	}
	if !r.Valid {
		return invalidError{r.Reasons}
	}
	return nil
}

package main

import (
	"cmp"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/terastal/terastal/cmd/terastal/internal/config"
	"github.com/terastal/terastal/cmd/terastal/internal/result"
	"github.com/terastal/terastal/cmd/terastal/internal/session"
	"github.com/terastal/terastal/cmd/terastal/internal/study"
	"github.com/terastal/terastal/cmd/terastal/internal/view"
)

// simulateOptions are what simulate takes besides the traffic.
type simulateOptions struct {
	playOptions
	name string // of the scenario
	session.StudyOptions
}

func newSimulate(s *streams) *cobra.Command {
	o := simulateOptions{playOptions: playOptions{streams: s, simulated: true}}
	cmd := &cobra.Command{
		Use:   "simulate (--config FILE | --profile PLAN | --scenario NAME)",
		Short: "Play traffic in virtual time: your models, another machine's, or a scenario",
		Long: `With --config: as "terastal run", on the simulator: the same engine and policies,
with durations drawn from the layers' measured distributions, and accelerators
that slow each other down as measured. A profile is measured first unless one is
there already.

A profile of another machine (--profile) is simulated as it is, and so is a plan, which
has rates and deadlines and needs no configuration: neither ONNX Runtime nor that
machine's accelerators, providers and model files are needed. Both may be gzipped.

With --scenario: a task system that ships, of the published evaluation, of XRBench or
measured on a machine; "--scenario help" lists them with their sources. profile:FILE
makes one of a plan, or of a profile, for which rates and deadlines are chosen.
Seeds --seed to --seed + --seeds - 1 are simulated in parallel, and miss rates come
with 95 % confidence intervals.`,
		Example: `  terastal simulate --config my.yaml
  terastal simulate --config my.yaml --profile out/profile.json --duration 10m --arrivals poisson
  terastal simulate --config my.yaml --profile h100.profile.json.gz --noise 0.3 --seeds 8
  terastal simulate --profile other/plan.json --load 0.9 --policies edf,terastal,pedf
  terastal simulate --scenario hw/h100-5nets --arrivals poisson --load 0.8 --seeds 8
  terastal simulate --scenario profile:h100.profile.json.gz --scale 0.6
  terastal simulate --scenario paper/mcv_heavy --seeds 24 --duration 2s
  terastal simulate --scenario paper/mcv_heavy --policies pedf-novariants,pedf --accuracy 0.98
  terastal simulate --scenario help`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case o.name == "help":
				return shows(s, view.Scenarios)(session.Scenarios())
			case o.name != "":
				return o.studyScenario(cmd)
			case !o.Plain():
				return o.study(cmd)
			}
			return o.play(cmd)
		},
	}
	o.flags(cmd, "")
	config.AddFlags(cmd.Flags(), "accuracy")
	f := cmd.Flags()
	scenarioFlag(cmd, &o.name, "")
	f.IntVar(&o.Seeds, "seeds", 1, "how many seeds; more than one gives confidence intervals and no logs")
	f.Float64Var(&o.Noise, "noise", 0, "sigma of the lognormal factor on every layer's duration")
	f.StringVar(&o.Durations, "durations", "", "what layers really take, with --config: measured (drawn from the "+
		"profile's distributions, slowed down by busy accelerators as measured), expected (what decisions expect), "+
		"or min, mean, p50, p90, p95 or p99 of the profile (default: measured, expected with --noise)")
	f.Float64Var(&o.Interference, "interference", 0,
		"how much longer layers take for every other accelerator that is busy, besides what was measured: 0.1 is 10 %")
	f.StringVar(&o.Taken, "taken", "", "cores that other programs take, with --config: ACCELERATOR=SHARE/BURST,... such as "+
		"cpu=0.2/10ms, a share of the core of the thread that runs the accelerator's layers for 10 ms at a time; "+
		"ACCELERATOR/other is another of its cores")
	return cmd
}

func (o *simulateOptions) studyScenario(cmd *cobra.Command) error {
	if o.config != "" || o.profile != "" {
		return usagef("--scenario brings its own models: leave out --config and --profile")
	}
	c, err := config.Load("", cmd.Flags())
	if err != nil {
		return err
	}
	d, results, err := session.StudyScenario(cmd.Context(), o.name, c, o.StudyOptions, o.progress)
	if err != nil {
		return err
	}
	scale := results[0].Scale
	view.Study(o.text(), d, results, fmt.Sprintf("demand: %.3g of the fluid capacity at scale %.4g; seeds: %d of %v; "+
		"drop: %s", scale/d.Capacity.Scale, scale, d.Seeds, c.Traffic.Duration, c.Drop))
	return o.judged(d)
}

// study simulates a configuration over several seeds.
func (o *simulateOptions) study(cmd *cobra.Command) error {
	if err := o.Check(); err != nil {
		return err
	}
	c, err := o.load(cmd)
	if err != nil {
		return err
	}
	s, err := o.planned(cmd, c)
	if err != nil {
		return err
	}
	results, err := s.Study(cmd.Context(), o.StudyOptions)
	if err != nil {
		return err
	}
	view.Plan(o.text(), s.ModelInfos(), s.Plan.Document.Accelerators, s.Plan.Load)
	fmt.Fprintln(o.text())
	view.Scenario(o.text(), results)
	d := study.Document{Scenario: cmp.Or(o.config, o.profile), Source: "configuration", Capacity: s.Plan.Document.Capacity,
		Hopeless: s.Plan.Document.Hopeless}
	d.Add(results, o.Seeds)
	return o.judged(&d)
}

// judged writes the document, and fails where a policy did not keep an accuracy floor.
func (o *simulateOptions) judged(d *study.Document) error {
	for i := range d.Policies {
		p := &d.Policies[i]
		for m := range p.Models {
			if text, _ := result.Unkept(p.Policy, &p.Models[m]); text != "" {
				d.Reasons = append(d.Reasons, text)
			}
		}
	}
	return o.concluded(d, d.Reasons)
}

package main

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/terastal/terastal/cmd/terastal/internal/comparison"
	"github.com/terastal/terastal/cmd/terastal/internal/config"
	"github.com/terastal/terastal/cmd/terastal/internal/session"
	"github.com/terastal/terastal/cmd/terastal/internal/view"
)

// curveOptions are what `sweep curves` takes besides the traffic.
type curveOptions struct {
	playOptions
	onHardware     bool
	from, to, step float64
	session.CurveOptions
}

func newSweepCurves(s *streams) *cobra.Command {
	o := curveOptions{playOptions: playOptions{streams: s, simulated: true}}
	cmd := &cobra.Command{
		Use:   "curves (--config FILE | --profile PLAN | --scenario NAME)",
		Short: "How miss rates grow with the rates, and the largest scale that each policy sustains",
		Long: `Plays the traffic of a configuration, a plan or a scenario with all rates
multiplied by --from to --to, several seeds each, under every policy, and prints
the mean miss rates with 95 % intervals over seeds. Deadlines stay. With --load 1
scales are shares of the capacity.

A policy sustains a scale while its mean miss rate is at most --limit, of which
there may be several. Between the last scale that it sustains and the first that
it does not, the boundary is found by halving, to --resolution. That takes miss
rates to grow with the rates, which they do in the mean and not in every run:
where a curve crosses the limit more than once the first crossing counts, and
with other seeds the boundary is another, by as much as the intervals suggest.

With --accuracy, policies that spend accuracy for time (pedf, rollout and
terastal-budget) are looked at with each of these accuracy floors, in place of
those of the models: what each point of accuracy buys. Load is the share of what
the originals alone can sustain.

Simulated unless --real says that the real accelerators are to play. Writes
curves.json and curves.csv to the output folder, and makes its report.html again if
there are results in it.`,
		Example: `  terastal sweep curves --config my.yaml --load 1
  terastal sweep curves --config my.yaml --policies edf,terastal --limit 0.001 --seeds 24
  terastal sweep curves --config my.yaml --load 1 --accuracy 1,0.999,0.99,0.98 --limit 0.01,0.05
  terastal sweep curves --config my.yaml --real --duration 5s --from 0.8 --to 1.2
  terastal sweep curves --profile other/plan.json.gz --load 1
  terastal sweep curves --scenario paper/mcv_heavy --seeds 24 --json | jq '.curves[] | {policy, sustains}'`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	o.flags(cmd, "")
	o.watchFlags(cmd)
	f := cmd.Flags()
	scenarioFlag(cmd, &o.scenario, "")
	o.emulatedFlag(cmd)
	f.BoolVar(&o.onHardware, "real", false, "play on the real accelerators, a scenario on emulated ones")
	f.Float64Var(&o.from, "from", 0.5, "smallest factor on all rates")
	f.Float64Var(&o.to, "to", 1.6, "largest factor on all rates")
	f.Float64Var(&o.step, "step", 0.1, "difference from one factor to the next")
	numbers(f, &o.Limits, "limit", []float64{0.01}, "mean miss rates up to which a policy sustains a scale")
	numbers(f, &o.Floors, "accuracy", nil, "accuracy floors of all models with variants, for policies that spend accuracy: "+
		"0 (none) to 1 (originals only) (default: those of the models)")
	f.Float64Var(&o.Resolution, "resolution", 0.01, "how closely the scale that a policy sustains is found")
	f.IntVar(&o.Seeds, "seeds", 0, fmt.Sprintf("runs of each policy at each scale, with --seed, the next one and so on "+
		"(default: %d, with --real %d)", session.CurveSeeds(false), session.CurveSeeds(true)))
	return cmd
}

func (o *curveOptions) run(cmd *cobra.Command) (err error) {
	o.simulated = !o.onHardware
	if !cmd.Flags().Changed("seeds") {
		o.Seeds = session.CurveSeeds(o.onHardware)
	}
	if o.Scales, err = comparison.Scales(o.from, o.to, o.step); err != nil {
		return session.UsageError{Err: err}
	}
	if o.onHardware && len(o.Floors) > 0 {
		return usagef("--accuracy is for simulated curves: on hardware models have the floors of the configuration")
	}
	c, err := o.load(cmd)
	if err != nil {
		return err
	}
	if err := o.Check(c); err != nil {
		return err
	}
	o.Source = cmp.Or(o.config, o.scenario, o.profile)
	curves, err := o.curves(cmd, c)
	if err != nil {
		return err
	}
	w := o.text()
	view.Curves(w, curves)
	fmt.Fprintf(w, "\nwritten: %s and %s\n", filepath.Join(c.Out, session.CurvesFile),
		filepath.Join(c.Out, session.CurvesCSV))
	o.report(c.Out)
	return o.concluded(curves, curves.Reasons)
}

// curves finds them, by whichever means was asked for.
func (o *curveOptions) curves(cmd *cobra.Command, c *config.Config) (*comparison.Curves, error) {
	if o.scenario != "" && o.simulated {
		return session.ScenarioCurves(cmd.Context(), o.scenario, c, o.progress, o.CurveOptions)
	}
	s, err := o.planned(cmd, c)
	if err != nil {
		return nil, err
	}
	view.Plan(o.text(), s.ModelInfos(), s.Plan.Document.Accelerators, s.Plan.Load)
	fmt.Fprintln(o.text())
	if o.simulated {
		return s.Curves(cmd.Context(), o.CurveOptions)
	}
	fmt.Fprintln(o.err, o.Announce(c))
	watch, done, err := o.watch()
	if err != nil {
		return nil, err
	}
	curves, err := s.RealCurves(cmd.Context(), o.CurveOptions, session.Real{Watch: watch})
	return curves, errors.Join(err, done())
}

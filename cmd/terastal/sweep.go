package main

import (
	"bytes"
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/terastal/terastal/cmd/terastal/internal/session"
	"github.com/terastal/terastal/cmd/terastal/internal/study"
	"github.com/terastal/terastal/internal/document"
)

type sweepOptions struct {
	*streams
	study.Sweep
	study.Options
	csv    string
	config string // only to say where it belongs
}

func newSweep(s *streams) *cobra.Command {
	o := sweepOptions{streams: s}
	cmd := &cobra.Command{
		Use:   "sweep",
		Short: "Simulate a grid of scenarios, traffic, rate scales and policies",
		Long: `Simulates every combination of the lists, in parallel, over several seeds, and
writes one CSV row per combination: the mean over models of the miss rate, its
95 % confidence interval over seeds, the accuracy kept, and both by model.

A grid can be split over machines: each runs with --shard I/N and writes its own
file. The same command gives the same file, to the byte.
scripts/evaluation.py joins files, and makes the tables of docs/evaluation.

"sweep curves" shows how miss rates grow with the rates for one scenario, or for
your own configuration.`,
		Example: `  terastal sweep --csv sweep.csv
  terastal sweep --scenarios paper/mcv_heavy --scales 0.8,1,1.3,1.5 --policies edf,terastal
  terastal sweep --scenarios hw/h100-5nets,profile:other/plan.json.gz --policies edf,terastal,pedf
  terastal sweep --accuracy 0,0.99,0.9 --policies pedf,rollout
  terastal sweep --load 0.6,0.9 --noise 0.3 --stall 50ms --policies edf,terastal,pedf
  terastal sweep --shard 3/8 --csv part3.csv
  terastal sweep curves --config my.yaml --load 1`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	o.flags(cmd)
	cmd.AddCommand(newSweepCurves(s))
	return cmd
}

func (o *sweepOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringSliceVar(&o.Scenarios, "scenarios", strings.Fields("paper/mcv_heavy paper/mcv_light paper/mcv_heavy@4K "+
		"paper/ar_social@4K paper/ar_social@6K"), "`NAMES` of scenarios (\"terastal simulate --scenario help\" lists them); "+
		"profile:FILE is one of a profile or a plan")
	f.StringSliceVar(&o.Traffics, "traffic", strings.Fields("periodic jitter aligned poisson bursts"), "arrival processes")
	numbers(f, &o.Scales, "scales", []float64{0.8, 1, 1.3, 1.5}, "factors on all rates; deadlines stay")
	numbers(f, &o.Loads, "load", nil, "in place of --scales: shares of each scenario's capacity, the fluid bound of originals")
	numbers(f, &o.Noises, "noise", []float64{0}, "sigmas of the lognormal factor on every layer's duration")
	f.StringSliceVar(&o.Drops, "drop", []string{"late", "none"}, "drop policies")
	numbers(f, &o.Floors, "accuracy", []float64{0}, "accuracy floors of all models with variants: 0 (none: variants are a last "+
		"resort, as published) to 1 (originals only)")
	f.StringSliceVar(&o.Grid.Policies, "policies", strings.Fields(
		"fcfs edf llf heft dream terastal terastal-novariants terastal-nobudgets"), "policies")
	f.IntVar(&o.Seeds, "seeds", 8, "seeds per combination")
	f.DurationVar(&o.Duration, "duration", 2*time.Second, "how long requests are released")
	f.StringVar(&o.Part, "shard", "1/1", "part of the grid to simulate, as I/N")
	f.IntVar(&o.Workers, "workers", runtime.NumCPU(), "simulations at a time")
	f.StringVar(&o.csv, "csv", "", "file to write (default: standard output)")
	f.Float64Var(&o.Drift, "drift", 0,
		"how much slower each accelerator becomes and recovers from, again and again: 0.3 means 30 %")
	f.Float64Var(&o.Interference, "interference", 0,
		"how much longer layers take for every other accelerator that is busy: 0.1 is 10 %")
	f.DurationVar(&o.Stall, "stall", 0, "how long all accelerators wait, once in every --stall-every: predictions leave it out")
	f.DurationVar(&o.StallEvery, "stall-every", 500*time.Millisecond, "periods of stalls, at an instant of each that the seed draws")
	f.DurationVar(&o.Overhead, "overhead", 0, "time added to every layer that predictions leave out")
	f.DurationVar(&o.SearchTime, "search-time", 0,
		"how long rollouts search next to dispatching (default: in no time, in decisions)")
	f.BoolVar(&o.Adapt, "adapt", false, "correct predictions by what layers took")
	var variations []string
	for _, v := range study.Variations() {
		variations = append(variations, v.Name+" ("+v.Short+")")
	}
	f.StringVar(&o.Variation, "variation", "", "change the scenarios, their load apart: "+strings.Join(variations, ", "))
	f.StringVar(&o.config, "config", "", "for `sweep curves`")
	f.MarkHidden("config")
}

// numbers is a flag for a list of numbers, whose default is shown as one would write it.
func numbers(f *pflag.FlagSet, to *[]float64, name string, value []float64, usage string) {
	f.Float64SliceVar(to, name, value, usage)
	if f.Lookup(name).DefValue = ""; len(value) > 0 {
		f.Lookup(name).DefValue = strings.ReplaceAll(fmt.Sprint(value), " ", ",")
	}
}

func (o *sweepOptions) run(cmd *cobra.Command) error {
	if o.config != "" {
		return usagef("`terastal sweep` simulates scenarios; for a configuration: "+
			"`terastal sweep curves --config %s`", o.config)
	}
	if len(o.Loads) > 0 && cmd.Flags().Changed("scales") {
		return usagef("--load and --scales both say how much traffic there is: give one of them")
	}
	o.Find = session.LoadScenario
	cells, err := o.Prepare(&o.Options)
	if err != nil {
		return session.UsageError{Err: err}
	}
	meter := o.progress(fmt.Sprintf("simulating %d cells", len(cells)))
	o.Progress = meter.Set
	results, err := study.Run(cmd.Context(), cells, o.Options)
	meter.Done()
	if err != nil {
		return err
	}
	return o.write(results)
}

// write writes results as CSV to a file, or to standard output; with --json they are the document too.
func (o *sweepOptions) write(results []study.Result) error {
	var b bytes.Buffer
	if err := study.WriteCSV(&b, results); err != nil {
		return err
	}
	switch {
	case o.csv != "":
		if err := document.WriteFile(o.csv, b.Bytes()); err != nil {
			return err
		}
		return o.written(results, fmt.Sprintf("%s, %d rows", o.csv, len(results)))
	case o.json:
		return o.document(results)
	}
	_, err := o.out.Write(b.Bytes())
	return err
}

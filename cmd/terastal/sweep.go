package main

import (
	"bytes"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/terastal/terastal/cmd/terastal/internal/study"
	"github.com/terastal/terastal/internal/document"
	"github.com/terastal/terastal/sched/scenario"
)

// paperScenarios are the published evaluation's scenario and hardware pairs.
var paperScenarios = []string{"paper/mcv_heavy", "paper/mcv_light", "paper/mcv_heavy@4K", "paper/ar_social@4K", "paper/ar_social@6K"}

type sweepOptions struct {
	*streams
	grid     study.Grid
	seeds    int
	duration time.Duration
	shard    string
	workers  int
	csv      string
	// What is not as predicted, for all combinations alike.
	drift, interference float64
	overhead            time.Duration
	searchTime          time.Duration
	adapt               bool
	variation           string
	config              string // only to say where it belongs
}

func newSweep(s *streams) *cobra.Command {
	o := sweepOptions{streams: s}
	cmd := &cobra.Command{
		Use:   "sweep",
		Short: "Simulate a grid of scenarios, traffic, rate scales and policies",
		Long: `Simulates every combination of the lists, in parallel, over several seeds, and
writes one CSV row per combination: the mean over models of the miss rate, its
95 % confidence interval over seeds, the accuracy delivered, and both by model.

A grid can be split over machines: each runs with --shard I/N and writes a file of
its own. The same command gives the same file, to the byte.
scripts/evaluation.py joins files, and makes the tables of docs/evaluation.

"sweep curves" shows how miss rates grow with the rates for one scenario, or for
a configuration of your own.`,
		Example: `  terastal sweep --csv sweep.csv
  terastal sweep --scenarios paper/mcv_heavy --scales 0.8,1,1.3,1.5 --policies edf,terastal
  terastal sweep --shard 3/8 --csv part3.csv
  terastal sweep curves --config my.yaml --load 1`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	f := cmd.Flags()
	f.StringSliceVar(&o.grid.Scenarios, "scenarios", paperScenarios, "published scenarios ('terastal simulate --scenario help' lists them)")
	f.StringSliceVar(&o.grid.Traffics, "traffic", []string{"periodic", "jitter", "aligned", "poisson", "bursts"}, "arrival processes")
	f.Float64SliceVar(&o.grid.Scales, "scales", []float64{0.8, 1, 1.3, 1.5}, "factors on all rates; deadlines stay")
	f.Float64SliceVar(&o.grid.Noises, "noise", []float64{0}, "sigmas of the lognormal factor on every layer's duration")
	f.StringSliceVar(&o.grid.Drops, "drop", []string{"late", "none"}, "drop policies")
	f.StringSliceVar(&o.grid.Policies, "policies", []string{"fcfs", "edf", "llf", "heft", "dream", "terastal", "terastal-novariants", "terastal-nobudgets"}, "policies")
	f.IntVar(&o.seeds, "seeds", 8, "seeds per combination")
	f.DurationVar(&o.duration, "duration", 2*time.Second, "how long requests are released")
	f.StringVar(&o.shard, "shard", "1/1", "part of the grid to simulate, as I/N")
	f.IntVar(&o.workers, "workers", runtime.NumCPU(), "simulations at a time")
	f.StringVar(&o.csv, "csv", "", "file to write (default: standard output)")
	f.Float64Var(&o.drift, "drift", 0, "how much slower each accelerator becomes and recovers from, again and again: 0.3 means 30 %")
	f.Float64Var(&o.interference, "interference", 0, "how much longer layers take for every other accelerator that is busy: 0.1 is 10 %")
	f.DurationVar(&o.overhead, "overhead", 0, "time added to every layer that predictions leave out")
	f.DurationVar(&o.searchTime, "search-time", 0, "how long rollouts search beside dispatching (default: in no time, in decisions)")
	f.BoolVar(&o.adapt, "adapt", false, "correct predictions by what layers took")
	var variations []string
	for _, v := range study.Variations() {
		variations = append(variations, v.Name+" ("+v.Short+")")
	}
	f.StringVar(&o.variation, "variation", "", "change the scenarios, their load apart: "+strings.Join(variations, ", "))
	f.StringVar(&o.config, "config", "", "for `sweep curves`")
	f.MarkHidden("config")
	cmd.AddCommand(newSweepCurves(s))
	return cmd
}

func (o *sweepOptions) run(cmd *cobra.Command) error {
	if o.config != "" {
		return usagef("`terastal sweep` simulates published scenarios; for a configuration: `terastal sweep curves --config %s`", o.config)
	}
	i, n, err := parseShard(o.shard)
	if err != nil {
		return usageError{err}
	}
	cells, err := o.grid.Cells()
	if err != nil {
		return usageError{err}
	}
	systems := map[string]scenario.Scenario{}
	for _, name := range o.grid.Scenarios {
		s, err := scenario.Load(name)
		if err != nil {
			return usageError{err}
		}
		if o.variation != "" {
			if s, err = study.Vary(s, o.variation); err != nil {
				return usageError{err}
			}
		}
		systems[name] = *s
	}
	if len(cells) == 0 {
		return usagef("an empty list: there is nothing to simulate")
	}
	cells = study.Shard(cells, i, n, len(o.grid.Policies))
	if o.seeds < 1 || o.duration <= 0 || o.workers < 1 {
		return usagef("--seeds %d, --duration %v, --workers %d: all must be positive", o.seeds, o.duration, o.workers)
	}
	if !(o.drift >= 0 && o.drift <= 100) || !(o.interference >= 0 && o.interference <= 100) || o.overhead < 0 || o.searchTime < 0 {
		return usagef("--drift %v, --interference %v, --overhead %v, --search-time %v: none may be negative, the first two are at most 100", o.drift, o.interference, o.overhead, o.searchTime)
	}
	meter := o.progress(fmt.Sprintf("simulating %d cells", len(cells)))
	results, err := study.Run(cmd.Context(), cells, study.Options{Seeds: o.seeds, Duration: o.duration, Workers: o.workers, Progress: meter.Set, Systems: systems,
		Drift: o.drift, Interference: o.interference, Overhead: o.overhead, SearchTime: o.searchTime, Adapt: o.adapt})
	meter.Done()
	if err != nil {
		return err
	}
	return o.streams.writeSweep(o.csv, results)
}

// writeSweep writes results as CSV to a file, or to standard output; with
// --json they are the document too.
func (s *streams) writeSweep(path string, results []study.Result) error {
	var b bytes.Buffer
	if err := study.WriteCSV(&b, results); err != nil {
		return err
	}
	if path == "" {
		if s.json {
			return s.document(results)
		}
		_, err := s.out.Write(b.Bytes())
		return err
	}
	if err := document.WriteFile(path, b.Bytes()); err != nil {
		return err
	}
	if err := printLines(s.text(), fmt.Sprintf("written: %s, %d rows", path, len(results))); err != nil {
		return err
	}
	return s.document(results)
}

func parseShard(s string) (i, n int, err error) {
	a, b, ok := strings.Cut(s, "/")
	i, err1 := strconv.Atoi(a)
	n, err2 := strconv.Atoi(b)
	if !ok || err1 != nil || err2 != nil || n < 1 || i < 1 || i > n {
		return 0, 0, fmt.Errorf("--shard %q: write I/N with I from 1 to N, such as 3/8", s)
	}
	return i, n, nil
}

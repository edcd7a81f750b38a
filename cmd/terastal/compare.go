package main

import (
	"github.com/spf13/cobra"

	"github.com/terastal/terastal/cmd/terastal/internal/comparison"
	"github.com/terastal/terastal/cmd/terastal/internal/config"
	"github.com/terastal/terastal/cmd/terastal/internal/session"
)

func newCompare(s *streams) *cobra.Command {
	o := playOptions{streams: s, comparing: &session.CompareOptions{}}
	cmd := &cobra.Command{
		Use:   "compare (--config FILE | --profile PLAN | --scenario NAME)",
		Short: "Compare policies on the same arrivals, real or simulated",
		Long: `Plays the same traffic under every policy, --repeats times: each repeat has
other arrivals (seed, seed + 1, ...), which all policies get, and another order
of policies. Prints medians over the repeats with 95 % intervals, and what
differs from the baseline: by Wilcoxon's signed-rank test of the differences
within repeats, at 5 %, with "~" where nothing does. It takes 6 repeats for any
difference to be significant.

With --aa the baseline plays twice in every repeat and is held against itself:
what comes out is the machine's noise, and if that is significant, the
comparison is INVALID.

A profile or a plan of any machine (--profile) can be compared on, with --simulated or
with --emulated, without its accelerators, providers and model files.

Results are those of "terastal run", with the comparison in result.json (or
simulated.json) and the logs of later repeats in POLICY.2.log.json and so on. An
interrupt ends the comparison with the repeats that are whole.`,
		Example: `  terastal compare --config my.yaml
  terastal compare --config my.yaml --simulated --policies fcfs,edf,terastal --load 1.1
  terastal compare --config my.yaml --policies pedf-novariants,pedf --accuracy 0.98
  terastal compare --profile other/plan.json.gz --simulated --load 0.9
  terastal compare --scenario hw/h100-5nets --simulated --policies fcfs,edf,terastal,pedf
  terastal compare --config my.yaml --aa --repeats 10 --baseline edf
  terastal compare --config my.yaml --policies unscheduled,fifo,pedf --json | jq .comparison`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.play(cmd) },
	}
	o.flags(cmd, "")
	config.AddFlags(cmd.Flags(), "accuracy")
	o.watchFlags(cmd)
	scenarioFlag(cmd, &o.scenario, onEmulated)
	o.emulatedFlag(cmd)
	f := cmd.Flags()
	f.BoolVar(&o.simulated, "simulated", false, "compare on the simulator instead of the accelerators")
	f.IntVar(&o.comparing.Repeats, "repeats", comparison.Enough,
		"how often each policy plays, each time with another seed")
	f.StringVar(&o.comparing.Baseline, "baseline", "", "policy that the others are held against (default: the first)")
	f.BoolVar(&o.comparing.AA, "aa", false, "let the baseline play twice in every repeat, to be held against itself")
	return cmd
}

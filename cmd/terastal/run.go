package main

import "github.com/spf13/cobra"

func newRun(s *streams) *cobra.Command {
	o := playOptions{streams: s}
	cmd := &cobra.Command{
		Use:   "run (--config FILE | --scenario NAME)",
		Short: "Run the configured models on the real accelerators",
		Long: `Splits the models, measures their layers (or uses the profile of an earlier run
when it still fits), plans budgets, and plays the configured traffic on the real
accelerators. Prints miss rates and latencies; writes plan.json, result.json, and
for every policy the event log and a trace for ui.perfetto.dev, to the output
folder.

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
	cmd.Flags().BoolVar(&o.real.TraceORT, "ort-trace", false, "put the nodes that ONNX Runtime's own profiler saw into "+
		"the traces, below their layers; it makes layers take longer, so that the run is INVALID")
	return cmd
}

package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/terastal/terastal/internal/flow"
	"github.com/terastal/terastal/internal/report"
	"github.com/terastal/terastal/sched/eventlog"
)

func newReport(s *streams) *cobra.Command {
	var trace string
	cmd := &cobra.Command{
		Use:   "report LOG...",
		Short: "Print miss rates and latencies from event logs",
		Long: `Computes miss rates, latencies and utilisation from the event logs that "run" and
"simulate" write, real or simulated, and can write a log as a trace for
ui.perfetto.dev.`,
		Example: `  terastal report out/terastal.log.json
  terastal report out/*.log.json --json
  terastal report out/terastal.log.json --trace terastal.trace.json`,
		Args: atLeastOne("event log"),
		RunE: func(_ *cobra.Command, args []string) error {
			if trace != "" && len(args) != 1 {
				return usagef("--trace takes one log, got %d", len(args))
			}
			return reportLogs(s, args, trace)
		},
	}
	cmd.Flags().StringVar(&trace, "trace", "", "also write the log as a Chrome trace to this file")
	return cmd
}

func reportLogs(s *streams, paths []string, trace string) error {
	var metrics []eventlog.Metrics
	for _, path := range paths {
		log, err := eventlog.Read(path)
		if err != nil {
			return err
		}
		metrics = append(metrics, log.Metrics())
		if trace != "" {
			if err := flow.WriteTrace(log, trace); err != nil {
				return err
			}
			fmt.Fprintf(s.err, "written: %s\n", trace)
		}
	}
	report.Policies(s.text(), metrics)
	return s.document(metrics)
}

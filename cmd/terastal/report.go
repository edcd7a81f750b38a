package main

import (
	"github.com/spf13/cobra"

	"github.com/terastal/terastal/internal/report"
	"github.com/terastal/terastal/sched/eventlog"
)

func newReport(s *streams) *cobra.Command {
	var files exports
	cmd := &cobra.Command{
		Use:   "report LOG...",
		Short: "Print miss rates and latencies from event logs, and export them",
		Long: `Computes miss rates, latencies and utilisation from the event logs that "run" and
"simulate" write, real or simulated. It can write a log as a trace for
ui.perfetto.dev, and logs as tables (a row per job, or per run of a layer) or as
results of Go benchmarks for benchstat. docs/FORMATS.md describes the files.`,
		Example: `  terastal report out/terastal.log.json
  terastal report out/*.log.json --json
  terastal report out/terastal.log.json --trace terastal.trace.json
  terastal report out/*.log.json --csv jobs.csv --layers-csv layers.csv
  terastal report out/*.log.json --bench runs.txt && benchstat -col /policy runs.txt`,
		Args: atLeastOne("event log"),
		RunE: func(_ *cobra.Command, args []string) error {
			return reportLogs(s, args, &files)
		},
	}
	files.flags(cmd)
	return cmd
}

func reportLogs(s *streams, paths []string, files *exports) error {
	if err := files.check(len(paths)); err != nil {
		return err
	}
	var logs []*eventlog.Log
	var metrics []eventlog.Metrics
	for _, path := range paths {
		log, err := eventlog.Read(path)
		if err != nil {
			return err
		}
		logs, metrics = append(logs, log), append(metrics, log.Metrics())
	}
	if err := files.write(s.err, logs); err != nil {
		return err
	}
	report.Policies(s.text(), metrics)
	return s.document(metrics)
}

package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/terastal/terastal/cmd/terastal/internal/view"
	"github.com/terastal/terastal/internal/document"
	"github.com/terastal/terastal/sched/eventlog"
)

// reportOptions are the flags of report.
type reportOptions struct {
	*streams
	exports
	html string
}

func newReport(s *streams) *cobra.Command {
	o := reportOptions{streams: s}
	cmd := &cobra.Command{
		Use:   "report (DIR | LOG...)",
		Short: "Make an HTML report of a folder of results; print miss rates and latencies from logs",
		Long: `With a folder that "run", "compare", "simulate" or "demo" wrote to: makes one HTML
file of everything in it: who won, miss rates, response times, a timeline of the
accelerators, layers, budgets, accuracy, validations, sweeps, provenance. The file
needs no network and opens from disk. docs/REPORT.md says what each part shows.
Prints the comparison, where the folder has one, else miss rates and latencies of
every run, and what validations and curves in the folder came to; --json prints
the figures of every run in either case.

With event logs, real or simulated: computes miss rates, latencies and
utilisation, and can write a report of them (--html). Of both, it can write a log as
a trace for ui.perfetto.dev, and logs as tables (a row per request, or per run of a
layer) or as results of Go benchmarks for benchstat. docs/FORMATS.md describes the
files.`,
		Example: `  terastal report out
  terastal report out --html rollout-against-edf.html
  terastal report out/terastal.log.json
  terastal report out/*.log.json --json
  terastal report out/terastal.log.json --trace terastal.trace.json
  terastal report out/*.log.json --csv requests.csv --layers-csv layers.csv
  terastal report out --bench runs.txt && benchstat -col /policy runs.txt`,
		Args: atLeastOne("folder or event log"),
		RunE: func(_ *cobra.Command, args []string) error { return o.run(args) },
	}
	cmd.Flags().StringVar(&o.html, "html", "",
		"file for the HTML report (default: "+view.FileName+" in the folder; none for logs)")
	o.exports.flags(cmd)
	return cmd
}

func (o *reportOptions) run(args []string) error {
	p, err := o.open(args)
	if err != nil {
		return err
	}
	if err := o.check(len(p.Logs)); err != nil {
		return err
	}
	p.Text(o.text())
	var logs []*eventlog.Log
	for _, l := range p.Logs {
		logs = append(logs, l.Log)
	}
	if err := o.exports.write(o.err, logs); err != nil {
		return err
	}
	if o.html != "" {
		if err := p.Write(o.html); err != nil {
			return err
		}
		fmt.Fprintf(o.err, "written: %s (open it in a browser)\n", o.html)
	}
	return o.document(p.Metrics())
}

// open reads a folder, for which it sets where the report goes, or logs.
func (o *reportOptions) open(args []string) (*view.Page, error) {
	for _, path := range args {
		info, err := os.Stat(path)
		if err != nil || !info.IsDir() {
			continue // what reads it says what is wrong
		}
		if len(args) > 1 {
			return nil, usagef("give one folder, or event logs; got %s and %d more", path, len(args)-1)
		}
		if o.html == "" {
			o.html = filepath.Join(path, view.FileName)
		}
		return view.Open(path)
	}
	return view.OpenLogs(args)
}

// exports are files that event logs are written to for other tools; empty paths are left out.
type exports struct{ trace, requests, layers, bench string }

func (e *exports) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&e.trace, "trace", "", "also write the log as a Chrome trace to this file")
	cmd.Flags().StringVar(&e.requests, "csv", "", "also write a row per request to this CSV file")
	cmd.Flags().StringVar(&e.layers, "layers-csv", "", "also write a row per run of a layer to this CSV file")
	cmd.Flags().StringVar(&e.bench, "bench", "", "also write the metrics as results of Go benchmarks, which benchstat "+
		"compares, to this file")
}

// check refuses what cannot be written of so many logs.
func (e *exports) check(logs int) error {
	if e.trace != "" && logs != 1 {
		return usagef("--trace takes one log, got %d", logs)
	}
	return nil
}

// write writes the files and names each on w.
func (e *exports) write(w io.Writer, logs []*eventlog.Log) error {
	for _, f := range []struct {
		path  string
		write func(io.Writer) error
	}{
		{e.trace, func(w io.Writer) error { return logs[0].WriteTrace(w) }},
		{e.requests, func(w io.Writer) error { return eventlog.WriteJobsCSV(w, logs...) }},
		{e.layers, func(w io.Writer) error { return eventlog.WriteLayersCSV(w, logs...) }},
		{e.bench, func(w io.Writer) error { return eventlog.WriteBench(w, logs...) }},
	} {
		if f.path == "" {
			continue
		}
		if err := document.WriteStream(f.path, f.write); err != nil {
			return err
		}
		fmt.Fprintf(w, "written: %s\n", f.path)
	}
	return nil
}

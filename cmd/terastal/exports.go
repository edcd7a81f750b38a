package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/terastal/terastal/internal/document"
	"github.com/terastal/terastal/sched/eventlog"
)

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

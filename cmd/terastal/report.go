package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/terastal/terastal/cmd/terastal/internal/result"
	"github.com/terastal/terastal/cmd/terastal/internal/view"
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
a trace for ui.perfetto.dev, and logs as tables (a row per job, or per run of a
layer) or as results of Go benchmarks for benchstat. docs/FORMATS.md describes the
files.`,
		Example: `  terastal report out
  terastal report out --html rollout-against-edf.html
  terastal report out/terastal.log.json
  terastal report out/*.log.json --json
  terastal report out/terastal.log.json --trace terastal.trace.json
  terastal report out/*.log.json --csv jobs.csv --layers-csv layers.csv
  terastal report out --bench runs.txt && benchstat -col /policy runs.txt`,
		Args: atLeastOne("folder or event log"),
		RunE: func(_ *cobra.Command, args []string) error { return o.run(args) },
	}
	cmd.Flags().StringVar(&o.html, "html", "", "file for the HTML report (default: "+view.FileName+" in the folder; none for logs)")
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
	o.tables(p)
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

// tables prints what the report is of: the comparison of a result that has one,
// and a table of the logs that no comparison is of; a line for what else was
// found out about them.
func (o *reportOptions) tables(p *view.Page) {
	w := o.text()
	first := true
	next := func() { // block of text
		if !first {
			fmt.Fprintln(w)
		}
		first = false
	}
	compared := map[string]bool{} // by driver
	for i := range p.Results {
		if r := &p.Results[i]; r.Comparison != nil {
			compared[r.Driver] = true
			next()
			view.PoliciesCompared(w, r)
		}
	}
	var rest []eventlog.Metrics
	for _, l := range p.Logs {
		if !compared[l.Header.Driver] {
			rest = append(rest, l.Metrics())
		}
	}
	if len(rest) > 0 {
		next()
		view.Policies(w, rest)
	}
	if len(p.Validations)+len(p.Curves) > 0 {
		next()
	}
	for i := range p.Validations {
		view.ValidationLine(w, &p.Validations[i])
	}
	for i := range p.Curves {
		view.CurvesLine(w, &p.Curves[i])
	}
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

// maxPageBytes bounds the logs from which a verb that plays traffic makes the
// report by itself: reading them back takes a second per 20 MB or so, and several
// times their size in memory.
const maxPageBytes = 400 << 20

// refreshPage makes the report of a folder anew that more was just found out
// about, if it has results.
func (s *streams) refreshPage(dir string) {
	for _, r := range []result.Result{{Driver: eventlog.Real}, {Driver: eventlog.Simulated}} {
		if _, err := os.Stat(filepath.Join(dir, r.FileName())); err == nil {
			s.writePage(dir)
			return
		}
	}
}

// writePage makes the report of a folder that results were just written to, and
// says so. What it cannot show is no fault of the run.
func (s *streams) writePage(dir string) {
	if n := logBytes(dir); n > maxPageBytes {
		fmt.Fprintf(s.err, "no %s was made, because the logs take %d MB: `terastal report %s` makes it\n", view.FileName, n>>20, dir)
		return
	}
	path := filepath.Join(dir, view.FileName)
	p, err := view.Open(dir)
	if err == nil {
		err = p.Write(path)
	}
	if err != nil {
		fmt.Fprintf(s.err, "no %s was made: %v\n", view.FileName, err)
		return
	}
	fmt.Fprintf(s.text(), "report: %s (open it in a browser)\n", path)
}

// logBytes is the size of a folder's event logs.
func logBytes(dir string) (n int64) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0
	}
	for _, e := range entries {
		var info fs.FileInfo
		if info, err = e.Info(); err == nil && strings.HasSuffix(e.Name(), ".log.json") {
			n += info.Size()
		}
	}
	return n
}

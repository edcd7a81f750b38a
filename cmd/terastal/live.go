package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/terastal/terastal/cmd/terastal/internal/live"
	"github.com/terastal/terastal/runtime"
)

// watchOptions say how a run is watched.
type watchOptions struct{ metrics, log string }

// watchFlags defines the flags of verbs that run for real.
func (o *watchOptions) watchFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.metrics, "metrics", "", "serve Prometheus metrics of the run at this address, such as :9464 (this machine only) or 0.0.0.0:9464")
	cmd.Flags().StringVar(&o.log, "log", "", "write structured log lines (JSON) to this file while running; - for standard error")
}

// watch opens what the flags ask for, and a live view on a terminal. It returns
// what is to be called as a run goes on, nil where nobody watches, and what
// closes it.
func (s *streams) watch(o *watchOptions) (update func(string, runtime.Stats, time.Duration), done func() error, err error) {
	var updates []func(string, runtime.Stats, time.Duration)
	var closers []func() error
	done = func() (err error) {
		for _, c := range closers {
			err = errors.Join(err, c())
		}
		return err
	}
	if o.metrics != "" {
		e, err := live.Export(o.metrics)
		if err != nil {
			return nil, nil, usageError{err}
		}
		fmt.Fprintf(s.err, "metrics at http://%s/metrics\n", e.Addr())
		closers = append(closers, e.Close)
		updates = append(updates, func(policy string, st runtime.Stats, _ time.Duration) { e.Update(policy, st) })
	}
	if o.log != "" {
		var w io.Writer = s.err
		if o.log != "-" {
			f, err := os.Create(o.log)
			if err != nil {
				return nil, nil, errors.Join(fmt.Errorf("--log: %w", err), done())
			}
			closers = append(closers, f.Close)
			w = f
		}
		l := live.NewLogger(slog.New(slog.NewJSONHandler(w, nil)))
		updates = append(updates, func(policy string, st runtime.Stats, _ time.Duration) { l.Update(policy, st) })
	}
	if f, ok := s.err.(*os.File); ok && term.IsTerminal(int(f.Fd())) && o.log != "-" {
		v := live.NewView(f)
		closers = append(closers, func() error { v.Clear(); return nil })
		updates = append(updates, v.Update)
	}
	if len(updates) == 0 {
		return nil, done, nil
	}
	return func(policy string, st runtime.Stats, total time.Duration) {
		for _, u := range updates {
			u(policy, st, total)
		}
	}, done, nil
}

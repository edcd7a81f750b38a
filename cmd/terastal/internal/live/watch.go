package live

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"golang.org/x/term"

	"github.com/terastal/terastal/runtime"
)

// Options say who watches a run besides people at a terminal.
type Options struct {
	// Metrics is the address to serve Prometheus metrics at; empty for none.
	Metrics string
	// Log is the file for structured log lines, - for standard error; empty for none.
	Log string
}

// Update tells how a run of a policy stands, and how long requests are released in all.
type Update func(policy string, s runtime.Stats, total time.Duration)

// ErrAddress is wrapped by errors about the address of the metrics.
var ErrAddress = errors.New("metrics")

// Watch opens what the options ask for, and a live view where stderr is a terminal. It returns what is to be called
// while a run is under way, nil where nobody watches, and what closes it.
func Watch(o Options, stderr io.Writer) (update Update, done func() error, err error) {
	var updates []Update
	var closers []func() error
	done = func() (err error) {
		for _, c := range closers {
			err = errors.Join(err, c())
		}
		return err
	}
	if o.Metrics != "" {
		e, err := Export(o.Metrics)
		if err != nil {
			return nil, nil, err
		}
		fmt.Fprintf(stderr, "metrics at http://%s/metrics\n", e.Addr())
		closers = append(closers, e.Close)
		updates = append(updates, func(policy string, st runtime.Stats, _ time.Duration) { e.Update(policy, st) })
	}
	if o.Log != "" {
		w := stderr
		if o.Log != "-" {
			f, err := os.Create(o.Log)
			if err != nil {
				return nil, nil, errors.Join(fmt.Errorf("--log: %w", err), done())
			}
			closers = append(closers, f.Close)
			w = f
		}
		l := NewLogger(slog.New(slog.NewJSONHandler(w, nil)))
		updates = append(updates, func(policy string, st runtime.Stats, _ time.Duration) { l.Update(policy, st) })
	}
	if f, ok := stderr.(*os.File); ok && term.IsTerminal(int(f.Fd())) && o.Log != "-" {
		v := NewView(f)
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

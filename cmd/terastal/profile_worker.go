package main

import (
	"errors"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/terastal/terastal/cmd/terastal/internal/session"
	"github.com/terastal/terastal/profiler"
)

// newProfileWorker is what measures one accelerator, for this program's own use.
func newProfileWorker() *cobra.Command {
	return &cobra.Command{
		Use:    "worker",
		Short:  "Measure on one accelerator as another process asks",
		Hidden: true,
		Args:   noArgs,
		RunE: func(*cobra.Command, []string) error {
			// Ctrl-C is for the process that asks.
			signal.Ignore(os.Interrupt)
			err := session.Work(&lifeline{os.Stdin}, profiler.Output())
			if errors.Is(err, syscall.EPIPE) {
				return nil // nobody listens any more
			}
			return err
		},
	}
}

// lifeline ends the process some time after the one that asks has gone, whatever native code is doing.
type lifeline struct{ io.Reader }

// lastWords is how long a worker may take to end by itself.
const lastWords = 8 * time.Second

func (l *lifeline) Read(b []byte) (int, error) {
	n, err := l.Reader.Read(b)
	if err != nil {
		time.AfterFunc(lastWords, func() { os.Exit(exitFailed) })
	}
	return n, err
}

package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/terastal/terastal/internal/child"
)

// ProbeTimeout is how long a provider may take to open.
const ProbeTimeout = 20 * time.Second

// Child makes an Options.Probe that probes in a child process, because a
// broken driver can crash the process or hang it. command is what to run for
// a library and a provider: it exits with 0 when the provider opens, else it
// writes the reason as its last line of standard error.
func Child(timeout time.Duration, command func(library, provider string) []string) func(context.Context, string, string) error {
	return func(ctx context.Context, library, provider string) error {
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		args := command(library, provider)
		cmd := exec.CommandContext(ctx, args[0], args[1:]...)
		// A driver may leave a process behind that holds the pipe.
		cmd.WaitDelay = time.Second
		var stderr child.Tail
		cmd.Stderr = &stderr
		err := cmd.Run()
		switch {
		case err == nil:
			return nil
		case errors.Is(ctx.Err(), context.DeadlineExceeded):
			return fmt.Errorf("it did not open within %s", timeout)
		case ctx.Err() != nil:
			return ctx.Err()
		}
		return reason(err, stderr.Line())
	}
}

// reason says why a child failed: its own last words, else how it ended.
func reason(err error, last string) error {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return fmt.Errorf("it could not be probed: %w", err)
	}
	if child.Crashed(err) || last == "" {
		return fmt.Errorf("it crashed: %s", exit.ProcessState)
	}
	return errors.New(strings.TrimPrefix(last, "terastal: "))
}

// Self is the command that probes with this very program: its hidden
// subcommand `doctor probe`.
func Self() (func(library, provider string) []string, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("finding this program's own file to probe with: %w", err)
	}
	return func(library, provider string) []string {
		return []string{exe, "--ort", library, "doctor", "probe", provider}
	}, nil
}

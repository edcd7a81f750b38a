package doctor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
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
		var stderr tail
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
		return reason(err, stderr.String())
	}
}

// reason says why a child failed: its own words, else how it ended.
func reason(err error, stderr string) error {
	lines := strings.Split(strings.TrimSpace(stderr), "\n")
	last := strings.TrimSpace(lines[len(lines)-1])
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return fmt.Errorf("it could not be probed: %w", err)
	}
	if exit.ExitCode() == crashed(exit) || last == "" {
		return fmt.Errorf("it crashed: %s", exit.ProcessState)
	}
	return errors.New(strings.TrimPrefix(last, "terastal: "))
}

// crashed is the exit code of a process that ended by a signal, or by Go's
// own crash report (2, which a probe never uses for anything else).
func crashed(exit *exec.ExitError) int {
	if exit.ExitCode() == -1 {
		return -1
	}
	return 2
}

// tail keeps the end of what is written to it.
type tail struct{ bytes.Buffer }

const tailBytes = 16 << 10

func (t *tail) Write(p []byte) (int, error) {
	n := len(p)
	t.Buffer.Write(p)
	if extra := t.Len() - tailBytes; extra > 0 {
		t.Next(extra)
	}
	return n, nil
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

package profiler

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/terastal/terastal/internal/child"
)

// Conn is a measuring process that runs: requests are written to it and answers read from it.
type Conn interface {
	io.ReadWriter
	// Close ends the process, by force if it does not end by itself, and says how it ended: nil if in order.
	Close() error
	// Kill ends the process by force.
	Kill()
}

// processEnds is how long a process may take to free what it has.
const processEnds = 10 * time.Second

// Start starts a measuring process. Its program has to call [Serve] with its standard input and, as the output,
// [Output]: file descriptor 3, so that what native libraries print cannot get in between.
func Start(cmd *exec.Cmd) (Conn, error) {
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("measuring process: %w", err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("measuring process: %w", err)
	}
	var stderr child.Tail
	cmd.ExtraFiles = []*os.File{w}
	cmd.Stderr = &stderr
	cmd.WaitDelay = time.Second // a driver may leave something behind that holds the pipe
	err = cmd.Start()
	w.Close()
	if err != nil {
		r.Close()
		return nil, fmt.Errorf("measuring process: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	kill := func() { cmd.Process.Kill() }
	return conn{r, in, kill, sync.OnceValue(func() error {
		in.Close()
		defer r.Close()
		select {
		case err := <-ended:
			return reason(err, &stderr)
		case <-time.After(processEnds):
			kill()
			return reason(<-ended, &stderr)
		}
	})}, nil
}

// Output is where a process that [Start] started writes its answers.
func Output() *os.File { return os.NewFile(3, "answers") }

// conn is a Conn of its parts.
type conn struct {
	io.Reader
	io.Writer
	kill  func()
	close func() error
}

func (c conn) Kill()        { c.kill() }
func (c conn) Close() error { return c.close() }

// reason says how a process ended.
func reason(err error, stderr *child.Tail) error {
	var exit *exec.ExitError
	switch {
	case err == nil || errors.Is(err, exec.ErrWaitDelay):
		return nil
	case errors.As(err, &exit) && (child.Crashed(err) || stderr.Line() == ""):
		return fmt.Errorf("crashed: %s", exit.ProcessState)
	case errors.As(err, &exit):
		return errors.New(stderr.Line())
	}
	return err
}

// inProcess measures in this process. Killed, it lets go of what measures, which runs on.
func inProcess(t Task, accelerator int) Conn {
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	done := make(chan error, 2)
	go func() {
		err := Serve(inR, outW, t, accelerator)
		outW.CloseWithError(io.EOF)
		inR.Close()
		done <- err
	}()
	silence := func() {
		inW.Close()
		outR.Close() // what it still says, nobody hears
	}
	return conn{outR, inW, func() { silence(); done <- nil }, sync.OnceValue(func() error {
		silence()
		if err := <-done; !errors.Is(err, io.ErrClosedPipe) {
			return err
		}
		return nil
	})}
}

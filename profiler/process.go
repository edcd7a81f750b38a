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

// Conn is a measuring process that runs: requests are written to it and answers
// read from it.
type Conn interface {
	io.ReadWriter
	// Close ends the process, by force if it does not end by itself, and says how
	// it ended: nil if in order.
	Close() error
	// Kill ends the process by force.
	Kill()
}

// processEnds is how long a process may take to free what it has.
const processEnds = 10 * time.Second

// Start starts a measuring process. Its program has to call [Serve] with its
// standard input and, as the output, [Output]: file descriptor 3, so that what
// native libraries print cannot get in between.
func Start(cmd *exec.Cmd) (Conn, error) {
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("measuring process: %w", err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("measuring process: %w", err)
	}
	p := &process{cmd: cmd, in: in, out: r, ended: make(chan struct{})}
	cmd.ExtraFiles = []*os.File{w}
	cmd.Stderr = &p.stderr
	cmd.WaitDelay = time.Second // a driver may leave something behind that holds the pipe
	err = cmd.Start()
	w.Close()
	if err != nil {
		r.Close()
		return nil, fmt.Errorf("measuring process: %w", err)
	}
	go func() {
		p.err = cmd.Wait()
		close(p.ended)
	}()
	return p, nil
}

// Output is where a process that [Start] started writes its answers.
func Output() *os.File { return os.NewFile(3, "answers") }

type process struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *os.File
	stderr child.Tail
	ended  chan struct{}
	err    error // after ended
	once   sync.Once
	closed error
}

func (p *process) Read(b []byte) (int, error)  { return p.out.Read(b) }
func (p *process) Write(b []byte) (int, error) { return p.in.Write(b) }
func (p *process) Kill()                       { p.cmd.Process.Kill() }

func (p *process) Close() error {
	p.once.Do(func() {
		p.in.Close()
		select {
		case <-p.ended:
		case <-time.After(processEnds):
			p.Kill()
			<-p.ended
		}
		p.out.Close()
		p.closed = p.reason()
	})
	return p.closed
}

// reason says how the process ended.
func (p *process) reason() error {
	var exit *exec.ExitError
	switch {
	case p.err == nil || errors.Is(p.err, exec.ErrWaitDelay):
		return nil
	case errors.As(p.err, &exit) && (child.Crashed(p.err) || p.stderr.Line() == ""):
		return fmt.Errorf("crashed: %s", exit.ProcessState)
	case errors.As(p.err, &exit):
		return errors.New(p.stderr.Line())
	}
	return p.err
}

// inProcess measures in this process.
func inProcess(t Task, accelerator int) Conn {
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	l := &local{r: outR, w: inW, done: make(chan error, 1)}
	go func() {
		err := Serve(inR, outW, t, accelerator)
		outW.CloseWithError(io.EOF)
		inR.Close()
		l.done <- err
	}()
	return l
}

type local struct {
	r    *io.PipeReader
	w    *io.PipeWriter
	done chan error
	once sync.Once
	err  error
}

func (l *local) Read(b []byte) (int, error)  { return l.r.Read(b) }
func (l *local) Write(b []byte) (int, error) { return l.w.Write(b) }

// Kill lets go of what measures, which runs on.
func (l *local) Kill() {
	l.w.Close()
	l.r.Close()
	l.once.Do(func() {})
}

func (l *local) Close() error {
	l.once.Do(func() {
		l.w.Close()
		l.r.Close() // what it still says, nobody hears
		l.err = <-l.done
		if errors.Is(l.err, io.ErrClosedPipe) {
			l.err = nil
		}
	})
	return l.err
}

package doctor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/terastal/terastal/internal/child"
	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/runtime"
)

// ProbeTimeout is how long a provider may take to open.
const ProbeTimeout = 20 * time.Second

// Probe opens an accelerator and says what its device offers, or why it does not open.
type Probe func(ctx context.Context, library string, s runtime.Spec) (runtime.Offer, error)

// Child makes a Probe that works in a child process, because a broken driver can crash the process or hang it. command
// is what to run for a library and an accelerator: when the accelerator opens it writes what its device offers as its
// last line of standard output, and exits with 0, else it writes the reason as its last line of standard error.
func Child(timeout time.Duration, command func(library string, s runtime.Spec) []string) Probe {
	return func(ctx context.Context, library string, s runtime.Spec) (o runtime.Offer, err error) {
		out, err := output(ctx, timeout, command(library, s))
		if err != nil {
			return o, err
		}
		lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
		if json.Unmarshal(lines[len(lines)-1], &o) != nil {
			o = runtime.Offer{} // a driver had the last word
		}
		return o, nil
	}
}

// InspectChild makes an Options.Inspect that loads libraries in a child process.
// command is what to run: it writes an Inspection to standard output.
func InspectChild(timeout time.Duration, command func(library, provider, plugin string) []string,
) func(ctx context.Context, library, provider, plugin string) (Inspection, error) {
	return func(ctx context.Context, library, provider, plugin string) (Inspection, error) {
		out, err := output(ctx, timeout, command(library, provider, plugin))
		if err != nil {
			return Inspection{}, err
		}
		var i Inspection
		if err := json.Unmarshal(out, &i); err != nil {
			return Inspection{}, fmt.Errorf("what it wrote is not an inspection: %w", err)
		}
		return i, nil
	}
}

// output runs a child and gives its standard output.
func output(ctx context.Context, timeout time.Duration, args []string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	// A driver may leave a process behind that holds the pipe.
	cmd.WaitDelay = time.Second
	var stdout bytes.Buffer
	var stderr child.Tail
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	switch {
	case err == nil:
		return stdout.Bytes(), nil
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return nil, fmt.Errorf("it did not open within %s", timeout)
	case ctx.Err() != nil:
		return nil, ctx.Err()
	}
	return nil, reason(err, stderr.Line())
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

// probed is an accelerator on its way to a child.
type probed struct {
	Spec  runtime.Spec  `json:"spec"`
	Local runtime.Local `json:"local"`
}

// Program is this very program's file, which is started again for what may crash.
func Program() string {
	exe, err := os.Executable()
	if err != nil {
		return os.Args[0]
	}
	return exe
}

// Self is the command that probes with this very program: its hidden subcommand `doctor probe`, which calls Serve.
func Self(library string, s runtime.Spec) []string {
	text, err := json.Marshal(probed{s, s.Local})
	if err != nil {
		panic("doctor: an accelerator has no JSON: " + err.Error())
	}
	return []string{Program(), "--ort", library, "doctor", "probe", string(text)}
}

// SelfInspect is the command that inspects with this very program: its hidden subcommand `doctor inspect`.
func SelfInspect(library, provider, plugin string) []string {
	return []string{Program(), "--ort", library, "doctor", "inspect", provider, plugin}
}

// Serve is a child that probes: text is the last argument that Self gives it, out its standard output.
func Serve(library, text string, out io.Writer) error {
	var p probed
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		return fmt.Errorf("probing: %w", err)
	}
	if _, err := ort.Start(library); err != nil {
		return err
	}
	p.Spec.Local = p.Local
	if err := p.Spec.Probe(); err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(p.Spec.Offer())
}

// Inspection is what a library and a plugin offer.
type Inspection struct {
	Built   []string     `json:"built"`   // providers that ONNX Runtime was built with
	Devices []ort.Device `json:"devices"` // of the plugin
}

// Inspect loads a library, and a plugin unless that is empty.
func Inspect(library, provider, plugin string) (i Inspection, err error) {
	if _, err := ort.Start(library); err != nil {
		return i, err
	}
	if i.Built, err = ort.Available(); err != nil {
		return i, err
	}
	if plugin != "" {
		i.Devices, err = ort.Devices(provider, plugin)
	}
	return i, err
}

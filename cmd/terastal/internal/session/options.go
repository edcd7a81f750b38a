// Package session is the path that the verbs of the command line share: from a configuration to accelerators, layers, a
// profile, a plan, runs and their results. The public packages do the work; this one connects them.
//
// [Open] makes a [Workspace] of a configuration: the machine and the models, which are measured and get layer variants.
// Its plan is a [Session], which plays traffic on the accelerators or in the simulator. [Prepare] and
// [OpenScenario] make sessions without a workspace, of latencies from tables.
package session

import (
	"fmt"
	"os/exec"

	"github.com/terastal/terastal/runtime"
)

// Options say where a session gets what the configuration does not name.
type Options struct {
	ORT string // explicit path of the ONNX Runtime library
	// Root is the folder that files may be read from; empty means the configuration's.
	Root string
	// EqualShares says that rates are to be set by [Workspace.EqualShares], so that those of the configuration mean nothing.
	EqualShares bool
	// Plugins are the libraries of providers by name, as the user gave them.
	Plugins map[string]string
	// Probe opens an accelerator in another process, so that a provider that crashes or writes to the terminal harms
	// nothing here, and says what its device offers.
	Probe func(library string, s runtime.Spec) (runtime.Offer, error)
	// Worker makes the command that calls [Work] with its standard input and [profiler.Output].
	Worker func() *exec.Cmd
	// Profile is where the profile is or will be, if not in the configuration's output folder.
	Profile string
	// Emulated has the profile played on accelerators that take as long as it says and compute nothing.
	Emulated bool
	// Progress shows long work; Note prints a line for people.
	Progress func(what string) Meter
	Note     func(format string, args ...any)

	open opening // of tests: opens accelerators in place of ONNX Runtime's
}

// Meter shows how far one piece of long work is.
type Meter interface {
	Set(share float64) // 0 to 1, from any goroutine
	Done()
}

// Discard is a progress function for when nobody looks.
func Discard(string) Meter { return nothing{} }

type nothing struct{}

func (nothing) Set(float64) {}
func (nothing) Done()       {}

// UsageError is an error that users fix by changing what they typed.
type UsageError struct{ Err error }

func (e UsageError) Error() string { return e.Err.Error() }
func (e UsageError) Unwrap() error { return e.Err }

// Usagef formats a UsageError.
func Usagef(format string, args ...any) error { return UsageError{fmt.Errorf(format, args...)} }

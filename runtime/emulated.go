package runtime

import (
	"fmt"
	"sync"
	"time"

	"github.com/terastal/terastal/models"
)

// EmulatedProvider is the Provider of an emulated accelerator's Spec. OpenORT does not open it: OpenEmulated does.
const EmulatedProvider = "emulated"

// Emulation describes an accelerator that is not here: its kernels take as long as a table says.
type Emulation struct {
	Name string
	// Latency is how long a unit takes, above zero; false where the accelerator cannot run it.
	Latency func(Unit) (time.Duration, bool)
	// Takes, if not nil, makes what says how long each run of a unit takes, in place of Latency. It is called by the
	// thread that runs the accelerator's kernels, with the tensors of the run.
	Takes func(Unit) func(in, out []*Tensor) time.Duration
	// Inner, if not nil, really computes the layers, so that outputs mean something. A layer takes the longer of the
	// two times. Without it outputs hold anything.
	Inner Accelerator
	// Cores are what the waiting thread is pinned to, without Inner; empty for any.
	Cores []int
}

// OpenEmulated makes the accelerator. Its thread sleeps through most of a layer's latency and spins through the last
// tenth of a millisecond, so that several fit on a core while their layers are longer than that.
func OpenEmulated(e Emulation) (Accelerator, error) {
	if e.Name == "" || e.Latency == nil {
		return nil, fmt.Errorf("%w: an emulated accelerator needs a name and latencies", ErrSpec)
	}
	inner := e.Inner
	if inner == nil {
		inner = nothing{e.Cores}
	}
	return &emulated{Accelerator: inner, as: e}, nil
}

// Emulate opens an emulated accelerator with these latencies, which computes on the CPU where its options say so.
func (s Spec) Emulate(latency func(Unit) (time.Duration, bool), trace *ORTTrace) (Accelerator, error) {
	e := Emulation{Name: s.Name, Latency: latency, Cores: s.Cores}
	if s.Computes() {
		var err error
		inner := Spec{Name: s.Name, Optimization: s.Optimization, Threads: s.Threads, Cores: s.Cores}
		if e.Inner, err = new(Devices).OpenTraced(inner, trace); err != nil {
			return nil, err
		}
	}
	return OpenEmulated(e)
}

// emulated takes as long as a table says, whatever the accelerator takes that it stands for.
type emulated struct {
	Accelerator
	as    Emulation
	whole sync.Mutex // of whole models, one runs at a time
}

func (a *emulated) Name() string { return a.as.Name }

// Computes reports whether outputs mean something.
func (a *emulated) Computes() bool { return computes(a.Accelerator) }

func (a *emulated) Prepare(u Unit) (Kernel, error) {
	latency, ok := a.as.Latency(u)
	if !ok {
		return nil, fmt.Errorf("accelerator %q has no latency for %s", a.as.Name, u.Name)
	}
	if latency <= 0 {
		return nil, fmt.Errorf("accelerator %q: the latency of %s is %v, must be positive", a.as.Name, u.Name, latency)
	}
	takes := func(_, _ []*Tensor) time.Duration { return latency }
	if a.as.Takes != nil {
		takes = a.as.Takes(u)
	}
	k, err := a.Accelerator.Prepare(u)
	return &emulatedKernel{k, takes}, err
}

type emulatedKernel struct {
	Kernel
	takes func(in, out []*Tensor) time.Duration
}

func (k *emulatedKernel) Run(in, out []*Tensor) error {
	start := time.Now()
	if err := k.Kernel.Run(in, out); err != nil {
		return err
	}
	waitUntil(start, k.takes(in, out))
	return nil
}

// nothing is an accelerator that computes nothing, in no time.
type nothing struct{ cores []int }

func (nothing) Name() string                 { return "" }
func (n nothing) Cores() []int               { return n.cores }
func (nothing) Level() string                { return models.Portable }
func (nothing) Computes() bool               { return false }
func (nothing) Prepare(Unit) (Kernel, error) { return nothing{}, nil }
func (nothing) Run(in, out []*Tensor) error  { return nil }
func (nothing) Close() error                 { return nil }

// computes reports whether an accelerator's outputs mean something: those of any that does not say otherwise.
func computes(a Accelerator) bool {
	c, says := a.(interface{ Computes() bool })
	return !says || c.Computes()
}

// Computes reports whether the outputs of requests mean something: not if any
// accelerator is emulated without computing.
func (e *Executor) Computes() bool {
	for _, a := range e.accs {
		if !computes(a) {
			return false
		}
	}
	return true
}

// waitUntil returns a time after start: it sleeps, then spins.
func waitUntil(start time.Time, length time.Duration) {
	for {
		left := length - time.Since(start)
		if left <= 0 {
			return
		}
		if left > releaseSpin {
			sleep(left - releaseSpin)
		}
	}
}

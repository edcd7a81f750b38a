package runtime

import (
	"fmt"
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
	return &emulated{e}, nil
}

type emulated struct{ Emulation }

func (a *emulated) Name() string { return a.Emulation.Name }

func (a *emulated) Cores() []int {
	if a.Inner != nil {
		return a.Inner.Cores()
	}
	return a.Emulation.Cores
}

func (a *emulated) Level() string {
	if a.Inner != nil {
		return a.Inner.Level()
	}
	return models.Portable
}

// Computes reports whether outputs mean something.
func (a *emulated) Computes() bool { return a.Inner != nil && computes(a.Inner) }

func (a *emulated) Prepare(u Unit) (Kernel, error) {
	latency, ok := a.Latency(u)
	if !ok {
		return nil, fmt.Errorf("accelerator %q has no latency for %s", a.Name(), u.Name)
	}
	if latency <= 0 {
		return nil, fmt.Errorf("accelerator %q: the latency of %s is %v, must be positive", a.Name(), u.Name, latency)
	}
	k := &emulatedKernel{latency: latency}
	if a.Inner != nil {
		var err error
		if k.inner, err = a.Inner.Prepare(u); err != nil {
			return nil, err
		}
	}
	return k, nil
}

func (a *emulated) Close() error {
	if a.Inner != nil {
		return a.Inner.Close()
	}
	return nil
}

type emulatedKernel struct {
	latency time.Duration
	inner   Kernel // or nil
}

func (k *emulatedKernel) Run(in, out []*Tensor) error {
	start := time.Now()
	if k.inner != nil {
		if err := k.inner.Run(in, out); err != nil {
			return err
		}
	}
	waitUntil(start, k.latency)
	return nil
}

func (k *emulatedKernel) Close() error {
	if k.inner != nil {
		return k.inner.Close()
	}
	return nil
}

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

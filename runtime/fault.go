package runtime

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Fault is one way in which an accelerator is made to misbehave, for tests and drills; see ParseFault.
type Fault struct {
	// Kind is "error", "hang", "slow", "nan", "panic" or "lost".
	Kind string
	// Accelerator, Model and Layer say where, by name; empty means everywhere.
	Accelerator, Model, Layer string
	// P is the probability with which a run of a layer is hit.
	P float64
	// After spares the first runs, Times bounds how often it strikes; zero Times means without bound.
	After, Times int
	// For is how long a hang lasts; zero means until the accelerator is closed.
	For time.Duration
	// By is how many times as long a slow run takes.
	By float64
}

// faultKinds are the kinds, with what they do.
var faultKinds = []string{"error", "hang", "slow", "nan", "panic", "lost"}

// ErrInjected is wrapped by the errors of injected faults.
var ErrInjected = errors.New("injected fault")

// ParseFault reads a fault: its kind, and what restricts it, such as
//
//	error accelerator=gpu p=0.01      one run in a hundred fails
//	hang model=detector after=500 times=1 for=5s
//	slow layer=conv1 by=3             three times as long
//	nan times=1                       one layer's outputs are not numbers
//	panic accelerator=gpu after=1000 times=1
//	lost accelerator=gpu after=100    its memory too: nothing on it works any more
func ParseFault(text string) (Fault, error) {
	words := strings.Fields(text)
	if len(words) == 0 || !slices.Contains(faultKinds, words[0]) {
		return Fault{}, fmt.Errorf("fault %q: it starts with one of %s", text, strings.Join(faultKinds, ", "))
	}
	f := Fault{Kind: words[0]}
	keys := flag.NewFlagSet("fault", flag.ContinueOnError)
	keys.StringVar(&f.Accelerator, "accelerator", "", "")
	keys.StringVar(&f.Model, "model", "", "")
	keys.StringVar(&f.Layer, "layer", "", "")
	keys.Float64Var(&f.P, "p", 1, "")
	keys.IntVar(&f.After, "after", 0, "")
	keys.IntVar(&f.Times, "times", 0, "")
	keys.DurationVar(&f.For, "for", 0, "")
	keys.Float64Var(&f.By, "by", 2, "")
	for _, w := range words[1:] {
		key, value, _ := strings.Cut(w, "=")
		if keys.Lookup(key) == nil {
			return Fault{}, fmt.Errorf("fault %q: unknown key %q, have accelerator, model, layer, p, after, times, for, by",
				text, key)
		}
		if keys.Set(key, value) != nil {
			return Fault{}, fmt.Errorf("fault %q: %s: %q is no value of it", text, key, value)
		}
	}
	if !(f.P > 0 && f.P <= 1) || f.After < 0 || f.Times < 0 || f.For < 0 || !(f.By >= 1 && f.By <= 1000) {
		return Fault{}, fmt.Errorf("fault %q: p is above 0 and at most 1, after, times and for are not negative, "+
			"by is 1 to 1000", text)
	}
	return f, nil
}

// Drill makes accelerators misbehave between Begin and End.
type Drill struct {
	faults []Fault
	seed   uint64
	on     atomic.Uint64 // which of its times it is; 0 while it is not on
	begun  uint64
	n      uint64              // accelerators wrapped
	of     map[string]*drilled // by stream
}

// drilled is a device whose streams are lost together.
type drilled struct {
	name string
	lost atomic.Uint64 // the time of the drill at which it was lost
}

// NewDrill makes a drill of faults; the seed determines which runs of layers they hit.
func NewDrill(faults []Fault, seed uint64) *Drill { return &Drill{faults: faults, seed: seed} }

// Begin arms the faults, as if they had never struck: runs on the same
// traffic meet the same faults. No layer may be running.
func (d *Drill) Begin() {
	d.begun++
	d.on.Store(d.begun)
}

// End disarms them.
func (d *Drill) End() { d.on.Store(0) }

// Device says which accelerators are streams of a device: faults of the device are faults of each of them, and they are
// lost together. It has to be called before Wrap.
func (d *Drill) Device(name string, streams []string) {
	if d.of == nil {
		d.of = map[string]*drilled{}
	}
	device := &drilled{name: name}
	for _, s := range streams {
		d.of[s] = device
	}
}

// Wrap puts the faults that name an accelerator around it.
func (d *Drill) Wrap(a Accelerator) Accelerator {
	d.n++
	x := &faulty{Accelerator: a, drill: d, n: d.n, closed: make(chan struct{}), device: d.of[a.Name()]}
	for _, f := range d.faults {
		if f.Accelerator == "" || f.Accelerator == a.Name() || x.device != nil && f.Accelerator == x.device.name {
			x.faults = append(x.faults, &armed{Fault: f})
		}
	}
	if len(x.faults) == 0 {
		return a
	}
	return x
}

// faulty is an accelerator with faults. Its kernels are run by one goroutine at
// a time, which is the only one that draws.
type faulty struct {
	Accelerator
	drill  *Drill
	n      uint64
	time   uint64 // of the drill, that counts and draws are of
	faults []*armed
	rng    *rand.Rand
	once   sync.Once
	closed chan struct{}
	lost   uint64   // the time of the drill at which it was lost
	device *drilled // that it is a stream of; nil where it is of none
}

// gone reports whether the accelerator is lost: whatever is asked of it fails.
func (x *faulty) gone() bool {
	return x.lost == x.time || x.device != nil && x.device.lost.Load() == x.time
}

// lose has the accelerator lost, with its device if that is what the fault names.
func (x *faulty) lose(f *armed) {
	if x.device != nil && f.Accelerator == x.device.name {
		x.device.lost.Store(x.time)
		return
	}
	x.lost = x.time
}

// follow makes counts and draws those of the drill's current time; false while it is not on.
func (x *faulty) follow() bool {
	now := x.drill.on.Load()
	if now != 0 && now != x.time {
		x.time, x.rng = now, rand.New(rand.NewPCG(x.drill.seed, x.n))
		for _, f := range x.faults {
			f.seen, f.struck = 0, 0
		}
	}
	return now != 0
}

// armed is a fault that counts.
type armed struct {
	Fault
	seen, struck int
}

// Memory is the inner accelerator's, which is gone when the accelerator is.
func (x *faulty) Memory() Memory {
	m := MemoryOf(x.Accelerator)
	if m == nil {
		return nil
	}
	return &faultyMemory{m, x}
}

// faultyMemory gives nothing back once its accelerator is lost.
type faultyMemory struct {
	Memory
	on *faulty
}

func (m *faultyMemory) Copy(from, to *Tensor) error {
	if m.on.follow() && m.on.gone() {
		return fmt.Errorf("%w: the accelerator is lost", ErrInjected)
	}
	return m.Memory.Copy(from, to)
}

// Unwrap is the accelerator without faults.
func (x *faulty) Unwrap() Accelerator { return x.Accelerator }

// Computes is the inner accelerator's.
func (x *faulty) Computes() bool { return computes(x.Accelerator) }

// Close ends hangs, too.
func (x *faulty) Close() error {
	x.once.Do(func() { close(x.closed) })
	return x.Accelerator.Close()
}

func (x *faulty) Prepare(u Unit) (Kernel, error) {
	k, err := x.Accelerator.Prepare(u)
	if err != nil {
		return nil, err
	}
	fk := &faultyKernel{Kernel: k, on: x, name: u.Name}
	for _, f := range x.faults {
		if (f.Model == "" || f.Model == u.Model) && (f.Layer == "" || f.Layer == u.Layer) {
			fk.faults = append(fk.faults, f)
		}
	}
	loses := slices.ContainsFunc(x.faults, func(f *armed) bool { return f.Kind == "lost" })
	if len(fk.faults) == 0 && !loses {
		return k, nil
	}
	return fk, nil
}

type faultyKernel struct {
	Kernel
	on     *faulty
	name   string
	faults []*armed
}

// strikes reports whether the fault hits this run.
func (x *faulty) strikes(f *armed) bool {
	f.seen++
	if f.seen <= f.After || f.Times > 0 && f.struck >= f.Times || f.P < 1 && x.rng.Float64() >= f.P {
		return false
	}
	f.struck++
	return true
}

func (k *faultyKernel) Run(in, out []*Tensor) error {
	if !k.on.follow() {
		return k.Kernel.Run(in, out)
	}
	slow, nan := 1.0, false
	for _, f := range k.faults {
		if !k.on.strikes(f) {
			continue
		}
		switch f.Kind {
		case "error":
			return fmt.Errorf("%s: %w", k.name, ErrInjected)
		case "lost":
			k.on.lose(f)
		case "panic":
			panic(fmt.Sprintf("%s: %v", k.name, ErrInjected))
		case "hang":
			if k.on.hang(f.For) {
				return fmt.Errorf("%s: %w: it hung until it was closed", k.name, ErrInjected)
			}
		case "slow":
			slow *= f.By
		case "nan":
			nan = true
		}
	}
	if k.on.gone() {
		return fmt.Errorf("%s: %w: the accelerator is lost", k.name, ErrInjected)
	}
	start := time.Now()
	if err := k.Kernel.Run(in, out); err != nil {
		return err
	}
	m := MemoryOf(k.on.Accelerator)
	if slow > 1 {
		if m != nil { // it has only been submitted
			if err := m.Wait(); err != nil {
				return err
			}
		}
		waitUntil(start, time.Duration(float64(time.Since(start))*slow))
	}
	if nan {
		for _, t := range out {
			if err := t.spoil(m); err != nil {
				return err
			}
		}
	}
	return nil
}

// Capture captures the inner kernel; the faults stay.
func (k *faultyKernel) Capture(in, out []*Tensor) (Kernel, error) {
	from, is := k.Kernel.(Capturer)
	if !is {
		return nil, fmt.Errorf("%w: the provider has no graphs", ErrUncaptured)
	}
	inner, err := from.Capture(in, out)
	if err != nil {
		return nil, err
	}
	captured := *k
	captured.Kernel = inner
	return &captured, nil
}

// spoil sets all bits, which is not a number in every float format.
func (t *Tensor) spoil(m Memory) error {
	ones := bytes.Repeat([]byte{0xff}, int(t.Bytes()))
	if t.memory == nil {
		copy(t.Data, ones)
		return nil
	}
	bad, err := NewTensor(t.Tensor, ones)
	if err != nil {
		return err
	}
	defer bad.Close()
	return errors.Join(bad.flatten(), m.Copy(bad, t), m.Wait())
}

// hang waits, for ever if for is 0; true if the accelerator was closed.
func (x *faulty) hang(length time.Duration) bool {
	if length == 0 {
		<-x.closed
		return true
	}
	select {
	case <-time.After(length):
		return false
	case <-x.closed:
		return true
	}
}

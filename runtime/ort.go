package runtime

import (
	"errors"
	"fmt"

	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/models"
)

// Devices opens accelerators. Streams of a device that the same Devices opened share its memory and their weights. The
// zero value is ready to use, by one goroutine at a time.
type Devices struct{ gpus gpus }

// Open opens an execution provider of ONNX Runtime as an accelerator. It really runs a small model on it, so that a
// provider that is listed but does not work is refused here.
func (d *Devices) Open(s Spec) (Accelerator, error) { return d.OpenTraced(s, nil) }

// OpenORT opens a single accelerator, as Devices.Open does.
func OpenORT(s Spec) (Accelerator, error) { return new(Devices).Open(s) }

// OpenTraced is Open with ONNX Runtime's profiler on, which makes layers take longer, where trace is not nil.
func (d *Devices) OpenTraced(s Spec, trace *ORTTrace) (Accelerator, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	if err := errors.Join(ort.Probe(s.config()), ort.CheckEngines(s.config())); err != nil {
		return nil, fmt.Errorf("accelerator %q: %w", s.Name, err)
	}
	return d.openProbed(s, trace)
}

// openProbed is OpenTraced for an accelerator that was seen to work.
func (d *Devices) openProbed(s Spec, trace *ORTTrace) (Accelerator, error) {
	if s.HasStreams() && s.Local.Library == "" {
		a, err := d.gpus.open(s, trace, "")
		if err == nil {
			return a, nil
		}
		if !errors.Is(err, errNoCUDA) {
			return nil, fmt.Errorf("accelerator %q: %w", s.Name, err)
		}
	}
	a := &ortAccelerator{opened: opened{s, trace}}
	if s.CPU() {
		return a, nil
	}
	m, err := ort.OpenMemory(s.config())
	switch {
	case err == nil:
		a.memory = m
	case !errors.Is(err, ort.ErrNoMemory):
		return nil, fmt.Errorf("accelerator %q: %w", s.Name, err)
	}
	return a, nil
}

// opened is what every accelerator has that was opened by a specification.
type opened struct {
	spec  Spec
	trace *ORTTrace // or nil
}

func (o opened) Name() string  { return o.spec.Name }
func (o opened) Cores() []int  { return o.spec.Cores }
func (o opened) Level() string { return o.spec.Level() }

// KeepWarm is what the specification says, of a device's first stream.
func (o opened) KeepWarm() bool { return o.spec.KeepWarm && o.spec.Stream == 0 }

type ortAccelerator struct {
	opened
	memory *ort.Memory // nil where tensors stay in host memory
}

func (a *ortAccelerator) Close() error {
	if a.memory == nil {
		return nil
	}
	return a.memory.Close()
}

// Memory is the device's.
func (a *ortAccelerator) Memory() Memory {
	if a.memory == nil {
		return nil
	}
	return ortMemory{a.memory, a.spec.OnDevice()}
}

func (a *ortAccelerator) Prepare(u Unit) (Kernel, error) {
	c, err := a.spec.unit(u)
	if err != nil {
		return nil, err
	}
	c.Profile = a.trace.prefix()
	s, err := ort.NewSession(u.ONNX, names(u.Inputs), names(u.Outputs), c)
	if err != nil {
		return nil, fmt.Errorf("accelerator %q refuses %s: %w", a.spec.Name, u.Name, err)
	}
	a.trace.add(a.spec.Name, u, s)
	return newKernel(u, s), nil
}

// unit is how the accelerator's sessions for a unit are configured.
func (s Spec) unit(u Unit) (ort.Config, error) {
	c := s.config()
	if err := u.Suits(c.Provider); err != nil {
		return c, fmt.Errorf("accelerator %q refuses %s: %w", s.Name, u.Name, err)
	}
	c = c.With(u.Options)
	if u.Optimized {
		c.Optimization = "none"
	}
	return c, nil
}

func names(ts []models.Tensor) []string {
	out := make([]string, len(ts))
	for i, t := range ts {
		out[i] = t.ID()
	}
	return out
}

type ortKernel struct {
	session *ort.Session
	name    string
	in, out []ort.Value // reused from run to run
}

func newKernel(u Unit, s *ort.Session) *ortKernel {
	return &ortKernel{session: s, name: u.Name, in: make([]ort.Value, len(u.Inputs)), out: make([]ort.Value, len(u.Outputs))}
}

func (k *ortKernel) Run(in, out []*Tensor) error { return k.run(k.session.Run, in, out) }

func (k *ortKernel) run(session func(in, out []ort.Value) error, in, out []*Tensor) error {
	for i, t := range in {
		k.in[i] = t.value
	}
	for i, t := range out {
		k.out[i] = t.value
	}
	if err := session(k.in, k.out); err != nil {
		return fmt.Errorf("%s: %w", k.name, err)
	}
	return nil
}

func (k *ortKernel) Close() error { return k.session.Close() }

// ortMemory is the memory of one of ONNX Runtime's devices. It has no events.
type ortMemory struct {
	*ort.Memory
	device string
}

// Grain is that of the int32s that stand for any tensor in copies.
func (m ortMemory) Grain() int               { return ort.Int32.Size() }
func (m ortMemory) Device() string           { return m.device }
func (m ortMemory) NewEvent() (Event, error) { return nil, nil }
func (m ortMemory) After(Event) error        { return errors.New("the provider has no events") }
func (m ortMemory) Room() (free, total int64, err error) {
	return 0, 0, nil
}

func (m ortMemory) NewBuffer(size int) (Buffer, error) {
	b, err := m.Memory.NewBuffer(size)
	if err != nil {
		return nil, err
	}
	return ortBuffer{b}, nil
}

func (m ortMemory) NewPinned(size int) ([]byte, func(), error) {
	b, err := m.Memory.NewPinned(size)
	if b == nil || err != nil {
		return nil, nil, err
	}
	return b.Bytes(), b.Close, nil
}

func (m ortMemory) Copy(from, to *Tensor) error { return m.Memory.Copy(from.flat[:], to.flat[:]) }

type ortBuffer struct{ *ort.Buffer }

func (b ortBuffer) Bind(t *Tensor) (err error) {
	if t.value, err = b.NewTensor(t.Type, t.Stored()); err != nil {
		return err
	}
	t.Handle, t.arg[0] = t.value, t.value
	t.flat[0], err = b.NewTensor(ort.Int32, []int64{t.Bytes() / 4})
	return err
}

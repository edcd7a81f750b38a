package rig

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	goruntime "runtime"
	"slices"
	"sync"
	"time"

	"github.com/terastal/terastal/runtime"
)

// Device is a pretended device with a memory of its own and streams. What is submitted runs later, when somebody looks
// for an event or waits, and streams overtake each other in an order that a seed draws: what relies on an order that
// nothing guarantees computes something else. Layers are computed on the CPU, with the data at that time.
type Device struct {
	// Graphs says that kernels can be captured; Refuses, if not nil, names units that cannot, and why.
	Graphs  bool
	Refuses func(unit string) string
	// Events says that there are any: without, only waiting tells what is complete.
	Events bool
	// Warm says that the first stream keeps the device warm.
	Warm bool
	// Room is how many bytes buffers may take; zero means any number.
	Room int64

	mu        sync.Mutex
	name      string
	rng       *rand.Rand
	streams   []*Stream
	taken     int64
	used      map[use]bool
	watched   bool
	firsts    []string
	strangers []string
	waits     int
	watchedAt []int // commands of the streams when Watch was called
	blocked   int
}

// use is what a thread has done on a stream.
type use struct {
	thread string
	stream *Stream
	what   string
}

// NewDevice makes a device with events and graphs.
func NewDevice(name string, seed uint64) *Device {
	return &Device{Graphs: true, Events: true, name: name, rng: rand.New(rand.NewPCG(seed, 0xdef)), used: map[use]bool{}}
}

// Stream adds a stream that computes on an accelerator.
func (d *Device) Stream(name string, on runtime.Accelerator) *Stream {
	s := &Stream{Accelerator: on, name: name, device: d}
	d.streams = append(d.streams, s)
	return s
}

// Watch notes from now on what a thread does for the first time, and which threads use a stream that another one uses.
func (d *Device) Watch() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.watched, d.firsts, d.strangers, d.waits = true, nil, nil, 0
	d.watchedAt = nil
	for _, s := range d.streams {
		s.owner = ""
		d.watchedAt = append(d.watchedAt, len(s.queue))
	}
}

// Submitted is how much was submitted to a stream since Watch.
func (d *Device) Submitted(stream int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.streams[stream].queue) - d.watchedAt[stream]
}

// Seen is what Watch noted, and how often somebody waited for a whole stream.
func (d *Device) Seen() (firsts, strangers []string, waits int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.firsts, d.strangers, d.waits
}

// Blocked is how often something was freed that had to wait, as the device's library does, for a stream that is held.
func (d *Device) Blocked() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.blocked
}

// free notes whether freeing something has to wait for ever. The caller holds the lock.
func (d *Device) free() {
	if slices.ContainsFunc(d.streams, func(s *Stream) bool { return s.held && s.done < len(s.queue) }) {
		d.blocked++
	}
}

// Taken is how many bytes buffers take.
func (d *Device) Taken() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.taken
}

// Stream is an accelerator, a stream of a Device.
type Stream struct {
	runtime.Accelerator
	name   string
	device *Device
	// What follows is guarded by the device.
	queue []command
	done  int // commands
	err   error
	owner string
	held  bool
	clock time.Duration
}

// command is what was submitted: a piece of work, or a wait for another stream.
type command struct {
	run   func() error
	after *Stream
	until int
}

// Hold keeps the stream from getting on, or lets it.
func (s *Stream) Hold(on bool) {
	s.device.mu.Lock()
	defer s.device.mu.Unlock()
	s.held = on
}

// Name, Memory and Close make it an accelerator.
func (s *Stream) Name() string           { return s.name }
func (s *Stream) Memory() runtime.Memory { return memory{s} }

// KeepWarm is what the device says, of its first stream.
func (s *Stream) KeepWarm() bool { return s.device.Warm && s == s.device.streams[0] }

// thread tells goroutines apart; those that use a stream are tied to a thread.
func thread() string {
	var text [64]byte
	line := text[:goruntime.Stack(text[:], false)]
	return string(bytes.Fields(line)[1])
}

// submit puts a command into the stream. The caller holds the lock.
func (s *Stream) submit(what string, c command) error {
	s.touch(what)
	if s.err != nil {
		return s.err
	}
	s.queue = append(s.queue, c)
	return nil
}

// touch notes who uses the stream for what.
func (s *Stream) touch(what string) {
	d, me := s.device, thread()
	if d.watched {
		if s.owner == "" {
			s.owner = me
		}
		if s.owner != me {
			d.strangers = append(d.strangers, fmt.Sprintf("%s of %s", what, s.name))
		}
		if !d.used[use{me, s, what}] {
			d.firsts = append(d.firsts, fmt.Sprintf("%s of %s", what, s.name))
		}
	}
	d.used[use{me, s, what}] = true
}

// ready reports whether the stream's next command may run.
func (s *Stream) ready() bool {
	return !s.held && s.done < len(s.queue) && (s.queue[s.done].after == nil ||
		s.queue[s.done].after.done >= s.queue[s.done].until)
}

// step runs one command of a stream that the seed draws; false if none can run.
func (d *Device) step() bool {
	var ready []*Stream
	for _, s := range d.streams {
		if s.ready() {
			ready = append(ready, s)
		}
	}
	if len(ready) == 0 {
		return false
	}
	s := ready[d.rng.IntN(len(ready))]
	c := s.queue[s.done]
	s.queue[s.done] = command{}
	if c.run != nil && s.err == nil {
		s.err = c.run()
	}
	if c.after != nil {
		s.clock = max(s.clock, c.after.clock)
	}
	s.clock += time.Microsecond
	s.done++
	return true
}

// reach runs commands until a stream has done so many.
func (d *Device) reach(s *Stream, n int) error {
	for s.done < n {
		if !d.step() && s.done < n {
			return fmt.Errorf("stream %s waits for something that never happens", s.name)
		}
	}
	return s.err
}

func (s *Stream) Prepare(u runtime.Unit) (runtime.Kernel, error) {
	k, err := s.Accelerator.Prepare(u)
	if err != nil {
		return nil, err
	}
	return &kernel{k, s, u.Layer + "/" + u.Implementation}, nil
}

// kernel submits.
type kernel struct {
	runtime.Kernel
	on   *Stream
	unit string
}

// there is what a tensor is for the CPU.
func there(ts []*runtime.Tensor) (out []*runtime.Tensor, host bool) {
	for _, t := range ts {
		if t.Handle == nil {
			out, host = append(out, t), true
		} else {
			out = append(out, t.Handle.(*runtime.Tensor))
		}
	}
	return out, host
}

func (k *kernel) Run(in, out []*runtime.Tensor) error { return k.run(k.unit, in, out) }

func (k *kernel) Close() error {
	k.on.device.mu.Lock()
	defer k.on.device.mu.Unlock()
	k.on.device.free()
	return k.Kernel.Close()
}

func (k *kernel) run(what string, in, out []*runtime.Tensor) error {
	d := k.on.device
	d.mu.Lock()
	defer d.mu.Unlock()
	ins, hostIn := there(in)
	outs, hostOut := there(out)
	if d.Events && (hostIn || hostOut) {
		return fmt.Errorf("%s: a tensor is in host memory", k.unit)
	}
	if err := k.on.submit(what, command{run: func() error { return k.Kernel.Run(ins, outs) }}); err != nil {
		return err
	}
	if hostIn || hostOut {
		return d.reach(k.on, len(k.on.queue))
	}
	return nil
}

// Capture fixes the kernel to tensors.
func (k *kernel) Capture(in, out []*runtime.Tensor) (runtime.Kernel, error) {
	d := k.on.device
	d.mu.Lock()
	defer d.mu.Unlock()
	k.on.touch("capture")
	if !d.Graphs {
		return nil, fmt.Errorf("%w: there are no graphs", runtime.ErrUncaptured)
	}
	if d.Refuses != nil {
		if why := d.Refuses(k.unit); why != "" {
			return nil, fmt.Errorf("%w: %s", runtime.ErrUncaptured, why)
		}
	}
	if !d.used[use{thread(), k.on, k.unit}] {
		return nil, fmt.Errorf("%s is captured before it has run on the thread", k.unit)
	}
	return &graph{k, slices.Clone(in), slices.Clone(out)}, nil
}

type graph struct {
	*kernel
	in, out []*runtime.Tensor
}

func (g *graph) Run(in, out []*runtime.Tensor) error {
	if !slices.Equal(in, g.in) || !slices.Equal(out, g.out) {
		return fmt.Errorf("%s: captured for other tensors", g.unit)
	}
	return g.run("replay of "+g.unit, in, out)
}

func (g *graph) Close() error { return nil }

// memory is the device's, as one stream sees it.
type memory struct{ s *Stream }

type buffer struct {
	data []byte
	d    *Device
}

func (m memory) NewBuffer(size int) (runtime.Buffer, error) {
	d := m.s.device
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.Room > 0 && d.taken+int64(size) > d.Room {
		return nil, fmt.Errorf("%w: %d bytes of %d are taken, %d more are needed", runtime.ErrNoRoom, d.taken, d.Room, size)
	}
	d.taken += int64(size)
	return &buffer{make([]byte, size), d}, nil
}

func (b *buffer) Bind(t *runtime.Tensor) (err error) {
	t.Handle, err = runtime.NewTensor(t.Tensor, b.data[:t.Bytes()])
	return err
}

func (b *buffer) Close() {
	b.d.mu.Lock()
	defer b.d.mu.Unlock()
	b.d.free()
	b.d.taken -= int64(len(b.data))
	b.data = nil
}

func (m memory) NewPinned(size int) ([]byte, func(), error) {
	return make([]byte, size), func() {}, nil
}
func (m memory) Grain() int     { return 1 }
func (m memory) Device() string { return m.s.device.name }

func (m memory) Queue() string {
	if m.s.device.Events {
		return ""
	}
	return m.s.device.name
}

func (m memory) Room() (free, total int64, err error) {
	d := m.s.device
	d.mu.Lock()
	defer d.mu.Unlock()
	return max(0, d.Room-d.taken), d.Room, nil
}

func (m memory) Copy(from, to *runtime.Tensor) error {
	d := m.s.device
	d.mu.Lock()
	defer d.mu.Unlock()
	if (from.Handle == nil) == (to.Handle == nil) {
		return errors.New("a copy within one memory")
	}
	pair, _ := there([]*runtime.Tensor{from, to})
	what := "copy to the device"
	if to.Handle == nil {
		what = "copy to the host"
	}
	err := m.s.submit(what, command{run: func() error {
		copy(pair[1].Data, pair[0].Data)
		return nil
	}})
	if err == nil && to.Handle == nil && !d.Events {
		err = d.reach(m.s, len(m.s.queue))
	}
	return err
}

func (m memory) Wait() error {
	d := m.s.device
	d.mu.Lock()
	defer d.mu.Unlock()
	m.s.touch("wait")
	d.waits++
	return d.reach(m.s, len(m.s.queue))
}

func (m memory) NewEvent() (runtime.Event, error) {
	d := m.s.device
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.Events {
		return nil, nil
	}
	m.s.touch("new event")
	return &event{s: m.s}, nil
}

func (m memory) After(e runtime.Event) error {
	d := m.s.device
	d.mu.Lock()
	defer d.mu.Unlock()
	x := e.(*event)
	return m.s.submit("wait for a stream", command{after: x.s, until: x.at})
}

// event is a number of commands of a stream.
type event struct {
	s    *Stream
	at   int
	when time.Duration
}

func (e *event) Record() error {
	d := e.s.device
	d.mu.Lock()
	defer d.mu.Unlock()
	e.at = len(e.s.queue)
	return e.s.submit("event", command{run: func() error { e.when = e.s.clock; return nil }})
}

// Done lets the device get on a little.
func (e *event) Done() (bool, error) {
	d := e.s.device
	d.mu.Lock()
	defer d.mu.Unlock()
	for range d.rng.IntN(3) {
		d.step()
	}
	return e.s.done >= e.at, e.s.err
}

func (e *event) Wait() error {
	d := e.s.device
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.reach(e.s, e.at)
}

func (e *event) Since(before runtime.Event) (time.Duration, error) {
	d := e.s.device
	d.mu.Lock()
	defer d.mu.Unlock()
	b := before.(*event)
	if err := errors.Join(d.reach(e.s, e.at+1), d.reach(b.s, b.at+1)); err != nil {
		return 0, err
	}
	return e.when - b.when, nil
}

func (e *event) Close() {}

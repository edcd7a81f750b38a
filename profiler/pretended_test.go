package profiler_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
)

// pretended is a device with streams in virtual time. What is submitted to a stream is done, in order, when somebody
// waits for it; layers compute on the CPU, with the data that is there then. Every stream has a host clock, that of the
// thread that uses it.
type pretended struct {
	layer      time.Duration // that every layer takes, or half of it captured
	copies     time.Duration // that every copy takes
	event      time.Duration // that every event takes
	first      time.Duration // that the first run of a kernel takes longer
	notice     time.Duration // that a wait takes longer than what it waits for
	contention []float64     // by number of other streams that have work
	waking     []sched.Waking
	uncaptured string // a part of the names of layers that cannot be captured
	silent     bool   // it has no events
	fails      string // a part of the names of layers that fail

	mu      sync.Mutex
	streams []*virtual
	used    int64 // bytes
}

// roomy is how much memory it has.
const roomy = 1 << 30

// virtual is one of its streams.
type virtual struct {
	runtime.Accelerator
	d    *pretended
	spec runtime.Spec
	host time.Duration // the clock of its thread
	end  time.Duration // of the last operation done
	rest time.Duration // since when it has had nothing but events
	work []*operation  // not done yet
}

// operation is something that was submitted.
type operation struct {
	event bool
	at    time.Duration // when
	takes time.Duration
	do    func() error
	done  bool
	end   time.Duration
	err   error
}

func (d *pretended) open(s runtime.Spec) (runtime.Accelerator, error) {
	a, err := runtime.OpenORT(runtime.Spec{Name: s.Name, Optimization: "basic"})
	if err != nil {
		return nil, err
	}
	v := &virtual{Accelerator: a, d: d, spec: s}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.streams = append(d.streams, v)
	return v, nil
}

func (v *virtual) Close() error {
	v.d.mu.Lock()
	v.d.streams = slices.DeleteFunc(v.d.streams, func(x *virtual) bool { return x == v })
	v.d.mu.Unlock()
	return v.Accelerator.Close()
}

// now and sleep are the clock of the first stream's thread.
func (d *pretended) now() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.streams) == 0 {
		return time.Unix(1, 0)
	}
	return time.Unix(1, 0).Add(d.streams[0].host)
}

func (d *pretended) sleep(t time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.streams) > 0 {
		d.streams[0].host += t
	}
}

// submit puts something to do behind the rest.
func (v *virtual) submit(takes time.Duration, do func() error) *operation {
	v.d.mu.Lock()
	defer v.d.mu.Unlock()
	o := &operation{at: v.host, takes: takes, do: do}
	v.work = append(v.work, o)
	return o
}

// until does what was submitted, up to an operation, or everything.
func (v *virtual) until(last *operation) error {
	v.d.mu.Lock()
	defer v.d.mu.Unlock()
	var err error
	for len(v.work) > 0 && (last == nil || !last.done) {
		o := v.work[0]
		begin := max(o.at, v.end)
		if !o.event {
			o.takes = v.d.slower(v, o.takes, begin-v.rest)
			v.rest = begin + o.takes
		}
		if o.takes > 0 {
			v.end = begin + o.takes
		}
		o.end, o.done = begin+o.takes, true
		if o.do != nil {
			o.err = o.do()
			err = errors.Join(err, o.err)
		}
		v.work = v.work[1:]
	}
	end := v.end
	if last != nil {
		end = last.end
	}
	v.host = max(v.host, end) + v.d.notice
	return err
}

// slower is what something takes next to other streams that have work, after a rest.
func (d *pretended) slower(v *virtual, takes, rest time.Duration) time.Duration {
	busy := 0
	for _, x := range d.streams {
		if x != v && len(x.work) > 0 {
			busy++
		}
	}
	if len(d.contention) > 0 {
		takes = time.Duration(float64(takes) * (1 + d.contention[min(busy, len(d.contention)-1)]))
	}
	woken := sched.Device{Waking: d.waking}
	if busy == 0 {
		takes += woken.Extra(rest)
	}
	return takes
}

func (v *virtual) Memory() runtime.Memory { return virtualMemory{v} }

func (v *virtual) Prepare(u runtime.Unit) (runtime.Kernel, error) {
	k, err := v.Accelerator.Prepare(u)
	if err != nil {
		return nil, err
	}
	v.d.allocate(1 << 16)
	return &virtualKernel{Kernel: k, v: v, name: u.Name, fresh: true}, nil
}

func (d *pretended) allocate(bytes int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.used += bytes
}

type virtualKernel struct {
	runtime.Kernel
	v     *virtual
	name  string
	fresh bool
}

func (k *virtualKernel) Run(in, out []*runtime.Tensor) error {
	takes := k.v.d.layer
	if strings.HasPrefix(k.name, "ideal") {
		takes = 10 * time.Millisecond
	}
	if k.fresh {
		takes += k.v.d.first
		k.fresh = false
	}
	if f := k.v.d.fails; f != "" && strings.Contains(k.name, f) {
		return errors.New("failed by the test")
	}
	k.run(takes, in, out)
	return nil
}

func (k *virtualKernel) run(takes time.Duration, in, out []*runtime.Tensor) {
	x, y := there(in), there(out)
	k.v.submit(takes, func() error { return k.Kernel.Run(x, y) })
}

func (k *virtualKernel) Capture(in, out []*runtime.Tensor) (runtime.Kernel, error) {
	if u := k.v.d.uncaptured; u != "" && strings.Contains(k.name, u) {
		return nil, fmt.Errorf("%w: %s", runtime.ErrUncaptured, k.name)
	}
	if k.fresh {
		return nil, errors.New("captured before it has run")
	}
	return &virtualGraph{k, in, out}, nil
}

type virtualGraph struct {
	k       *virtualKernel
	in, out []*runtime.Tensor
}

func (g *virtualGraph) Run(_, _ []*runtime.Tensor) error {
	g.k.run(g.k.v.d.layer/2, g.in, g.out)
	return nil
}

func (*virtualGraph) Close() error { return nil }

// there are the tensors behind those of the device.
func there(ts []*runtime.Tensor) []*runtime.Tensor {
	out := make([]*runtime.Tensor, len(ts))
	for i, t := range ts {
		out[i] = t
		if t.Handle != nil {
			out[i] = t.Handle.(*runtime.Tensor)
		}
	}
	return out
}

type virtualMemory struct{ v *virtual }

type virtualBuffer []byte

func (m virtualMemory) NewBuffer(size int) (runtime.Buffer, error) {
	m.v.d.allocate(int64(size))
	return virtualBuffer(make([]byte, size)), nil
}

func (b virtualBuffer) Bind(t *runtime.Tensor) (err error) {
	t.Handle, err = runtime.NewTensor(t.Tensor, b[:t.Bytes()])
	return err
}

func (virtualBuffer) Close() {}

func (virtualMemory) NewPinned(int) ([]byte, func(), error) { return nil, nil, nil }
func (virtualMemory) Grain() int                            { return 1 }
func (virtualMemory) Queue() string                         { return "" }
func (virtualMemory) Device() string                        { return "pretended" }
func (m virtualMemory) Wait() error                         { return m.v.until(nil) }

func (m virtualMemory) Copy(from, to *runtime.Tensor) error {
	x, y := there([]*runtime.Tensor{from}), there([]*runtime.Tensor{to})
	m.v.submit(m.v.d.copies, func() error { copy(y[0].Data, x[0].Data); return nil })
	if m.v.d.silent && to.Handle == nil {
		return m.Wait()
	}
	return nil
}

func (m virtualMemory) NewEvent() (runtime.Event, error) {
	if m.v.d.silent {
		return nil, nil
	}
	return &virtualEvent{v: m.v}, nil
}

func (m virtualMemory) After(e runtime.Event) error { return e.Wait() }

func (m virtualMemory) Room() (free, total int64, err error) {
	m.v.d.mu.Lock()
	defer m.v.d.mu.Unlock()
	return roomy - m.v.d.used, roomy, nil
}

type virtualEvent struct {
	v *virtual
	o *operation
}

func (e *virtualEvent) Record() error {
	e.o = e.v.submit(e.v.d.event, nil)
	e.o.event = true
	return nil
}
func (e *virtualEvent) Wait() error {
	if e.o == nil {
		return nil
	}
	return e.v.until(e.o)
}
func (e *virtualEvent) Done() (bool, error) { return true, e.Wait() }
func (e *virtualEvent) Close()              {}
func (e *virtualEvent) Since(before runtime.Event) (time.Duration, error) {
	b := before.(*virtualEvent)
	if !e.o.done || !b.o.done {
		return 0, errors.New("a time between events that are not done")
	}
	return e.o.end - b.o.end, nil
}

package runtime_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/terastal/terastal/internal/ort/orttest"
	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/internal/testkit/rig"
	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
)

// device is an accelerator that has a memory and counts the copies to and from it.
type device struct {
	runtime.Accelerator
	memory runtime.Memory
	copies atomic.Int64
	broken atomic.Bool // copies fail
	users  atomic.Int64
	shared atomic.Bool // two threads used it at once
}

// enter and leave are around everything that submits work to the device.
func (d *device) enter() {
	if d.users.Add(1) > 1 {
		d.shared.Store(true)
	}
}

func (d *device) leave() { d.users.Add(-1) }

func (d *device) Prepare(u runtime.Unit) (runtime.Kernel, error) {
	k, err := d.Accelerator.Prepare(u)
	if err != nil {
		return nil, err
	}
	return &deviceKernel{k, d}, nil
}

type deviceKernel struct {
	runtime.Kernel
	d *device
}

func (k *deviceKernel) Run(in, out []*runtime.Tensor) error {
	k.d.enter()
	defer k.d.leave()
	return k.Kernel.Run(in, out)
}

var errBroken = errors.New("broken by the test")

func (d *device) Memory() runtime.Memory { return &counted{d.memory, d} }

type counted struct {
	runtime.Memory
	d *device
}

func (c *counted) Copy(from, to *runtime.Tensor) error {
	if c.d.broken.Load() {
		return errBroken
	}
	c.d.copies.Add(1)
	c.d.enter()
	defer c.d.leave()
	return c.Memory.Copy(from, to)
}

// pretended opens a device that is none.
func pretended(t *testing.T, name string) *device {
	t.Helper()
	a := rig.Accelerators(t, runtime.Spec{Name: name, Optimization: "basic"})[0]
	return &device{Accelerator: &elsewhere{a}, memory: heap{name}}
}

// elsewhere is the CPU with tensors in a memory that is the host's, but that
// only its kernels and copies find their way in.
type elsewhere struct{ runtime.Accelerator }

func (e *elsewhere) Prepare(u runtime.Unit) (runtime.Kernel, error) {
	k, err := e.Accelerator.Prepare(u)
	return &elsewhereKernel{k, make([]*runtime.Tensor, len(u.Inputs)), make([]*runtime.Tensor, len(u.Outputs))}, err
}

type elsewhereKernel struct {
	runtime.Kernel
	in, out []*runtime.Tensor
}

func (k *elsewhereKernel) Run(in, out []*runtime.Tensor) error {
	for i, t := range in {
		k.in[i] = found(t)
	}
	for i, t := range out {
		k.out[i] = found(t)
	}
	return k.Kernel.Run(k.in, k.out)
}

// found is the tensor behind a handle, or one that is in host memory.
func found(t *runtime.Tensor) *runtime.Tensor {
	if t.Handle != nil {
		return t.Handle.(*runtime.Tensor)
	}
	return t
}

// heap is a memory as anybody may write one.
type heap struct{ name string }

type heapBuffer []byte

func (heap) NewBuffer(size int) (runtime.Buffer, error) { return heapBuffer(make([]byte, size)), nil }
func (heap) NewPinned(size int) ([]byte, func(), error) { return make([]byte, size), func() {}, nil }
func (heap) Grain() int                                 { return 1 }
func (heap) Wait() error                                { return nil }
func (heap) Queue() string                              { return "" }
func (h heap) Device() string                           { return h.name }
func (heap) NewEvent() (runtime.Event, error)           { return nil, nil }
func (heap) After(runtime.Event) error                  { return errors.New("no events") }
func (heap) Room() (free, total int64, err error)       { return 0, 0, nil }
func (heap) Copy(from, to *runtime.Tensor) error {
	if (from.Handle == nil) == (to.Handle == nil) {
		return errors.New("a copy within one memory")
	}
	copy(found(to).Data, found(from).Data)
	return nil
}

func (b heapBuffer) Bind(t *runtime.Tensor) (err error) {
	t.Handle, err = runtime.NewTensor(t.Tensor, b[:t.Bytes()])
	return err
}

func (heapBuffer) Close() {}

// webGPU opens the real one.
func webGPU(t *testing.T, name string) *device {
	t.Helper()
	orttest.WebGPU(t)
	a := rig.Accelerators(t, runtime.Spec{Name: name, Provider: "webgpu"})[0]
	return &device{Accelerator: a, memory: a.(interface{ Memory() runtime.Memory }).Memory()}
}

// kinds runs a test on a pretended device and on WebGPU.
func kinds(t *testing.T, f func(t *testing.T, open func(t *testing.T, name string) *device)) {
	t.Run("pretended", func(t *testing.T) { f(t, pretended) })
	t.Run("webgpu", func(t *testing.T) { f(t, webGPU) })
}

// together is a bench of the device and CPU accelerators with blocked and plain
// layouts; wrap, if not nil, stands between the device and the runtime.
func together(t *testing.T, d *device, wrap func(runtime.Accelerator) runtime.Accelerator,
	granularities ...string) *bench {
	t.Helper()
	b := &bench{accs: []runtime.Accelerator{d}}
	if wrap != nil {
		b.accs[0] = wrap(d)
	}
	b.accs = append(b.accs, rig.Accelerators(t, levels...)...)
	for _, g := range granularities {
		b.add(t, network(t, g))
	}
	return b
}

// Whatever accelerators the layers of a request run on, in host memory or in their own, the outputs are the whole
// model's. Every order of device and CPU is tried over the last layers, and random ones over all.
func TestAnySequenceOfMemories(t *testing.T) {
	kinds(t, func(t *testing.T, open func(*testing.T, string) *device) {
		d := open(t, "gpu")
		b := together(t, d, nil, "block")
		n, p := b.networks[0], b.programs[0]
		in := testkit.Must(n.Inputs(3))(t)
		want := testkit.Must(n.Reference([][]*runtime.Tensor{in}))(t)
		slot := testkit.Must(p.NewSlot())(t)
		defer slot.Close()
		layers := len(n.Layers)
		play := func(at []int) {
			slot.SetInputs(in)
			for l, k := range at {
				if err := slot.Run(l, 0, k); err != nil {
					t.Fatalf("%v, layer %d: %v", at, l, err)
				}
			}
			for i, out := range slot.Outputs() {
				c := testkit.Must(models.Compare(out.Type, out.Data, want[0][i]))(t)
				if !(c.MaxRel <= runtime.Tolerance) {
					t.Errorf("%v: output %d differs by %g of its largest magnitude", at, i, c.MaxRel)
				}
			}
		}
		const all = 5
		rng := rand.New(rand.NewPCG(4, 5))
		for _, host := range []int{1, 2} {
			for bits := range 1 << all {
				at := make([]int, layers)
				for l := range at {
					at[l] = rng.IntN(2) * host
					if last := layers - 1 - l; last < all {
						at[l] = bits >> last & 1 * host
					}
				}
				play(at)
			}
		}
		for range 20 {
			at := make([]int, layers)
			for l := range at {
				at[l] = rng.IntN(3)
			}
			play(at)
		}
		if d.copies.Load() == 0 {
			t.Error("nothing was copied: the device's memory was not used")
		}
	})
}

// Two devices hand tensors to each other by way of host memory.
func TestTwoMemories(t *testing.T) {
	b := &bench{accs: []runtime.Accelerator{pretended(t, "one"), pretended(t, "two")}}
	b.add(t, network(t, "op"))
	e := b.executor(t, b.system(alternate))
	r, err := e.Run(context.Background(), runtime.Options{Policy: "fcfs", Traffic: released(1), Samples: 5, Queue: 1000})
	testkit.OK(t, err)
	if m := check(t, r); m.Met != m.Released || m.Utilization["one"] == 0 || m.Utilization["two"] == 0 {
		t.Errorf("%+v", m)
	}
	if v, err := e.Verify(r.Samples); err != nil || v.Verified != 5 {
		t.Errorf("%+v %v", v, err)
	}
}

// Tensors are copied where a request moves, once, and nowhere else; Moves tells which.
func TestCopies(t *testing.T) {
	d := pretended(t, "gpu")
	b := together(t, d, nil, "op")
	n, p := b.networks[0], b.programs[0]
	in := testkit.Must(n.Inputs(3))(t)
	slot := testkit.Must(p.NewSlot())(t)
	defer slot.Close()
	run := func(l, k int) int {
		before := d.copies.Load()
		testkit.OK(t, slot.Run(l, 0, k))
		return int(d.copies.Load() - before)
	}
	slot.SetInputs(in)
	for l := range n.Layers {
		want := 0
		if l == 0 {
			want += len(n.Model.Inputs())
		}
		if l == len(n.Layers)-1 {
			want += len(n.Model.Outputs())
		}
		if c := run(l, 0); c != want {
			t.Errorf("layer %d on the device it was on: %d copies, want %d", l, c, want)
		}
	}
	for cut := 1; cut < len(n.Layers); cut++ {
		for _, c := range [][2]int{{0, 2}, {2, 0}, {0, 1}, {1, 0}} {
			slot.SetInputs(in)
			for l := range cut {
				run(l, c[0])
			}
			down, convert, up := p.Moves(cut, c[0], c[1])
			want := len(down) + len(up)
			if c[1] == 0 && cut == len(n.Layers)-1 {
				want += len(n.Model.Outputs())
			}
			if got := run(cut, c[1]); got != want || got == 0 {
				t.Errorf("cut %d, %v: %d copies, Moves tells %d and %d", cut, c, got, len(down), len(up))
			}
			if (c[0] == 0) != (len(down) > 0) || (c[1] == 0) != (len(up) > 0) || c[0] != 1 && c[1] != 1 && len(convert) > 0 {
				t.Errorf("cut %d, %v: Moves tells %v %v %v", cut, c, down, convert, up)
			}
			// What is on the device yet is not copied there again.
			if c[0] == 0 && cut+2 < len(n.Layers) {
				if got := run(cut+1, 0); got > len(down) {
					t.Errorf("cut %d: back on the device after %d copies", cut, got)
				}
			}
		}
	}
}

// A chain that moves between memories makes no garbage.
func TestMovesAllocateNothing(t *testing.T) {
	d := pretended(t, "gpu")
	b := together(t, d, nil, "block")
	n := b.networks[0]
	in := testkit.Must(n.Inputs(3))(t)
	slot := testkit.Must(b.programs[0].NewSlot())(t)
	defer slot.Close()
	var failed error
	chain := func() {
		slot.SetInputs(in)
		for l := range n.Layers {
			failed = errors.Join(failed, slot.Run(l, 0, l%3))
		}
	}
	if got := testing.AllocsPerRun(50, chain); failed != nil || got > 0 {
		t.Errorf("%v objects per request, %v", got, failed)
	}
}

// One queue takes work from one thread: two accelerators on it are refused.
func TestOneQueueOneAccelerator(t *testing.T) {
	kinds(t, func(t *testing.T, open func(*testing.T, string) *device) {
		b := &bench{accs: []runtime.Accelerator{open(t, "one"), open(t, "two")}}
		b.add(t, network(t, "model"))
		tables := testkit.Must(sched.Compile(b.system(alternate)))(t)
		e, err := runtime.NewExecutor(tables, b.programs, 1)
		if shared := b.accs[0].(*device).memory.Queue() != ""; shared != (err != nil) {
			t.Errorf("%v, on one queue: %v", err, shared)
		}
		if err == nil {
			e.Close(context.Background())
		} else if want := `accelerators "one" and "two" are one device`; !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	})
}

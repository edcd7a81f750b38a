package profiler

import (
	"cmp"
	"errors"
	"fmt"
	goruntime "runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/terastal/terastal/runtime"
)

// thread is one on which everything of a stream is done: providers keep handles and searches by thread.
type thread struct {
	work chan func()
	gone chan struct{}
}

// newThread starts a thread that is pinned to the cores.
func newThread(cores []int) (*thread, error) {
	t := &thread{make(chan func()), make(chan struct{})}
	ready := make(chan error, 1)
	go func() {
		defer close(t.gone)
		goruntime.LockOSThread() // it ends with the goroutine
		ready <- runtime.Pin(cores)
		for f := range t.work {
			f()
		}
	}()
	if err := <-ready; err != nil {
		t.close()
		return nil, err
	}
	return t, nil
}

// start begins something on the thread, which must have nothing to do; the channel gets how it ended.
func (t *thread) start(f func() error) <-chan error {
	done := make(chan error, 1)
	t.work <- func() { done <- f() }
	return done
}

func (t *thread) do(f func() error) error { return <-t.start(f) }

func (t *thread) close() {
	close(t.work)
	<-t.gone
}

// chain is a model whose layers all run on one stream, one after the other.
type chain struct {
	slot   *runtime.Slot
	inputs []*runtime.Tensor
	layers int
	on     int // the accelerator
}

// submit submits a request.
func (c *chain) submit() error {
	c.slot.SetInputs(c.inputs)
	return c.again()
}

// again submits the layers once more.
func (c *chain) again() error {
	c.slot.Quiet()
	for l := range c.layers {
		if err := c.slot.Run(l, 0, c.on); err != nil {
			return err
		}
	}
	return nil
}

// run runs a few requests to the end.
func (c *chain) run() error {
	const warmups = 3
	for range warmups {
		if err := c.submit(); err != nil {
			return err
		}
		if err := c.slot.Wait(); err != nil {
			return err
		}
	}
	return nil
}

// capture has the layers captured that can be. They have run before.
func (c *chain) capture() error {
	for l := range c.layers {
		if _, err := captured(c.slot, l, 0, c.on); err != nil {
			return err
		}
	}
	return c.run()
}

// stream is one that is busy, on a thread that nothing else uses.
type stream struct {
	*thread
	accelerator runtime.Accelerator
	chains      []chain
	warm        int // how many of them are
	queue       *queue
}

// newStream makes a stream of an open accelerator, which stays the caller's to close.
func newStream(a runtime.Accelerator) (*stream, error) {
	t, err := newThread(a.Cores())
	if err != nil {
		return nil, err
	}
	return &stream{thread: t, accelerator: a}, nil
}

// warmUp gets streams ready to be busy with their chains, which are new since it was called last. First runs take long:
// the streams do them at the same time. Then layers are captured, while nothing else runs.
func warmUp(streams []*stream) error {
	var ends []<-chan error
	for _, x := range streams {
		ends = append(ends, x.start(func() error { return x.each((*chain).run) }))
	}
	var first error
	for _, end := range ends {
		first = cmp.Or(first, <-end)
	}
	for _, x := range streams {
		if first == nil {
			first = x.do(func() error { return x.ready() })
		}
	}
	return first
}

// each does something with the chains that are not warm yet.
func (x *stream) each(f func(*chain) error) error {
	for i := x.warm; i < len(x.chains); i++ {
		if err := f(&x.chains[i]); err != nil {
			return fmt.Errorf("accelerator %q: %w", x.accelerator.Name(), err)
		}
	}
	return nil
}

// ready has what is warm captured.
func (x *stream) ready() error {
	if err := x.each((*chain).capture); err != nil {
		return err
	}
	x.warm = len(x.chains)
	if x.queue != nil {
		return nil
	}
	x.queue = &queue{memory: none{}}
	var err error
	if m := runtime.MemoryOf(x.accelerator); m != nil {
		// One chain is submitted while the one before it runs.
		x.queue, err = newQueue(m, 2)
	}
	return err
}

// none stands for the memory of the host, in which everything is complete at once.
type none struct{ runtime.Memory }

func (none) Wait() error { return nil }

// run submits chains until the last is over, or it fails: the queue bounds how many are under way. begun is called when
// the stream has more to do than it can have done.
func (x *stream) run(more func(n int) bool, begun func()) error {
	var once sync.Once
	defer once.Do(begun) // nobody waits for a stream that fails
	for n := 0; more(n); n++ {
		if err := x.chains[n%len(x.chains)].submit(); err != nil {
			return err
		}
		if n > 0 {
			once.Do(begun)
		}
		if err := x.queue.push(); err != nil {
			return err
		}
	}
	return nil
}

// finish waits for what was submitted.
func (x *stream) finish() error {
	if m := runtime.MemoryOf(x.accelerator); m != nil {
		return m.Wait()
	}
	return nil
}

// release frees what the stream ran in. Its thread stays, for providers that keep things by thread.
func (x *stream) release() {
	x.do(func() error {
		if x.queue != nil {
			x.queue.close()
		}
		for i := range x.chains {
			x.chains[i].slot.Close()
		}
		return nil
	})
}

// occupy keeps so many streams busy until rest is called, which says what failed.
func occupy(streams []*stream) (rest func() error, err error) {
	if err := warmUp(streams); err != nil {
		return nil, err
	}
	var stop atomic.Bool
	var begun sync.WaitGroup
	var ends []<-chan error
	for _, x := range streams {
		begun.Add(1)
		ends = append(ends, x.start(func() error {
			err := x.run(func(int) bool { return !stop.Load() }, begun.Done)
			if err == nil {
				err = x.finish()
			}
			return err
		}))
	}
	begun.Wait()
	return func() error {
		stop.Store(true)
		var first error
		for i, end := range ends {
			if err := <-end; err != nil && first == nil {
				first = fmt.Errorf("accelerator %q: %w", streams[i].accelerator.Name(), err)
			}
		}
		return first
	}, nil
}

// capture has the layers captured that can be, once they have run, and adds the places that are held against them. Then
// it warms up other streams.
func (s *server) capture() (reply, error) {
	a := reply{Done: true}
	for i, m := range s.models {
		for n, p := range s.places {
			if p.Do == layerRun && p.Model == i && s.warm[n] {
				if _, err := captured(m.spread, p.Layer, p.Implementation, s.k); err != nil {
					return a, err
				}
			}
		}
		n, err := s.captureWhole(i)
		if err != nil {
			return a, err
		}
		a.Captured = append(a.Captured, n)
	}
	if err := s.calibrate(); err != nil {
		return a, err
	}
	a.Places = s.places
	return a, warmUp(s.streams)
}

// captured has a slot's layer captured, if it can be.
func captured(slot *runtime.Slot, layer, implementation, accelerator int) (bool, error) {
	err := slot.Capture(layer, implementation, accelerator)
	if errors.Is(err, runtime.ErrUncaptured) || errors.Is(err, runtime.ErrNoRoom) {
		return false, nil
	}
	return err == nil, err
}

// captureWhole has the chain of a model captured, layer by layer, and the model as a whole as one graph. It returns how
// many layers are.
func (s *server) captureWhole(i int) (layers int, err error) {
	m := s.models[i]
	if m.chained == nil {
		return 0, nil
	}
	for l := range m.Network.Layers {
		is, err := captured(m.chained, l, 0, s.k)
		if err != nil {
			return 0, err
		}
		layers += count(is)
	}
	add := func(do activity, of *runtime.Program, slot **runtime.Slot) (err error) {
		*slot, err = s.newSlot(of)
		s.places = append(s.places, place{Do: do, Model: i})
		return err
	}
	if layers > 0 {
		if err := add(plainRun, m.Program, &m.plain); err != nil {
			return 0, err
		}
	}
	at := slices.Index(s.places, place{Do: wholeRun, Model: i})
	if at < 0 || !s.warm[at] {
		return layers, nil
	}
	if err := add(graphRun, m.uncut, &m.graph); err != nil {
		return 0, err
	}
	is, err := captured(m.graph, 0, 0, 0)
	if err == nil && !is {
		s.places = s.places[:len(s.places)-1]
	}
	return layers, err
}

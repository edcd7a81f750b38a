package chain

import (
	"errors"
	"fmt"
	goruntime "runtime"
	"slices"
	"sync"

	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/runtime"
)

// Accelerators compute variants that are for one provider, and whose accuracy is that of the accelerator. Each is
// opened when it is first needed, and used on a thread that does nothing else.
type Accelerators struct {
	open func(provider string) (runtime.Accelerator, error)

	mu    sync.Mutex
	hosts map[string]*host // by provider
}

// NewAccelerators makes accelerators that open opens. They have to be closed.
func NewAccelerators(open func(provider string) (runtime.Accelerator, error)) *Accelerators {
	return &Accelerators{open: open, hosts: map[string]*host{}}
}

// Close closes those that were opened. What was opened on them has to be closed before.
func (a *Accelerators) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	var errs []error
	for _, h := range a.hosts {
		if h.accelerator != nil {
			errs = append(errs, h.do(h.accelerator.Close))
		}
		close(h.work)
	}
	clear(a.hosts)
	return errors.Join(errs...)
}

// errNowhere is about a unit that is for one provider where nothing computes on that.
var errNowhere = errors.New("there is no accelerator to compute it on")

// of is the thread of a provider's accelerator.
func (a *Accelerators) of(provider string) (*host, error) {
	if a == nil {
		return nil, errNowhere
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	h := a.hosts[provider]
	if h == nil {
		h = &host{work: make(chan func())}
		a.hosts[provider] = h
		go h.serve()
		h.err = h.do(func() (err error) {
			h.accelerator, err = a.open(provider)
			return err
		})
	}
	return h, h.err
}

// host is the thread of an accelerator: what providers keep for the calling thread is kept once.
type host struct {
	work        chan func()
	accelerator runtime.Accelerator // nil where it could not be opened
	err         error               // why
}

func (h *host) serve() {
	goruntime.LockOSThread() // and never unlocked, so that the thread ends with the goroutine
	for f := range h.work {
		f()
	}
}

// do calls f on the thread. It may be called from any goroutine.
func (h *host) do(f func() error) (err error) {
	done := make(chan struct{})
	h.work <- func() {
		defer close(done)
		err = f()
	}
	<-done
	return err
}

// remote is an implementation of a layer on an accelerator. It may be run from any goroutine.
type remote struct {
	*host
	layer   *models.Layer
	program *runtime.Program
	slot    *runtime.Slot
	inputs  []*runtime.Tensor
	outputs []int // by output of the layer: which of the program's it is
}

// openRemote opens a unit where its provider is.
func openRemote(l *models.Layer, u runtime.Unit, on *Accelerators) (*remote, error) {
	h, err := on.of(u.Provider)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", u.Provider, err)
	}
	n, err := alone(l, u)
	if err != nil {
		return nil, err
	}
	r := &remote{host: h, layer: l}
	if err := h.do(func() error { return r.prepare(n) }); err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

// alone is a network of one layer, with the unit as a variant.
func alone(l *models.Layer, u runtime.Unit) (*runtime.Network, error) {
	onnx, err := l.ONNX()
	if err != nil {
		return nil, err
	}
	if u.ONNX == nil {
		u.ONNX = onnx
	}
	m, err := models.Parse(l.Name, onnx, models.Options{})
	if err != nil {
		return nil, err
	}
	n, err := runtime.NewNetwork(l.Name, m, "model")
	if err != nil {
		return nil, err
	}
	if len(n.Layers) != 1 {
		return nil, fmt.Errorf("layer %q alone is cut into %d", l.Name, len(n.Layers))
	}
	u.Inputs, u.Outputs = n.Layers[0].Inputs, n.Layers[0].Outputs
	n.Variants = map[int][]runtime.Unit{0: {u}}
	n.Skip = func(_, implementation, accelerator int) error {
		if implementation != 1-accelerator {
			return errNotAsked
		}
		return nil
	}
	return n, nil
}

var errNotAsked = errors.New("it is not computed there")

// unused has the original, which takes no room on the accelerator then.
type unused struct{}

func (unused) Name() string                                 { return "unused" }
func (unused) Cores() []int                                 { return nil }
func (unused) Level() string                                { return models.Portable }
func (unused) Prepare(runtime.Unit) (runtime.Kernel, error) { return unused{}, nil }
func (unused) Run(_, _ []*runtime.Tensor) error             { return errNotAsked }
func (unused) Close() error                                 { return nil }

// prepare loads the network, on the accelerator's thread.
func (r *remote) prepare(n *runtime.Network) (err error) {
	if r.program, err = runtime.Prepare(n, []runtime.Accelerator{r.accelerator, unused{}}, nil); err != nil {
		return err
	}
	if err := r.program.Refused(0, 1, 0); err != nil {
		return err
	}
	if r.slot, err = r.program.NewSlot(); err != nil {
		return err
	}
	for _, t := range n.Model.Inputs() {
		x, err := runtime.NewTensor(t, make([]byte, t.Bytes()))
		if err != nil {
			return err
		}
		r.inputs = append(r.inputs, x)
	}
	for _, t := range r.layer.Outputs {
		i := slices.IndexFunc(n.Model.Outputs(), func(x models.Tensor) bool { return x.Name == t.Name })
		if i < 0 {
			return fmt.Errorf("layer %q alone has no output %q", r.layer.Name, t.Name)
		}
		r.outputs = append(r.outputs, i)
	}
	return nil
}

// run computes the layer's outputs.
func (r *remote) run(in map[string][]byte) (out [][]byte, err error) {
	err = r.do(func() error {
		for _, t := range r.inputs {
			if err := given(in, t.Name, len(t.Data)); err != nil {
				return err
			}
			copy(t.Data, in[t.Name])
		}
		r.slot.SetInputs(r.inputs)
		if err := errors.Join(r.slot.Run(0, 1, 0), r.slot.Wait()); err != nil {
			return err
		}
		results := r.slot.Outputs()
		for _, i := range r.outputs {
			out = append(out, slices.Clone(results[i].Data))
		}
		return nil
	})
	return out, err
}

func (r *remote) close() {
	r.do(func() error {
		if r.slot != nil {
			r.slot.Close()
		}
		for _, t := range r.inputs {
			t.Close()
		}
		if r.program != nil {
			r.program.Close()
		}
		return nil
	})
}

// given checks the size of a tensor.
func given(in map[string][]byte, name string, size int) error {
	if len(in[name]) != size {
		return fmt.Errorf("tensor %q has %d bytes, need %d", name, len(in[name]), size)
	}
	return nil
}

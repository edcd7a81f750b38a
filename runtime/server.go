package runtime

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"gorgonia.org/tensor"

	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/models/dense"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/traffic"
)

// ErrStopped is what Submit answers once the executor stops serving.
var ErrStopped = errors.New("the executor takes no more requests")

// Tensors are a model's inputs or outputs by name. Their memory is what the kernels read and what the executor has
// written the results to: nothing is converted. float16 and bfloat16 are carried as uint16.
type Tensors map[string]*tensor.Dense

// RequestOptions is what a request may say besides its inputs.
type RequestOptions struct {
	// Deadline is from the submission; zero means the model's.
	Deadline time.Duration
	// Outputs, if not nil, are the tensors that the results are copied to, one for every output of the model.
	Outputs Tensors
}

// Response is how a request ended.
type Response struct {
	Outcome sched.Outcome
	// Reason says why a request was dropped or failed.
	Reason string
	// Latency is from the submission to the end of the last layer, or to when the request was given up.
	Latency time.Duration
	// Outputs are the caller's: those of RequestOptions, or new ones that no
	// other request shares. Nil unless Outcome is Met or Late.
	Outputs Tensors
}

// Pending is a request that was submitted.
type Pending struct {
	program  *Program
	deadline time.Duration
	inputs   []*Tensor // nil for the executor's own
	out      [][]byte  // where the results go; nil until there are some
	outputs  Tensors   // the same, if the caller brought them
	response Response
	done     chan struct{}
}

// serving is what takes requests for an executor.
type serving struct {
	options Options // unless Serve says otherwise
	driver  atomic.Pointer[driver]
	stopped atomic.Bool
	start   sync.Mutex
}

// Serve starts the workers, so that requests can be submitted until Stop. Options.Traffic and Samples do not apply.
// Without Serve the first Submit does it, under the options of Open, unless Stop was called.
func (e *Executor) Serve(o Options) error {
	o.Samples, o.Outputs, o.Traffic = 0, nil, traffic.Config{Seed: o.Traffic.Seed, Rates: make([]float64, len(e.models))}
	d, err := e.newDriver(o, nil, true)
	if err != nil {
		return err
	}
	if err := d.begin(); err != nil {
		return err
	}
	e.serving.stopped.Store(false)
	e.serving.driver.Store(d)
	return nil
}

// server is what takes requests, started if nothing does.
func (e *Executor) server() (*driver, error) {
	if d := e.serving.driver.Load(); d != nil {
		return d, nil
	}
	e.serving.start.Lock()
	defer e.serving.start.Unlock()
	if e.serving.driver.Load() == nil {
		if e.serving.stopped.Load() {
			return nil, ErrStopped
		}
		if err := e.Serve(e.serving.options); err != nil {
			return nil, err
		}
	}
	return e.serving.driver.Load(), nil
}

// Submit hands a request to a model, by name, and returns at once; any number of goroutines may call it. Without inputs
// (nil) the executor's own are used. Inputs are read where they are: they must not change before the request has ended.
// A request that the queue has no room for, or that is dropped or fails later, has a response all the same: its outcome
// says so. Errors are requests that do not fit their model, ErrStopped, ErrBusy while Run is under way, and ctx's if it
// has ended.
func (e *Executor) Submit(ctx context.Context, model string, inputs Tensors, o RequestOptions) (*Pending, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("submit: %w", err)
	}
	m := e.index(model)
	if m < 0 {
		return nil, fmt.Errorf("submit: there is no model %q", model)
	}
	if o.Deadline < 0 {
		return nil, fmt.Errorf("submit: model %q: the deadline %v is negative", model, o.Deadline)
	}
	d, err := e.server()
	if err != nil {
		return nil, fmt.Errorf("submit: %w", err)
	}
	p := &Pending{program: e.models[m].Program, deadline: o.Deadline, outputs: o.Outputs, done: make(chan struct{})}
	if err := p.take(inputs); err != nil {
		return nil, fmt.Errorf("submit: model %q: %w", model, err)
	}
	if err := d.submit(m, p); err != nil {
		p.free()
		return nil, err
	}
	return p, nil
}

// take checks the request's tensors and wraps them.
func (p *Pending) take(inputs Tensors) (err error) {
	m := p.program.Network.Model
	if p.outputs != nil {
		if p.out, err = p.outputs.memory(m.Outputs()); err != nil {
			return fmt.Errorf("outputs: %w", err)
		}
	}
	if inputs != nil {
		if p.inputs, err = inputs.wrap(m.Inputs()); err != nil {
			return fmt.Errorf("inputs: %w", err)
		}
	}
	return nil
}

// free gives the wrapping of the inputs back.
func (p *Pending) free() {
	closeAll(p.inputs)
	p.inputs = nil
}

// wrap makes tensors over the same memory, in a model's order, for kernels. The caller closes them.
func (ts Tensors) wrap(want []models.Tensor) (out []*Tensor, _ error) {
	data, err := ts.memory(want)
	if err != nil {
		return nil, err
	}
	for i, info := range want {
		t, err := NewTensor(info, data[i])
		if err != nil {
			closeAll(out)
			return nil, err
		}
		out = append(out, t)
	}
	return out, nil
}

// memory is where the tensors' data lie, in a model's order.
func (ts Tensors) memory(want []models.Tensor) ([][]byte, error) {
	if len(ts) != len(want) {
		return nil, fmt.Errorf("%d tensors, the model has %d", len(ts), len(want))
	}
	out := make([][]byte, len(want))
	for i, info := range want {
		t := ts[info.Name]
		if t == nil {
			return nil, fmt.Errorf("there is no tensor %q", info.Name)
		}
		err := dense.Fits(t, info)
		if err == nil {
			out[i], err = dense.Bytes(t)
		}
		if err != nil {
			return nil, fmt.Errorf("%q: %w", info.Name, err)
		}
	}
	return out, nil
}

// Wait returns the response once there is one, or ctx's error when ctx ends first; the request continues all the same.
func (p *Pending) Wait(ctx context.Context) (Response, error) {
	select {
	case <-p.done:
		return p.response, nil
	case <-ctx.Done():
		return Response{}, ctx.Err()
	}
}

// Done is closed when there is a response.
func (p *Pending) Done() <-chan struct{} { return p.done }

// collect copies the outputs of a request that has run its last layer.
func (p *Pending) collect(s *Slot) error {
	if p.outputs == nil {
		if err := p.allocate(); err != nil {
			return err
		}
	}
	for i, n := range p.program.outputs {
		copy(p.out[i], s.tensors[n].Data)
	}
	return nil
}

// allocate makes tensors for the results.
func (p *Pending) allocate() error {
	infos := p.program.Network.Model.Outputs()
	out, outputs := make([][]byte, len(infos)), Tensors{}
	for i, info := range infos {
		out[i] = align(make([]byte, info.Bytes()+alignment))[:info.Bytes()]
		t, err := dense.Of(info, out[i])
		if err != nil {
			return err
		}
		outputs[info.Name] = t
	}
	p.out, p.outputs = out, outputs
	return nil
}

// end gives the request its outcome. Called with the driver's lock.
func (p *Pending) end(rec *sched.Record) {
	p.response = Response{Outcome: rec.Outcome, Reason: rec.Detail, Latency: rec.At - rec.Start}
	if rec.Outcome == sched.Met || rec.Outcome == sched.Late {
		p.response.Outputs = p.outputs
	}
	close(p.done)
}

// Stats is how the executor stands while it serves.
func (e *Executor) Stats() Stats {
	var out Stats
	if d := e.serving.driver.Load(); d != nil {
		d.mu.Lock()
		defer d.unlock()
		d.snapshot(&out)
	}
	return out
}

// Stop takes no more requests, waits for those submitted to end, and returns what was done since Serve; nil if the
// executor does not serve. When ctx ends first, those that wait are dropped. Afterwards the executor can Run, or Serve
// again.
func (e *Executor) Stop(ctx context.Context) *Result {
	e.serving.stopped.Store(true)
	d := e.serving.driver.Load()
	if d == nil {
		return nil
	}
	d.mu.Lock()
	d.releases.open = false
	d.settle()
	d.unlock()
	r := d.wait(ctx)
	e.serving.driver.Store(nil)
	return r
}

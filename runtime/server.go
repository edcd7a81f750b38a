package runtime

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/sched"
)

// ErrClosed is what a server answers that takes no more requests.
var ErrClosed = errors.New("the server is closed")

// Server runs requests as they are submitted, from any goroutine.
type Server struct{ d *driver }

// Serve starts the workers and returns a server that takes requests until it
// is closed. Options.Traffic, Samples and Progress's arrivals do not apply.
func (e *Executor) Serve(o Options) (*Server, error) {
	o.Samples = 0
	d, err := e.newDriver(o, nil, true)
	if err != nil {
		return nil, err
	}
	if err := d.begin(); err != nil {
		return nil, err
	}
	return &Server{d}, nil
}

// Request is one inference.
type Request struct {
	// Model is the index of the model in the system.
	Model int
	// Inputs are the model's, in its order; nil stands for the executor's own.
	// They must not change, and not be closed, before the request has ended.
	Inputs []*Tensor
	// Outputs, if not nil, are tensors that the results are copied to; else the
	// response brings new ones, which the caller closes.
	Outputs []*Tensor
	// Deadline is from the submission; zero means the model's.
	Deadline time.Duration
}

// Response is how a request ended.
type Response struct {
	Outcome sched.Outcome
	// Reason says why a request was dropped or failed.
	Reason string
	// Latency is from the submission to the end of the last layer, or to when
	// the request was given up.
	Latency time.Duration
	// Outputs are the model's, in its order; nil unless Outcome is Met or Late.
	Outputs []*Tensor
}

// Pending is a request that was submitted.
type Pending struct {
	request  Request
	response Response
	program  *Program
	done     chan struct{}
}

// Submit hands a request in and returns at once. A request that the queue has
// no room for, or that is dropped or fails later, has a response all the same:
// its outcome says so. Errors are requests that do not fit their model, and
// ErrClosed.
func (s *Server) Submit(r Request) (*Pending, error) {
	d := s.d
	if r.Model < 0 || r.Model >= len(d.programs) {
		return nil, fmt.Errorf("submit: there is no model %d, have %d", r.Model, len(d.programs))
	}
	p := &Pending{request: r, program: d.programs[r.Model], done: make(chan struct{})}
	n := p.program.Network
	if r.Deadline < 0 {
		return nil, fmt.Errorf("submit: model %q: the deadline %v is negative", n.Name, r.Deadline)
	}
	if r.Inputs != nil {
		if err := fits(r.Inputs, n.Model.Inputs()); err != nil {
			return nil, fmt.Errorf("submit: model %q: inputs: %w", n.Name, err)
		}
	}
	if r.Outputs != nil {
		if err := fits(r.Outputs, n.Model.Outputs()); err != nil {
			return nil, fmt.Errorf("submit: model %q: outputs: %w", n.Name, err)
		}
	}
	d.mu.Lock()
	defer d.unlock()
	if !d.open {
		return nil, ErrClosed
	}
	job := d.jobs
	d.jobs++
	d.pending[job] = p
	now := max(d.since(), d.now)
	ev := sched.Event{Kind: sched.Release, At: now, Start: now, Job: job, Model: r.Model}
	if r.Deadline > 0 {
		ev.Deadline = now + r.Deadline
	}
	d.step(ev, sched.Idle)
	return p, nil
}

// Wait returns the response once there is one, or ctx's error when ctx ends
// first; the request then goes on.
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
	out := p.request.Outputs
	if out == nil {
		for _, t := range s.Outputs() {
			c, err := NewTensor(t.Tensor, make([]byte, len(t.Data)))
			if err != nil {
				return err
			}
			out = append(out, c)
		}
	}
	for i, n := range p.program.outputs {
		copy(out[i].Data, s.tensors[n].Data)
	}
	p.response.Outputs = out
	return nil
}

// end gives the request its outcome. Called with the driver's lock.
func (p *Pending) end(rec *sched.Record) {
	p.response.Outcome, p.response.Reason, p.response.Latency = rec.Outcome, rec.Detail, rec.At-rec.Start
	if rec.Outcome != sched.Met && rec.Outcome != sched.Late {
		p.response.Outputs = nil
	}
	close(p.done)
}

// Stats is how the server stands.
func (s *Server) Stats() Stats {
	s.d.mu.Lock()
	defer s.d.unlock()
	var out Stats
	s.d.snapshot(&out)
	return out
}

// Close takes no more requests, waits for those submitted to end, and returns
// what the server did. When ctx ends first, those that wait are dropped. Close
// is called once.
func (s *Server) Close(ctx context.Context) *Result {
	d := s.d
	d.mu.Lock()
	d.open = false
	d.settle()
	d.unlock()
	unwatch := context.AfterFunc(ctx, d.stop)
	<-d.done
	unwatch()
	r := d.end()
	r.Interrupted = ctx.Err() != nil
	return r
}

// fits checks tensors against what a model takes or gives.
func fits(have []*Tensor, want []models.Tensor) error {
	if len(have) != len(want) {
		return fmt.Errorf("%d tensors, the model has %d", len(have), len(want))
	}
	for i, t := range have {
		if t == nil || t.value == nil {
			return fmt.Errorf("tensor %d (%s) is missing or closed", i, want[i].Name)
		}
		if t.Type != want[i].Type || t.Block != 0 || !slices.Equal(t.Shape, want[i].Shape) {
			return fmt.Errorf("tensor %d is %v%v, the model has %v", i, t.Type, t.Shape, want[i])
		}
	}
	return nil
}

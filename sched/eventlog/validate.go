package eventlog

import (
	"fmt"
	"time"

	"github.com/terastal/terastal/sched"
)

// Validate checks that indices exist, time does not go back, every dispatch is of a released job whose next layer it is
// on an accelerator that is idle or about to be, in service and can run it, every completion or failed attempt ends a
// dispatch, in the order of layers and of the accelerator's dispatches, and every job ends exactly once with the outcome
// that its layers and deadline say.
func (l *Log) Validate() error {
	if err := l.Header.System.Validate(); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if len(l.Header.Rates) != len(l.Header.System.Models) {
		return fmt.Errorf("%w: %d rates for %d models", ErrInvalid, len(l.Header.Rates), len(l.Header.System.Models))
	}
	n := len(l.Header.System.Accelerators)
	for i := range l.Header.Taken {
		if err := l.Header.Taken[i].Check(n); err != nil {
			return fmt.Errorf("%w: %w", ErrInvalid, err)
		}
	}
	c := checker{system: &l.Header.System, jobs: map[int64]*progress{}, busy: make([]*progress, n), tail: make([]tail, n),
		down: make([]bool, n)}
	for i := range l.Records {
		if err := c.step(&l.Records[i]); err != nil {
			return fmt.Errorf("%w: record %d (%s): %w", ErrInvalid, i, l.Records[i].Kind, err)
		}
	}
	for id, p := range c.jobs {
		if !p.ended {
			return fmt.Errorf("%w: request %d has no outcome", ErrInvalid, id)
		}
	}
	return nil
}

// checker follows a log to find its first contradiction.
type checker struct {
	system *sched.System
	now    time.Duration
	jobs   map[int64]*progress
	busy   []*progress // by accelerator
	tail   []tail      // by accelerator: what is about to end there
	down   []bool
}

// tail is a layer that is about to end; its job may have moved on.
type tail struct {
	*progress
	layer, impl int32
	dispatch    time.Duration
}

// latest bounds instants (18 years), far from where adding to them overflows.
const latest = time.Duration(1) << 59

type progress struct {
	model, layer, impl int32
	on                 int32
	release, deadline  time.Duration
	dispatch           time.Duration // of the layer that runs
	trail              int32         // the accelerator on which the layer before has yet to end, or -1
	doomed             bool          // a layer failed while it ran the next
	ended              bool
}

func (c *checker) step(r *Record) error {
	if r.At < c.now {
		return fmt.Errorf("at %v, after one at %v", r.At, c.now)
	}
	for _, x := range []time.Duration{r.At, r.Start, r.Until} {
		if x < 0 || x > latest {
			return fmt.Errorf("instant %d ns, need 0 to %d", x, latest)
		}
	}
	c.now = r.At
	switch r.Kind {
	case sched.Released:
		return c.released(r)
	case sched.Down, sched.Up:
		if err := c.accelerator(r); err != nil {
			return err
		}
		c.down[r.Accelerator] = r.Kind == sched.Down
		return nil
	case sched.Stopped, sched.RuleFound:
		return nil
	}
	p := c.jobs[r.Job]
	switch {
	case p == nil:
		return fmt.Errorf("request %d was not released", r.Job)
	case p.ended:
		return fmt.Errorf("request %d has ended", r.Job)
	case p.model != r.Model:
		return fmt.Errorf("request %d is of model %d, not %d", r.Job, p.model, r.Model)
	}
	switch r.Kind {
	case sched.Dispatched:
		return c.dispatched(r, p)
	case sched.Announced:
		return c.announced(r, p)
	case sched.Completed, sched.Requeued, sched.Doomed:
		return c.completed(r, p)
	default:
		return c.ended(r, p)
	}
}

func (c *checker) accelerator(r *Record) error {
	if r.Accelerator < 0 || int(r.Accelerator) >= len(c.busy) {
		return fmt.Errorf("no accelerator %d", r.Accelerator)
	}
	return nil
}

func (c *checker) released(r *Record) error {
	if r.Model < 0 || int(r.Model) >= len(c.system.Models) {
		return fmt.Errorf("no model %d", r.Model)
	}
	if r.Job < 0 || c.jobs[r.Job] != nil {
		return fmt.Errorf("request %d released twice", r.Job)
	}
	if r.Until <= r.Start {
		return fmt.Errorf("request %d has its deadline %v before its release %v", r.Job, r.Until, r.Start)
	}
	c.jobs[r.Job] = &progress{model: r.Model, on: -1, trail: -1, release: r.Start, deadline: r.Until}
	return nil
}

func (c *checker) dispatched(r *Record, p *progress) error {
	layers := c.system.Models[p.model].Layers
	switch {
	case p.on >= 0:
		return fmt.Errorf("request %d already runs", r.Job)
	case r.Layer != p.layer || int(r.Layer) >= len(layers):
		return fmt.Errorf("request %d is at layer %d of %d, not %d", r.Job, p.layer, len(layers), r.Layer)
	case r.Implementation < 0 || int(r.Implementation) >= len(layers[r.Layer].Implementations):
		return fmt.Errorf("layer %d has no implementation %d", r.Layer, r.Implementation)
	}
	if err := c.accelerator(r); err != nil {
		return err
	}
	if c.busy[r.Accelerator] != nil {
		return fmt.Errorf("accelerator %d is busy", r.Accelerator)
	}
	if c.down[r.Accelerator] {
		return fmt.Errorf("accelerator %d is out of service", r.Accelerator)
	}
	if layers[r.Layer].Implementations[r.Implementation].Latency[r.Accelerator] == sched.Unavailable {
		return fmt.Errorf("layer %d implementation %d cannot run on accelerator %d", r.Layer, r.Implementation, r.Accelerator)
	}
	c.busy[r.Accelerator], p.on, p.impl, p.dispatch = p, r.Accelerator, r.Implementation, r.At
	return nil
}

// runs returns an error unless the request runs the record's layer on its accelerator, after the layers before.
func (c *checker) runs(r *Record, p *progress) error {
	if err := c.accelerator(r); err != nil {
		return err
	}
	switch {
	case c.busy[r.Accelerator] != p || r.Layer != p.layer || r.Implementation != p.impl:
		return fmt.Errorf("request %d layer %d does not run on accelerator %d", r.Job, r.Layer, r.Accelerator)
	case p.trail >= 0:
		return fmt.Errorf("request %d layer %d runs before the one before has ended", r.Job, r.Layer)
	}
	return nil
}

func (c *checker) announced(r *Record, p *progress) error {
	if err := c.runs(r, p); err != nil {
		return err
	}
	t := &c.tail[r.Accelerator]
	if t.progress != nil || r.Until < r.At {
		return fmt.Errorf("request %d layer %d is about to end at %v, at %v or behind another", r.Job, r.Layer, r.Until, r.At)
	}
	*t, c.busy[r.Accelerator] = tail{p, p.layer, p.impl, p.dispatch}, nil
	if int(p.layer)+1 < len(c.system.Models[p.model].Layers) && !p.doomed {
		p.layer, p.on, p.trail = p.layer+1, -1, r.Accelerator
	}
	return nil
}

// completed ends a layer, or an attempt of it that failed.
func (c *checker) completed(r *Record, p *progress) error {
	if err := c.accelerator(r); err != nil {
		return err
	}
	dispatch, t := p.dispatch, &c.tail[r.Accelerator]
	if t.progress == nil {
		if err := c.runs(r, p); err != nil {
			return err
		}
		c.busy[r.Accelerator] = nil
	} else {
		if t.progress != p || r.Layer != t.layer || r.Implementation != t.impl {
			return fmt.Errorf("request %d layer %d ends on accelerator %d before another", r.Job, r.Layer, r.Accelerator)
		}
		dispatch, *t = t.dispatch, tail{}
	}
	moved := p.trail >= 0
	p.trail = -1
	switch {
	case r.Kind == sched.Doomed:
		if !moved || p.on < 0 {
			return fmt.Errorf("request %d fails behind a layer that it does not run", r.Job)
		}
		p.doomed = true
		return nil
	case r.Kind == sched.Requeued && moved:
		return fmt.Errorf("request %d has moved on from layer %d", r.Job, r.Layer)
	case r.Kind == sched.Completed && (r.Start > r.At || r.Start < dispatch):
		return fmt.Errorf("request %d layer %d starts at %v, not between its dispatch at %v and its end at %v", r.Job, r.Layer,
			r.Start, dispatch, r.At)
	case moved:
		return nil
	case r.Kind == sched.Completed && !p.doomed:
		p.layer++
	}
	p.on = -1
	return nil
}

func (c *checker) ended(r *Record, p *progress) error {
	done := int(p.layer) == len(c.system.Models[p.model].Layers)
	switch {
	case r.Outcome == sched.Pending:
		return fmt.Errorf("request %d ends without an outcome", r.Job)
	case (r.Outcome == sched.Met || r.Outcome == sched.Late) && !done:
		return fmt.Errorf("request %d is %s after %d layers", r.Job, r.Outcome, p.layer)
	case (r.Outcome == sched.Met) != (done && r.At <= p.deadline) && (r.Outcome == sched.Met || r.Outcome == sched.Late):
		return fmt.Errorf("request %d is %s at %v with its deadline at %v", r.Job, r.Outcome, r.At, p.deadline)
	}
	on, layer := p.on, p.layer
	if p.trail >= 0 {
		on, layer = p.trail, layer-1
	}
	if r.Start != p.release || r.Until != p.deadline || r.Layer != layer {
		return fmt.Errorf("request %d ends as one from %v to %v at layer %d, but is from %v to %v at layer %d", r.Job, r.Start,
			r.Until, r.Layer, p.release, p.deadline, layer)
	}
	if (on >= 0 || p.doomed) != (r.Outcome == sched.Failed) || on != r.Accelerator || p.on >= 0 && p.trail >= 0 {
		return fmt.Errorf("request %d is %s on accelerator %d, but runs on %d", r.Job, r.Outcome, r.Accelerator, on)
	}
	if on >= 0 {
		if c.tail[on].progress == p {
			c.tail[on] = tail{}
		} else if c.busy[on] = nil; c.tail[on].progress != nil {
			return fmt.Errorf("request %d fails on accelerator %d before another", r.Job, on)
		}
	}
	p.ended = true
	return nil
}

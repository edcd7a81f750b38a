package profiler

import (
	"time"

	"github.com/terastal/terastal/runtime"
)

// Layers of accelerators whose memory has events are submitted back to back, with an event between two: what passes
// from event to event on the device's clock is what a layer takes there when layers follow each other.

// clock is where host time comes from. Its zero value is the system's.
type clock struct {
	now   func() time.Time
	sleep func(time.Duration)
}

func (c clock) time() time.Time {
	if c.now == nil {
		return time.Now()
	}
	return c.now()
}

func (c clock) pause(d time.Duration) {
	if c.sleep == nil {
		time.Sleep(d)
		return
	}
	c.sleep(d)
}

const (
	// ahead is how many layers are submitted before the oldest is waited for.
	ahead = 16
	// leads is how many layers precede those that are timed, so that the device works when the first is submitted.
	leads = 3
	// rested is from when on a device may have begun to rest. It is then kept busy for as long as it rested, at least
	// shortSpin and at most longSpin, before anything is timed.
	rested    = 200 * time.Microsecond
	shortSpin = time.Millisecond
	longSpin  = 20 * time.Millisecond
	// events is how often one event after another is timed.
	events = 25
	// warmest is how often a place is run at most until it takes what it took before.
	warmest = 8
)

// queue bounds what is submitted to a stream.
type queue struct {
	memory runtime.Memory
	events []runtime.Event // nil where the memory has none: then it waits for everything
	n      int
}

// newQueue bounds what is submitted to so many pieces of work, of which the oldest is waited for.
func newQueue(memory runtime.Memory, length int) (*queue, error) {
	q := &queue{memory: memory}
	for range length {
		e, err := memory.NewEvent()
		if err != nil {
			q.close()
			return nil, err
		}
		if e == nil {
			break
		}
		q.events = append(q.events, e)
	}
	return q, nil
}

// push is called when a piece of work was submitted.
func (q *queue) push() error {
	if q.events == nil {
		return q.memory.Wait()
	}
	if err := q.events[q.n%len(q.events)].Record(); err != nil {
		return err
	}
	q.n++
	if q.n < len(q.events) {
		return nil
	}
	return q.events[q.n%len(q.events)].Wait()
}

func (q *queue) close() {
	for _, e := range q.events {
		e.Close()
	}
	q.events = nil
}

// pacer times what a device does. It exists where the device's memory has events.
type pacer struct {
	events []runtime.Event
	queue  *queue
	// fill are the places that keep the device busy while nothing is timed, and next the one that is to come.
	fill []int
	next int
	// event is what an event takes that is between two others and measures nothing.
	event time.Duration
}

// newPacer returns nil where the memory has no events.
func newPacer(memory runtime.Memory) (*pacer, error) {
	if memory == nil {
		return nil, nil
	}
	q, err := newQueue(memory, ahead)
	if err != nil || q.events == nil {
		return nil, err
	}
	return &pacer{queue: q}, nil
}

// at is the n-th of the events that times are taken with.
func (p *pacer) at(n int) (runtime.Event, error) {
	for len(p.events) <= n {
		e, err := p.queue.memory.NewEvent()
		if err != nil {
			return nil, err
		}
		p.events = append(p.events, e)
	}
	return p.events[n], nil
}

// mark records the n-th event.
func (p *pacer) mark(n int) error {
	e, err := p.at(n)
	if err != nil {
		return err
	}
	return e.Record()
}

// span is the time from one event to another, which it waits for.
func (p *pacer) span(from, to int) (time.Duration, error) {
	if err := p.events[to].Wait(); err != nil {
		return 0, err
	}
	return p.events[to].Since(p.events[from])
}

func (p *pacer) close() {
	if p == nil {
		return
	}
	for _, e := range p.events {
		e.Close()
	}
	p.queue.close()
}

// warmUp runs a place until it takes what it took before: the first runs on a thread may be long.
func (s *server) warmUp(i int) error {
	if s.memory == nil || s.warm[i] {
		return nil
	}
	last := time.Duration(0)
	for n := range warmest {
		took, err := s.once(i)
		if err != nil {
			return err
		}
		s.took[s.places[i]] = took
		if n > 0 && alike(last, took) {
			break
		}
		last = took
	}
	s.warm[i] = true
	if s.pacer != nil && s.places[i].Do == layerRun {
		s.pacer.fill = append(s.pacer.fill, i)
	}
	return nil
}

// alike reports whether neither time is longer than the other by more than a half.
func alike(a, b time.Duration) bool { return 2*a <= 3*b && 2*b <= 3*a }

// filler submits a layer that is not timed.
func (s *server) filler() error {
	p := s.pacer
	if len(p.fill) == 0 {
		return nil
	}
	p.next = (p.next + 1) % len(p.fill)
	if err := s.submit(p.fill[p.next]); err != nil {
		return err
	}
	return p.queue.push()
}

// leadIn has the device work when what comes next is submitted, as it does under load.
func (s *server) leadIn() error {
	if s.pacer == nil {
		return nil
	}
	if err := s.spin(); err != nil {
		return err
	}
	for range leads {
		if err := s.filler(); err != nil {
			return err
		}
	}
	return nil
}

// spin keeps a device that has rested busy for a while: the longer it rested the longer.
func (s *server) spin() error {
	rest := s.clock.time().Sub(s.idle)
	if len(s.pacer.fill) == 0 || rest < rested {
		return nil
	}
	long := min(max(rest, shortSpin), longSpin)
	for begin := s.clock.time(); s.clock.time().Sub(begin) < long && !s.halt.Load(); {
		if err := s.filler(); err != nil {
			return err
		}
	}
	return nil
}

// calibrate finds out by how much the event behind a layer lengthens what is measured: a run has one behind each, and
// timing adds another.
func (s *server) calibrate() error {
	p := s.pacer
	var spans []time.Duration
	for range events {
		if err := s.leadIn(); err != nil {
			return err
		}
		for n := range 2 {
			if err := p.mark(n); err != nil {
				return err
			}
		}
		span, err := p.span(0, 1)
		if err != nil {
			return err
		}
		spans = append(spans, span)
	}
	p.event = median(spans)
	return nil
}

// paced times layers, and copies to the device, that follow each other without a pause. Those that were timed before one
// failed, or before it was to halt, are returned.
func (s *server) paced(list []int) ([]time.Duration, error) {
	for n, i := range list {
		if err := s.warmUp(i); err != nil {
			if n > 0 {
				break // it fails again when it is the first
			}
			return nil, err
		}
	}
	if err := s.leadIn(); err != nil {
		return nil, err
	}
	p := s.pacer
	defer func() { s.idle = s.clock.time() }()
	failed := p.mark(0)
	done := 0
	for _, i := range list {
		if failed != nil || s.halt.Load() || !s.warm[i] {
			break
		}
		if failed = s.submit(i); failed == nil {
			failed = p.mark(done + 1)
		}
		if failed == nil {
			done++
			if done > ahead {
				failed = p.events[done-ahead].Wait()
			}
		}
	}
	times := make([]time.Duration, 0, done)
	for n := range done {
		took, err := p.span(n, n+1)
		if err != nil {
			return times, err
		}
		took = max(1, took/2, took-p.event)
		times = append(times, took)
		s.took[s.places[list[n]]] = took
	}
	return times, failed
}

const (
	untimed  = 2
	inSeries = 9
	// seriesTime is how long a series may be.
	seriesTime = 50 * time.Millisecond
)

// series times something that is about a whole model again and again and gives the median.
func (s *server) series(i int) ([]time.Duration, error) {
	if err := s.spin(); err != nil {
		return nil, err
	}
	begin := s.clock.time()
	var times []time.Duration
	for n := 0; n < untimed+inSeries; n++ {
		took, err := s.once(i)
		if err != nil {
			return nil, err
		}
		if n >= untimed {
			times = append(times, took)
		}
		if len(times) > 0 && (s.clock.time().Sub(begin) > seriesTime || s.halt.Load()) {
			break
		}
	}
	s.idle = s.clock.time()
	return []time.Duration{max(1, median(times))}, nil
}

package runtime

import (
	"fmt"
	"sync/atomic"
	"time"
)

// marks is how many marks of a stream can be on the way at once.
const marks = 16

// stream is what a program submits to an accelerator that has a memory. The thread of the accelerator does; others ask
// for what has ended.
type stream struct {
	memory Memory
	device int // of the program
	events [marks]Event
	opened bool
	silent bool // the memory has no events
	seq    uint64
	ended  atomic.Uint64 // the last mark that is known to be complete
	// stuck is set while a layer, of any program, hangs on the stream: what was to follow it is not waited for.
	stuck atomic.Bool
}

// mark is a point in a stream: all that was submitted to it before. The zero mark is complete.
type mark struct {
	stream *stream
	seq    uint64
}

// open makes the events.
func (s *stream) open() error {
	newEvent := s.memory.NewEvent
	if m, has := s.memory.(interface{ NewMark() (Event, error) }); has {
		newEvent = m.NewMark
	}
	for i := range s.events {
		e, err := newEvent()
		if err != nil {
			return err
		}
		if s.silent = e == nil; s.silent {
			break
		}
		s.events[i] = e
	}
	s.opened = true
	return nil
}

func (s *stream) close() {
	for i, e := range s.events {
		if e != nil {
			e.Close()
			s.events[i] = nil
		}
	}
	s.opened = false
}

// mark marks what was submitted so far. Without events it is the zero mark: what is left behind was waited for then.
func (s *stream) mark() (mark, error) {
	if !s.opened {
		if err := s.open(); err != nil {
			return mark{}, err
		}
	}
	if s.silent {
		return mark{}, nil
	}
	n := s.seq + 1
	e := s.events[n%marks]
	if n > marks && s.ended.Load() < n-marks {
		if err := e.Wait(); err != nil {
			return mark{}, err
		}
		s.reach(n - marks)
	}
	if err := e.Record(); err != nil {
		return mark{}, err
	}
	s.seq = n
	return mark{s, n}, nil
}

// reach notes that a mark is complete.
func (s *stream) reach(seq uint64) {
	for {
		was := s.ended.Load()
		if was >= seq || s.ended.CompareAndSwap(was, seq) {
			return
		}
	}
}

// done reports whether all before the mark is complete. Any thread may ask.
func (m mark) done() (bool, error) {
	if m.stream == nil || m.stream.ended.Load() >= m.seq {
		return true, nil
	}
	// The event may mark a later point by now, but only if this one was known to be complete before.
	e := m.stream.events[m.seq%marks]
	if e == nil {
		return true, nil // the stream is closed
	}
	is, err := e.Done()
	if is && err == nil {
		m.stream.reach(m.seq)
	}
	return is, err
}

const (
	// eventSpin is for how long a thread looks for an event before it sleeps between two looks.
	eventSpin = 2 * time.Millisecond
	// eventSleep is how long it then sleeps.
	eventSleep = 20 * time.Microsecond
)

// wait returns once all before the mark is complete. Any thread may call it.
func (m mark) wait() error {
	var begin time.Time
	for n := 0; ; n++ {
		is, err := m.done()
		if is || err != nil {
			return err
		}
		if m.stream.stuck.Load() {
			return fmt.Errorf("%w: a layer hangs there", ErrTensorsLost)
		}
		if n == 0 {
			begin = time.Now()
		} else if time.Since(begin) > eventSpin {
			sleep(eventSleep)
		}
	}
}

// follow makes what is submitted to the stream from now on wait for the mark, or waits for it where it is another
// device's; s is nil for host memory.
func (s *stream) follow(m mark) error {
	if m.stream == nil || m.stream == s {
		return nil
	}
	if s == nil || s.device != m.stream.device {
		return m.wait()
	}
	if m.stream.ended.Load() >= m.seq {
		return nil
	}
	return s.memory.After(m.stream.events[m.seq%marks])
}

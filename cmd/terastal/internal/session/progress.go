package session

import "sync"

// stages shows one piece of long work after the other, each with a meter.
type stages struct {
	mu    sync.Mutex
	what  string
	meter Meter // nil between pieces
}

// progress shows how far a piece of work is, which ends the one before. It may be
// called from any goroutine.
func (f *Flow) progress(what string, share float64) {
	s := &f.stages
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.meter != nil && s.what != what {
		s.meter.Done()
		s.meter = nil
	}
	if s.meter == nil {
		s.what, s.meter = what, f.opts.Progress(what)
	}
	s.meter.Set(share)
}

// done ends the last piece.
func (s *stages) done() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.meter != nil {
		s.meter.Done()
	}
	s.meter = nil
}

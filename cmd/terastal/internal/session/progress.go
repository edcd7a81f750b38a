package session

import "sync"

// shared is a meter that several pieces of work move together.
type shared struct {
	Meter
	mu    sync.Mutex
	parts []float64
}

func newShared(m Meter, parts int) *shared {
	return &shared{Meter: m, parts: make([]float64, parts)}
}

// part is how the i-th piece says what share of it is done.
func (s *shared) part(i int) func(float64) {
	return func(share float64) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.parts[i] = share
		sum := 0.0
		for _, x := range s.parts {
			sum += x
		}
		s.Set(sum / float64(len(s.parts)))
	}
}

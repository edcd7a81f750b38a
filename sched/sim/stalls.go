package sim

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// Stalls are times in which all accelerators wait together, as on a machine whose hypervisor stops it: what runs gets
// nowhere, and what is dispatched meanwhile begins afterwards. Predictions and policies do not know of them. There is
// one of this length in every period, at an instant of it that the seed draws. The zero value is no stalls.
type Stalls struct {
	Length time.Duration
	Period time.Duration // at least twice as long
	Seed   uint64
}

// Begin is when the stall of a period begins; periods count from 0.
func (s *Stalls) Begin(period int) time.Duration {
	var drawn rand.PCG
	drawn.Seed(s.Seed, uint64(period)^0x7374616c6c<<24)
	return time.Duration(period)*s.Period + time.Duration(drawn.Uint64()%uint64(s.Period-s.Length+1))
}

// before is how long accelerators have stalled by an instant.
func (s *Stalls) before(at time.Duration) time.Duration {
	if s.Length == 0 {
		return 0
	}
	period := int(at / s.Period)
	return time.Duration(period)*s.Length + min(s.Length, max(0, at-s.Begin(period)))
}

// end is when work ends that is begun at an instant and takes so long without stalls.
func (s *Stalls) end(from, work time.Duration) time.Duration {
	if s.Length == 0 || work <= 0 {
		return from + work
	}
	done := from - s.before(from) + work // by all work since time 0; work ends when it is, not after a stall that begins then
	each := s.Period - s.Length
	period := (done - 1) / each
	at := period*s.Period + done - period*each
	if at > s.Begin(int(period)) {
		at += s.Length
	}
	return at
}

// Check returns an error unless there can be such stalls.
func (s *Stalls) Check() error {
	if s.Length < 0 || s.Length > 0 && s.Period/2 < s.Length {
		return fmt.Errorf("stalls of %v, one every %v: they may not be negative, nor longer than half of the period",
			s.Length, s.Period)
	}
	return nil
}

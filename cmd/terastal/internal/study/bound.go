package study

import (
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/fluid"
	"github.com/terastal/terastal/sched/scenario"
)

// MissBound is the fluid lower bound on the mean miss rate of a published
// scenario with its rates scaled; see fluid.MissBound.
func MissBound(name string, scale float64) (float64, error) {
	s, err := scenario.Load(name)
	if err != nil {
		return 0, err
	}
	t, err := sched.Compile(s.System)
	if err != nil {
		return 0, err
	}
	p, err := fluid.Price(t, s.Rates)
	if err != nil {
		return 0, err
	}
	for m := range s.Rates {
		s.Rates[m] *= scale
	}
	return fluid.MissBound(t, p, s.Rates), nil
}

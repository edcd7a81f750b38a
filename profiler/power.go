package profiler

import (
	"slices"
	"strconv"
	"time"

	"github.com/terastal/terastal/internal/energy"
	"github.com/terastal/terastal/internal/ort"
)

const (
	// metered is how long power is metered, and calm how long the device rests before.
	metered = time.Second
	calm    = 500 * time.Millisecond
)

// power is what the device draws, in watts, when it rests; 0 where nothing tells it.
func (s *server) power() (idle float64, err error) {
	if !nvidia(s.Accelerators[s.k].Provider) {
		return 0, nil
	}
	m := energy.Open(energy.This())
	defer m.Close()
	if _, known := s.draws(m, 0); !known {
		return 0, nil
	}
	s.clock.pause(calm)
	idle, _ = s.draws(m, metered)
	return idle, nil
}

// nvidia reports whether a provider computes on NVIDIA's GPUs.
func nvidia(provider string) bool {
	return slices.Contains([]string{"cuda", "tensorrt", "nvtensorrtrtx"}, ort.ProviderName(provider))
}

// draws is the mean power of the accelerator's GPU over a time, while nothing runs there; false if it is not known.
func (s *server) draws(m *energy.Meter, over time.Duration) (float64, bool) {
	m.Start()
	if over > 0 {
		s.clock.pause(over)
	}
	return s.watts(m.Stop())
}

// watts is the power of the accelerator's GPU among those that were metered.
func (s *server) watts(r energy.Reading) (float64, bool) {
	gpus := slices.DeleteFunc(r.Sources, func(x energy.Source) bool { return x.Kind != energy.GPU })
	n := 0
	if len(gpus) > 1 {
		var err error
		if n, err = strconv.Atoi(s.Accelerators[s.k].Options["device_id"]); err != nil {
			n = 0 // the provider's default
		}
	}
	if !in(n, len(gpus)) || r.Took <= 0 {
		return 0, false
	}
	return gpus[n].Joules / r.Took.Seconds(), true
}

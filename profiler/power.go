package profiler

import (
	"slices"
	"strconv"
	"time"

	"github.com/terastal/terastal/internal/energy"
	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/runtime"
)

const (
	// metered is how long power is metered, and calm how long the device rests before.
	metered = time.Second
	calm    = 200 * time.Millisecond
)

// power is what the device draws, in watts, when it rests and when it is kept warm; 0 where nothing tells it.
func (s *server) power(w *runtime.Warmer) (idle, warm float64) {
	if !nvidia(s.Accelerators[s.k].Provider) {
		return 0, 0
	}
	m := energy.Open(energy.This())
	defer m.Close()
	draws := func(rest func()) (float64, bool) {
		m.Start()
		rest()
		return s.watts(m.Stop())
	}
	if _, known := draws(func() {}); !known {
		return 0, 0
	}
	s.clock.pause(calm)
	idle, _ = draws(func() { s.clock.pause(metered) })
	warm, _ = draws(func() { s.rest(metered, w) })
	return idle, warm
}

// rest lets a while pass in which the device is kept warm, if it is.
func (s *server) rest(d time.Duration, w *runtime.Warmer) {
	if w == nil {
		s.clock.pause(d)
		return
	}
	for end := s.clock.time().Add(d); ; {
		left := end.Sub(s.clock.time())
		if left <= 0 {
			return
		}
		w.Touch()
		s.clock.pause(min(left, runtime.WarmEvery))
	}
}

// nvidia reports whether a provider computes on NVIDIA's GPUs.
func nvidia(provider string) bool {
	return slices.Contains([]string{"cuda", "tensorrt", "nvtensorrtrtx"}, ort.ProviderName(provider))
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

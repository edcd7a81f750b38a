package profiler

import (
	"time"

	"github.com/terastal/terastal/internal/stats"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
)

const (
	// rests is how often a device is woken up after each pause, in all, and noticed how often the end of a layer is
	// noticed.
	rests   = 15
	noticed = 5
	// noticedLayers is of how many layers at most.
	noticedLayers = 24
	// wokenSegments is how many pieces of models wake a device up, each of up to segment layers.
	wokenSegments = 5
	// certainly is by when a layer has ended, for memories that cannot tell.
	certainly = 20 * time.Millisecond
)

// pauses are how long a device rests before it is woken up. That it works at something else in between costs nothing;
// that it does not, costs at least the submission of the next layer, which is told of the shortest rest.
var pauses = []struct{ pause, idle time.Duration }{{0, time.Microsecond}, {300 * time.Microsecond, 300 * time.Microsecond},
	{time.Millisecond, time.Millisecond}, {10 * time.Millisecond, 10 * time.Millisecond},
	{100 * time.Millisecond, 100 * time.Millisecond}}

// describe measures what the device's streams have in common.
func (s *server) describe() (reply, error) {
	d := &Device{}
	if s.memory == nil {
		return reply{Done: true, Device: d}, nil
	}
	defer func() { s.idle = s.clock.time() }()
	if free, _, err := s.memory.Room(); err == nil && free > 0 {
		d.Memory = max(0, s.room-free)
	}
	w, err := runtime.NewWarmer(s.memory)
	if err != nil {
		return reply{}, err
	}
	defer w.Close()
	if d.Lead, err = s.lead(); err != nil {
		return reply{}, err
	}
	kept := w
	if !s.Accelerators[s.k].KeepWarm {
		kept = nil
	}
	if d.Waking, err = s.waking(kept); err != nil {
		return reply{}, err
	}
	err = s.settle()
	d.IdleW, d.WarmW = s.power(w)
	return reply{Done: true, Device: d}, err
}

// originals are the places of layers, as they are, that have run.
func (s *server) originals() []int {
	var out []int
	for i, p := range s.places {
		if p.Do == layerRun && p.Implementation == 0 && s.warm[i] {
			out = append(out, i)
		}
	}
	return out
}

// lead is what noticing that a layer has ended costs: by how much longer the host takes to submit a layer and to wait
// for it than the layer takes among others; where the memory cannot tell, what it costs to wait when it has ended for
// certain.
func (s *server) lead() (time.Duration, error) {
	list := s.originals()
	if s.pacer == nil {
		return s.wait0, nil
	}
	step := max(1, len(list)/noticedLayers)
	var costs []time.Duration
	for n := 0; n < len(list); n += step {
		var alone, among []time.Duration
		for range noticed {
			if s.halt.Load() {
				return 0, nil
			}
			times, err := s.paced(list[n : n+1])
			if err != nil || len(times) == 0 {
				return 0, err
			}
			host, err := s.notice(list[n])
			if err != nil {
				return 0, err
			}
			alone, among = append(alone, host), append(among, times[0])
		}
		costs = append(costs, median(alone)-median(among))
	}
	return max(0, median(costs)), nil
}

// notice is what it takes the host to have one layer done.
func (s *server) notice(i int) (time.Duration, error) {
	begin := s.clock.time()
	if err := s.submit(i); err != nil {
		return 0, err
	}
	if err := s.pacer.mark(0); err != nil {
		return 0, err
	}
	err := s.pacer.events[0].Wait()
	return s.clock.time().Sub(begin), err
}

// segments are pieces of models that wake a device up: consecutive layers, of as many models as there are.
func (s *server) segments() [][]int {
	pieces := make([][][]int, len(s.models)) // by model
	for _, i := range s.originals() {
		of := &pieces[s.places[i].Model]
		if n := len(*of); n == 0 || len((*of)[n-1]) == segment {
			*of = append(*of, nil)
		}
		last := len(*of) - 1
		(*of)[last] = append((*of)[last], i)
	}
	var out [][]int
	for n := 0; len(out) < wokenSegments; n++ {
		before := len(out)
		for _, of := range pieces {
			if n < len(of) && len(out) < wokenSegments {
				out = append(out, of[n])
			}
		}
		if len(out) == before {
			break
		}
	}
	return out
}

// waking is by how much longer a piece of a model takes that starts after a pause, in which the device may be kept warm.
func (s *server) waking(w *runtime.Warmer) ([]sched.Waking, error) {
	var out []sched.Waking
	extra, typical := make([][]time.Duration, len(pauses)), make([][]time.Duration, len(pauses))
	segments := s.segments()
	for _, list := range segments {
		took := make([][]time.Duration, 1+len(pauses))
		for range (rests + len(segments) - 1) / len(segments) {
			for n := range took {
				if s.halt.Load() {
					return nil, nil
				}
				pause := time.Duration(-1)
				if n > 0 {
					pause = pauses[n-1].pause
				}
				t, err := s.woken(list, pause, w)
				if err != nil {
					return nil, err
				}
				took[n] = append(took[n], t)
			}
		}
		for n := range pauses {
			for _, t := range took[n+1] {
				extra[n] = append(extra[n], t-median(took[0]))
			}
			typical[n] = append(typical[n], median(took[n+1])-median(took[0]))
		}
	}
	last := time.Duration(0)
	for n, p := range pauses {
		// What is not longer three times out of four is chance.
		if x := median(typical[n]); x > last && stats.Quantile(stats.Sorted(extra[n]), .25) > 0 {
			out = append(out, sched.Waking{Idle: p.idle, Extra: x})
			last = x
		}
	}
	return out, nil
}

// woken is what a piece of a model takes after a pause, of a device that was busy before; a negative pause is none.
// Without events it is the time of the host that waits, and no pause is one that ends at once.
func (s *server) woken(list []int, pause time.Duration, w *runtime.Warmer) (time.Duration, error) {
	err := s.leadIn()
	if s.pacer == nil {
		err = s.all(list)
	} else if err == nil && pause >= 0 {
		err = s.memory.Wait()
	}
	if err != nil {
		return 0, err
	}
	if pause > 0 {
		s.rest(pause, w)
	}
	begin := s.clock.time()
	if s.pacer != nil {
		if err := s.pacer.mark(0); err != nil {
			return 0, err
		}
	}
	for _, i := range list {
		if err := s.submit(i); err != nil {
			return 0, err
		}
	}
	if s.pacer == nil {
		err := s.memory.Wait()
		return s.clock.time().Sub(begin), err
	}
	// One piece of a model does not make up for the pause.
	defer func() { s.idle = s.clock.time().Add(-max(0, pause)) }()
	if err := s.pacer.mark(1); err != nil {
		return 0, err
	}
	return s.pacer.span(0, 1)
}

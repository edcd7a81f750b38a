package profiler

import "time"

// Some memories have no events: the only way to know that a layer has ended is to wait for everything, which may take
// longer than the layer. In a run layers are not waited for there while a request stays. So they are timed in bundles,
// of which only the end is waited for, and the time is shared out among the layers in proportion to what they took so
// far. Since bundles begin and end somewhere else each time, the shares approach what each layer takes.

const (
	// longestBundle bounds how many layers share a time.
	longestBundle = 2*segment - 1
	// learned is how much of a share a new time is.
	learned = 0.25
	// waits is how often waiting for nothing is timed.
	waits = 9
)

// bundled times layers that follow each other, as paced does.
func (s *server) bundled(list []int) ([]time.Duration, error) {
	list = list[:min(len(list), 1+s.rng.IntN(longestBundle))]
	for n, i := range list {
		if err := s.warmUp(i); err != nil {
			if n == 0 {
				return nil, err
			}
			list = list[:n] // it fails again when it is the first
			break
		}
	}
	if err := s.waiting(list[0]); err != nil {
		return nil, err
	}
	if s.clock.time().Sub(s.idle) > rested { // it may be slow at first
		if err := s.all(list); err != nil {
			return nil, err
		}
	}
	begin := s.clock.time()
	if err := s.all(list); err != nil {
		return nil, err
	}
	s.idle = s.clock.time()
	took := max(1, s.idle.Sub(begin)-s.wait0)
	var before time.Duration
	for _, i := range list {
		before += s.took[s.places[i]]
	}
	ratio := float64(took) / float64(before)
	times := make([]time.Duration, len(list))
	for n, i := range list {
		p := s.places[i]
		times[n] = max(1, stretch(s.took[p], ratio))
		s.took[p] = max(1, stretch(s.took[p], 1-learned)+stretch(times[n], learned))
	}
	return times, nil
}

// all runs layers to the end of the last.
func (s *server) all(list []int) error {
	for _, i := range list {
		if err := s.submit(i); err != nil {
			return err
		}
	}
	return s.memory.Wait()
}

// waiting times, once, what waiting costs where there is nothing left to wait for.
func (s *server) waiting(i int) error {
	if s.wait0 > 0 {
		return nil
	}
	var costs []time.Duration
	for range waits {
		if err := s.submit(i); err != nil {
			return err
		}
		s.clock.pause(certainly)
		begin := s.clock.time()
		if err := s.memory.Wait(); err != nil {
			return err
		}
		costs = append(costs, s.clock.time().Sub(begin))
	}
	s.wait0 = max(1, median(costs))
	return nil
}

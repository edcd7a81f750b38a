package sched

import "time"

// listed serves waiting jobs in the order of a key, each on the idle accelerator that ends its next layer first,
// originals only. Work conserving: an accelerator stays idle only when no waiting layer can run on it.
type listed struct {
	t     *Tables
	key   func(*Job) time.Duration
	ready []ready
	// By accelerator, with what was decided so far: when it can start; Never if it is not idle.
	free, later []time.Duration
}

// FCFS is the first-come-first-served baseline: by release, each on the fastest idle accelerator.
func FCFS(c Config) (Policy, error) {
	return &listed{t: c.Tables, key: func(j *Job) time.Duration { return j.Release }}, nil
}

// EDF is the earliest-deadline-first baseline: by absolute deadline, each on the fastest idle accelerator.
func EDF(c Config) (Policy, error) {
	return &listed{t: c.Tables, key: func(j *Job) time.Duration { return j.Deadline }}, nil
}

// LLF is least laxity first: by the time to spare if all layers left ran at their fastest, on the fastest idle accelerator.
func LLF(c Config) (Policy, error) {
	t := c.Tables
	return &listed{t: t, key: func(j *Job) time.Duration { return j.Deadline - t.models[j.Model].Left(j.Layer, j.At) }}, nil
}

func (p *listed) Select(s *State, out []Choice) []Choice {
	idle := 0
	p.ready = p.ready[:0]
	if p.free, idle = s.able(p.free[:0]); idle == 0 {
		return out
	}
	for i := range s.Jobs {
		if s.Jobs[i].Waiting() {
			p.ready = append(p.ready, ready{p.key(&s.Jobs[i]), int32(i)})
		}
	}
	sortReady(p.ready)
	for n := 0; n < len(p.ready) && idle > 0; n++ {
		r := p.ready[n]
		j := &s.Jobs[r.job]
		m := &p.t.models[j.Model]
		fastest, _ := earliest(j.starts(s.Now, p.free, &p.later), m.Latency(j.Layer, 0), m.Handoff(j))
		if fastest >= 0 {
			p.free[fastest] = Never
			idle--
			out = append(out, Choice{Job: r.job, Accelerator: int32(fastest), Reason: FastestIdle})
		}
	}
	return out
}

// able appends when each accelerator can start, Never for those that are not idle, and says how many are.
func (s *State) able(out []time.Duration) ([]time.Duration, int) {
	idle := 0
	for k := range s.Accelerators {
		free := Never
		if s.Idle(k) {
			free = s.Free(k)
			idle++
		}
		out = append(out, free)
	}
	return out, idle
}

// ready is a waiting job, by its index, and the key it is served by.
type ready struct {
	key time.Duration
	job int32
}

// sortReady sorts by key, stably, so that ties keep the order of arrival. Insertion sort: the lists are short and
// nearly sorted, and nothing is allocated.
func sortReady(xs []ready) {
	for i := 1; i < len(xs); i++ {
		x, at := xs[i], i
		for ; at > 0 && xs[at-1].key > x.key; at-- {
			xs[at] = xs[at-1]
		}
		xs[at] = x
	}
}

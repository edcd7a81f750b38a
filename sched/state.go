package sched

import "time"

// Idle as the accelerator of a job says that the job is waiting; as the holder
// of its tensors, that they lie where the release put them.
const Idle = -1

// Job is a request that is released and not yet ended.
type Job struct {
	ID    int64
	Model int32
	Layer int32 // the layer that runs, or the next to run
	On    int32 // the accelerator that runs it, or Idle
	At    int32 // the accelerator that ran the layer before, or Idle
	Used  VariantSet
	// Release is the scheduled release; Deadline is absolute.
	Release, Deadline time.Duration
	// Ready is when the current layer became ready, or is predicted to: the release, or the end of the layer before.
	Ready time.Duration
}

// Waiting reports whether the job's next layer may be dispatched. It starts at Ready at the earliest.
func (j *Job) Waiting() bool { return j.On == Idle }

// starts returns when a job can start on accelerators that are free then: when it is ready, too. Buf is used where it is
// not ready now.
func (j *Job) starts(now time.Duration, free []time.Duration, buf *[]time.Duration) []time.Duration {
	if j.Ready <= now {
		return free
	}
	*buf = (*buf)[:0]
	for _, t := range free {
		*buf = append(*buf, max(t, j.Ready))
	}
	return *buf
}

// Occupancy is the state of one accelerator.
type Occupancy struct {
	Job  int64         // the job it runs, or Idle
	Free time.Duration // when it is predicted to become idle, or, idle, to be able to start; in the past: now
	Down bool          // out of service: nothing may be dispatched to it
	// Implementation is the one of the job's layer that runs.
	Implementation int32
	Started        time.Duration // when it was dispatched or, behind another layer, could start, as far as is known
}

// State is the part of an engine that changes. Policies read it; a copy is independent, to simulate ahead from.
type State struct {
	Now          time.Duration
	Jobs         []Job // in order of arrival
	Accelerators []Occupancy
	// Recent holds, by model, the last ten jobs that ended, the latest in the lowest bit: 1 if it was dropped.
	Recent []uint16
	// Tails holds, by accelerator, what it is about to end; it is empty where the system has no devices.
	Tails []Tail
}

// recentJobs is how many jobs Recent remembers of each model.
const recentJobs = 10

// CopyFrom makes s equal to o and independent of it, reusing s's memory.
func (s *State) CopyFrom(o *State) {
	s.Now = o.Now
	s.Jobs = append(s.Jobs[:0], o.Jobs...)
	s.Accelerators = append(s.Accelerators[:0], o.Accelerators...)
	s.Recent = append(s.Recent[:0], o.Recent...)
	s.Tails = append(s.Tails[:0], o.Tails...)
}

// Idle reports whether accelerator k can take a layer now.
func (s *State) Idle(k int) bool { return s.Accelerators[k].Job == Idle && !s.Accelerators[k].Down }

// Free is when accelerator k is predicted to be able to start a layer: [Never] if it is down. One that runs longer than
// predicted is expected to end now; one that is about to end a layer is idle and free only then, one of a device that
// rests when it has woken up. What a job runs next on it begins when both it and the job are ready.
func (s *State) Free(k int) time.Duration {
	a := &s.Accelerators[k]
	if a.Down {
		return Never
	}
	return max(s.Now, a.Free)
}

// End is when the layer that a job runs is predicted to end.
func (s *State) End(j *Job) time.Duration {
	end := s.Accelerators[j.On].Free
	if len(s.Tails) > 0 && s.Tails[j.On].Job == j.ID && s.Tails[j.On].Last {
		end = s.Tails[j.On].Until
	}
	return max(s.Now, end)
}

// find returns the index of the job with this ID, or -1.
func (s *State) find(id int64) int {
	for i := range s.Jobs {
		if s.Jobs[i].ID == id {
			return i
		}
	}
	return -1
}

package sim

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/terastal/terastal/sched"
)

// Taken is a core of an accelerator that other programs want now and then. They come for a burst of computing, and
// the operating system shares the core fairly among them and the accelerator's thread: slice by slice.
//
// While the core of the calling thread is taken, a layer stands still. Another core is taken in two ways. When others
// come while a layer runs, its thread there has begun a part of the work, and the layer waits for it. From then on its
// thread gives the core up whenever a layer ends; a layer that begins then is spread over the cores that are left,
// until the thread is back.
type Taken struct {
	// Accelerator is the index of the accelerator.
	Accelerator int `json:"accelerator"`
	// Threads is how many threads the accelerator computes on, each on a core.
	Threads int `json:"threads"`
	// Caller says that the core is that of the thread which runs the layers.
	Caller bool `json:"caller,omitempty"`
	// Share is what others would take of the core if nothing else ran there, above 0 and below 1.
	Share float64 `json:"share"`
	// Burst is how long they compute each time, on the mean.
	Burst time.Duration `json:"burst_ns"`
	// Slice is how long, on the mean, one of two that want the core computes before it is the other's turn.
	Slice time.Duration `json:"slice_ns"`
}

// Check returns an error unless Straggling can simulate the core on one of accs accelerators.
func (t *Taken) Check(accs int) error {
	switch {
	case t.Accelerator < 0 || t.Accelerator >= accs:
		return fmt.Errorf("core taken from accelerator %d, need one from 0 to %d", t.Accelerator, accs-1)
	case t.Threads < 1 || t.Threads < 2 && !t.Caller:
		return fmt.Errorf("core taken from an accelerator of %d threads: need 1, or 2 where it is not the caller's", t.Threads)
	case !(t.Share > 0 && t.Share <= mostTaken):
		return fmt.Errorf("share %v of a core taken, must be above 0 and at most %v", t.Share, mostTaken)
	case t.Burst < leastSlice || t.Burst > longest || t.Slice < leastSlice || t.Slice > longest:
		return fmt.Errorf("core taken for bursts of %v in slices of %v, each must be at least %v", t.Burst, t.Slice, leastSlice)
	}
	return nil
}

const (
	mostTaken  = 0.99
	leastSlice = 10 * time.Microsecond
)

// Straggling makes another Durations' layers longer on accelerators whose cores are taken now and then; see [Taken].
// All must have been checked. Others come after pauses of exponential length; bursts and slices are exponential, too.
// The instants at which layers of one accelerator begin must not decrease, as they do not in a simulation.
func Straggling(of Durations, taken []Taken, seed uint64) Durations {
	if len(taken) == 0 {
		return of
	}
	cores := map[int]*straggler{}
	for i, t := range taken {
		s := cores[t.Accelerator]
		if s == nil {
			s = &straggler{rng: rand.New(rand.NewPCG(seed, 0x74616b65+uint64(t.Accelerator)))}
			cores[t.Accelerator] = s
		}
		s.cores = append(s.cores, core{Taken: &taken[i]})
		c := &s.cores[len(s.cores)-1]
		c.comes = s.draw(c.pause())
	}
	return func(at time.Duration, d sched.Dispatch) time.Duration {
		took := of(at, d)
		if s := cores[d.Accelerator]; s != nil {
			return s.run(max(at, d.Start), took)
		}
		return took
	}
}

// straggler is an accelerator whose cores are taken.
type straggler struct {
	rng   *rand.Rand
	cores []core
	until time.Duration // end of the last layer
}

// core is a core that is taken now and then.
type core struct {
	*Taken
	comes  time.Duration // when others come, while they are away
	wants  time.Duration // what they have to compute after the present slice
	theirs bool          // the present slice; there is none while they are away
	stalls bool          // a layer waits for the end of their slice
	turn   time.Duration // when the present slice ends
}

// there reports whether others compute, or wait to.
func (c *core) there() bool { return c.theirs || c.wants > 0 }

func (s *straggler) draw(mean time.Duration) time.Duration {
	return max(1, time.Duration(min(float64(mean)*s.rng.ExpFloat64(), float64(longest))))
}

// pause is the mean time between bursts on a core where nothing else runs.
func (t *Taken) pause() time.Duration {
	return time.Duration(float64(t.Burst) * (1 - t.Share) / t.Share)
}

// run is how long a layer takes that begins at an instant and would take so long on cores that are its own.
func (s *straggler) run(begin, work time.Duration) time.Duration {
	for i := range s.cores {
		s.rest(&s.cores[i], begin)
	}
	left, now := float64(work), begin
	for left > 0 && now-begin < longest {
		speed, next := 1.0, time.Duration(math.MaxInt64)
		for i := range s.cores {
			c := &s.cores[i]
			next = min(next, c.next())
			switch {
			case c.theirs && c.stalls:
				speed = 0
			case c.theirs && speed > 0:
				speed -= 1 / float64(c.Threads)
			}
		}
		next = max(next, now)
		if speed = max(0, speed); speed > 0 && left <= float64(next-now)*speed {
			now += time.Duration(math.Ceil(left / speed))
			break
		}
		left, now = left-float64(next-now)*speed, next
		for i := range s.cores {
			if c := &s.cores[i]; c.next() <= now {
				s.step(c)
			}
		}
	}
	s.until = now
	return now - begin
}

// next is when something changes on the core while a layer runs.
func (c *core) next() time.Duration {
	if c.there() {
		return c.turn
	}
	return c.comes
}

// step is what happens then: others come, or a slice ends.
func (s *straggler) step(c *core) {
	now := c.next()
	switch {
	case !c.there():
		c.wants = s.draw(c.Burst)
		s.give(c, now, true)
	case !c.theirs:
		s.give(c, now, true)
	case c.wants > 0:
		c.theirs, c.turn = false, now+s.draw(c.Slice)
	default:
		c.theirs, c.comes = false, now+s.draw(c.pause())
	}
}

// give gives others a slice.
func (s *straggler) give(c *core, now time.Duration, stalls bool) {
	slice := min(s.draw(c.Slice), c.wants)
	c.wants -= slice
	c.theirs, c.stalls, c.turn = true, stalls || c.Caller, now+slice
}

// rest brings a core to the instant at which a layer begins. Meanwhile the accelerator's thread slept there; that of
// the caller did not between two layers that follow each other.
func (s *straggler) rest(c *core, begin time.Duration) {
	now := s.until
	idle := begin-now >= leastSlice
	for idle && now < begin {
		if !c.there() {
			if c.comes > begin {
				break
			}
			now, c.wants = max(now, c.comes), s.draw(c.Burst)
		}
		if c.theirs {
			c.wants, c.theirs = c.wants+max(0, c.turn-now), false
		}
		done := min(c.wants, begin-now)
		if now, c.wants = now+done, c.wants-done; c.wants == 0 {
			c.comes = now + s.draw(c.pause())
		}
	}
	if c.wants > 0 && !c.theirs && (idle || !c.Caller) {
		s.give(c, begin, false)
	}
}

package sim

import (
	"math"
	"slices"
	"time"

	"github.com/terastal/terastal/sched"
)

// machine is what the accelerators are doing.
type machine struct {
	now     time.Duration
	running []span
	next    []next // by accelerator: what was dispatched behind
	leads   []int  // accelerators of which layers are announced before they end
	devices []device
	of      []*device // by accelerator: its device, if that has to be woken

	interference [][]float64
	contention   []Contention
	stalls       Stalls
}

// span is what an accelerator is busy with; end is forever when it is not.
type span struct {
	job        int64
	start, end time.Duration
	// With interference: the work left at the instant since, in nanoseconds of
	// an accelerator that is alone, and how much longer it takes now.
	left  float64
	since time.Duration
	slow  float64
}

// next is a layer that begins when its accelerator is idle and the layer before it in its job has ended.
type next struct {
	waits  bool
	job    int64
	after  int // the accelerator that ran the layer before when this one was dispatched, or sched.Idle
	length time.Duration
}

// device knows how long it rested.
type device struct {
	*sched.Device
	busy  int           // of its accelerators
	since time.Duration // when the last of them ended a layer
	awake time.Duration // when it has woken up from its last rest
}

func newMachine(cfg *Config, sys *sched.System) *machine {
	accs := len(sys.Accelerators)
	s := &machine{running: make([]span, accs), next: make([]next, accs), of: make([]*device, accs),
		devices: make([]device, len(sys.Devices)), interference: cfg.Interference, contention: cfg.Contention,
		stalls: cfg.Stalls}
	for k := range s.running {
		s.running[k].end = forever
		if sys.Lead(k) > 0 {
			s.leads = append(s.leads, k)
		}
	}
	for i := range s.devices {
		s.devices[i] = device{Device: &sys.Devices[i]}
		for _, k := range sys.Devices[i].Accelerators {
			s.of[k] = &s.devices[i]
		}
	}
	return s
}

// submit starts a layer, or lets it wait for what has to end before.
func (s *machine) submit(d *sched.Dispatch, length time.Duration) {
	after := d.From
	if after != sched.Idle && !s.runs(after, d.Job) {
		after = sched.Idle
	}
	if after != sched.Idle || s.running[d.Accelerator].end != forever {
		s.next[d.Accelerator] = next{true, d.Job, after, length}
		return
	}
	s.start(d.Accelerator, d.Job, length)
}

// runs reports whether accelerator k runs a layer of the job.
func (s *machine) runs(k int, job int64) bool {
	return s.running[k].end != forever && s.running[k].job == job
}

func (s *machine) start(k int, job int64, length time.Duration) {
	if d := s.of[k]; d != nil {
		if d.busy == 0 {
			d.awake = s.now + d.Extra(s.now-d.since)
		}
		length += max(0, d.awake-s.now)
		d.busy++
	}
	s.running[k] = span{job: job, start: s.now, end: s.stalls.end(s.now, length), left: float64(length), since: s.now,
		slow: 1}
}

// finish ends what runs on an accelerator, and starts what waited for it.
func (s *machine) finish(k int) {
	s.running[k] = span{start: s.now, end: forever}
	if d := s.of[k]; d != nil {
		d.busy--
		d.since = s.now
	}
	for o := range s.next {
		n := &s.next[o]
		if n.waits && n.after == k {
			n.after = sched.Idle
		}
		if n.waits && n.after == sched.Idle && s.running[o].end == forever {
			n.waits = false
			s.start(o, n.job, n.length)
		}
	}
}

// stretch moves the ends of running layers to where they come with the accelerators that are busy from now on.
func (s *machine) stretch() {
	if s.interference == nil && s.contention == nil {
		return
	}
	for k := range s.running {
		r := &s.running[k]
		if r.end == forever {
			continue
		}
		slow := s.slow(k)
		if slow == r.slow {
			continue
		}
		ran := s.now - r.since - (s.stalls.before(s.now) - s.stalls.before(r.since))
		r.left = max(0, r.left-float64(ran)/r.slow)
		r.since, r.slow = s.now, slow
		r.end = s.stalls.end(s.now, time.Duration(math.Round(r.left*slow)))
	}
}

// slow is how many times as long a layer takes on accelerator k with those that are busy now.
func (s *machine) slow(k int) float64 {
	slow := 1.0
	if s.interference != nil {
		for o, x := range s.interference[k] {
			if o != k && s.running[o].end != forever {
				slow += x
			}
		}
	}
	for _, c := range s.contention {
		if len(c.Slowdown) == 0 || !slices.Contains(c.Accelerators, k) {
			continue
		}
		others := 0
		for _, o := range c.Accelerators {
			if o != k && s.running[o].end != forever {
				others++
			}
		}
		slow += c.Slowdown[min(others, len(c.Slowdown)-1)]
	}
	return slow
}

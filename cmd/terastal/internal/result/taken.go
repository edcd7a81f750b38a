package result

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/terastal/terastal/internal/hostinfo"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/sim"
)

// Taken is a core of an accelerator that others took now and then during a run.
type Taken struct {
	Accelerator string `json:"accelerator"`
	Core        int    `json:"core"`
	// Caller says that the core is that of the thread which runs the layers, which stand still while it is taken.
	Caller bool `json:"caller,omitempty"`
	// Share is of the time in which the accelerator ran layers: what they lost by it.
	Share float64 `json:"share"`
	// BurstUS is for how long others computed each time.
	BurstUS float64 `json:"burst_us"`
	// By names those that computed there most.
	By []Taker `json:"by,omitempty"`
}

// Taker is a program that computed on a core.
type Taker struct {
	Name  string  `json:"name"`
	Share float64 `json:"share"` // of the time of the run
}

const (
	// leastTaken is the share of their time below which what layers lose is not worth a word: 99th percentiles begin to
	// show it.
	leastTaken = 0.02
	// leastTaker is the share that a program is named from on, and takers how many are.
	leastTaker, takers = 0.01, 3
)

// Take fills in which cores others took from accelerators that are pinned to cores, given what the machine's cores did
// during the run, and returns them as the simulator takes them.
func (e *Execution) Take(r *runtime.Result, specs []runtime.Spec, work []hostinfo.CoreWork) []sim.Taken {
	var out []sim.Taken
	slice := hostinfo.Slice(len(work))
	add := func(t Taken, s *runtime.Spec, c sim.Taken) {
		if i := slices.IndexFunc(work, func(c hostinfo.CoreWork) bool { return c.Core == t.Core }); i >= 0 {
			t.By = by(&work[i], time.Duration(e.ElapsedNS))
		}
		t.Accelerator, t.BurstUS, t.Caller = s.Name, c.Burst.Seconds()*1e6, c.Caller
		e.Taken, out = append(e.Taken, t), append(out, c)
		e.Notes = append(e.Notes, t.note(len(s.Cores)))
	}
	for k := range min(len(r.Workers), len(specs), len(r.Stats.Accelerators)) {
		s, w, a := &specs[k], &r.Workers[k], &r.Stats.Accelerators[k]
		if len(s.Cores) == 0 || a.Layers == 0 {
			continue
		}
		c := sim.Taken{Accelerator: k, Threads: len(s.Cores), Slice: slice}
		if share := ratio(w.Absent.Took, a.Busy); share >= leastTaken {
			// Others who share the core fairly leave the accelerator as much as they take.
			c.Caller, c.Burst, c.Share = true, max(minBurst, w.Absent.Mean()), min(mostShare, share/(1-min(.5, share)))
			add(Taken{Core: s.Cores[0], Share: share}, s, c)
		}
		if share := ratio(w.Straggled.Took, a.Busy); share >= leastTaken && len(s.Cores) > 1 {
			c.Caller, c.Burst = false, max(minBurst, time.Duration(float64(w.Straggled.Mean())/perAbsence(len(s.Cores))))
			c.Share = straggling(c, share, a.Busy/time.Duration(a.Layers))
			add(Taken{Core: most(work, s.Cores[1:]), Share: share}, s, c)
		}
	}
	return out
}

// minBurst is the shortest burst, and mostShare the largest share, that the simulator is given.
const (
	minBurst  = 100 * time.Microsecond
	mostShare = 0.95
)

// perAbsence is what layers on so many threads lose, about, per time in which one of the cores is taken: all of it where
// they wait for its thread, which is seldom, else its part of the work.
func perAbsence(threads int) float64 {
	const waits = 0.15
	return waits + (1-waits)/float64(threads)
}

// straggling is the share of a core that others would take, if nothing else ran there, where layers that take so long on
// average lose a share of their time by it: found by simulating with one share after the other.
func straggling(c sim.Taken, lost float64, layer time.Duration) float64 {
	const layers, halvings = 4000, 10
	low, high := 0.0, mostShare
	for range halvings {
		c.Share = (low + high) / 2
		d := sim.Straggling(func(time.Duration, sched.Dispatch) time.Duration { return layer }, []sim.Taken{c}, 1)
		var now, wasted time.Duration
		for range layers {
			took := d(now, sched.Dispatch{Accelerator: c.Accelerator})
			now += took
			if runtime.Straggled(layer, took-layer) {
				wasted += took - layer
			}
		}
		if ratio(wasted, now) < lost {
			low = c.Share
		} else {
			high = c.Share
		}
	}
	return high
}

// most is the core of which others took most.
func most(work []hostinfo.CoreWork, cores []int) int {
	core, taken := cores[0], time.Duration(-1)
	for i := range work {
		if t := work[i].Taken(); t > taken && slices.Contains(cores, work[i].Core) {
			core, taken = work[i].Core, t
		}
	}
	return core
}

// by names who took most of a core.
func by(c *hostinfo.CoreWork, elapsed time.Duration) (list []Taker) {
	if share := ratio(c.Stolen, elapsed); share >= leastTaker {
		list = append(list, Taker{"other virtual machines", share})
	}
	for _, o := range c.Others {
		if share := ratio(o.Ran, elapsed); share >= leastTaker && len(list) < takers && !o.GaveWay() {
			name := o.Name
			if o.Own {
				name += " (this program)"
			}
			list = append(list, Taker{name, share})
		}
	}
	return list
}

func (t *Taken) note(cores int) string {
	effect := "layers stood still meanwhile"
	if !t.Caller {
		effect = fmt.Sprintf("layers waited for the thread there, or ran on %d of %d cores", cores-1, cores)
	}
	who := "programs that have ended, or gave way, computed there"
	if len(t.By) > 0 {
		var list []string
		for _, x := range t.By {
			list = append(list, fmt.Sprintf("%s for %.0f %%", x.Name, 100*x.Share))
		}
		who = strings.Join(list, ", ") + " of the time of the run"
	}
	return fmt.Sprintf("layers lost %.0f %% of their time on %q to others who took core %d, in bursts of %.1f ms (%s): %s",
		100*t.Share, t.Accelerator, t.Core, t.BurstUS/1e3, effect, who)
}

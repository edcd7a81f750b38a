package result

import (
	"fmt"
	"strings"
	"time"

	"github.com/terastal/terastal/internal/hostinfo"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched/sim"
)

// Taken is a core of an accelerator that others took a share of during a run.
type Taken struct {
	Accelerator string `json:"accelerator"`
	Core        int    `json:"core"`
	// Caller says that the core is that of the thread which runs the layers, which stand still while it is taken.
	Caller bool `json:"caller,omitempty"`
	// Share is of the time of the run: for the caller, in which it wanted the core and had it not; elsewhere, in which
	// others computed there.
	Share float64 `json:"share"`
	// BurstUS is for how long others computed each time before they slept.
	BurstUS float64 `json:"burst_us"`
	// By names those that took most of it.
	By []Taker `json:"by,omitempty"`
}

// Taker is a program that computed on a core.
type Taker struct {
	Name  string  `json:"name"`
	Share float64 `json:"share"` // of the time of the run
}

const (
	// leastTaken is the share of a core below which nobody took it: the times of cores are sampled.
	leastTaken = notePreempted
	// leastTaker is the share that a program is named from on, and takers how many are.
	leastTaker, takers = 0.01, 3
)

// Take fills in which cores others took from accelerators that are pinned to cores, given what the machine's cores did
// during the run, and returns them as the simulator takes them.
func (e *Execution) Take(r *runtime.Result, specs []runtime.Spec, work []hostinfo.CoreWork) []sim.Taken {
	var out []sim.Taken
	for k := range min(len(r.Workers), len(specs), len(r.Stats.Accelerators)) {
		s, w := &specs[k], &r.Workers[k]
		if !s.CPU() || w.Ran == 0 {
			continue
		}
		busy := min(1, ratio(r.Stats.Accelerators[k].Busy, r.Stats.At))
		for i, core := range s.Cores {
			c := coreOf(work, core)
			if c == nil || e.ElapsedNS <= 0 {
				continue
			}
			t := Taken{Accelerator: s.Name, Core: core, Caller: i == 0, BurstUS: c.Burst().Seconds() * 1e6}
			t.Share = ratio(c.Taken(), time.Duration(e.ElapsedNS))
			others := t.Share
			if t.Caller { // the kernel has counted it; others who compute while it rests take nothing
				t.Share = ratio(w.Waited+c.Stolen, time.Duration(e.ElapsedNS))
				others = t.Share / max(busy, leastTaken)
			}
			if t.Share < leastTaken {
				continue
			}
			t.By = by(c, time.Duration(e.ElapsedNS))
			e.Taken = append(e.Taken, t)
			e.Notes = append(e.Notes, t.note(len(s.Cores)))
			out = append(out, sim.Taken{Accelerator: k, Threads: max(1, s.Threads), Caller: t.Caller,
				Share: idle(others, busy), Burst: max(minBurst, c.Burst()), Slice: hostinfo.Slice(len(work))})
		}
	}
	return out
}

// minBurst is the shortest burst, and mostShare the largest share, that the simulator is given.
const (
	minBurst  = 100 * time.Microsecond
	mostShare = 0.95
)

// idle is the share of a core that others who took a share of it would have taken if the accelerator, which was busy for
// a share of the time, had not wanted it. A burst that has to share the core fairly takes twice as long.
func idle(share, busy float64) float64 {
	if left := 1 - share*busy; left > 0 {
		return min(mostShare, share/left)
	}
	return mostShare
}

func coreOf(work []hostinfo.CoreWork, core int) *hostinfo.CoreWork {
	for i := range work {
		if work[i].Core == core {
			return &work[i]
		}
	}
	return nil
}

// by names who took most of a core.
func by(c *hostinfo.CoreWork, elapsed time.Duration) (list []Taker) {
	if share := ratio(c.Stolen, elapsed); share >= leastTaker {
		list = append(list, Taker{"other virtual machines", share})
	}
	for _, o := range c.Others {
		if share := ratio(o.Ran, elapsed); share >= leastTaker && len(list) < takers {
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
	effect := "its layers stood still"
	if !t.Caller {
		effect = fmt.Sprintf("its layers waited for that thread, or ran on %d of its %d cores", cores-1, cores)
	}
	who := []string{"by programs that have ended"}
	for i, x := range t.By {
		if i == 0 {
			who[0] = "there computed"
		}
		who = append(who, fmt.Sprintf("%s for %.0f %%", x.Name, 100*x.Share))
	}
	return fmt.Sprintf("core %d of accelerator %q was taken for %.0f %% of the time, in which %s; %s, in bursts of %.1f ms",
		t.Core, t.Accelerator, 100*t.Share, effect, listed(who), t.BurstUS/1e3)
}

// listed joins an introduction and what follows it.
func listed(words []string) string {
	return strings.TrimSuffix(words[0]+" "+strings.Join(words[1:], ", "), " ")
}

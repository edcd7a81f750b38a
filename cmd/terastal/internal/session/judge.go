package session

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/terastal/terastal/cmd/terastal/internal/comparison"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched/eventlog"
)

// Limits beyond which a run says nothing about the schedule.
const (
	// A release that goes unnoticed for longer than this share of the shortest
	// deadline, in the 99th percentile, while an accelerator is idle, is a fault
	// of the machine that the policies pay for.
	maxLagShare = 0.25
	// With a tenth of an accelerator's processor time gone, a load of 0.9 is one
	// of 1.0: the run shows another system than the one that was planned. On the
	// machine of docs/HARDWARE.md policies changed places between runs that lost
	// up to 3 % and runs that lost 8 to 15 %.
	maxPreempted = 0.10
	// The same for what a hypervisor took of all processor time that the machine
	// wanted.
	maxStolen = 0.10
	// A control group that used up its quota stands still, for some ten
	// milliseconds at a time. At 1 % of the time every 99th percentile shows the
	// quota.
	maxThrottled = 0.01
	// A clock that advances in steps larger than this share of the shortest
	// deadline cannot tell met from late.
	maxClockShare = 0.01
)

// doubt is why a result is not valid. Where several runs give rise to the same
// one, the worst is told.
type doubt struct {
	// about tells doubts apart: the same one of another run has the same.
	about string
	// worst grows with how bad it is.
	worst float64
	text  string
	runs  int
	// machine says that the machine is to blame, or that the run was short:
	// nothing is wrong with what was computed.
	machine bool
}

// doubt marks the result invalid.
func (r *Result) doubt(d doubt) {
	r.Valid, d.runs = false, 1
	at := slices.IndexFunc(r.doubts, func(x doubt) bool { return x.about == d.about })
	if at < 0 {
		r.doubts = append(r.doubts, d)
		return
	}
	known := &r.doubts[at]
	known.runs++
	if d.worst > known.worst {
		known.worst, known.text = d.worst, d.text
	}
}

// conclude writes down the reasons.
func (r *Result) conclude() {
	r.Reasons = nil
	for _, d := range r.doubts {
		text := d.text
		switch {
		case d.runs > 1 && d.worst != 0:
			text += fmt.Sprintf(" (this is the worst of %d such runs)", d.runs)
		case d.runs > 1:
			text += fmt.Sprintf(" (in %d runs)", d.runs)
		}
		r.Reasons = append(r.Reasons, text)
	}
}

// MachineOnly reports whether all reasons why the result is not valid lie with
// the machine, or with how short the run was: what was computed is right, it
// only is no measurement.
func (r *Result) MachineOnly() bool {
	return !slices.ContainsFunc(r.doubts, func(d doubt) bool { return !d.machine })
}

// judge marks the result invalid where a policy's run cannot support it.
func (r *Result) judge(p *PolicyResult) {
	shortest := slices.MinFunc(p.Models, func(a, b eventlog.ModelMetrics) int { return int(a.DeadlineMS*1e6 - b.DeadlineMS*1e6) }).DeadlineMS
	for _, m := range p.Models {
		if least := comparison.MinMissJobs(); m.Released < least {
			r.doubt(doubt{about: "few " + m.Model, worst: float64(-m.Released), machine: true,
				text: fmt.Sprintf("%d requests of %s were released, a miss rate needs at least %d: raise --duration", m.Released, m.Model, least)})
		}
	}
	// Without a scheduler, noticing releases late is what is being measured.
	if lag := p.IdleLagP99US / 1e3; lag > maxLagShare*shortest && p.Policy != runtime.Unscheduled {
		r.doubt(doubt{about: "lag", worst: lag, machine: true,
			text: fmt.Sprintf("%s noticed releases up to %.1f ms late (p99) while an accelerator was idle, the shortest deadline is %.1f ms: stop what else runs, leave a core free for the scheduler or lower the rates", p.Policy, lag, shortest)})
	}
	if !p.Balanced() {
		r.doubt(doubt{about: "balance", text: fmt.Sprintf("%s: the totals do not balance", p.Policy)})
	}
	if step := time.Duration(r.ClockStepNS); step.Seconds()*1e3 > maxClockShare*shortest {
		r.doubt(doubt{about: "clock", machine: true,
			text: fmt.Sprintf("the clock advances in steps of %v, the shortest deadline is %.1f ms: use a finer clock source of the system", step, shortest)})
	}
	r.judgeOutputs(p)
	r.judgeMachine(p)
}

func (r *Result) judgeOutputs(p *PolicyResult) {
	v := p.Verification
	if v == nil {
		return
	}
	if v.Wrong > 0 {
		r.doubt(doubt{about: "wrong", worst: float64(v.Wrong),
			text: fmt.Sprintf("%s: %d of %d sampled outputs differ from the whole model's by more than %.0e of their size", p.Policy, v.Wrong, v.Wrong+v.Verified, runtime.Tolerance)})
	}
	if v.Verified+v.Wrong == 0 {
		r.doubt(doubt{about: "unverified", machine: true,
			text: fmt.Sprintf("%s finished none of the sampled requests, so that no output was verified: lower --load", p.Policy)})
	}
}

// judgeMachine looks at what else the machine did.
func (r *Result) judgeMachine(p *PolicyResult) {
	e := p.Execution
	if e == nil {
		return
	}
	worst, share := "", 0.0
	for k, x := range e.Preempted {
		if x > share || x == share && k < worst {
			worst, share = k, x
		}
	}
	if share > maxPreempted {
		r.doubt(doubt{about: "preempted", worst: share, machine: true,
			text: fmt.Sprintf("%s: other threads and processes took %.0f %% of the processor time of accelerator %q, at most %.0f %% may be: stop what else runs, use fewer accelerators than cores, or give them real-time priority (--realtime)", p.Policy, 100*share, worst, 100*maxPreempted)})
	}
	if m := &e.Machine; m.Throttles > 0 {
		r.doubt(doubt{about: "hot", worst: float64(m.Throttles), machine: true,
			text: fmt.Sprintf("%s: the processor was slowed down %d times because it was too hot: let it cool, or lower the load", p.Policy, m.Throttles)})
	}
	if share := ratio(e.Machine.Throttled, time.Duration(e.ElapsedNS)); share > maxThrottled {
		r.doubt(doubt{about: "quota", worst: share, machine: true,
			text: fmt.Sprintf("%s: the control group of this process used up its quota and stood still for %v: raise the CPU limit of the container, or use fewer accelerators", p.Policy, e.Machine.Throttled.Round(time.Millisecond))})
	}
	if share := ratio(e.Machine.Steal, e.Machine.Busy+e.Machine.Steal); share > maxStolen {
		r.doubt(doubt{about: "steal", worst: share, machine: true,
			text: fmt.Sprintf("%s: the hypervisor gave %.0f %% of the processor time to other virtual machines, at most %.0f %% may be: run where cores are your own", p.Policy, 100*share, 100*maxStolen)})
	}
}

func ratio(a, b time.Duration) float64 {
	if b <= 0 {
		return 0
	}
	return float64(a) / float64(b)
}

// judgeAA doubts a comparison whose baseline differs from itself.
func (r *Result) judgeAA() {
	aa := r.Comparison.AA
	if aa == nil || !aa.Miss.Significant {
		return
	}
	r.doubt(doubt{about: "a/a", machine: true,
		text: fmt.Sprintf("%s differs from itself: its mean miss rate by %+.2f points between two runs of each repeat (p=%.3f): the machine changes while it runs; stop what else runs and compare again", aa.Policy, 100**aa.Miss.Difference, *aa.Miss.P)})
}

// clockStep is the smallest step that the clock was seen to make: its
// resolution, or the time that it takes to read it.
func clockStep() time.Duration {
	least := time.Duration(1<<63 - 1)
	for range 100 {
		begin := time.Now()
		step := time.Since(begin)
		for step <= 0 {
			step = time.Since(begin)
		}
		least = min(least, step)
	}
	return least
}

// lost doubts a run that went on without an accelerator.
func (r *Result) lost(p *PolicyResult) {
	if p.Execution != nil && len(p.Lost) > 0 {
		r.doubt(doubt{about: "lost " + p.Policy, text: fmt.Sprintf("%s lost accelerators: %s", p.Policy, strings.Join(p.Lost, ", "))})
	}
}

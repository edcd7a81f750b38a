package result

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/terastal/terastal/cmd/terastal/internal/comparison"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/eventlog"
	"github.com/terastal/terastal/sched/policy"
)

// Limits beyond which a run says nothing about the schedule.
const (
	// A release that goes unnoticed for longer than this share of the shortest deadline, in the 99th percentile, while an
	// accelerator is idle, is a fault of the machine that the policies pay for.
	maxLagShare = 0.25
	// With a tenth of an accelerator's processor time gone, a load of 0.9 is one of 1.0: the run shows another system than
	// the one that was planned. On the machine of docs/MEASURED.md policies changed places between runs that lost up to 3
	// % and runs that lost 8 to 15 %.
	maxPreempted = 0.10
	// The same for what a hypervisor took of all processor time that the machine wanted.
	maxStolen = 0.10
	// A control group that used up its quota stands still, for some ten milliseconds at a time. At 1 % of the time every
	// 99th percentile shows the quota.
	maxThrottled = 0.01
	// A clock that advances in steps larger than this share of the shortest deadline cannot tell met from late.
	maxClockShare = 0.01
)

// Doubt is why a result is not valid. Where several runs give rise to the same one, the worst is told.
type Doubt struct {
	// About tells doubts apart: the same one of another run has the same.
	About string
	// Worst grows with how bad it is.
	Worst float64
	Text  string
	// Machine says that the machine is to blame, or that the run was short, or the policy knows no accuracy floor: nothing is
	// wrong with what was computed.
	Machine bool
	runs    int
}

// Doubt marks the result invalid.
func (r *Result) Doubt(d Doubt) {
	r.Valid, d.runs = false, 1
	at := slices.IndexFunc(r.doubts, func(x Doubt) bool { return x.About == d.About })
	if at < 0 {
		r.doubts = append(r.doubts, d)
		return
	}
	known := &r.doubts[at]
	known.runs++
	if d.Worst > known.Worst {
		known.Worst, known.Text = d.Worst, d.Text
	}
}

// Conclude writes down the reasons.
func (r *Result) Conclude() {
	r.Reasons = nil
	for _, d := range r.doubts {
		text := d.Text
		switch {
		case d.runs > 1 && d.Worst != 0:
			text += fmt.Sprintf(" (this is the worst of %d such runs)", d.runs)
		case d.runs > 1:
			text += fmt.Sprintf(" (in %d runs)", d.runs)
		}
		r.Reasons = append(r.Reasons, text)
	}
}

// MachineOnly reports whether all reasons why the result is not valid lie with the machine, with how short the run was,
// or with policies that know no accuracy floor: what was computed is right, it only is no measurement.
func (r *Result) MachineOnly() bool {
	return !slices.ContainsFunc(r.doubts, func(d Doubt) bool { return !d.Machine })
}

// machine doubts the result for what the machine did, or because the run was short.
func (r *Result) machine(about string, worst float64, format string, args ...any) {
	r.Doubt(Doubt{About: about, Worst: worst, Machine: true, Text: fmt.Sprintf(format, args...)})
}

// Judge marks the result invalid where a policy's run cannot support it.
func (r *Result) Judge(p *PolicyResult) {
	shortest := slices.MinFunc(p.Models, func(a, b eventlog.ModelMetrics) int {
		return cmp.Compare(a.DeadlineMS, b.DeadlineMS)
	}).DeadlineMS
	for _, m := range p.Models {
		if least := comparison.MinMissJobs(); m.Released < least {
			r.machine("few "+m.Model, float64(-m.Released),
				"%d requests of %s were released, a miss rate needs at least %d: raise --duration", m.Released, m.Model, least)
		}
	}
	// Without a scheduler, noticing releases late is what is being measured.
	if lag := p.IdleLagP99US / 1e3; lag > maxLagShare*shortest && !runtime.IsUnscheduled(p.Policy) {
		r.machine("lag", lag, "%s noticed releases up to %.1f ms late (p99) while an accelerator was idle, the shortest "+
			"deadline is %.1f ms: stop what else runs, leave a core free for the scheduler or lower the rates", p.Policy, lag,
			shortest)
	}
	for i := range p.Models {
		r.judgeFloor(p.Policy, &p.Models[i])
	}
	if !p.Balanced() {
		r.Doubt(Doubt{About: "balance", Text: fmt.Sprintf("%s: the totals do not balance", p.Policy)})
	}
	if step := time.Duration(r.ClockStepNS); step.Seconds()*1e3 > maxClockShare*shortest {
		r.machine("clock", 0, "the clock advances in steps of %v, the shortest deadline is %.1f ms: use a finer clock source "+
			"of the system", step, shortest)
	}
	if v := p.Verification; v != nil && v.Wrong > 0 {
		r.Doubt(Doubt{About: "wrong", Worst: float64(v.Wrong), Text: fmt.Sprintf("%s: %d of %d sampled outputs differ from "+
			"the whole model's by more than %.0e of their size", p.Policy, v.Wrong, v.Wrong+v.Verified,
			max(v.Tolerance, runtime.Tolerance))})
	} else if v != nil && v.Verified == 0 {
		r.machine("unverified", 0, "%s finished none of the sampled requests, so that no output was verified: lower --load",
			p.Policy)
	}
	if p.Execution != nil {
		r.judgeMachine(p.Policy, p.Execution)
	}
}

// rounding is what sums of floating-point numbers may be off.
const rounding = 1e-9

// judgeFloor doubts a run that did not keep what a model was promised.
func (r *Result) judgeFloor(name string, m *eventlog.ModelMetrics) {
	if text, short := Unkept(name, m); text != "" {
		r.Doubt(Doubt{About: "accuracy of " + m.Model + " under " + name, Worst: short, Text: text,
			Machine: m.DeliveredAccuracy != nil && !policy.Spends(name)})
	}
}

// Unkept says what was not kept of what a model was promised, what to do about it, and how much the accuracy is short of
// the floor; it is empty where the floor was kept.
func Unkept(name string, m *eventlog.ModelMetrics) (text string, short float64) {
	finished := m.Met + m.Late
	switch {
	case m.AccuracyFloor == 0 || finished == 0:
	case m.DeliveredAccuracy == nil:
		return fmt.Sprintf("%s used variants of %s whose accuracy together was never measured: measure it (`terastal variants "+
			"accuracy`), or promise nothing (`accuracy: 0`)", name, m.Model), 0
	case *m.DeliveredAccuracy < m.AccuracyFloor-rounding:
		return fmt.Sprintf("%s kept %s of the accuracy of %s on the mean of %d finished requests, its floor is %s: play a policy "+
			"that keeps it, such as pedf or rollout, or lower the floor (--accuracy)", name, Share(*m.DeliveredAccuracy),
			m.Model, finished, Share(m.AccuracyFloor)), m.AccuracyFloor - *m.DeliveredAccuracy
	case m.WorstWindow != nil && *m.WorstWindow < m.AccuracyFloor-rounding && policy.Spends(name):
		return fmt.Sprintf("%s kept %s of the accuracy of %s over one of its windows of %d finished requests, its floor is %s "+
			"in each: report it, this must not happen", name, Share(*m.WorstWindow), m.Model, sched.AccuracyWindow,
			Share(m.AccuracyFloor)), m.AccuracyFloor - *m.WorstWindow
	}
	return "", 0
}

// Share words a share of the accuracy in per cent, rounded down: what is below a floor does not look as if it were not.
func Share(x float64) string { return fmt.Sprintf("%.6g %%", math.Floor(x*1e5+rounding)/1e3) }

// judgeMachine looks at what else the machine did.
func (r *Result) judgeMachine(policy string, e *Execution) {
	worst, share := "", 0.0
	for k, x := range e.Preempted {
		if x > share || x == share && k < worst {
			worst, share = k, x
		}
	}
	if share > maxPreempted {
		r.machine("preempted", share, "%s: other threads and processes took %.0f %% of the processor time of accelerator %q, "+
			"at most %.0f %% may be: stop what else runs, use fewer accelerators than cores, or give them real-time priority "+
			"(--realtime)", policy, 100*share, worst, 100*maxPreempted)
	}
	m := &e.Machine
	if m.Throttles > 0 {
		r.machine("hot", float64(m.Throttles), "%s: the processor was slowed down %d times because it was too hot: let it "+
			"cool, or lower the load", policy, m.Throttles)
	}
	if share := ratio(m.Throttled, time.Duration(e.ElapsedNS)); share > maxThrottled {
		r.machine("quota", share, "%s: the control group of this process used up its quota and stood still for %v: raise the "+
			"CPU limit of the container, or use fewer accelerators", policy, m.Throttled.Round(time.Millisecond))
	}
	if share := ratio(m.Steal, m.Busy+m.Steal); share > maxStolen {
		r.machine("steal", share, "%s: the hypervisor gave %.0f %% of the processor time to other virtual machines, at most "+
			"%.0f %% may be: run where cores are your own", policy, 100*share, 100*maxStolen)
	}
}

func ratio(a, b time.Duration) float64 {
	if b <= 0 {
		return 0
	}
	return float64(a) / float64(b)
}

// JudgeAA doubts a comparison whose baseline differs from itself.
func (r *Result) JudgeAA() {
	if aa := r.Comparison.AA; aa != nil && aa.Miss.Significant {
		r.machine("a/a", 0, "%s differs from itself: its mean miss rate by %+.2f points between two runs of each repeat "+
			"(p=%.3f): the machine changes while it runs; stop what else runs and compare again", aa.Policy,
			100**aa.Miss.Difference, *aa.Miss.P)
	}
}

// ClockStep is the smallest step that the clock was seen to make: its resolution, or the time that it takes to read it.
func ClockStep() time.Duration {
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

// JudgeLost doubts a run that went on without an accelerator.
func (r *Result) JudgeLost(p *PolicyResult) {
	if p.Execution != nil && len(p.Lost) > 0 {
		r.Doubt(Doubt{About: "lost " + p.Policy, Text: fmt.Sprintf("%s lost accelerators: %s", p.Policy,
			strings.Join(p.Lost, ", "))})
	}
}

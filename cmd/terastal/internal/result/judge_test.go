package result

import (
	"strings"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/hostinfo"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched/eventlog"
)

// calmRun is what a policy's run looks like that supports every claim.
func calmRun(policy string) *PolicyResult {
	totals := eventlog.Totals{Released: 1000, Met: 990, Late: 10}
	return &PolicyResult{
		Metrics: eventlog.Metrics{Policy: policy, Driver: eventlog.Real, Totals: totals, IdleLagP99US: 2500,
			MeanMissRate: 0.01,
			Models: []eventlog.ModelMetrics{{Model: "a", Totals: totals, DeadlineMS: 10, MissRate: 0.01, P50MS: 2, P99MS: 9},
				{Model: "b", Totals: totals, DeadlineMS: 40, MissRate: 0.01, P50MS: 3, P99MS: 9}}},
		Verification: &runtime.Verification{Verified: 8},
		Execution: &Execution{Preempted: map[string]float64{"first": 0.10, "second": 0.02},
			ElapsedNS: int64(10 * time.Second),
			Machine:   hostinfo.Counters{Throttled: 100 * time.Millisecond, Steal: time.Second, Busy: 9 * time.Second}},
	}
}

// promise gives the run's second model a floor, and what it kept.
func promise(p *PolicyResult, floor, delivered float64) {
	m, window := &p.Models[1], delivered
	m.AccuracyFloor, m.DeliveredAccuracy, m.WorstWindow = floor, &delivered, &window
}

// TestJudge: at its limit a run is valid, beyond it is not, and the reason says what to change.
func TestJudge(t *testing.T) {
	for name, c := range map[string]struct {
		spoil   func(r *Result, p *PolicyResult)
		reason  string // empty: valid
		machine bool
	}{
		"calm":            {func(*Result, *PolicyResult) {}, "", true},
		"simulated":       {func(_ *Result, p *PolicyResult) { p.Execution, p.Verification = nil, nil }, "", true},
		"enough requests": {func(_ *Result, p *PolicyResult) { p.Models[1].Released = 29 }, "", true},
		"few requests": {func(_ *Result, p *PolicyResult) { p.Models[1].Released = 28 },
			"28 requests of b.*at least 29: raise --duration", true},
		"late releases": {func(_ *Result, p *PolicyResult) { p.IdleLagP99US = 2501 }, "2.5 ms late.*leave a core free",
			true},
		"unscheduled": {func(_ *Result, p *PolicyResult) { p.Policy, p.IdleLagP99US = runtime.Unscheduled, 2501 }, "",
			true},
		"preempted": {func(_ *Result, p *PolicyResult) { p.Preempted["second"] = 0.105 },
			`10 % of the processor time of accelerator "second".*stop what else runs`, true},
		"hot": {func(_ *Result, p *PolicyResult) { p.Machine.Throttles = 1 }, "too hot: let it cool", true},
		"quota": {func(_ *Result, p *PolicyResult) { p.Machine.Throttled = 101 * time.Millisecond },
			"stood still for 101ms: raise the CPU limit", true},
		"steal": {func(_ *Result, p *PolicyResult) { p.Machine.Steal = 2 * time.Second },
			"hypervisor gave 18 %.*run where cores are your own", true},
		"fine clock": {func(r *Result, _ *PolicyResult) { r.ClockStepNS = 100_000 }, "", true},
		"coarse clock": {func(r *Result, _ *PolicyResult) { r.ClockStepNS = 15_600_000 },
			"steps of 15.6ms.*finer clock source", true},
		"wrong outputs": {func(_ *Result, p *PolicyResult) { p.Wrong = 1 }, "1 of 9 sampled outputs differ", false},
		"unverified": {func(_ *Result, p *PolicyResult) { p.Verified = 0 }, "no output was verified: lower --load",
			true},
		"unbalanced": {func(_ *Result, p *PolicyResult) { p.Metrics.Met-- }, "totals do not balance", false},
		"lost": {func(_ *Result, p *PolicyResult) { p.Lost = []string{"first"} }, "lost accelerators: first",
			false},
		"floor kept": {func(_ *Result, p *PolicyResult) { promise(p, 0.99, 0.99-1e-12) }, "", true},
		"floor kept, though not in every window": {func(_ *Result, p *PolicyResult) {
			promise(p, 0.99, 0.991)
			*p.Models[1].WorstWindow = 0.95
		}, "", true},
		"floor not kept in every window by a policy that claims it": {func(_ *Result, p *PolicyResult) {
			promise(p, 0.99, 0.991)
			p.Policy, *p.Models[1].WorstWindow = "pedf", 0.95
		}, "pedf kept 95 % of the accuracy of b over one of its windows of 100 finished requests, its floor is 99 % in each",
			false},
		"floor broken": {func(_ *Result, p *PolicyResult) { promise(p, 0.99, 0.989999) },
			"edf kept 98.999 % of the accuracy of b on the mean of 1000 finished requests, its floor is 99 %.*--accuracy", true},
		"floor broken by a policy that claims it": {func(_ *Result, p *PolicyResult) {
			promise(p, 0.99, 0.98)
			p.Policy = "pedf"
		}, "pedf kept 98 % of the accuracy of b on the mean of 1000", false},
		"none finished": {func(_ *Result, p *PolicyResult) {
			promise(p, 0.99, 0)
			p.Models[1].DeliveredAccuracy = nil
			p.Models[1].Totals = eventlog.Totals{Released: 1000, Dropped: 1000}
		}, "", true},
		"accuracy unknown": {func(_ *Result, p *PolicyResult) {
			promise(p, 0.99, 0)
			p.Models[1].DeliveredAccuracy = nil
		}, "variants of b whose accuracy together was never measured", false},
		"hot, wrong outputs": {func(_ *Result, p *PolicyResult) { p.Machine.Throttles, p.Wrong = 1, 1 },
			"sampled outputs differ", false},
	} {
		r, p := Result{Valid: true}, calmRun("edf")
		c.spoil(&r, p)
		r.Judge(p)
		r.JudgeLost(p)
		r.Conclude()
		text := strings.Join(r.Reasons, "; ")
		if r.Valid != (c.reason == "") || r.MachineOnly() != c.machine || len(r.Reasons) == 0 != r.Valid {
			t.Errorf("%s: valid %v, the machine alone %v, %q", name, r.Valid, r.MachineOnly(), text)
		}
		at := 0
		for part := range strings.SplitSeq(c.reason, ".*") {
			i := strings.Index(text[at:], part)
			if i < 0 {
				t.Errorf("%s: %q does not say %q", name, text, part)
				break
			}
			at += i
		}
	}
}

// TestDoubtsOfManyRuns: the same doubt about several runs is one reason, that of the worst.
func TestDoubtsOfManyRuns(t *testing.T) {
	r := Result{Valid: true}
	for i, share := range []float64{0.2, 0.6, 0.3} {
		p := calmRun([]string{"fcfs", "edf", "dream"}[i])
		p.Preempted["first"] = share
		r.Judge(p)
	}
	r.Conclude()
	if len(r.Reasons) != 1 || !strings.HasPrefix(r.Reasons[0], "edf: ") || !strings.Contains(r.Reasons[0], "60 %") ||
		!strings.HasSuffix(r.Reasons[0], "(this is the worst of 3 such runs)") {
		t.Errorf("%q", r.Reasons)
	}
}

package policy

import (
	"slices"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/sequential"
	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/internal/schedtest"
	"github.com/terastal/terastal/sched/traffic"
	"pgregory.net/rapid"
)

// TestNeverWaits: a search that never ends leaves priced EDF.
func TestNeverWaits(t *testing.T) {
	schedtest.CheckSome(t, 10, func(t *rapid.T) {
		sys := schedtest.System(t)
		arrivals := schedtest.Arrivals(t, &sys)
		drop := sched.DropPolicy(schedtest.Number(t, 3, "drop"))
		want := simulate(t, sys, "pedf", drop, arrivals, 0)
		got := simulate(t, sys, "rollout", drop, arrivals, time.Hour)
		if at := slices.IndexFunc(got, func(r sched.Record) bool { return r.Kind == sched.RuleFound }); at >= 0 {
			got = got[:at]
			want = want[:at]
		}
		if !slices.Equal(got, want) {
			t.Fatalf("system %+v\narrivals %+v\nrollout %+v\npedf    %+v", sys, arrivals, got, want)
		}
	})
}

// busyArrivals load a system so that priced EDF misses deadlines.
func busyArrivals(t testkit.T, sys *sched.System) []traffic.Arrival {
	t.Helper()
	traffic := traffic.Config{Process: traffic.Poisson, Duration: 300 * time.Millisecond, Seed: 3}
	for m := range sys.Models {
		traffic.Rates = append(traffic.Rates, 2.2/sys.Models[m].Deadline.Seconds())
	}
	return testkit.Must(traffic.Arrivals())(t)
}

func missedJobs(log records) (n int) {
	for _, r := range log {
		if r.Kind == sched.Ended && r.Outcome != sched.Met {
			n++
		}
	}
	return n
}

// TestSearchHelps: rollouts miss less than priced EDF, less so the older their
// results are, and the results of slow searches are still used.
func TestSearchHelps(t *testing.T) {
	sequential.Skip(t)
	sys := schedtest.Workload(4, 3)
	arrivals := busyArrivals(t, &sys)
	plain := missedJobs(simulate(t, sys, "pedf", sched.DropLate, arrivals, 0))
	in := missedJobs(simulate(t, sys, "rollout", sched.DropLate, arrivals, 0))
	soon := missedJobs(simulate(t, sys, "rollout", sched.DropLate, arrivals, 100*time.Microsecond))
	t.Logf("%d requests; missed: pedf %d, rollout %d, 100 us late %d", len(arrivals), plain, in, soon)
	if in >= plain || soon >= plain {
		t.Errorf("missed: pedf %d, rollout %d, 100 us late %d", plain, in, soon)
	}
}

// TestSearchAllocations: a search outside of the engine allocates nothing, once it has seen the load.
func TestSearchAllocations(t *testing.T) {
	sequential.Skip(t)
	sys := promising(t, 4, 3, 0.99)
	for _, adapt := range []bool{false, true} {
		m := newTreadmill(t, sys, "rollout", sched.DropLate, 32)
		tables := schedtest.Compile(t, sys)
		m.engine = newEngine(t, sched.Config{Tables: tables, Policy: Named("rollout"), Drop: sched.DropLate, Adapt: adapt})
		p := m.engine.Policy().(sched.Searcher)
		search := p.Detach(0)
		ran := 0
		step := func() {
			m.step()
			began := m.now
			if p.Prepare(m.engine.State()) {
				ran++
				found := search()
				for _, d := range m.engine.Step(sched.Event{Kind: sched.Searched, At: m.now, Start: began, Found: found}) {
					m.ends[d.Accelerator] = d.Finish
				}
			}
		}
		for range 500 {
			step()
		}
		if n := testing.AllocsPerRun(200, step); n != 0 || ran < 100 {
			t.Errorf("adapt %v: %d searches, %v allocations per step", adapt, ran, n)
		}
	}
}

// TestFoundRuleHolds: a rule that was found is used, but not for ever: without
// another result the policy is priced EDF again.
func TestFoundRuleHolds(t *testing.T) {
	const fcfs = 12 // of the portfolio
	sys := schedtest.Workload(4, 3)
	// drive lets so many jobs pass one at a time after a result, and records what is dispatched under load then.
	drive := func(policy string, alone int) (out []sched.Dispatch) {
		m := newTreadmill(t, sys, policy, sched.DropNone, 1)
		if p, ok := m.engine.Policy().(sched.Searcher); ok {
			p.Detach(0)
			m.engine.Step(sched.Event{Kind: sched.Searched, Found: fcfs})
		}
		for m.next < int64(alone) || m.engine.Active() > 0 {
			if m.next == int64(alone) {
				m.jobs = 0 // no further ones
			}
			m.step()
		}
		m.now, m.jobs = time.Hour, 12
		for range 100 {
			before := slices.Clone(m.ends)
			m.step()
			for k, end := range m.ends {
				if end != before[k] && end > 0 {
					out = append(out, sched.Dispatch{Accelerator: k, Finish: end})
				}
			}
		}
		return out
	}
	if slices.Equal(drive("rollout", 0), drive("pedf", 0)) {
		t.Error("the rule that was found is not used")
	}
	const jobs = 3 // of 20 layers
	if !slices.Equal(drive("rollout", jobs), drive("pedf", jobs)) {
		t.Error("the rule that was found is still used after 60 decisions")
	}
}

// TestSearchStops: where a search takes more from the accelerators than it gives, most are not made.
func TestSearchStops(t *testing.T) {
	sys := schedtest.Workload(4, 1)
	arrivals := busyArrivals(t, &sys)
	for _, c := range []struct {
		share float64
		most  int
	}{{0, 1 << 30}, {1000, len(arrivals) / 2}} {
		n := 0
		searches(t, sys, arrivals, c.share, time.Millisecond, func(s *search) int { n++; return s.run() })
		t.Logf("share %v: %d searches for %d requests", c.share, n, len(arrivals))
		if n > c.most || c.share == 0 && n < len(arrivals) {
			t.Errorf("share %v: %d searches for %d requests", c.share, n, len(arrivals))
		}
	}
}

// TestDetachedTables: a detached search rolls by latencies as the engine has corrected them until then.
func TestDetachedTables(t *testing.T) {
	tables := schedtest.Compile(t, schedtest.Workload(1, 1))
	engine := newEngine(t, sched.Config{Tables: tables, Policy: Rollout, Adapt: true})
	p := engine.Policy().(*rollout)
	p.Detach(0)
	d := engine.Step(sched.Event{Kind: sched.Release})[0]
	for range 3 {
		at := engine.State().Now + 3*d.Finish
		d = engine.Step(sched.Event{Kind: sched.Complete, At: at, Start: engine.State().Now})[0]
	}
	if !p.Prepare(engine.State()) {
		t.Fatal("no search is wanted")
	}
	m, own := tables.Model(0), p.search.t.Model(0)
	if got := p.t.Model(0).Remaining(0); own.Remaining(0) != got || got <= m.Remaining(0) {
		t.Errorf("the layers take %v, as corrected %v, in the search %v", m.Remaining(0), got, own.Remaining(0))
	}
}

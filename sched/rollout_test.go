package sched_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/sequential"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/sim"
	"github.com/terastal/terastal/sched/traffic"
	"pgregory.net/rapid"
)

// stateless are the policies whose decisions follow from the state alone.
var stateless = []string{"fcfs", "edf", "llf", "heft", "terastal", "terastal-laxity", "pedf", "pedf-model"}

// unlearning keeps a policy from learning.
type unlearning struct{ sched.Policy }

// TestCopiedEngine: a copy of an engine goes on as the original does, whatever
// is done to either.
func TestCopiedEngine(t *testing.T) {
	checkN(t, *cases, func(t *rapid.T) {
		sys := drawRichSystem(t)
		name := rapid.SampledFrom(stateless).Draw(t, "policy")
		cfg := drawConfig(drawn(t))
		cfg.Adapt = false
		var engines [2]*sched.Engine
		var logs [2]records
		for i := range engines {
			c := cfg
			c.Tables, c.Recorder = compile(t, sys), &logs[i]
			if c.Policy = newWhole(t, name, c.Tables); c.Policy == nil {
				return
			}
			c.Policy = unlearning{c.Policy}
			engines[i] = newEngine(t, c)
		}
		// Both get the same events from the one that drives; the second only
		// from where it was copied.
		from := 1 + number(t, 30, "copied after")
		n := 0
		driveSeen(drawn(t), &sys, engines[0], func(sched.Event) {
			if n++; n == from {
				engines[1].CopyFrom(engines[0])
				logs[0] = nil
			}
		}, func(ev sched.Event, want []sched.Dispatch) {
			if n < from {
				return
			}
			if got := engines[1].Step(ev); !slices.Equal(got, want) {
				t.Fatalf("%s, event %+v: the copy starts %+v, the original %+v", name, ev, got, want)
			}
		})
		if n >= from && !slices.Equal(logs[0], logs[1]) {
			t.Fatalf("%s: the copy recorded\n%+v\nthe original\n%+v", name, logs[1], logs[0])
		}
	})
}

// beside runs rollouts beside the engine, each taking so long.
func beside(t failer, sys sched.System, took func(sched.Found) time.Duration, drop sched.DropPolicy, arrivals []traffic.Arrival) records {
	t.Helper()
	tables := compile(t, sys)
	var log records
	_, err := sim.Run(sim.Config{Arrivals: arrivals, SearchTime: took,
		Engine: sched.Config{Tables: tables, Policy: newPolicy(t, "rollout", tables), Drop: drop, Recorder: &log}})
	if err != nil {
		t.Fatal(err)
	}
	return log
}

// TestNeverWaits: a search that never ends leaves priced EDF.
func TestNeverWaits(t *testing.T) {
	checkSome(t, 10, func(t *rapid.T) {
		sys := drawSystem(t)
		arrivals := drawArrivals(t, &sys)
		drop := sched.DropPolicy(number(t, 3, "drop"))
		want := simulate(t, sys, "pedf", drop, arrivals)
		got := beside(t, sys, func(sched.Found) time.Duration { return time.Hour }, drop, arrivals)
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
func busyArrivals(t failer, sys *sched.System) []traffic.Arrival {
	t.Helper()
	traffic := traffic.Config{Process: traffic.Poisson, Duration: 300 * time.Millisecond, Seed: 3}
	for m := range sys.Models {
		traffic.Rates = append(traffic.Rates, 2.2/sys.Models[m].Deadline.Seconds())
	}
	arrivals, err := traffic.Arrivals()
	if err != nil {
		t.Fatal(err)
	}
	return arrivals
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
	sys := workload(4, 3)
	arrivals := busyArrivals(t, &sys)
	plain := missedJobs(simulate(t, sys, "pedf", sched.DropLate, arrivals))
	in := missedJobs(simulate(t, sys, "rollout", sched.DropLate, arrivals))
	soon := missedJobs(beside(t, sys, func(sched.Found) time.Duration { return 100 * time.Microsecond }, sched.DropLate, arrivals))
	t.Logf("%d requests; missed: pedf %d, rollout %d, 100 us late %d", len(arrivals), plain, in, soon)
	if in >= plain || soon >= plain {
		t.Errorf("missed: pedf %d, rollout %d, 100 us late %d", plain, in, soon)
	}
}

// TestSearchAllocations: a search allocates nothing, beside the engine, once it has seen the load.
func TestSearchAllocations(t *testing.T) {
	sequential.Skip(t)
	sys := workload(4, 3)
	for _, adapt := range []bool{false, true} {
		m := newTreadmill(t, sys, "rollout", sched.DropLate, 32)
		tables := compile(t, sys)
		m.engine = newEngine(t, sched.Config{Tables: tables, Policy: newPolicy(t, "rollout", tables), Drop: sched.DropLate, Adapt: adapt})
		search := m.engine.SearchBeside()
		ran := 0
		step := func() {
			m.step()
			began := m.now
			if m.engine.Prepare(search) {
				ran++
				found := search.Run()
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
	sys := workload(4, 3)
	// drive lets so many jobs pass one at a time after a result, and records
	// what is dispatched under load then.
	drive := func(policy string, alone int) (out []sched.Dispatch) {
		m := newTreadmill(t, sys, policy, sched.DropNone, 1)
		if m.engine.SearchBeside() != nil {
			m.engine.Step(sched.Event{Kind: sched.Searched, Found: sched.Found{Rule: fcfs}})
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

// TestSearchStops: where a search takes more from the accelerators than it
// gives, most are not made.
func TestSearchStops(t *testing.T) {
	sys := workload(4, 1)
	arrivals := busyArrivals(t, &sys)
	for _, c := range []struct {
		share float64
		most  int
	}{{0, 1 << 30}, {1000, len(arrivals) / 2}} {
		tables := compile(t, sys)
		n := 0
		_, err := sim.Run(sim.Config{Arrivals: arrivals, SearchTime: func(sched.Found) time.Duration { n++; return time.Millisecond },
			Engine: sched.Config{Tables: tables, Policy: newPolicy(t, "rollout", tables), Drop: sched.DropLate, SearchShare: c.share}})
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("share %v: %d searches for %d requests", c.share, n, len(arrivals))
		if n > c.most || c.share == 0 && n < len(arrivals) {
			t.Errorf("share %v: %d searches for %d requests", c.share, n, len(arrivals))
		}
	}
}

// TestRolloutOptions: what a user may mistype is an error, and names all rules.
func TestRolloutOptions(t *testing.T) {
	tables := compile(t, workload(2, 1))
	for name, want := range map[string]string{
		"rollout:every=10:events=2000:touches=9:good=0:margin=0:horizon=2:tight=0:fade=1:variant=0": "",
		"rollout:rules=0+13":    "",
		"rollout:rules=14":      "no rule \"14\"",
		"rollout:rules=":        "no rule",
		"rollout:every=-1":      "want name=number",
		"rollout:horizon=NaN":   "want name=number",
		"rollout:every":         "want name=number",
		"rollout:":              "want name=number",
		"rollout:depth=1":       "no option \"depth\"",
		"rollout:every=3-model": "want name=number",
	} {
		_, err := sched.NewPolicy(name, tables)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
}

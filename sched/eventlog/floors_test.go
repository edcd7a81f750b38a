package eventlog_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/sequential"
	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/eventlog"
	"github.com/terastal/terastal/sched/fluid"
	"github.com/terastal/terastal/sched/plan"
	"github.com/terastal/terastal/sched/policy"
	"github.com/terastal/terastal/sched/scenario"
	"github.com/terastal/terastal/sched/sim"
	"github.com/terastal/terastal/sched/traffic"
)

// overloaded is the log of a published scenario at more than its capacity, with noise, under an accuracy floor. bounded
// replaces measured combinations by an additive bound. With a search time, searches run next to the engine, whose latencies
// adapt.
func overloaded(t *testing.T, name string, floor float64, bounded bool, search time.Duration,
	seed uint64) *eventlog.Log {
	t.Helper()
	s := testkit.Must(scenario.Load("paper/mcv_heavy"))(t)
	for m := range s.System.Models {
		x := &s.System.Models[m]
		if bounded && x.Variants > 0 {
			p := plan.Proof{Sets: x.Valid, Accuracy: x.Accuracy}
			p.BoundLosses(x.Variants)
			p.Allow(x, scenario.DefaultTheta)
		}
		plan.Promise(x, floor)
	}
	tr := traffic.Config{Rates: s.Rates, Process: traffic.Poisson, Duration: 2 * time.Second, Seed: seed}
	if name == "rollout" { // which takes longer to search than the others to run
		tr.Duration /= 2
	}
	for m := range tr.Rates {
		tr.Rates[m] *= 1.4
	}
	tables := testkit.Must(sched.Compile(s.System))(t)
	s.System.Pricing = testkit.Must(fluid.Price(tables, tr.Rates))(t)
	l := &eventlog.Log{Header: eventlog.Header{Driver: eventlog.Simulated, Policy: name, Drop: "late", Queue: 16, Seed: seed,
		System: s.System, Rates: tr.Rates, Duration: tr.Duration, SearchDetached: search > 0, Adapt: search > 0}}
	engine := testkit.Must(l.Header.Engine((*eventlog.Buffer)(&l.Records), nil))(t)
	testkit.Must(sim.Run(sim.Config{Arrivals: testkit.Must(tr.Arrivals())(t), Engine: engine,
		SearchTime: search, Duration: sim.Lognormal(0.1, tables, seed)}))(t)
	return l
}

// TestFloorsAreKept: whatever policies that spend accuracy count for themselves, no window of their logs is below the
// floor. Where the floor is 1 nothing is lost at all; else some of it is spent.
func TestFloorsAreKept(t *testing.T) {
	sequential.Skip(t)
	for _, name := range []string{"pedf", "rollout", "terastal-budget", "pedf-model"} {
		if _, err := policy.Find(name); err != nil {
			t.Fatal(err)
		}
		for _, floor := range []float64{1, 0.99, 0.95} {
			for _, bounded := range []bool{false, true} {
				what := fmt.Sprintf("%s, floor %v, bounded %v", name, floor, bounded)
				l := overloaded(t, name, floor, bounded, 0, 5)
				testkit.OK(t, l.Validate())
				spent := false
				for _, m := range l.Metrics().Models {
					if m.AccuracyFloor == 0 || m.Met+m.Late == 0 {
						continue
					}
					if m.WorstWindow == nil || *m.WorstWindow < floor-1e-9 {
						t.Errorf("%s: %s kept only %v in a window", what, m.Model, *m.WorstWindow)
					}
					spent = spent || *m.DeliveredAccuracy < 1
				}
				if spent != (floor < 1) && (floor == 1 || name != "pedf-model") {
					t.Errorf("%s: accuracy was spent: %v", what, spent)
				}
				if _, difference, err := l.Replay(nil); err != nil || difference != "" {
					t.Errorf("%s: replay: %s, %v", what, difference, err)
				}
			}
		}
	}
}

// TestDetachedSearchReplays: a replay decides the same where searches ran next to the engine while accuracy was spent.
func TestDetachedSearchReplays(t *testing.T) {
	l := overloaded(t, "rollout", 0.99, false, 200*time.Microsecond, 7)
	found, variants := 0, 0
	for _, r := range l.Records {
		switch {
		case r.Kind == sched.RuleFound:
			found++
		case r.Kind == sched.Dispatched && r.Implementation > 0:
			variants++
		}
	}
	if found < 100 || variants < 100 {
		t.Errorf("%d searches found something, %d variants were used", found, variants)
	}
	if _, difference, err := l.Replay(nil); err != nil || difference != "" {
		t.Errorf("replay: %s, %v", difference, err)
	}
}

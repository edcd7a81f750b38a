package sim_test

import (
	"slices"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/eventlog"
	"github.com/terastal/terastal/sched/internal/schedtest"
	"github.com/terastal/terastal/sched/scenario"
	"github.com/terastal/terastal/sched/sim"
	"github.com/terastal/terastal/sched/traffic"
)

// searched runs rollouts on a published scenario under load, each search on a
// spare core for so long; zero means in no time, in decisions.
func searched(t *testing.T, took time.Duration) *eventlog.Log {
	t.Helper()
	s := testkit.Must(scenario.Load("paper/mcv_heavy"))(t)
	for m := range s.Rates {
		s.Rates[m] *= 1.3
	}
	traffic := traffic.Config{Rates: s.Rates, Process: traffic.Poisson, Duration: 300 * ms, Seed: 4}
	cfg := config(t, s.System, "rollout")
	cfg.Arrivals = testkit.Must(traffic.Arrivals())(t)
	cfg.Engine.Drop = sched.DropLate
	cfg.SearchTime = took
	testkit.Must(sim.Run(cfg))(t)
	return &eventlog.Log{Records: *cfg.Engine.Recorder.(*eventlog.Buffer),
		Header: eventlog.Header{Driver: eventlog.Simulated, Policy: "rollout",
			Drop: sched.DropLate.String(), System: s.System, Rates: s.Rates, Duration: traffic.Duration, SearchDetached: took > 0}}
}

// TestSearchTime: what a search finds arrives when its time is over, and no
// sooner another begins; the log replays, whichever way the searches were made.
func TestSearchTime(t *testing.T) {
	for _, took := range []time.Duration{0, 1, 100 * time.Microsecond, 5 * ms} {
		l := searched(t, took)
		n, last := 0, time.Duration(0)
		for _, r := range l.Records {
			if r.Kind != sched.RuleFound {
				continue
			}
			if n++; r.At-r.Start != took || r.Start < last {
				t.Fatalf("took %v: a search from %v to %v after one to %v", took, r.Start, r.At, last)
			}
			last = r.At
		}
		if (n > 10) != (took > 0) {
			t.Errorf("took %v: %d searches", took, n)
		}
		compared, difference, err := l.Replay(nil)
		if err != nil || difference != "" || compared < 100 {
			t.Errorf("took %v: %d decisions compared, %s, %v", took, compared, difference, err)
		}
	}
}

// TestDrifting: layers take up to 1.5 times as long, each accelerator in its own
// rhythm and all that runs at one time on one alike.
func TestDrifting(t *testing.T) {
	tables := schedtest.Compile(t, crossed())
	d := sim.Delayed(sim.Drifting(sim.Exactly(tables), 0.5, 100*ms, 2, 7), time.Microsecond)
	var took [2][]time.Duration
	for at := time.Duration(0); at < 100*ms; at += ms {
		for k := range took {
			x := d(at, sched.Dispatch{Model: k, Accelerator: k, From: sched.Idle})
			if again := d(at+100*ms, sched.Dispatch{Model: k, Accelerator: k, From: sched.Idle}); again-x > 1 || x-again > 1 {
				t.Fatalf("at %v: %v, a period later %v", at, x, again)
			}
			took[k] = append(took[k], x-time.Microsecond)
		}
	}
	for k, xs := range took {
		if low, high := slices.Min(xs), slices.Max(xs); low < 4*ms || low > 4010*time.Microsecond || high > 6*ms ||
			high < 5990*time.Microsecond {
			t.Errorf("accelerator %d: %v to %v, want 4 to 6 ms", k, low, high)
		}
	}
	if slices.Equal(took[0], took[1]) {
		t.Errorf("both accelerators drift alike")
	}
}

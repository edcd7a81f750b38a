package policy

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/internal/schedtest"
	"github.com/terastal/terastal/sched/sim"
	"github.com/terastal/terastal/sched/traffic"
	"pgregory.net/rapid"
)

func newEngine(t testkit.T, cfg sched.Config) *sched.Engine {
	t.Helper()
	return testkit.Must(sched.New(cfg))(t)
}

// records collects what an engine records.
type records []sched.Record

func (l *records) Record(r sched.Record) { *l = append(*l, r) }

func (l records) each(change func(*sched.Record)) {
	for i := range l {
		if change != nil {
			change(&l[i])
		}
	}
}

// simulate runs the system and returns everything it recorded. Searches are part
// of decisions or, with a time, take so long on a spare core.
func simulate(t testkit.T, sys sched.System, policy string, drop sched.DropPolicy, arrivals []traffic.Arrival,
	search time.Duration) records {
	t.Helper()
	var log records
	testkit.Must(sim.Run(sim.Config{Arrivals: arrivals, SearchTime: search, Engine: sched.Config{
		Tables: schedtest.Compile(t, sys), Policy: Named(policy), Drop: drop, Recorder: &log}}))(t)
	return log
}

// law is a change of the input under which the records change in a known way.
type law struct {
	name string
	// holds says for which policies; nil for all.
	holds func(policy string) bool
	// drops is how many of the drop policies it holds with.
	drops int
	// change changes the input, of which it gets a copy.
	change func(*rapid.T, *sched.System, []traffic.Arrival)
	// expect turns a record of the original run into that of the changed run; nil when they are the same.
	expect func(*sched.Record)
	// compare reduces a record to what the law is about; nil for all of it.
	compare func(*sched.Record)
}

var laws = []law{{
	// Budgets are rounded to the nanosecond. In units of a millisecond no comparison hangs on that.
	name: "twice the times, twice the schedule", drops: 3,
	change: func(_ *rapid.T, sys *sched.System, arrivals []traffic.Arrival) {
		*sys = changed(*sys, func(d time.Duration) time.Duration { return 2 * d })
		for i := range arrivals {
			arrivals[i].At *= 2
		}
	},
	expect: func(r *sched.Record) { r.At, r.Start, r.Until = 2*r.At, 2*r.Start, 2*r.Until },
}, {
	name: "a later start shifts the schedule", drops: 3,
	change: func(_ *rapid.T, _ *sched.System, arrivals []traffic.Arrival) {
		for i := range arrivals {
			arrivals[i].At += time.Hour
		}
	},
	expect: func(r *sched.Record) {
		r.At += time.Hour
		if r.Kind != sched.Dispatched && r.Kind != sched.Stopped {
			r.Start += time.Hour
		}
		if r.Kind != sched.Completed && r.Kind != sched.Stopped {
			r.Until += time.Hour
		}
	},
}, {
	name: "an accelerator that can run nothing changes nothing", drops: 3,
	change: func(_ *rapid.T, sys *sched.System, _ []traffic.Arrival) {
		sys.Accelerators = append(sys.Accelerators, "useless")
		for m := range sys.Models {
			for l := range sys.Models[m].Layers {
				layer := &sys.Models[m].Layers[l]
				for i := range layer.Implementations {
					layer.Implementations[i].Latency = append(layer.Implementations[i].Latency, sched.Unavailable)
				}
				for k := range layer.Handoff {
					layer.Handoff[k] = append(layer.Handoff[k], 0)
				}
				if layer.Handoff != nil {
					layer.Handoff = append(layer.Handoff, make([]time.Duration, len(sys.Accelerators)))
				}
			}
		}
	},
}, {
	name: "fcfs ignores deadlines", drops: 1, holds: func(policy string) bool { return strings.HasPrefix(policy, "fcfs") },
	change: func(t *rapid.T, sys *sched.System, _ []traffic.Arrival) {
		for m := range sys.Models {
			sys.Models[m].Deadline = time.Duration(1 + schedtest.Number(t, 64, "deadline"))
		}
	},
	compare: func(r *sched.Record) {
		if r.Kind == sched.Released || r.Kind == sched.Ended {
			r.Until, r.Outcome = 0, 0
		}
	},
}, {
	// Whether a job has hope depends on the variants.
	name: "policies of originals only ignore variants", drops: 2,
	holds: func(policy string) bool {
		return !slices.Contains([]string{"terastal", "terastal-nobudgets", "terastal-budget", "pedf", "rollout"}, policy)
	},
	change: func(_ *rapid.T, sys *sched.System, _ []traffic.Arrival) {
		for m := range sys.Models {
			for l := range sys.Models[m].Layers {
				layer := &sys.Models[m].Layers[l]
				layer.Implementations = layer.Implementations[:1]
			}
		}
	},
}, {
	name: "new names change nothing", drops: 3,
	change: func(_ *rapid.T, sys *sched.System, _ []traffic.Arrival) {
		for k := range sys.Accelerators {
			sys.Accelerators[k] = fmt.Sprint("z", 100-k)
		}
		for m := range sys.Models {
			sys.Models[m].Name = fmt.Sprint("z", 100-m)
			for l := range sys.Models[m].Layers {
				sys.Models[m].Layers[l].Name = "same"
			}
		}
	},
}}

// changed returns a deep copy of the system with every time changed.
func changed(sys sched.System, change func(time.Duration) time.Duration) sched.System {
	times := func(in []time.Duration) []time.Duration {
		out := make([]time.Duration, len(in), len(in)+1)
		for i, d := range in {
			if out[i] = d; d != sched.Unavailable {
				out[i] = change(d)
			}
		}
		return out
	}
	sys.Accelerators, sys.Models = slices.Clone(sys.Accelerators), slices.Clone(sys.Models)
	for m := range sys.Models {
		model := &sys.Models[m]
		model.Deadline = change(model.Deadline)
		model.Layers = slices.Clone(model.Layers)
		for l := range model.Layers {
			layer := &model.Layers[l]
			layer.Implementations = slices.Clone(layer.Implementations)
			for i := range layer.Implementations {
				layer.Implementations[i].Latency = times(layer.Implementations[i].Latency)
			}
			layer.Handoff = slices.Clone(layer.Handoff)
			for k := range layer.Handoff {
				layer.Handoff[k] = times(layer.Handoff[k])
			}
		}
	}
	return sys
}

// TestLaws checks, on random systems, that a change of the input changes the schedule in the way it has to.
func TestLaws(t *testing.T) {
	for _, law := range laws {
		t.Run(law.name, func(t *testing.T) {
			for _, name := range allPolicies() {
				if law.holds == nil || law.holds(name) {
					t.Run(name, func(t *testing.T) {
						schedtest.CheckSome(t, 5, func(t *rapid.T) { law.check(t, name) })
					})
				}
			}
		})
	}
}

func (l *law) check(t *rapid.T, policy string) {
	sys := changed(schedtest.System(t), func(d time.Duration) time.Duration {
		return (d + time.Millisecond - 1) / time.Millisecond * time.Millisecond
	})
	if !exists(policy, schedtest.Compile(t, sys)) {
		return
	}
	arrivals := schedtest.Arrivals(t, &sys)
	drop := sched.DropPolicy(schedtest.Number(t, l.drops, "drop"))
	want := simulate(t, sys, policy, drop, arrivals, 0)
	otherSystem := changed(sys, func(d time.Duration) time.Duration { return d })
	otherArrivals := slices.Clone(arrivals)
	l.change(t, &otherSystem, otherArrivals)
	got := simulate(t, otherSystem, policy, drop, otherArrivals, 0)
	want.each(l.expect)
	want.each(l.compare)
	got.each(l.compare)
	if !slices.Equal(want, got) {
		t.Fatalf("system %+v\narrivals %+v\n-expected +got:\n%s", sys, arrivals,
			cmp.Diff([]sched.Record(want), []sched.Record(got)))
	}
}

package policy

import (
	"fmt"
	"slices"
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

func newPolicy(t testkit.T, name string, tables *sched.Tables) sched.Policy {
	t.Helper()
	return testkit.Must(Named(name)(sched.Config{Tables: tables, Drop: sched.DropLate}))(t)
}

func newEngine(t testkit.T, cfg sched.Config) *sched.Engine {
	t.Helper()
	return testkit.Must(sched.New(cfg))(t)
}

// records collects what an engine records.
type records []sched.Record

func (l *records) Record(r sched.Record) { *l = append(*l, r) }

func (l records) each(change func(sched.Record) sched.Record) {
	for i := range l {
		l[i] = change(l[i])
	}
}

// simulate runs the system and returns everything it recorded.
func simulate(t testkit.T, sys sched.System, policy string, drop sched.DropPolicy,
	arrivals []traffic.Arrival) records {
	t.Helper()
	tables := schedtest.Compile(t, sys)
	var log records
	testkit.Must(sim.Run(sim.Config{Arrivals: arrivals,
		Engine: sched.Config{Tables: tables, Policy: Named(policy), Drop: drop, Recorder: &log}}))(t)
	return log
}

// law is a change of the input under which the records change in a known way.
type law struct {
	name string
	// policies it holds for; all when empty.
	policies []string
	// change returns what is changed; it must not write into its arguments'
	// slices.
	change func(t *rapid.T, sys sched.System, arrivals []traffic.Arrival) (sched.System, []traffic.Arrival)
	// expect turns a record of the original run into that of the changed run;
	// nil when they are the same.
	expect func(sched.Record) sched.Record
	// compare reduces a record to what the law is about; nil for all of it.
	compare func(sched.Record) sched.Record
	// drops says that the law holds when jobs are dropped, too.
	drops bool
}

var laws = []law{{
	// Budgets are rounded to the nanosecond. In units of a millisecond no
	// comparison hangs on that.
	name: "twice the times, twice the schedule", drops: true,
	change: func(_ *rapid.T, sys sched.System, arrivals []traffic.Arrival) (sched.System, []traffic.Arrival) {
		sys = changed(sys, func(d time.Duration) time.Duration { return 2 * d })
		arrivals = slices.Clone(arrivals)
		for i := range arrivals {
			arrivals[i].At *= 2
		}
		return sys, arrivals
	},
	expect: func(r sched.Record) sched.Record {
		r.At, r.Start, r.Until = 2*r.At, 2*r.Start, 2*r.Until
		return r
	},
}, {
	name: "a later start shifts the schedule", drops: true,
	change: func(_ *rapid.T, sys sched.System, arrivals []traffic.Arrival) (sched.System, []traffic.Arrival) {
		arrivals = slices.Clone(arrivals)
		for i := range arrivals {
			arrivals[i].At += time.Hour
		}
		return sys, arrivals
	},
	expect: func(r sched.Record) sched.Record {
		r.At += time.Hour
		if r.Kind == sched.Stopped {
			return r
		}
		if r.Kind != sched.Dispatched {
			r.Start += time.Hour
		}
		if r.Kind != sched.Completed {
			r.Until += time.Hour
		}
		return r
	},
}, {
	name: "an accelerator that can run nothing changes nothing", drops: true,
	change: func(_ *rapid.T, sys sched.System, arrivals []traffic.Arrival) (sched.System, []traffic.Arrival) {
		sys = changed(sys, func(d time.Duration) time.Duration { return d })
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
		return sys, arrivals
	},
}, {
	name: "fcfs ignores deadlines", policies: []string{"fcfs"},
	change: func(t *rapid.T, sys sched.System, arrivals []traffic.Arrival) (sched.System, []traffic.Arrival) {
		sys.Models = slices.Clone(sys.Models)
		for m := range sys.Models {
			sys.Models[m].Deadline = time.Duration(1 + schedtest.Number(t, 64, "deadline"))
		}
		return sys, arrivals
	},
	compare: func(r sched.Record) sched.Record {
		if r.Kind == sched.Released || r.Kind == sched.Ended {
			r.Until, r.Outcome = 0, 0
		}
		return r
	},
}, {
	name: "edf and fcfs ignore variants", policies: []string{"fcfs", "edf"},
	change: func(t *rapid.T, sys sched.System, arrivals []traffic.Arrival) (sched.System, []traffic.Arrival) {
		sys = changed(sys, func(d time.Duration) time.Duration { return d })
		for m := range sys.Models {
			for l := range sys.Models[m].Layers {
				layer := &sys.Models[m].Layers[l]
				layer.Implementations = layer.Implementations[:1]
			}
		}
		return sys, arrivals
	},
}, {
	name: "new names change nothing", drops: true,
	change: func(_ *rapid.T, sys sched.System, arrivals []traffic.Arrival) (sched.System, []traffic.Arrival) {
		sys = changed(sys, func(d time.Duration) time.Duration { return d })
		sys.Accelerators = slices.Clone(sys.Accelerators)
		for k := range sys.Accelerators {
			sys.Accelerators[k] = fmt.Sprint("z", 100-k)
		}
		for m := range sys.Models {
			sys.Models[m].Name = fmt.Sprint("z", 100-m)
			for l := range sys.Models[m].Layers {
				sys.Models[m].Layers[l].Name = "same"
			}
		}
		return sys, arrivals
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
	sys.Models = slices.Clone(sys.Models)
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

// TestLaws checks, on random systems, that a change of the input changes the
// schedule in the way it has to.
func TestLaws(t *testing.T) {
	for _, law := range laws {
		t.Run(law.name, func(t *testing.T) {
			for _, p := range All() {
				if len(law.policies) == 0 || slices.Contains(law.policies, p.Name) {
					t.Run(p.Name, func(t *testing.T) {
						schedtest.CheckSome(t, 5, func(t *rapid.T) { law.check(t, p.Name) })
					})
				}
			}
		})
	}
}

func (l *law) check(t *rapid.T, policy string) {
	sys := schedtest.System(t)
	sys = changed(sys, func(d time.Duration) time.Duration {
		return (d + time.Millisecond - 1) / time.Millisecond * time.Millisecond
	})
	if !exists(policy, schedtest.Compile(t, sys)) {
		return
	}
	arrivals := schedtest.Arrivals(t, &sys)
	drop := sched.DropNone
	if l.drops {
		drop = sched.DropPolicy(schedtest.Number(t, 3, "drop"))
	}
	want := simulate(t, sys, policy, drop, arrivals)
	otherSystem, otherArrivals := l.change(t, sys, arrivals)
	got := simulate(t, otherSystem, policy, drop, otherArrivals)
	if l.expect != nil {
		want.each(l.expect)
	}
	if l.compare != nil {
		want.each(l.compare)
		got.each(l.compare)
	}
	if !slices.Equal(want, got) {
		t.Fatalf("system %+v\narrivals %+v\n-expected +got:\n%s", sys, arrivals,
			cmp.Diff([]sched.Record(want), []sched.Record(got)))
	}
}

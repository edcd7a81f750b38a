package sched_test

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/internal/schedtest"
	"pgregory.net/rapid"
)

// valid is a system with one of everything that can be wrong.
func valid() sched.System {
	const ms = time.Millisecond
	return sched.System{Accelerators: []string{"x", "y"}, Models: []sched.Model{{
		Name: "m", Deadline: 10 * ms, Variants: 1, Valid: []sched.VariantSet{1},
		Layers: []sched.Layer{{
			Name: "l",
			Implementations: []sched.Implementation{
				{Name: "original", Latency: []time.Duration{2 * ms, sched.Unavailable}},
				{Name: "d2s", Variant: 1, Latency: []time.Duration{ms, ms}},
			},
			Handoff: [][]time.Duration{{0, ms}, {ms, 0}},
		}},
	}}}
}

// parts are a system, its first model and that one's first layer.
type parts struct {
	*sched.System
	m *sched.Model
	l *sched.Layer
}

func TestSystemErrors(t *testing.T) {
	sound := valid()
	testkit.OK(t, sound.Validate())
	for want, spoil := range map[string]func(parts){
		"0 accelerators, need 1 to 64": func(p parts) { p.Accelerators = nil },
		"66 accelerators": func(p parts) {
			for i := range 64 {
				p.Accelerators = append(p.Accelerators, fmt.Sprint(i))
			}
		},
		"0 models":                                      func(p parts) { p.Models = nil },
		`two accelerators are named "x"`:                func(p parts) { p.Accelerators[1] = "x" },
		"one of the accelerators has no name":           func(p parts) { p.Accelerators[1] = "" },
		`two models are named "m"`:                      func(p parts) { p.Models = append(p.Models, p.Models[0]) },
		"one of the models has no name":                 func(p parts) { p.m.Name = "" },
		`model "m": deadline 0s`:                        func(p parts) { p.m.Deadline = 0 },
		"deadline -1ns":                                 func(p parts) { p.m.Deadline = -1 },
		"deadline 2562047h47m16.854775807s, must":       func(p parts) { p.m.Deadline = 1<<63 - 1 },
		"0 layers":                                      func(p parts) { p.m.Layers = nil },
		"21 variants, at most 20":                       func(p parts) { p.m.Variants = 21 },
		"-1 variants":                                   func(p parts) { p.m.Variants = -1 },
		"set 0x1 is listed twice":                       func(p parts) { p.m.Valid = []sched.VariantSet{1, 0, 1} },
		"0x2 names a variant above 1":                   func(p parts) { p.m.Valid = []sched.VariantSet{2} },
		`layer 0 "l": 0 implementations`:                func(p parts) { p.l.Implementations = nil },
		`"original" has 1 latencies for 2 accelerators`: func(p parts) { p.l.Implementations[0].Latency = []time.Duration{1} },
		"the original comes first":                      func(p parts) { p.l.Implementations = p.l.Implementations[1:] },
		"only it has variant 0":                         func(p parts) { p.l.Implementations[1].Variant = 0 },
		"variant 2 of 1":                                func(p parts) { p.l.Implementations[1].Variant = 2 },
		"variant -1 of 1":                               func(p parts) { p.l.Implementations[1].Variant = -1 },
		"latency 0s on accelerator 0":                   func(p parts) { p.l.Implementations[0].Latency[0] = 0 },
		"latency -2ns":                                  func(p parts) { p.l.Implementations[0].Latency[0] = -2 },
		"latency 320255h58m24.606846976s":               func(p parts) { p.l.Implementations[0].Latency[0] = 1 << 60 },
		"runs on no accelerator":                        func(p parts) { p.l.Implementations[0].Latency[0] = sched.Unavailable },
		"handoffs from 1 accelerators, want 2":          func(p parts) { p.l.Handoff = p.l.Handoff[:1] },
		"from accelerator 1 to 1 accelerators":          func(p parts) { p.l.Handoff[1] = p.l.Handoff[1][:1] },
		"handoff -1ns from accelerator 0 to 1":          func(p parts) { p.l.Handoff[0][1] = -1 },
	} {
		sys := valid()
		spoil(parts{&sys, &sys.Models[0], &sys.Models[0].Layers[0]})
		testkit.Refused(sched.Compile(sys))(t, sched.ErrInvalidSystem, want)
	}
}

func TestConfigErrors(t *testing.T) {
	for want, spoil := range map[string]func(*sched.Config){
		"no tables: compile a system first": func(c *sched.Config) { c.Tables = nil },
		"no policy":                         func(c *sched.Config) { c.Policy = nil },
		"queue bound -1":                    func(c *sched.Config) { c.Queue = -1 },
		"drop policy 7":                     func(c *sched.Config) { c.Drop = 7 },
	} {
		cfg := sched.Config{Tables: schedtest.Compile(t, valid()), Policy: sched.FCFS}
		spoil(&cfg)
		testkit.Refused(sched.New(cfg))(t, want)
	}
	for _, d := range []sched.DropPolicy{sched.DropNone, sched.DropLate, sched.DropHopeless, sched.DropSmart} {
		if got := testkit.Must(sched.ParseDrop(d.String()))(t); got != d {
			t.Errorf("%v parses as %v", d, got)
		}
	}
	if got := sched.Reason(200).String(); got != "reason-200" {
		t.Errorf("an unknown reason is %q", got)
	}
}

func newEngine(t *testing.T, c sched.Config) *sched.Engine {
	t.Helper()
	return testkit.Must(sched.New(c))(t)
}

// choosing is a policy that chooses as it is told, against the contract, once two jobs are there.
type choosing []sched.Choice

func (c choosing) Select(s *sched.State, out []sched.Choice) []sched.Choice {
	if len(s.Jobs) < 2 {
		return out
	}
	return append(out, c...)
}

// TestBrokenPolicies: choices against the contract of Policy.Select panic, and say what is wrong with them.
func TestBrokenPolicies(t *testing.T) {
	for want, choices := range map[string]choosing{
		"which runs on accelerator 0":      {{}, {Accelerator: 1, Implementation: 1}},
		"accelerator 0, which is not idle": {{}, {Job: 1}},
		"has no implementation 2":          {{Implementation: 2}},
		"has no implementation -1":         {{Implementation: -1}},
		"does not run on accelerator 1":    {{Accelerator: 1}},
		"not a valid set":                  {{Implementation: 1}},
	} {
		sys := valid()
		if len(choices) < 2 {
			sys.Models[0].Valid = nil
		}
		engine := newEngine(t, sched.Config{Tables: schedtest.Compile(t, sys),
			Policy: func(sched.Config) (sched.Policy, error) { return choices, nil }})
		testkit.Must(step(engine, sched.Event{Kind: sched.Release, Job: 1}))(t)
		testkit.Refused(step(engine, sched.Event{Kind: sched.Release, Job: 2}))(t, want)
	}
}

// TestTriggers: every chain of triggers ends.
func TestTriggers(t *testing.T) {
	layers := []sched.Layer{{Implementations: []sched.Implementation{{Latency: []time.Duration{1}}}}}
	sys := sched.System{Accelerators: []string{"x"}, Models: []sched.Model{
		{Name: "c", Deadline: 1, Layers: layers, Trigger: &sched.Trigger{Parent: "b", Probability: 0.25}},
		{Name: "a", Deadline: 1, Layers: layers},
		{Name: "b", Deadline: 1, Layers: layers, Trigger: &sched.Trigger{Parent: "a", Probability: 0.5}},
	}}
	testkit.OK(t, sys.Validate())
	for want, trigger := range map[string]*sched.Trigger{
		`triggered by "d", which is no model`:        {Parent: "d", Probability: 1},
		`triggered by itself, through`:               {Parent: "c", Probability: 1},
		`probability 0, must be above 0`:             {Parent: "b"},
		`probability 1.5, must be above 0`:           {Parent: "b", Probability: 1.5},
		`probability NaN, must be above 0 and at mo`: {Parent: "b", Probability: math.NaN()},
	} {
		broken := sys
		broken.Models = slices.Clone(sys.Models)
		broken.Models[1].Trigger = trigger
		if want[0] == 'p' {
			broken.Models[1].Trigger, broken.Models[2].Trigger = nil, trigger
		}
		testkit.Refused(sched.Compile(broken))(t, sched.ErrInvalidSystem, want)
	}
}

// TestBudgets holds Algorithm 1 against its reference: levels, sum, and shares
// that meet the exact ones at every prefix.
func TestBudgets(t *testing.T) {
	schedtest.Check(t, func(t *rapid.T) {
		sys := schedtest.System(t)
		m := sys.Models[0]
		b := testkit.Must(sched.ComputeBudgets(&m))(t)
		want := schedtest.SelectLevels(m)
		if !slices.Equal(b.Selected, want) {
			t.Fatalf("selected %v, want %v", b.Selected, want)
		}
		var sum, upTo time.Duration
		for _, c := range want {
			sum += c
		}
		if b.Infeasible != (sum > m.Deadline) {
			t.Fatalf("infeasible is %v with %v of %v", b.Infeasible, sum, m.Deadline)
		}
		for l, share := range b.Layer {
			upTo += share
			if v := schedtest.VirtualDeadline(&sys, sched.Job{Layer: int32(l), Deadline: m.Deadline}); v != upTo {
				t.Fatalf("layers to %d have %v, want %v", l, upTo, v)
			}
		}
		if upTo != m.Deadline {
			t.Fatalf("the shares sum to %v of %v", upTo, m.Deadline)
		}
	})
}

// forgiving is first come, first served, but gives up some jobs.
type forgiving struct {
	sched.Policy
	given map[int64]bool
	told  map[string]bool
}

func (p forgiving) Completed(predicted, took time.Duration) {
	p.told[fmt.Sprint(predicted, " ", took)] = true
}
func (p forgiving) Ended(j sched.Job, o sched.Outcome, at time.Duration) {
	p.told[fmt.Sprintf("%d %v %d", j.ID, o, at)] = true
}
func (p forgiving) GiveUp(s *sched.State, from int) int {
	for i := from; i < len(s.Jobs); i++ {
		if s.Jobs[i].Waiting() && p.given[s.Jobs[i].ID] {
			return i
		}
	}
	return -1
}

// TestObserver: the engine drops the jobs that a policy gives up, these only, and
// whatever else it drops meanwhile. It tells how layers and jobs ended.
func TestObserver(t *testing.T) {
	given, told := map[int64]bool{}, map[string]bool{}
	ended := map[int64]string{}
	e := newEngine(t, sched.Config{Tables: schedtest.Compile(t, schedtest.Workload(1, 1)), Drop: sched.DropLate,
		Policy: func(c sched.Config) (sched.Policy, error) {
			p, err := sched.FCFS(c)
			return forgiving{p, given, told}, err
		},
		Recorder: recorder(func(r sched.Record) {
			if r.Kind == sched.Ended {
				ended[r.Job] = r.Detail
			}
		})})
	predicted := e.Step(sched.Event{Kind: sched.Release, Deadline: time.Hour})[0].Finish
	for job := range int64(7) {
		e.Step(sched.Event{Kind: sched.Release, Job: job + 1, Deadline: time.Hour + time.Duration((job+1)%2)*time.Hour})
	}
	given[1], given[3], given[4], given[7] = true, true, true, true
	e.Step(sched.Event{Kind: sched.AcceleratorUp, At: time.Hour + 1})
	want := map[int64]string{1: sched.DropReasonSmart, 2: sched.DropReasonLate, 3: sched.DropReasonSmart,
		4: sched.DropReasonLate, 6: sched.DropReasonLate, 7: sched.DropReasonSmart}
	if !maps.Equal(ended, want) {
		t.Errorf("dropped %v, want %v", ended, want)
	}
	e.Step(sched.Event{Kind: sched.Complete, At: time.Hour + 2, Start: time.Hour})
	if len(told) != 8 || !told["3 dropped 3600000000001"] || !told[fmt.Sprint(predicted, " ", time.Hour+2)] {
		t.Errorf("told %v", told)
	}
}

// TestCopiedState: a copy is equal and shares nothing.
func TestCopiedState(t *testing.T) {
	a := sched.State{Now: 1, Jobs: []sched.Job{{ID: 7, On: sched.Idle}}, Accelerators: []sched.Occupancy{{Job: 7}}}
	var b sched.State
	b.CopyFrom(&a)
	a.Jobs[0].ID, a.Accelerators[0].Job, a.Now = 8, 8, 2
	if b.Now != 1 || b.Jobs[0].ID != 7 || b.Accelerators[0].Job != 7 {
		t.Errorf("the copy followed the original: %+v", b)
	}
	b.CopyFrom(&a)
	if n := testing.AllocsPerRun(10, func() { b.CopyFrom(&a) }); n != 0 || b.Jobs[0].ID != 8 {
		t.Errorf("copying again allocates %v times, gives %+v", n, b)
	}
}

package sched_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/internal/schedtest"
	"pgregory.net/rapid"
)

// fate is how a job ended, whatever its ID: lookaheads give other ones.
type fate struct {
	model       int32
	outcome     sched.Outcome
	release, at time.Duration
}

// fates records them.
type fates []fate

func (f *fates) Record(r sched.Record) {
	if r.Kind == sched.Ended {
		*f = append(*f, fate{r.Model, r.Outcome, r.Start, r.At})
	}
}

// complete sends the engine the completion that comes next up to an instant, as
// predicted, and reports whether there is one.
func complete(e *sched.Engine, until time.Duration) bool {
	next, at := -1, until+1
	for k, a := range e.State().Accelerators {
		end := a.Free
		if tails := e.State().Tails; len(tails) > 0 && tails[k].Job != sched.Idle {
			end = tails[k].Until
		} else if a.Job == sched.Idle {
			continue
		}
		if end = max(end, e.State().Now); end < at {
			next, at = k, end
		}
	}
	if next < 0 {
		return false
	}
	e.Step(sched.Event{Kind: sched.Complete, At: at, Start: at, Accelerator: next})
	return true
}

// announce tells the engine of some of the layers that are about to end.
func announce(t *rapid.T, e *sched.Engine, at time.Duration) {
	for k := range e.State().Accelerators {
		if e.EndingAt(k) <= at && schedtest.Chance(t, 70, "announce") {
			e.Step(sched.Event{Kind: sched.Ending, At: at, Accelerator: k})
		}
	}
}

// TestLookahead: from any state a lookahead proceeds as the engine does if nothing
// arrives and layers take what was predicted.
func TestLookahead(t *testing.T) {
	policies := []sched.Constructor{sched.FCFS, sched.EDF, sched.LLF, sched.Terastal}
	schedtest.CheckSome(t, 2, func(t *rapid.T) {
		sys := schedtest.RichSystem(t)
		for m := range sys.Models {
			if sys.Models[m].Trigger != nil {
				sys.Models[m].Trigger.Probability = 1 // others are drawn by job
			}
		}
		if schedtest.Chance(t, 50, "devices") {
			schedtest.Devices(t, &sys)
		}
		number := schedtest.Number(t, len(policies), "policy")
		unit := sys.Models[0].Deadline / 4
		const end = time.Hour
		var real fates
		cfg := sched.Config{Tables: schedtest.Compile(t, sys), Policy: policies[number], Recorder: &real,
			Queue: 1 + schedtest.Number(t, 8, "queue"), Drop: sched.DropPolicy(schedtest.Number(t, 4, "drop")), Until: 20 * unit}
		// A dropped request's successor comes with the next event; until then the state does not show it.
		cfg.ClosedLoop = cfg.Drop == sched.DropNone && schedtest.Chance(t, 40, "closed loop")
		engine := testkit.Must(sched.New(cfg))(t)
		for n := range 4 + schedtest.Number(t, 20, "releases") {
			at := time.Duration(n) * unit
			for complete(engine, at) {
			}
			announce(t, engine, at)
			engine.Step(sched.Event{Kind: sched.Release, At: at, Start: at, Job: int64(n),
				Model: schedtest.Number(t, len(sys.Models), "model")})
		}
		var seen fates
		see := func(j sched.Job, o sched.Outcome, at time.Duration) {
			seen = append(seen, fate{j.Model, o, j.Release, at})
		}
		before := fmt.Sprintf("%+v", *engine.State())
		p := testkit.Must(policies[number](cfg))(t)
		// One looks ahead to some instant, another from there to the end.
		first, ahead := sched.NewLookahead(cfg, see), sched.NewLookahead(cfg, see)
		from := engine.State()
		for _, l := range []*sched.Lookahead{first, ahead} {
			until := end
			if l == first {
				until = from.Now + time.Duration(schedtest.Number(t, 8, "first until"))*unit
			}
			l.Reset(from)
			l.Decide(p)
			for k := l.Next(until); k >= 0; k = l.Next(until) {
				l.Complete(k)
			}
			from = l.State()
		}
		if now := ahead.State().Now; now != end {
			t.Fatalf("the lookahead ends at %v", now)
		}
		if after := fmt.Sprintf("%+v", *engine.State()); after != before {
			t.Fatalf("the lookahead changed the engine's state from\n%s to\n%s", before, after)
		}
		real = nil
		for complete(engine, end) {
		}
		if !slices.Equal(seen, real) {
			t.Fatalf("policy %d, system %+v\nthe lookahead sees\n%+v\nthe engine\n%+v", number, sys, seen, real)
		}
	})
}

// TestLookaheadSlow: layers that run and layers to come take longer, from their start.
func TestLookaheadSlow(t *testing.T) {
	tables := schedtest.Compile(t, valid())
	cfg := sched.Config{Tables: tables, Policy: sched.FCFS}
	engine := newEngine(t, cfg)
	const ms = time.Millisecond
	engine.Step(sched.Event{Kind: sched.Release, Job: 1})
	engine.Step(sched.Event{Kind: sched.Release, Job: 2, At: ms, Start: ms})
	var at []time.Duration
	ahead := sched.NewLookahead(cfg, func(_ sched.Job, _ sched.Outcome, end time.Duration) { at = append(at, end) })
	ahead.Reset(engine.State())
	ahead.Slow(1.5)
	ahead.Decide(testkit.Must(sched.FCFS(cfg))(t))
	for k := ahead.Next(time.Second); k >= 0; k = ahead.Next(time.Second) {
		ahead.Complete(k)
	}
	if want := []time.Duration{3 * ms, 6 * ms}; !slices.Equal(at, want) {
		t.Errorf("jobs of 2 ms one after the other end at %v, want %v", at, want)
	}
}

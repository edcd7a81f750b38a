package policy

import (
	"time"

	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/internal/schedtest"
	"pgregory.net/rapid"
)

// drawConfig draws every switch of an engine; tables, policy and recorder are the caller's.
func drawConfig(t *rapid.T) sched.Config {
	return sched.Config{Drop: sched.DropPolicy(schedtest.Number(t, 3, "drop")), Queue: 1 + schedtest.Number(t, 8, "queue"),
		Seed: uint64(schedtest.Number(t, 4, "seed")), ClosedLoop: schedtest.Chance(t, 20, "closed loop"),
		Until: time.Duration(schedtest.Number(t, 3, "until")) * 20 * time.Millisecond, Adapt: schedtest.Chance(t, 50, "adapt")}
}

// drive sends an engine random events that respect its contract, in any order that the state allows, and then stops it:
// no job is left. Layers take any time, more or less than predicted.
func drive(t *rapid.T, sys *sched.System, engine *sched.Engine) {
	unit := max(1, sys.Models[0].Deadline/8)
	busy := map[int]time.Duration{} // since when
	var now time.Duration
	released := int64(0)
	step := func(ev sched.Event) {
		ev.At = now
		for _, d := range engine.Step(ev) {
			busy[d.Accelerator] = now
		}
	}
	end := func(kind sched.EventKind, k int) {
		began := busy[k]
		if now > began && schedtest.Chance(t, 30, "began later") {
			began += (now - began) / 2
		}
		delete(busy, k)
		step(sched.Event{Kind: kind, Start: began, Accelerator: k, Detail: "drawn"})
	}
	for range 4 + schedtest.Number(t, 40, "events") {
		now += time.Duration(schedtest.Number(t, 4, "later")) * unit
		k := schedtest.Number(t, len(sys.Accelerators), "accelerator")
		_, runs := busy[k]
		switch what := schedtest.Number(t, 20, "event"); {
		case what < 3 || what < 9 && !runs:
			ev := sched.Event{Kind: sched.Release, Start: now, Job: released, Model: schedtest.Number(t, len(sys.Models), "model")}
			if schedtest.Chance(t, 20, "lag") {
				ev.Start = max(0, now-unit*time.Duration(schedtest.Number(t, 3, "by")))
			}
			if schedtest.Chance(t, 20, "own deadline") {
				ev.Deadline = ev.Start + unit*time.Duration(1+schedtest.Number(t, 16, "window"))
			}
			released++
			step(ev)
		case what < 16 && runs:
			end(sched.Complete, k)
		case what == 16 && runs:
			end(sched.Fail, k)
		case what == 17:
			step(sched.Event{Kind: sched.AcceleratorDown, Accelerator: k, Detail: "drawn"})
		case what == 18:
			step(sched.Event{Kind: sched.AcceleratorUp, Accelerator: k})
		case what == 19 && schedtest.Chance(t, 10, "stop"):
			step(sched.Event{Kind: sched.Stop})
		}
	}
	step(sched.Event{Kind: sched.Stop})
	for k := range sys.Accelerators {
		if _, runs := busy[k]; runs {
			now++
			end(sched.Complete, k)
		}
	}
	if n := engine.Active(); n != 0 {
		t.Fatalf("%d jobs are left after the end", n)
	}
}

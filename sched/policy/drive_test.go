package policy

import (
	"time"

	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/internal/schedtest"
	"pgregory.net/rapid"
)

// pick chooses a number from 0 to n-1; label says what for.
type pick func(n int, label string) int

// drawn picks as rapid draws.
func drawn(t *rapid.T) pick {
	return func(n int, label string) int { return schedtest.Number(t, n, label) }
}

// bytesOf picks by the bytes one after the other, and 0 when there are no more.
func bytesOf(b []byte) pick {
	return func(n int, _ string) int {
		if len(b) == 0 {
			return 0
		}
		x := int(b[0]) % n
		b = b[1:]
		return x
	}
}

// chance picks true with probability percent/100.
func (p pick) chance(percent int, label string) bool { return p(20, label) >= 20-percent/5 }

// drawConfig draws every switch of an engine; tables, policy and recorder are
// the caller's.
func drawConfig(p pick) sched.Config {
	return sched.Config{Drop: sched.DropPolicy(p(3, "drop")), Queue: 1 + p(8, "queue"), Seed: uint64(p(4, "seed")),
		ClosedLoop: p.chance(20, "closed loop"), Until: time.Duration(p(3, "until")) * 20 * time.Millisecond,
		Adapt: p.chance(50, "adapt")}
}

// drive sends an engine random events that respect its contract, in any order
// that the state allows, and then stops it. Layers take any time, more or less
// than predicted.
func drive(p pick, sys *sched.System, engine *sched.Engine) {
	driveSeen(p, sys, engine, func(sched.Event) {}, func(sched.Event, []sched.Dispatch) {})
}

// driveSeen shows every event, before the engine gets it and after.
func driveSeen(p pick, sys *sched.System, engine *sched.Engine, before func(sched.Event),
	after func(sched.Event, []sched.Dispatch)) {
	unit := max(1, sys.Models[0].Deadline/8)
	busy := map[int]time.Duration{} // since when
	var now time.Duration
	released := int64(0)
	step := func(ev sched.Event) {
		ev.At = now
		before(ev)
		started := engine.Step(ev)
		for _, d := range started {
			busy[d.Accelerator] = now
		}
		after(ev, started)
	}
	end := func(kind sched.EventKind, k int) {
		began := busy[k]
		if now > began && p.chance(30, "began later") {
			began += (now - began) / 2
		}
		delete(busy, k)
		step(sched.Event{Kind: kind, Start: began, Accelerator: k, Detail: "drawn"})
	}
	for range 4 + p(40, "events") {
		now += time.Duration(p(4, "later")) * unit
		k := p(len(sys.Accelerators), "accelerator")
		_, runs := busy[k]
		switch what := p(20, "event"); {
		case what < 3 || what < 9 && !runs:
			ev := sched.Event{Kind: sched.Release, Start: now, Job: released, Model: p(len(sys.Models), "model")}
			if p.chance(20, "lag") {
				ev.Start = max(0, now-unit*time.Duration(p(3, "by")))
			}
			if p.chance(20, "own deadline") {
				ev.Deadline = ev.Start + unit*time.Duration(1+p(16, "window"))
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
		case what == 19 && p.chance(10, "stop"):
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
}

package schedtest

import (
	"slices"
	"time"

	"github.com/terastal/terastal/sched"
	"pgregory.net/rapid"
)

// Config draws every switch of an engine; tables, policy and recorder are the caller's.
func Config(t *rapid.T) sched.Config {
	return sched.Config{Drop: sched.DropPolicy(Number(t, 3, "drop")), Queue: 1 + Number(t, 8, "queue"),
		Seed: uint64(Number(t, 4, "seed")), ClosedLoop: Chance(t, 20, "closed loop"),
		Until: time.Duration(Number(t, 3, "until")) * 20 * time.Millisecond, Adapt: Chance(t, 50, "adapt")}
}

// driver sends an engine random events that respect its contract, in any order that the state allows. Layers take any
// time, more or less than predicted.
type driver struct {
	t        *rapid.T
	sys      *sched.System
	engine   *sched.Engine
	unit     time.Duration
	now      time.Duration
	released int64
	busy     map[int][]submitted // by accelerator: the first one runs
	left     int                 // events
}

// submitted is a layer on an accelerator.
type submitted struct {
	job    int64
	layer  int
	began  time.Duration
	ending bool // and announced
}

// Drive sends an engine random events that respect its contract, and then stops it: no job is left. In systems with
// devices layers are announced before they end, fail, or fail and are run again.
func Drive(t *rapid.T, sys *sched.System, engine *sched.Engine) {
	DriveLong(t, sys, engine, 4+Number(t, 40, "events"))
}

// DriveLong is Drive with so many events.
func DriveLong(t *rapid.T, sys *sched.System, engine *sched.Engine, events int) {
	d := &driver{t: t, sys: sys, engine: engine, unit: max(1, sys.Models[0].Deadline/8), busy: map[int][]submitted{}}
	for d.left = events; d.left > 0; d.left-- {
		d.now += time.Duration(Number(t, 4, "later")) * d.unit
		d.event(Number(t, len(sys.Accelerators), "accelerator"))
	}
	d.step(sched.Event{Kind: sched.Stop})
	for range 3 { // what waits for another accelerator's layer ends in a later round
		for k := range sys.Accelerators {
			for d.canEnd(k) {
				d.now++
				d.end(sched.Complete, k)
			}
		}
	}
	if n := engine.Active(); n != 0 {
		t.Fatalf("%d jobs are left after the end", n)
	}
}

func (d *driver) step(ev sched.Event) {
	ev.At = d.now
	for _, x := range d.engine.Step(ev) {
		d.busy[x.Accelerator] = append(d.busy[x.Accelerator], submitted{job: x.Job, layer: x.Layer, began: d.now})
		if n := len(d.busy[x.Accelerator]); n > 2 || n == 2 && !d.busy[x.Accelerator][0].ending {
			d.t.Fatalf("accelerator %d has %+v", x.Accelerator, d.busy[x.Accelerator])
		}
	}
}

// canEnd reports whether the accelerator runs a layer that is not behind another one of its job.
func (d *driver) canEnd(k int) bool {
	if len(d.busy[k]) == 0 {
		return false
	}
	first := d.busy[k][0]
	for _, all := range d.busy {
		if slices.ContainsFunc(all, func(s submitted) bool { return s.job == first.job && s.layer < first.layer }) {
			return false
		}
	}
	return true
}

// end ends the layer that runs. Those that waited for it begin.
func (d *driver) end(kind sched.EventKind, k int) {
	first := d.busy[k][0]
	if d.now > first.began && Chance(d.t, 30, "began later") {
		first.began += (d.now - first.began) / 2
	}
	d.busy[k] = d.busy[k][1:]
	for _, all := range d.busy {
		for i := range all {
			if all[i].job == first.job || len(d.busy[k]) > 0 && &all[i] == &d.busy[k][0] {
				all[i].began = d.now
			}
		}
	}
	d.step(sched.Event{Kind: kind, Start: first.began, Accelerator: k, Detail: "drawn"})
}

// announce tells the engine that a layer is about to end, where it may.
func (d *driver) announce(k int) bool {
	if len(d.sys.Devices) == 0 || d.busy[k][0].ending || !Chance(d.t, 50, "announce") {
		return false
	}
	d.busy[k][0].ending = true
	until := d.now + d.unit*time.Duration(Number(d.t, 3, "until"))
	d.step(sched.Event{Kind: sched.Ending, Accelerator: k, Until: until * time.Duration(Number(d.t, 2, "says until"))})
	return true
}

// event sends one that may concern accelerator k.
func (d *driver) event(k int) {
	runs := d.canEnd(k)
	switch what := Number(d.t, 20, "event"); {
	case what < 3 || what < 9 && !runs:
		ev := sched.Event{Kind: sched.Release, Start: d.now, Job: d.released,
			Model: Number(d.t, len(d.sys.Models), "model")}
		if Chance(d.t, 20, "lag") {
			ev.Start = max(0, d.now-d.unit*time.Duration(Number(d.t, 3, "by")))
		}
		if Chance(d.t, 20, "own deadline") {
			ev.Deadline = ev.Start + d.unit*time.Duration(1+Number(d.t, 16, "window"))
		}
		d.released++
		d.step(ev)
	case what < 16 && runs:
		if !d.announce(k) {
			d.end(sched.Complete, k)
		}
	case what == 16 && runs:
		d.fail(k)
	case what == 17:
		d.step(sched.Event{Kind: sched.AcceleratorDown, Accelerator: k, Detail: "drawn"})
	case what == 18:
		d.step(sched.Event{Kind: sched.AcceleratorUp, Accelerator: k})
	case what == 19 && d.left < 40 && Chance(d.t, 10, "stop"):
		d.step(sched.Event{Kind: sched.Stop})
	}
}

// fail fails the layer that runs, or lets its job run it again, which it cannot where it has moved on.
func (d *driver) fail(k int) {
	first := d.busy[k][0]
	moved := first.ending && slices.ContainsFunc(d.engine.State().Jobs, func(j sched.Job) bool {
		return j.ID == first.job && int(j.Layer) != first.layer
	})
	if len(d.sys.Devices) > 0 && !moved && Chance(d.t, 30, "again") {
		d.end(sched.Requeue, k)
		return
	}
	d.end(sched.Fail, k)
}

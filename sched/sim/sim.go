// Package sim drives the scheduling engine of package sched in virtual time: a
// discrete-event simulator. Layers take the time that the profile predicts, or
// what a caller's function says. The same inputs give the same records, to the
// byte; nothing waits, and no clock is read.
package sim

import (
	"fmt"
	"time"

	"github.com/terastal/terastal/sched"
)

// Config is one simulation.
type Config struct {
	// Engine is the engine's configuration; its policy must be new.
	Engine sched.Config
	// Arrivals are the releases, in order of time.
	Arrivals []sched.Arrival
	// Duration says how long a dispatched layer takes; nil means as long as
	// predicted.
	Duration func(at time.Duration, d sched.Dispatch) time.Duration
}

// Run simulates all arrivals to the end of the last job and returns the
// instant of the last event. Jobs that no accelerator can serve any more are
// dropped at the end.
func Run(cfg Config) (time.Duration, error) {
	engine, err := sched.New(cfg.Engine)
	if err != nil {
		return 0, err
	}
	accs := len(cfg.Engine.Tables.System().Accelerators)
	models := len(cfg.Engine.Tables.System().Models)
	running := make([]span, accs)
	for k := range running {
		running[k].end = idle
	}
	var now time.Duration
	for next := 0; ; {
		ev := sched.Event{At: idle}
		if next < len(cfg.Arrivals) {
			a := cfg.Arrivals[next]
			if next > 0 && a.At < cfg.Arrivals[next-1].At {
				return now, fmt.Errorf("arrival %d at %v comes after one at %v: sort arrivals by time", next, a.At, cfg.Arrivals[next-1].At)
			}
			if a.At < 0 || a.Model < 0 || a.Model >= models {
				return now, fmt.Errorf("arrival %d of model %d at %v: need a model from 0 to %d and a time from 0", next, a.Model, a.At, models-1)
			}
			ev = sched.Event{Kind: sched.Release, At: a.At, Start: a.At, Job: int64(next), Model: a.Model}
		}
		// Completions come before a release at the same instant, so that the
		// policy sees the accelerator idle; among completions the lowest index.
		for k := range running {
			if running[k].end < ev.At || (running[k].end == ev.At && ev.Kind == sched.Release && running[k].end != idle) {
				ev = sched.Event{Kind: sched.Complete, At: running[k].end, Accelerator: k, Start: running[k].start}
			}
		}
		if ev.At == idle {
			break
		}
		if ev.Kind == sched.Release {
			next++
		} else {
			running[ev.Accelerator].end = idle
		}
		now = ev.At
		for _, d := range engine.Step(ev) {
			length := d.Finish - now
			if cfg.Duration != nil {
				length = max(0, cfg.Duration(now, d))
			}
			running[d.Accelerator] = span{now, now + length}
		}
	}
	if engine.Active() > 0 {
		engine.Step(sched.Event{Kind: sched.Stop, At: now})
	}
	return now, nil
}

// span is what an accelerator is busy with; end is idle when it is not.
type span struct{ start, end time.Duration }

const idle = time.Duration(1<<63 - 1)

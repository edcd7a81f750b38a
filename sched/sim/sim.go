// Package sim drives the scheduling engine of package sched in virtual time: a discrete-event simulator. Layers take
// the time that the profile predicts, or what a [Durations] function draws, stretched where accelerators slow each
// other down, and longer where a device rested or all [Stalls]. The same inputs give the same records, to the byte;
// nothing waits, and no clock is read.
package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/traffic"
)

// Config is one simulation.
type Config struct {
	// Engine is the engine's configuration.
	Engine sched.Config
	// Arrivals are the releases, in order of time.
	Arrivals []traffic.Arrival
	// Duration says how long a dispatched layer takes; nil means as long as predicted.
	Duration Durations
	// Interference[k][o] is how much longer a layer takes on accelerator k while accelerator o is busy too: 0.1 means 10
	// %. Several add up. Nil means none. Predictions leave it out, as the scheduler does.
	Interference [][]float64
	// Contention is what accelerators of a group, such as the streams of a device, cost each other by how many are busy,
	// in addition. An accelerator may be of several groups. Predictions leave it out, too.
	Contention []Contention
	// Stalls are times in which all accelerators wait.
	Stalls Stalls
	// SearchTime, if positive, is how long a search of a [sched.Searcher] takes on a spare core; what it finds arrives
	// then. Zero means that searches are part of decisions, which take no time.
	SearchTime time.Duration
}

// Contention is how much longer layers take on each accelerator of a group by how many of the others are busy:
// Slowdown[n] while n are, its last entry also while more are. 0.1 means 10 %.
type Contention struct {
	Accelerators []int
	Slowdown     []float64
}

// Run simulates all arrivals to the end of the last job and returns the instant of the last event. Jobs that no
// accelerator can serve any more are dropped at the end.
func Run(cfg Config) (time.Duration, error) {
	engine, err := sched.New(cfg.Engine)
	if err != nil {
		return 0, err
	}
	sys := cfg.Engine.Tables.System()
	if err := check(&cfg, sys); err != nil {
		return 0, err
	}
	s := newMachine(&cfg, sys)
	search := newSearch(&cfg, engine)
	for next := 0; ; {
		ev := sched.Event{At: forever}
		if next < len(cfg.Arrivals) {
			a := cfg.Arrivals[next]
			ev = sched.Event{Kind: sched.Release, At: a.At, Start: a.At, Job: int64(next), Model: a.Model}
		}
		// Completions come before a release at the same instant, so that the policy sees the accelerator idle, and so do
		// layers that are about to end; among several the lowest index.
		for k := range s.running {
			if end := s.running[k].end; end < ev.At || (end == ev.At && ev.Kind == sched.Release && end != forever) {
				ev = sched.Event{Kind: sched.Complete, At: end, Accelerator: k, Start: s.running[k].start}
			}
		}
		for _, k := range s.leads {
			if at := engine.EndingAt(k); at < sched.Never && (at < ev.At || at == ev.At && ev.Kind == sched.Release) {
				ev = sched.Event{Kind: sched.Ending, At: at, Accelerator: k}
			}
		}
		if search.end < ev.At {
			ev = sched.Event{Kind: sched.Searched, At: search.end, Start: search.began, Found: search.found}
		}
		if ev.At == forever {
			break
		}
		s.now = ev.At
		switch ev.Kind {
		case sched.Release:
			next++
		case sched.Searched:
			search.end = forever
		case sched.Complete:
			s.finish(ev.Accelerator)
		}
		for _, d := range engine.Step(ev) {
			length := d.Finish - d.Start
			if cfg.Duration != nil {
				length = min(longest, max(0, cfg.Duration(s.now, d)))
			}
			s.submit(&d, length)
		}
		s.stretch()
		search.start(s.now)
	}
	if engine.Active() > 0 {
		engine.Step(sched.Event{Kind: sched.Stop, At: s.now})
	}
	return s.now, nil
}

// search is the search that runs while the engine works.
type search struct {
	engine   *sched.Engine
	searcher sched.Searcher // nil where none runs
	run      func() int
	time     time.Duration
	began    time.Duration
	end      time.Duration // forever while it does not run
	found    int
}

func newSearch(cfg *Config, e *sched.Engine) *search {
	s := &search{engine: e, time: min(longest, cfg.SearchTime), end: forever}
	if p, ok := e.Policy().(sched.Searcher); ok && cfg.SearchTime > 0 {
		s.searcher, s.run = p, p.Detach(0)
	}
	return s
}

// start starts a search if one is wanted and none runs.
func (s *search) start(now time.Duration) {
	if s.searcher != nil && s.end == forever && s.searcher.Prepare(s.engine.State()) {
		s.began, s.end, s.found = now, now+s.time, s.run()
	}
}

func check(cfg *Config, sys *sched.System) error {
	for i, a := range cfg.Arrivals {
		if i > 0 && a.At < cfg.Arrivals[i-1].At {
			return fmt.Errorf("arrival %d at %v comes after one at %v: sort arrivals by time", i, a.At, cfg.Arrivals[i-1].At)
		}
		if a.At < 0 || a.Model < 0 || a.Model >= len(sys.Models) {
			return fmt.Errorf("arrival %d of model %d at %v: need a model from 0 to %d and a time from 0", i, a.Model, a.At,
				len(sys.Models)-1)
		}
	}
	if cfg.Interference != nil && len(cfg.Interference) != len(sys.Accelerators) {
		return fmt.Errorf("interference of %d accelerators, want %d", len(cfg.Interference), len(sys.Accelerators))
	}
	for k, row := range cfg.Interference {
		if len(row) != len(sys.Accelerators) {
			return fmt.Errorf("interference of accelerator %d with %d others, want %d", k, len(row), len(sys.Accelerators))
		}
		for o, x := range row {
			if !(x >= 0 && x <= maxInterference) {
				return fmt.Errorf("interference %v of accelerator %d with %d, must be 0 to %v", x, k, o, maxInterference)
			}
		}
	}
	if err := cfg.Stalls.Check(); err != nil {
		return err
	}
	for i, c := range cfg.Contention {
		for n, k := range c.Accelerators {
			if k < 0 || k >= len(sys.Accelerators) || slices.Contains(c.Accelerators[:n], k) {
				return fmt.Errorf("contention %d: accelerators %v, need distinct ones from 0 to %d", i, c.Accelerators,
					len(sys.Accelerators)-1)
			}
		}
		for n, x := range c.Slowdown {
			if !(x >= 0 && x <= maxInterference) {
				return fmt.Errorf("contention %d: slowdown %v while %d others are busy, must be 0 to %v", i, x, n, maxInterference)
			}
		}
	}
	return nil
}

const (
	forever = time.Duration(1<<63 - 1)
	// maxInterference and longest keep instants from overflowing.
	maxInterference = 1000
	longest         = forever >> 18 // of one layer alone: 9.8 hours
)

package policy

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/internal/schedtest"
)

// treadmill drives an engine for ever: it completes what ends first and keeps
// the number of jobs in the system constant.
type treadmill struct {
	engine *sched.Engine
	models int
	jobs   int
	ends   []time.Duration // by accelerator; 0 when idle
	now    time.Duration
	next   int64
}

func newTreadmill(t testing.TB, sys sched.System, policy string, drop sched.DropPolicy, jobs int) *treadmill {
	tables := schedtest.Compile(t, sys)
	return &treadmill{models: len(sys.Models), jobs: jobs, ends: make([]time.Duration, len(sys.Accelerators)),
		engine: newEngine(t, sched.Config{Tables: tables, Policy: Named(policy), Drop: drop})}
}

func (m *treadmill) step() {
	ev := sched.Event{Kind: sched.Release, At: m.now, Start: m.now, Job: m.next, Model: int(m.next) % m.models}
	if m.engine.Active() >= m.jobs {
		k := -1
		for i, end := range m.ends {
			if end > 0 && (k < 0 || end < m.ends[k]) {
				k = i
			}
		}
		if k < 0 { // nothing that waits has hope
			m.now += time.Millisecond
			ev = sched.Event{Kind: sched.AcceleratorUp, At: m.now}
		} else {
			m.now = m.ends[k]
			m.ends[k] = 0
			ev = sched.Event{Kind: sched.Complete, At: m.now, Accelerator: k}
		}
	} else {
		m.next++
	}
	for _, d := range m.engine.Step(ev) {
		m.ends[d.Accelerator] = d.Finish
	}
}

// readyState has the given number of jobs waiting at random layers; all
// accelerators but the idle ones are busy.
func readyState(sys *sched.System, ready, idle int) *sched.State {
	rng := rand.New(rand.NewPCG(3, 4))
	s := &sched.State{Now: time.Second}
	for i := range ready {
		m := rng.IntN(len(sys.Models))
		release := s.Now - time.Duration(rng.Int64N(int64(sys.Models[m].Deadline)))
		s.Jobs = append(s.Jobs, sched.Job{ID: int64(i), Model: int32(m), Layer: int32(rng.IntN(len(sys.Models[m].Layers))),
			On: sched.Idle, At: sched.Idle, Release: release, Deadline: release + sys.Models[m].Deadline})
	}
	slices.SortFunc(s.Jobs, func(a, b sched.Job) int { return int(a.Release - b.Release) })
	for k := range sys.Accelerators {
		o := sched.Occupancy{Job: sched.Idle}
		if k >= idle {
			o = sched.Occupancy{Job: int64(ready + k), Free: s.Now + time.Duration(rng.Int64N(int64(time.Millisecond)))}
		}
		s.Accelerators = append(s.Accelerators, o)
	}
	return s
}

// BenchmarkDecide measures one decision with <ready> waiting jobs on
// <accelerators> with <implementations> per layer: after a completion (one
// accelerator idle) and with all of them idle.
func BenchmarkDecide(b *testing.B) {
	for _, p := range All() {
		for _, size := range []struct{ ready, accs, implementations int }{{8, 3, 1}, {64, 4, 4}} {
			sys := schedtest.Workload(size.accs, size.implementations)
			name := fmt.Sprintf("%s/%dx%d", p.Name, size.ready, size.accs)
			if size.implementations > 1 {
				name += fmt.Sprintf("x%d", size.implementations)
			}
			for _, idle := range []int{1, size.accs} {
				b.Run(fmt.Sprintf("%s/idle=%d", name, idle), func(b *testing.B) {
					policy := newPolicy(b, p.Name, schedtest.Compile(b, sys))
					s := readyState(&sys, size.ready, idle)
					var out []sched.Choice
					b.ReportAllocs()
					for b.Loop() {
						out = policy.Select(s, out[:0])
					}
				})
			}
		}
	}
}

// BenchmarkStep measures a whole step of the engine, at most one decision each.
func BenchmarkStep(b *testing.B) {
	sys := schedtest.Workload(4, 3)
	for _, p := range All() {
		for _, jobs := range []int{8, 64} {
			b.Run(fmt.Sprintf("%s/%d", p.Name, jobs), func(b *testing.B) {
				m := newTreadmill(b, sys, p.Name, sched.DropNone, jobs)
				b.ReportAllocs()
				for b.Loop() {
					m.step()
				}
			})
		}
	}
}

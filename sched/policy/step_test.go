package policy

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/sequential"
	"github.com/terastal/terastal/internal/testkit"
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
		k := m.first()
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

// first is the accelerator that ends its layer first, or -1.
func (m *treadmill) first() int {
	k := -1
	for i, end := range m.ends {
		if end > 0 && (k < 0 || end < m.ends[k]) {
			k = i
		}
	}
	return k
}

// announced completes what ends first, if that has a lead, and announces it before. It is apart from step, which is timed.
func (m *treadmill) announced() {
	k := m.first()
	if k < 0 || m.engine.EndingAt(k) == sched.Never {
		return
	}
	m.now = m.ends[k]
	m.ends[k] = 0
	for _, kind := range []sched.EventKind{sched.Ending, sched.Complete} {
		for _, d := range m.engine.Step(sched.Event{Kind: kind, At: m.now, Accelerator: k}) {
			m.ends[d.Accelerator] = d.Finish
		}
	}
}

// readyState has the given number of jobs waiting at random layers; all accelerators but the idle ones are busy.
func readyState(sys *sched.System, ready, idle int) *sched.State {
	rng := rand.New(rand.NewPCG(3, 4))
	s := &sched.State{Now: time.Second, Recent: make([]uint16, len(sys.Models))}
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

// BenchmarkDecide measures one decision with <ready> waiting jobs on <accelerators> with <implementations> per layer:
// after a completion (one accelerator idle) and with all of them idle.
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
					policy := testkit.Must(p.New(sched.Config{Tables: schedtest.Compile(b, sys), Drop: sched.DropLate}))(b)
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

// TestStepAllocations: a step of an engine that has seen its load allocates nothing, whatever the policy, with
// energies, triggers, a closed loop, bounds, accuracy floors and adaptation, and without.
func TestStepAllocations(t *testing.T) {
	sequential.Skip(t)
	sys := promising(t, 4, 3, 0.99)
	for m := range sys.Models {
		model := &sys.Models[m]
		for range model.Layers {
			model.Energy = append(model.Energy, []float64{1, 2, 3, 4})
		}
	}
	sys.Models[4].Trigger = &sched.Trigger{Parent: sys.Models[0].Name, Probability: 0.5}
	for _, name := range allPolicies() {
		for _, drop := range []sched.DropPolicy{sched.DropNone, sched.DropLate, sched.DropHopeless} {
			sys.Devices = nil
			for m := range sys.Models {
				sys.Models[m].Floor = []float64{0, 0.99, 0.9}[drop]
			}
			if drop == sched.DropLate {
				sys.Devices = []sched.Device{{Name: "gpu", Accelerators: []int{1, 2}, Lead: 20 * time.Microsecond,
					Waking: []sched.Waking{{Idle: time.Microsecond, Extra: time.Microsecond}}}}
			}
			if testing.Short() && drop != sched.DropLate {
				continue
			}
			tables := schedtest.Compile(t, sys)
			cfg := sched.Config{Tables: tables, Policy: Named(name), Drop: drop, Queue: 8, Adapt: true, ClosedLoop: true}
			if drop == sched.DropHopeless {
				cfg.Queue, cfg.Adapt, cfg.ClosedLoop = 0, false, false
			}
			m := newTreadmill(t, sys, name, drop, 32)
			m.engine = newEngine(t, cfg)
			warm, steps := 4000, 2000
			if strings.HasPrefix(name, "rollout") { // thousands of rolled steps each
				warm, steps = 500, 15
			}
			drive := func(steps int) {
				for range steps {
					if m.step(); len(sys.Devices) > 0 {
						m.announced()
					}
				}
			}
			drive(warm)
			// One run of many steps, since AllocsPerRun rounds the mean down. It counts what the runtime allocates meanwhile,
			// too, so that one run of three has to be free of allocations.
			least := math.Inf(1)
			for range 3 {
				least = min(least, testing.AllocsPerRun(1, func() { drive(steps) }))
			}
			if least != 0 {
				t.Errorf("%s, drop %v: %d steps allocate %v times", name, drop, steps, least)
			}
		}
	}
}

// BenchmarkFloors measures one decision of pedf, with variants that an accuracy floor lets compete while time presses,
// against the same without a floor: by turns, since machines change their speed, the least of which count.
func BenchmarkFloors(b *testing.B) {
	for _, size := range []struct{ ready, accs, implementations int }{{4, 2, 2}, {64, 2, 2}, {4, 4, 4}, {64, 4, 4}} {
		sys := promising(b, size.accs, size.implementations, 0)
		for _, idle := range []int{1, 2} {
			b.Run(fmt.Sprintf("%dx%dx%d/idle=%d", size.ready, size.accs, size.implementations, idle), func(b *testing.B) {
				var decide [2]func()
				for i, floor := range []float64{0, 0.99} {
					for m := range sys.Models {
						sys.Models[m].Floor = floor
					}
					p := testkit.Must(PEDF(sched.Config{Tables: schedtest.Compile(b, sys), Drop: sched.DropLate}))(b).(pedf)
					p.work = 1e6 * p.time // time presses
					s := readyState(&sys, size.ready, idle)
					var out []sched.Choice
					decide[i] = func() {
						for m := range p.ledgers {
							p.ledgers[m].owed = p.ledgers[m].limit / 2
						}
						out = p.Select(s, out[:0])
					}
				}
				const turn = 200
				took := [2]time.Duration{time.Hour, time.Hour}
				b.ReportAllocs()
				for b.Loop() {
					for i := range decide {
						start := time.Now()
						for range turn {
							decide[i]()
						}
						took[i] = min(took[i], time.Since(start))
					}
				}
				b.ReportMetric(float64(took[0])/turn, "ns/without")
				b.ReportMetric(float64(took[1])/turn, "ns/with")
				b.ReportMetric(float64(took[1])/float64(took[0]), "ratio")
			})
		}
	}
}

package sched_test

import (
	"slices"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/internal/schedtest"
	"pgregory.net/rapid"
)

// paths returns what every path takes from a layer on when its inputs lie at an accelerator: over all accelerators and,
// with variants, over all implementations.
func paths(m *sched.ModelTable, layer, at int32, variants bool) []time.Duration {
	if int(layer) == m.Layers() {
		return []time.Duration{0}
	}
	var out []time.Duration
	handoff := m.Handoff(&sched.Job{Layer: layer, At: at})
	for i := range m.Implementations(layer) {
		for k, took := range m.Latency(layer, i) {
			if took >= sched.Never || i > 0 && !variants {
				continue
			}
			if handoff != nil {
				took += handoff[k]
			}
			for _, rest := range paths(m, layer+1, int32(k), variants) {
				out = append(out, took+rest)
			}
		}
	}
	return out
}

// checkPaths holds the least times to go against all paths.
func checkPaths(t *rapid.T, what string, tables *sched.Tables) {
	sys := tables.System()
	for i := range sys.Models {
		m := tables.Model(int32(i))
		for l := range int32(m.Layers() + 1) {
			for at := int32(sched.Idle); int(at) < len(sys.Accelerators); at++ {
				left, least := slices.Min(paths(m, l, at, false)), slices.Min(paths(m, l, at, true))
				if m.Left(l, at) != left || m.LeastLeft(l, at) != least {
					t.Fatalf("system %+v\n%s: model %d takes %v from layer %d at %d on, with variants %v; its paths %v and %v", sys, what,
						i, m.Left(l, at), l, at, m.LeastLeft(l, at), left, least)
				}
			}
			if m.Remaining(l) != m.Left(l, sched.Idle) {
				t.Fatalf("%v remain from layer %d on, not %v", m.Remaining(l), l, m.Left(l, sched.Idle))
			}
		}
	}
}

// TestShortestPaths: the least times to go are those of all paths, as compiled, as adapted to what layers take, in a clone
// and in one that followed.
func TestShortestPaths(t *testing.T) {
	adapted := 0
	schedtest.CheckSome(t, 10, func(t *rapid.T) {
		sys := schedtest.RichSystem(t)
		var tables *sched.Tables
		compiled := schedtest.Compile(t, sys)
		e := testkit.Must(sched.New(sched.Config{Tables: compiled, Adapt: true,
			Policy: func(c sched.Config) (sched.Policy, error) {
				tables = c.Tables
				return sched.EDF(c)
			}}))(t)
		early := tables.Clone()
		schedtest.Drive(t, &sys, e)
		checkPaths(t, "as compiled", compiled)
		checkPaths(t, "adapted", tables)
		checkPaths(t, "cloned before", early)
		for m := range sys.Models {
			m := int32(m)
			if early.Model(m).Remaining(0) != compiled.Model(m).Remaining(0) {
				t.Fatalf("a clone followed")
			}
			if early.Model(m).Remaining(0) != tables.Model(m).Remaining(0) {
				adapted++
			}
		}
		early.CopyFrom(tables)
		checkPaths(t, "copied", early)
		for m := range sys.Models {
			m := int32(m)
			if got, want := early.Model(m).Remaining(0), tables.Model(m).Remaining(0); got != want {
				t.Fatalf("a copy takes %v, not %v", got, want)
			}
		}
	})
	if adapted == 0 {
		t.Errorf("nothing was adapted")
	}
}

// wandering runs layers on accelerators that are drawn.
type wandering struct {
	t      *rapid.T
	tables *sched.Tables
}

func (p wandering) Select(s *sched.State, out []sched.Choice) []sched.Choice {
	for i := range s.Jobs {
		j := &s.Jobs[i]
		if !j.Waiting() {
			continue
		}
		var can []int32
		for k, c := range p.tables.Model(j.Model).Latency(j.Layer, 0) {
			if c < sched.Never {
				can = append(can, int32(k))
			}
		}
		return append(out, sched.Choice{Job: int32(i), Accelerator: rapid.SampledFrom(can).Draw(p.t, "on")})
	}
	return out
}

// TestHopelessPaths: a request is dropped as hopeless if and only if no path that is left to it, by whatever variants, is
// in time, wherever its layers ran so far and however long they took.
func TestHopelessPaths(t *testing.T) {
	ends := map[string]int{}
	schedtest.CheckSome(t, 5, func(t *rapid.T) {
		sys := schedtest.System(t)
		tables := schedtest.Compile(t, sys)
		m := tables.Model(0)
		end := ""
		e := testkit.Must(sched.New(sched.Config{Tables: tables, Drop: sched.DropHopeless,
			Policy: func(sched.Config) (sched.Policy, error) { return wandering{t, tables}, nil },
			Recorder: recorder(func(r sched.Record) {
				if r.Kind == sched.Ended {
					end = r.Outcome.String() + " " + r.Detail
				}
			})}))(t)
		unit := m.Deadline() / 8
		deadline := m.Remaining(0) + unit*time.Duration(schedtest.Number(t, 6, "laxity")-2)
		deadline = max(1, deadline)
		ev, at := sched.Event{Kind: sched.Release, Deadline: deadline}, int32(sched.Idle)
		for l := int32(0); int(l) < m.Layers(); l++ {
			dispatched := e.Step(ev)
			hopeless := ev.At+slices.Min(paths(m, l, at, true)) > deadline
			if dropped := end != ""; dropped != hopeless || dropped == (len(dispatched) == 1) {
				t.Fatalf("system %+v\nat %v, of deadline %v, before layer %d at %d: hopeless is %v, %q, dispatched %+v", sys, ev.At,
					deadline, l, at, hopeless, end, dispatched)
			}
			if hopeless {
				break
			}
			at = int32(dispatched[0].Accelerator)
			lag := unit / 4 * time.Duration(schedtest.Number(t, 3, "lag"))
			ev = sched.Event{Kind: sched.Complete, At: dispatched[0].Finish + lag, Start: ev.At, Accelerator: int(at)}
		}
		if end == "" {
			e.Step(ev)
		}
		ends[end]++
	})
	t.Logf("requests ended so: %v", ends)
	if ends["met "] == 0 || ends["dropped "+sched.DropReasonHopeless] == 0 {
		t.Errorf("requests ended so: %v", ends)
	}
}

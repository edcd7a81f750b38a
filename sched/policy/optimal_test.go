package policy

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/internal/schedtest"
	"github.com/terastal/terastal/sched/traffic"
	"pgregory.net/rapid"
)

// optimum is a search through all non-preemptive schedules of jobs that are
// known beforehand. Nothing is lost by starting layers at releases and
// completions only, since any layer can be moved to an earlier one of them, nor
// by never starting a job that will miss.
type optimum struct {
	sys      *sched.System
	arrivals []traffic.Arrival
	seen     map[string]int
}

// instant is a point of a schedule.
type instant struct {
	now  time.Duration
	jobs []progress
	next int // arrival
}

type progress struct {
	model, layer int
	used         sched.VariantSet
	at           int // the accelerator that ran the layer before
	on           int // that runs it, or idle
	free         time.Duration
	deadline     time.Duration
}

// fewestMissed is the least number of jobs that miss their deadlines.
func fewestMissed(sys *sched.System, arrivals []traffic.Arrival) int {
	o := &optimum{sys, arrivals, map[string]int{}}
	return o.wait(instant{})
}

// wait goes to the next event and returns the fewest misses from there on.
func (o *optimum) wait(s instant) int {
	to := time.Duration(1 << 62)
	if s.next < len(o.arrivals) {
		to = o.arrivals[s.next].At
	}
	for _, j := range s.jobs {
		if j.on != sched.Idle {
			to = min(to, j.free)
		}
	}
	if to == 1<<62 {
		return len(s.jobs) // waiting for nothing
	}
	s.now = to
	jobs := slices.Clone(s.jobs)
	for i := range jobs {
		if j := &jobs[i]; j.on != sched.Idle && j.free == to {
			j.at, j.on, j.free = j.on, sched.Idle, 0
			j.layer++
		}
	}
	for ; s.next < len(o.arrivals) && o.arrivals[s.next].At == to; s.next++ {
		m := o.arrivals[s.next].Model
		jobs = append(jobs, progress{model: m, at: sched.Idle, on: sched.Idle, deadline: to + o.sys.Models[m].Deadline})
	}
	missed := 0
	s.jobs = slices.DeleteFunc(jobs, func(j progress) bool {
		if j.on == sched.Idle && j.layer == len(o.sys.Models[j.model].Layers) {
			return true
		}
		if j.on == sched.Idle && to+o.least(j) > j.deadline {
			missed++
			return true
		}
		return false
	})
	return missed + o.start(s, 0)
}

// least is the time that the rest of a job takes at least.
func (o *optimum) least(j progress) time.Duration {
	var sum time.Duration
	for _, l := range o.sys.Models[j.model].Layers[j.layer:] {
		best := time.Duration(1 << 62)
		for _, im := range l.Implementations {
			for _, c := range im.Latency {
				if c != sched.Unavailable {
					best = min(best, c)
				}
			}
		}
		sum += best
	}
	return sum
}

// start tries all ways to start layers on accelerators from k on, and none.
func (o *optimum) start(s instant, k int) int {
	key := s.key(k)
	if n, ok := o.seen[key]; ok {
		return n
	}
	if k == len(o.sys.Accelerators) {
		best := o.wait(s)
		o.seen[key] = best
		return best
	}
	best := o.start(s, k+1)
	busy := slices.ContainsFunc(s.jobs, func(j progress) bool { return j.on == k })
	for i, j := range s.jobs {
		if busy || best == 0 {
			break
		}
		if j.on != sched.Idle {
			continue
		}
		model := o.sys.Models[j.model]
		layer := model.Layers[j.layer]
		for _, im := range layer.Implementations {
			used := j.used
			if im.Variant > 0 {
				used |= 1 << (im.Variant - 1)
			}
			if im.Latency[k] == sched.Unavailable || (used != j.used && !isValid(model, used)) {
				continue
			}
			then := j
			then.used, then.on, then.free = used, k, s.now+im.Latency[k]
			if layer.Handoff != nil && j.at != sched.Idle {
				then.free += layer.Handoff[j.at][k]
			}
			if then.free > j.deadline {
				continue
			}
			branch := s
			branch.jobs = slices.Clone(s.jobs)
			branch.jobs[i] = then
			best = min(best, o.start(branch, k+1))
		}
	}
	o.seen[key] = best
	return best
}

func (s instant) key(k int) string {
	b := binary.AppendVarint(nil, int64(s.now))
	b = append(b, byte(k), byte(s.next))
	for _, j := range s.jobs {
		b = append(b, byte(j.model), byte(j.layer), byte(j.used), byte(j.at), byte(j.on))
		b = binary.AppendVarint(b, int64(j.free))
		b = binary.AppendVarint(b, int64(j.deadline))
	}
	return string(b)
}

// missed is how many jobs a policy misses.
func missed(t testkit.T, sys sched.System, policy string, drop sched.DropPolicy, arrivals []traffic.Arrival) int {
	n := 0
	for _, r := range simulate(t, sys, policy, drop, arrivals) {
		if r.Kind == sched.Ended && r.Outcome != sched.Met {
			n++
		}
	}
	return n
}

// drawTiny draws a system and arrivals that can be searched.
func drawTiny(t *rapid.T) (sched.System, []traffic.Arrival) {
	unit := time.Millisecond
	sys := sched.System{Accelerators: []string{"a", "b"}[:1+schedtest.Number(t, 2, "accelerators")]}
	for m := range 1 + schedtest.Number(t, 2, "models") {
		model := schedtest.Model(t, fmt.Sprint("m", m), len(sys.Accelerators), unit)
		model.Layers = model.Layers[:min(3, len(model.Layers))]
		sys.Models = append(sys.Models, model)
	}
	var arrivals []traffic.Arrival
	var now time.Duration
	for range 1 + schedtest.Number(t, 4, "arrivals") {
		now += time.Duration(schedtest.Number(t, 6, "gap")) * unit
		arrivals = append(arrivals, traffic.Arrival{At: now, Model: schedtest.Number(t, len(sys.Models), "model")})
	}
	return sys, arrivals
}

// TestOptimum: no policy misses fewer jobs than the best of all schedules, which
// would be one that breaks the rules. It logs by how much each misses more.
func TestOptimum(t *testing.T) {
	names := allPolicies()
	over, runs := map[string]int{}, map[string]int{}
	systems, jobs, least := 0, 0, 0
	schedtest.CheckN(t, *schedtest.Cases/10, func(t *rapid.T) {
		sys, arrivals := drawTiny(t)
		best := fewestMissed(&sys, arrivals)
		systems, jobs, least = systems+1, jobs+len(arrivals), least+best
		for _, name := range names {
			if !exists(name, schedtest.Compile(t, sys)) {
				continue
			}
			n := missed(t, sys, name, sched.DropHopeless, arrivals)
			if n < best {
				t.Fatalf("system %+v\narrivals %+v\n%s misses %d, the best schedule %d", sys, arrivals, name, n, best)
			}
			over[name] += n - best
			runs[name]++
		}
	})
	t.Logf("%d systems, %d jobs, the best schedules miss %d", systems, jobs, least)
	for _, name := range names {
		t.Logf("%-27s misses %.3f jobs a system more", name, float64(over[name])/float64(max(1, runs[name])))
	}
}

// TestOptimalInstances pins instances small enough to see the best schedule.
func TestOptimalInstances(t *testing.T) {
	const ms = time.Millisecond
	layer := func(latency ...time.Duration) sched.Layer {
		return sched.Layer{Name: "l", Implementations: []sched.Implementation{{Name: "original", Latency: latency}}}
	}
	variant := layer(2*ms, 8*ms)
	variant.Implementations = append(variant.Implementations,
		sched.Implementation{Name: "v1", Variant: 1, Latency: []time.Duration{2 * ms, 3 * ms}})
	one := []string{"x"}
	two := []string{"x", "y"}
	for _, c := range []struct {
		name     string
		sys      sched.System
		arrivals []traffic.Arrival
		best     int
		want     map[string]int // missed
	}{{
		name: "the later request is due first",
		sys: sched.System{Accelerators: one, Models: []sched.Model{
			{Name: "long", Deadline: 9 * ms, Layers: []sched.Layer{layer(2 * ms), layer(2 * ms), layer(2 * ms)}},
			{Name: "short", Deadline: 3 * ms, Layers: []sched.Layer{layer(2 * ms)}}}},
		arrivals: []traffic.Arrival{{At: 0, Model: 0}, {At: 1 * ms, Model: 1}},
		best:     0, want: map[string]int{"edf": 0, "fcfs": 1, "terastal": 0},
	}, {
		name: "only the variant lets both be in time",
		sys: sched.System{Accelerators: two, Models: []sched.Model{
			{Name: "m", Deadline: 3 * ms, Layers: []sched.Layer{variant}, Variants: 1, Valid: []sched.VariantSet{1}}}},
		arrivals: []traffic.Arrival{{At: 0}, {At: 0}},
		best:     0, want: map[string]int{"edf": 1, "fcfs": 1, "terastal": 0, "terastal-novariants": 1},
	}, {
		name: "it pays to keep the accelerator idle for what comes",
		sys: sched.System{Accelerators: one, Models: []sched.Model{
			{Name: "long", Deadline: 20 * ms, Layers: []sched.Layer{layer(9 * ms)}},
			{Name: "short", Deadline: 3 * ms, Layers: []sched.Layer{layer(2 * ms)}}}},
		arrivals: []traffic.Arrival{{At: 0, Model: 0}, {At: 1 * ms, Model: 1}},
		best:     0, want: map[string]int{"edf": 1, "fcfs": 1, "terastal": 1},
	}, {
		name: "too much for any schedule",
		sys: sched.System{Accelerators: two, Models: []sched.Model{
			{Name: "m", Deadline: 4 * ms, Layers: []sched.Layer{layer(2*ms, 4*ms), layer(2*ms, 4*ms)}}}},
		arrivals: []traffic.Arrival{{At: 0}, {At: 0}, {At: 1 * ms}},
		best:     2, want: map[string]int{"edf": 2, "fcfs": 2, "terastal": 2},
	}} {
		if best := fewestMissed(&c.sys, c.arrivals); best != c.best {
			t.Errorf("%s: the best schedule misses %d, want %d", c.name, best, c.best)
		}
		for policy, want := range c.want {
			if n := missed(t, c.sys, policy, sched.DropHopeless, c.arrivals); n != want {
				t.Errorf("%s: %s misses %d, want %d", c.name, policy, n, want)
			}
		}
	}
}

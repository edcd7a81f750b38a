package policy

import (
	"math"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/internal/schedtest"
)

const ms = time.Millisecond

// twoPaces is a system whose accelerators cost the same, of which the second takes three times as long.
func twoPaces() sched.System {
	layer := sched.Layer{Implementations: []sched.Implementation{{Latency: []time.Duration{2 * ms, 6 * ms}}}}
	return sched.System{Accelerators: []string{"fast", "slow"},
		Models:  []sched.Model{{Name: "m", Deadline: 20 * ms, Layers: []sched.Layer{layer}}},
		Pricing: &sched.Pricing{Rates: []float64{100}, Prices: []float64{0.5, 0.5}}}
}

// TestStallsDoNotSlow: a layer that stalled says little about how long the next ones take; that all take longer does.
func TestStallsDoNotSlow(t *testing.T) {
	var p pace
	for range 200 {
		p.observe(ms, ms)
	}
	p.observe(ms, time.Second)
	if slow := p.slow(); slow <= 1 || slow > 1.05 {
		t.Errorf("after one layer that took 1000 times as long, layers are expected to take %v times as long", slow)
	}
	for range 500 {
		p.observe(ms, 3*ms)
	}
	if slow := p.slow(); math.Abs(slow-3) > 0.01 {
		t.Errorf("after 500 that took 3 times as long, %v", slow)
	}

	// What a stall delays is not given up: a request that can just be in time is served before one that has all the time.
	policy := testkit.Must(PEDF(sched.Config{Tables: schedtest.Compile(t, twoPaces()), Drop: sched.DropLate}))(t).(pedf)
	for range 200 {
		policy.Completed(2*ms, 2*ms)
	}
	policy.Completed(2*ms, 200*ms)
	s := &sched.State{Recent: make([]uint16, 1), Accelerators: []sched.Occupancy{{Job: sched.Idle}, {Job: 7, Free: time.Second}}}
	for id, deadline := range []time.Duration{50 * ms, 3 * ms} {
		s.Jobs = append(s.Jobs, sched.Job{ID: int64(id), On: sched.Idle, At: sched.Idle, Deadline: deadline})
	}
	testkit.Equal(t, policy.Select(s, nil), []sched.Choice{{Job: 1, Reason: sched.CheapestInTime}})
}

// TestWasted: a rolled schedule costs, besides what becomes of its requests, a tenth of the misses that the time it took
// beyond the cheapest could have prevented. What was announced to end costs nothing: it began before the roll.
func TestWasted(t *testing.T) {
	tables := schedtest.Compile(t, twoPaces())
	c := sched.Config{Tables: tables, Drop: sched.DropLate}
	p := testkit.Must(newPriced(tables, false))(t)
	r := newRoller(p, c, rollOptions{fade: 1, spill: 0.1})
	rule := testkit.Must(sched.FCFS(c))(t)
	for _, run := range []struct {
		what string
		on   int
		tail bool
		want float64
	}{
		{"on fast", 0, false, 0},
		// A request takes 1 ms of price-weighted time where it is cheapest, so that each such is worth one; on slow it takes 3.
		{"on slow", 1, false, 0.1 * 2},
		{"on slow, behind another that ends", 1, true, 0.1 * 2},
	} {
		took := []time.Duration{2 * ms, 6 * ms}[run.on]
		s := &sched.State{Recent: make([]uint16, 1), Accelerators: []sched.Occupancy{{Job: sched.Idle}, {Job: sched.Idle}},
			Jobs: []sched.Job{{ID: 1, On: int32(run.on), At: sched.Idle, Deadline: 20 * ms}}}
		s.Accelerators[run.on] = sched.Occupancy{Job: 1, Free: took}
		if run.tail {
			s.Tails = []sched.Tail{{Occupancy: sched.Occupancy{Job: sched.Idle}},
				{Occupancy: s.Accelerators[1], Until: took, From: sched.Idle, Last: true}}
			s.Jobs = append(s.Jobs, sched.Job{ID: 2, On: int32(run.on), At: sched.Idle, Deadline: 20 * ms})
			s.Accelerators[run.on] = sched.Occupancy{Job: 2, Started: took, Free: 2 * took}
		}
		r.balance()
		r.start(s, rule)
		if got := r.finish(20*ms, math.Inf(1), &bounds{100, 100}); math.Abs(got-run.want) > 1e-9 {
			t.Errorf("%s: the schedule costs %v, want %v", run.what, got, run.want)
		}
	}
}

package sim_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/eventlog"
	"github.com/terastal/terastal/sched/sim"
	"github.com/terastal/terastal/sched/traffic"
)

// TestStalls: what runs when a stall begins ends later by its length, what begins in it runs after it, and what ends as
// it begins does so in time. Predictions stay.
func TestStalls(t *testing.T) {
	stalls := sim.Stalls{Length: 50 * ms, Period: 500 * ms, Seed: 7}
	first, second := stalls.Begin(0), stalls.Begin(1)
	cfg := config(t, crossed(), "fcfs")
	cfg.Stalls = stalls
	cfg.Arrivals = []traffic.Arrival{{At: first - 4*ms, Model: 0}, {At: first - 3*ms, Model: 1},
		{At: first + 20*ms, Model: 0}, {At: second - ms, Model: 0}, {At: second + 50*ms, Model: 1}}
	testkit.Must(sim.Run(cfg))(t)
	var ends []time.Duration
	for _, r := range *cfg.Engine.Recorder.(*eventlog.Buffer) {
		switch r.Kind {
		case sched.Completed:
			ends = append(ends, r.At)
		case sched.Dispatched:
			if r.Until != r.At+4*ms {
				t.Errorf("at %v the end is predicted at %v", r.At, r.Until)
			}
		}
	}
	testkit.Equal(t, []time.Duration{first, first + 51*ms, first + 54*ms, second + 53*ms, second + 54*ms}, ends)
}

// TestStallsAreDrawn: one in each period, anywhere in it, by seed.
func TestStallsAreDrawn(t *testing.T) {
	const n = 10000
	var mean, spread float64
	a, b := sim.Stalls{Length: 50 * ms, Period: 500 * ms, Seed: 1}, sim.Stalls{Length: 50 * ms, Period: 500 * ms, Seed: 2}
	same := 0
	for i := range n {
		at := a.Begin(i) - time.Duration(i)*a.Period
		if at < 0 || at > a.Period-a.Length {
			t.Fatalf("stall %d begins %v into its period", i, at)
		}
		x := float64(at) / float64(a.Period-a.Length)
		mean += x / n
		spread += (x - 0.5) * (x - 0.5) / n
		if a.Begin(i) == b.Begin(i) {
			same++
		}
	}
	if math.Abs(mean-0.5) > 0.015 || math.Abs(spread-1./12) > 0.005 || same > 1 {
		t.Errorf("mean %v, variance %v, want 0.5 and 0.083; %d the same for two seeds", mean, spread, same)
	}
}

// TestStallsTakeTime: in a run of many layers that slow each other down, every layer takes as long as without stalls, at
// the same speed, plus the stalls in between. Checked by stepping through time.
func TestStallsTakeTime(t *testing.T) {
	stalls := sim.Stalls{Length: 30 * ms, Period: 100 * ms, Seed: 3}
	frozen := func(at time.Duration) bool {
		begin := stalls.Begin(int(at / stalls.Period))
		return at >= begin && at < begin+stalls.Length
	}
	slow := [][]float64{{0, 0.5}, {1, 0}}
	cfg := config(t, crossed(), "fcfs")
	cfg.Stalls, cfg.Interference = stalls, slow
	released := traffic.Config{Rates: []float64{90, 90}, Process: traffic.Poisson, Duration: time.Second, Seed: 5}
	cfg.Arrivals = testkit.Must(released.Arrivals())(t)
	end := testkit.Must(sim.Run(cfg))(t)
	type span struct{ from, to time.Duration }
	var runs [2][]span
	for _, r := range *cfg.Engine.Recorder.(*eventlog.Buffer) {
		if r.Kind == sched.Completed {
			runs[r.Accelerator] = append(runs[r.Accelerator], span{r.Start, r.At})
		}
	}
	done := [2][]float64{make([]float64, len(runs[0])), make([]float64, len(runs[1]))}
	var next [2]int
	for at := time.Duration(0); at < end; at += step {
		var busy [2]bool
		for k := range runs {
			for next[k] < len(runs[k]) && runs[k][next[k]].to <= at {
				next[k]++
			}
			busy[k] = next[k] < len(runs[k]) && runs[k][next[k]].from <= at
		}
		for k := range runs {
			if busy[k] && !frozen(at) {
				speed := 1.0
				if busy[1-k] {
					speed += slow[k][1-k]
				}
				done[k][next[k]] += float64(step) / speed
			}
		}
	}
	for k := range done {
		for i, d := range done[k] {
			if math.Abs(d-float64(4*ms)) > 10*float64(step) {
				t.Errorf("layer %d on %d, %v: worked for %v, want 4ms", i, k, runs[k][i], time.Duration(d))
			}
		}
	}
	if len(done[0]) < 60 || len(done[1]) < 60 {
		t.Errorf("%d and %d layers ran", len(done[0]), len(done[1]))
	}
}

// TestStallsReplay: a run with stalls decides the same again from its log.
func TestStallsReplay(t *testing.T) {
	sys := two()
	for _, name := range []string{"fcfs", "terastal", "pedf", "rollout"} {
		released := traffic.Config{Rates: []float64{150, 60}, Process: traffic.Poisson, Duration: time.Second, Seed: 3}
		header := eventlog.Header{Driver: eventlog.Simulated, Policy: name, Drop: "late", System: sys,
			Rates: released.Rates, Duration: released.Duration}
		var records eventlog.Buffer
		cfg := sim.Config{Arrivals: testkit.Must(released.Arrivals())(t), Stalls: sim.Stalls{Length: 50 * ms,
			Period: 200 * ms, Seed: 1}}
		cfg.Engine = testkit.Must(header.Engine(&records, nil))(t)
		testkit.Must(sim.Run(cfg))(t)
		log := eventlog.Log{Header: header, Records: records}
		if n, difference, err := log.Replay(nil); err != nil || difference != "" || n < 100 {
			t.Errorf("%s: %d decisions, %q, %v", name, n, difference, err)
		}
	}
}

func TestInvalidStalls(t *testing.T) {
	for _, s := range []sim.Stalls{{Length: -ms, Period: time.Second}, {Length: ms}, {Length: 51 * ms, Period: 100 * ms}} {
		cfg := config(t, two(), "fcfs")
		cfg.Stalls = s
		testkit.Refused(sim.Run(cfg))(t, fmt.Sprintf("stalls of %v", s.Length))
	}
	lines := func(s sim.Stalls) []string {
		lines, _ := run(t, two(), "fcfs", func(c *sim.Config) { c.Arrivals, c.Stalls = []traffic.Arrival{{}, {Model: 1}}, s })
		return lines
	}
	if a, b := lines(sim.Stalls{}), lines(sim.Stalls{Period: time.Second}); !slices.Equal(a, b) {
		t.Errorf("stalls of no length:\n%s\nwithout:\n%s", strings.Join(b, "\n"), strings.Join(a, "\n"))
	}
}

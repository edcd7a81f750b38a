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
	"github.com/terastal/terastal/sched/internal/schedtest"
	"github.com/terastal/terastal/sched/policy"
	"github.com/terastal/terastal/sched/sim"
	"github.com/terastal/terastal/sched/traffic"
	"pgregory.net/rapid"
)

// stream is a system of one model of two layers of 4 ms on two streams of a device.
func stream(lead time.Duration, waking ...sched.Waking) sched.System {
	layer := func(name string) sched.Layer {
		return sched.Layer{Name: name, Implementations: []sched.Implementation{{Name: "original",
			Latency: []time.Duration{4 * ms, 4 * ms}}}}
	}
	return sched.System{Accelerators: []string{"x", "y"}, Models: []sched.Model{{Name: "a", Deadline: 30 * ms,
		Layers: []sched.Layer{layer("a0"), layer("a1")}}},
		Devices: []sched.Device{{Name: "gpu", Accelerators: []int{0, 1}, Lead: lead, Waking: waking}}}
}

// TestLead: the next layer is decided a lead before the predicted end of the one before, and begins at its true end.
func TestLead(t *testing.T) {
	lines, _ := run(t, stream(ms), "fcfs", func(c *sim.Config) {
		c.Arrivals = []traffic.Arrival{{}, {At: ms}, {At: 2 * ms}}
		c.Duration = func(_ time.Duration, d sched.Dispatch) time.Duration { // one is late, one early
			return 4*ms + time.Duration(1-2*d.Layer)*ms/2
		}
	})
	equal(t, lines,
		"0s release a#0", "0s dispatch a#0 layer 0 on x",
		"1ms release a#1", "1ms dispatch a#1 layer 0 on y",
		"2ms release a#2",
		"3ms ending a#0 layer 0 on x", "3ms dispatch a#0 layer 1 on x", // fcfs: job 0 was first, and x ends it first
		"4ms ending a#1 layer 0 on y", "4ms dispatch a#1 layer 1 on y",
		"4.5ms complete a#0 layer 0 on x",
		"5.5ms complete a#1 layer 0 on y",
		"7.5ms ending a#0 layer 1 on x", "7.5ms dispatch a#2 layer 0 on x",
		"8ms complete a#0 layer 1 on x", "8ms a#0 met",
		"8.5ms ending a#1 layer 1 on y",
		"9ms complete a#1 layer 1 on y", "9ms a#1 met",
		"11ms ending a#2 layer 0 on x", "11ms dispatch a#2 layer 1 on x",
		"12.5ms complete a#2 layer 0 on x",
		"15.5ms ending a#2 layer 1 on x",
		"16ms complete a#2 layer 1 on x", "16ms a#2 met")
}

// TestWaking: a layer takes longer on a device that rested, by how long, and is predicted to.
func TestWaking(t *testing.T) {
	sys := stream(0, sched.Waking{Idle: 2 * ms, Extra: ms}, sched.Waking{Idle: 10 * ms, Extra: 3 * ms})
	cfg := config(t, sys, "fcfs")
	// After 0, 1, 9 and 13 ms of rest; the device is still waking up when another stream begins.
	cfg.Arrivals = []traffic.Arrival{{At: 0}, {At: 4 * ms}, {At: 13 * ms}, {At: 30 * ms}, {At: 52 * ms}, {At: 53 * ms}}
	testkit.Must(sim.Run(cfg))(t)
	records := *cfg.Engine.Recorder.(*eventlog.Buffer)
	var got []string
	for _, r := range records {
		if r.Kind == sched.Dispatched {
			got = append(got, fmt.Sprintf("%v: #%d to end at %v", r.At, r.Job, r.Until))
		} else if r.Kind == sched.Completed {
			got = append(got, fmt.Sprintf("%v: #%d took %v", r.At, r.Job, r.At-r.Start))
		}
	}
	equal(t, got,
		"0s: #0 to end at 4ms", "4ms: #0 took 4ms", "4ms: #0 to end at 8ms", "4ms: #1 to end at 8ms",
		"8ms: #0 took 4ms", "8ms: #1 took 4ms", "8ms: #1 to end at 12ms", "12ms: #1 took 4ms",
		"13ms: #2 to end at 17ms", "17ms: #2 took 4ms", "17ms: #2 to end at 21ms", "21ms: #2 took 4ms",
		"30ms: #3 to end at 35ms", "35ms: #3 took 5ms", "35ms: #3 to end at 39ms", "39ms: #3 took 4ms",
		"52ms: #4 to end at 59ms", "53ms: #5 to end at 59ms",
		"59ms: #4 took 7ms", "59ms: #4 to end at 63ms", "59ms: #5 took 6ms", "59ms: #5 to end at 63ms",
		"63ms: #4 took 4ms", "63ms: #5 took 4ms")
}

// TestContention: by how many others of a group are busy, on top of interference.
func TestContention(t *testing.T) {
	sys := sched.System{Accelerators: []string{"x", "y", "z"}}
	for m := range 3 {
		latency := []time.Duration{sched.Unavailable, sched.Unavailable, sched.Unavailable}
		latency[m] = 4 * ms
		sys.Models = append(sys.Models, sched.Model{Name: sys.Accelerators[m], Deadline: 100 * ms, Layers: []sched.Layer{{
			Name: "only", Implementations: []sched.Implementation{{Name: "original", Latency: latency}}}}})
	}
	ends := func(change func(*sim.Config)) (out []string) {
		lines, _ := run(t, sys, "fcfs", func(c *sim.Config) {
			c.Arrivals = []traffic.Arrival{{Model: 0}, {Model: 1}, {Model: 2}}
			change(c)
		})
		for _, l := range lines {
			if strings.HasSuffix(l, " met") {
				out = append(out, strings.TrimSuffix(l, " met"))
			}
		}
		return out
	}
	all := []int{0, 1, 2}
	equal(t, ends(func(c *sim.Config) { c.Contention = []sim.Contention{{all, []float64{0, 0.25, 1}}} }),
		"8ms x#0", "8ms y#1", "8ms z#2")
	// The last entry holds while more are busy; z is of no group, and x of two.
	equal(t, ends(func(c *sim.Config) {
		c.Contention = []sim.Contention{{[]int{0, 1}, []float64{0, 0.5}}, {all, []float64{0}}, {[]int{0}, []float64{0.5}}}
	}), "4ms z#2", "6ms y#1", "7.5ms x#0")
	equal(t, ends(func(c *sim.Config) {
		c.Contention = []sim.Contention{{[]int{0, 1}, []float64{0, 0.5}}}
		c.Interference = [][]float64{{0, 0, 0.5}, {0, 0, 0}, {0, 0, 0}}
	}), "4ms z#2", "6ms y#1", "6.666667ms x#0")
}

func TestInvalidContention(t *testing.T) {
	for want, c := range map[string]sim.Contention{
		"contention 0: accelerators [0 2], need distinct ones from 0 to 1": {[]int{0, 2}, nil},
		"contention 0: accelerators [1 1], need distinct ones":             {[]int{1, 1}, nil},
		"slowdown -1 while 1 others are busy":                              {[]int{0, 1}, []float64{0, -1}},
		"slowdown NaN while 0 others are busy":                             {[]int{0, 1}, []float64{math.NaN()}},
	} {
		cfg := config(t, two(), "fcfs")
		cfg.Contention = []sim.Contention{c}
		testkit.Refused(sim.Run(cfg))(t, want)
	}
}

// drawPolicy draws the name of a policy that can run the system: some need every model to run somewhere as a whole.
func drawPolicy(t *rapid.T, sys *sched.System) string {
	name := rapid.SampledFrom(policy.All()).Draw(t, "policy").Name
	if _, err := policy.Named(name)(sched.Config{Tables: schedtest.Compile(t, *sys)}); err != nil {
		return "fcfs"
	}
	return name
}

// TestLeadZero: devices without a lead and waking change nothing.
func TestLeadZero(t *testing.T) {
	schedtest.CheckSome(t, 5, func(t *rapid.T) {
		sys := schedtest.RichSystem(t)
		name := drawPolicy(t, &sys)
		if name == "fifo" || strings.HasPrefix(name, "triton") { // which place models on devices
			name = "fcfs"
		}
		arrivals := schedtest.Arrivals(t, &sys)
		drop := sched.DropPolicy(schedtest.Number(t, 4, "drop"))
		adapt := schedtest.Chance(t, 50, "adapt")
		var want eventlog.Buffer
		for _, devices := range []bool{false, true} {
			if devices {
				schedtest.Devices(t, &sys)
				for d := range sys.Devices {
					sys.Devices[d].Lead, sys.Devices[d].Waking = 0, nil
				}
			}
			var got eventlog.Buffer
			truth := schedtest.Compile(t, sys)
			testkit.Must(sim.Run(sim.Config{Arrivals: arrivals, Duration: sim.Lognormal(0.3, truth, 1), Engine: sched.Config{
				Tables: truth, Policy: policy.Named(name), Drop: drop, Adapt: adapt, Recorder: &got}}))(t)
			if devices && !slices.Equal(got, want) {
				t.Fatalf("policy %s, system %+v\nwithout devices %+v\nwith            %+v", name, sys, want, got)
			}
			want = got
		}
	})
}

// shared is a random simulation with devices, and what it drew.
type shared struct {
	sys        sched.System
	contention []sim.Contention
	lengths    map[layerOf]time.Duration
	log        *eventlog.Log
}

type layerOf struct {
	job   int64
	layer int32
}

func simulateShared(t *rapid.T) *shared {
	s := &shared{sys: schedtest.RichSystem(t), lengths: map[layerOf]time.Duration{}}
	schedtest.Devices(t, &s.sys)
	for _, d := range s.sys.Devices {
		c := sim.Contention{Accelerators: d.Accelerators}
		for n := range schedtest.Number(t, 5, "known") {
			c.Slowdown = append(c.Slowdown, float64(n*schedtest.Number(t, 3, "slowdown"))/4)
		}
		s.contention = append(s.contention, c)
	}
	name := drawPolicy(t, &s.sys)
	var records eventlog.Buffer
	c := schedtest.Config(t)
	c.ClosedLoop, c.Until = false, 0
	c.Tables, c.Policy, c.Recorder = schedtest.Compile(t, s.sys), policy.Named(name), &records
	testkit.Must(sim.Run(sim.Config{Arrivals: schedtest.Arrivals(t, &s.sys), Engine: c, Contention: s.contention,
		Duration: func(_ time.Duration, d sched.Dispatch) time.Duration {
			took := (d.Finish - d.Start) * time.Duration(1+schedtest.Number(t, 8, "took")) / 4
			s.lengths[layerOf{d.Job, int32(d.Layer)}] = took
			return took
		}}))(t)
	s.log = &eventlog.Log{Header: eventlog.Header{Driver: eventlog.Simulated, Policy: name, Drop: c.Drop.String(),
		Queue: c.Queue, Seed: c.Seed, Adapt: c.Adapt, System: s.sys, Rates: make([]float64, len(s.sys.Models))},
		Records: records}
	return s
}

// busy lists the accelerators that a device runs layers on between two instants, by the log alone.
func busy(runs []eventlog.Run, accs []int, from, to time.Duration) (out []int) {
	for _, r := range runs {
		k := int(r.Ended.Accelerator)
		if r.Ended.Start < to && from < r.Ended.At && slices.Contains(accs, k) && !slices.Contains(out, k) {
			out = append(out, k)
		}
	}
	return out
}

// length is how long a run takes by the log alone: what it was to take, waking, and contention, added up from one change
// of who is busy to the next.
func (s *shared) length(runs []eventlog.Run, run *eventlog.Run) time.Duration {
	r := run.Ended
	k := int(r.Accelerator)
	left := float64(s.lengths[layerOf{r.Job, r.Layer}] + s.waking(runs, r.Start, k))
	var changes []time.Duration
	for _, o := range runs {
		changes = append(changes, o.Ended.Start, o.Ended.At)
	}
	slices.Sort(changes)
	at := r.Start
	for _, next := range changes {
		if next <= at || left <= 0 {
			continue
		}
		slow := 1.0
		for _, c := range s.contention {
			if slices.Contains(c.Accelerators, k) && len(c.Slowdown) > 0 {
				others := len(slices.DeleteFunc(busy(runs, c.Accelerators, at, next), func(o int) bool { return o == k }))
				slow += c.Slowdown[min(others, len(c.Slowdown)-1)]
			}
		}
		if left <= float64(next-at)/slow {
			return at - r.Start + time.Duration(math.Round(left*slow))
		}
		left -= float64(next-at) / slow
		at = next
	}
	return at - r.Start + time.Duration(math.Round(left))
}

// waking is what a layer pays that starts then on accelerator k: the device rested until then, or is still waking up.
func (s *shared) waking(runs []eventlog.Run, start time.Duration, k int) time.Duration {
	for _, d := range s.sys.Devices {
		if !slices.Contains(d.Accelerators, k) {
			continue
		}
		// From the start on: when it last began to work, and what that cost.
		var working, awake time.Duration
		var of []eventlog.Run
		for _, r := range runs {
			if slices.Contains(d.Accelerators, int(r.Ended.Accelerator)) && r.Ended.Start <= start {
				of = append(of, r)
			}
		}
		slices.SortStableFunc(of, func(a, b eventlog.Run) int { return int(a.Ended.Start - b.Ended.Start) })
		for _, r := range of {
			if begin := r.Ended.Start; begin >= working { // nothing else runs
				extra := time.Duration(0)
				for _, w := range d.Waking {
					if begin-working >= w.Idle {
						extra = w.Extra
					}
				}
				awake = begin + extra
			}
			working = max(working, r.Ended.At)
		}
		return max(0, awake-start)
	}
	return 0
}

// TestShared: on devices with leads, wakings, contention and durations that nobody predicted the log is valid, replays
// and balances, layers begin when the accelerator and their request have ended the one before, no earlier and no later,
// and take what the log alone says they do.
func TestShared(t *testing.T) {
	overlaps := 0
	schedtest.CheckSome(t, 2, func(t *rapid.T) {
		s := simulateShared(t)
		testkit.OK(t, s.log.Validate())
		if _, difference, err := s.log.Replay(nil); err != nil || difference != "" {
			t.Fatalf("replay: %s, %v", difference, err)
		}
		if m := s.log.Metrics(); !m.Balanced() {
			t.Fatalf("totals %+v", m.Totals)
		}
		runs := s.log.Runs()
		ended := map[int32]time.Duration{}
		for i := range runs {
			r := &runs[i]
			if r.Begin > r.Dispatched.At {
				overlaps++
			}
			if r.Ended.Start != r.Begin || r.Dispatched.At < ended[r.Dispatched.Accelerator] {
				t.Fatalf("%+v begins at %v, not %v", *r.Ended, r.Ended.Start, r.Begin)
			}
			ended[r.Dispatched.Accelerator] = r.Dispatched.At
			if got, want := r.Ended.At-r.Ended.Start, s.length(runs, r); got < want-8 || got > want+8 { // rounded at every change
				t.Fatalf("system %+v\ncontention %+v\n%+v took %v, want %v", s.sys, s.contention, *r.Ended, got, want)
			}
		}
	})
	t.Logf("%d layers were decided ahead", overlaps)
}

// TestLeadInCrowds: a layer is announced a lead before the end that it has with as few others busy as there are, though
// its latency is that with all.
func TestLeadInCrowds(t *testing.T) {
	sys := stream(ms)
	sys.Devices[0].Contention = []float64{0, 1}
	change := func(arrivals ...traffic.Arrival) func(*sim.Config) {
		return func(c *sim.Config) {
			c.Arrivals, c.Contention = arrivals, []sim.Contention{{Accelerators: []int{0, 1}, Slowdown: []float64{0, 1}}}
			c.Duration = func(time.Duration, sched.Dispatch) time.Duration { return 2 * ms } // alone
		}
	}
	lines, _ := run(t, sys, "fcfs", change(traffic.Arrival{}))
	equal(t, lines, "0s release a#0", "0s dispatch a#0 layer 0 on x",
		"1ms ending a#0 layer 0 on x", "1ms dispatch a#0 layer 1 on x", "2ms complete a#0 layer 0 on x",
		"3ms ending a#0 layer 1 on x", "4ms complete a#0 layer 1 on x", "4ms a#0 met")
	lines, _ = run(t, sys, "fcfs", change(traffic.Arrival{}, traffic.Arrival{}))
	equal(t, lines[:8], "0s release a#0", "0s dispatch a#0 layer 0 on x", "0s release a#1", "0s dispatch a#1 layer 0 on y",
		"3ms ending a#0 layer 0 on x", "3ms dispatch a#0 layer 1 on x",
		"3ms ending a#1 layer 0 on y", "3ms dispatch a#1 layer 1 on y")
}

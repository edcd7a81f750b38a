package sim_test

import (
	"encoding/json"
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
)

// crossed is a model for each of two accelerators, 4 ms on its own one.
func crossed() sched.System {
	layer := func(latency ...time.Duration) sched.Layer {
		return sched.Layer{Name: "l", Implementations: []sched.Implementation{{Name: "original", Latency: latency}}}
	}
	return sched.System{Accelerators: []string{"x", "y"}, Models: []sched.Model{
		{Name: "a", Deadline: 100 * ms, Layers: []sched.Layer{layer(4*ms, sched.Unavailable)}},
		{Name: "b", Deadline: 100 * ms, Layers: []sched.Layer{layer(sched.Unavailable, 4*ms)}},
	}}
}

// TestInterference: x takes 1.5 times as long while y is busy, y twice as long
// while x is; what is done is done, and what is left goes at the new speed.
func TestInterference(t *testing.T) {
	slow := [][]float64{{0, 0.5}, {1, 0}}
	ends := func(arrivals ...traffic.Arrival) []string {
		lines, _ := run(t, crossed(), "fcfs", func(c *sim.Config) { c.Arrivals, c.Interference = arrivals, slow })
		return slices.DeleteFunc(lines, func(l string) bool { return !strings.Contains(l, "complete") })
	}
	// Together from the start: x ends after 4 x 1.5; y has then done 3 of its 4.
	equal(t, ends(traffic.Arrival{Model: 0}, traffic.Arrival{Model: 1}),
		"6ms complete a#0 layer 0 on x", "7ms complete b#1 layer 0 on y")
	// y from 2 ms on: x has 2 left, ends at 5; y has then done 1.5 and has 2.5.
	equal(t, ends(traffic.Arrival{Model: 0}, traffic.Arrival{At: 2 * ms, Model: 1}),
		"5ms complete a#0 layer 0 on x", "7.5ms complete b#1 layer 0 on y")
	// x is busy again at once: y never runs alone. It has 1 left at 6 ms, twice
	// as long; x has then done 2 / 1.5 and has 8/3 left.
	equal(t, ends(traffic.Arrival{Model: 0}, traffic.Arrival{Model: 1}, traffic.Arrival{At: ms, Model: 0}),
		"6ms complete a#0 layer 0 on x", "8ms complete b#1 layer 0 on y", "10.666667ms complete a#2 layer 0 on x")
}

// TestInterferenceAddsUp: two others slow an accelerator by the sum.
func TestInterferenceAddsUp(t *testing.T) {
	sys := crossed()
	sys.Accelerators = append(sys.Accelerators, "z")
	for m := range sys.Models {
		im := &sys.Models[m].Layers[0].Implementations[0]
		im.Latency = append(im.Latency, sched.Unavailable)
	}
	c := sys.Models[0]
	c.Name = "c"
	c.Layers = []sched.Layer{{Name: "l", Implementations: []sched.Implementation{{Name: "original",
		Latency: []time.Duration{sched.Unavailable, sched.Unavailable, 40 * ms}}}}}
	sys.Models = append(sys.Models, c)
	lines, _ := run(t, sys, "fcfs", func(c *sim.Config) {
		c.Arrivals = []traffic.Arrival{{Model: 0}, {Model: 1}, {Model: 2}}
		c.Interference = [][]float64{{9, 0.25, 0.5}, {0, 9, 0}, {0, 0, 9}} // its own entry says nothing
	})
	// y is alone 4 ms long, in which x does 4 / 1.75 of its 4; the rest takes 12/7 x 1.5.
	if want := "6.571429ms complete a#0 layer 0 on x"; !slices.Contains(lines, want) {
		t.Errorf("no %q in\n%s", want, strings.Join(lines, "\n"))
	}
	// z is slowed twice, from 0 to 4 and from 10 to 14 ms, and does 8/3 in each.
	lines, _ = run(t, sys, "fcfs", func(c *sim.Config) {
		c.Arrivals = []traffic.Arrival{{Model: 0}, {Model: 2}, {At: 10 * ms, Model: 0}}
		c.Interference = [][]float64{{0, 0, 0}, {0, 0, 0}, {0.5, 0, 0}}
	})
	if want := "42.666667ms complete c#1 layer 0 on z"; !slices.Contains(lines, want) {
		t.Errorf("no %q in\n%s", want, strings.Join(lines, "\n"))
	}
}

// TestNoInterference: zeros are as none.
func TestNoInterference(t *testing.T) {
	traffic := traffic.Config{Rates: []float64{120, 60}, Process: traffic.Poisson, Duration: time.Second, Seed: 3}
	arrivals := testkit.Must(traffic.Arrivals())(t)
	var logs [2][]string
	for i, x := range [][][]float64{nil, {{0, 0}, {0, 0}}} {
		logs[i], _ = run(t, two(), "terastal", func(c *sim.Config) { c.Arrivals, c.Interference = arrivals, x })
	}
	equal(t, logs[1], logs[0]...)
}

func TestInvalidInterference(t *testing.T) {
	for _, c := range []struct {
		x    [][]float64
		want string
	}{
		{[][]float64{{0, 0}}, "of 1 accelerators, want 2"},
		{[][]float64{{0, 0}, {0}}, "accelerator 1 with 1 others"},
		{[][]float64{{0, -0.1}, {0, 0}}, "must be 0 to"},
		{[][]float64{{0, math.NaN()}, {0, 0}}, "must be 0 to"},
		{[][]float64{{0, 1e18}, {0, 0}}, "must be 0 to"},
	} {
		cfg := config(t, two(), "fcfs")
		cfg.Interference = c.x
		testkit.Refused(sim.Run(cfg))(t, c.want)
	}
}

// TestLognormal: the factor has mean 1 and median exp(-sigma^2/2), and depends on the seed only.
func TestLognormal(t *testing.T) {
	tables := schedtest.Compile(t, crossed())
	const n = 100000
	draw := func(sigma float64, seed uint64) []float64 {
		f := sim.Lognormal(sigma, tables, seed)
		out := make([]float64, n)
		for i := range out {
			out[i] = float64(f(time.Hour, sched.Dispatch{Finish: 2 * time.Hour})) / float64(4*ms) // not what is predicted
		}
		return out
	}
	for _, seed := range []uint64{1, 2} {
		for _, sigma := range []float64{0, 0.1, 0.5, 1} {
			xs := draw(sigma, seed)
			if !slices.Equal(xs, draw(sigma, seed)) {
				t.Fatalf("the same seed gives other durations")
			}
			mean := 0.0
			for _, x := range xs {
				mean += x / n
			}
			// Five standard errors of the mean, and of the median's.
			if d := math.Abs(mean - 1); d > 5*math.Sqrt((math.Exp(sigma*sigma)-1)/n)+1e-6 {
				t.Errorf("sigma %v, seed %d: the mean is %v", sigma, seed, mean)
			}
			slices.Sort(xs)
			if d := math.Abs(math.Log(xs[n/2]) + sigma*sigma/2); d > 5*1.2533*sigma/math.Sqrt(n)+1e-6 {
				t.Errorf("sigma %v, seed %d: the median is %v", sigma, seed, xs[n/2])
			}
		}
	}
	if slices.Equal(draw(0.5, 1), draw(0.5, 2)) {
		t.Errorf("two seeds give the same durations")
	}
	long := crossed()
	long.Models[0].Layers[0].Implementations[0].Latency[0] = 1 << 43
	f := sim.Lognormal(3, schedtest.Compile(t, long), 1) // of 2.4 hours, by up to e^5
	for range 1000 {
		if d := f(0, sched.Dispatch{}); d < 0 || d > 10*time.Hour {
			t.Fatalf("a duration of %v", d)
		}
	}
}

// TestMeasured: draws follow the distribution between its points.
func TestMeasured(t *testing.T) {
	points := []sim.Point{{Share: 0, Time: 1 * ms}, {Share: 0.5, Time: 2 * ms}, {Share: 1, Time: 10 * ms}}
	f := sim.Measured(func(d sched.Dispatch) []sim.Point {
		if d.Layer > 0 {
			return nil
		}
		return points
	}, 1)
	const n = 100000
	var sum time.Duration
	half := 0
	for range n {
		d := f(0, sched.Dispatch{})
		if d < 1*ms || d > 10*ms {
			t.Fatalf("drew %v", d)
		}
		sum += d
		if d <= 2*ms {
			half++
		}
	}
	// The mean of 1 to 2 and of 2 to 10 ms.
	if mean := sum / n; mean < 3700*time.Microsecond || mean > 3800*time.Microsecond {
		t.Errorf("the mean is %v, want 3.75ms", mean)
	}
	if share := float64(half) / n; math.Abs(share-0.5) > 0.01 {
		t.Errorf("%v are at most 2 ms", share)
	}
	if d := f(time.Second, sched.Dispatch{Layer: 1, Finish: time.Second + 7*ms}); d != 7*ms {
		t.Errorf("without points it takes %v, not the prediction", d)
	}
	// A run without points draws too, so that it does not change the next ones.
	a, b := sim.Measured(func(sched.Dispatch) []sim.Point { return points }, 2),
		sim.Measured(func(d sched.Dispatch) []sim.Point {
			if d.Job == 0 {
				return nil
			}
			return points
		}, 2)
	a(0, sched.Dispatch{})
	b(0, sched.Dispatch{})
	if x, y := a(0, sched.Dispatch{Job: 1}), b(0, sched.Dispatch{Job: 1}); x != y {
		t.Errorf("second draws %v and %v", x, y)
	}
}

func TestCheckPoints(t *testing.T) {
	type ps = []sim.Point
	for _, c := range []struct {
		points ps
		want   string // "" for valid
	}{
		{ps{{0, 1}, {1, 1}}, ""},
		{ps{{0, 1}, {0.5, 1}, {1, 3}}, ""},
		{nil, "begin with share 0"},
		{ps{{0, 1}}, "begin with share 0"},
		{ps{{0.1, 1}, {1, 2}}, "begin with share 0"},
		{ps{{0, 1}, {0.9, 2}}, "end with share 1"},
		{ps{{0, 1}, {0.5, 2}, {0.5, 3}, {1, 4}}, "point 2"},
		{ps{{0, 1}, {0.5, 3}, {1, 2}}, "point 2"},
		{ps{{0, 1}, {math.NaN(), 3}, {1, 4}}, "point 1"},
		{ps{{0, -1}, {1, 4}}, "negative"},
	} {
		if err := sim.CheckPoints(c.points); (err == nil) != (c.want == "") || err != nil &&
			!strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: error %v, want %q", c.points, err, c.want)
		}
	}
}

// TestAdaptFollows: layers take twice the profile; predictions come to that, and the durations stay what they are.
func TestAdaptFollows(t *testing.T) {
	sys := crossed()
	slow := crossed()
	slow.Models[0].Layers[0].Implementations[0].Latency[0] *= 2
	cfg := config(t, sys, "fcfs")
	for i := range 100 {
		cfg.Arrivals = append(cfg.Arrivals, traffic.Arrival{At: time.Duration(i) * 20 * ms})
	}
	cfg.Engine.Adapt = true
	cfg.Duration = sim.Exactly(schedtest.Compile(t, slow))
	testkit.Must(sim.Run(cfg))(t)
	var predicted time.Duration
	for _, r := range *cfg.Engine.Recorder.(*eventlog.Buffer) {
		switch r.Kind {
		case sched.Dispatched:
			predicted = r.Until - r.At
		case sched.Completed:
			if r.At-r.Start != 8*ms {
				t.Fatalf("a layer took %v", r.At-r.Start)
			}
		}
	}
	if predicted < 7900*time.Microsecond || predicted > 8*ms {
		t.Errorf("the last prediction is %v", predicted)
	}
	// The truth given to Exactly may be the engine's own tables.
	cfg = config(t, sys, "fcfs")
	cfg.Engine.Adapt = true
	exactly := sim.Exactly(cfg.Engine.Tables)
	cfg.Arrivals = []traffic.Arrival{{}, {}, {}}
	cfg.Duration = func(at time.Duration, d sched.Dispatch) time.Duration { return 3 * exactly(at, d) }
	if end, err := sim.Run(cfg); err != nil || end != 36*ms {
		t.Errorf("three layers end at %v (%v), want 36ms", end, err)
	}
}

// TestClosedLoop: one request follows the other until the end of the traffic.
func TestClosedLoop(t *testing.T) {
	traffic := traffic.Config{Rates: []float64{1, 0}, Process: traffic.ClosedLoop, Duration: 10 * ms}
	arrivals := testkit.Must(traffic.Arrivals())(t)
	lines, end := run(t, crossed(), "fcfs", func(c *sim.Config) {
		c.Arrivals, c.Engine.ClosedLoop, c.Engine.Until = arrivals, true, traffic.Duration
	})
	releases := slices.DeleteFunc(lines, func(l string) bool { return !strings.Contains(l, "release") })
	if len(releases) != 3 || !strings.HasPrefix(releases[1], "4ms ") || !strings.HasPrefix(releases[2], "8ms ") ||
		end != 12*ms {
		t.Errorf("released %q, ended at %v", releases, end)
	}
}

// TestClosedLoopDrops: a request that is dropped is followed by the next like any other, though nothing else is under way.
func TestClosedLoopDrops(t *testing.T) {
	traffic := traffic.Config{Rates: []float64{1, 0}, Process: traffic.ClosedLoop, Duration: 100 * ms}
	arrivals := testkit.Must(traffic.Arrivals())(t)
	sys := crossed()
	sys.Models[0].Deadline = 10 * ms
	sys.Models[0].Layers = append(sys.Models[0].Layers, sys.Models[0].Layers[0])
	lines, end := run(t, sys, "fcfs", func(c *sim.Config) {
		c.Arrivals, c.Engine.ClosedLoop, c.Engine.Until, c.Engine.Drop = arrivals, true, traffic.Duration, sched.DropLate
		c.Duration = func(time.Duration, sched.Dispatch) time.Duration { return 30 * ms }
	})
	drops := slices.DeleteFunc(lines, func(l string) bool { return !strings.Contains(l, "dropped") })
	if len(drops) != 4 || end != 120*ms {
		t.Errorf("dropped %q, ended at %v, want a request dropped every 30 ms until 120 ms", drops, end)
	}
}

// TestSameSeedSameLog: with everything drawn at once, the log depends on the seed only, whatever the policy.
func TestSameSeedSameLog(t *testing.T) {
	for _, p := range policy.All() {
		log := func(seed uint64) string {
			sys := two()
			sys.Models[0].Trigger = &sched.Trigger{Parent: "b", Probability: 0.5}
			cfg := config(t, sys, p.Name)
			cfg.Arrivals = []traffic.Arrival{{At: 0, Model: 1}, {At: 0, Model: 1}, {At: ms, Model: 0}}
			cfg.Engine.ClosedLoop, cfg.Engine.Until, cfg.Engine.Seed, cfg.Engine.Drop = true, time.Second, seed, sched.DropLate
			cfg.Engine.Adapt = true
			cfg.Duration = sim.Lognormal(0.5, cfg.Engine.Tables, seed)
			cfg.Interference = [][]float64{{0, 0.2}, {0.3, 0}}
			testkit.Must(sim.Run(cfg))(t)
			return string(testkit.Must(json.Marshal(cfg.Engine.Recorder))(t))
		}
		if a, b := log(1), log(1); a != b || len(a) < 10000 {
			t.Errorf("%s: logs of %d and %d bytes differ", p.Name, len(a), len(b))
		}
		if log(1) == log(2) {
			t.Errorf("%s: two seeds give the same log", p.Name)
		}
	}
}

package study_test

import (
	"bytes"
	"context"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/terastal/terastal/cmd/terastal/internal/study"
	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/fluid"
	"github.com/terastal/terastal/sched/scenario"
	"github.com/terastal/terastal/sched/sim"
	"github.com/terastal/terastal/sched/traffic"
)

// own is a scenario of one accelerator that model a (2 ms, 100/s) loads to 20 %
// and model b, released with every second a, to 5 % more; b has no chance.
func own(name string) scenario.Scenario {
	layer := func(c time.Duration) []sched.Layer {
		return []sched.Layer{{Name: "l", Implementations: []sched.Implementation{{Name: "original",
			Latency: []time.Duration{c}}}}}
	}
	return scenario.Scenario{Name: name, Rates: []float64{100, 0}, System: sched.System{Accelerators: []string{"x"},
		Models: []sched.Model{
			{Name: "a", Deadline: 10 * time.Millisecond, Layers: layer(2 * time.Millisecond)},
			{Name: "b c=d/e", Deadline: time.Microsecond, Layers: layer(time.Millisecond), Trigger: &sched.Trigger{Parent: "a",
				Probability: 0.5}},
		}}}
}

func options() study.Options {
	return study.Options{Seeds: 3, Duration: time.Second, Systems: map[string]scenario.Scenario{"own": own("own")}}
}

func cells(t *testing.T, g study.Grid) []study.Cell {
	t.Helper()
	return testkit.Must(g.Cells())(t)
}

func run(t *testing.T, cells []study.Cell, o study.Options) []study.Result {
	t.Helper()
	return testkit.Must(study.Run(context.Background(), cells, o))(t)
}

var small = study.Grid{Scenarios: []string{"own", "paper/mcv_heavy"}, Traffics: []string{"periodic", "poisson",
	"bursts", "aligned", "jitter"},
	Scales: []float64{1, 1.3}, Noises: []float64{0, 0.2}, Drops: []string{"late"}, Policies: []string{"fcfs",
		"terastal", "dream"}}

// few is the part of the small grid that is quick to simulate.
func few(t *testing.T) []study.Cell {
	g := small
	g.Scenarios = []string{"own"}
	return cells(t, g)
}

// TestRun works one cell out by hand.
func TestRun(t *testing.T) {
	o := options()
	r := run(t, []study.Cell{{Scenario: "own", Arrivals: traffic.Periodic, Scale: 1, Policy: "edf"}}, o)[0]
	a, b := r.Models[0], r.Models[1]
	if a.Released != 300 || a.Met != 300 || a.MissRate != 0 || a.RatePerS != 100 || a.DeadlineMS != 10 {
		t.Errorf("a: %+v", a)
	}
	if b.Released < 100 || b.Released > 200 || b.Late != b.Released || b.MissRate != 1 || b.RatePerS != 50 {
		t.Errorf("b: %+v", b)
	}
	if r.Miss != 0.5 || r.Low != 0.5 || r.High != 0.5 || !slices.Equal(r.BySeed, []float64{0.5, 0.5, 0.5}) ||
		*r.Accuracy != 1 {
		t.Errorf("miss rate %v (%v to %v), by seed %v, accuracy %v", r.Miss, r.Low, r.High, r.BySeed, *r.Accuracy)
	}
	if u := r.Utilization["x"]; math.Abs(u-0.25) > 0.03 {
		t.Errorf("utilization %v, want about 0.25", u)
	}
	if a.P50MS < 2 || a.P50MS > 3 {
		t.Errorf("a takes %v ms", a.P50MS)
	}
}

// TestRunIsDeterministic: workers and other cells change nothing.
func TestRunIsDeterministic(t *testing.T) {
	all := few(t)
	o := options()
	o.Workers = 1
	want := run(t, all, o)
	for _, workers := range []int{2, 7} {
		o.Workers = workers
		if got := run(t, all, o); !reflect.DeepEqual(got, want) {
			t.Errorf("%d workers give other results", workers)
		}
	}
	for _, i := range []int{0, 7, len(all) - 1} {
		if got := run(t, all[i:i+1], o); !reflect.DeepEqual(got[0], want[i]) {
			t.Errorf("cell %d alone gives %+v, want %+v", i, got[0], want[i])
		}
	}
	o.FirstSeed = 2
	if got := run(t, all[3:4], o); got[0].BySeed[0] != want[3].BySeed[1] || got[0].BySeed[1] != want[3].BySeed[2] {
		t.Errorf("seeds from 2: %v, from 1: %v", got[0].BySeed, want[3].BySeed)
	}
}

func TestRunErrors(t *testing.T) {
	o := options()
	testkit.Refused(study.Run(context.Background(), []study.Cell{{Scenario: "nowhere", Policy: "edf", Scale: 1}},
		o))(t, scenario.ErrUnknown)
	testkit.Refused(study.Run(context.Background(), []study.Cell{{Scenario: "own", Policy: "best", Scale: 1}},
		o))(t, `unknown policy "best"`)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	testkit.Refused(study.Run(ctx, few(t), o))(t, context.Canceled)
	o.Seeds = 0
	if _, err := study.Run(context.Background(), few(t), o); err == nil {
		t.Errorf("no seeds: no error")
	}
}

// TestContention: what streams of a device cost each other makes layers longer, as it does in the simulator.
func TestContention(t *testing.T) {
	cell := []study.Cell{{Scenario: "paper/mcv_heavy", Arrivals: traffic.Poisson, Scale: 0.8, Policy: "terastal"}}
	o := options()
	alone := run(t, cell, o)[0]
	o.Contention = []sim.Contention{{Accelerators: []int{0, 1}, Slowdown: []float64{0, 0.5}}}
	busy := func(r study.Result) (sum float64) {
		for _, x := range r.Utilization {
			sum += x
		}
		return sum
	}
	if crowded := run(t, cell, o)[0]; busy(crowded) < 1.02*busy(alone) || crowded.Miss <= alone.Miss {
		t.Errorf("alone %v and misses %v, with contention %v and %v", alone.Utilization, alone.Miss, crowded.Utilization,
			crowded.Miss)
	}
}

// TestForeignPolicy: a study takes policies that no name finds.
func TestForeignPolicy(t *testing.T) {
	o := options()
	o.Policies = map[string]sched.Constructor{"ours": sched.EDF}
	cell := study.Cell{Scenario: "own", Arrivals: traffic.Periodic, Scale: 1, Policy: "edf", Drop: sched.DropLate}
	ours := cell
	ours.Policy = "ours"
	r := run(t, []study.Cell{cell, ours}, o)
	if !slices.Equal(r[0].BySeed, r[1].BySeed) {
		t.Errorf("miss rates %v, the same policy by another name %v", r[0].BySeed, r[1].BySeed)
	}
}

// TestDurations: a study's own durations are used, by seed.
func TestDurations(t *testing.T) {
	o := options()
	o.Durations = func(seed uint64) sim.Durations {
		return func(time.Duration, sched.Dispatch) time.Duration { return time.Duration(seed) * 4 * time.Millisecond }
	}
	r := run(t, []study.Cell{{Scenario: "own", Arrivals: traffic.Periodic, Scale: 1, Policy: "edf",
		Drop: sched.DropLate}}, o)[0]
	if !(r.BySeed[0] < r.BySeed[1] && r.BySeed[1] < r.BySeed[2]) {
		t.Errorf("with longer layers by seed, miss rates %v", r.BySeed)
	}
}

func TestGrid(t *testing.T) {
	all := cells(t, small)
	if n := 2 * 5 * 2 * 2 * 1 * 3; len(all) != n {
		t.Errorf("%d cells, want %d", len(all), n)
	}
	if want := (study.Cell{Scenario: "own", Arrivals: traffic.Periodic, Scale: 1, Drop: sched.DropLate,
		Policy: "terastal"}); all[1] != want {
		t.Errorf("the second cell is %+v, want %+v", all[1], want)
	}
	for _, c := range []struct {
		change func(*study.Grid)
		want   string
	}{
		{func(g *study.Grid) { g.Traffics = []string{"rush"} }, `unknown traffic "rush"`},
		{func(g *study.Grid) { g.Scales = []float64{0} }, "scale 0"},
		{func(g *study.Grid) { g.Scales = []float64{math.NaN()} }, "scale NaN"},
		{func(g *study.Grid) { g.Scales = []float64{math.Inf(1)} }, "scale +Inf"},
		{func(g *study.Grid) { g.Noises = []float64{-1} }, "noise -1"},
		{func(g *study.Grid) { g.Noises = []float64{4} }, "noise 4"},
		{func(g *study.Grid) { g.Drops = []string{"never"} }, `"never"`},
		{func(g *study.Grid) { g.Floors = []float64{0, 1.01} }, "accuracy floor 1.01"},
		{func(g *study.Grid) { g.Floors = []float64{math.NaN()} }, "accuracy floor NaN"},
		{func(g *study.Grid) { g.Policies = []string{"best"} }, `unknown policy "best"`},
	} {
		g := small
		c.change(&g)
		testkit.Refused(g.Cells())(t, c.want)
	}
}

// TestShards: the shards are the grid, each cell once, policies together; each
// gives what the whole grid gives for its cells.
func TestShards(t *testing.T) {
	all := few(t)
	whole := run(t, all, options())
	for _, n := range []int{1, 3, 7, 100} {
		seen := map[study.Cell]int{}
		for i := 1; i <= n; i++ {
			part := study.Shard(all, i, n, len(small.Policies))
			for at, c := range part {
				seen[c]++
				if first := part[at/3*3]; c.Arrivals != first.Arrivals || c.Scale != first.Scale || c.Noise != first.Noise {
					t.Errorf("shard %d/%d splits the policies of %+v", i, n, c)
				}
			}
		}
		for _, c := range all {
			if seen[c] != 1 {
				t.Errorf("%d shards have %+v %d times", n, c, seen[c])
			}
		}
	}
	for _, r := range run(t, study.Shard(all, 2, 3, 3), options()) {
		if i := slices.Index(all, r.Cell); !reflect.DeepEqual(r, whole[i]) {
			t.Errorf("in a shard %+v, in the whole grid %+v", r, whole[i])
		}
	}
}

// TestCSV: one row per cell, with names that need escaping.
func TestCSV(t *testing.T) {
	results := run(t, []study.Cell{{Scenario: "own", Arrivals: traffic.Periodic, Scale: 1, Policy: "edf"}}, options())
	var b bytes.Buffer
	testkit.OK(t, study.WriteCSV(&b, results))
	want := "scenario,traffic,scale,load,noise,stalls,drop,policy,seeds,mean_miss_rate,low,high,miss_bound,normalized_accuracy," +
		"accuracy_floor,by_model,by_seed\nown,periodic,1,0.25,0,,none,edf,3,0.5,0.5,0.5,0,1,0,a=0/1 b+c%3Dd%2Fe=1/1,0.5 0.5 0.5\n"
	if b.String() != want {
		t.Errorf("wrote\n%swant\n%s", &b, want)
	}
}

// TestBound: at 6 times its rates, which take 1.5 times the accelerator's time, no schedule serves all.
func TestBound(t *testing.T) {
	r := run(t, []study.Cell{{Scenario: "own", Arrivals: traffic.Periodic, Scale: 6, Policy: "edf"}}, options())[0]
	// b costs 50/s of 1 ms at scale 1 and a 100/s of 2 ms, for half of the miss rate each:
	// all of b is served, and of a what fits into the rest, 0.7 of 1.2.
	if want := 0.5 * (1 - 0.7/1.2); math.Abs(r.Bound-want) > 1e-9 {
		t.Errorf("bound %v, want %v", r.Bound, want)
	}
}

func TestInterval(t *testing.T) {
	for _, c := range []struct {
		xs              []float64
		mean, low, high float64
	}{
		{[]float64{0.25}, 0.25, 0.25, 0.25},
		{[]float64{2, 2, 2}, 2, 2, 2},
		// t of 0.975: 12.706 with 1 degree of freedom, 2.7764 with 4.
		{[]float64{1, 3}, 2, 2 - 12.706205, 2 + 12.706205},
		{[]float64{1, 2, 3, 4, 5}, 3, 3 - 1.963243, 3 + 1.963243},
	} {
		mean, low, high := study.Interval(c.xs)
		for i, d := range []float64{mean - c.mean, low - c.low, high - c.high} {
			if !(math.Abs(d) < 1e-5) {
				t.Errorf("%v: value %d of %v, %v, %v is off by %v", c.xs, i, mean, low, high, d)
			}
		}
	}
}

func TestPaired(t *testing.T) {
	for _, c := range []struct {
		name string
		a, b []float64
		p    float64
	}{
		{"one pair", []float64{1}, []float64{2}, 1},
		{"equal", []float64{1, 2, 3}, []float64{1, 2, 3}, 1},
		{"always the same less", []float64{1, 2, 3}, []float64{2, 3, 4}, 0},
		// Differences 1, 2, 3: t = 2 sqrt 3 with 2 degrees of freedom.
		{"too few", []float64{2, 4, 6}, []float64{1, 2, 3}, 0.0741799},
		// Differences -1 to -4: t = 3.87298 with 3.
		{"enough", []float64{0, 0, 0, 0}, []float64{1, 2, 3, 4}, 0.0304662},
		{"as many as both have", []float64{1, 2, 3, 100}, []float64{2, 3, 4}, 0},
	} {
		if p := study.Paired(c.a, c.b); math.Abs(p-c.p) > 1e-6 {
			t.Errorf("%s: p %v, want %v", c.name, p, c.p)
		}
	}
}

// TestFloors: a floor is one more dimension of a grid. Every model that has variants gets it, the scenario that others
// share stays, and cells of a floor are those that a scenario with that floor has.
func TestFloors(t *testing.T) {
	s := testkit.Must(scenario.Load("paper/ar_social@4K"))(t)
	with := study.Floored(s.System, 0.99)
	for m := range s.System.Models {
		want := 0.0
		if s.System.Models[m].Variants > 0 {
			want = 0.99
		}
		if with.Models[m].Floor != want || s.System.Models[m].Floor != 0 {
			t.Errorf("%s has the floor %v, want %v, and the original %v", with.Models[m].Name, with.Models[m].Floor, want,
				s.System.Models[m].Floor)
		}
	}
	g := study.Grid{Scenarios: []string{"paper/ar_social@4K"}, Traffics: []string{"poisson"}, Scales: []float64{1.3},
		Noises: []float64{0}, Drops: []string{"late"}, Floors: []float64{0, 0.99}, Policies: []string{"edf", "pedf"}}
	all := cells(t, g)
	if len(all) != 4 || all[1].Floor != 0 || all[2].Floor != 0.99 || all[2].Policy != "edf" {
		t.Fatalf("cells %+v", all)
	}
	o := options()
	got := run(t, all, o)
	if !slices.Equal(got[0].BySeed, got[2].BySeed) {
		t.Errorf("EDF, which has no use for variants, misses %v without and %v with a floor", got[0].BySeed, got[2].BySeed)
	}
	for m, x := range got[3].Models {
		least := x.WorstWindow
		if x.AccuracyFloor != with.Models[m].Floor || (least != nil) != (x.AccuracyFloor > 0) ||
			least != nil && !(*least <= *x.DeliveredAccuracy && *x.DeliveredAccuracy <= 1) {
			t.Errorf("%s: floor %v, delivered %v, least window %v", x.Model, x.AccuracyFloor, x.DeliveredAccuracy, least)
		}
	}
	if x := got[1].Models[0]; x.DeliveredAccuracy != nil || x.WorstWindow != nil {
		t.Errorf("nothing was promised: %+v", x)
	}
	given := *s
	given.System = with
	o.Systems = map[string]scenario.Scenario{g.Scenarios[0]: given}
	for i, r := range run(t, all[:2], o) {
		if want := got[i+2]; !slices.Equal(r.BySeed, want.BySeed) || *r.Accuracy != *want.Accuracy {
			t.Errorf("%s with the scenario's own floor: %v, with the cell's %v", r.Policy, r.BySeed, want.BySeed)
		}
	}
}

// TestUnknownAccuracy: an accuracy that nobody measured stays unknown, in the mean and in the file.
func TestUnknownAccuracy(t *testing.T) {
	s := own("own")
	m := &s.System.Models[0]
	m.Variants, m.Valid = 1, []sched.VariantSet{1}
	m.Deadline = time.Millisecond // too little for the original
	m.Layers[0].Implementations = append(m.Layers[0].Implementations, sched.Implementation{Name: "v", Variant: 1,
		Latency: []time.Duration{time.Millisecond}})
	o := options()
	o.Systems = map[string]scenario.Scenario{"own": s}
	results := run(t, []study.Cell{{Scenario: "own", Arrivals: traffic.Periodic, Scale: 1, Policy: "terastal"}}, o)
	if r := results[0]; r.Accuracy != nil || r.Models[0].NormalizedAccuracy != nil || r.Models[0].VariantsUsed == 0 {
		t.Errorf("accuracy %v, of the models %+v", r.Accuracy, r.Models)
	}
	var b bytes.Buffer
	testkit.OK(t, study.WriteCSV(&b, results))
	if text := b.String(); !strings.Contains(text, ",unknown,") || !strings.Contains(text, "/unknown b") {
		t.Errorf("wrote %s", text)
	}
}

// TestStalls: accelerators that wait now and then miss more, by seed.
func TestStalls(t *testing.T) {
	cell := []study.Cell{{Scenario: "own", Arrivals: traffic.Poisson, Scale: 1, Policy: "edf"}}
	o := options()
	without := run(t, cell, o)[0]
	o.Stall, o.StallEvery = 50*time.Millisecond, 500*time.Millisecond
	with := run(t, cell, o)[0]
	// One request in ten arrives in a stall, and some right before one.
	if a, b := without.Models[0].MissRate, with.Models[0].MissRate; b < a+0.07 || b > a+0.25 {
		t.Errorf("a misses %v without stalls, %v with", a, b)
	}
	if without.Stalls != "" || with.Stalls != "50ms/500ms" {
		t.Errorf("stalls %q and %q", without.Stalls, with.Stalls)
	}
	o.Stall = time.Minute
	testkit.Refused(study.Run(context.Background(), cell, o))(t, "half of the period")
}

// TestLoads: loads are shares of each scenario's capacity, of its originals, also where deadlines bind: in the last one.
func TestLoads(t *testing.T) {
	s := study.Sweep{Part: "1/1", Loads: []float64{0.5, 0.9}, Grid: study.Grid{Traffics: []string{"poisson"},
		Scenarios: []string{"paper/mcv_heavy", "paper/ar_social@6K", "xrbench/social_interaction_A@4K"},
		Scales:    []float64{7}, Noises: []float64{0}, Drops: []string{"late"}, Policies: []string{"fcfs"}}}
	o := study.Options{Seeds: 1, Duration: 100 * time.Millisecond, Workers: 1}
	all := testkit.Must(s.Prepare(&o))(t)
	results := run(t, all, o)
	for i, want := range []float64{0.5, 0.9, 0.5, 0.9, 0.5, 0.9} {
		x := o.Systems[all[i].Scenario]
		full := testkit.Must(fluid.CapacityOf(testkit.Must(sched.Compile(x.System))(t), x.Rates))(t).Scale
		if unhurried := scale(t, &x); i == 5 && full > unhurried*0.999 {
			t.Errorf("%s: no deadline binds: capacity %v, without them %v", x.Name, full, unhurried)
		}
		if got := results[i].Load; math.Abs(got-want) > 1e-9 || math.Abs(all[i].Scale-want*full) > 1e-4 {
			t.Errorf("%s: load %v, scale %v, want %v of %v", all[i].Scenario, got, all[i].Scale, want, full)
		}
	}
	s.Loads[1] = -1
	testkit.Refused(s.Prepare(&o))(t, "load -1")
	s.Loads, o.Stall, o.StallEvery = nil, 3, 5
	testkit.Refused(s.Prepare(&o))(t, "half of the time between two")
}

// TestPoliciesKnowTheRates: as from a plan, unless the scenario's system says what they know.
func TestPoliciesKnowTheRates(t *testing.T) {
	o := options()
	var seen *sched.Pricing
	o.Policies = map[string]sched.Constructor{"ours": func(c sched.Config) (sched.Policy, error) {
		seen = c.Tables.System().Pricing
		return sched.EDF(c)
	}}
	cell := []study.Cell{{Scenario: "own", Arrivals: traffic.Periodic, Scale: 2, Policy: "ours"}}
	run(t, cell, o)
	if want := []float64{100, 50}; !slices.Equal(seen.Rates, want) {
		t.Errorf("rates %v, want %v", seen.Rates, want)
	}
	s := own("own")
	s.System.Pricing = &sched.Pricing{Rates: []float64{1, 2}, Prices: []float64{1}}
	o.Systems = map[string]scenario.Scenario{"own": s}
	run(t, cell, o)
	testkit.Equal(t, seen, s.System.Pricing)
}

package session

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/plan"
)

// unlike is a system of models with these latencies in ms by layer and accelerator, 0 for none, in which changes of
// accelerator take so many ms.
func unlike(handoff int, models ...[][]int) sched.System {
	var s sched.System
	for k := range models[0][0] {
		s.Accelerators = append(s.Accelerators, string(rune('a'+k)))
	}
	for i, layers := range models {
		m := sched.Model{Name: fmt.Sprint("m", i), Deadline: unbounded}
		for l, on := range layers {
			im := sched.Implementation{Name: "original"}
			var moves [][]time.Duration
			for k, c := range on {
				d := time.Duration(c) * time.Millisecond
				if c == 0 {
					d = sched.Unavailable
				}
				im.Latency = append(im.Latency, d)
				row := make([]time.Duration, len(on))
				for to := range row {
					if to != k {
						row[to] = time.Duration(handoff) * time.Millisecond
					}
				}
				moves = append(moves, row)
			}
			x := sched.Layer{Name: fmt.Sprint("l", l), Implementations: []sched.Implementation{im}}
			if handoff > 0 && l > 0 {
				x.Handoff = moves
			}
			m.Layers = append(m.Layers, x)
		}
		s.Models = append(s.Models, m)
	}
	return s
}

func profileOfSystem(t *testing.T, s sched.System) *profiler.Profile {
	t.Helper()
	return testkit.Must(profiler.FromSystem(&s, profiler.TableOptions{Source: "a test"}))(t)
}

// TestSkew: systems of which it is plain whether choosing layer by layer helps.
func TestSkew(t *testing.T) {
	opposite := [][]int{{10, 100}, {100, 10}}
	for _, c := range []struct {
		name      string
		system    sched.System
		whole     float64 // ms of the whole models where that was measured
		low, high float64
		helps     string
		verdict   string
	}{
		{"opposite tastes", unlike(0, opposite), 0, 5.5, 5.5, "yes", "it helps: choosing layer by layer serves 5.50 times"},
		{"a change costs all of it", unlike(200, opposite), 0, 1, 5.5, "perhaps", "serves 1.00 to 5.50 times"},
		{"alike", unlike(0, [][]int{{100, 100}, {100, 105}}), 0, 1.01, 1.01, "no", "the accelerators are alike, nine of ten layers " +
			"take at most 1.05 times"},
		{"one accelerator", unlike(0, [][]int{{10}, {100}}), 0, 1, 1, "no", "there is one accelerator"},
		{"whole models suit", unlike(0, [][]int{{10, 100}, {10, 100}}, [][]int{{100, 10}, {100, 10}}), 0, 1, 1, "no",
			"models balance the accelerators as well"},
		{"cutting costs more", unlike(0, opposite), 11, .55, .55, "no", "choosing gains 5.50 times, but cutting the models loses " +
			"more: layers in a row take up to 10.00 times as long as the whole model (m0 on a)"},
		{"cutting costs nearly as much", unlike(0, opposite), 20.5, 1.025, 1.025, "no", "loses nearly as much"},
		{"cutting costs something", unlike(0, [][]int{{10, 10}, {100, 100}}), 100, .91, .91, "no", "choosing gains nothing, and " +
			"cutting the models loses something: layers in a row take up to 1.10 times"},
		{"sessions with whole models are slower", unlike(0, opposite), 220, 5.5, 5.5, "yes", "5.50 times"},
		{"no accelerator runs all of it", unlike(0, [][]int{{10, 0}, {0, 10}}), 0, 0, 0, "yes", "not every model runs on one"},
	} {
		p := profileOfSystem(t, c.system)
		for k := range c.system.Accelerators {
			if c.whole > 0 {
				const sum = 110 * time.Millisecond
				p.Chains = append(p.Chains, profiler.Chain{Accelerator: k, Sum: sum * time.Duration(1+k), Chained: sum * time.Duration(2-k),
					Whole: time.Duration(c.whole * float64(time.Millisecond))})
			}
		}
		s := testkit.Must(SkewOf(&Given{Profile: p}, nil))(t)
		if math.Abs(s.Low-c.low) > .01 || math.Abs(s.High-c.high) > .01 || s.Helps != c.helps ||
			!strings.Contains(s.Verdict, c.verdict) {
			t.Errorf("%s: %.3f to %.3f, %s: %s", c.name, s.Low, s.High, s.Helps, s.Verdict)
		}
		if s.Assumed == "" || s.Deadlines != nil || !strings.Contains(s.Variants, "not known") {
			t.Errorf("%s: assumed %q, variants: %s", c.name, s.Assumed, s.Variants)
		}
	}
}

// TestSkewRounding: layer by layer never serves less than the same layers in a row, not by the last digit either.
func TestSkewRounding(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		models := make([][][]int, 1+r.IntN(5))
		var j judge
		for m := range models {
			models[m] = slices.Repeat([][]int{{1 + 3*(m%3), 1 + 3*((m+1)%3), 1 + 3*((m+2)%3)}}, 1+r.IntN(3))
			j.rates = append(j.rates, 1+10*r.Float64())
		}
		j.system = unlike(0, models...)
		if s := testkit.Must(j.skew())(t); s.High < 1 {
			t.Fatalf("%v at %v: %v", models, j.rates, s.High)
		}
	}
}

// TestSkewSpread: what is counted, and how.
func TestSkewSpread(t *testing.T) {
	system := unlike(0, [][]int{{1, 2, 2}, {5, 1, 1}, {0, 3, 3}, {1, 0, 0}, {0, 30, 30}}, [][]int{{10, 1, 1}})
	system.Devices = []sched.Device{{Name: "gpu", Accelerators: []int{1, 2}}}
	s := testkit.Must(PlanSkew(newSkewPlan(t, system), nil))(t)
	testkit.Equal(t, []string{"a", "gpu"}, s.Accelerators)
	testkit.Equal(t, []SkewBin{{2, 3, 1}, {3, 5, 0}, {5, 10, 1}, {10, 20, 1}}, s.Histogram)
	testkit.Equal(t, Spread{N: 3, Only: 3, Min: 2, P10: 2, P50: 5, P90: 10, Max: 10}, s.Layers)
	testkit.Equal(t, []int{2, 3}, s.Models[0].Fastest)
	if s.Models[0].Whole != "" || s.Models[1].Whole != "gpu" || s.Models[1].Saves != 0 {
		t.Errorf("%+v", s.Models)
	}
}

// TestSkewMeasured: with its profile, a plan's layers are compared by what they take alone.
func TestSkewMeasured(t *testing.T) {
	made := newSkewPlan(t, unlike(0, [][]int{{10, 20}}))
	s := testkit.Must(PlanSkew(made, profileOfSystem(t, unlike(0, [][]int{{10, 30}}))))(t)
	if s.Layers.P50 != 3 || math.Abs(s.Reaches[0].Scale-15) > .01 {
		t.Errorf("%+v", s)
	}
	if s = testkit.Must(PlanSkew(made, profileOfSystem(t, unlike(0, [][]int{{10, 30, 10}}))))(t); s.Layers.P50 != 3 {
		t.Errorf("a part of a profile does not do: %+v", s)
	}
}

func newSkewPlan(t *testing.T, s sched.System) *plan.Plan {
	t.Helper()
	models := make([]plan.Model, len(s.Models))
	for i := range models {
		models[i].Rate = 10
	}
	made, _ := testkit.Must2(plan.New(s, models, nil))(t)
	return made
}

// TestSkewDeadlines: rates and deadlines are the plan's; a whole model that is too slow for its own cannot be served.
func TestSkewDeadlines(t *testing.T) {
	system := unlike(0, [][]int{{10, 100}, {100, 10}})
	system.Models[0].Deadline = 100 * time.Millisecond
	s := testkit.Must(PlanSkew(newSkewPlan(t, system), nil))(t)
	if s.Helps != "yes" || !strings.Contains(s.Verdict, "as a whole m0 meets its deadline of 100ms nowhere, it takes 110ms") ||
		s.Assumed != "" || s.Rates[0] != 10 || s.Deadlines[0] != 100*time.Millisecond || s.High != 0 {
		t.Errorf("%+v", s)
	}
	system = unlike(0, [][]int{{10, 100}, {100, 10}}, [][]int{{10, 100}, {100, 10}})
	system.Models[0].Deadline, system.Models[1].Deadline = 15*time.Millisecond, 100*time.Millisecond // one is late anyhow
	if s = testkit.Must(PlanSkew(newSkewPlan(t, system), nil))(t); !strings.Contains(s.Verdict, "as a whole m1 meets") {
		t.Errorf("%+v", s)
	}
	system.Models = system.Models[:1] // nothing is in time, however it runs
	if s = testkit.Must(PlanSkew(newSkewPlan(t, system), nil))(t); math.Abs(s.High-5.5) > .01 || len(s.Hopeless) != 1 ||
		s.Hopeless[0].NeedsMS != 20 {
		t.Errorf("%+v", s)
	}
}

// TestSkewVariants: those in use count at the floor, candidates by what each loses, those of unknown accuracy as if they
// lost nothing, and refused ones not at all.
func TestSkewVariants(t *testing.T) {
	system := unlike(0, [][]int{{10}, {10}, {10}, {10}})
	m := &system.Models[0]
	m.Variants, m.Valid, m.Accuracy, m.Floor = 1, []sched.VariantSet{1}, []float64{.99}, .99
	m.Layers[0].Implementations = append(m.Layers[0].Implementations, sched.Implementation{Name: "v", Variant: 1,
		Latency: []time.Duration{5 * time.Millisecond}})
	made := newSkewPlan(t, system)
	check := func(want ...string) {
		t.Helper()
		s := testkit.Must(PlanSkew(made, nil))(t)
		for _, text := range want {
			if !strings.Contains(s.Variants, text) {
				t.Errorf("no %q in: %s", text, s.Variants)
			}
		}
	}
	check("The layer variants in use (1) raise the capacity to at most 1.14 times that of the originals (1.14 times what " +
		"whole models can), at the accuracy floors as configured.")
	one := []time.Duration{10 * time.Millisecond}
	half := []time.Duration{5 * time.Millisecond}
	made.Variants = []plan.Variants{{Model: "m0", Accelerators: []string{"a"}, Candidates: []plan.Variant{
		{Layer: 0, Latency: half, Original: one, Alone: .5}, // the next one is better
		{Layer: 0, Latency: half, Original: one, Alone: .99},
		{Layer: 1, Latency: half, Original: one, Alone: .98}, // one request in two uses it and the floor holds, or the first
		{Layer: 2, Latency: half, Original: one},
		{Layer: 3, Latency: half, Original: one, Refused: "it is wrong"},
		{Layer: 3, Latency: one, Original: half, Alone: 1},
	}}}
	check("at most 1.14 times", "All candidates that were measured (4) would raise it to at most 1.33 times (1.33 times what "+
		"whole models can), if those of "+
		"unknown accuracy (1) lost nothing.")
	for i := range sched.MaxBoundedVariants { // none is better than another
		made.Variants[0].Candidates = append(made.Variants[0].Candidates, plan.Variant{Layer: 3, Original: one, Alone: 1 -
			float64(i)/1000, Latency: []time.Duration{time.Duration(9000-i) * time.Microsecond}})
	}
	check("All candidates that were measured (68) would", "lost nothing; 3 of later layers are left out: it takes 64 of a "+
		"model at most.")
	p := profileOfSystem(t, system)
	s := testkit.Must(SkewOf(&Given{Profile: p}, nil))(t)
	if !strings.Contains(s.Variants, "(1.14 times what whole models can), whatever accuracy that leaves") {
		t.Error(s.Variants)
	}
}

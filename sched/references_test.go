package sched_test

import (
	"flag"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/sequential"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/sim"
	"github.com/terastal/terastal/sched/traffic"
	"pgregory.net/rapid"
)

// allPolicies are the names of all policies, those for whole models included.
func allPolicies() []string {
	var names []string
	for _, p := range sched.Policies() {
		names = append(names, p.Name, p.Name+"-model")
	}
	return names
}

// checkN runs a property on n random cases; under the race detector, which finds
// nothing where there are no goroutines, on a twentieth of them.
func checkN(t *testing.T, n int, property func(*rapid.T)) {
	t.Helper()
	if sequential.Race {
		n /= 20
	}
	checks := flag.Lookup("rapid.checks")
	before := checks.Value.String()
	if err := checks.Value.Set(strconv.Itoa(max(1, n))); err != nil {
		t.Fatal(err)
	}
	defer checks.Value.Set(before)
	rapid.Check(t, property)
}

// drawRichSystem draws a system that may have energies, triggers and additive
// accuracy bounds, too.
func drawRichSystem(t *rapid.T) sched.System {
	sys := drawSystem(t)
	for m := range sys.Models {
		model := &sys.Models[m]
		if chance(t, 40, "energy") {
			for range model.Layers {
				row := make([]float64, len(sys.Accelerators))
				for k := range row {
					row[k] = float64(number(t, 5, "energy"))
				}
				model.Energy = append(model.Energy, row)
			}
		}
		if m > 0 && chance(t, 25, "trigger") {
			model.Trigger = &sched.Trigger{Parent: sys.Models[number(t, m, "parent")].Name, Probability: []float64{0.25, 0.5, 1}[number(t, 3, "probability")]}
		}
		if model.Variants > 0 && chance(t, 30, "bound") {
			model.Valid, model.MaxLoss = nil, float64(number(t, 16, "most"))/64
			for range model.Variants {
				model.Loss = append(model.Loss, float64(number(t, 8, "loss"))/64)
			}
		}
	}
	return sys
}

// drawPricing computes prices for rates that deadlines do not tell.
func drawPricing(t *rapid.T, sys *sched.System) *sched.Pricing {
	var rates []float64
	for range sys.Models {
		rates = append(rates, float64(uint(1)<<number(t, 10, "rate")))
	}
	p, err := compile(t, *sys).NewPricing(rates)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// listedSets returns the system with every additive bound written out as the
// list of the sets that it allows.
func listedSets(sys sched.System) sched.System {
	sys.Models = slices.Clone(sys.Models)
	for m := range sys.Models {
		model := &sys.Models[m]
		if model.Loss == nil {
			continue
		}
		for set := range sched.VariantSet(1) << model.Variants {
			sum := 0.0
			for v, x := range model.Loss {
				if set&(1<<v) != 0 {
					sum += x
				}
			}
			if sum <= model.MaxLoss {
				model.Valid = append(model.Valid, set)
			}
		}
		model.Loss, model.MaxLoss = nil, 0
	}
	return sys
}

// against returns a policy that fails at its first decision that is not the
// plain one's, and a recorder that the engine has to have.
func against(t failer, sys *sched.System, fast sched.Policy, slow plain, next sched.Recorder) (sched.Policy, sched.Recorder) {
	policy := sched.Observed{Policy: fast,
		Selected: func(before, after *sched.State, out []sched.Choice) {
			if before.Now != after.Now || !slices.Equal(before.Jobs, after.Jobs) || !slices.Equal(before.Accelerators, after.Accelerators) {
				t.Fatalf("the policy changed the state from\n%+v to\n%+v", *before, *after)
			}
			if want := slow.choices(after); !slices.Equal(out, want) {
				t.Fatalf("system %+v\nstate %+v\nchose     %+v\nreference %+v", *sys, *after, out, want)
			}
		},
		Dropping: func(s *sched.State, job int, drop bool) {
			if want := slow.drops(s, job); drop != want {
				t.Fatalf("system %+v\nstate %+v\njob %d: dropped is %v, want %v", *sys, *s, job, drop, want)
			}
		}}
	return policy, teacher{slow, next, map[int32]sched.Record{}}
}

// teacher tells the plain policy how jobs end and how long layers take.
type teacher struct {
	plain
	next    sched.Recorder
	started map[int32]sched.Record // by accelerator
}

// pacer is a plain policy that wants to know how long layers take.
type pacer interface {
	paced(predicted, took time.Duration)
}

func (r teacher) Record(rec sched.Record) {
	switch rec.Kind {
	case sched.Dispatched:
		r.started[rec.Accelerator] = rec
	case sched.Completed:
		if p, ok := r.plain.(pacer); ok {
			d := r.started[rec.Accelerator]
			p.paced(d.Until-d.At, rec.At-d.At)
		}
	case sched.Ended:
		r.ended(int(rec.Model), rec.Outcome)
	}
	if r.next != nil {
		r.next.Record(rec)
	}
}

// newWhole makes a policy, or returns nil where it schedules whole models and one
// of them runs nowhere as a whole.
func newWhole(t failer, name string, tables *sched.Tables) sched.Policy {
	p, err := sched.NewPolicy(name, tables)
	if err != nil && !strings.HasSuffix(name, "-model") {
		t.Fatal(err)
	}
	if err != nil {
		return nil
	}
	return p
}

// TestReferences holds every policy against its plain form, one drawn policy per
// random system: -cases 50000 for the long run.
func TestReferences(t *testing.T) {
	names := append(allPolicies(), boundedRollout)
	ran := map[string]int{}
	checkN(t, *cases, func(t *rapid.T) {
		sys := drawRichSystem(t)
		if chance(t, 40, "pricing") {
			sys.Pricing = drawPricing(t, &sys)
		}
		name := rapid.SampledFrom(names).Draw(t, "policy")
		tables := compile(t, sys)
		fast := newWhole(t, name, tables)
		if fast == nil {
			return
		}
		ran[name]++
		listed := listedSets(sys)
		var log records
		cfg := drawConfig(drawn(t))
		cfg.Tables, cfg.Adapt = tables, false
		slow := newPlain(&listed, name)
		if c, ok := slow.(configured); ok {
			c.configure(cfg)
		}
		cfg.Policy, cfg.Recorder = against(t, &sys, fast, slow, &log)
		engine := newEngine(t, cfg)
		drive(drawn(t), &sys, engine)
		if n := engine.Active(); n != 0 {
			t.Fatalf("%d jobs are left after the end", n)
		}
		log.check(t, &listed, cfg)
	})
	t.Logf("decisions checked on systems, by policy: %v", ran)
	for _, name := range names {
		if !testing.Short() && !sequential.Race && ran[name] < *cases/len(names)/4 {
			t.Errorf("%s was held against its reference on %d systems only", name, ran[name])
		}
	}
}

// TestDREAMTunes holds DREAM against its plain form over thousands of requests,
// in which its weights have to move.
func TestDREAMTunes(t *testing.T) {
	sys := workload(3, 1)
	rng := rand.New(rand.NewPCG(5, 6))
	for m := range sys.Models {
		model := &sys.Models[m]
		model.Layers = model.Layers[:4]
		model.Deadline /= 4
		for range model.Layers {
			model.Energy = append(model.Energy, []float64{1 + rng.Float64(), 1 + 3*rng.Float64(), rng.Float64()})
		}
		if m%2 == 0 { // what it would cost there says nothing
			model.Layers[1].Implementations[0].Latency[2] = sched.Unavailable
		}
	}
	for _, name := range []string{"dream", "dream-model"} {
		traffic := traffic.Config{Rates: []float64{200, 200, 200, 200, 200}, Process: traffic.Poisson, Duration: 3 * time.Second, Seed: 1}
		arrivals, err := traffic.Arrivals()
		if err != nil {
			t.Fatal(err)
		}
		tables := compile(t, sys)
		slow := newPlain(&sys, name)
		policy, recorder := against(t, &sys, newPolicy(t, name, tables), slow, nil)
		if _, err := sim.Run(sim.Config{Arrivals: arrivals, Engine: sched.Config{Tables: tables, Policy: policy, Recorder: recorder, Drop: sched.DropLate}}); err != nil {
			t.Fatal(err)
		}
		if whole, ok := slow.(*plainWhole); ok {
			slow = whole.inner
		}
		// Had it not moved, its scores would say little about the tuner.
		if d := slow.(*plainDREAM); d.moves < 3 {
			t.Errorf("%s: the weights moved %d times in %d requests, to %v", name, d.moves, len(arrivals), d.centre)
		}
	}
}

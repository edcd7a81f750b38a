package policy

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/sequential"
	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/fluid"
	"github.com/terastal/terastal/sched/internal/schedtest"
	"github.com/terastal/terastal/sched/sim"
	"github.com/terastal/terastal/sched/traffic"
	"pgregory.net/rapid"
)

// allPolicies are the names of all policies, those for whole models included.
func allPolicies() []string {
	var names []string
	for _, p := range All() {
		names = append(names, p.Name, p.Name+"-model")
	}
	return names
}

// drawPricing computes prices for rates that deadlines do not tell.
func drawPricing(t *rapid.T, sys *sched.System) *sched.Pricing {
	var rates []float64
	for range sys.Models {
		rates = append(rates, float64(uint(1)<<schedtest.Number(t, 10, "rate")))
	}
	return testkit.Must(fluid.Price(schedtest.Compile(t, *sys), rates))(t)
}

// listedSets returns the system with every additive bound written out as the list of the sets that it allows.
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
				model.Valid, model.Accuracy = append(model.Valid, set), append(model.Accuracy, 1-sum)
			}
		}
		model.Loss, model.MaxLoss = nil, 0
	}
	return sys
}

// against makes a policy that fails at its first decision that is not the plain
// one's. Both are told how long layers take and how jobs end.
func against(t testkit.T, sys *sched.System, fast sched.Constructor, slow plain) sched.Constructor {
	return func(c sched.Config) (sched.Policy, error) {
		p, err := fast(c)
		o, _ := p.(sched.Observer)
		return compared{t, sys, p, o, slow}, err
	}
}

// compared is a policy that is held against its plain form.
type compared struct {
	t        testkit.T
	sys      *sched.System
	fast     sched.Policy
	observer sched.Observer // the same, if it is one
	slow     plain
}

func (c compared) Select(s *sched.State, out []sched.Choice) []sched.Choice {
	var before sched.State
	before.CopyFrom(s)
	out = c.fast.Select(s, out)
	if before.Now != s.Now || !slices.Equal(before.Jobs, s.Jobs) || !slices.Equal(before.Accelerators, s.Accelerators) {
		c.t.Fatalf("the policy changed the state from\n%+v to\n%+v", before, *s)
	}
	if want := c.slow.choices(s); !slices.Equal(out, want) {
		c.t.Fatalf("system %+v\nstate %+v\nchose     %+v\nreference %+v", *c.sys, *s, out, want)
	}
	return out
}

func (c compared) Completed(predicted, took time.Duration) {
	c.slow.paced(predicted, took)
	if c.observer != nil {
		c.observer.Completed(predicted, took)
	}
}

func (c compared) Ended(j sched.Job, o sched.Outcome, at time.Duration) {
	c.slow.ended(j, o, at)
	if c.observer != nil {
		c.observer.Ended(j, o, at)
	}
}

func (c compared) GiveUp(s *sched.State, from int) int {
	got, want := -1, -1
	if c.observer != nil {
		got = c.observer.GiveUp(s, from)
	}
	for i := from; i < len(s.Jobs) && want < 0; i++ {
		if s.Jobs[i].Waiting() && c.slow.drops(s, i) {
			want = i
		}
	}
	if got != want {
		c.t.Fatalf("system %+v\nstate %+v\ngives up %d from %d on, want %d", *c.sys, *s, got, from, want)
	}
	return got
}

// exists reports whether there is such a policy for the system: one that
// schedules whole models needs every one to run somewhere as a whole.
func exists(name string, tables *sched.Tables) bool {
	_, err := Named(name)(sched.Config{Tables: tables})
	return err == nil
}

// anySystem draws a system that may have whatever systems have.
func anySystem(t *rapid.T) sched.System {
	sys := schedtest.RichSystem(t)
	if schedtest.Chance(t, 40, "devices") {
		schedtest.Devices(t, &sys)
	}
	if schedtest.Chance(t, 60, "floors") {
		schedtest.Floors(t, &sys)
	}
	return sys
}

// hold drives a policy and its plain form, which reads the sets of variants from
// lists, through random events, and checks the records.
func hold(t *rapid.T, sys sched.System, fast sched.Constructor, slow func(*sched.System, sched.Config) plain) {
	holdFor(t, sys, fast, slow, 4+schedtest.Number(t, 40, "events"))
}

// holdFor is hold for so many events, and returns the records.
func holdFor(t *rapid.T, sys sched.System, fast sched.Constructor, slow func(*sched.System, sched.Config) plain,
	events int) records {
	listed := listedSets(sys)
	bound := func(m sched.Model) bool { return m.Loss != nil && m.Floor > 0 }
	if listed.Pricing == nil && slices.ContainsFunc(sys.Models, bound) { // prices from a list may be others just as good
		listed.Pricing = testkit.Must(fluid.PricesOf(schedtest.Compile(t, sys)))(t)
	}
	var log records
	cfg := schedtest.Config(t)
	cfg.Tables, cfg.Recorder, cfg.Adapt = schedtest.Compile(t, sys), &log, false
	cfg.Policy = against(t, &sys, fast, slow(&listed, cfg))
	schedtest.DriveLong(t, &sys, newEngine(t, cfg), events)
	log.check(t, &listed, cfg)
	return log
}

// TestReferences holds every policy against its plain form, one drawn policy per
// random system: -cases 50000 for the long run.
func TestReferences(t *testing.T) {
	names := append(allPolicies(), boundedRollout)
	ran := map[string]int{}
	schedtest.CheckN(t, *schedtest.Cases, func(t *rapid.T) {
		sys := anySystem(t)
		if schedtest.Chance(t, 40, "pricing") {
			sys.Pricing = drawPricing(t, &sys)
		}
		name := rapid.SampledFrom(names).Draw(t, "policy")
		fast := Named(name)
		if name == boundedRollout {
			fast = func(c sched.Config) (sched.Policy, error) { return newRollout(c, bounded()) }
		} else if !exists(name, schedtest.Compile(t, sys)) {
			return
		}
		ran[name]++
		hold(t, sys, fast, func(sys *sched.System, c sched.Config) plain { return newPlain(sys, name, c) })
	})
	t.Logf("decisions checked on systems, by policy: %v", ran)
	for _, name := range names {
		if !testing.Short() && !sequential.Race && ran[name] < *schedtest.Cases/len(names)/4 {
			t.Errorf("%s was held against its reference on %d systems only", name, ran[name])
		}
	}
}

// anyEngine drives any system under any configuration and policy with any
// events: nothing panics and the records hold together.
func anyEngine(t *rapid.T) {
	sys := anySystem(t)
	tables := schedtest.Compile(t, sys)
	name := rapid.SampledFrom(allPolicies()).Draw(t, "policy")
	if !exists(name, tables) {
		return
	}
	cfg := schedtest.Config(t)
	var log records
	cfg.Tables, cfg.Policy, cfg.Recorder = tables, Named(name), &log
	schedtest.Drive(t, &sys, newEngine(t, cfg))
	listed := listedSets(sys)
	log.check(t, &listed, cfg)
}

func TestAnyEngine(t *testing.T) { schedtest.Check(t, anyEngine) }

func FuzzEngine(f *testing.F) { f.Fuzz(rapid.MakeFuzz(anyEngine)) }

// TestDREAMTunes holds DREAM against its plain form over ten thousand requests, in which its weights have to move and
// its steps to shrink.
func TestDREAMTunes(t *testing.T) {
	sys := schedtest.Workload(3, 1)
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
		traffic := traffic.Config{Rates: []float64{200, 200, 200, 200, 200}, Process: traffic.Poisson,
			Duration: 10 * time.Second, Seed: 1}
		arrivals := testkit.Must(traffic.Arrivals())(t)
		slow := newPlain(&sys, name, sched.Config{})
		of := against(t, &sys, Named(name), slow)
		testkit.Must(sim.Run(sim.Config{Arrivals: arrivals,
			Engine: sched.Config{Tables: schedtest.Compile(t, sys), Policy: of, Drop: sched.DropLate}}))(t)
		if whole, ok := slow.(*plainWhole); ok {
			slow = whole.inner
		}
		// Had they not, its scores would say little about the tuner.
		if d := slow.(*plainDREAM); d.moves < 3 || d.step > 0.25 {
			t.Errorf("%s: in %d requests the weights moved %d times, to %v, by steps that shrank to %v", name, len(arrivals),
				d.moves, d.centre, d.step)
		}
	}
}

// TestPricedRules holds every rule of the family against its plain form.
func TestPricedRules(t *testing.T) {
	schedtest.CheckN(t, *schedtest.Cases, func(t *rapid.T) {
		sys := anySystem(t)
		o := ruleOptions{order: order(schedtest.Number(t, 6, "order")), gain: float64(schedtest.Number(t, 9, "gain")),
			caution:   float64(schedtest.Number(t, 3, "caution")) / 2,
			margin:    float64(schedtest.Number(t, 4, "margin")) / 3,
			admission: schedtest.Chance(t, 50, "admission"), dynamic: schedtest.Chance(t, 50, "dynamic")}
		hold(t, sys, func(c sched.Config) (sched.Policy, error) {
			p, err := newPriced(c.Tables, false)
			return pedf{newPricedRule(p, &c, o)}, err
		}, func(sys *sched.System, c sched.Config) plain { return newPlainRule(sys, o, c, false) })
	})
}

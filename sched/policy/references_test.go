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

// against makes a policy that fails at its first decision that is not the plain
// one's, and a recorder that the engine has to have.
func against(t testkit.T, sys *sched.System, fast sched.Constructor, slow plain,
	next sched.Recorder) (sched.Constructor, sched.Recorder) {
	of := func(c sched.Config) (sched.Policy, error) {
		p, err := fast(c)
		return compared{t, sys, p, slow}, err
	}
	return of, teacher{slow, next, map[int32]sched.Record{}}
}

// compared is a policy that is held against its plain form.
type compared struct {
	t    testkit.T
	sys  *sched.System
	fast sched.Policy
	slow plain
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
	if o, ok := c.fast.(sched.Observer); ok {
		o.Completed(predicted, took)
	}
}

func (c compared) Ended(j sched.Job, o sched.Outcome, at time.Duration) {
	if f, ok := c.fast.(sched.Observer); ok {
		f.Ended(j, o, at)
	}
}

func (c compared) GiveUp(s *sched.State, from int) int {
	got, want := -1, -1
	if o, ok := c.fast.(sched.Observer); ok {
		got = o.GiveUp(s, from)
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

// exists reports whether there is such a policy for the system: one that
// schedules whole models needs every one to run somewhere as a whole.
func exists(name string, tables *sched.Tables) bool {
	_, err := Named(name)(sched.Config{Tables: tables})
	return err == nil
}

// TestReferences holds every policy against its plain form, one drawn policy per
// random system: -cases 50000 for the long run.
func TestReferences(t *testing.T) {
	names := append(allPolicies(), boundedRollout)
	ran := map[string]int{}
	schedtest.CheckN(t, *schedtest.Cases, func(t *rapid.T) {
		sys := schedtest.RichSystem(t)
		if schedtest.Chance(t, 40, "pricing") {
			sys.Pricing = drawPricing(t, &sys)
		}
		name := rapid.SampledFrom(names).Draw(t, "policy")
		tables := schedtest.Compile(t, sys)
		fast := Named(name)
		if name == boundedRollout {
			fast = func(c sched.Config) (sched.Policy, error) { return newRollout(c, bounded()) }
		} else if !exists(name, tables) {
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
		if !testing.Short() && !sequential.Race && ran[name] < *schedtest.Cases/len(names)/4 {
			t.Errorf("%s was held against its reference on %d systems only", name, ran[name])
		}
	}
}

// TestDREAMTunes holds DREAM against its plain form over thousands of requests,
// in which its weights have to move.
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
			Duration: 3 * time.Second, Seed: 1}
		arrivals := testkit.Must(traffic.Arrivals())(t)
		tables := schedtest.Compile(t, sys)
		slow := newPlain(&sys, name)
		of, recorder := against(t, &sys, Named(name), slow, nil)
		testkit.Must(sim.Run(sim.Config{Arrivals: arrivals,
			Engine: sched.Config{Tables: tables, Policy: of, Recorder: recorder, Drop: sched.DropLate}}))(t)
		if whole, ok := slow.(*plainWhole); ok {
			slow = whole.inner
		}
		// Had it not moved, its scores would say little about the tuner.
		if d := slow.(*plainDREAM); d.moves < 3 {
			t.Errorf("%s: the weights moved %d times in %d requests, to %v", name, d.moves, len(arrivals), d.centre)
		}
	}
}

// TestPricedRules holds every rule of the family against its plain form.
func TestPricedRules(t *testing.T) {
	schedtest.CheckN(t, *schedtest.Cases, func(t *rapid.T) {
		sys := schedtest.RichSystem(t)
		tables := schedtest.Compile(t, sys)
		o := ruleOptions{order: order(schedtest.Number(t, 6, "order")), gain: float64(schedtest.Number(t, 9, "gain")),
			caution:   float64(schedtest.Number(t, 3, "caution")) / 2,
			admission: schedtest.Chance(t, 50, "admission"), dynamic: schedtest.Chance(t, 50, "dynamic")}
		listed := listedSets(sys)
		cfg := drawConfig(drawn(t))
		cfg.Tables, cfg.Adapt = tables, false
		slow := newPlainRule(&listed, o)
		slow.configure(cfg)
		rule := func(c sched.Config) (sched.Policy, error) {
			p, err := newPriced(c.Tables)
			return pedf{newPricedRule(p, &c, o)}, err
		}
		var log records
		cfg.Policy, cfg.Recorder = against(t, &sys, rule, slow, &log)
		engine := newEngine(t, cfg)
		drive(drawn(t), &sys, engine)
		log.check(t, &listed, cfg)
	})
}

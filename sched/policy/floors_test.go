package policy

import (
	"math"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/sequential"
	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/internal/schedtest"
	"github.com/terastal/terastal/sched/traffic"
	"pgregory.net/rapid"
)

// spenders are the policies that spend accuracy.
func spenders() (names []string) {
	for _, p := range All() {
		if p.Spends {
			names = append(names, p.Name)
		}
	}
	return names
}

// full reports whether a test runs on so many systems that some of them are of every kind.
func full() bool { return !testing.Short() && !sequential.Race }

// tempting draws a system in which variants are worth their accuracy: models have floors, variants are quick, and any of
// them go together.
func tempting(t *rapid.T) sched.System {
	sys := schedtest.System(t)
	for m := range sys.Models {
		model := &sys.Models[m]
		model.Floor = rapid.SampledFrom([]float64{0.5, 0.25, 0.75, 0.9, 0.97, 0.99}).Draw(t, "floor")
		model.Valid, model.Accuracy, model.Variants = nil, nil, len(model.Layers)
		for l := range model.Layers {
			layer := &model.Layers[l]
			quick := sched.Implementation{Name: "quick", Variant: l + 1}
			for _, c := range layer.Implementations[0].Latency {
				if c == sched.Unavailable || schedtest.Chance(t, 20, "new place") {
					c = time.Duration(1+schedtest.Number(t, 8, "latency")) * time.Millisecond
				}
				quick.Latency = append(quick.Latency, max(1, c/time.Duration(1+schedtest.Number(t, 4, "times as quick"))))
			}
			layer.Implementations = append(layer.Implementations[:1], quick)
		}
		if schedtest.Chance(t, 25, "bound") {
			model.MaxLoss = 1
			for range model.Variants {
				model.Loss = append(model.Loss, float64(1+schedtest.Number(t, 8, "loss"))/64)
			}
			continue
		}
		for set := range sched.VariantSet(1) << model.Variants {
			model.Valid = append(model.Valid, set)
			model.Accuracy = append(model.Accuracy, 1)
			if set > 0 {
				model.Accuracy[set] = rapid.SampledFrom([]float64{0.97, 0.95, 0.9, 0.99, 0.75, 0.5, 1}).Draw(t, "accuracy")
			}
		}
	}
	return sys
}

// variantsUsed counts the dispatches of variants.
func (l records) variantsUsed() (n int) {
	for _, r := range l {
		if r.Kind == sched.Dispatched && r.Implementation > 0 {
			n++
		}
	}
	return n
}

// TestSpendersReferences holds the policies that spend accuracy against their plain forms where they spend much, for
// long.
func TestSpendersReferences(t *testing.T) {
	used := map[string]int{}
	for _, name := range append(spenders(), boundedRollout) {
		in := 10
		if name == "rollout" {
			in = 20
		}
		t.Run(name, func(t *testing.T) {
			schedtest.CheckSome(t, in, func(t *rapid.T) {
				sys := tempting(t)
				fast := Named(name)
				if name == boundedRollout {
					fast = func(c sched.Config) (sched.Policy, error) { return newRollout(c, bounded()) }
				}
				log := holdFor(t, sys, fast, func(sys *sched.System, c sched.Config) plain { return newPlain(sys, name, c) },
					20+schedtest.Number(t, 200, "events"))
				used[name] += log.variantsUsed()
			})
		})
	}
	t.Logf("variants used: %v", used)
}

// TestLedger holds a ledger against one that remembers everything, over more than a window.
func TestLedger(t *testing.T) {
	schedtest.CheckSome(t, 10, func(t *rapid.T) {
		sys := tempting(t)
		sys.Models = sys.Models[:1]
		listed := listedSets(sys)
		fast := newLedger(&sys.Models[0])
		slow := newPlainAccounts(&listed, []float64{1, 1, 1, 1}, false)
		var s sched.State
		variants := len(sys.Models[0].Layers)
		for range 600 {
			switch n := len(s.Jobs); {
			case n == 0 || schedtest.Chance(t, 30, "release"):
				s.Jobs = append(s.Jobs, sched.Job{})
			case schedtest.Chance(t, 50, "spend"):
				j := &s.Jobs[schedtest.Number(t, n, "job")]
				v := 1 + schedtest.Number(t, variants, "variant")
				d, ok := fast.more(j.Used, 1<<(v-1))
				if want, allowed := slow.costs(&s, *j, v); d != want || ok != allowed {
					t.Fatalf("system %+v: variant %d of %+v costs %d, %v, want %d, %v", sys, v, j, d, ok, want, allowed)
				}
				if ok {
					j.Used |= 1 << (v - 1)
					fast.owed += d
				}
			default:
				i := schedtest.Number(t, n, "job")
				o := rapid.SampledFrom([]sched.Outcome{sched.Met, sched.Late, sched.Met, sched.Dropped, sched.Failed}).Draw(t, "outcome")
				fast.ended(s.Jobs[i].Used, o)
				slow.ended(s.Jobs[i], o, 0)
				s.Jobs = slices.Delete(s.Jobs, i, i+1)
			}
			if owed, limit := slow.owed(&s, 0), slow.limit(0); fast.owed != owed || fast.limit != limit || owed > limit {
				t.Fatalf("system %+v: %d of %d is owed, want %d of %d", sys, fast.owed, fast.limit, owed, limit)
			}
		}
	})
}

// TestUnusableSets: a set of which nobody knows what it loses is used at no balance, nor one that loses more than a ledger
// can count.
func TestUnusableSets(t *testing.T) {
	for name, m := range map[string]sched.Model{
		"no accuracies":    {Valid: []sched.VariantSet{1}},
		"not a number":     {Valid: []sched.VariantSet{1}, Accuracy: []float64{math.NaN()}},
		"minus a million":  {Valid: []sched.VariantSet{1}, Accuracy: []float64{-1e6}},
		"an infinite loss": {Loss: []float64{math.Inf(1)}, MaxLoss: math.Inf(1)},
		"not listed":       {},
	} {
		m.Floor, m.Variants = 0.01, 1
		l := newLedger(&m)
		for range sched.AccuracyWindow {
			l.ended(0, sched.Met)
		}
		if d, ok := l.more(0, 1); ok {
			t.Errorf("%s: may be used, for %d of %d", name, d, l.limit)
		}
	}
}

// TestLossesAreExact: what a ledger counts is never less than what was lost, nor does a floor allow more, but for what
// floating point adds to decimals; of these nothing is lost either.
func TestLossesAreExact(t *testing.T) {
	off := func(counted int64, of *big.Rat) float64 {
		x, _ := new(big.Rat).Sub(big.NewRat(counted, whole), of).Float64()
		return x
	}
	rat := func(x float64) *big.Rat { return new(big.Rat).SetFloat64(x) }
	one := big.NewRat(1, 1)
	for n := range int64(100_001) {
		x := float64(n) / 100_000
		m := sched.Model{Floor: x, Variants: 1, Valid: []sched.VariantSet{1}, Accuracy: []float64{x}}
		if n == 0 || n == 100_000 {
			m.Floor = 0.5
		}
		l := newLedger(&m)
		if got, want := l.loss(1), (100_000-n)*10_000; got != want {
			t.Fatalf("accuracy %v loses %d, want %d", x, got, want)
		}
		if want := (100_000 - n) * 10_000; m.Floor == x && l.allowance != want {
			t.Fatalf("floor %v allows %d, want %d", x, l.allowance, want)
		}
	}
	schedtest.Check(t, func(t *rapid.T) {
		x := rapid.Float64Range(1e-6, 1-1e-6).Draw(t, "accuracy")
		l := newLedger(&sched.Model{Floor: x, Variants: 1, Valid: []sched.VariantSet{1}, Accuracy: []float64{x}})
		lost := new(big.Rat).Sub(one, rat(x))
		if d := off(l.loss(1), lost); d < -2e-12 || d > 1e-9 {
			t.Fatalf("accuracy %v loses %d, which is %v more", x, l.loss(1), d)
		}
		if d := off(l.allowance, lost); d > 2e-12 || d < -1e-9 {
			t.Fatalf("floor %v allows %d, which is %v more", x, l.allowance, d)
		}
		bound := newLedger(&sched.Model{Floor: 0.5, Variants: 1, Loss: []float64{x}, MaxLoss: 1})
		if d := off(bound.loss(1), rat(x)); d < -2e-12 || d > 1e-9 {
			t.Fatalf("loss %v counts as %d, which is %v more", x, bound.loss(1), d)
		}
	})
}

// lost is what each finished request of the model lost, in the order in which they finished.
func (l records) lost(sys *sched.System, model int32) (out []float64) {
	used := map[int64]sched.VariantSet{}
	m := &sys.Models[model]
	for _, r := range l {
		switch {
		case r.Model != model:
		case r.Kind == sched.Dispatched && r.Implementation > 0:
			used[r.Job] |= 1 << (m.Layers[r.Layer].Implementations[r.Implementation].Variant - 1)
		case r.Kind == sched.Ended && (r.Outcome == sched.Met || r.Outcome == sched.Late):
			sum, set := 0.0, used[r.Job]
			for v := range m.Loss {
				if set&(1<<v) != 0 {
					sum += m.Loss[v]
				}
			}
			if at := slices.Index(m.Valid, set); m.Loss == nil && set != 0 {
				sum = 2 // unknown
				if m.Accuracy != nil {
					sum = max(0, 1-m.Accuracy[at])
				}
			}
			out = append(out, sum)
		}
	}
	return out
}

// broken says which window or prefix of a log breaks a floor, if any does.
func (l records) broken(sys *sched.System) (model, from, to int) {
	for m := range sys.Models {
		floor := sys.Models[m].Floor
		if floor == 0 {
			continue
		}
		lost := l.lost(sys, int32(m))
		for end := range lost {
			sum := 0.0
			for n := end; n >= 0; n-- {
				sum += lost[n]
				size := end - n + 1
				if (n == 0 || size == sched.AccuracyWindow) && 1-sum/float64(size) < floor-1e-9 {
					return m, n, end
				}
			}
		}
	}
	return -1, 0, 0
}

// TestFloorsHold: no policy that spends accuracy breaks a floor, in no window of finished requests and no prefix,
// whatever happens: drops, failures, layers that run again, accelerators that leave, triggers, devices, a stop.
func TestFloorsHold(t *testing.T) {
	for _, name := range spenders() {
		spent, windows := 0, 0
		t.Run(name, func(t *testing.T) {
			in := 10
			if name == "rollout" {
				in = 50
			}
			schedtest.CheckSome(t, in, func(t *rapid.T) {
				sys := anySystem(t)
				if schedtest.Chance(t, 75, "tempting") {
					sys = tempting(t)
					if schedtest.Chance(t, 30, "devices") {
						schedtest.Devices(t, &sys)
					}
				}
				cfg := schedtest.Config(t)
				var log records
				cfg.Tables, cfg.Policy, cfg.Recorder = schedtest.Compile(t, sys), Named(name), &log
				cfg.Until *= 100
				schedtest.DriveLong(t, &sys, newEngine(t, cfg), rapid.SampledFrom([]int{1500, 200, 40}).Draw(t, "events"))
				if m, from, to := log.broken(&sys); m >= 0 {
					t.Fatalf("system %+v: requests %d to %d of model %d lost %v", sys, from, to, m, log.lost(&sys, int32(m))[from:to+1])
				}
				spent += log.variantsUsed()
				for m := range sys.Models {
					if len(log.lost(&sys, int32(m))) > sched.AccuracyWindow {
						windows++
					}
				}
			})
			t.Logf("%d variants were used, %d models finished more than a window", spent, windows)
			if full() && (spent < 100 || windows == 0) {
				t.Errorf("%d variants were used, %d models finished more than a window", spent, windows)
			}
		})
	}
}

// together is two policies that have to choose alike.
type together struct {
	t   testkit.T
	sys *sched.System
	is  [2]sched.Policy
}

func (p together) Select(s *sched.State, out []sched.Choice) []sched.Choice {
	other := p.is[1].Select(s, nil)
	if out = p.is[0].Select(s, out); !slices.Equal(out, other) {
		p.t.Fatalf("system %+v\nstate %+v\nchose %+v\nother %+v", *p.sys, *s, out, other)
	}
	return out
}

func (p together) Completed(predicted, took time.Duration) {
	for _, x := range p.is {
		if o, ok := x.(sched.Observer); ok {
			o.Completed(predicted, took)
		}
	}
}

func (p together) Ended(j sched.Job, outcome sched.Outcome, at time.Duration) {
	for _, x := range p.is {
		if o, ok := x.(sched.Observer); ok {
			o.Ended(j, outcome, at)
		}
	}
}

func (p together) GiveUp(*sched.State, int) int { return -1 }

// TestFloorOfOne: where the whole accuracy is promised, policies that spend accuracy choose like those without variants.
func TestFloorOfOne(t *testing.T) {
	for name, other := range map[string]string{"pedf": "pedf-novariants", "rollout": "rollout-novariants",
		"terastal-budget": "terastal-novariants"} {
		t.Run(name, func(t *testing.T) {
			schedtest.CheckSome(t, 10, func(t *rapid.T) {
				sys := anySystem(t)
				if schedtest.Chance(t, 50, "tempting") {
					sys = tempting(t)
				}
				for m := range sys.Models {
					sys.Models[m].Floor = 1
				}
				cfg := schedtest.Config(t)
				cfg.Tables = schedtest.Compile(t, sys)
				cfg.Policy = func(c sched.Config) (sched.Policy, error) {
					return together{t, &sys, [2]sched.Policy{testkit.Must(Named(name)(c))(t), testkit.Must(Named(other)(c))(t)}}, nil
				}
				schedtest.DriveLong(t, &sys, newEngine(t, cfg), 100)
			})
		})
	}
}

// pressed is a policy whose choices are looked at.
type pressed struct {
	sched.Policy
	look func(s *sched.State, c sched.Choice)
}

func (p pressed) Select(s *sched.State, out []sched.Choice) []sched.Choice {
	out = p.Policy.Select(s, out)
	for _, c := range out {
		p.look(s, c)
	}
	return out
}

func (p pressed) Completed(predicted, took time.Duration) {
	p.Policy.(sched.Observer).Completed(predicted, took)
}
func (p pressed) Ended(j sched.Job, o sched.Outcome, at time.Duration) {
	p.Policy.(sched.Observer).Ended(j, o, at)
}
func (p pressed) GiveUp(*sched.State, int) int { return -1 }

// TestFreeVariants: where variants lose nothing and time presses, every layer runs as the quickest implementation on its
// accelerator that is allowed.
func TestFreeVariants(t *testing.T) {
	for _, name := range []string{"pedf", "terastal-budget"} {
		pressing, quicker := 0, 0
		schedtest.CheckSome(t, 10, func(t *rapid.T) {
			sys := tempting(t)
			for m := range sys.Models {
				model := &sys.Models[m]
				for i := range model.Accuracy {
					model.Accuracy[i] = 1
				}
				clear(model.Loss)
			}
			cfg := schedtest.Config(t)
			cfg.Tables, cfg.Adapt = schedtest.Compile(t, sys), false
			cfg.Policy = func(c sched.Config) (sched.Policy, error) {
				p := testkit.Must(Named(name)(c))(t)
				var a *accounts
				switch x := p.(type) {
				case pedf:
					a = x.accounts
				case budgeted:
					a = x.accounts
				}
				return pressed{p, func(s *sched.State, c sched.Choice) {
					j := s.Jobs[c.Job]
					if !a.presses(s.Now, j.Model) {
						return
					}
					pressing++
					if c.Implementation > 0 {
						quicker++
					}
					m := cfg.Tables.Model(j.Model)
					took := m.Latency(j.Layer, c.Implementation)[c.Accelerator]
					for i := range m.Implementations(j.Layer) {
						if x := m.Latency(j.Layer, i)[c.Accelerator]; x < took {
							t.Fatalf("system %+v\nstate %+v\nchose %+v, implementation %d takes %v, not %v", sys, *s, c, i, x, took)
						}
					}
				}}, nil
			}
			schedtest.DriveLong(t, &sys, newEngine(t, cfg), 100)
		})
		if full() && (pressing < 100 || quicker == 0) {
			t.Errorf("%s: time pressed in %d choices, %d of them variants", name, pressing, quicker)
		}
	}
}

// TestLightLoad: requests that come one at a time, with time enough for originals, get originals.
func TestLightLoad(t *testing.T) {
	for _, name := range spenders() {
		t.Run(name, func(t *testing.T) {
			schedtest.CheckSome(t, 25, func(t *rapid.T) {
				sys := tempting(t)
				var arrivals []traffic.Arrival
				var now, most time.Duration
				for m := range sys.Models {
					model := &sys.Models[m]
					model.Deadline = 8 * 4 * 10 * time.Millisecond // what the slowest originals and handoffs take, and more
					most = max(most, model.Deadline)
				}
				for range 2 + schedtest.Number(t, 30, "requests") {
					arrivals = append(arrivals, traffic.Arrival{At: now, Model: schedtest.Number(t, len(sys.Models), "model")})
					now += most / 2 * time.Duration(1+schedtest.Number(t, 4, "gap"))
				}
				log := simulate(t, sys, name, sched.DropPolicy(schedtest.Number(t, 3, "drop")), arrivals, 0)
				if log.variantsUsed() > 0 {
					t.Fatalf("system %+v\narrivals %+v: variants were used: %+v", sys, arrivals, log)
				}
			})
		})
	}
}

package policy

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/terastal/terastal/internal/sequential"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/internal/schedtest"
	"pgregory.net/rapid"
)

// TestLawsWholeModels: the laws hold for the versions of the policies that
// schedule whole models.
func TestLawsWholeModels(t *testing.T) {
	for _, law := range laws {
		t.Run(law.name, func(t *testing.T) {
			schedtest.CheckN(t, *schedtest.Cases, func(t *rapid.T) {
				base := rapid.SampledFrom(All()).Draw(t, "policy").Name
				if len(law.policies) > 0 && !slices.Contains(law.policies, base) {
					return
				}
				law.check(t, base+"-model")
			})
		})
	}
}

// TestIgnoredVariants: policies that use originals only do the same where there
// are no variants.
func TestIgnoredVariants(t *testing.T) {
	schedtest.CheckN(t, *schedtest.Cases, func(t *rapid.T) {
		name := rapid.SampledFrom(allPolicies()).Draw(t, "policy")
		if usesVariants(name) {
			return
		}
		sys := schedtest.RichSystem(t)
		if !exists(name, schedtest.Compile(t, sys)) {
			return
		}
		arrivals := schedtest.Arrivals(t, &sys)
		drop := sched.DropPolicy(schedtest.Number(t, 2, "drop")) // whether a job has hope depends on the variants
		want := simulate(t, sys, name, drop, arrivals)
		if got := simulate(t, *withoutVariants(&sys), name, drop, arrivals); !slices.Equal(got, want) {
			t.Fatalf("%s: %+v\nwithout variants %+v", name, want, got)
		}
	})
}

// usesVariants reports whether a policy may choose variants.
func usesVariants(name string) bool {
	return !strings.HasSuffix(name, "-model") && name != "terastal-novariants" &&
		(strings.HasPrefix(name, "terastal") || name == "pedf" || name == "rollout")
}

// TestStepAllocations: a step of an engine that has seen its load allocates
// nothing, whatever the policy, with energies, triggers, a closed loop, bounds and
// adaptation, and without.
func TestStepAllocations(t *testing.T) {
	sequential.Skip(t)
	sys := schedtest.Workload(4, 3)
	for m := range sys.Models {
		model := &sys.Models[m]
		for range model.Layers {
			model.Energy = append(model.Energy, []float64{1, 2, 3, 4})
		}
		if m%2 == 0 {
			model.Valid, model.Loss, model.MaxLoss = nil, make([]float64, model.Variants), 1
		}
	}
	sys.Models[4].Trigger = &sched.Trigger{Parent: sys.Models[0].Name, Probability: 0.5}
	for _, name := range allPolicies() {
		for _, drop := range []sched.DropPolicy{sched.DropNone, sched.DropLate, sched.DropHopeless} {
			if testing.Short() && drop != sched.DropLate {
				continue
			}
			tables := schedtest.Compile(t, sys)
			cfg := sched.Config{Tables: tables, Policy: Named(name), Drop: drop, Queue: 8, Adapt: true, ClosedLoop: true}
			if drop == sched.DropHopeless {
				cfg.Queue, cfg.Adapt, cfg.ClosedLoop = 0, false, false
			}
			m := newTreadmill(t, sys, name, drop, 32)
			m.engine = newEngine(t, cfg)
			warm, steps := 4000, 2000
			if strings.HasPrefix(name, "rollout") { // thousands of rolled steps each
				warm, steps = 500, 15
			}
			for range warm {
				m.step()
			}
			// One run of many steps, since AllocsPerRun rounds the mean down. It
			// counts what the runtime allocates meanwhile, too, so that one run
			// of three has to be free of allocations.
			least := math.Inf(1)
			for range 3 {
				least = min(least, testing.AllocsPerRun(1, func() {
					for range steps {
						m.step()
					}
				}))
			}
			if least != 0 {
				t.Errorf("%s, drop %v: %d steps allocate %v times", name, drop, steps, least)
			}
		}
	}
}

// Package policy holds scheduling policies besides the published ones of package sched, and finds all of them by name.
// They use nothing of sched that a policy from anywhere else could not use.
//
// Two are our own. Priced EDF ([PEDF]) weighs accelerators by the shadow prices of the fluid linear program (package
// sched/fluid) and admits requests by Moore and Hodgson's rule. Rollouts ([Rollout]) simulate many rules ahead on
// copies of the engine's state and dispatch by the best.
package policy

import (
	"fmt"
	"strings"

	"github.com/terastal/terastal/sched"
)

// Info describes a policy that is found by name.
type Info struct {
	Name  string // as typed on the command line
	Short string // one line
	New   sched.Constructor
}

// All lists the policies in the order in which they are shown. Each also exists
// as NAME-model, which schedules whole models instead of layers; see [Whole].
func All() []Info {
	return []Info{
		{"fcfs", "first come, first served: by release, each on the fastest idle accelerator", sched.FCFS},
		{"edf", "earliest deadline first, each on the fastest idle accelerator", sched.EDF},
		{"llf", "least laxity first, each on the fastest idle accelerator", sched.LLF},
		{"heft", "earliest finish time by upward rank, waiting for busy accelerators (HEFT)", HEFT},
		{"dream", "MapScore with online tuning and smart frame drop (DREAM, ASPLOS 2023, as recalled)", DREAM},
		{"terastal", "virtual budgets, layer variants and slack (arXiv 2606.06818, Algorithm 2)", sched.Terastal},
		{"terastal-novariants", "terastal without layer variants", sched.TerastalOptions{Originals: true}.New},
		{"terastal-nobudgets", "terastal without budgets: layers are due at the request's deadline",
			sched.TerastalOptions{Deadlines: true}.New},
		{"terastal-budget", "terastal, variants by the price of accuracy where a floor is promised", terastalBudget},
		{"pedf", "priced EDF: accelerator prices, admission, reservations, variants only to save a request", PEDF},
		{"pedf-novariants", "pedf without layer variants", pedfOriginals},
		{"rollout", "the best of many rules by short simulations ahead", Rollout},
		{"rollout-novariants", "rollout without layer variants", rolloutOriginals},
	}
}

// wholeSuffix marks the version of a policy that schedules whole models.
const wholeSuffix = "-model"

// Find returns the named policy, or an error that lists the names.
func Find(name string) (Info, error) {
	base, whole := strings.CutSuffix(name, wholeSuffix)
	var names []string
	for _, p := range All() {
		switch {
		case p.Name != base:
			names = append(names, p.Name)
		case whole:
			return Info{name, p.Short + ", whole models", Whole(p.New)}, nil
		default:
			return p, nil
		}
	}
	return Info{}, fmt.Errorf("unknown policy %q, have %s, and each with %s at its end for whole models",
		name, strings.Join(names, ", "), wholeSuffix)
}

// Named makes the named policy; for an unknown name it returns Find's error.
func Named(name string) sched.Constructor {
	return func(c sched.Config) (sched.Policy, error) {
		p, err := Find(name)
		if err != nil {
			return nil, err
		}
		return p.New(c)
	}
}

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
	// Spends says that it spends accuracy for time where models have an accuracy floor ([sched.Model]), and keeps it.
	Spends bool
}

// All lists the policies in the order in which they are shown. Each also exists
// as NAME-model, which schedules whole models instead of layers; see [Whole].
func All() []Info {
	return []Info{
		{Name: "fcfs", Short: "first come, first served: by release, each on the fastest idle accelerator", New: sched.FCFS},
		{Name: "edf", Short: "earliest deadline first, each on the fastest idle accelerator", New: sched.EDF},
		{Name: "llf", Short: "least laxity first, each on the fastest idle accelerator", New: sched.LLF},
		{Name: "heft", Short: "earliest finish time by upward rank, waiting for busy accelerators (HEFT)", New: HEFT},
		{Name: "dream", Short: "MapScore with online tuning and smart frame drop (DREAM, ASPLOS 2023, as recalled)", New: DREAM},
		{Name: "fifo", Short: "a simple server: whole models, each placed on one device, a queue per device", New: FIFO},
		{Name: "triton-like", Short: "whole models, placed likewise, by priorities and instance counts (Triton's rate limiter)",
			New: TritonLike},
		{Name: "triton-like-deadlines", Short: "triton-like with deadlines as priorities",
			New: TritonOptions{ByDeadline: true}.New},
		{Name: "terastal", Short: "virtual budgets, layer variants and slack (arXiv 2606.06818, Algorithm 2)", New: sched.Terastal},
		{Name: "terastal-novariants", Short: "terastal without layer variants", New: sched.TerastalOptions{Originals: true}.New},
		{Name: "terastal-nobudgets", Short: "terastal without budgets: layers are due at the request's deadline",
			New: sched.TerastalOptions{Deadlines: true}.New},
		{Name: "terastal-budget", Short: "terastal, variants by the price of accuracy where a model has an accuracy floor",
			New: terastalBudget, Spends: true},
		{Name: "pedf", Short: "priced EDF: accelerator prices, admission, reservations, variants by the price of accuracy",
			New: PEDF, Spends: true},
		{Name: "pedf-novariants", Short: "pedf without layer variants", New: pedfOriginals},
		{Name: "rollout", Short: "the best of many rules by short simulations ahead", New: Rollout, Spends: true},
		{Name: "rollout-novariants", Short: "rollout without layer variants", New: rolloutOriginals},
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
			return Info{Name: name, Short: p.Short + ", whole models", New: Whole(p.New)}, nil
		default:
			return p, nil
		}
	}
	return Info{}, fmt.Errorf("unknown policy %q, have %s, and each with %s at its end for whole models",
		name, strings.Join(names, ", "), wholeSuffix)
}

// Spends reports whether a name is that of a policy that spends accuracy for time, and keeps accuracy floors.
func Spends(name string) bool {
	p, err := Find(name)
	return err == nil && p.Spends
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

package sched

import (
	"fmt"
	"strings"
)

// Policy decides which ready layers to start on which idle accelerators.
type Policy interface {
	// Select appends to out what to start now and returns it. It sees the state
	// after the event; it must not change or keep it. Every choice has to name
	// a waiting job and an idle accelerator, each at most once, and an
	// implementation that runs there and keeps the job's set of variants valid.
	// Choosing nothing leaves accelerators idle until the next event.
	Select(s *State, out []Choice) []Choice
}

// Choice is one decision of a policy.
type Choice struct {
	Job            int32 // index in State.Jobs
	Implementation int32
	Accelerator    int32
	Reason         Reason
}

// Reason says why a policy chose as it did.
type Reason uint8

const (
	NoReason Reason = iota
	FastestIdle
	MeetsBudget
	VariantMeetsBudget
	Backfill
	EarliestFinish
	HighestScore
	SameAccelerator
	CheapestInTime
	Cheapest
	VariantInTime
)

var reasonNames = [...]string{"", "fastest-idle", "meets-budget", "variant-meets-budget", "backfill",
	"earliest-finish", "highest-score", "same-accelerator", "cheapest-in-time", "cheapest", "variant-in-time"}

// String is the reason's name, or its number where that comes from elsewhere and
// has none here.
func (r Reason) String() string {
	if int(r) < len(reasonNames) {
		return reasonNames[r]
	}
	return fmt.Sprintf("reason-%d", uint8(r))
}

// PolicyInfo describes a policy that NewPolicy can make.
type PolicyInfo struct {
	Name  string // as typed on the command line
	Short string // one line
	new   func(*Tables) Policy
}

// Policies lists the policies, in the order in which they are shown. Each also
// exists as NAME-model, which schedules whole models instead of layers.
func Policies() []PolicyInfo {
	return []PolicyInfo{
		{"fcfs", "first come, first served: by release, each on the fastest idle accelerator", newFCFS},
		{"edf", "earliest deadline first, each on the fastest idle accelerator", newEDF},
		{"llf", "least laxity first, each on the fastest idle accelerator", newLLF},
		{"heft", "earliest finish time by upward rank, waiting for busy accelerators (HEFT)", newHEFT},
		{"dream", "MapScore with online tuning and smart frame drop (DREAM, ASPLOS 2023, as recalled)", newDREAM},
		{"terastal", "virtual budgets, layer variants and slack (arXiv 2606.06818, Algorithm 2)", newTerastal},
		{"terastal-novariants", "terastal without layer variants", newTerastalWith(terastalOptions{originals: true})},
		{"terastal-nobudgets", "terastal without budgets: layers are due at the request's deadline", newTerastalWith(terastalOptions{deadlines: true})},
		{"terastal-laxity", "terastal with virtual deadlines three quarters from laxity, one from budgets", newTerastalWith(terastalOptions{laxity: 0.75})},
		{"pedf", "priced EDF: accelerator prices, admission, reservations, variants only to save a request", newPEDF},
		{"rollout", "the best of many rules by short simulations ahead", newRollout},
	}
}

// wholeSuffix marks the version of a policy that schedules whole models.
const wholeSuffix = "-model"

// FindPolicy returns the named policy, or an error that lists the names. Options
// of rollout may be changed for experiments: "rollout:every=10:events=2000".
func FindPolicy(name string) (PolicyInfo, error) {
	if options, ok := strings.CutPrefix(name, "rollout:"); ok {
		o := defaultRollout()
		if err := o.parse(options); err != nil {
			return PolicyInfo{}, err
		}
		return PolicyInfo{name, "rollout with options", func(t *Tables) Policy { return newRolloutWith(t, o) }}, nil
	}
	base, whole := strings.CutSuffix(name, wholeSuffix)
	var names []string
	for _, p := range Policies() {
		switch {
		case p.Name != base:
			names = append(names, p.Name)
		case whole:
			return PolicyInfo{name, p.Short + ", whole models", p.new}, nil
		default:
			return p, nil
		}
	}
	return PolicyInfo{}, fmt.Errorf("unknown policy %q, have %s, and each with %s at its end for whole models", name, strings.Join(names, ", "), wholeSuffix)
}

// NewPolicy makes the named policy for the given tables. A policy belongs to
// one engine.
func NewPolicy(name string, t *Tables) (Policy, error) {
	p, err := FindPolicy(name)
	if err != nil {
		return nil, err
	}
	if strings.HasSuffix(name, wholeSuffix) {
		return newWholeModel(t, p.new)
	}
	return p.new(t), nil
}

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
)

var reasonNames = [...]string{"", "fastest-idle", "meets-budget", "variant-meets-budget", "backfill"}

func (r Reason) String() string { return reasonNames[r] }

// PolicyInfo describes a policy that NewPolicy can make.
type PolicyInfo struct {
	Name  string // as typed on the command line
	Short string // one line
	new   func(*Tables) Policy
}

// Policies lists the policies, in the order in which they are shown.
func Policies() []PolicyInfo {
	return []PolicyInfo{
		{"fcfs", "first come, first served: by release, each on the fastest idle accelerator", newFCFS},
		{"edf", "earliest deadline first, each on the fastest idle accelerator", newEDF},
		{"terastal", "virtual budgets, layer variants and slack (arXiv 2606.06818, Algorithm 2)", newTerastal},
	}
}

// NewPolicy makes the named policy for the given tables. A policy belongs to
// one engine.
func NewPolicy(name string, t *Tables) (Policy, error) {
	var names []string
	for _, p := range Policies() {
		if p.Name == name {
			return p.new(t), nil
		}
		names = append(names, p.Name)
	}
	return nil, fmt.Errorf("unknown policy %q, have %s", name, strings.Join(names, ", "))
}

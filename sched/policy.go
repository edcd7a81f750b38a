package sched

import (
	"fmt"
	"time"
)

// Policy decides which ready layers to start on which idle accelerators. It belongs to one engine.
type Policy interface {
	// Select appends to out what to start now and returns it. It sees the state after the event; it must not change or
	// keep it. Every choice has to name a waiting job and an idle accelerator, each at most once, and an implementation
	// that runs there and keeps the job's set of variants valid. Choosing nothing leaves accelerators idle until the next
	// event.
	Select(s *State, out []Choice) []Choice
}

// Constructor makes a policy for an engine with this configuration. Its Tables are those that the policy reads: with
// Config.Adapt the engine changes them while it runs. Package sched/policy finds constructors by name.
type Constructor func(Config) (Policy, error)

// Observer is a policy that wants to know more than the state when it decides, or
// has its own rule for giving up jobs. The interface is optional.
type Observer interface {
	// Completed is told, before the decision that follows, how long a layer took
	// from its dispatch and how long it was predicted to take.
	Completed(predicted, took time.Duration)
	// Ended is told how a job ended, before it is recorded.
	Ended(j Job, o Outcome, at time.Duration)
	// GiveUp returns the index in s.Jobs, at least from, of the first waiting job that is to be dropped now, or -1. The
	// answer depends on the state only. The engine asks before every decision, and again once it has dropped a job. Select
	// is never shown jobs that were given up.
	GiveUp(s *State, from int) int
}

// Searcher is a policy that looks for better ways to decide, and can do so on another goroutine while the engine works.
// The interface is optional. A driver calls Detach once; after a step, while no search runs, it asks Prepare, and if that
// says so runs the search on another goroutine. What it found is an Event of kind Searched, its Start when that was asked.
// Dispatching never waits for a search. Between Prepare and the end of the search the driver prepares no other; Prepare
// is called under whatever keeps Step from running twice at once. Without Detach the policy searches inside Select.
type Searcher interface {
	// Detach takes searches out of Select: from now on the driver runs them. share is the part of all accelerators' time
	// that a search takes from them while it runs: 0 on a spare core, 1/A where it shares that of one of A accelerators.
	Detach(share float64) (search func() int)
	// Prepare makes the search ready to run from the state, and reports whether the policy wants it to run at all.
	Prepare(s *State) bool
	// Searched is told what a search found that was prepared so long ago. The decision of this step follows. The number
	// means something to the policy only; it is recorded, so that a replay can tell it again.
	Searched(found int, age time.Duration)
}

// Choice is one decision of a policy.
type Choice struct {
	Job            int32 // index in State.Jobs
	Implementation int32
	Accelerator    int32
	Reason         Reason
}

// Reason says why a policy chose as it did. Policies from elsewhere may use other numbers.
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

// String is the reason's name, or its number where that comes from elsewhere and has none here.
func (r Reason) String() string {
	if int(r) < len(reasonNames) {
		return reasonNames[r]
	}
	return fmt.Sprintf("reason-%d", uint8(r))
}

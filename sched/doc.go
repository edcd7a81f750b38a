// Package sched is the pure core of Terastal: the task system, virtual
// budgets, the event engine and the scheduling policies.
//
// A [System] says what is known offline: accelerators, models, their layers
// and, for every layer, the implementations (the original and its variants)
// with their latency on every accelerator. [Compile] turns it into dense
// [Tables]. An [Engine] is a state machine over them: [Engine.Step] takes one
// [Event] (a release, a completion, a failure, an accelerator going down or up)
// and returns the dispatches to start now. Whoever drives it decides what time
// is: package sched/sim produces the events in virtual time, package runtime
// from real accelerators. A [Recorder] sees everything that happens; both
// drivers write the same records.
//
// Instants and durations are time.Duration values in integer nanoseconds;
// instants count from the start of the run. The package has no clock, no
// goroutine, no log, no global state and no random source of its own: the same
// inputs give the same outputs, to the byte. Ties are broken explicitly: jobs
// in order of arrival, accelerators and implementations by index.
//
// The method is that of arXiv 2606.06818 (RTCSA 2026): virtual budgets are its
// Algorithm 1 ([ComputeBudgets]), the online scheduler its Algorithm 2 (policy
// "terastal").
//
// Two policies are our own. Priced EDF ("pedf") weighs accelerators by the shadow
// prices of the fluid linear program ([Tables.NewPricing]) and admits requests by
// Moore and Hodgson's rule. Rollouts ("rollout") simulate many rules ahead on a
// copy of the engine's state, and dispatch by the best; the searches can run
// beside the engine, on another goroutine ([Search]).
package sched

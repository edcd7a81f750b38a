// Package sched is the pure core of Terastal: the task system, virtual budgets, the engine and the published scheduling
// policies. It has no clock, no goroutine, no log, no global state and no random source: the same inputs give the same
// outputs, to the byte.
//
// # How the pieces fit
//
// A [System] says what is known before the first request: accelerators, models, their layers and, for every layer, the
// implementations (the original and its variants) with their latency on every accelerator. [Compile] turns it into
// [Tables], dense arrays with what follows from the system: the virtual budgets of Algorithm 1 ([ComputeBudgets]),
// remaining times, the sets of variants that keep the accuracy promise.
//
// An [Engine] is a state machine over the tables. [Engine.Step] takes one [Event] (a release, a completion, a failure,
// an accelerator that leaves or comes back) and returns the dispatches to start now. Whoever drives it decides what
// time is: package sched/sim makes the events in virtual time, package runtime takes them from real accelerators.
// Instants and durations are time.Duration values in integer nanoseconds; instants count from the start of the run and
// never go back. Ties are broken explicitly: jobs in order of arrival, accelerators and implementations by index. On a
// [Device] with a lead the driver announces that a layer is about to end, so that the next is decided before it has ended.
//
// A [Recorder] sees everything that happens. Both drivers write the same records, and package sched/eventlog computes
// every view from them. A recorded run that is replayed makes the same decisions again.
//
//	System --Compile--> Tables --New--> Engine <--Event-- driver
//	                                      |  \--Dispatch-->
//	                                      v
//	                                    Record --> log, views, replay
//
// The method is that of arXiv 2606.06818 (RTCSA 2026): its Algorithm 1 makes the budgets, its Algorithm 2 is the policy
// [Terastal]. [FCFS], [EDF] and [LLF] are what it is compared with. Package sched/policy has more policies and
// finds all of them by name; sched/traffic makes arrivals; sched/fluid bounds what any schedule can do.
//
// # Writing a policy
//
// A [Policy] has one method: Select reads the [State] and appends a [Choice] for every layer to start now. A [Constructor]
// makes it, and is what [Config] takes; the package has an example.
//
// What a policy asks the tables, [ModelTable] answers without an allocation: how long an implementation takes with the
// handoff ([ModelTable.Cost]), which variants a request may still use ([ModelTable.Allowed]), how long the rest takes
// ([ModelTable.Remaining]), when the layer is due ([ModelTable.VirtualDeadline]). Select must neither change nor keep
// the state, and should not allocate: it runs between the end of one layer and the start of the next. The engine panics
// at a choice against the contract of Select.
//
// Two interfaces are optional. An [Observer] is told how long layers took and how jobs ended, and may give up jobs. A
// [Searcher] lets the driver run its searches on a core that is free. A policy that simulates ahead before it decides
// does so in a [Lookahead]. Policies of this project use nothing else.
package sched

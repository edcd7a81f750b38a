// Package runtime drives the scheduling engine of package sched in real time:
// every dispatch is a real run of a layer on a real accelerator.
//
// An [Accelerator] prepares units (one implementation of one layer) into
// kernels and runs them. [Load] prepares whole networks on a set of
// accelerators; [Executor.Run] plays arrivals against them under a policy and
// returns the event log, with the outputs of sampled requests so that they can
// be held against the whole model's ([Executor.Verify]).
//
// One goroutine per accelerator, locked to an OS thread and pinned to its
// cores, runs the kernels. The engine is stepped by whoever has news: the
// worker that finished a layer steps it and takes its own next layer without
// another thread's help; releases come from a goroutine that sleeps until they
// are due. All instants come from the monotonic clock.
//
// The Go scheduler needs a processor of its own for the releases while all
// workers compute: set GOMAXPROCS to at least the number of accelerators plus
// two (the terastal command does).
package runtime

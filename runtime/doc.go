// Package runtime drives the scheduling engine of package sched in real time:
// every dispatch is a real run of a layer on a real accelerator.
//
// An application opens a plan, submits requests to its models by name, and waits for their responses:
//
//	executor, err := runtime.Open("out/plan.json", runtime.OpenOptions{})
//	defer executor.Close(ctx)
//	pending, err := executor.Submit(ctx, "detector", runtime.Tensors{"image": image}, runtime.RequestOptions{})
//	response, err := pending.Wait(ctx)
//
// [Executor.Run] plays traffic under a policy instead and returns the event log, with the outputs of sampled requests
// so that they can be held against the whole model's ([Executor.Verify]). [Executor.RunUnscheduled] is the baseline
// without a scheduler.
//
// What Open does can be done step by step. An [Accelerator] prepares units (one implementation of one layer) into
// kernels and runs them: an execution provider of ONNX Runtime ([OpenORT]), one that is emulated from a table
// ([OpenEmulated]), or your own, with a [Memory] if it has one. [Prepare] loads a network on a set of accelerators as a
// [Program]. [NewExecutor] joins programs with a plan's tables.
//
// # Threads
//
// Every accelerator has a thread for as long as there is an executor: a goroutine locked to an OS thread and pinned to
// the accelerator's cores. All that its provider does happens there, warm-up included, since providers keep handles and
// plans for each thread: before a run every implementation is run until it takes as long as planned, and nothing
// happens for the first time in it (WorkerStats.FirstUse tells).
//
// In a run the thread is the accelerator's worker. The engine is stepped by the thread that has news: the worker that
// finished a layer steps it and takes its own next layer without another thread's help. One idle worker waits for the
// next arrival, releases it, and takes the layer itself where the policy gives it to its accelerator; while all are
// busy, releases are noticed at the ends of layers, or by another thread where a core is free (Options.FreeCore).
// Threads wake each other by futex, not through the Go scheduler. All instants come from the monotonic clock.
//
// Nothing is allocated per dispatch: requests take their tensors from pools that
// are filled before the run, and records go into memory set aside.
//
// # Devices
//
// An accelerator with a [Memory] is a stream of a device. What it is given is submitted, and an event tells when it has
// ended. Shortly before that is predicted, by the device's lead in the system, the worker announces the end and submits
// the next layer behind. A request's tensors are on the device once, for all its streams; when it moves to another
// stream that stream waits, not the thread. When it leaves the device, what later layers need is copied home behind the
// layer, and the accelerator that continues waits for the event after the copies. The kernels of the first requests'
// tensors, three more than there are streams, are captured where the provider can ([Capturer]); others run uncaptured.
//
// Go's monitor thread wakes up every 20 us or so while goroutines that never yield compute in C, and preempts the
// workers thousands of times a second where no core is free. Options.Quiet makes it wait for them; Options.Realtime
// does so for all other processes too. Open sets GOMAXPROCS to at least the number of accelerators plus two
// ([RoomFor]).
//
// # Faults
//
// A layer that fails, or whose kernel panics, fails its request or is run again ([Options].Retries); an accelerator
// whose layers keep failing rests for a while; one whose layer hangs is out of service until the layer returns and the
// run is over. Every request has exactly one outcome. A [Drill] makes accelerators misbehave on purpose.
package runtime

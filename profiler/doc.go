// Package profiler measures every layer, in every implementation, on every accelerator, and keeps the result as a
// document with its provenance. The scheduler and the simulator work from it.
//
// # Measuring
//
// [Measure] takes a [Task]: the specifications of accelerators, and networks, which are models in layers with their
// variants. It runs short pieces of the models, a few consecutive layers at a time, in shuffled order, so that caches
// hold about as little of a layer's weights as they do when a schedule mixes models; on the thread and cores that the
// accelerator has in a run, from host memory to host memory, with ONNX Runtime's own profiling off. Rounds of all
// accelerators alternate until every median is known well enough or the budget is spent. A cell's times are those of an
// accelerator that works alone; what the others cost it when they are busy is measured in between ([Interference]), as
// are changes of accelerator ([Handoff]), what the executor needs between layers ([Dispatch]), whole models ([Chain])
// and rooflines ([Peak]). The profile says on which [Host] and with which ONNX Runtime it was made, and warns of what
// disturbed it.
//
// # Devices
//
// An accelerator with memory of its own, such as a GPU, may share its [Device] with others, its streams. One process
// measures them all, on the first: the others have the same times, and nothing is handed over between them. Layers are
// submitted back to back, as a run does it, captured as graphs where they can be, and timed on the device's clock, after
// runs that warm the thread up and keep the device from resting. What streams cost each other when they are busy, what a
// layer takes longer after a rest, and what noticing an end costs are measured apart. Memories without events, such as
// WebGPU's, only tell when everything has ended: there a time is that of several layers, shared out among them.
// [Streams] finds out how many streams pay.
//
// # Using a profile
//
// [Read] refuses what is damaged or incomplete, [Profile.Matches] what was made for something else. [Profile.Cell]
// finds a cell, [Profile.Medians] what a layer takes on each accelerator, [Profile.Latency] what a whole model takes.
// [Profile.System] makes the scheduler's task system, [Profile.Durations], [Profile.Slowdowns] and
// [Profile.Contentions] feed the simulator.
// [Compare] holds two profiles against each other, [CompareAccelerators] two accelerators of one. [Profile.Select]
// takes a part. [ReadTable] imports latencies that come from elsewhere, such as a vendor's simulator; [Profile.Merge]
// adds their accelerators to measured ones.
//
// # Measuring processes
//
// Execution providers crash and hang, and take their process with them. With [Task.Start] every accelerator is
// therefore measured in a process that can be lost: its layer is tried again, and after three failures refused, with a
// warning; all others are measured as if nothing had happened. With [Options.Journal] the measuring program can be
// killed as well, and continues where it stopped. An application gives itself a command for it, in which it makes the
// same task and calls [Serve]; see the example of Serve. Without Start all accelerators are measured in the calling
// process.
package profiler

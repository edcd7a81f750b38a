package runtime

// Realtime is for benchmarks that compare with a worker.
var Realtime = realtime

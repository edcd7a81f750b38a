// Package cuda calls the few functions of the CUDA runtime that package runtime needs besides ONNX Runtime: streams,
// events, copies, and graphs captured from what a stream was given. The library is looked for when it is needed;
// nothing is linked. Without it there is nothing to call, and nothing fails.
//
// What a stream is given runs in order, some time later. Whoever shares a stream or captures from it keeps to one
// thread at a time.
package cuda

import (
	"errors"
	"fmt"
)

// ErrNone says that there is no CUDA runtime to call.
var ErrNone = errors.New("there is no CUDA runtime library (libcudart) of version 13 or 12")

// ErrMemory is wrapped by the error of a call for which the device had no memory left.
var ErrMemory = errors.New("the device's memory is full")

// ErrUncaptured is what the error of a capture is that makes no graph that can be replayed; its text is the reason.
// Stream and device are as they were.
var ErrUncaptured = errors.New("cannot be captured as a graph")

// refused is a reason why something cannot be captured.
type refused struct{ error }

func (r refused) Unwrap() error      { return r.error }
func (refused) Is(target error) bool { return target == ErrUncaptured }

// Error is what the library says of a call that failed.
type Error struct {
	Call string // what was to be done
	Code int    // a cudaError_t
	Text string
}

func (e *Error) Error() string { return fmt.Sprintf("CUDA: %s: %s (error %d)", e.Call, e.Text, e.Code) }

// Unwrap tells which errors are about memory.
func (e *Error) Unwrap() error {
	if e.Code == memoryAllocation {
		return ErrMemory
	}
	return nil
}

// memoryAllocation is cudaErrorMemoryAllocation.
const memoryAllocation = 2

// Nodes are what a graph does, by kinds of nodes.
type Nodes struct{ Kernels, Copies, Fills, Allocations int }

// oddNodes names cudaGraphNodeTypes that a replay must not contain.
var oddNodes = map[int]string{
	3: "a function of the host", 6: "a wait for an event", 7: "the record of an event", 8: "a signal to a semaphore",
	9: "a wait for a semaphore", 13: "a condition",
}

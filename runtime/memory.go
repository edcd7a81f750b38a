package runtime

import (
	"errors"
	"time"
)

// Memory is the memory of a device, apart from the host's, as one accelerator sees it: a stream of the device. An
// accelerator whose method Memory() Memory returns one has it; nil stands for host memory.
//
// Copies and runs of kernels are submitted to the stream, which works them off in the order of their submission:
// nothing is complete before Wait returns, or before an event that was recorded after it is done. A memory may also
// complete them at once.
//
// A request's tensors stay on the device for as long as its layers run there. All methods are called by the thread that
// runs the accelerator's kernels, or while none runs; but the methods Done and Wait of an Event by any thread.
type Memory interface {
	// NewBuffer allocates at least size bytes, for all streams of the device. The error wraps ErrNoRoom where the device
	// has not that much left.
	NewBuffer(size int) (Buffer, error)
	// NewPinned allocates host memory that is copied without a detour, and what
	// frees it; nil where the accelerator has no use for it.
	NewPinned(size int) (data []byte, free func(), err error)
	// Grain is what the size of a tensor has to be a multiple of, in bytes, to be copied: 1 for any size.
	Grain() int
	// Copy submits a copy between tensors of the same size: one in this memory, the other one in the host's. The host
	// tensor stays as it is, and alive, until the copy is complete. Where NewEvent gives none, a copy to the host is
	// complete when Copy returns, and so is all that was submitted before.
	Copy(from, to *Tensor) error
	// Wait returns when everything submitted to the stream is complete.
	Wait() error
	// Queue names the queue that only one accelerator may submit to; "" if any number may.
	Queue() string
	// Device names the memory itself. Tensors in it are used by all accelerators whose memories have the same name.
	Device() string
	// NewEvent makes an event of the stream; nil, nil where the provider has none: then only Wait tells what is complete.
	// A memory may also have NewMark() (Event, error), for events that need not tell the time: runs use those.
	NewEvent() (Event, error)
	// After makes what is submitted to the stream from now on wait for an event of another stream of the device, as it
	// was recorded last. The caller does not wait.
	After(Event) error
	// Room is how much of the device's memory is free, and how much it has; 0 and 0 if that is not known.
	Room() (free, total int64, err error)
}

// Event is a mark in a stream. Recorded again it forgets what it marked before.
type Event interface {
	// Record puts the mark after all that was submitted to the stream so far.
	Record() error
	// Done reports, quickly, whether all before the mark is complete. An error is one of what was submitted before it.
	Done() (bool, error)
	// Wait returns once it is.
	Wait() error
	// Since is the time between two events of one device that are done, on the device's clock.
	Since(before Event) (time.Duration, error)
	// Close frees the event.
	Close()
}

// Capturer is a Kernel that can be fixed to tensors, all in its accelerator's memory: submitting what Capture returns
// takes next to no time. It is called by the thread that runs the kernel, after the kernel has run on it and while
// nothing else does; what it returns runs on the same tensors only, and is closed before the kernel. The error wraps
// ErrUncaptured and says what cannot be captured.
type Capturer interface {
	Capture(in, out []*Tensor) (Kernel, error)
}

// ErrUncaptured is wrapped by the errors of Capturer.
var ErrUncaptured = errors.New("cannot be captured")

// ErrNoRoom is wrapped by errors that say that a device's memory is used up. Such an error fails the request that met
// it, and no others.
var ErrNoRoom = errors.New("the device's memory is used up")

// Buffer is a piece of a Memory. Tensors whose lifetimes do not overlap share one.
type Buffer interface {
	// Bind makes the buffer's start the tensor's data: it sets Handle to what the
	// accelerator's kernels and Copy find it by.
	Bind(t *Tensor) error
	// Close frees the buffer. The tensors bound to it are closed before.
	Close()
}

// ErrTensorsLost is wrapped by the error of a layer whose inputs were in the
// memory of an accelerator that does not give them back.
var ErrTensorsLost = errors.New("the request's tensors are lost with the accelerator that had them")

// MemoryOf is the memory of an accelerator's device; nil if it computes in the host's.
func MemoryOf(a Accelerator) Memory {
	m, has := a.(interface{ Memory() Memory })
	if !has {
		return nil
	}
	return m.Memory()
}

// as is what an accelerator, or the one that it stands before (Unwrap), can do besides.
func as[T any](a Accelerator) (able T, is bool) {
	for {
		if able, is = a.(T); is {
			return able, true
		}
		outer, wraps := a.(interface{ Unwrap() Accelerator })
		if !wraps {
			return able, false
		}
		a = outer.Unwrap()
	}
}

// keepsWarm reports whether an idle device is to be kept busy by this accelerator.
func keepsWarm(a Accelerator) bool {
	w, has := as[interface{ KeepWarm() bool }](a)
	return has && w.KeepWarm()
}

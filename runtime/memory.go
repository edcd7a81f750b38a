package runtime

import "errors"

// Memory is memory that an accelerator has apart from the host's. An accelerator
// whose method Memory() Memory returns one has it; nil stands for host memory.
//
// The tensors between a request's layers stay there for as long as its layers run there, one after the other; only the
// model's inputs and outputs are always in host memory, and the kernels move those. All methods are called by the
// thread that runs the accelerator's kernels, or while none runs.
type Memory interface {
	// NewBuffer allocates at least size bytes.
	NewBuffer(size int) (Buffer, error)
	// NewPinned allocates host memory that is copied without a detour, and what
	// frees it; nil where the accelerator has no use for it.
	NewPinned(size int) (data []byte, free func(), err error)
	// Copy copies between tensors of the same size, a multiple of four bytes: one in this memory, the other one in the
	// host's. It returns when the copy is complete, if that is to the host.
	Copy(from, to *Tensor) error
	// Wait returns when everything submitted is complete.
	Wait() error
	// Queue names the queue that only one accelerator may submit to; "" if any number may.
	Queue() string
}

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

// memoryOf is an accelerator's memory, nil if it computes in the host's.
func memoryOf(a Accelerator) Memory {
	m, has := a.(interface{ Memory() Memory })
	if !has {
		return nil
	}
	return m.Memory()
}

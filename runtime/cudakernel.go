package runtime

import (
	"errors"
	"fmt"

	"github.com/terastal/terastal/internal/cuda"
)

// cudaKernel is a session on a stream. Its runs submit, but for some kernels.
//
// Some of ONNX Runtime's kernels copy parameters from pinned buffers, which the session frees at the end of runs that
// wait for their completion, and only there: without it the buffers pile up, and when the session is closed it leaves a
// function behind in the stream that frees them when it must not, which ends the process. So a kernel's runs wait until
// it is known that it has no such copies: what it submits is captured once, and looked at.
type cudaKernel struct {
	*ortKernel
	accelerator *cudaAccelerator
	used        []*weight
	runs        int
	known       bool  // whether it may submit only
	waits       error // why it may not
	holds       bool  // the session has buffers that it frees only in a run that waits
}

// settled is after how many runs a session allocates nothing more on the device: the first finds out what it needs, the
// second gets it in one piece.
const settled = 2

func (k *cudaKernel) Run(in, out []*Tensor) error {
	if !k.known || k.waits != nil {
		if err := k.complete(in, out); err != nil || k.known {
			return err
		}
		if k.runs++; k.runs >= settled && onDevice(in) && onDevice(out) {
			return k.learn(in, out)
		}
		return nil
	}
	if err := k.submit(in, out); err != nil {
		return err
	}
	if !onDevice(out) { // the run copies to the host, and the caller will look
		return k.accelerator.stream.Wait()
	}
	return nil
}

// submit is a run that does not wait.
func (k *cudaKernel) submit(in, out []*Tensor) error { return noRoom(k.ortKernel.Run(in, out)) }

// complete is a run that waits.
func (k *cudaKernel) complete(in, out []*Tensor) error {
	k.holds = true
	err := noRoom(k.run(k.session.RunAndWait, in, out))
	k.holds = err != nil
	return err
}

// learn finds out whether the kernel may submit only.
func (k *cudaKernel) learn(in, out []*Tensor) error {
	k.known = true
	g, err := k.accelerator.stream.Capture(func() error { return k.submit(in, out) })
	if err == nil {
		return g.Close()
	}
	k.waits, k.holds = err, true
	// What the capture has left in the session is freed.
	return errors.Join(ignoreUncaptured(err), k.complete(in, out))
}

// ignoreUncaptured is nil for errors that say only that something cannot be captured.
func ignoreUncaptured(err error) error {
	if errors.Is(err, cuda.ErrUncaptured) {
		return nil
	}
	return noRoom(err)
}

// onDevice reports whether all tensors are in a device's memory.
func onDevice(ts []*Tensor) bool {
	for _, t := range ts {
		if _, there := t.Handle.(*cudaBuffer); !there {
			return false
		}
	}
	return true
}

// Close leaves a session open whose memory the provider could not free: on a device that has failed, or after a run that
// has. Closing it would end the process.
func (k *cudaKernel) Close() error {
	if err := k.accelerator.stream.Wait(); err != nil {
		return err
	}
	if k.holds {
		return fmt.Errorf("%s: its last run failed: the session stays open", k.name)
	}
	err := k.ortKernel.Close()
	d := k.accelerator.gpu
	d.mu.Lock()
	defer d.mu.Unlock()
	d.release(k.used)
	k.used = nil
	return err
}

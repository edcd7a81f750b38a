package runtime

import "unsafe"

// Realtime is for benchmarks that compare with a worker.
var Realtime = realtime

// OpenStream opens a stream of a device on which any provider is taken to compute, by a library that stands in for the
// CUDA runtime.
func (d *Devices) OpenStream(s Spec, library string) (Accelerator, error) {
	return d.gpus.open(s, nil, library)
}

// CaptureOn captures what run submits to the stream of an accelerator, as Capture of its kernels does; copies within
// the device are all that a test can submit.
func CaptureOn(a Accelerator, in, out []*Tensor, run func() error) (Kernel, error) {
	s := a.(*cudaAccelerator)
	graph, err := s.capture(in, out, run, run)
	if err != nil {
		return nil, err
	}
	k := &cudaKernel{ortKernel: &ortKernel{name: "copy"}, accelerator: s}
	return &captured{k, graph, 0, in, out}, nil
}

// Waits tells whether it is known that a kernel may submit only, and why it may not.
func Waits(k Kernel) (known bool, waits error) {
	x := k.(*capturable)
	return x.known, x.waits
}

// Put writes to a tensor of a device at once, past its stream.
func Put(t *Tensor, data []byte) {
	copy(unsafe.Slice((*byte)(t.Handle.(*cudaBuffer).data), t.Bytes()), data)
}

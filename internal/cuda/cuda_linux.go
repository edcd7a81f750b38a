package cuda

/*
#cgo LDFLAGS: -ldl
#cgo noescape terastal_cuda_copy
#cgo nocallback terastal_cuda_copy
#cgo noescape terastal_cuda_event_record
#cgo nocallback terastal_cuda_event_record
#cgo noescape terastal_cuda_event_done
#cgo nocallback terastal_cuda_event_done
#cgo noescape terastal_cuda_event_wait
#cgo nocallback terastal_cuda_event_wait
#cgo noescape terastal_cuda_event_since
#cgo nocallback terastal_cuda_event_since
#cgo noescape terastal_cuda_stream_after
#cgo nocallback terastal_cuda_stream_after
#cgo noescape terastal_cuda_stream_wait
#cgo nocallback terastal_cuda_stream_wait
#cgo noescape terastal_cuda_launch
#cgo nocallback terastal_cuda_launch
#include "api.h"
*/
import "C"

import (
	"cmp"
	"errors"
	"fmt"
	"runtime"
	"time"
	"unsafe"
)

// Library is a CUDA runtime.
type Library struct {
	c *C.terastal_cuda
	// Runtime and Driver are versions, such as 12090 for 12.9; Driver's is the newest that the driver supports.
	Runtime, Driver int
	Devices         int
}

// sonames are the libraries that are looked for.
var sonames = []string{"libcudart.so.13", "libcudart.so.12"}

// Load finds the CUDA runtime: the one at path, else the one that the process has loaded, else the newest that the
// system's loader finds. It fails if the library has no device to use.
func Load(path string) (*Library, error) {
	names := sonames
	if path != "" {
		names = []string{path}
	}
	var lacks error
	for _, loaded := range []C.int{1, 0} {
		for _, name := range names {
			l, err := load(name, loaded)
			switch {
			case l != nil:
				return l.look()
			case err != nil && lacks == nil:
				lacks = err
			}
		}
	}
	if lacks != nil {
		return nil, lacks
	}
	return nil, ErrNone
}

func load(name string, loaded C.int) (*Library, error) {
	cname := C.CString(name)
	defer C.free(unsafe.Pointer(cname))
	var missing *C.char
	c := C.terastal_cuda_open(cname, loaded, &missing)
	if missing != nil {
		return nil, fmt.Errorf("%w: %s has no function %s", ErrNone, name, C.GoString(missing))
	}
	if c == nil {
		return nil, nil
	}
	return &Library{c: c}, nil
}

// look asks for versions and devices.
func (l *Library) look() (*Library, error) {
	var version, driver, devices C.int
	if err := l.err("looking for devices", C.terastal_cuda_versions(l.c, &version, &driver, &devices)); err != nil {
		return nil, err
	}
	l.Runtime, l.Driver, l.Devices = int(version), int(driver), int(devices)
	return l, nil
}

// err is an error code as an error.
func (l *Library) err(call string, code C.int) error {
	if code == 0 {
		return nil
	}
	return &Error{Call: call, Code: int(code), Text: C.GoString(C.terastal_cuda_text(l.c, code))}
}

// Device is one GPU. Its methods may be called from any goroutine.
type Device struct {
	*Library
	number C.int
}

// Device is the GPU of a number, from 0 on.
func (l *Library) Device(number int) (*Device, error) {
	if number < 0 || number >= l.Devices {
		return nil, fmt.Errorf("there is no CUDA device %d: there are %d", number, l.Devices)
	}
	d := &Device{l, C.int(number)}
	_, _, err := d.Room() // a device that does not work says so here
	return d, err
}

// Room is how much of the device's memory is free, and how much there is in all, in bytes.
func (d *Device) Room() (free, total int64, err error) {
	var f, t C.size_t
	if err := d.err("asking for free memory", C.terastal_cuda_room(d.c, d.number, &f, &t)); err != nil {
		return 0, 0, err
	}
	return int64(f), int64(t), nil
}

// Allocate allocates memory on the device.
func (d *Device) Allocate(size int) (unsafe.Pointer, error) {
	var data unsafe.Pointer
	code := C.terastal_cuda_allocate(d.c, d.number, C.size_t(size), &data)
	if err := d.err(fmt.Sprintf("allocating %d bytes on device %d", size, d.number), code); err != nil {
		return nil, err
	}
	return data, nil
}

// Free frees what Allocate returned; it waits until the device has done all that it was given before.
func (d *Device) Free(data unsafe.Pointer) error {
	return d.err("freeing memory", C.terastal_cuda_free(d.c, data))
}

// Pinned allocates memory of the host that devices copy from and to by themselves.
func (d *Device) Pinned(size int) ([]byte, error) {
	var data unsafe.Pointer
	code := C.terastal_cuda_allocate_pinned(d.c, d.number, C.size_t(size), &data)
	if err := d.err(fmt.Sprintf("pinning %d bytes of host memory", size), code); err != nil {
		return nil, err
	}
	return unsafe.Slice((*byte)(data), size), nil
}

// FreePinned frees what Pinned returned.
func (d *Device) FreePinned(data []byte) error {
	return d.err("freeing pinned memory", C.terastal_cuda_free_pinned(d.c, unsafe.Pointer(unsafe.SliceData(data))))
}

// Stream is a queue of work for a device.
type Stream struct {
	device *Device
	s      unsafe.Pointer
}

// NewStream makes a stream that does not wait for others. The threads that CUDA needs for it run on the cores that the
// caller's may run on.
func (d *Device) NewStream() (*Stream, error) {
	s := &Stream{device: d}
	if err := d.err("making a stream", C.terastal_cuda_stream(d.c, d.number, &s.s)); err != nil {
		return nil, err
	}
	return s, nil
}

// Pointer is the cudaStream_t.
func (s *Stream) Pointer() unsafe.Pointer { return s.s }

// Wait returns when all that the stream was given is complete.
func (s *Stream) Wait() error {
	return s.device.err("waiting for a stream", C.terastal_cuda_stream_wait(s.device.c, s.s))
}

// After makes what the stream is given from now on wait for an event, of any stream.
func (s *Stream) After(e *Event) error {
	d := s.device
	return d.err("waiting for another stream", C.terastal_cuda_stream_after(d.c, d.number, s.s, e.e))
}

// Close destroys the stream. Work that it was given is still done.
func (s *Stream) Close() error {
	if s.s == nil {
		return nil
	}
	err := s.device.err("closing a stream", C.terastal_cuda_stream_destroy(s.device.c, s.s))
	s.s = nil
	return err
}

// Kind is between which memories a copy is, as a cudaMemcpyKind.
type Kind int

// The kinds of copies.
const (
	ToDevice Kind = 1
	ToHost   Kind = 2
	Within   Kind = 3 // on the device
)

// Copy submits a copy of size bytes. Host memory that is not pinned is read before it returns, or is written then.
func (s *Stream) Copy(to, from unsafe.Pointer, size int, kind Kind) error {
	d := s.device
	return d.err("copying", C.terastal_cuda_copy(d.c, d.number, to, from, C.size_t(size), C.int(kind), s.s))
}

// Fill submits that size bytes are set to a value.
func (s *Stream) Fill(data unsafe.Pointer, value byte, size int) error {
	d := s.device
	return d.err("filling memory", C.terastal_cuda_fill(d.c, d.number, data, C.int(value), C.size_t(size), s.s))
}

// Event is a mark in a stream.
type Event struct {
	device *Device
	e      unsafe.Pointer
}

// NewEvent makes an event that has not been recorded: it counts as done. Only timed ones tell the time between them; the
// others cost the device less.
func (d *Device) NewEvent(timed bool) (*Event, error) {
	e := &Event{device: d}
	var clock C.int
	if timed {
		clock = 1
	}
	if err := d.err("making an event", C.terastal_cuda_event(d.c, d.number, clock, &e.e)); err != nil {
		return nil, err
	}
	return e, nil
}

// Record puts the event after all that the stream was given so far. What waits for an earlier record still does.
func (e *Event) Record(s *Stream) error {
	d := e.device
	return d.err("recording an event", C.terastal_cuda_event_record(d.c, d.number, e.e, s.s))
}

// Done reports whether what was before the event is complete; an error is what went wrong on the device.
func (e *Event) Done() (bool, error) {
	var done C.int
	code := C.terastal_cuda_event_done(e.device.c, e.e, &done)
	return done != 0, e.device.err("asking for an event", code)
}

// Wait returns when what was before the event is complete.
func (e *Event) Wait() error {
	return e.device.err("waiting for an event", C.terastal_cuda_event_wait(e.device.c, e.e))
}

// Since is the time between two events that are done, on the device's clock, to about half a microsecond.
func (e *Event) Since(before *Event) (time.Duration, error) {
	var ms C.float
	code := C.terastal_cuda_event_since(e.device.c, before.e, e.e, &ms)
	return time.Duration(float64(ms) * float64(time.Millisecond)), e.device.err("the time between two events", code)
}

// Close destroys the event; streams that wait for it still do.
func (e *Event) Close() error {
	if e == nil || e.e == nil {
		return nil
	}
	err := e.device.err("closing an event", C.terastal_cuda_event_destroy(e.device.c, e.e))
	e.e = nil
	return err
}

// Graph is work that can be submitted again and again in one call.
type Graph struct {
	device *Device
	x      unsafe.Pointer // the cudaGraphExec_t
	Nodes  Nodes
}

// Capture makes a graph of what submit gives the stream; none of it is done. submit allocates nothing on the device and
// waits for nothing. Only kernels and what moves data within the device is replayed: other errors than ErrUncaptured
// are about the device. No other thread uses the stream meanwhile.
func (s *Stream) Capture(submit func() error) (*Graph, error) {
	d := s.device
	// A capture belongs to its thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := d.err("beginning to capture", C.terastal_cuda_capture(d.c, d.number, s.s)); err != nil {
		return nil, err
	}
	failed := submit()
	var graph unsafe.Pointer
	end := d.err("ending a capture", C.terastal_cuda_capture_end(d.c, s.s, &graph))
	if graph != nil {
		defer C.terastal_cuda_graph_destroy(d.c, graph)
	}
	if err := cmp.Or(failed, end); err != nil {
		return nil, refused{err}
	}
	nodes, err := d.inspect(graph)
	if err != nil {
		return nil, refused{err}
	}
	g := &Graph{device: d, Nodes: nodes}
	if err := d.err("making a graph", C.terastal_cuda_instantiate(d.c, d.number, graph, s.s, &g.x)); err != nil {
		return nil, refused{err}
	}
	return g, nil
}

// inspect counts the nodes of a graph, and refuses those that must not be replayed.
func (d *Device) inspect(graph unsafe.Pointer) (Nodes, error) {
	if graph == nil {
		return Nodes{}, errors.New("nothing was captured")
	}
	var n C.terastal_cuda_nodes
	if err := d.err("looking into a graph", C.terastal_cuda_inspect(d.c, graph, &n)); err != nil {
		return Nodes{}, err
	}
	nodes := Nodes{int(n.kernels), int(n.copies), int(n.fills), int(n.allocations)}
	switch {
	case n.odd >= 0:
		name := oddNodes[int(n.odd)]
		if name == "" {
			name = fmt.Sprintf("a node of kind %d", n.odd)
		}
		return nodes, fmt.Errorf("it has %s", name)
	case n.host == 1:
		return nodes, errors.New("it copies from the host's memory")
	case n.host == 2:
		return nodes, errors.New("it copies to the host's memory")
	case n.allocations != n.frees:
		return nodes, errors.New("it allocates memory that it does not free")
	case nodes == Nodes{}:
		return nodes, errors.New("it does nothing on the stream")
	}
	return nodes, nil
}

// Launch submits the graph.
func (g *Graph) Launch(s *Stream) error {
	d := g.device
	return d.err("launching a graph", C.terastal_cuda_launch(d.c, d.number, g.x, s.s))
}

// Close frees the graph. A launch under way is still done.
func (g *Graph) Close() error {
	if g.x == nil {
		return nil
	}
	err := g.device.err("closing a graph", C.terastal_cuda_executable_destroy(g.device.c, g.x))
	g.x = nil
	return err
}

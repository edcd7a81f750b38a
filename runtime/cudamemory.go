package runtime

import (
	"errors"
	"fmt"
	"time"
	"unsafe"

	"github.com/terastal/terastal/internal/cuda"
)

// cudaMemory is the memory of a CUDA device as one of its streams sees it.
type cudaMemory struct{ *cudaAccelerator }

func (m cudaMemory) Grain() int     { return 1 }
func (m cudaMemory) Queue() string  { return "" }
func (m cudaMemory) Device() string { return m.spec.OnDevice() }
func (m cudaMemory) Wait() error    { return m.stream.Wait() }

func (m cudaMemory) Room() (free, total int64, err error) { return m.gpu.Room() }

func (m cudaMemory) NewBuffer(size int) (Buffer, error) {
	data, err := m.gpu.Allocate(size)
	if err != nil {
		return nil, noRoom(err)
	}
	m.gpu.add(&m.gpu.use.Buffers, int64(size))
	return &cudaBuffer{m.gpu, data, size}, nil
}

// add counts bytes to one of the device's uses.
func (d *gpu) add(use *int64, bytes int64) {
	d.mu.Lock()
	*use += bytes
	d.mu.Unlock()
}

func (m cudaMemory) NewPinned(size int) ([]byte, func(), error) {
	data, err := m.gpu.Pinned(size)
	if err != nil {
		return nil, nil, err
	}
	return data, func() { m.gpu.FreePinned(data) }, nil
}

// Copy tells the device's tensors by their handles.
func (m cudaMemory) Copy(from, to *Tensor) error {
	if from.Bytes() != to.Bytes() {
		return fmt.Errorf("a copy of %d bytes to %d", from.Bytes(), to.Bytes())
	}
	size := int(from.Bytes())
	if size == 0 {
		return nil
	}
	source, away := from.Handle.(*cudaBuffer)
	target, there := to.Handle.(*cudaBuffer)
	switch {
	case away && !there:
		return m.stream.Copy(unsafe.Pointer(&to.Data[0]), source.data, size, cuda.ToHost)
	case there && !away:
		return m.stream.Copy(target.data, unsafe.Pointer(&from.Data[0]), size, cuda.ToDevice)
	case away && there:
		return m.stream.Copy(target.data, source.data, size, cuda.Within)
	}
	return errors.New("a copy within host memory")
}

func (m cudaMemory) NewEvent() (Event, error) { return m.event(true) }

// NewMark makes an event that does not tell the time, which costs the device less.
func (m cudaMemory) NewMark() (Event, error) { return m.event(false) }

func (m cudaMemory) event(timed bool) (Event, error) {
	e, err := m.gpu.NewEvent(timed)
	if err != nil {
		return nil, noRoom(err)
	}
	return &cudaEvent{e, m.stream}, nil
}

func (m cudaMemory) After(e Event) error {
	event, is := e.(*cudaEvent)
	if !is {
		return fmt.Errorf("%s waits for an event of something else", m.spec.Name)
	}
	return m.stream.After(event.Event)
}

// cudaEvent is an event of one stream.
type cudaEvent struct {
	*cuda.Event
	stream *cuda.Stream
}

func (e *cudaEvent) Record() error { return e.Event.Record(e.stream) }
func (e *cudaEvent) Close()        { e.Event.Close() }

func (e *cudaEvent) Since(before Event) (time.Duration, error) {
	b, is := before.(*cudaEvent)
	if !is {
		return 0, errors.New("the time between events of two devices")
	}
	return e.Event.Since(b.Event)
}

// cudaBuffer is a piece of a device's memory.
type cudaBuffer struct {
	gpu  *gpu
	data unsafe.Pointer
	size int
}

func (b *cudaBuffer) Bind(t *Tensor) (err error) {
	if t.Bytes() > int64(b.size) {
		return fmt.Errorf("tensor %q of %d bytes does not fit into %d", t.Name, t.Bytes(), b.size)
	}
	if t.value, err = b.gpu.place.NewTensor(t.Type, t.Stored(), b.data); err != nil {
		return err
	}
	t.Handle, t.arg[0] = b, t.value
	return nil
}

func (b *cudaBuffer) Close() {
	if b.data != nil {
		b.gpu.Free(b.data)
		b.gpu.add(&b.gpu.use.Buffers, -int64(b.size))
		b.data = nil
	}
}

package ort

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unsafe"
)

// ErrNoMemory is what OpenMemory answers for a provider that computes in the
// host's memory, or of whose memory nothing is known here.
var ErrNoMemory = errors.New("tensors stay in host memory")

// deviceMemory is what has to be known of a provider to keep tensors on its device. This is the one place for it.
type deviceMemory struct {
	provider string
	name     string // ONNX Runtime's name of the device's memory
	pinned   string // and of host memory that the device reads and writes itself; "" if none is offered
	id       string // the provider's option that chooses the device; "" if there is one only
	// waits says that a run returns when its outputs on the device are complete.
	// Else it returns once they are submitted, and only a copy to the host waits.
	waits bool
	// alone says that all sessions on a device share a queue without a lock.
	alone bool
}

var deviceMemories = []deviceMemory{
	// For tests: a device whose memory is the host's.
	{provider: "cpu", name: "Cpu", waits: true},
	{provider: "webgpu", name: "WebGPU_Buf", id: "deviceId", alone: true},
	{provider: "cuda", name: "Cuda", pinned: "CudaPinned", id: "device_id", waits: true},
	{provider: "tensorrt", name: "Cuda", pinned: "CudaPinned", id: "device_id", waits: true},
}

// layerOptions are options that suit layers of a model on their own, where they differ from what suits a whole model.
var layerOptions = []struct{ provider, option, value string }{
	// In its default layout the provider transposes every layer's inputs and outputs. docs/GPU.md has the figures.
	{"webgpu", "preferredLayout", "NCHW"},
}

// graphOptions are options by which providers capture graphs by themselves: for one session with fixed tensors that has
// the device to itself. Layers have none of that, and are captured by package runtime.
var graphOptions = []struct{ provider, option string }{
	{"cuda", "enable_cuda_graph"},
	{"tensorrt", "trt_cuda_graph_enable"},
}

// NotForLayers lists options of the configuration that ForLayers drops.
func (c Config) NotForLayers() []string {
	var out []string
	for _, o := range graphOptions {
		if value, has := c.Options[o.option]; o.provider == c.filled().Provider && has && value != "0" {
			out = append(out, o.option)
		}
	}
	return out
}

// ForLayers is the configuration with the options that suit layers, unless it has its own, and without those that do
// not.
func (c Config) ForLayers() Config {
	provider := c.filled().Provider
	if drop := c.NotForLayers(); drop != nil {
		c.Options = maps.Clone(c.Options)
		for _, option := range drop {
			delete(c.Options, option)
		}
	}
	for _, o := range layerOptions {
		own := slices.ContainsFunc(slices.Collect(maps.Keys(c.Options)), func(key string) bool {
			return key == o.option || strings.HasSuffix(key, "."+o.option)
		})
		if o.provider == provider && !own {
			c = c.option(o.option, o.value)
		}
	}
	return c
}

// Memory is the memory of a device that a provider computes on, and what copies between it and the host. Sessions of
// the same configuration take and leave tensors there. What submits work to a device is to be called by one goroutine
// at a time, runs of sessions included: some providers do not lock.
//
// Copies are runs of a model of one Identity node: the C API's CopyTensors
// reported success on WebGPU, and what came back was not what had been copied.
type Memory struct {
	deviceMemory
	session *Session // copies int32s
	device  nativeMemory
	host    nativeMemory // pinned; without info where none is offered
	number  int          // of the device
	fence   *Buffer
	flag    [2][1]Value // on the device and on the host
}

// flat is a type of four bytes that every provider copies.
const flat = Int32

// deviceMemory finds the memory that sessions of a filled configuration compute in, and the number of their device.
func (c Config) deviceMemory() (d deviceMemory, number int, err error) {
	at := slices.IndexFunc(deviceMemories, func(d deviceMemory) bool { return d.provider == c.Provider })
	if at < 0 {
		return d, 0, ErrNoMemory
	}
	d = deviceMemories[at]
	if text := c.Options[d.id]; text != "" {
		if number, err = strconv.Atoi(text); err != nil {
			return d, 0, fmt.Errorf("option %s: %q is not a number", d.id, text)
		}
	}
	return d, number, nil
}

// OpenMemory opens the memory of the device that the configuration's sessions compute on.
func OpenMemory(c Config) (*Memory, error) {
	c = c.filled()
	d, number, err := c.deviceMemory()
	if err != nil {
		return nil, err
	}
	m := &Memory{deviceMemory: d, number: number}
	if err := m.open(c); err != nil {
		m.Close()
		return nil, fmt.Errorf("memory of %s: %w", c.Provider, err)
	}
	return m, nil
}

func (m *Memory) open(c Config) (err error) {
	c.AllowFallback, c.SaveOptimized = false, ""
	copies := modelBytes(node("Identity", []string{"x"}, []string{"y"}), input("x", flat, -1), output("y", flat, -1))
	if m.session, err = NewSession(copies, nil, nil, c); err != nil {
		return err
	}
	const memTypeDefault, memTypeCPUOutput = 0, -1
	if m.device, err = openMemory(m.session.native, m.name, m.number, memTypeDefault); err != nil {
		return err
	}
	if m.pinned != "" {
		if m.host, err = openMemory(m.session.native, m.pinned, m.number, memTypeCPUOutput); err != nil {
			return err
		}
	}
	if m.fence, err = m.NewBuffer(flat.Size()); err != nil {
		return err
	}
	if m.flag[0][0], err = m.fence.NewTensor(flat, []int64{1}); err != nil {
		return err
	}
	if m.flag[1][0], err = NewTensor(flat, []int64{1}, make([]byte, flat.Size())); err != nil {
		return err
	}
	// A device that does not bring back what it was given is not used.
	m.flagBytes()[0] = 42
	err = m.Copy(m.flag[1][:], m.flag[0][:])
	m.flagBytes()[0] = 0
	if err == nil {
		err = m.Copy(m.flag[0][:], m.flag[1][:])
	}
	if err == nil && m.flagBytes()[0] != 42 {
		err = errors.New("a tensor comes back changed")
	}
	return err
}

func (m *Memory) flagBytes() []byte { return m.flag[1][0].data }

// Close frees the memory; buffers and tensors on it have to be gone.
func (m *Memory) Close() error {
	m.flag[0][0].Destroy()
	m.flag[1][0].Destroy()
	m.fence.Close()
	for _, x := range []nativeMemory{m.device, m.host} {
		if x.allocator != nil {
			x.close()
		}
	}
	var err error
	if m.session != nil {
		err = m.session.Close()
	}
	*m = Memory{}
	return err
}

// Queue names the queue of work that belongs to one thread: sessions on memories with the same one are run by one
// goroutine at a time. "" where runs of several may run at once.
func (m *Memory) Queue() string {
	if !m.alone {
		return ""
	}
	return fmt.Sprintf("%s device %d", m.provider, m.number)
}

// Copy copies a tensor to another, on either side, both of type int32 with one dimension. From the device to the host
// it returns when the copy is complete, and so is all that was submitted before; in the other direction the host tensor
// may be changed once it returns.
func (m *Memory) Copy(from, to []Value) error { return m.session.Run(from, to) }

// Wait returns when everything that was submitted to the device is complete.
func (m *Memory) Wait() error {
	if m.waits {
		return nil
	}
	return m.Copy(m.flag[0][:], m.flag[1][:])
}

// Buffer is a piece of a device's memory.
type Buffer struct {
	memory nativeMemory
	value  unsafe.Pointer
	data   unsafe.Pointer
	size   int
}

// NewBuffer allocates at least size bytes, which must be positive.
func (m *Memory) NewBuffer(size int) (*Buffer, error) { return newBuffer(m.device, size) }

// NewPinned allocates host memory that the device copies from and to without a
// detour; nil where the provider offers none.
func (m *Memory) NewPinned(size int) (*Buffer, error) {
	if m.host.info == nil {
		return nil, nil
	}
	return newBuffer(m.host, size)
}

func newBuffer(m nativeMemory, size int) (*Buffer, error) {
	count := (size + flat.Size() - 1) / flat.Size()
	value, data, err := m.allocate(count)
	if err != nil {
		return nil, fmt.Errorf("%d bytes of device memory: %w", size, err)
	}
	return &Buffer{memory: m, value: value, data: data, size: count * flat.Size()}, nil
}

// Bytes is the memory of a pinned buffer.
func (b *Buffer) Bytes() []byte { return unsafe.Slice((*byte)(b.data), b.size) }

// NewTensor makes a tensor at the start of the buffer; several may share it. The caller calls Destroy on it before the
// buffer is closed. Bytes of it are not for the host to see.
func (b *Buffer) NewTensor(t DataType, shape []int64) (Value, error) {
	size, err := byteSize(t, shape)
	if err != nil {
		return nil, fmt.Errorf("tensor of %s: %w", t, err)
	}
	if t.Size() == 0 || size == 0 || size > b.size {
		return nil, fmt.Errorf("tensor of %s and shape %v does not fit into %d bytes of device memory", t, shape, b.size)
	}
	v := &Tensor{typ: t, shape: slices.Clone(shape), away: true}
	if v.value, err = b.memory.view(t, v.shape, b.data, size); err != nil {
		return nil, fmt.Errorf("tensor of %s and shape %v in device memory: %w", t, shape, err)
	}
	return v, nil
}

// Close frees the buffer; nil is fine.
func (b *Buffer) Close() {
	if b != nil && b.value != nil {
		releaseValue(b.value)
		b.value = nil
	}
}

package runtime

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/models"
)

// Tensor is a tensor in host memory, or in an accelerator's own.
type Tensor struct {
	models.Tensor
	Data []byte // nil in an accelerator's memory
	// Handle is what the accelerator's Buffer set, for its kernels; nil in host memory.
	Handle any
	value  ort.Value
	arg    [1]ort.Value // value again, as an argument of one
	flat   [1]ort.Value // the same bytes as int32s, for tensors that are copied between memories
	memory Memory       // of the accelerator that has it; nil in host memory
}

// NewTensor wraps data, which must hold exactly the tensor's bytes, without copying it.
func NewTensor(info models.Tensor, data []byte) (*Tensor, error) {
	if int64(len(data)) != info.Bytes() {
		return nil, fmt.Errorf("tensor %q: %d bytes of data, its shape %v of %s needs %d",
			info.Name, len(data), info.Shape, info.Type, info.Bytes())
	}
	v, err := ort.NewTensor(info.Type, info.Stored(), data)
	if err != nil {
		return nil, fmt.Errorf("tensor %q: %w", info.Name, err)
	}
	return &Tensor{Tensor: info, Data: data, value: v, arg: [1]ort.Value{v}}, nil
}

// flatten makes the tensor one that ONNX Runtime can copy to other memories.
func (t *Tensor) flatten() (err error) {
	if t.flat[0] == nil && t.Bytes() > 0 && t.Bytes()%4 == 0 {
		t.flat[0], err = ort.NewTensor(ort.Int32, []int64{t.Bytes() / 4}, t.Data)
	}
	return err
}

// Close releases the native value; the data stays the caller's.
func (t *Tensor) Close() {
	t.value.Destroy()
	t.flat[0].Destroy()
	t.value, t.arg[0], t.flat[0] = nil, nil, nil
}

// Unit is what an accelerator prepares: one implementation of one layer.
type Unit struct {
	Name string // for people
	// Model, Layer and Implementation name what it is a unit of; Implementation
	// is "original" or the variant's name. Prepare fills them in.
	Model, Layer, Implementation string

	ONNX            []byte // a complete ONNX model; nil in a [Network] stands for that of the layer
	Inputs, Outputs []models.Tensor
	// Optimized models are to be loaded without optimising them further.
	Optimized bool

	// Provider is the only provider whose accelerators run the unit, since what it computes was measured there; empty for
	// any. Options are that provider's options for this unit, over those of the accelerator.
	Provider string
	Options  map[string]string
}

// ErrProvider is wrapped by the error of a unit that is for accelerators of another provider.
var ErrProvider = errors.New("it is for another provider")

// Suits returns nil where accelerators of a provider may run the unit, else an error that says why not.
func (u *Unit) Suits(provider string) error {
	switch {
	case u.Provider == "" || ort.ProviderName(u.Provider) == ort.ProviderName(provider):
		return nil
	case len(u.Options) > 0:
		return fmt.Errorf("%w: without options of %s it is the same as the original", ErrProvider, u.Provider)
	}
	return fmt.Errorf("%w: its accuracy was measured on %s", ErrProvider, u.Provider)
}

// Accelerator prepares units and runs them. Prepare may be called from any goroutine; the kernels of one accelerator
// are run by one goroutine at a time, on a thread pinned to the first of Cores.
type Accelerator interface {
	// Name is unique among the accelerators of a system.
	Name() string
	// Cores are the processors its kernels run on, the first that of the thread which calls them; empty for any.
	Cores() []int
	// Level is ONNX Runtime's optimisation level at which whole models are optimised before they are cut into the
	// layers that this accelerator gets, as models.Model.Forms takes it; "none" for portable layers.
	Level() string
	// Prepare makes a unit ready to run. An error says why the accelerator cannot run it.
	Prepare(Unit) (Kernel, error)
	// Close frees the accelerator; its kernels must be closed before.
	Close() error
}

// Kernel is a prepared unit.
type Kernel interface {
	// Run computes the outputs from the inputs, in the order of the unit's tensors. Where the accelerator has a memory
	// Run submits that: see Memory. Outputs in host memory are complete when it returns.
	Run(in, out []*Tensor) error
	Close() error
}

// Spec describes an accelerator: an execution provider (EP) of ONNX Runtime with its settings. The zero values mean the
// CPU, all graph optimisations, one thread, any core.
type Spec struct {
	Name string `json:"name"`
	// Provider is the EP, such as "cpu", "webgpu" or "cuda".
	Provider string `json:"provider,omitempty"`
	// Options are passed to the EP as they are. WebGPU gets preferredLayout NCHW unless they say otherwise: in its
	// other layout it transposes the inputs and outputs of every layer.
	Options map[string]string `json:"options,omitempty"`
	// Optimization is ORT's graph optimisation level for the layers: "none", "basic", "extended", "layout" or
	// "all". It changes which kernels run, and so which layers are fast.
	Optimization string `json:"optimization,omitempty"`
	// Threads is the number of intra-op threads, the calling one included.
	Threads int `json:"threads,omitempty"`
	// Cores are the processors to pin to, one per thread.
	Cores []int `json:"cores,omitempty"`
	// Device chooses among the devices of a provider that is a plugin; see ort.Config.
	Device string `json:"device,omitempty"`
	// LibrarySHA256 tells the plugin's library from others.
	LibrarySHA256 string `json:"library_sha256,omitempty"`
	// Of is the name of the device that this is a stream of, and Stream its number there, from 0: gpu.0 and gpu.1 are of
	// gpu. Empty where the accelerator does not share a device with others.
	Of     string `json:"of,omitempty"`
	Stream int    `json:"stream,omitempty"`
	// KeepWarm keeps the device busy while it has nothing to do, so that it does not fall asleep.
	KeepWarm bool `json:"keep_warm,omitempty"`
	// Local is where this machine has what the accelerator needs.
	Local Local `json:"-"`
}

// Local is what documents do not hold about an accelerator: paths, and the state
// of the machine that compiled engines are good for.
type Local struct {
	// Library is the absolute path of the library of a provider that is a
	// plugin; "" for one that ONNX Runtime was built with.
	Library string `json:"library,omitempty"`
	// Engines is the folder that compiled engines are kept in; "" for none.
	Engines string `json:"engines,omitempty"`
	// Machine is all that an engine depends on besides the model and the provider: processor, drivers, devices.
	Machine string `json:"machine,omitempty"`
	// Table is the file that an emulated accelerator takes its latencies from.
	Table string `json:"table,omitempty"`
}

func (s Spec) config() ort.Config {
	return ort.Config{Provider: s.Provider, Options: s.Options, Optimization: s.Optimization, Threads: max(1, s.Threads),
		Cores: s.Cores, Library: s.Local.Library, Device: s.Device, Engines: s.Local.Engines,
		Machine: s.Local.Machine}.ForLayers()
}

// CPU reports whether the accelerator is one of ONNX Runtime's CPU provider.
func (s Spec) CPU() bool { return ort.ProviderName(s.Provider) == "cpu" }

// OnDevice is the name of the device that the accelerator computes on: what Of says, else its own.
func (s Spec) OnDevice() string { return cmp.Or(s.Of, s.Name) }

// MaxStreams is how many streams a device may have.
const MaxStreams = 16

// Streams are n accelerators that are streams of the device: gpu.0, gpu.1 and so on. Where the accelerator has cores,
// each stream gets one of them, as far as they go. A single stream is the accelerator itself.
func (s Spec) Streams(n int) []Spec {
	if n <= 1 {
		return []Spec{s}
	}
	out := make([]Spec, n)
	for i := range out {
		out[i] = s
		out[i].Name, out[i].Of, out[i].Stream = StreamName(s.Name, i), s.Name, i
		if out[i].Cores = nil; i < len(s.Cores) {
			out[i].Cores = s.Cores[i : i+1 : i+1]
		}
	}
	return out
}

// StreamName is the name of a device's stream.
func StreamName(device string, stream int) string { return fmt.Sprintf("%s.%d", device, stream) }

// StreamOf reports whether a name is that of a stream of the device, and which. There need not be so many.
func StreamOf(name, device string) (stream int, is bool) {
	for i := range MaxStreams {
		if name == StreamName(device, i) {
			return i, true
		}
	}
	return 0, false
}

// HasStreams reports whether devices of the provider can work at several layers at once. Others have one queue.
func (s Spec) HasStreams() bool {
	return slices.Contains([]string{"cuda", "tensorrt"}, ort.ProviderName(s.Provider))
}

// Probe really runs a small model on the accelerator.
func (s Spec) Probe() error {
	if err := s.Validate(); err != nil {
		return err
	}
	return ort.Probe(s.config())
}

// Level is the Level of the accelerator that OpenORT makes. It is that of the CPU provider where it changes layouts;
// other providers have layouts of their own and take portable layers.
func (s Spec) Level() string {
	// An emulated accelerator that computes does so on the CPU.
	if s.CPU() || s.Provider == EmulatedProvider && s.Computes() {
		return models.FormLevel(s.Optimization)
	}
	return models.Portable
}

// Computes reports whether the accelerator computes its layers: emulated ones do so only where an option says so.
func (s Spec) Computes() bool {
	return s.Provider != EmulatedProvider || s.Options["compute"] == "true"
}

// ErrSpec is wrapped by errors about a specification that makes no sense on
// this machine, whatever the state of its drivers.
var ErrSpec = errors.New("invalid accelerator")

// Validate checks the name, that the provider, the optimisation level and the
// cores exist, and that there is a core for every thread.
func (s Spec) Validate() error {
	if s.Name == "" {
		return fmt.Errorf("%w: it needs a name", ErrSpec)
	}
	if err := s.config().Validate(); err != nil {
		return fmt.Errorf("%w %q: %w", ErrSpec, s.Name, err)
	}
	return nil
}

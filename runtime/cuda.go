package runtime

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"unsafe"

	"github.com/terastal/terastal/internal/cuda"
	"github.com/terastal/terastal/internal/ort"
)

// gpus are the CUDA devices of a Devices that are open, by name.
type gpus struct {
	mu     sync.Mutex
	opened map[string]*gpu
}

// gpu is a CUDA device that streams share.
type gpu struct {
	*cuda.Device
	name    string
	place   *ort.Place
	setup   *cuda.Stream // of what is done before anything runs
	streams int          // that are open
	free    int64        // bytes of memory before anything was opened

	mu        sync.Mutex // one session is opened at a time
	optimised []optimised
	weights   map[[sha256.Size]byte]*weight
	use       DeviceUse
	apart     int   // sessions that share no weights, though there are several streams
	why       error // of the first
}

// DeviceUse is what a device's memory is used for, in bytes.
type DeviceUse struct {
	// Weights are those that sessions share. Sessions is what the sessions took when they were opened: the weights that
	// they do not share, handles of libraries and their workspaces. Buffers are requests' tensors. Graphs is what
	// capturing took.
	Weights, Sessions, Buffers, Graphs int64
	// All is what has become less free since the device was opened: Weights to Graphs, and what runs have allocated.
	// Other programs on the device are in it, too.
	All int64
}

// shared is from how many bytes on a weight is shared between sessions.
const shared = 4096

// keptModels is how many optimised models are kept for the next streams, which prepare a layer one after another.
const keptModels = 4

// optimised is a model as the provider optimised it.
type optimised struct {
	key   [sha256.Size]byte
	model []byte
}

// weight is a constant of models in the device's memory.
type weight struct {
	key   [sha256.Size]byte
	data  unsafe.Pointer
	value ort.Value
	size  int
	users int // sessions
}

// errNoCUDA says that an accelerator has to do without the CUDA runtime.
var errNoCUDA = errors.New("accelerators are not streams")

// open opens a stream of the CUDA device that an accelerator is on. library is the path of the CUDA runtime, empty for
// the one of the system.
func (g *gpus) open(s Spec, trace *ORTTrace, library string) (Accelerator, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	c := s.config()
	place, err := ort.NewPlace(c)
	if err != nil {
		return nil, err
	}
	d := g.opened[s.OnDevice()]
	if d != nil && d.place.Device != place.Device {
		place.Close()
		return nil, fmt.Errorf("streams of %s are on CUDA devices %d and %d: give them the same device_id", d.name,
			d.place.Device, place.Device)
	}
	if d == nil {
		if d, err = openGPU(s.OnDevice(), place, library); err != nil {
			place.Close()
			return nil, err
		}
	} else {
		place.Close()
	}
	a := &cudaAccelerator{opened: opened{s, trace}, gpu: d, owner: g}
	if a.stream, err = d.NewStream(); err != nil {
		if d.streams == 0 {
			d.close()
		}
		return nil, err
	}
	if g.opened == nil {
		g.opened = map[string]*gpu{}
	}
	g.opened[d.name] = d
	d.streams++
	return a, nil
}

func openGPU(name string, place *ort.Place, library string) (*gpu, error) {
	l, err := cuda.Load(library)
	if errors.Is(err, cuda.ErrNone) {
		return nil, fmt.Errorf("%w: %w", errNoCUDA, err)
	}
	if err != nil {
		return nil, err
	}
	d := &gpu{name: name, place: place, weights: map[[sha256.Size]byte]*weight{}}
	if d.Device, err = l.Device(place.Device); err != nil {
		return nil, err
	}
	if d.free, _, err = d.Room(); err != nil {
		return nil, err
	}
	if d.setup, err = d.NewStream(); err != nil {
		return nil, err
	}
	if err := d.check(); err != nil {
		return nil, errors.Join(err, d.setup.Close())
	}
	return d, nil
}

// check refuses a device that does not bring back what it was given.
func (d *gpu) check() error {
	sent, back := []byte("terastal"), make([]byte, 8)
	data, err := d.Allocate(len(sent))
	if err != nil {
		return err
	}
	defer d.Free(data)
	if err := errors.Join(d.setup.Copy(data, unsafe.Pointer(&sent[0]), len(sent), cuda.ToDevice),
		d.setup.Copy(unsafe.Pointer(&back[0]), data, len(back), cuda.ToHost), d.setup.Wait()); err != nil {
		return err
	}
	if !slices.Equal(sent, back) {
		return fmt.Errorf("CUDA device %d brings back other bytes than it was given: update its driver", d.place.Device)
	}
	return nil
}

// close is for a device without streams, whose sessions are closed.
func (d *gpu) close() error {
	d.place.Close()
	return d.setup.Close()
}

// room is how much memory is free, 0 where that is not known.
func (d *gpu) room() int64 {
	free, _, err := d.Room()
	if err != nil {
		return 0
	}
	return free
}

// session opens a session for a unit on a stream. Where the device has several streams its large weights are those that
// the sessions of the others have, too.
func (d *gpu) session(u Unit, c ort.Config, several bool) (s *ort.Session, used []*weight, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	before, weights := d.room(), d.use.Weights
	defer func() {
		if s != nil {
			d.use.Sessions += max(0, before-d.room()-(d.use.Weights-weights))
		}
	}()
	in, out := names(u.Inputs), names(u.Outputs)
	if several {
		if s, used, err = d.sharing(u, c, in, out); err == nil || errors.Is(noRoom(err), ErrNoRoom) {
			return s, used, err
		}
	}
	// What cannot be saved, or not opened again, is opened as it is.
	s, alone := ort.NewSession(u.ONNX, in, out, c)
	if err != nil && alone == nil {
		if d.apart++; d.why == nil {
			d.why = err
		}
	}
	return s, nil, alone
}

// sharing opens a session of the optimised model with weights that are on the device once.
func (d *gpu) sharing(u Unit, c ort.Config, in, out []string) (*ort.Session, []*weight, error) {
	model := u.ONNX
	if c.Optimization != "none" {
		var err error
		if model, err = d.optimise(u.ONNX, c); err != nil {
			return nil, nil, err
		}
		c.Optimization = "none"
	}
	list, err := ort.Initializers(model, shared)
	if err != nil {
		return nil, nil, err
	}
	var used []*weight
	c.Initializers = map[string]ort.Value{}
	for _, i := range list {
		w, err := d.weight(i)
		if err != nil {
			d.release(used)
			return nil, nil, err
		}
		used, c.Initializers[i.Name] = append(used, w), w.value
	}
	s, err := ort.NewSession(model, in, out, c)
	if err != nil {
		d.release(used)
		return nil, nil, err
	}
	return s, used, nil
}

// optimise is a model as the provider optimises it, once for all streams that prepare it one after another.
func (d *gpu) optimise(model []byte, c ort.Config) ([]byte, error) {
	h := sha256.New()
	fmt.Fprintf(h, "%s %v ", c.Optimization, c.Options)
	h.Write(model)
	key := [sha256.Size]byte(h.Sum(nil))
	for _, o := range d.optimised {
		if o.key == key {
			return o.model, nil
		}
	}
	made, err := ort.Optimize(model, c)
	if err != nil {
		return nil, err
	}
	d.optimised = append(d.optimised, optimised{key, made})
	if len(d.optimised) > keptModels {
		d.optimised = slices.Delete(d.optimised, 0, 1)
	}
	return made, nil
}

// weight is an initializer in the device's memory, for one more session.
func (d *gpu) weight(i ort.Initializer) (*weight, error) {
	h := sha256.New()
	fmt.Fprint(h, i.Type, i.Shape, " ")
	h.Write(i.Data)
	key := [sha256.Size]byte(h.Sum(nil))
	if w := d.weights[key]; w != nil {
		w.users++
		return w, nil
	}
	w := &weight{key: key, size: len(i.Data), users: 1}
	var err error
	if w.data, err = d.Allocate(w.size); err != nil {
		return nil, err
	}
	from := unsafe.Pointer(unsafe.SliceData(i.Data))
	err = errors.Join(d.setup.Copy(w.data, from, w.size, cuda.ToDevice), d.setup.Wait())
	if err == nil {
		w.value, err = d.place.NewTensor(i.Type, i.Shape, w.data)
	}
	if err != nil {
		d.Free(w.data)
		return nil, err
	}
	d.weights[key] = w
	d.use.Weights += int64(w.size)
	return w, nil
}

// release gives weights back that a session had, which is closed.
func (d *gpu) release(used []*weight) {
	for _, w := range used {
		if w.users--; w.users == 0 {
			w.value.Destroy()
			d.Free(w.data)
			delete(d.weights, w.key)
			d.use.Weights -= int64(w.size)
		}
	}
}

// cudaAccelerator is a stream of a CUDA device. Its sessions, copies and graphs are all submitted there.
type cudaAccelerator struct {
	opened
	gpu    *gpu
	stream *cuda.Stream
	owner  *gpus
}

func (a *cudaAccelerator) Memory() Memory { return cudaMemory{a} }

// Notes say what was made of the accelerator's options, and what its sessions do not share with those of other streams.
func (a *cudaAccelerator) Notes() []string {
	notes, d := a.spec.notes(), a.gpu
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.apart > 0 && a.spec.Stream == 0 {
		notes = append(notes, fmt.Sprintf("%s: %d sessions do not share their weights with other streams: %v", d.name,
			d.apart, d.why))
	}
	return notes
}

// DeviceUse is what the memory of the whole device is used for.
func (a *cudaAccelerator) DeviceUse() DeviceUse {
	d := a.gpu
	d.mu.Lock()
	defer d.mu.Unlock()
	use := d.use
	if free := d.room(); free > 0 {
		use.All = max(0, d.free-free)
	}
	return use
}

// Close does not wait: the kernels have, and what a stream that hangs was given never ends.
func (a *cudaAccelerator) Close() error {
	err := a.stream.Close()
	a.owner.mu.Lock()
	defer a.owner.mu.Unlock()
	if a.gpu.streams--; a.gpu.streams == 0 {
		delete(a.owner.opened, a.gpu.name)
		err = errors.Join(err, a.gpu.close())
	}
	return err
}

func (a *cudaAccelerator) Prepare(u Unit) (Kernel, error) {
	c, err := a.spec.unit(u)
	if err != nil {
		return nil, err
	}
	c.Profile, c.Stream = a.trace.prefix(), a.stream.Pointer()
	s, used, err := a.gpu.session(u, c, a.spec.Of != "" && ort.ProviderName(a.spec.Provider) != "tensorrt")
	if err != nil {
		return nil, fmt.Errorf("accelerator %q refuses %s: %w", a.spec.Name, u.Name, noRoom(err))
	}
	a.trace.add(a.spec.Name, u, s)
	k := &cudaKernel{ortKernel: newKernel(u, s), accelerator: a, used: used}
	if ort.ProviderName(a.spec.Provider) == "tensorrt" {
		k.known = true
		return k, nil
	}
	return &capturable{k}, nil
}

// full are what providers say when the device has no memory left.
var full = []string{"Failed to allocate memory", "out of memory", "STATUS_ALLOC_FAILED"}

// noRoom marks errors that say that the device's memory is used up.
func noRoom(err error) error {
	if err == nil || errors.Is(err, ErrNoRoom) {
		return err
	}
	if errors.Is(err, cuda.ErrMemory) || slices.ContainsFunc(full, func(text string) bool {
		return strings.Contains(err.Error(), text)
	}) {
		return fmt.Errorf("%w: %w", ErrNoRoom, err)
	}
	return err
}

// notes say which options of the accelerator layers do not get.
func (s Spec) notes() (out []string) {
	c := ort.Config{Provider: s.Provider, Options: s.Options, Library: s.Local.Library}
	for _, option := range c.NotForLayers() {
		out = append(out, fmt.Sprintf("%s: option %s is not used: layers are captured as graphs by themselves", s.Name,
			option))
	}
	return out
}

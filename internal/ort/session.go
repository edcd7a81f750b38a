package ort

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"unsafe"

	ort "github.com/yalue/onnxruntime_go"
)

// ErrClosed is what a session that was closed answers.
var ErrClosed = errors.New("the session is closed")

// TensorInfo describes an input or output of a session.
type TensorInfo struct {
	Name  string
	Type  DataType
	Shape []int64 // -1 stands for a dimension that is known only when it runs
}

// Session is a model that is ready to run. Its methods may be called from any
// goroutine; Close waits for runs under way.
type Session struct {
	mu                sync.RWMutex
	session           *ort.DynamicAdvancedSession // nil once closed
	native            unsafe.Pointer
	inputs, outputs   []TensorInfo
	inNames, outNames names
	submits           bool // runs return once they are submitted
}

// NewSession opens a model, an ONNX file's bytes. inputs and outputs choose and order what Run takes and gives; nil
// stands for all of the model's. A model may have no inputs. ort.Start has to come first.
func NewSession(model []byte, inputs, outputs []string, c Config) (*Session, error) {
	if len(model) == 0 {
		return nil, errors.New("opening a session: the model is empty")
	}
	return newSession(model, inputs, outputs, c, func(o *ort.SessionOptions) (*ort.DynamicAdvancedSession, error) {
		return ort.NewDynamicAdvancedSessionWithONNXData(model, nil, nil, o)
	})
}

// NewSessionFromFile is NewSession for a model in a file, which also finds the
// weights that the model keeps in files next to it.
func NewSessionFromFile(path string, inputs, outputs []string, c Config) (*Session, error) {
	return newSession(nil, inputs, outputs, c, fromFile(path))
}

func fromFile(path string) opener {
	return func(o *ort.SessionOptions) (*ort.DynamicAdvancedSession, error) {
		return ort.NewDynamicAdvancedSession(path, nil, nil, o)
	}
}

// opener opens a model with options.
type opener func(*ort.SessionOptions) (*ort.DynamicAdvancedSession, error)

// newSession opens a session; model is for the cache of engines, nil for models that are not to be kept.
func newSession(model []byte, inputs, outputs []string, c Config, open opener) (*Session, error) {
	if err := started(); err != nil {
		return nil, err
	}
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c = c.filled()
	c.environment()
	fail := func(err error) (*Session, error) {
		message := strings.TrimPrefix(oneLine(err.Error()), "Error creating C session: ")
		message = strings.TrimPrefix(message, "Error creating C session from file: ")
		return nil, fmt.Errorf("opening a session on %s: %s", c.Provider, message)
	}
	s := &Session{submits: c.Stream != nil}
	var err error
	if s.session, err = c.open(model, open); err != nil {
		if left := leftOver(c, open); left != nil {
			return nil, left
		}
		return fail(err)
	}
	if err := s.describe(inputs, outputs); err != nil {
		s.session.Destroy()
		return fail(err)
	}
	s.inNames, s.outNames = newNames(s.inputs), newNames(s.outputs)
	return s, nil
}

// open opens a session with the engine that is kept for the model, if there is
// one, and keeps it else. An engine that the provider does not take is removed.
func (c Config) open(model []byte, open opener) (*ort.DynamicAdvancedSession, error) {
	kept, err := c.engine(model)
	if err != nil {
		return nil, err
	}
	if kept == nil {
		return c.openWith(open)
	}
	told, file := c.with(kept)
	from := open
	if file != "" {
		from = fromFile(file)
	}
	session, err := told.openWith(from)
	if err == nil {
		// The session is good all the same: where its engine cannot be kept, such
		// as on a full disk, the next one compiles again.
		_ = kept.Commit(engineLimit)
		return session, nil
	}
	kept.Discard()
	if !kept.Hit {
		return nil, err
	}
	return c.openWith(open) // the next one to open it keeps a new one
}

// openWith opens a session as it is configured, on this thread.
func (c Config) openWith(open opener) (session *ort.DynamicAdvancedSession, err error) {
	load := func() error {
		options, err := c.sessionOptions()
		if err != nil {
			return err
		}
		defer options.Destroy()
		session, err = open(options)
		return err
	}
	if c.Provider == cpu {
		return session, load()
	}
	if c.Library != "" {
		devices, err := Devices(c.Provider, c.Library)
		if err != nil {
			return nil, err
		}
		if c.picked, err = pick(devices, c.Device); err != nil {
			return nil, err
		}
	}
	// Threads that the provider starts inherit the cores of the one that opens.
	cores := c.Cores
	if c.Provider == "cuda" || c.Provider == "tensorrt" {
		cores = nil // the thread that runs it spins there, while theirs are to do something for it
	}
	err = onCores(cores, func() error { return guarded(load) })
	return session, err
}

// RefusedError says which nodes of a model a provider does not take: with fallback to the CPU they would run there.
type RefusedError struct {
	Provider string
	Nodes    []string // each "name (operator)"
}

func (e *RefusedError) Error() string {
	const shown = 8
	list, more := e.Nodes, ""
	if len(list) > shown {
		list, more = list[:shown], fmt.Sprintf(" and %d more", len(list)-shown)
	}
	return fmt.Sprintf("%s does not take %s%s", e.Provider, strings.Join(list, ", "), more)
}

// leftOver finds out, after a session could not be opened with fallback to the
// CPU off, what would have been left to it; nil if that was not the reason.
func leftOver(c Config, open opener) error {
	if c.Provider == cpu || c.AllowFallback {
		return nil
	}
	c.AllowFallback, c.SaveOptimized, c.Engines, c.Profile = true, "", "", ""
	session, err := c.option("session.record_ep_graph_assignment_info", "1").openWith(open)
	if err != nil {
		return nil
	}
	defer session.Destroy()
	native, err := sessionPointer(session)
	if err != nil {
		return nil
	}
	nodes, err := placed(native, cpuProvider)
	if err != nil || len(nodes) == 0 {
		return nil
	}
	return &RefusedError{c.Provider, nodes}
}

// cpu is the provider's name in a filled Config.
const cpu = "cpu"

// cpuProvider is ONNX Runtime's own name for it.
const cpuProvider = "CPUExecutionProvider"

// describe fills in the chosen inputs and outputs.
func (s *Session) describe(inputs, outputs []string) (err error) {
	if s.native, err = sessionPointer(s.session); err != nil {
		return err
	}
	allIn, allOut, err := sessionValues(s.native)
	if err != nil {
		return err
	}
	if s.inputs, err = choose("input", inputs, allIn); err != nil {
		return err
	}
	if s.outputs, err = choose("output", outputs, allOut); err != nil {
		return err
	}
	for _, in := range allIn {
		if !slices.ContainsFunc(s.inputs, func(t TensorInfo) bool { return t.Name == in.Name }) {
			return fmt.Errorf("the model needs input %q too: name all of its inputs", in.Name)
		}
	}
	if len(s.outputs) == 0 {
		return errors.New("no outputs: name at least one")
	}
	return nil
}

// choose picks the wanted ones, in their order; nil wants all.
func choose(kind string, wanted []string, all []described) ([]TensorInfo, error) {
	var have []string
	for _, d := range all {
		have = append(have, d.Name)
	}
	if wanted == nil {
		wanted = have
	}
	chosen := make([]TensorInfo, 0, len(wanted))
	for i, name := range wanted {
		at := slices.Index(have, name)
		if at < 0 {
			return nil, fmt.Errorf("the model has no %s %q: it has %q", kind, name, have)
		}
		if slices.Contains(wanted[:i], name) {
			return nil, fmt.Errorf("%s %q is named twice", kind, name)
		}
		if !all[at].tensor {
			return nil, fmt.Errorf("%s %q is a sequence, a map or optional: only tensors are supported", kind, name)
		}
		chosen = append(chosen, all[at].TensorInfo)
	}
	return chosen, nil
}

// Inputs describes what Run takes, in its order.
func (s *Session) Inputs() []TensorInfo { return cloneInfos(s.inputs) }

// Outputs describes what Run gives, in its order.
func (s *Session) Outputs() []TensorInfo { return cloneInfos(s.outputs) }

func cloneInfos(infos []TensorInfo) []TensorInfo {
	clone := slices.Clone(infos)
	for i := range clone {
		clone[i].Shape = slices.Clone(clone[i].Shape)
	}
	return clone
}

// onStack is how many inputs or outputs a run handles without allocating.
const onStack = 16

// Run computes out from in, which match Inputs and Outputs in number, order and type. Tensors in out are written to;
// nil entries are replaced by new tensors, which the caller destroys. After an error no entry was replaced, and tensors
// in out hold anything. Where the configuration has a stream, it returns once everything is submitted there, if all
// tensors are on the device; an error of the device comes later.
func (s *Session) Run(in, out []Value) error { return s.run(in, out, s.submits) }

// RunAndWait is Run that returns when everything is complete. Host memory that the provider copied from, in this run and
// in those that were submitted before, is free then. CUDA's provider frees it at no other time: after a run that was only
// submitted, closing the session ends the process where there is such memory.
func (s *Session) RunAndWait(in, out []Value) error { return s.run(in, out, false) }

func (s *Session) run(in, out []Value, submit bool) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.session == nil {
		return ErrClosed
	}
	if len(in) != len(s.inputs) || len(out) != len(s.outputs) {
		return fmt.Errorf("the session has %d inputs and %d outputs, Run got %d and %d", len(s.inputs), len(s.outputs),
			len(in), len(out))
	}
	var inBuf, outBuf [onStack]unsafe.Pointer
	ins, err := pointers(inBuf[:0], "input", in, s.inputs, false)
	if err != nil {
		return err
	}
	outs, err := pointers(outBuf[:0], "output", out, s.outputs, true)
	if err != nil {
		return err
	}
	err = runNative(s.native, submit, s.inNames, ins, s.outNames, outs)
	runtime.KeepAlive(in)
	runtime.KeepAlive(out)
	if err != nil {
		s.release(out, outs)
		return fmt.Errorf("running a session: %w", err)
	}
	return s.fill(out, outs)
}

// pointers appends the OrtValues of values, whose types have to match.
func pointers(list []unsafe.Pointer, kind string, values []Value, infos []TensorInfo,
	allowNil bool) ([]unsafe.Pointer, error) {
	for i, v := range values {
		info := infos[i]
		if v == nil && allowNil {
			if info.Type.Size() == 0 {
				return nil, fmt.Errorf("%s %q is a tensor of %s, which is not supported", kind, info.Name, info.Type)
			}
			list = append(list, nil)
			continue
		}
		if err := v.usable(); err != nil {
			return nil, fmt.Errorf("%s %q %w", kind, info.Name, err)
		}
		// ONNX Runtime trusts the type of the outputs it is given.
		if v.typ != info.Type {
			return nil, fmt.Errorf("%s %q is a tensor of %s, got %s", kind, info.Name, info.Type, v.typ)
		}
		list = append(list, v.value)
	}
	return list, nil
}

// fill copies what ONNX Runtime allocated into tensors of our own: its memory
// may belong to the session, or be an input's.
func (s *Session) fill(out []Value, outs []unsafe.Pointer) error {
	defer s.release(out, outs)
	var made []int
	for i, v := range out {
		if v != nil {
			continue
		}
		t, shape, data, err := viewValue(outs[i])
		var fresh Value
		if err == nil {
			fresh, err = NewTensor(t, shape, append(make([]byte, 0, len(data)), data...))
		}
		if err != nil {
			for _, j := range made {
				out[j].Destroy()
				out[j] = nil
			}
			return fmt.Errorf("output %q: %w", s.outputs[i].Name, err)
		}
		releaseValue(outs[i])
		outs[i], out[i] = nil, fresh
		made = append(made, i)
	}
	return nil
}

// release frees the OrtValues that ONNX Runtime allocated for nil outputs.
func (s *Session) release(out []Value, outs []unsafe.Pointer) {
	for i, v := range out {
		if v == nil {
			releaseValue(outs[i])
		}
	}
}

// Close frees the session. It may be called twice.
func (s *Session) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.session == nil {
		return nil
	}
	err := s.session.Destroy()
	s.inNames.free()
	s.outNames.free()
	s.session, s.native, s.inNames, s.outNames = nil, nil, nil, nil
	return err
}

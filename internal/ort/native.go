package ort

/*
#cgo linux LDFLAGS: -ldl
#cgo noescape terastal_ort_run
#cgo nocallback terastal_ort_run
#include "api.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"unsafe"

	ort "github.com/yalue/onnxruntime_go"
)

// This file is the only one that talks to C. It covers what the wrapper does
// not: tensors, models without inputs, a run without garbage.

// maxRank bounds the dimensions of a tensor; ONNX operators stay far below it.
const maxRank = 32

// apiVersion is the ORT_API_VERSION of ONNX Runtime 1.29.
const apiVersion = 29

// kindTensor is ONNX_TYPE_TENSOR.
const kindTensor = 1

// takeError makes an error of a message from C, in one line, and frees it.
func takeError(message *C.char) error {
	if message == nil {
		return nil
	}
	return errors.New(oneLine(takeText(message)))
}

// takeText is a text from C, which it frees.
func takeText(text *C.char) string {
	defer C.free(unsafe.Pointer(text))
	return C.GoString(text)
}

// oneLine puts a message of ONNX Runtime into one line, and leaves out the
// place in its source that a failed check starts with.
func oneLine(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	// Place in the source, function, [ONNXRuntimeError] : number : KIND : text.
	if _, after, ok := strings.Cut(s, "[ONNXRuntimeError] : "); ok {
		if parts := strings.SplitN(after, " : ", 3); len(parts) == 3 {
			s = parts[2]
		}
	}
	if before, after, ok := strings.Cut(s, " was false. "); ok && after != "" {
		if at := strings.Index(before, ".cc:"); at >= 0 {
			start := strings.LastIndex(before[:at], " ") + 1
			s = before[:start] + after
		}
	}
	return s
}

// madeText is a text that a function of api.h makes.
func madeText(call func(text **C.char) *C.char) (string, error) {
	var text *C.char
	if err := takeError(call(&text)); err != nil {
		return "", err
	}
	return takeText(text), nil
}

// libraryVersion loads a library just long enough to ask for its version.
func libraryVersion(path string) (string, error) {
	cpath := C.CString(path)
	defer C.free(unsafe.Pointer(cpath))
	return madeText(func(text **C.char) *C.char { return C.terastal_ort_version(cpath, text) })
}

// attach reaches the C API of the library that the wrapper has loaded.
func attach(path string) error {
	cpath := C.CString(path)
	defer C.free(unsafe.Pointer(cpath))
	return takeError(C.terastal_ort_attach(cpath, apiVersion))
}

// sessionPointer is the OrtSession behind one of the wrapper's sessions.
func sessionPointer(s *ort.DynamicAdvancedSession) (unsafe.Pointer, error) {
	return hidden("session", s, "s", "ortSession")
}

// hidden is the pointer in one of the wrapper's objects that a path of fields leads to; what names it in the error.
func hidden(what string, object any, fields ...string) (p unsafe.Pointer, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("this version of onnxruntime_go hides its %s: %v", what, r)
		}
	}()
	v := reflect.ValueOf(object)
	for _, field := range fields {
		v = v.Elem().FieldByName(field)
	}
	return v.UnsafePointer(), nil
}

// sessionValues describes the inputs and outputs of a session, in order.
func sessionValues(session unsafe.Pointer) (inputs, outputs []described, err error) {
	var nIn, nOut C.size_t
	if err := takeError(C.terastal_ort_session_counts(session, &nIn, &nOut)); err != nil {
		return nil, nil, err
	}
	inputs, outputs = make([]described, nIn), make([]described, nOut)
	for side, list := range [][]described{inputs, outputs} {
		for i := range list {
			if list[i], err = sessionValue(session, side, i); err != nil {
				return nil, nil, fmt.Errorf("%s %d: %w", []string{"input", "output"}[side], i, err)
			}
		}
	}
	return inputs, outputs, nil
}

// described is an input or output of any kind; only tensors have a type.
type described struct {
	TensorInfo
	tensor bool
}

// sessionValue describes an input (side 0) or an output (1).
func sessionValue(session unsafe.Pointer, side, index int) (described, error) {
	var name *C.char
	var info C.terastal_ort_info
	var dims [maxRank]C.int64_t
	err := takeError(C.terastal_ort_session_value(session, C.int(side), C.size_t(index), &name, &info, &dims[0], maxRank))
	text := takeText(name)
	if err != nil {
		return described{}, err
	}
	return described{
		TensorInfo: TensorInfo{Name: text, Type: fromNative(int32(info._type)), Shape: shapeOf(dims[:info.rank])},
		tensor:     info.kind == kindTensor,
	}, nil
}

func shapeOf(dims []C.int64_t) []int64 {
	shape := make([]int64, len(dims))
	for i, d := range dims {
		shape[i] = int64(d)
	}
	return shape
}

// names is an array of C strings.
type names []*C.char

func newNames(infos []TensorInfo) names {
	n := make(names, len(infos))
	for i, info := range infos {
		n[i] = C.CString(info.Name)
	}
	return n
}

func (n names) free() {
	for _, s := range n {
		C.free(unsafe.Pointer(s))
	}
}

// runNative runs a session, or only submits the run; nil entries of out are filled with new OrtValues.
func runNative(session unsafe.Pointer, submit bool, inNames names, in []unsafe.Pointer, outNames names,
	out []unsafe.Pointer) error {
	var only C.int
	if submit {
		only = 1
	}
	return takeError(C.terastal_ort_run(session, only,
		unsafe.SliceData(inNames), unsafe.SliceData(in), C.size_t(len(in)),
		unsafe.SliceData(outNames), unsafe.SliceData(out), C.size_t(len(out))))
}

// viewValue is what a tensor holds that ONNX Runtime made. data is its memory,
// not a copy; it is nil for types that have none: strings and packed ones.
func viewValue(value unsafe.Pointer) (t DataType, shape []int64, data []byte, err error) {
	var info C.terastal_ort_info
	var dims [maxRank]C.int64_t
	var memory unsafe.Pointer
	if err := takeError(C.terastal_ort_value(value, &info, &dims[0], maxRank, &memory)); err != nil {
		return Undefined, nil, nil, err
	}
	t, shape = fromNative(int32(info._type)), shapeOf(dims[:info.rank])
	size, err := byteSize(t, shape)
	if size > 0 {
		data = unsafe.Slice((*byte)(memory), size)
	}
	return t, shape, data, err
}

func releaseValue(value unsafe.Pointer) { C.terastal_ort_release(value) }

// nativeMemory is memory that a session computes in: a description and what allocates there.
type nativeMemory struct{ info, allocator unsafe.Pointer }

// openMemory finds the memory called name of a device; kind is an OrtMemType.
func openMemory(session unsafe.Pointer, name string, id, kind int) (m nativeMemory, err error) {
	cname := C.CString(name)
	defer C.free(unsafe.Pointer(cname))
	err = takeError(C.terastal_ort_memory(session, cname, C.int(id), C.int(kind), &m.info, &m.allocator))
	return m, err
}

// describeMemory is memory called name of a device that nobody allocates by it.
func describeMemory(name string, id int) (m nativeMemory, err error) {
	cname := C.CString(name)
	defer C.free(unsafe.Pointer(cname))
	err = takeError(C.terastal_ort_memory_info(cname, C.int(id), &m.info))
	return m, err
}

// setStream has a provider submit to a stream; options are the wrapper's for CUDA or TensorRT.
func setStream(options any, stream unsafe.Pointer) error {
	p, err := hidden("options", options, "o")
	if err != nil {
		return err
	}
	var tensorRT C.int
	if _, is := options.(*ort.TensorRTProviderOptions); is {
		tensorRT = 1
	}
	return takeError(C.terastal_ort_set_stream(p, tensorRT, stream))
}

// addInitializer gives sessions a value for an initializer.
func addInitializer(o *ort.SessionOptions, name string, v Value) error {
	if err := v.usable(); err != nil {
		return fmt.Errorf("initializer %q %w", name, err)
	}
	p, err := hidden("options", o, "o")
	if err != nil {
		return err
	}
	cname := C.CString(name)
	defer C.free(unsafe.Pointer(cname))
	return takeError(C.terastal_ort_add_initializer(p, cname, v.value))
}

func (m nativeMemory) close() { C.terastal_ort_memory_close(m.info, m.allocator) }

// allocate makes an OrtValue of count int32, and returns its address or handle, too.
func (m nativeMemory) allocate(count int) (value, data unsafe.Pointer, err error) {
	err = takeError(C.terastal_ort_allocate(m.allocator, C.int64_t(count), &value, &data))
	return value, data, err
}

// view makes an OrtValue over the first size bytes at data, which has to outlive
// it. The zero nativeMemory is the host's.
func (m nativeMemory) view(t DataType, shape []int64, data unsafe.Pointer, size int) (value unsafe.Pointer, err error) {
	err = takeError(C.terastal_ort_view(m.info, data, C.size_t(size),
		(*C.int64_t)(unsafe.SliceData(shape)), C.size_t(len(shape)), C.int32_t(t.native()), &value))
	return value, err
}

// placed lists the nodes of a session that a provider has, as "name (type)".
func placed(session unsafe.Pointer, provider string) ([]string, error) {
	cprovider := C.CString(provider)
	defer C.free(unsafe.Pointer(cprovider))
	text, err := madeText(func(text **C.char) *C.char { return C.terastal_ort_placed(session, cprovider, text) })
	if err != nil {
		return nil, err
	}
	var nodes []string
	for line := range strings.Lines(text) {
		name, kind, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		nodes = append(nodes, fmt.Sprintf("%s (%s)", name, kind))
	}
	return nodes, nil
}

// endProfiling is when a session's profile began, on ONNX Runtime's clock, and the file that it now lies in.
func endProfiling(session unsafe.Pointer) (start uint64, file string, err error) {
	var cstart C.uint64_t
	var cfile *C.char
	if err := takeError(C.terastal_ort_end_profiling(session, &cstart, &cfile)); err != nil {
		return 0, "", err
	}
	return uint64(cstart), takeText(cfile), nil
}

// nativeAvailable and nativeDevice are the texts that api.h describes.
func nativeAvailable() (string, error) {
	return madeText(func(text **C.char) *C.char { return C.terastal_ort_available(text) })
}

func nativeDevice(device unsafe.Pointer) (string, error) {
	return madeText(func(text **C.char) *C.char { return C.terastal_ort_device(device, text) })
}

func keepSignals() { C.terastal_signals_keep() }

// restoreSignals returns how many handlers it put back.
func restoreSignals() int { return int(C.terastal_signals_restore()) }

// Allocated is how many bytes native code has allocated, 0 where the system does not tell.
func Allocated() int64 { return int64(C.terastal_allocated()) }

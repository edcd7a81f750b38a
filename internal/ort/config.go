package ort

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"github.com/terastal/terastal/internal/hostinfo"
	ort "github.com/yalue/onnxruntime_go"
)

// Config says how a session computes. The zero value is the CPU provider with
// all optimisations and one thread: the thread that calls Run.
type Config struct {
	// Provider is the execution provider (EP), one of Providers, in any case;
	// "" is "cpu". With a Library it may be any name.
	Provider string

	// Library is the absolute path of the library that the provider is in, where it is a plugin: see Installed. "" is a
	// provider that ONNX Runtime was built with.
	Library string

	// Device chooses among a plugin's devices: its number, the plugin's name for
	// it, or "cpu", "gpu" or "npu"; "" is the only one there is.
	Device string

	// Options are the provider's own options, as ONNX Runtime documents them. Keys that start with "session.", "ep.",
	// "optimization." or "mlas." are ONNX Runtime's session configuration entries instead. CUDA's default of computing
	// float32 in TF32, with 10 bits of fraction, is not taken over: "use_tf32" is "0" unless it is named.
	Options map[string]string

	// Optimization is how far ONNX Runtime rewrites the graph: "none", "basic",
	// "extended", "layout" or "all"; "" is "all".
	Optimization string

	// Threads is the number of threads that one operator is spread over; 0 is
	// 1. With 1, everything runs on the calling thread. Threads do not spin while they wait, so that several sessions can
	// share a machine; those with Cores spin as long as a run lasts.
	Threads int

	// Cores are the cores for the threads, counted from 0: none, or one for each thread. The caller of Run pins its own
	// thread to the first; the others are pinned here.
	Cores []int

	// Engines is the folder in which what the provider compiles is kept; "" keeps nothing. Machine is all that this
	// depends on besides the model, the settings and the libraries: processor, drivers, devices.
	Engines, Machine string

	// SaveOptimized is a file that the optimised model is written to, if set.
	SaveOptimized string

	// Profile, if set, turns ONNX Runtime's profiler on, which makes runs take longer: it is what the names of the
	// profile's files start with. See Session.EndProfiling.
	Profile string

	// AllowFallback lets nodes that the provider refuses run on the CPU. The
	// default is an error, because a silent fallback makes measured times lie.
	AllowFallback bool

	// Stream, if not nil, is a stream (cudaStream_t) of the caller's that CUDA and TensorRT submit their work to: runs
	// then only submit. It has to outlive the session.
	Stream unsafe.Pointer

	// Initializers take the place of the model's initializers of these names, where they are in the memory in which the
	// session wants them. They have to outlive it. Only models that are not optimised any more keep their names.
	Initializers map[string]Value

	picked Device // of the plugin
}

// named appends a provider that ONNX Runtime knows by name.
func named(name string) func(*ort.SessionOptions, map[string]string, unsafe.Pointer) error {
	return func(o *ort.SessionOptions, options map[string]string, _ unsafe.Pointer) error {
		return o.AppendExecutionProvider(name, options)
	}
}

// plain is how a provider is appended that has no stream.
func plain(f func(*ort.SessionOptions, map[string]string) error) func(*ort.SessionOptions, map[string]string,
	unsafe.Pointer) error {
	return func(o *ort.SessionOptions, options map[string]string, _ unsafe.Pointer) error { return f(o, options) }
}

// providers are the execution providers that Config accepts.
var providers = []struct {
	name   string
	append func(*ort.SessionOptions, map[string]string, unsafe.Pointer) error
}{
	{"cpu", plain(appendCPU)},
	{"webgpu", named("WebGPU")},
	{"cuda", appendCUDA},
	{"tensorrt", appendTensorRT},
	{"nvtensorrtrtx", named("NvTensorRtRtx")},
	{"openvino", plain((*ort.SessionOptions).AppendExecutionProviderOpenVINO)},
	{"coreml", plain((*ort.SessionOptions).AppendExecutionProviderCoreMLV2)},
	{"directml", plain(appendDirectML)},
	{"qnn", named("QNN")},
	{"xnnpack", named("XNNPACK")},
	{"vitisai", named("VitisAI")},
	{"snpe", named("SNPE")},
}

func appendCPU(_ *ort.SessionOptions, options map[string]string) error {
	for _, key := range slices.Sorted(maps.Keys(options)) {
		return fmt.Errorf("the cpu provider has no option %q: remove it (session.* entries are accepted)", key)
	}
	return nil
}

func appendCUDA(o *ort.SessionOptions, options map[string]string, stream unsafe.Pointer) error {
	return appendUpdated(ort.NewCUDAProviderOptions, o.AppendExecutionProviderCUDA, options, stream)
}

func appendTensorRT(o *ort.SessionOptions, options map[string]string, stream unsafe.Pointer) error {
	return appendUpdated(ort.NewTensorRTProviderOptions, o.AppendExecutionProviderTensorRT, options, stream)
}

// appendUpdated appends a provider that takes its options as an object.
func appendUpdated[T interface {
	Update(map[string]string) error
	Destroy() error
}](make func() (T, error), add func(T) error, options map[string]string, stream unsafe.Pointer) error {
	object, err := make()
	if err != nil {
		return err
	}
	defer object.Destroy()
	if err := object.Update(options); err != nil {
		return err
	}
	if stream != nil { // last: an update sets every option
		if err := setStream(object, stream); err != nil {
			return err
		}
	}
	return add(object)
}

func appendDirectML(o *ort.SessionOptions, options map[string]string) error {
	device := 0
	for _, key := range slices.Sorted(maps.Keys(options)) {
		if key != "device_id" {
			return fmt.Errorf("the directml provider has no option %q: its only one is device_id", key)
		}
		n, err := strconv.Atoi(options[key])
		if err != nil || n < 0 {
			return fmt.Errorf("device_id %q is not a number from 0 on", options[key])
		}
		device = n
	}
	return o.AppendExecutionProviderDirectML(device)
}

// aliases are other names of providers, after what ProviderName does to them.
var aliases = map[string]string{
	"": "cpu", "default": "cpu", "trt": "tensorrt", "dml": "directml", "ov": "openvino",
	"trtrtx": "nvtensorrtrtx", "tensorrtrtx": "nvtensorrtrtx", "gpucuda": "cuda",
}

// ProviderName is a provider's name as Config and Providers write it: any case, ONNX Runtime's own name
// (CUDAExecutionProvider) and the usual short ones (trt, dml) are understood.
func ProviderName(name string) string {
	name = strings.TrimSuffix(strings.ToLower(name), "executionprovider")
	return cmp.Or(aliases[name], name)
}

// harmless refuses options by which a document could run code or write to
// memory: those that name a library or hold an address.
func harmless(key, value string) error {
	if isEngineOption(key) {
		return fmt.Errorf("option %q says where engines are kept, which is done by itself: remove it (cache: off keeps none)",
			key)
	}
	key = strings.ToLower(key)
	switch key {
	case "user_compute_stream", "gpu_external_alloc", "gpu_external_free", "gpu_external_empty_cache",
		"external_allocator", "external_aux_streams", "user_aux_stream_array":
		return fmt.Errorf("option %q holds an address in memory: remove it", key)
	case "trt_extra_plugin_lib_paths", "backend_path":
		// A plain name is looked for where the system keeps its libraries.
		if strings.ContainsAny(value, `/\`) {
			return fmt.Errorf("option %q names a path: give a plain file name, or leave it out", key)
		}
	}
	return nil
}

// Providers are the names that Config.Provider accepts. Which of them open
// depends on the library and the machine: see Probe.
func Providers() []string {
	list := make([]string, len(providers))
	for i, p := range providers {
		list[i] = p.name
	}
	return list
}

// optimizations are ONNX Runtime's numbers of the levels.
var optimizations = map[string]ort.GraphOptimizationLevel{
	"none":     ort.GraphOptimizationLevelDisableAll,
	"basic":    ort.GraphOptimizationLevelEnableBasic,
	"extended": ort.GraphOptimizationLevelEnableExtended,
	"layout":   3, // ORT_ENABLE_LAYOUT, which the wrapper does not name
	"all":      ort.GraphOptimizationLevelEnableAll,
}

// useTF32 is CUDA's option that lets float32 convolutions and products lose precision.
const useTF32 = "use_tf32"

// filled is c with its defaults written out and its names in lower case.
func (c Config) filled() Config {
	c.Provider = ProviderName(c.Provider)
	c.Optimization = cmp.Or(strings.ToLower(c.Optimization), "all")
	c.Threads = cmp.Or(c.Threads, 1)
	if c.Provider == "cuda" && c.Library == "" && c.Options[useTF32] == "" {
		return c.option(useTF32, "0")
	}
	return c
}

// option is c with one more option.
func (c Config) option(key, value string) Config {
	options := map[string]string{key: value}
	for k, v := range c.Options {
		if k != key {
			options[k] = v
		}
	}
	c.Options = options
	return c
}

// With is c with further options, which go before those that it has.
func (c Config) With(options map[string]string) Config {
	for key, value := range options {
		c = c.option(key, value)
	}
	return c
}

// cores are those that this process may use.
var cores = hostinfo.Cores()

// Validate checks what can be checked without opening a session. Its errors list the values that would be accepted.
func (c Config) Validate() error { return c.validate(cores) }

func (c Config) validate(cores []int) error {
	f := c.filled()
	if c.Library == "" {
		if !slices.Contains(Providers(), f.Provider) {
			return fmt.Errorf("unknown provider %q: use one of %s", c.Provider, strings.Join(Providers(), ", "))
		}
		if c.Device != "" {
			return fmt.Errorf("device is %q, but the %s provider is no plugin: choose its device by its options", c.Device,
				f.Provider)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(f.Options)) {
		if err := harmless(key, f.Options[key]); err != nil {
			return err
		}
	}
	if _, ok := optimizations[f.Optimization]; !ok {
		return fmt.Errorf("unknown optimization %q: use one of none, basic, extended, layout, all", c.Optimization)
	}
	if f.Threads < 1 || f.Threads > len(cores) {
		return fmt.Errorf("threads is %d: use 1 to %d, the number of cores that this process may use", c.Threads, len(cores))
	}
	if len(f.Cores) > 0 && len(f.Cores) != f.Threads {
		return fmt.Errorf("cores lists %d cores for %d threads: list one core for each thread, or none", len(f.Cores),
			f.Threads)
	}
	for i, core := range f.Cores {
		if !slices.Contains(cores, core) {
			return fmt.Errorf("core %d is not one that this process may use: use some of %s", core, joinInts(cores, ", "))
		}
		if slices.Contains(f.Cores[:i], core) {
			return fmt.Errorf("core %d is listed twice: list one core for each thread", core)
		}
	}
	return nil
}

func joinInts(list []int, sep string) string {
	return strings.ReplaceAll(strings.Trim(fmt.Sprint(list), "[]"), " ", sep)
}

// isEntry tells session configuration entries from provider options.
func isEntry(key string) bool {
	prefix, _, dotted := strings.Cut(key, ".")
	return dotted && slices.Contains([]string{"session", "ep", "optimization", "mlas"}, prefix)
}

// entries are the session configuration entries of a filled Config.
func (c Config) entries() map[string]string {
	e := map[string]string{
		"session.intra_op.allow_spinning": "0",
		"session.inter_op.allow_spinning": "0",
	}
	if len(c.Cores) > 1 {
		// ONNX Runtime counts cores from 1, and leaves out the calling thread.
		others := slices.Clone(c.Cores[1:])
		for i := range others {
			others[i]++
		}
		// Between the parallel regions of a run, waking a thread that sleeps costs as much as a small region. Each session
		// has its threads on the same cores, which must not spin against those of the session that runs.
		e["session.intra_op.allow_spinning"], e["session.force_spinning_stop"] = "1", "1"
		e["session.intra_op_thread_affinities"] = joinInts(others, ";")
	}
	if c.Provider != "cpu" && !c.AllowFallback {
		e["session.disable_cpu_ep_fallback"] = "1"
	}
	for key, value := range c.Options {
		if isEntry(key) {
			e[key] = value
		}
	}
	return e
}

// sessionOptions are the wrapper's options; the caller destroys them.
func (c Config) sessionOptions() (o *ort.SessionOptions, err error) {
	if o, err = ort.NewSessionOptions(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			o.Destroy()
		}
	}()
	err = errors.Join(
		o.SetExecutionMode(ort.ExecutionModeSequential),
		o.SetIntraOpNumThreads(c.Threads),
		o.SetInterOpNumThreads(1),
		o.SetGraphOptimizationLevel(optimizations[c.Optimization]),
		o.SetLogSeverityLevel(ort.LoggingLevelFatal))
	if err == nil && c.SaveOptimized != "" {
		err = o.SetOptimizedModelFilePath(c.SaveOptimized)
	}
	if err == nil && c.Profile != "" {
		err = o.EnableProfiling(c.Profile)
	}
	if err != nil {
		return o, err
	}
	entries := c.entries()
	for _, key := range slices.Sorted(maps.Keys(entries)) {
		if err := o.AddSessionConfigEntry(key, entries[key]); err != nil {
			return o, fmt.Errorf("option %q: %w", key, err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Initializers)) {
		if err := addInitializer(o, name, c.Initializers[name]); err != nil {
			return o, err
		}
	}
	options := maps.Clone(c.Options)
	maps.DeleteFunc(options, func(key, _ string) bool { return isEntry(key) })
	return o, c.append(o, options)
}

// append appends the provider.
func (c Config) append(o *ort.SessionOptions, options map[string]string) error {
	if c.Library != "" {
		return c.appendDevice(o, options)
	}
	for _, p := range providers {
		if p.name == c.Provider {
			return p.append(o, options, c.Stream)
		}
	}
	return nil
}

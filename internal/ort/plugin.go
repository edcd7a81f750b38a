package ort

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"

	ort "github.com/yalue/onnxruntime_go"
)

// This file opens execution providers that are libraries: plugins, in ONNX Runtime's words. Loading one runs its code,
// so that its path never comes from a document: it is one that scripts/setup-onnxruntime.sh installed, or one that the
// user named on the command line.

// Device is what a plugin can compute on.
type Device struct {
	Provider string `json:"provider"` // ONNX Runtime's name of it, such as "OpenVINOExecutionProvider"
	Vendor   string `json:"vendor,omitempty"`
	Type     string `json:"type"` // "cpu", "gpu" or "npu"
	// Metadata is the plugin's own, such as its version, and the hardware's with the prefix "hw.".
	Metadata map[string]string `json:"metadata,omitempty"`

	handle ort.EpDevice
}

// plugins are the libraries that this process has loaded. They stay until it ends: sessions may use them.
var plugins = struct {
	sync.Mutex
	devices map[string][]Device // by path
}{devices: map[string][]Device{}}

// Devices loads a plugin, once, and lists its devices in its order. name is what ONNX Runtime is told to call it.
func Devices(name, path string) ([]Device, error) {
	if err := started(); err != nil {
		return nil, err
	}
	plugins.Lock()
	defer plugins.Unlock()
	if known, ok := plugins.devices[path]; ok {
		return known, nil
	}
	if !filepath.IsAbs(path) {
		return nil, fmt.Errorf("the plugin %s is not named by its whole path", path)
	}
	if err := whole(path); err != nil {
		return nil, fmt.Errorf("the plugin %s is not a library for this machine: %w", path, err)
	}
	before, err := ort.GetEpDevices()
	if err != nil {
		return nil, err
	}
	if err := guarded(func() error { return ort.RegisterExecutionProviderLibrary(name, path) }); err != nil {
		return nil, fmt.Errorf("loading the plugin %s: %s", path, oneLine(err.Error()))
	}
	after, err := ort.GetEpDevices()
	if err != nil {
		return nil, err
	}
	var list []Device
	for _, d := range after {
		if slices.Contains(before, d) {
			continue
		}
		device, err := describeDevice(d)
		if err != nil {
			return nil, err
		}
		list = append(list, device)
	}
	plugins.devices[path] = list
	return list, nil
}

// describeDevice asks the C API, of which the wrapper shows only two names.
func describeDevice(d ort.EpDevice) (device Device, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("this version of onnxruntime_go hides its devices: %v", r)
		}
	}()
	lines, err := nativeDevice(reflect.ValueOf(d).FieldByName("p").UnsafePointer())
	if err != nil {
		return Device{}, err
	}
	device = parseDevice(lines)
	device.handle = d
	return device, nil
}

// parseDevice reads the lines of terastal_ort_device.
func parseDevice(lines string) Device {
	d := Device{Type: "unknown", Metadata: map[string]string{}}
	for line := range strings.Lines(lines) {
		key, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		if !ok {
			continue
		}
		switch key {
		case "ep":
			d.Provider = value
		case "vendor":
			d.Vendor = value
		case "type":
			// OrtHardwareDeviceType.
			if n, err := strconv.Atoi(value); err == nil && n >= 0 && n < 3 {
				d.Type = []string{"cpu", "gpu", "npu"}[n]
			}
		case "ep.library_path": // known, and private
		default:
			d.Metadata[strings.TrimPrefix(key, "ep.")] = value
		}
	}
	return d
}

// named are the names that a device answers to, besides its number and type: what the plugin itself calls it.
func (d Device) named(name string) bool {
	for key, value := range d.Metadata {
		if strings.HasSuffix(key, "device") && strings.EqualFold(value, name) {
			return true
		}
	}
	return false
}

// String names a device as pick takes it.
func (d Device) String() string {
	for _, key := range slices.Backward(slices.Sorted(maps.Keys(d.Metadata))) {
		// OpenVINO's ov_meta_device comes before its ov_device, of which there is one with and one without.
		if strings.HasSuffix(key, "device") && !strings.HasPrefix(key, "hw.") && (!strings.Contains(d.Provider, ".") ||
			strings.Contains(key, "meta")) {
			return fmt.Sprintf("%s (%s)", d.Metadata[key], d.Type)
		}
	}
	return d.Type
}

// pick chooses a device: by its number in the list, by the plugin's own name for
// it, or by its type; "" is the only one there is.
func pick(devices []Device, wanted string) (Device, error) {
	var list []string
	for i, d := range devices {
		list = append(list, fmt.Sprintf("%d: %s", i, d))
	}
	have := strings.Join(list, ", ")
	if len(devices) == 0 {
		return Device{}, errors.New("the plugin finds no device on this machine that it supports")
	}
	if n, err := strconv.Atoi(wanted); err == nil {
		if n < 0 || n >= len(devices) {
			return Device{}, fmt.Errorf("there is no device %d, but %s", n, have)
		}
		return devices[n], nil
	}
	rules := []func(Device) bool{
		func(d Device) bool { return wanted == "" || d.named(wanted) },
		func(d Device) bool { return strings.EqualFold(d.Type, wanted) },
	}
	for _, rule := range rules {
		fits := slices.DeleteFunc(slices.Clone(devices), func(d Device) bool { return !rule(d) })
		// A plugin may offer a device again in another way, such as OpenVINO's AUTO; that has to be asked for.
		if plain := slices.DeleteFunc(slices.Clone(fits),
			func(d Device) bool { return strings.Contains(d.Provider, ".") }); len(plain) > 0 {
			fits = plain
		}
		switch len(fits) {
		case 0:
		case 1:
			return fits[0], nil
		default:
			return Device{}, fmt.Errorf("device %q can be any of several: choose one by its number, of %s", wanted, have)
		}
	}
	return Device{}, fmt.Errorf("there is no device %q, but %s", wanted, have)
}

// Installed is the plugin for a provider that scripts/setup-onnxruntime.sh
// --with PROVIDER installed in the cache folder; "" where it is not.
func Installed(provider string) string { return here().installed(ProviderName(provider)) }

func (s search) installed(provider string) string {
	version, known := pluginVersions[provider]
	folder := s.cached("plugins", provider, version)
	if !known || folder == "" {
		return ""
	}
	ext := ".so"
	if runtime.GOOS == "darwin" {
		ext = ".dylib"
	}
	// What the script put in front of a plugin comes first.
	for _, name := range []string{"libterastal_" + provider + "_any_cpu",
		"libonnxruntime_providers_" + provider + "_plugin"} {
		if file := filepath.Join(folder, name+ext); isFile(file) {
			return file
		}
	}
	return ""
}

// Installable are the providers whose plugins scripts/setup-onnxruntime.sh --with installs.
func Installable() []string { return slices.Sorted(maps.Keys(pluginVersions)) }

// pluginVersions are the plugins that the set-up script installs. Each was seen to work with Version of ONNX Runtime.
var pluginVersions = map[string]string{"openvino": "1.8.1"}

// Available lists the providers that the library in use was built with, by the
// names that Config takes. It does not say whether they open.
func Available() ([]string, error) {
	if err := started(); err != nil {
		return nil, err
	}
	text, err := nativeAvailable()
	if err != nil {
		return nil, err
	}
	var list []string
	for name := range strings.FieldsSeq(text) {
		list = append(list, ProviderName(name))
	}
	return list, nil
}

// signals keeps two openings from guarding the process's signal handlers at once.
var signals sync.Mutex

// guarded calls what may load a provider's libraries, and puts back the signal handlers of Go that they replace: the
// CUDA provider's do, without the SA_ONSTACK that Go needs, so that the next SIGINT would end the process.
func guarded(load func() error) error {
	signals.Lock()
	defer signals.Unlock()
	keepSignals()
	defer restoreSignals()
	return load()
}

// appendDevice appends the device of a plugin that was picked.
func (c Config) appendDevice(o *ort.SessionOptions, options map[string]string) (err error) {
	if name := c.picked.Metadata["ov_device"]; name != "" {
		if options, err = c.openVINO(name, options); err != nil {
			return err
		}
	}
	return o.AppendExecutionProviderV2([]ort.EpDevice{c.picked.handle}, options)
}

// openVINO makes the one option of OpenVINO's plugin that counts, load_config: a JSON object of properties by device.
// Options in capitals are properties of the device in use. What follows from the rest of the configuration is added
// where it is not set: the number of threads, and float32 where the model has it, since OpenVINO by itself rounds to
// bfloat16 or float16 where that is faster.
func (c Config) openVINO(device string, options map[string]string) (map[string]string, error) {
	all := map[string]map[string]any{}
	if text := options["load_config"]; text != "" {
		if err := json.Unmarshal([]byte(text), &all); err != nil {
			return nil, fmt.Errorf("option \"load_config\" is not a JSON object of properties by device, "+
				"such as {\"%s\":{\"NUM_STREAMS\":\"1\"}}: %w", device, err)
		}
	}
	own := all[device]
	if own == nil {
		own = map[string]any{}
	}
	for key, value := range options {
		switch {
		case key == "load_config":
		case key == strings.ToUpper(key):
			own[key] = value
		default:
			return nil, fmt.Errorf("OpenVINO's plugin has no option %q: its properties are in capitals, "+
				"such as INFERENCE_PRECISION_HINT=f32", key)
		}
	}
	kind, _, _ := strings.Cut(device, ".")
	add := map[string]map[string]string{
		// The cores are those of the thread that runs, not of OpenVINO's choice.
		"CPU": {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": strconv.Itoa(c.Threads), "NUM_STREAMS": "1",
			"ENABLE_CPU_PINNING": "NO"},
		"GPU": {"INFERENCE_PRECISION_HINT": "f32"},
	}
	for key, value := range add[kind] {
		if _, set := own[key]; !set {
			own[key] = value
		}
	}
	if all == nil { // null
		all = map[string]map[string]any{}
	}
	all[device] = own
	text, err := json.Marshal(all)
	return map[string]string{"load_config": string(text)}, err
}

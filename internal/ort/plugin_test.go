package ort

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"math"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/testkit"
)

func TestProviderName(t *testing.T) {
	for name, want := range map[string]string{
		"": "cpu", "CPU": "cpu", "CPUExecutionProvider": "cpu", "CUDAExecutionProvider": "cuda", "TensorrtExecutionProvider": "tensorrt", "TRT": "tensorrt",
		"DmlExecutionProvider": "directml", "dml": "directml", "WebGpuExecutionProvider": "webgpu", "OpenVINO": "openvino", "OV": "openvino",
		"NvTensorRTRTXExecutionProvider": "nvtensorrtrtx", "QNNExecutionProvider": "qnn", "mine": "mine", "Emulated": "emulated",
	} {
		if got := ProviderName(name); got != want {
			t.Errorf("%q is %q, want %q", name, got, want)
		}
		if again := ProviderName(want); again != want {
			t.Errorf("%q becomes %q", want, again)
		}
	}
	for _, name := range Providers() {
		if ProviderName(name) != name {
			t.Errorf("%q is not its own name", name)
		}
	}
}

// A document must not be able to load code, to hand over an address, or to say where engines lie.
func TestHarmless(t *testing.T) {
	for option, says := range map[string]string{
		"device_id=0": "", "trt_fp16_enable=1": "", "backend_path=libQnnHtp.so": "", "session.x=/a/b": "",
		"backend_path=/tmp/evil.so": "a path", `backend_path=..\evil.dll`: "a path", "trt_extra_plugin_lib_paths=./evil.so": "a path",
		"USER_COMPUTE_STREAM=123": "an address", "gpu_external_alloc=1": "an address",
		"trt_engine_cache_path=x": "kept", "CACHE_DIR=x": "kept", "cache_dir=x": "kept", "ep.context_file_path=x": "kept", "ModelCacheDirectory=x": "kept",
	} {
		key, value, _ := strings.Cut(option, "=")
		err := Config{Provider: "qnn", Options: map[string]string{key: value}}.Validate()
		if (err == nil) != (says == "") || err != nil && !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", option, err, says)
		}
	}
}

func TestDeviceNeedsPlugin(t *testing.T) {
	testkit.Fails(t, (Config{Provider: "cuda", Device: "0"}).Validate(), "no plugin")
	testkit.OK(t, (Config{Provider: "mine", Library: "/lib/mine.so", Device: "gpu"}).Validate())
}

func TestPick(t *testing.T) {
	device := func(provider, kind, name, meta string) Device {
		d := Device{Provider: provider, Type: kind, Metadata: map[string]string{"hw.device": "x"}}
		if name != "" {
			d.Metadata["ov_device"] = name
		}
		if meta != "" {
			d.Metadata["ov_meta_device"] = meta
		}
		return d
	}
	openvino := []Device{device("OV", "cpu", "CPU", ""), device("OV", "gpu", "GPU.0", ""),
		device("OV", "gpu", "GPU.1", ""), device("OV", "npu", "NPU", ""),
		device("OV.AUTO", "cpu", "CPU", "AUTO")}
	for _, c := range []struct {
		devices []Device
		wanted  string
		want    int // -1: an error
	}{
		{openvino, "cpu", 0}, {openvino, "CPU", 0}, {openvino, "gpu.1", 2}, {openvino, "2", 2},
		{openvino, "npu", 3}, {openvino, "auto", 4},
		{openvino, "gpu", -1}, {openvino, "", -1}, {openvino, "5", -1}, {openvino, "-1", -1}, {openvino, "tpu", -1},
		{openvino[3:4], "", 0}, {[]Device{openvino[0], openvino[4]}, "", 0}, {openvino[4:], "", 0},
		{nil, "", -1}, {nil, "cpu", -1},
	} {
		got, err := pick(c.devices, c.wanted)
		if c.want < 0 {
			if err == nil {
				t.Errorf("%q: got %v", c.wanted, got)
			}
			continue
		}
		if err != nil || got.String() != c.devices[c.want].String() || got.Provider != c.devices[c.want].Provider {
			t.Errorf("%q: got %v, %v, want %v", c.wanted, got, err, c.devices[c.want])
		}
	}
	testkit.Refused(pick(openvino, "gpu"))(t, "1: GPU.0 (gpu), 2: GPU.1 (gpu)")
	if s := openvino[4].String(); s != "AUTO (cpu)" {
		t.Errorf("%q", s)
	}
}

func FuzzParseDevice(f *testing.F) {
	f.Add("ep\tOpenVINOExecutionProvider\nvendor\tIntel\nep.ov_device\tCPU\nep.library_path\t/home/somebody/x.so\ntype\t0\nhw.vendor\tAMD\n")
	f.Add("type\t9\ntype\t-1\n\t\n\tx\nkey")
	f.Fuzz(func(t *testing.T, lines string) {
		d := parseDevice(lines)
		if !slices.Contains([]string{"cpu", "gpu", "npu", "unknown"}, d.Type) {
			t.Errorf("type %q", d.Type)
		}
		if d.String() == "" && d.Type != "" && len(d.Metadata) == 0 {
			t.Error("it has no name")
		}
	})
	if d := parseDevice("ep.library_path\t/home/somebody/x.so\n"); len(d.Metadata) != 0 {
		f.Errorf("a path of this machine is kept: %v", d)
	}
}

func TestOpenVINOOptions(t *testing.T) {
	c := Config{Provider: "openvino", Threads: 2}
	properties := func(text, device string) map[string]any {
		all := map[string]map[string]any{}
		testkit.OK(t, json.Unmarshal([]byte(text), &all))
		return all[device]
	}
	got, err := c.openVINO("CPU", map[string]string{"NUM_STREAMS": "2",
		"load_config": `{"CPU":{"INFERENCE_PRECISION_HINT":"bf16"},"GPU":{"X":"1"}}`})
	testkit.OK(t, err)
	own := properties(got["load_config"], "CPU")
	for key, want := range map[string]string{"NUM_STREAMS": "2", "INFERENCE_PRECISION_HINT": "bf16",
		"INFERENCE_NUM_THREADS": "2", "ENABLE_CPU_PINNING": "NO"} {
		if own[key] != want {
			t.Errorf("%s is %v, want %s", key, own[key], want)
		}
	}
	if properties(got["load_config"], "GPU")["X"] != "1" || len(got) != 1 {
		t.Errorf("%v", got)
	}
	got, err = c.openVINO("GPU.1", nil)
	if err != nil || len(properties(got["load_config"], "GPU.1")) != 1 ||
		properties(got["load_config"], "GPU.1")["INFERENCE_PRECISION_HINT"] != "f32" {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := c.openVINO("NPU", nil); err != nil || len(properties(got["load_config"], "NPU")) != 0 {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []map[string]string{{"precision": "FP32"}, {"load_config": "config.json"},
		{"load_config": `{"CPU":1}`}} {
		if _, err := c.openVINO("CPU", bad); err == nil {
			t.Errorf("%v passes", bad)
		}
	}
}

func FuzzLoadConfig(f *testing.F) {
	f.Add(`{"CPU":{"NUM_STREAMS":"1"}}`)
	f.Add(`null`)
	f.Add(`{"CPU":null}`)
	f.Fuzz(func(t *testing.T, text string) {
		got, err := Config{Threads: 1}.openVINO("CPU", map[string]string{"load_config": text})
		if err == nil && !json.Valid([]byte(got["load_config"])) {
			t.Errorf("%q becomes %q", text, got["load_config"])
		}
	})
}

func TestInstalled(t *testing.T) {
	base := t.TempDir()
	s := search{getenv: func(key string) string {
		if key == "TERASTAL_CACHE" {
			return base
		}
		return ""
	}}
	if got := s.installed("openvino"); got != "" {
		t.Errorf("%q is not there", got)
	}
	folder := filepath.Join(base, "plugins", "openvino", pluginVersions["openvino"])
	ext := ".so"
	if runtime.GOOS == "darwin" {
		ext = ".dylib"
	}
	// What stands in front of the plugin comes first.
	for _, name := range []string{"libonnxruntime_providers_openvino_plugin", "libterastal_openvino_any_cpu"} {
		file := filepath.Join(folder, name+ext)
		testkit.Write(t, file, "")
		if got := s.installed("openvino"); got != file {
			t.Errorf("%q, want %q", got, file)
		}
	}
	if got := s.installed("qnn"); got != "" {
		t.Errorf("%q for a provider that is not installed so", got)
	}
}

// openVINO is a Config of OpenVINO's CPU device, or the test is skipped.
func openVINO(t testing.TB) Config {
	t.Helper()
	start(t)
	library := Installed("openvino")
	if library == "" {
		t.Skip("OpenVINO's plugin is not installed: scripts/setup-onnxruntime.sh --with openvino does it")
	}
	return Config{Provider: "OpenVINO", Library: library, Device: "CPU"}
}

func TestOpenVINO(t *testing.T) {
	c := openVINO(t)
	testkit.OK(t, Probe(c))
	const n = 256
	weights, x := make([]float32, n*n), make([]float32, n)
	for i := range weights {
		weights[i] = float32(math.Sin(float64(i) * 1.37))
	}
	for i := range x {
		x[i] = float32(math.Cos(float64(i) * .77))
	}
	model := modelBytes(node("MatMul", []string{"x", "w"}, []string{"y"}),
		constant("w", Float, []int64{n, n}, floats(weights...)), input("x", Float, 1, n), output("y", Float, 1, n))
	y := run(t, model, c, []int64{1, n}, x)
	worst := 0.
	for j := range n {
		want := 0.
		for i := range n {
			want += float64(x[i]) * float64(weights[i*n+j])
		}
		worst = max(worst, math.Abs(float64(y[j])-want))
	}
	if worst > 1e-4 {
		t.Errorf("differs by %v from the exact product: it computes with fewer bits than float32", worst)
	}
	c.Options = map[string]string{"INFERENCE_PRECISION_HINT": "no such type"}
	testkit.Fails(t, Probe(c), "INFERENCE_PRECISION_HINT")
}

func run(t *testing.T, model []byte, c Config, shape []int64, x []float32) []float32 {
	t.Helper()
	s := testkit.Must(NewSession(model, nil, nil, c))(t)
	defer s.Close()
	in := testkit.Must(NewTensor(Float, shape, floats(x...)))(t)
	defer in.Destroy()
	out := []Value{nil}
	testkit.OK(t, s.Run([]Value{in}, out))
	defer out[0].Destroy()
	data := testkit.Must(Bytes(out[0]))(t)
	y := make([]float32, len(data)/4)
	for i := range y {
		y[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
	}
	return y
}

// What OpenVINO does not take is named, and is not run on the CPU in silence.
func TestOpenVINORefuses(t *testing.T) {
	model := modelBytes(
		node("Relu", []string{"x"}, []string{"r"}),
		node("Det", []string{"r"}, []string{"d"}),
		node("Neg", []string{"d"}, []string{"y"}),
		input("x", Float, 2, 3, 3), output("y", Float, 2),
	)
	_, err := NewSession(model, nil, nil, openVINO(t))
	var refused *RefusedError
	if !errors.As(err, &refused) {
		t.Fatalf("%v, want a RefusedError", err)
	}
	if !slices.ContainsFunc(refused.Nodes, func(n string) bool { return strings.HasSuffix(n, "(Det)") }) ||
		slices.ContainsFunc(refused.Nodes, func(n string) bool { return strings.HasSuffix(n, "(Relu)") }) {
		t.Errorf("%v, want the determinant and not the rectifier", err)
	}
}

func TestDevicesErrors(t *testing.T) {
	start(t)
	junk := filepath.Join(t.TempDir(), "libjunk.so")
	testkit.Write(t, junk, "no library")
	for path, says := range map[string]string{"libx.so": "whole path", junk: "not a library",
		"/no/such/lib.so": "no such file"} {
		testkit.Refused(Devices("x", path))(t, says)
	}
	if runtime.GOOS == "linux" {
		testkit.Refused(Devices("x", compiled(t, "int x;")))(t, "CreateEpFactories")
	}
}

// compiled makes a shared library of C code.
func compiled(t *testing.T, code string) string {
	t.Helper()
	if _, err := exec.LookPath("cc"); err != nil {
		t.Skip("there is no C compiler")
	}
	dir := t.TempDir()
	source, lib := filepath.Join(dir, "plugin.c"), filepath.Join(dir, "libplugin.so")
	testkit.Write(t, source, code)
	if out, err := exec.Command("cc", "-shared", "-fPIC", "-o", lib, source).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return lib
}

// A library that replaces Go's signal handlers by ones that Go cannot bear, as
// the CUDA provider's do, is undone: without, the signal ends the process.
func TestSignalHandlersSurvive(t *testing.T) {
	if os.Getenv("TERASTAL_SIGNAL_CHILD") == "" {
		start(t)
		lib := compiled(t, `
			#include <signal.h>
			static void mine(int n) { (void)n; }
			__attribute__((constructor)) static void replace(void) {
				struct sigaction a = {0};
				a.sa_handler = mine;
				sigaction(SIGUSR1, &a, 0);
				sigaction(SIGURG, &a, 0);
			}`)
		cmd := exec.Command(os.Args[0], "-test.run=^TestSignalHandlersSurvive$")
		cmd.Env = append(os.Environ(), "TERASTAL_SIGNAL_CHILD="+lib)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	start(t)
	got := make(chan os.Signal, 1)
	signal.Notify(got, syscall.SIGUSR1)
	if _, err := Devices("x", os.Getenv("TERASTAL_SIGNAL_CHILD")); err == nil {
		t.Fatal("it is a plugin")
	}
	testkit.OK(t, syscall.Kill(os.Getpid(), syscall.SIGUSR1))
	select {
	case <-got:
	case <-time.After(10 * time.Second): // of a test that fails
		t.Fatal("Go does not get the signal")
	}
	// What Go itself changes while a library is loaded stays.
	testkit.OK(t, guarded(func() error {
		signal.Ignore(syscall.SIGUSR1)
		signal.Notify(got, syscall.SIGUSR2)
		return nil
	}))
	testkit.OK(t, syscall.Kill(os.Getpid(), syscall.SIGUSR2))
	select {
	case <-got:
	case <-time.After(10 * time.Second):
		t.Fatal("Go does not get a signal that it began to listen to meanwhile")
	}
}

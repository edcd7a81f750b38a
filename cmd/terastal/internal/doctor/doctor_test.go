package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/terastal/terastal/cmd/terastal/internal/auto"
	"github.com/terastal/terastal/internal/hostinfo"
	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/internal/ort/orttest"
	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/runtime"
)

// The test binary is its own child: "child WHAT LIBRARY ARGUMENT...". What Self
// makes for the program, "doctor probe", it understands too.
func TestMain(m *testing.M) {
	if len(os.Args) >= 4 && os.Args[1] == "child" {
		inChild(os.Args[2], os.Args[3], os.Args[4:])
	}
	if len(os.Args) == 6 && os.Args[3] == "doctor" && os.Args[4] == "probe" {
		inChild("probe", os.Args[2], os.Args[5:])
	}
	os.Exit(m.Run())
}

func inChild(what, library string, args []string) {
	fail := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, "terastal: "+err.Error())
			os.Exit(1)
		}
	}
	switch what {
	case "probe":
		fail(Serve(library, args[0], os.Stdout))
	case "inspect":
		i, err := Inspect(library, args[0], args[1])
		fail(err)
		fail(json.NewEncoder(os.Stdout).Encode(i))
	case "killed":
		fmt.Fprintln(os.Stderr, "about to draw")
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	case "segfault":
		syscall.Kill(os.Getpid(), syscall.SIGSEGV)
		select {}
	case "hang":
		select {}
	case "chatter":
		fmt.Fprint(os.Stderr, strings.Repeat("chatter\n", 100_000), "terastal: no adapter\n")
		os.Exit(1)
	case "silent":
		os.Exit(1)
	case "offer":
		fmt.Println("a driver's greeting")
		fail(json.NewEncoder(os.Stdout).Encode(runtime.Offer{Free: 1, Total: 2, Streams: true}))
	}
	os.Exit(0)
}

func executable(t *testing.T) string {
	t.Helper()
	return testkit.Must(os.Executable())(t)
}

func childOf(t *testing.T, what string) func(string, runtime.Spec) []string {
	exe := executable(t)
	return func(library string, s runtime.Spec) []string {
		return []string{exe, "child", what, library, s.Provider}
	}
}

// options are those of the command line, with this binary as the child.
func options(t *testing.T, host hostinfo.Info) Options {
	t.Helper()
	exe := executable(t)
	return Options{Host: host, Probe: Child(ProbeTimeout, Self), Installed: ort.Installed,
		Inspect: InspectChild(ProbeTimeout, func(library, provider, plugin string) []string {
			return []string{exe, "child", "inspect", library, provider, plugin}
		})}
}

// cpu is what is probed where it does not matter.
var cpuSpec = runtime.Spec{Name: "cpu", Provider: "cpu"}

func TestChild(t *testing.T) {
	for what, says := range map[string]string{
		"killed": "it crashed: signal: killed", "segfault": "it crashed: ", "chatter": "no adapter",
		"silent": "it crashed: exit status 1", "fine": "",
	} {
		_, err := Child(ProbeTimeout, childOf(t, what))(context.Background(), "lib", cpuSpec)
		if says == "" && err != nil || says != "" && (err == nil || !strings.HasPrefix(err.Error(), says) ||
			strings.Contains(err.Error(), "\n")) {
			t.Errorf("%s: got %v, want %q", what, err, says)
		}
	}
	_, err := Child(50*time.Millisecond, childOf(t, "hang"))(context.Background(), "lib", cpuSpec)
	if err == nil || err.Error() != "it did not open within 50ms" {
		t.Errorf("hang: got %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	testkit.Refused(Child(ProbeTimeout, childOf(t, "hang"))(ctx, "lib", cpuSpec))(t, context.Canceled)
	o, err := Child(ProbeTimeout, childOf(t, "offer"))(context.Background(), "lib", cpuSpec)
	if want := (runtime.Offer{Free: 1, Total: 2, Streams: true}); err != nil || o != want {
		t.Errorf("offer: %+v, %v", o, err)
	}
	gone := func(string, runtime.Spec) []string { return []string{"/no/such/program"} }
	testkit.Refused(Child(ProbeTimeout, gone)(context.Background(), "lib", cpuSpec))(t, "could not be probed")
}

// TestCheck probes the real ONNX Runtime, in children.
func TestCheck(t *testing.T) {
	orttest.Start(t)
	host := hostinfo.Info{OS: "linux", Arch: "amd64", LogicalCores: 4, AllowedCores: []int{0, 1, 2, 3},
		MemoryBytes: 8 << 30}
	r := Check(context.Background(), options(t, host))
	if !r.OK || r.ONNXRuntime.Version != ort.Version || r.ONNXRuntime.Error != "" {
		t.Fatalf("got %+v", r)
	}
	if len(r.Providers) != len(ort.Providers()) || !r.Providers[0].Opens {
		t.Errorf("providers: %+v", r.Providers)
	}
	for _, p := range r.Providers {
		if p.Opens != (p.Reason == "") || strings.Contains(p.Reason, "\n") || strings.HasPrefix(p.Reason, "it crashed") {
			t.Errorf("provider %+v", p)
		}
	}
	var text strings.Builder
	testkit.OK(t, r.Write(&text))
	for _, s := range []string{"Ready: ", r.ONNXRuntime.Path, "cpu1-basic", "4 online, allowed 0-3", "8.0 GiB"} {
		if !strings.Contains(text.String(), s) {
			t.Errorf("the text does not say %q:\n%s", s, text.String())
		}
	}
	for line := range strings.Lines(text.String()) {
		if strings.HasSuffix(strings.TrimSuffix(line, "\n"), " ") {
			t.Errorf("trailing space: %q", line)
		}
	}
	data := testkit.Must(json.Marshal(r))(t)
	var back Report
	testkit.OK(t, json.Unmarshal(data, &back))
	testkit.Equal(t, r, back, cmpopts.IgnoreUnexported(ort.Device{}))
}

func TestCheckWithoutLibrary(t *testing.T) {
	r := Check(context.Background(), Options{Library: "/no/such/library.so",
		Probe: func(context.Context, string, runtime.Spec) (o runtime.Offer, err error) {
			t.Error("probed without a library")
			return o, nil
		}})
	if r.OK || !strings.Contains(r.ONNXRuntime.Error, "/no/such/library.so") || len(r.Accelerators) != 0 {
		t.Errorf("got %+v", r)
	}
	if len(r.Fixes) == 0 || r.Fixes[0].Command != "scripts/setup-onnxruntime.sh" {
		t.Errorf("fixes: %+v", r.Fixes)
	}
	data, _ := json.Marshal(r)
	for _, s := range []string{`"ok":false`, `"providers":[]`, `"accelerators":[]`} {
		if !strings.Contains(string(data), s) {
			t.Errorf("JSON has no %s: %s", s, data)
		}
	}
	var text strings.Builder
	if err := r.Write(&text); err != nil || !strings.HasPrefix(text.String(), "Not ready: ") {
		t.Errorf("got %q, %v", text.String(), err)
	}
}

func TestAdvise(t *testing.T) {
	nvidia := []hostinfo.GPU{{Vendor: "NVIDIA"}}
	loader := hostinfo.Vulkan{Loader: "/usr/lib/libvulkan.so.1"}
	for _, c := range []struct {
		name string
		host hostinfo.Info
		open []string
		want []string // a part of each command
	}{
		{"nothing missing", hostinfo.Info{OS: "linux", GPUs: nvidia}, []string{"cpu", "webgpu", "cuda", "tensorrt"}, nil},
		{"no loader", hostinfo.Info{OS: "linux", GPUs: []hostinfo.GPU{{Vendor: "AMD"}}}, []string{"cpu"},
			[]string{"libvulkan1"}},
		{"nothing", hostinfo.Info{OS: "linux"}, []string{"cpu"}, []string{"setup-software-vulkan.sh"}},
		{"no driver", hostinfo.Info{OS: "linux", Vulkan: loader, GPUs: []hostinfo.GPU{{Vendor: "AMD"}}}, []string{"cpu"},
			[]string{"mesa-vulkan-drivers"}},
		{"no GPU", hostinfo.Info{OS: "linux", Vulkan: loader}, []string{"cpu"}, []string{"setup-software-vulkan.sh"}},
		{"no NVIDIA driver", hostinfo.Info{OS: "linux", GPUs: nvidia}, []string{"cpu", "webgpu"}, []string{"nvidia-driver"}},
		{"old NVIDIA driver", hostinfo.Info{OS: "linux", GPUs: nvidia, CUDA: hostinfo.CUDA{Driver: "550.1"}},
			[]string{"cpu", "webgpu"}, []string{"nvidia-driver-580"}},
		{"no CUDA provider", hostinfo.Info{OS: "linux", GPUs: nvidia, CUDA: hostinfo.CUDA{Driver: "580.82"}},
			[]string{"cpu", "webgpu"}, []string{"--with cuda"}},
		{"no TensorRT", hostinfo.Info{OS: "linux", GPUs: nvidia, CUDA: hostinfo.CUDA{Driver: "580.82"}},
			[]string{"cpu", "webgpu", "cuda"}, []string{"tensorrt"}},
		{"hot", hostinfo.Info{OS: "darwin", GPUs: []hostinfo.GPU{{Vendor: "NVIDIA",
			Throttle: []string{"temperature (hardware)"}}}}, []string{"cpu"}, []string{"nvidia-smi"}},
		{"noisy", hostinfo.Info{OS: "darwin", Governor: "powersave", Load1m: 2, AllowedCores: []int{0, 1}, CPUQuota: 1.5},
			[]string{"cpu"}, []string{"cpupower", "top", "cpuset"}},
		{"CPU broken", hostinfo.Info{OS: "darwin"}, nil, []string{"scripts/setup-onnxruntime.sh"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := Report{Host: c.host, OK: slices.Contains(c.open, "cpu"), Providers: []Provider{{Name: "cpu"}}}
			r.advise(c.open)
			if len(r.Fixes) != len(c.want) {
				t.Fatalf("got %+v, want %q", r.Fixes, c.want)
			}
			for i, f := range r.Fixes {
				if !strings.Contains(f.Command, c.want[i]) || f.Problem == "" {
					t.Errorf("got %+v, want %q", f, c.want[i])
				}
			}
		})
	}
}

// The libraries of the CUDA provider are named once its own is there.
func TestAdviseLibraries(t *testing.T) {
	dir := t.TempDir()
	testkit.Write(t, filepath.Join(dir, "libonnxruntime_providers_cuda.so"), "")
	host := hostinfo.Info{OS: "linux", GPUs: []hostinfo.GPU{{Vendor: "NVIDIA"}}, CUDA: hostinfo.CUDA{Driver: "580.82"}}
	for _, name := range []string{"libcudart.so.13", "libcublas.so.13", "libcublasLt.so.13", "libcurand.so.10"} {
		host.CUDA.Libraries = append(host.CUDA.Libraries, "/usr/local/cuda/lib64/"+name)
	}
	r := Report{Host: host, ONNXRuntime: Runtime{Path: filepath.Join(dir, "libonnxruntime.so")}}
	r.adviseNVIDIA([]string{"cpu"})
	if len(r.Fixes) != 1 || r.Fixes[0].Problem != "the CUDA provider needs libcudnn.so.9" ||
		!strings.Contains(r.Fixes[0].Command, "cudnn9-cuda-13") {
		t.Errorf("%+v", r.Fixes)
	}
	r.Host.CUDA.Libraries = append(r.Host.CUDA.Libraries, "/usr/lib/libcudnn.so.9")
	r.Fixes = nil
	r.adviseNVIDIA([]string{"cpu"})
	if len(r.Fixes) != 1 || strings.Contains(r.Fixes[0].Problem, "needs") {
		t.Errorf("all is there: %+v", r.Fixes)
	}
}

// A plugin is tried device by device; one that crashes or has none says so.
func TestPlugins(t *testing.T) {
	lib, err := ort.Locate("")
	if err != nil {
		t.Skip(err)
	}
	o := Options{
		Library: lib.Path, Host: hostinfo.Info{OS: "linux"},
		Plugins:   map[string]string{"fine": "/fine.so", "empty": "/empty.so", "broken": "/broken.so"},
		Installed: func(string) string { return "" },
		Inspect: func(_ context.Context, _, _, plugin string) (Inspection, error) {
			i := Inspection{Built: []string{"cpu"}}
			switch plugin {
			case "/fine.so":
				i.Devices = []ort.Device{{Type: "gpu"}, {Type: "npu"}}
			case "/broken.so":
				return i, errors.New("it crashed: signal: killed")
			}
			return i, nil
		},
		Probe: func(_ context.Context, _ string, s runtime.Spec) (o runtime.Offer, err error) {
			if s.Provider != "cpu" && (s.Local.Library != "/fine.so" || s.Device != "1") {
				return o, errors.New("opening a session on " + s.Provider + ": no driver")
			}
			if s.Provider != "cpu" {
				o = runtime.Offer{Free: 3 << 29, Total: 2 << 30, Streams: true, Graphs: true}
			}
			return o, nil
		},
	}
	r := Check(context.Background(), o)
	byName := map[string]Provider{}
	for _, p := range r.Providers {
		byName[p.Name] = p
	}
	want := map[string]Provider{
		"cpu": {Name: "cpu", Opens: true, Built: true},
		"fine": {Name: "fine", Opens: true, Plugin: "/fine.so",
			Devices: []Device{{Name: "gpu", Reason: "no driver", About: ort.Device{Type: "gpu"}},
				{Name: "npu", Opens: true, About: ort.Device{Type: "npu"}}}},
		"empty":  {Name: "empty", Plugin: "/empty.so", Reason: "the plugin finds no device on this machine that it supports"},
		"broken": {Name: "broken", Plugin: "/broken.so", Reason: "it crashed: signal: killed"},
	}
	for name, w := range want {
		testkit.Equal(t, w, byName[name], cmpopts.IgnoreUnexported(ort.Device{}))
	}
	if p := byName["openvino"]; p.Opens || !strings.Contains(p.Reason, "--with openvino") {
		t.Errorf("%+v", p)
	}
	if p := byName["qnn"]; !strings.Contains(p.Reason, "--plugin qnn=") {
		t.Errorf("%+v", p)
	}
}

// Before anything was calibrated doctor guesses: every core for itself, and a GPU.
func TestGuessed(t *testing.T) {
	cpu := func(name, optimization string, cores ...int) runtime.Spec {
		return runtime.Spec{Name: name, Provider: "cpu", Optimization: optimization, Threads: 1, Cores: cores}
	}
	gpu := func(provider string, cores ...int) runtime.Spec {
		return runtime.Spec{Name: "gpu", Provider: provider, Optimization: "all", Threads: 1, Cores: cores}
	}
	for _, c := range []struct {
		cores []int
		open  []string
		want  []runtime.Spec
	}{
		{[]int{3}, []string{"cpu"}, []runtime.Spec{cpu("cpu0-all", "all", 3)}},
		{[]int{0, 1}, []string{"cpu"}, []runtime.Spec{cpu("cpu0-all", "all", 0), cpu("cpu1-basic", "basic", 1)}},
		{[]int{0, 1, 2, 3}, []string{"cpu"}, []runtime.Spec{cpu("cpu0-all", "all", 1), cpu("cpu1-basic", "basic", 2),
			cpu("cpu2-all", "all", 3)}},
		{[]int{4, 5, 6}, []string{"webgpu", "cpu"}, []runtime.Spec{cpu("cpu0-all", "all", 4),
			cpu("cpu1-basic", "basic", 5), gpu("webgpu", 6)}},
		{[]int{0}, []string{"cpu", "webgpu", "cuda"}, []runtime.Spec{cpu("cpu0-all", "all", 0), gpu("cuda")}},
		{nil, []string{"cpu"}, []runtime.Spec{{Name: "cpu0-all", Provider: "cpu", Optimization: "all", Threads: 1}}},
		{[]int{0, 1}, nil, []runtime.Spec{}},
	} {
		got := guessed(hostinfo.Info{AllowedCores: c.cores, GPUs: []hostinfo.GPU{{Vendor: "AMD"}}}, c.open)
		testkit.Equal(t, c.want, got, cmpopts.EquateEmpty())
	}
	for _, a := range guessed(hostinfo.Read(hostinfo.This()), []string{"cpu"}) {
		if err := (ort.Config{Provider: a.Provider, Optimization: a.Optimization, Threads: a.Threads,
			Cores: a.Cores}).Validate(); err != nil {
			t.Errorf("%+v: %v", a, err)
		}
	}
}

// What auto chose last is shown, with what it was compared with; calibrations that chose nothing, or of another machine,
// are not.
func TestCalibrationsShown(t *testing.T) {
	o := Options{Host: hostinfo.Info{AllowedCores: []int{0, 1}}, Library: "/nowhere", Calibrations: []*auto.Calibration{
		{Models: []auto.Model{{Name: "nothing"}}},
		{CPU: "another machine's", Choice: &auto.Choice{}},
		{Models: []auto.Model{{Name: "net"}, {Name: "other"}}, Choice: &auto.Choice{
			Accelerators: []runtime.Spec{{Name: "cpu0-basic", Provider: "cpu", Optimization: "basic", Cores: []int{1}}},
			Compared: []auto.Set{{Name: "one core (basic)", Capacity: 812.4, Free: true},
				{Name: "one core (all)", Capacity: 800, Late: 1}}}}}}
	r := Check(context.Background(), o)
	if r.Guessed || len(r.Accelerators) != 1 || len(r.Calibrations) != 1 {
		t.Errorf("%+v", r)
	}
	var b strings.Builder
	testkit.OK(t, r.Write(&b))
	for _, want := range []string{"auto chose last", "cpu0-basic", "net, other", "one core (basic), a core left", "812", "800"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
	if o.Calibrations = nil; !Check(context.Background(), o).Guessed {
		t.Error("nothing was calibrated")
	}
}

// What a device offers stands below its provider.
func TestOffered(t *testing.T) {
	r := Report{OK: true, Providers: []Provider{
		{Name: "cuda", Opens: true, Built: true, Offer: &runtime.Offer{Free: 3 << 29, Total: 2 << 30, Streams: true, Graphs: true}},
		{Name: "tensorrt", Opens: true, Built: true, Offer: &runtime.Offer{Lacks: "there is no CUDA runtime library"}}},
		Accelerators: []runtime.Spec{{Name: "gpu", Provider: "cuda"}}, Guessed: true}
	var text strings.Builder
	testkit.OK(t, r.Write(&text))
	for _, want := range []string{"streams: yes, graphs: yes, memory: 1.5 of 2.0 GiB free",
		"streams: no, graphs: no (there is no CUDA runtime library)", "gpu, as many streams as pay"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the text does not say %q:\n%s", want, text.String())
		}
	}
}

func TestJoinCores(t *testing.T) {
	for want, cores := range map[string][]int{"any": nil, "3": {3}, "0-1": {0, 1},
		"0-3,8,10-11": {0, 1, 2, 3, 8, 10, 11}} {
		if got := joinCores(cores); got != want {
			t.Errorf("joinCores(%v) = %q, want %q", cores, got, want)
		}
	}
}

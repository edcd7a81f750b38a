package hostinfo

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/user"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/terastal/terastal/internal/nvml"
	"github.com/terastal/terastal/internal/testkit"
)

func files(pairs ...string) fstest.MapFS {
	m := fstest.MapFS{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = &fstest.MapFile{Data: []byte(pairs[i+1])}
	}
	return m
}

func TestWorkstation(t *testing.T) {
	got := Read(Machine{
		OS: "linux", Arch: "amd64", Cores: []int{2, 3},
		Getenv: func(string) string { return "" },
		Root: files(
			"proc/sys/kernel/osrelease", "6.8.0-31-generic\n",
			"proc/cpuinfo", "processor\t: 0\nmodel name\t: AMD  Ryzen 9 7950X\nserial\t: 1234\nflags\t\t: fpu vme sse4_2 fma avx f16c avx2 avx512f avx512_vnni avx_vnni amx_tile rdpid\n\nflags\t: fpu avx10\n",
			"sys/devices/system/cpu/online", "0-3,8,10-11\n",
			"sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n",
			"sys/devices/system/cpu/cpu2/cpufreq/scaling_governor", "performance\n",
			"sys/fs/cgroup/cpu.max", "250000 100000\n",
			"proc/loadavg", "0.52 0.40 0.30 1/900 4242\n",
			"proc/meminfo", "MemTotal:       2048 kB\nMemFree: 1 kB\n",
			"proc/driver/nvidia/version", "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu Feb 22 01:44:30 UTC 2024\nGCC version: 12\n",
			"proc/driver/nvidia/gpus/0000:01:00.0/information",
			"Model: \t\t NVIDIA GeForce RTX 4090\nIRQ: 1\nGPU UUID: \t GPU-secret\n",
			"sys/class/drm/card0/device/uevent", "DRIVER=nvidia\nPCI_ID=10DE:2684\n",
			"sys/class/drm/card1/device/uevent", "DRIVER=amdgpu\nPCI_ID=1002:164E\n",
			"sys/class/drm/card1/device/pp_dpm_sclk", "0: 500Mhz\n1: 1900Mhz *\n2: 2200Mhz\n",
			"sys/class/drm/card1-HDMI-A-1/device/uevent", "DRIVER=amdgpu\nPCI_ID=1002:164E\n",
			"sys/class/drm/card2/device/uevent", "DRIVER=mgag200\nPCI_ID=102B:0538\n",
			"dev/dri/card0", "", "dev/dri/renderD128", "",
			"usr/lib/x86_64-linux-gnu/libvulkan.so.1", "",
			"usr/share/vulkan/icd.d/radeon.json", "{}",
			"usr/share/vulkan/icd.d/notes.txt", "",
			"usr/lib/x86_64-linux-gnu/libcuda.so.1", "",
			"usr/local/cuda/lib64/libcudart.so.12", "",
		),
	})
	want := Info{
		OS: "linux", Arch: "amd64", Kernel: "6.8.0-31-generic", CPU: "AMD Ryzen 9 7950X",
		CPUFlags:     []string{"amx_tile", "avx", "avx2", "avx512_vnni", "avx512f", "avx_vnni", "f16c", "fma"},
		LogicalCores: 7, AllowedCores: []int{2, 3}, CPUQuota: 2.5, Governor: "performance", Load1m: 0.52,
		MemoryBytes: 2 << 20,
		GPUs: []GPU{
			{Vendor: "NVIDIA", Model: "NVIDIA GeForce RTX 4090", Driver: "nvidia"},
			{Vendor: "AMD", Model: "PCI device 164E", Driver: "amdgpu", ClockMHz: 1900, MaxClockMHz: 2200},
			{Vendor: "PCI vendor 102B", Model: "PCI device 0538", Driver: "mgag200"},
		},
		RenderNodes: []string{"/dev/dri/renderD128"},
		Vulkan: Vulkan{Loader: "/usr/lib/x86_64-linux-gnu/libvulkan.so.1",
			ICDs: []string{"/usr/share/vulkan/icd.d/radeon.json"}},
		CUDA: CUDA{Driver: "550.54.14", Libraries: []string{"/usr/lib/x86_64-linux-gnu/libcuda.so.1",
			"/usr/local/cuda/lib64/libcudart.so.12"}},
	}
	testkit.Equal(t, want, got)
	if names := got.Graphics(); names != "NVIDIA GeForce RTX 4090, AMD PCI device 164E, PCI vendor 102B PCI device 0538" {
		t.Errorf("graphics processors %q", names)
	}
	if text, _ := json.Marshal(got); strings.Contains(string(text), "secret") || strings.Contains(string(text), "1234") {
		t.Errorf("a serial number got out: %s", text)
	}
}

// TestBareContainer has none of the files: nothing fails.
func TestBareContainer(t *testing.T) {
	got := Read(Machine{OS: "linux", Arch: "arm64", Cores: []int{0, 1}, Root: fstest.MapFS{}})
	want := Info{OS: "linux", Arch: "arm64", LogicalCores: 2, AllowedCores: []int{0, 1}}
	testkit.Equal(t, want, got)
}

// TestDamagedFiles has files that hold something else.
func TestDamagedFiles(t *testing.T) {
	junk := "\x00\xff:=-,\n-\n"
	got := Read(Machine{OS: "linux", Arch: "amd64", Cores: []int{0}, Root: files(
		"proc/cpuinfo", junk, "proc/meminfo", "MemTotal: lots kB\n", "proc/loadavg", junk,
		"sys/devices/system/cpu/online", "3-1,x,4-y,", "sys/fs/cgroup/cpu.max", "max 100000\n",
		"proc/driver/nvidia/version", junk, "sys/class/drm/card0/device/uevent", junk,
		"sys/class/drm/card1/device/uevent", "PCI_ID=8086:1\n", "sys/class/drm/card1/device/pp_dpm_sclk",
		"1: fastMhz *\nMhz\n:\n", "sys/class/drm/card1/gt_cur_freq_mhz", "-3\n",
	)})
	want := Info{OS: "linux", Arch: "amd64", LogicalCores: 1, AllowedCores: []int{0},
		GPUs: []GPU{{Vendor: "Intel", Model: "PCI device 1"}}}
	testkit.Equal(t, want, got)
}

func TestVulkanVariablesReplaceTheFolders(t *testing.T) {
	root := files("usr/share/vulkan/icd.d/radeon.json", "{}", "opt/swiftshader.json", "{}")
	for variable, want := range map[string][]string{
		"VK_DRIVER_FILES":  {"/opt/swiftshader.json"},
		"VK_ICD_FILENAMES": {"/opt/swiftshader.json"},
		"OTHER":            {"/usr/share/vulkan/icd.d/radeon.json"},
	} {
		got := Read(Machine{Root: root, Getenv: func(k string) string {
			if k == variable {
				return "/opt/swiftshader.json:/opt/gone.json"
			}
			return ""
		}}).Vulkan.ICDs
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", variable, got, want)
		}
	}
}

// Intel's drivers have their clocks in one of two places.
func TestIntelClocks(t *testing.T) {
	for _, dir := range []string{"", "gt/gt0/rps"} {
		name := func(what string) string {
			if dir == "" {
				return "sys/class/drm/card0/gt_" + what
			}
			return "sys/class/drm/card0/" + dir + "_" + what
		}
		got := Read(Machine{OS: "linux", Root: files("sys/class/drm/card0/device/uevent", "DRIVER=i915\nPCI_ID=8086:9A49\n",
			name("cur_freq_mhz"), "350\n", name("max_freq_mhz"), "1350\n")}).GPUs
		testkit.Equal(t, []GPU{{Vendor: "Intel", Model: "PCI device 9A49", Driver: "i915", ClockMHz: 350,
			MaxClockMHz: 1350}}, got)
	}
}

// ARM's kernels name instruction sets elsewhere.
func TestARMFlags(t *testing.T) {
	got := Read(Machine{OS: "linux",
		Root: files("proc/cpuinfo", "processor\t: 0\nFeatures\t: fp asimd evtstrm aes i8mm bf16 sve sve asimddp\n")}).CPUFlags
	if want := []string{"asimd", "asimddp", "bf16", "i8mm", "sve"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestMac(t *testing.T) {
	values := map[string]string{"machdep.cpu.brand_string": "Apple M3", "hw.memsize": "1024", "kern.osrelease": "24.1.0"}
	got := Read(Machine{OS: "darwin", Arch: "arm64", Cores: []int{0}, Root: fstest.MapFS{},
		Sysctl: func(name string) (string, error) {
			if v, ok := values[name]; ok {
				return v, nil
			}
			return "", errors.New("no such value")
		}})
	want := Info{OS: "darwin", Arch: "arm64", Kernel: "24.1.0", CPU: "Apple M3", LogicalCores: 1, AllowedCores: []int{0},
		MemoryBytes: 1024, GPUs: []GPU{{Vendor: "Apple", Model: "Apple M3"}}}
	testkit.Equal(t, want, got)
}

func TestThisMachine(t *testing.T) {
	got := Read(This())
	if got.OS != runtime.GOOS || len(got.AllowedCores) != runtime.NumCPU() || !slices.IsSorted(got.AllowedCores) {
		t.Errorf("got %+v", got)
	}
	if runtime.GOOS == "linux" && (got.MemoryBytes <= 0 || got.Kernel == "") {
		t.Errorf("memory %d, kernel %q", got.MemoryBytes, got.Kernel)
	}
	text := testkit.Must(json.Marshal(got))(t)
	host, _ := os.Hostname()
	names := []string{host}
	if u, err := user.Current(); err == nil && u.Username != "root" {
		names = append(names, u.Username)
	}
	for _, name := range names {
		if len(name) > 3 && strings.Contains(string(text), name) {
			t.Errorf("a name of this machine got out: %s", text)
		}
	}
}

func nvidia(list ...nvml.Device) func() ([]nvml.Device, error) {
	return func() ([]nvml.Device, error) { return list, nil }
}

// What the driver tells goes to the GPU at the same place on the bus; without the kernel's list it is the list.
func TestNVIDIA(t *testing.T) {
	state := nvml.Device{Bus: "0000:3b:00.0", Name: "NVIDIA L4", ClockMHz: 1200, MaxClockMHz: 2040, MemoryClockMHz: 6250,
		MaxMemoryClockMHz: 6251, PowerW: 71.5, PowerLimitW: 72, TemperatureC: 83, Limits: 0x25}
	kernel := files("proc/driver/nvidia/gpus/0000:01:00.0/information", "Model: NVIDIA T4\n",
		"proc/driver/nvidia/gpus/0000:3b:00.0/information", "Model: NVIDIA L4\n")
	full := GPU{Vendor: "NVIDIA", Model: "NVIDIA L4", Driver: "nvidia", ClockMHz: 1200, MaxClockMHz: 2040,
		MemoryClockMHz: 6250, MaxMemoryClockMHz: 6251, PowerW: 71.5, PowerLimitW: 72, TemperatureC: 83, Throttle: []string{"power limit", "temperature (software)"}}
	got := Read(Machine{OS: "linux", Root: kernel, NVML: nvidia(state)}).GPUs
	testkit.Equal(t, []GPU{{Vendor: "NVIDIA", Model: "NVIDIA T4", Driver: "nvidia"}, full}, got)
	testkit.Equal(t, []GPU{full}, Read(Machine{OS: "linux", Root: fstest.MapFS{},
		NVML: nvidia(state)}).GPUs)
	broken := func() ([]nvml.Device, error) { return nil, errors.New("code 18") }
	if got := Read(Machine{OS: "linux", Root: kernel, NVML: broken}).GPUs; len(got) != 2 || got[1].ClockMHz != 0 {
		t.Errorf("a driver that fails: %+v", got)
	}
}

func TestGPULimits(t *testing.T) {
	state := func(power, thermal time.Duration) Counters {
		return ReadCounters(Machine{OS: "linux", Root: fstest.MapFS{}, NVML: nvidia(nvml.Device{PowerLimited: power,
			ThermalLimited: thermal}, nvml.Device{PowerLimited: time.Second})})
	}
	for _, c := range []struct {
		power, thermal time.Duration
		says           []string
	}{
		{0, 0, nil},
		{90 * time.Millisecond, 0, nil},
		{500 * time.Millisecond, 0, []string{"the power limit kept a GPU's clocks down for 5.0 %"}},
		{time.Second, 2 * time.Second, []string{"the temperature kept a GPU's clocks down for 20.0 %",
			"the power limit kept a GPU's clocks down for 10.0 %"}},
	} {
		got := state(5*time.Second+c.power, c.thermal).Sub(state(5*time.Second, 0)).GPULimits(10 * time.Second)
		if len(got) != len(c.says) {
			t.Fatalf("%+v: %q", c, got)
		}
		for i := range got {
			if !strings.HasPrefix(got[i], c.says[i]) {
				t.Errorf("%q, want %q", got[i], c.says[i])
			}
		}
	}
	if got := (Counters{GPUPower: 1}).GPULimits(0); got != nil {
		t.Errorf("no time: %q", got)
	}
}

// Links tell versions; folders that the loader was told of are looked in.
func TestCUDALibraries(t *testing.T) {
	root := files("etc/ld.so.conf.d/cuda.conf", "# CUDA\n/opt/cuda/lib\n", "opt/cuda/lib/libcudart.so.12.4.1", "",
		"opt/cuda/lib/libcublas.so.13.0.2", "",
		"usr/lib/x86_64-linux-gnu/libcudnn.so.9", "")
	root["opt/cuda/lib/libcudart.so.12"] = &fstest.MapFile{Data: []byte("libcudart.so.12.4.1"), Mode: fs.ModeSymlink}
	root["opt/cuda/lib/libcublas.so.13"] = &fstest.MapFile{Data: []byte("../lib/libcublas.so.13.0.2"),
		Mode: fs.ModeSymlink}
	got := Read(Machine{OS: "linux", Arch: "amd64", Root: root}).CUDA
	want := CUDA{Libraries: []string{"/opt/cuda/lib/libcudart.so.12", "/opt/cuda/lib/libcublas.so.13",
		"/usr/lib/x86_64-linux-gnu/libcudnn.so.9"},
		Versions: []string{"libcudart.so.12.4.1", "libcublas.so.13.0.2"}}
	testkit.Equal(t, want, got)
}

// A fingerprint changes with what engines depend on, and with nothing else.
func TestFingerprint(t *testing.T) {
	base := Info{OS: "linux", Kernel: "6.8", CPU: "x", CPUFlags: []string{"avx2"},
		GPUs: []GPU{{Vendor: "NVIDIA", Model: "L4", Driver: "nvidia", ClockMHz: 1}}, CUDA: CUDA{Driver: "580.1"}, Load1m: 1,
		MemoryBytes: 2}
	other := base
	other.Load1m, other.MemoryBytes, other.Governor, other.AllowedCores = 3, 4, "performance", []int{1}
	other.GPUs = []GPU{{Vendor: "NVIDIA", Model: "L4", Driver: "nvidia", ClockMHz: 2, PowerW: 3}}
	if base.Fingerprint() != other.Fingerprint() {
		t.Error("it changes with the load or the clocks")
	}
	for name, change := range map[string]func(*Info){
		"kernel": func(i *Info) { i.Kernel = "6.9" }, "processor": func(i *Info) { i.CPU = "y" },
		"instructions": func(i *Info) { i.CPUFlags = nil },
		"GPU":          func(i *Info) { i.GPUs = []GPU{{Vendor: "NVIDIA", Model: "T4", Driver: "nvidia"}} },
		"driver":       func(i *Info) { i.CUDA.Driver = "580.2" },
		"library":      func(i *Info) { i.CUDA.Libraries = []string{"a"} },
		"version":      func(i *Info) { i.CUDA.Versions = []string{"a"} },
	} {
		other := base
		change(&other)
		if base.Fingerprint() == other.Fingerprint() {
			t.Errorf("it does not change with the %s", name)
		}
	}
}

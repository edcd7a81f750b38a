// Package hostinfo says what a machine offers to inference: processor, cores, memory, graphics processors and the
// drivers for them. Documents keep it with measured times, and `terastal doctor` shows it. It reads files, asks
// NVIDIA's driver and runs nothing; it never holds a host name, a user name or a serial number.
package hostinfo

import (
	"cmp"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/terastal/terastal/internal/nvml"
)

// Info describes a machine. What could not be found out is empty or zero.
type Info struct {
	OS           string   `json:"os"`                     // such as "linux"
	Arch         string   `json:"arch"`                   // such as "amd64"
	Kernel       string   `json:"kernel,omitempty"`       // release of the kernel
	CPU          string   `json:"cpu,omitempty"`          // model name of the processor
	CPUFlags     []string `json:"cpu_flags,omitempty"`    // instruction sets that inference uses, such as "avx2", sorted
	LogicalCores int      `json:"logical_cores"`          // that the machine has online
	AllowedCores []int    `json:"allowed_cores"`          // that this process may use, ascending
	CPUQuota     float64  `json:"cpu_quota,omitempty"`    // cores' worth of time that a container may use; 0 is no limit
	Governor     string   `json:"governor,omitempty"`     // frequency governor, such as "performance"
	Load1m       float64  `json:"load_1m"`                // load average of the last minute
	MemoryBytes  int64    `json:"memory_bytes"`           // of main memory
	GPUs         []GPU    `json:"gpus,omitempty"`         // graphics processors
	RenderNodes  []string `json:"render_nodes,omitempty"` // devices under /dev/dri that compute without a screen
	Vulkan       Vulkan   `json:"vulkan"`
	CUDA         CUDA     `json:"cuda"`
}

// GPU is a graphics processor.
type GPU struct {
	Vendor string `json:"vendor"`           // "NVIDIA", "AMD", "Intel", or a PCI vendor number
	Model  string `json:"model,omitempty"`  // name, or the PCI device number
	Driver string `json:"driver,omitempty"` // kernel driver, such as "amdgpu"
	// ClockMHz is the clock when it was read, MaxClockMHz the highest there is, where the driver tells: AMD's, Intel's
	// and NVIDIA's.
	ClockMHz    int `json:"clock_mhz,omitempty"`
	MaxClockMHz int `json:"max_clock_mhz,omitempty"`
	// The rest is for NVIDIA's. Throttle is what kept the clocks down when it was read, such as "power limit".
	MemoryClockMHz    int      `json:"memory_clock_mhz,omitempty"`
	MaxMemoryClockMHz int      `json:"max_memory_clock_mhz,omitempty"`
	PowerW            float64  `json:"power_w,omitempty"`
	PowerLimitW       float64  `json:"power_limit_w,omitempty"`
	TemperatureC      int      `json:"temperature_c,omitempty"`
	Throttle          []string `json:"throttle,omitempty"`
}

// Vulkan is what the WebGPU provider needs on Linux.
type Vulkan struct {
	Loader string   `json:"loader,omitempty"` // path of libvulkan
	ICDs   []string `json:"icds,omitempty"`   // driver manifests
}

// CUDA is what the CUDA and TensorRT providers need.
type CUDA struct {
	Driver    string   `json:"driver,omitempty"`    // version of the NVIDIA kernel driver
	Libraries []string `json:"libraries,omitempty"` // of libcuda and those that CUDALibraries lists, those found
	// Versions are the names of the files that these are links to, such as "libcudnn.so.9.10.2".
	Versions []string `json:"versions,omitempty"`
}

// Missing are those of some libraries that were not found.
func (c CUDA) Missing(names []string) []string {
	var out []string
	for _, name := range names {
		if !slices.ContainsFunc(c.Libraries, func(file string) bool { return path.Base(file) == name }) {
			out = append(out, name)
		}
	}
	return out
}

// CUDALibraries are what ONNX Runtime's CUDA provider needs in addition to the driver, and TensorRTLibraries what the
// TensorRT provider needs on top of these, by name. They belong to CUDA 13, for which the published build of ONNX
// Runtime 1.29 is.
func CUDALibraries() []string {
	return []string{"libcudart.so.13", "libcublas.so.13", "libcublasLt.so.13", "libcurand.so.10", "libcudnn.so.9"}
}

// TensorRTLibraries: see CUDALibraries.
func TensorRTLibraries() []string { return []string{"libnvinfer.so.10", "libnvonnxparser.so.10"} }

// MinCUDADriver is the first major version of NVIDIA's driver that runs CUDA 13.
const MinCUDADriver = 580

// Machine is where Read looks. Fixtures stand in for it in tests.
type Machine struct {
	Root     fs.FS                             // the root folder; names have no leading slash
	Getenv   func(string) string               // the environment
	OS, Arch string                            // as runtime.GOOS and GOARCH
	Cores    []int                             // that this process may use
	Sysctl   func(name string) (string, error) // numbers as decimal text; nil on systems that have files for it
	NVML     func() ([]nvml.Device, error)     // what NVIDIA's driver tells; nil for nothing
}

// Read looks at a machine. It never fails: what cannot be read stays empty.
func Read(m Machine) Info {
	if m.Getenv == nil {
		m.Getenv = func(string) string { return "" }
	}
	info := Info{
		OS:           m.OS,
		Arch:         m.Arch,
		Kernel:       m.line("proc/sys/kernel/osrelease"),
		CPU:          m.cpu(),
		CPUFlags:     m.cpuFlags(),
		LogicalCores: m.online(),
		AllowedCores: slices.Clone(m.Cores),
		CPUQuota:     m.quota(),
		Governor:     m.governor(),
		MemoryBytes:  m.memory(),
		GPUs:         m.gpus(),
		RenderNodes:  m.renderNodes(),
		Vulkan:       Vulkan{Loader: m.library("libvulkan.so.1", "libvulkan.1.dylib"), ICDs: m.icds()},
		CUDA:         CUDA{Driver: m.nvidiaDriver()},
	}
	info.CUDA.Libraries, info.CUDA.Versions = m.cudaLibraries()
	if fields := strings.Fields(m.line("proc/loadavg")); len(fields) > 0 {
		info.Load1m, _ = strconv.ParseFloat(fields[0], 64)
	}
	if info.Kernel == "" {
		info.Kernel = m.sysctl("kern.osrelease")
	}
	return info
}

// Fingerprint is what compiled engines depend on: processor, instruction sets, kernel, graphics processors and their
// drivers, but nothing that changes by itself.
func (i Info) Fingerprint() string {
	parts := []string{i.OS, i.Arch, i.Kernel, i.CPU, strings.Join(i.CPUFlags, " "), i.CUDA.Driver,
		strings.Join(i.CUDA.Libraries, " "), strings.Join(i.CUDA.Versions, " ")}
	for _, g := range i.GPUs {
		parts = append(parts, g.Vendor+" "+g.Model+" "+g.Driver)
	}
	return strings.Join(parts, "\n")
}

// Graphics names the graphics processors, each once: what is computed there may be computed elsewhere in another way.
func (i Info) Graphics() string {
	var names []string
	for _, g := range i.GPUs {
		name := strings.TrimSpace(g.Vendor + " " + strings.TrimPrefix(g.Model, g.Vendor+" "))
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}

func (m Machine) sysctl(name string) string {
	if m.Sysctl == nil {
		return ""
	}
	value, _ := m.Sysctl(name)
	return value
}

// line is the first line of a file, "" if it is missing.
func (m Machine) line(name string) string {
	data, _ := fs.ReadFile(m.Root, name)
	first, _, _ := strings.Cut(string(data), "\n")
	return strings.TrimSpace(first)
}

// field is the first value of a key in a file of "key: value" lines, "" if it is missing.
func (m Machine) field(name, sep string, keys ...string) string {
	data, _ := fs.ReadFile(m.Root, name)
	for line := range strings.Lines(string(data)) {
		key, value, ok := strings.Cut(line, sep)
		if ok && slices.Contains(keys, strings.TrimSpace(key)) {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func (m Machine) cpu() string {
	name := cmp.Or(m.field("proc/cpuinfo", ":", "model name", "Hardware", "Model"),
		strings.TrimRight(m.line("proc/device-tree/model"), "\x00"), m.sysctl("machdep.cpu.brand_string"))
	if name != "" {
		return strings.Join(strings.Fields(name), " ")
	}
	// Most ARM processors only give numbers; they still tell machines apart.
	if part := m.field("proc/cpuinfo", ":", "CPU part"); part != "" {
		return "ARM implementer " + m.field("proc/cpuinfo", ":", "CPU implementer") + " part " + part
	}
	return ""
}

// cpuFlags are the first core's, as the kernel names them; those that do not change how fast layers run are left out.
func (m Machine) cpuFlags() []string {
	exact := []string{"avx", "avx2", "avx_ifma", "avx_ne_convert", "avx_vnni", "avx_vnni_int8", "f16c", "fma", // x86
		"asimd", "asimddp", "asimdfhm", "asimdhp", "bf16", "i8mm", "sme", "sve", "sve2", "svebf16", "svei8mm"} // ARM
	var found []string
	for flag := range strings.FieldsSeq(m.field("proc/cpuinfo", ":", "flags", "Features")) {
		family := func(prefix string) bool { return strings.HasPrefix(flag, prefix) }
		if slices.Contains(exact, flag) || slices.ContainsFunc([]string{"avx512", "avx10", "amx_"}, family) {
			found = append(found, flag)
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// online counts the cores in a list like "0-3,8".
func (m Machine) online() int {
	n := 0
	for part := range strings.SplitSeq(m.line("sys/devices/system/cpu/online"), ",") {
		from, to, isRange := strings.Cut(part, "-")
		if !isRange {
			to = from
		}
		first, err1 := strconv.Atoi(from)
		last, err2 := strconv.Atoi(to)
		if err1 == nil && err2 == nil {
			n += max(0, last-first+1)
		}
	}
	return cmp.Or(n, len(m.Cores))
}

// quota is the limit of the control group, in cores.
func (m Machine) quota() float64 {
	limit, period := m.line("sys/fs/cgroup/cpu/cpu.cfs_quota_us"), m.line("sys/fs/cgroup/cpu/cpu.cfs_period_us")
	if fields := strings.Fields(m.line("sys/fs/cgroup/cpu.max")); len(fields) == 2 {
		limit, period = fields[0], fields[1]
	}
	l, err1 := strconv.ParseFloat(limit, 64)
	p, err2 := strconv.ParseFloat(period, 64)
	if err1 != nil || err2 != nil || l <= 0 || p <= 0 {
		return 0
	}
	return l / p
}

// governor is that of the first allowed core.
func (m Machine) governor() string {
	core := 0
	if len(m.Cores) > 0 {
		core = m.Cores[0]
	}
	return m.line("sys/devices/system/cpu/cpu" + strconv.Itoa(core) + "/cpufreq/scaling_governor")
}

func (m Machine) memory() int64 {
	if kb, _, ok := strings.Cut(m.field("proc/meminfo", ":", "MemTotal"), " "); ok {
		if n, err := strconv.ParseInt(kb, 10, 64); err == nil {
			return n << 10
		}
	}
	n, _ := strconv.ParseInt(m.sysctl("hw.memsize"), 10, 64)
	return n
}

var vendors = map[string]string{"10DE": "NVIDIA", "1002": "AMD", "8086": "Intel", "106B": "Apple",
	"1AF4": "virtio", "15AD": "VMware"}

// gpus lists what the kernel's graphics drivers and NVIDIA's own one know.
func (m Machine) gpus() []GPU {
	var list []GPU
	// The folder names are PCI addresses; the file also holds a unique number, which is nobody's business.
	cards, _ := fs.Glob(m.Root, "proc/driver/nvidia/gpus/*/information")
	states := m.nvidia()
	for _, card := range cards {
		g := GPU{Vendor: "NVIDIA", Model: m.field(card, ":", "Model"), Driver: "nvidia"}
		bus := path.Base(path.Dir(card))
		if i := slices.IndexFunc(states, func(d nvml.Device) bool { return d.Bus == bus }); i >= 0 {
			g.fill(states[i])
		}
		list = append(list, g)
	}
	if len(list) == 0 {
		// A container may have the GPUs and not the folder.
		for _, d := range states {
			g := GPU{Vendor: "NVIDIA", Model: d.Name, Driver: "nvidia"}
			g.fill(d)
			list = append(list, g)
		}
	}
	nvidia := len(list) > 0
	cards, _ = fs.Glob(m.Root, "sys/class/drm/card*/device/uevent")
	for _, card := range cards {
		if strings.Contains(strings.TrimPrefix(card, "sys/class/drm/"), "-") {
			continue // a connector of a card, such as card0-HDMI-A-1
		}
		vendor, device, ok := strings.Cut(m.field(card, "=", "PCI_ID"), ":")
		if !ok {
			// Not on PCI: a system on a chip. The driver names it.
			if driver := m.field(card, "=", "DRIVER"); driver != "" {
				list = append(list, GPU{Vendor: "unknown", Driver: driver})
			}
			continue
		}
		name := vendors[strings.ToUpper(vendor)]
		if name == "" {
			name = "PCI vendor " + vendor
		}
		if name == "NVIDIA" && nvidia {
			continue // listed above, by name
		}
		g := GPU{Vendor: name, Model: "PCI device " + device, Driver: m.field(card, "=", "DRIVER")}
		g.ClockMHz, g.MaxClockMHz = m.clocks(strings.TrimSuffix(card, "/device/uevent"))
		list = append(list, g)
	}
	if m.OS == "darwin" && m.Arch == "arm64" {
		list = append(list, GPU{Vendor: "Apple", Model: m.cpu()})
	}
	return list
}

// nvidia is what NVIDIA's driver tells, nothing without it.
func (m Machine) nvidia() []nvml.Device {
	if m.NVML == nil {
		return nil
	}
	list, _ := m.NVML()
	return list
}

func (g *GPU) fill(d nvml.Device) {
	g.ClockMHz, g.MaxClockMHz = d.ClockMHz, d.MaxClockMHz
	g.MemoryClockMHz, g.MaxMemoryClockMHz = d.MemoryClockMHz, d.MaxMemoryClockMHz
	g.PowerW, g.PowerLimitW, g.TemperatureC, g.Throttle = d.PowerW, d.PowerLimitW, d.TemperatureC, nvml.Reasons(d.Limits)
}

// clocks are a card's current and highest clock in MHz, 0 where the driver does not tell. amdgpu has a line per level,
// such as "1: 1900Mhz *", with a star at the current one; i915 has a file for each.
func (m Machine) clocks(card string) (current, highest int) {
	levels, _ := fs.ReadFile(m.Root, card+"/device/pp_dpm_sclk")
	for line := range strings.Lines(string(levels)) {
		_, level, _ := strings.Cut(line, ":")
		number, rest, ok := strings.Cut(strings.ToLower(strings.TrimSpace(level)), "mhz")
		mhz, err := strconv.Atoi(number)
		if !ok || err != nil {
			continue
		}
		highest = max(highest, mhz)
		if strings.Contains(rest, "*") {
			current = mhz
		}
	}
	if highest > 0 {
		return current, highest
	}
	for _, prefix := range []string{"/gt_", "/gt/gt0/rps_"} {
		current, _ = strconv.Atoi(m.line(card + prefix + "cur_freq_mhz"))
		highest, _ = strconv.Atoi(m.line(card + prefix + "max_freq_mhz"))
		if current > 0 || highest > 0 {
			return max(0, current), max(0, highest)
		}
	}
	return 0, 0
}

func (m Machine) renderNodes() []string {
	nodes, _ := fs.Glob(m.Root, "dev/dri/renderD*")
	for i := range nodes {
		nodes[i] = "/" + nodes[i]
	}
	return nodes
}

// icds are the manifests that the Vulkan loader would read. The two variables replace the usual folders, as the
// loader's documentation says.
func (m Machine) icds() []string {
	var found []string
	if list := cmp.Or(m.Getenv("VK_DRIVER_FILES"), m.Getenv("VK_ICD_FILENAMES")); list != "" {
		return slices.DeleteFunc(filepath.SplitList(list), func(file string) bool { return !m.exists(file) })
	}
	for _, dir := range []string{"etc/vulkan/icd.d", "usr/local/share/vulkan/icd.d", "usr/share/vulkan/icd.d"} {
		files, _ := fs.Glob(m.Root, dir+"/*.json")
		for _, file := range files {
			found = append(found, "/"+file)
		}
	}
	return found
}

func (m Machine) exists(file string) bool {
	_, err := fs.Stat(m.Root, strings.TrimPrefix(path.Clean(file), "/"))
	return err == nil
}

// library finds the first of some library names in the usual folders.
func (m Machine) library(names ...string) string {
	for _, dir := range m.libraryDirs() {
		for _, name := range names {
			if file := path.Join(dir, name); m.exists(file) {
				return file
			}
		}
	}
	return ""
}

func (m Machine) libraryDirs() []string {
	dirs := filepath.SplitList(m.Getenv("LD_LIBRARY_PATH"))
	triple := map[string]string{"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}[m.Arch]
	dirs = append(dirs, m.loaderDirs()...)
	return append(dirs, "/usr/lib/"+triple, "/usr/lib64", "/usr/lib", "/usr/local/lib", "/usr/local/cuda/lib64",
		"/lib/"+triple, "/lib64", "/opt/homebrew/lib")
}

// loaderDirs are the folders that the loader was told of on Linux.
func (m Machine) loaderDirs() []string {
	var dirs []string
	files, _ := fs.Glob(m.Root, "etc/ld.so.conf.d/*.conf")
	for _, file := range files {
		data, _ := fs.ReadFile(m.Root, file)
		for line := range strings.Lines(string(data)) {
			if dir := strings.TrimSpace(line); path.IsAbs(dir) {
				dirs = append(dirs, dir)
			}
		}
	}
	return dirs
}

// cudaLibraries finds the libraries and the files that they lead to.
func (m Machine) cudaLibraries() (found, versions []string) {
	for _, name := range slices.Concat([]string{"libcuda.so.1"}, CUDALibraries(), TensorRTLibraries()) {
		names := []string{name}
		if before, ok := strings.CutSuffix(name, ".so.13"); ok {
			names = append(names, before+".so.12") // says what is there in its place
		}
		file := m.library(names...)
		if file == "" {
			continue
		}
		found = append(found, file)
		target := file
		for range 8 { // links that lead to links
			link, err := fs.ReadLink(m.Root, strings.TrimPrefix(target, "/"))
			if err != nil {
				break
			}
			if !path.IsAbs(link) {
				link = path.Join(path.Dir(target), link)
			}
			target = link
		}
		if target != file {
			versions = append(versions, path.Base(target))
		}
	}
	return found, versions
}

// nvidiaDriver is the version in a line such as "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu Feb 22
// ...".
func (m Machine) nvidiaDriver() string {
	for word := range strings.FieldsSeq(m.field("proc/driver/nvidia/version", ":", "NVRM version")) {
		if word[0] >= '0' && word[0] <= '9' && strings.Count(word, ".") >= 1 {
			return word
		}
	}
	return ""
}

// This is the machine that the program runs on.
func This() Machine {
	return Machine{Root: os.DirFS("/"), Getenv: os.Getenv, OS: runtime.GOOS, Arch: runtime.GOARCH, Cores: Cores(),
		Sysctl: sysctl, NVML: func() ([]nvml.Device, error) { return nvml.Read("") }}
}

// Cores are those that this process may use, in ascending order.
func Cores() []int {
	if list := affinity(); len(list) > 0 {
		return list
	}
	list := make([]int, runtime.NumCPU())
	for core := range list {
		list[core] = core
	}
	return list
}

// Package doctor finds out whether this machine can run terastal: which ONNX Runtime there is, which execution
// providers really open, what the hardware offers, and which command fixes what is missing. It is for `terastal doctor`
// and for configurations that ask for the accelerators "auto".
package doctor

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/terastal/terastal/cmd/terastal/internal/auto"
	"github.com/terastal/terastal/cmd/terastal/internal/table"
	"github.com/terastal/terastal/internal/hostinfo"
	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/runtime"
)

// Options are what Check depends on.
type Options struct {
	// Library is an explicit path of ONNX Runtime; "" lets it be found.
	Library string

	// Host is the machine.
	Host hostinfo.Info

	// Probe tells whether an accelerator opens, by running it; Child makes one that survives a provider that crashes.
	Probe Probe

	// Inspect says what a library was built with and what a plugin, if one is
	// named, offers; InspectChild makes one that survives a crash.
	Inspect func(ctx context.Context, library, provider, plugin string) (Inspection, error)

	// Calibrations are those that are kept, the newest first.
	Calibrations []*auto.Calibration

	// Plugins are the libraries of providers by name; Installed finds others.
	Plugins   map[string]string
	Installed func(provider string) string
}

// Report is the outcome of Check.
type Report struct {
	OK          bool          `json:"ok"` // ONNX Runtime can be used, and computes on the CPU
	ONNXRuntime Runtime       `json:"onnx_runtime"`
	Providers   []Provider    `json:"providers"`
	Host        hostinfo.Info `json:"host"`
	// Accelerators are what "auto" stood for here last; Guessed says that it was not calibrated yet.
	Accelerators []runtime.Spec `json:"accelerators"`
	Guessed      bool           `json:"accelerators_guessed,omitempty"`
	// Calibrations are what "auto" chooses by, for some models each, the newest first.
	Calibrations []*auto.Calibration `json:"calibrations,omitempty"`
	Fixes        []Fix               `json:"fixes"`
}

// Runtime is the ONNX Runtime library that was found.
type Runtime struct {
	Needed  string `json:"needed"` // the version that the program is built for
	Version string `json:"version,omitempty"`
	Path    string `json:"path,omitempty"`
	Source  string `json:"source,omitempty"` // "flag", "ONNXRUNTIME_LIB", "cache" or "system"
	Error   string `json:"error,omitempty"`  // why it cannot be used
}

// Provider is an execution provider, and whether it opened.
type Provider struct {
	Name   string `json:"name"`
	Opens  bool   `json:"opens"`
	Reason string `json:"reason,omitempty"` // why it does not
	// Built is true where ONNX Runtime was built with it; Plugin is the library
	// that it is in otherwise, and Devices what that can compute on.
	Built   bool     `json:"built"`
	Plugin  string   `json:"plugin,omitempty"`
	Devices []Device `json:"devices,omitempty"`
	// Offer is what its device offers, where that has a memory or could have streams.
	Offer *runtime.Offer `json:"offer,omitempty"`
}

// Device is a device of a plugin.
type Device struct {
	Name   string     `json:"name"` // as a configuration takes it
	Opens  bool       `json:"opens"`
	Reason string     `json:"reason,omitempty"` // why it does not
	About  ort.Device `json:"about"`
}

// Fix is something that is missing, and what to do about it.
type Fix struct {
	Problem string `json:"problem"`
	Command string `json:"command"`
}

// Check looks at everything. Only ctx ends it early; what goes wrong is in the report.
func Check(ctx context.Context, o Options) Report {
	r := Report{ONNXRuntime: Runtime{Needed: ort.Version}, Host: o.Host, Providers: []Provider{}, Fixes: []Fix{}}
	library, err := ort.Locate(o.Library)
	if err != nil {
		r.ONNXRuntime.Error = err.Error()
		r.fix("ONNX Runtime "+ort.Version+" cannot be used", "scripts/setup-onnxruntime.sh")
	} else {
		r.ONNXRuntime = Runtime{Needed: ort.Version, Version: library.Version, Path: library.Path, Source: library.Source}
		o.providers(ctx, &r)
	}
	open := r.open()
	r.OK = slices.Contains(open, "cpu")
	r.Accelerators, r.Guessed = guessed(o.Host, open), true
	for _, c := range o.Calibrations {
		if c.Choice != nil && c.CPU == o.Host.CPU { // a folder may be several machines'
			r.Calibrations = append(r.Calibrations, c)
		}
	}
	if len(r.Calibrations) > 0 {
		r.Accelerators, r.Guessed = r.Calibrations[0].Choice.Accelerators, false
	}
	r.advise(open)
	return r
}

// providers tries every provider, and every device of those that are plugins.
func (o Options) providers(ctx context.Context, r *Report) {
	library := r.ONNXRuntime.Path
	inspection, err := o.Inspect(ctx, library, "", "")
	if err != nil {
		r.fix("ONNX Runtime does not say what it was built with: "+err.Error(),
			"rm -f "+library+" && scripts/setup-onnxruntime.sh")
	}
	names := ort.Providers()
	for _, name := range slices.Sorted(maps.Keys(o.Plugins)) {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for _, name := range names {
		p := Provider{Name: name, Built: slices.Contains(inspection.Built, name), Plugin: o.Plugins[name]}
		if p.Plugin == "" && !p.Built {
			p.Plugin = o.Installed(name)
		}
		p.Built = p.Built && p.Plugin == ""
		if p.Plugin != "" {
			o.plugin(ctx, library, &p)
		} else if p.Built || err != nil {
			p.Opens, p.Reason, p.Offer = o.opens(ctx, library, runtime.Spec{Provider: name})
		} else {
			p.Reason = notHere(name)
		}
		r.Providers = append(r.Providers, p)
	}
}

// notHere is why a provider that ONNX Runtime was not built with does not open.
func notHere(name string) string {
	switch {
	case slices.Contains(ort.Installable(), name):
		return "not installed: scripts/setup-onnxruntime.sh --with " + name + " does it"
	case name == "coreml":
		return "it is for macOS"
	case name == "directml":
		return "it is for Windows"
	case name == "cuda", name == "tensorrt":
		return "not in this build of ONNX Runtime: scripts/setup-onnxruntime.sh --with cuda gets one"
	}
	return "not in this build of ONNX Runtime: give its plugin with --plugin " + name + "=PATH"
}

// plugin tries every device of a provider that is a plugin.
func (o Options) plugin(ctx context.Context, library string, p *Provider) {
	inspection, err := o.Inspect(ctx, library, p.Name, p.Plugin)
	if err != nil {
		p.Reason = err.Error()
		return
	}
	if len(inspection.Devices) == 0 {
		p.Reason = "the plugin finds no device on this machine that it supports"
	}
	for i, about := range inspection.Devices {
		d := Device{Name: about.String(), About: about}
		d.Opens, d.Reason, _ = o.opens(ctx, library, runtime.Spec{Provider: p.Name, Device: strconv.Itoa(i),
			Local: runtime.Local{Library: p.Plugin}})
		p.Opens = p.Opens || d.Opens
		p.Devices = append(p.Devices, d)
	}
	if !p.Opens && len(p.Devices) > 0 {
		p.Reason = p.Devices[0].Reason
	}
}

// opens probes an accelerator and says why it does not open, or what its device offers.
func (o Options) opens(ctx context.Context, library string, s runtime.Spec) (bool, string, *runtime.Offer) {
	s.Name = s.Provider
	offer, err := o.Probe(ctx, library, s)
	if err != nil {
		return false, strings.TrimPrefix(err.Error(), "opening a session on "+s.Provider+": "), nil
	}
	if offer == (runtime.Offer{}) {
		return true, "", nil
	}
	return true, "", &offer
}

// open are the names of the providers that open.
func (r *Report) open() []string {
	var open []string
	for _, p := range r.Providers {
		if p.Opens {
			open = append(open, p.Name)
		}
	}
	return open
}

func (r *Report) fix(problem, command string) {
	r.Fixes = append(r.Fixes, Fix{Problem: problem, Command: command})
}

// advise adds what can be done about providers that could open here.
func (r *Report) advise(open []string) {
	h := r.Host
	if len(r.Providers) > 0 && !r.OK {
		r.fix("ONNX Runtime does not compute on the CPU", "rm -f "+r.ONNXRuntime.Path+" && scripts/setup-onnxruntime.sh")
	}
	if h.OS == "linux" && !slices.Contains(open, "webgpu") {
		switch {
		case len(h.GPUs) == 0 && (h.Vulkan.Loader == "" || len(h.Vulkan.ICDs) == 0):
			r.fix("there is no GPU; a software Vulkan device lets WebGPU run, slowly, for tests",
				`eval "$(scripts/setup-software-vulkan.sh)"`)
		case h.Vulkan.Loader == "":
			r.fix("the Vulkan loader is missing, which WebGPU needs", "sudo apt-get install libvulkan1")
		case len(h.Vulkan.ICDs) == 0:
			r.fix("no Vulkan driver is installed, which WebGPU needs",
				"sudo apt-get install mesa-vulkan-drivers (AMD, Intel), or the NVIDIA driver")
		}
	}
	if h.OS == "linux" {
		r.adviseNVIDIA(open)
	}
	for _, g := range h.GPUs {
		if len(g.Throttle) > 0 {
			r.fix(fmt.Sprintf("the clocks of %s are kept down: %s", strings.TrimSpace(g.Vendor+" "+g.Model),
				strings.Join(g.Throttle, ", ")), "nvidia-smi -q -d PERFORMANCE (and cool it, or lock its clocks)")
		}
	}
	if h.Governor != "" && h.Governor != "performance" {
		r.fix("the frequency governor is "+h.Governor+", which makes measured times vary",
			"sudo cpupower frequency-set -g performance")
	}
	if n := len(h.AllowedCores); n > 0 && h.Load1m > float64(n)/2 {
		r.fix(fmt.Sprintf("the load average is %.1f on %d cores: measured times will be too long", h.Load1m, n),
			"top (and stop what else runs)")
	}
	if h.CPUQuota > 0 && h.CPUQuota < float64(len(h.AllowedCores)) {
		r.fix(fmt.Sprintf("the container may use %.1f of its %d cores: it is paused when it uses more", h.CPUQuota,
			len(h.AllowedCores)), "start it with a cpuset in place of a CPU quota")
	}
}

// adviseNVIDIA adds what the CUDA and TensorRT providers lack on an NVIDIA GPU, the first thing first: each is only
// known to be enough once those before it are there.
func (r *Report) adviseNVIDIA(open []string) {
	h := r.Host
	nvidia := slices.ContainsFunc(h.GPUs, func(g hostinfo.GPU) bool { return g.Vendor == "NVIDIA" })
	if !nvidia || slices.Contains(open, "cuda") && slices.Contains(open, "tensorrt") {
		return
	}
	const packages = "sudo apt-get install cuda-toolkit-13-0 cudnn9-cuda-13 (from NVIDIA's repository), or: pip install " +
		"'onnxruntime-gpu[cuda,cudnn]==" + ort.Version + "' and put its nvidia/*/lib folders into LD_LIBRARY_PATH"
	if !slices.Contains(open, "cuda") {
		missing := h.CUDA.Missing(hostinfo.CUDALibraries())
		major, _, _ := strings.Cut(h.CUDA.Driver, ".")
		version, err := strconv.Atoi(major)
		switch {
		case h.CUDA.Driver == "" && len(h.CUDA.Missing([]string{"libcuda.so.1"})) > 0:
			r.fix("an NVIDIA GPU has no NVIDIA driver", "sudo apt-get install nvidia-driver")
		case h.CUDA.Driver != "" && err == nil && version < hostinfo.MinCUDADriver:
			r.fix(fmt.Sprintf("the NVIDIA driver %s is too old for CUDA 13, which the CUDA provider is built for: it needs %d",
				h.CUDA.Driver, hostinfo.MinCUDADriver), fmt.Sprintf("sudo apt-get install nvidia-driver-%d",
				hostinfo.MinCUDADriver))
		case !r.cudaBuild():
			r.fix("this build of ONNX Runtime lacks the CUDA provider's library", "scripts/setup-onnxruntime.sh --with cuda")
		case len(missing) > 0:
			r.fix("the CUDA provider needs "+strings.Join(missing, ", "), packages)
		default:
			r.fix("the CUDA provider does not open though its libraries are there: see its reason", "terastal doctor --json")
		}
		return
	}
	if missing := h.CUDA.Missing(hostinfo.TensorRTLibraries()); len(missing) > 0 {
		r.fix("the TensorRT provider needs "+strings.Join(missing, ", "), "sudo apt-get install tensorrt (from NVIDIA's "+
			"repository), or: pip install tensorrt-cu13 and put its folder into LD_LIBRARY_PATH")
	}
}

// cudaBuild reports whether the CUDA provider's library lies next to ONNX Runtime's.
func (r *Report) cudaBuild() bool {
	_, err := os.Stat(filepath.Join(filepath.Dir(r.ONNXRuntime.Path), "libonnxruntime_providers_cuda.so"))
	return err == nil
}

// Write shows the report to a person.
func (r Report) Write(w io.Writer) error {
	var b strings.Builder
	b.WriteString(r.summary() + "\n")
	fixes := table.New("To fix or improve", "Do this")
	for _, f := range r.Fixes {
		fixes.Add(f.Problem, f.Command)
	}
	for _, t := range []*table.Table{r.machineTable(), r.providerTable(), r.acceleratorTable(), r.calibrationTable(),
		fixes} {
		if len(t.Rows) > 0 {
			b.WriteString("\n" + t.String() + "\n")
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (r Report) summary() string {
	switch {
	case r.ONNXRuntime.Error != "":
		return "Not ready: " + r.ONNXRuntime.Error
	case !r.OK:
		return "Not ready: ONNX Runtime does not compute on the CPU"
	}
	return fmt.Sprintf("Ready: ONNX Runtime %s computes with: %s", r.ONNXRuntime.Version, strings.Join(r.open(), ", "))
}

func (r Report) machineTable() *table.Table {
	t := table.New("Machine", "")
	h := r.Host
	rt := r.ONNXRuntime
	if rt.Error != "" {
		t.Add("ONNX Runtime", "not usable, needed is "+rt.Needed)
	} else {
		t.Add("ONNX Runtime", fmt.Sprintf("%s (needed %s), from %s: %s", rt.Version, rt.Needed, rt.Source, rt.Path))
	}
	row := func(name, value string) {
		if value != "" {
			t.Add(name, value)
		}
	}
	row("System", strings.TrimSpace(h.OS+" "+h.Arch+" "+h.Kernel))
	row("Processor", h.CPU)
	cores := fmt.Sprintf("%d online, allowed %s", h.LogicalCores, joinCores(h.AllowedCores))
	if h.CPUQuota > 0 {
		cores += fmt.Sprintf(", quota %.1f", h.CPUQuota)
	}
	row("Cores", cores)
	row("Governor", h.Governor)
	row("Load", fmt.Sprintf("%.2f", h.Load1m))
	if h.MemoryBytes > 0 {
		row("Memory", fmt.Sprintf("%.1f GiB", float64(h.MemoryBytes)/(1<<30)))
	}
	for _, g := range h.GPUs {
		row("GPU", strings.Join(strings.Fields(g.Vendor+" "+g.Model+" "+g.Driver+state(g)), " "))
	}
	if len(h.GPUs) == 0 {
		row("GPU", "none found")
	}
	row("Vulkan", found(h.Vulkan.Loader, h.Vulkan.ICDs))
	row("CUDA", found(h.CUDA.Driver, h.CUDA.Libraries))
	return t
}

// state is how a GPU stands, where its driver tells.
func state(g hostinfo.GPU) string {
	s := ""
	if g.ClockMHz > 0 {
		s += fmt.Sprintf(", %d of %d MHz", g.ClockMHz, g.MaxClockMHz)
	}
	if g.PowerW > 0 {
		s += fmt.Sprintf(", %.0f of %.0f W", g.PowerW, g.PowerLimitW)
	}
	if g.TemperatureC > 0 {
		s += fmt.Sprintf(", %d degrees", g.TemperatureC)
	}
	return s
}

func found(first string, rest []string) string {
	if first != "" {
		rest = append([]string{first}, rest...)
	}
	if len(rest) == 0 {
		return "none found"
	}
	return strings.Join(rest, ", ")
}

// joinCores writes cores as ranges, such as "0-3,8".
func joinCores(cores []int) string {
	if len(cores) == 0 {
		return "any"
	}
	var parts []string
	for i := 0; i < len(cores); {
		j := i
		for j+1 < len(cores) && cores[j+1] == cores[j]+1 {
			j++
		}
		if i == j {
			parts = append(parts, fmt.Sprint(cores[i]))
		} else {
			parts = append(parts, fmt.Sprintf("%d-%d", cores[i], cores[j]))
		}
		i = j + 1
	}
	return strings.Join(parts, ",")
}

// shown is how much of a provider's reason fits a table; --json has all of it.
const shown = 85

func (r Report) providerTable() *table.Table {
	t := table.New("Provider", "Opens", "Where", "Why not")
	for _, p := range r.Providers {
		opens, reason := yes(p.Opens), p.Reason
		if runes := []rune(reason); len(runes) > shown {
			reason = string(runes[:shown]) + "..."
		}
		where := ""
		switch {
		case p.Built:
			where = "built in"
			if p.Name == "webgpu" && p.Opens && r.Host.OS == "linux" && len(r.Host.GPUs) == 0 {
				where += ", on a software device: there is no GPU"
			}
		case p.Plugin != "":
			where = "plugin"
		}
		t.Add(p.Name, opens, where, reason)
		if p.Offer != nil {
			t.Add("  its device", "", offered(p.Offer), "")
		}
		for _, d := range p.Devices {
			about := strings.TrimSpace(d.About.Metadata["FULL_DEVICE_NAME"] + " " + d.Reason)
			t.Add("  device "+d.Name, yes(d.Opens), "", about)
		}
	}
	return t
}

// offered says what a device offers.
func offered(o *runtime.Offer) string {
	text := "streams: " + yes(o.Streams) + ", graphs: " + yes(o.Graphs)
	if o.Total > 0 {
		text += fmt.Sprintf(", memory: %.1f of %.1f GiB free", float64(o.Free)/(1<<30), float64(o.Total)/(1<<30))
	}
	if o.Lacks != "" {
		text += " (" + o.Lacks + ")"
	}
	return text
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

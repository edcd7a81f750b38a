// Package doctor finds out whether this machine can run terastal: which ONNX
// Runtime there is, which execution providers really open, what the hardware
// offers, and which command fixes what is missing. It is for `terastal doctor`
// and for configurations that ask for the accelerators "auto".
package doctor

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/terastal/terastal/internal/hostinfo"
	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/internal/table"
	"github.com/terastal/terastal/runtime"
)

// Options are what Check depends on.
type Options struct {
	// Library is an explicit path of ONNX Runtime; "" lets it be found.
	Library string

	// Host is the machine.
	Host hostinfo.Info

	// Probe tells whether an accelerator opens, by running it; Child makes one
	// that survives a provider that crashes.
	Probe func(ctx context.Context, library string, s runtime.Spec) error

	// Inspect says what a library was built with and what a plugin, if one is
	// named, offers; InspectChild makes one that survives a crash.
	Inspect func(ctx context.Context, library, provider, plugin string) (Inspection, error)

	// Plugins are the libraries of providers by name; Installed finds others.
	Plugins   map[string]string
	Installed func(provider string) string
}

// Report is the outcome of Check.
type Report struct {
	OK           bool           `json:"ok"` // ONNX Runtime can be used, and computes on the CPU
	ONNXRuntime  Runtime        `json:"onnx_runtime"`
	Providers    []Provider     `json:"providers"`
	Host         hostinfo.Info  `json:"host"`
	Accelerators []runtime.Spec `json:"accelerators"` // what "auto" stands for here
	Fixes        []Fix          `json:"fixes"`
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

// Check looks at everything. Only ctx ends it early; what goes wrong is in the
// report.
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
	r.Accelerators = Auto(o.Host, open)
	r.advise(open)
	return r
}

// providers tries every provider, and every device of those that are plugins.
func (o Options) providers(ctx context.Context, r *Report) {
	library := r.ONNXRuntime.Path
	inspection, err := o.Inspect(ctx, library, "", "")
	if err != nil {
		r.fix("ONNX Runtime does not say what it was built with: "+err.Error(), "rm -f "+library+" && scripts/setup-onnxruntime.sh")
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
			p.Opens, p.Reason = o.opens(ctx, library, runtime.Spec{Provider: name})
		} else {
			p.Reason = "this build of ONNX Runtime does not have it, and no plugin is installed"
		}
		r.Providers = append(r.Providers, p)
	}
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
		d.Opens, d.Reason = o.opens(ctx, library, runtime.Spec{Provider: p.Name, Device: strconv.Itoa(i), Local: runtime.Local{Library: p.Plugin}})
		p.Opens = p.Opens || d.Opens
		p.Devices = append(p.Devices, d)
	}
	if !p.Opens && len(p.Devices) > 0 {
		p.Reason = p.Devices[0].Reason
	}
}

// opens probes an accelerator and says why it does not open.
func (o Options) opens(ctx context.Context, library string, s runtime.Spec) (bool, string) {
	s.Name = s.Provider
	if err := o.Probe(ctx, library, s); err != nil {
		return false, strings.TrimPrefix(err.Error(), "opening a session on "+s.Provider+": ")
	}
	return true, ""
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
		case h.Vulkan.Loader == "":
			r.fix("the Vulkan loader is missing, which WebGPU needs", "sudo apt-get install libvulkan1")
		case len(h.Vulkan.ICDs) == 0 && len(h.GPUs) > 0:
			r.fix("no Vulkan driver is installed, which WebGPU needs", "sudo apt-get install mesa-vulkan-drivers (AMD, Intel), or the NVIDIA driver")
		case len(h.Vulkan.ICDs) == 0:
			r.fix("there is no Vulkan driver and no GPU; a software one lets WebGPU run, slowly",
				"sudo apt-get install chromium && export VK_DRIVER_FILES=/usr/lib/chromium/vk_swiftshader_icd.json XDG_RUNTIME_DIR=/tmp")
		}
	}
	nvidia := slices.ContainsFunc(h.GPUs, func(g hostinfo.GPU) bool { return g.Vendor == "NVIDIA" })
	if nvidia && h.OS == "linux" && !slices.Contains(open, "cuda") {
		if h.CUDA.Driver == "" {
			r.fix("an NVIDIA GPU has no NVIDIA driver", "sudo apt-get install nvidia-driver")
		} else {
			r.fix("the CUDA provider does not open", "export ONNXRUNTIME_LIB=<libonnxruntime.so of the "+ort.Version+" GPU package, its provider libraries beside it>")
		}
	}
	if h.Governor != "" && h.Governor != "performance" {
		r.fix("the frequency governor is "+h.Governor+", which makes measured times vary", "sudo cpupower frequency-set -g performance")
	}
	if n := len(h.AllowedCores); n > 0 && h.Load1m > float64(n)/2 {
		r.fix(fmt.Sprintf("the load average is %.1f on %d cores: measured times will be too long", h.Load1m, n), "top (and stop what else runs)")
	}
	if h.CPUQuota > 0 && h.CPUQuota < float64(len(h.AllowedCores)) {
		r.fix(fmt.Sprintf("the container may use %.1f of its %d cores: it is paused when it uses more", h.CPUQuota, len(h.AllowedCores)), "start it with a cpuset in place of a CPU quota")
	}
}

// Write shows the report to a person.
func (r Report) Write(w io.Writer) error {
	var b strings.Builder
	b.WriteString(r.summary() + "\n")
	for _, t := range []table.Table{r.machineTable(), r.providerTable(), r.acceleratorTable(), r.fixTable()} {
		if t.Length() > 0 {
			b.WriteString("\n" + t.Render() + "\n")
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

func (r Report) machineTable() table.Table {
	t := table.New("Machine", "")
	h := r.Host
	rt := r.ONNXRuntime
	switch {
	case rt.Error != "":
		t.AppendRow(table.Row{"ONNX Runtime", "not usable, needed is " + rt.Needed})
	default:
		t.AppendRow(table.Row{"ONNX Runtime", fmt.Sprintf("%s (needed %s), from %s: %s", rt.Version, rt.Needed, rt.Source, rt.Path)})
	}
	row := func(name, value string) {
		if value != "" {
			t.AppendRow(table.Row{name, value})
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
		row("GPU", strings.Join(strings.Fields(g.Vendor+" "+g.Model+" "+g.Driver), " "))
	}
	if len(h.GPUs) == 0 {
		row("GPU", "none found")
	}
	row("Vulkan", found(h.Vulkan.Loader, h.Vulkan.ICDs))
	row("CUDA", found(h.CUDA.Driver, h.CUDA.Libraries))
	return t
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
const shown = 100

func (r Report) providerTable() table.Table {
	t := table.New("Provider", "Opens", "Why not")
	for _, p := range r.Providers {
		opens, reason := "no", p.Reason
		if p.Opens {
			opens = "yes"
		}
		if runes := []rune(reason); len(runes) > shown {
			reason = string(runes[:shown]) + "..."
		}
		t.AppendRow(table.Row{p.Name, opens, reason})
	}
	return t
}

func (r Report) acceleratorTable() table.Table {
	t := table.New("Accelerator (auto)", "Provider", "Optimization", "Threads", "Cores")
	for _, a := range r.Accelerators {
		t.AppendRow(table.Row{a.Name, a.Provider, a.Optimization, max(1, a.Threads), joinCores(a.Cores)})
	}
	return t
}

func (r Report) fixTable() table.Table {
	t := table.New("To fix or improve", "Do this")
	for _, f := range r.Fixes {
		t.AppendRow(table.Row{f.Problem, f.Command})
	}
	return t
}

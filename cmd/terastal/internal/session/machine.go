package session

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/terastal/terastal/cmd/terastal/internal/config"
	"github.com/terastal/terastal/internal/hostinfo"
	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched/eventlog"
	"github.com/terastal/terastal/sched/plan"
)

// Machine is what there is to run on.
type Machine struct {
	Host  hostinfo.Info
	ORT   ort.Library
	Specs []runtime.Spec

	// automatic says that no accelerators are configured, and gpus are the providers that a GPU opens with then.
	automatic bool
	gpus      []string
	// offers are what devices offer, by name.
	offers map[string]*runtime.Offer
	// counted is how many streams pay, of devices that have as many.
	counted map[string]int
}

// openMachine starts ONNX Runtime and checks the accelerators that are configured.
func openMachine(c *config.Config, o *Options) (m Machine, err error) {
	m.Host = hostinfo.Read(hostinfo.This())
	if m.ORT, err = ort.Start(o.ORT); err != nil {
		return m, err
	}
	m.Specs = c.Specs()
	m.automatic = len(m.Specs) == 0
	return m, m.check(c, o)
}

// check completes the accelerators by what this machine has, and refuses those that make no sense on it.
func (m *Machine) check(c *config.Config, o *Options) (err error) {
	for k := range m.Specs {
		s := &m.Specs[k]
		if s.Provider == runtime.EmulatedProvider {
			err = emulation(s, c.Accelerator(s), c, o.Root)
		} else if err = s.Localize(o.Plugins, enginesOf(c, s)); err == nil {
			err = narrow(*s).Validate()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// try tries the accelerators, or, where none are configured, with which providers a GPU opens.
func (m *Machine) try(o *Options) (err error) {
	if m.automatic {
		m.tryGPU(o)
	}
	for k := range m.Specs {
		if err := m.probe(&m.Specs[k], o.Probe); err != nil {
			return err
		}
	}
	return nil
}

// enginesOf is the folder that an accelerator's compiled engines are kept in; "" for none. A configuration does not
// name it, nor a provider's library: a library is code, and an engine is as good as code.
func enginesOf(c *config.Config, s *runtime.Spec) string {
	if a := c.Accelerator(s); a != nil && a.Cache == "off" {
		return ""
	}
	return ort.EnginesDir()
}

// probe tries an accelerator other than the CPU without risk to this process, and keeps what its device offers.
func (m *Machine) probe(s *runtime.Spec, try func(string, runtime.Spec) (runtime.Offer, error)) error {
	if s.CPU() || s.Provider == runtime.EmulatedProvider || s.Stream > 0 && m.offers[s.OnDevice()] != nil {
		return nil
	}
	offer, err := try(m.ORT.Path, narrow(*s))
	if old := outdated(s, m.Host.CUDA.Driver); err != nil && old != "" {
		return fmt.Errorf("accelerator %q: %s (it said: %w)", s.OnDevice(), old, err)
	}
	if err != nil {
		return fmt.Errorf("accelerator %q: %w (`terastal doctor` says what is missing)", s.OnDevice(), err)
	}
	if m.offers == nil {
		m.offers = map[string]*runtime.Offer{}
	}
	m.offers[s.OnDevice()] = &offer
	return nil
}

// narrow is a device whose streams are not known yet, on the core of the first of them.
func narrow(s runtime.Spec) runtime.Spec {
	if s.HasStreams() && s.Threads <= 1 && len(s.Cores) > 1 {
		s.Cores = s.Cores[:1]
	}
	return s
}

// outdated says that the driver is too old for the accelerator; "" where it is not.
func outdated(s *runtime.Spec, driver string) string {
	major, _, _ := strings.Cut(driver, ".")
	version, err := strconv.Atoi(major)
	if !s.HasStreams() || err != nil || version >= hostinfo.MinCUDADriver {
		return ""
	}
	return fmt.Sprintf("the NVIDIA driver %s is too old for CUDA 13, which the published providers are built for: install "+
		"%d or newer", driver, hostinfo.MinCUDADriver)
}

// optionTable is the option of an emulated accelerator's Spec that names its table.
const optionTable = "table"

// emulation resolves the table of an emulated accelerator, checks it, and completes the accelerator's options.
func emulation(s *runtime.Spec, a *config.Accelerator, c *config.Config, root string) (err error) {
	if s.Local.Table, err = c.Path(a.Table, root); err != nil {
		return err
	}
	_, sum, err := latencies(s)
	// They tell profiles of different tables apart.
	s.Options = map[string]string{optionTable: a.Table, "sha256": sum, "compute": fmt.Sprint(a.Compute)}
	return err
}

// latencies finds in its table what an emulated accelerator's layers take: in the rows for the accelerator of its name,
// or for the only one there is. It also returns the table's SHA-256.
func latencies(s *runtime.Spec) (of func(runtime.Unit) (time.Duration, bool), sha string, err error) {
	data, err := os.ReadFile(s.Local.Table)
	if err != nil {
		return nil, "", fmt.Errorf("accelerator %q: %w", s.Name, err)
	}
	p, err := profiler.ReadTable(bytes.NewReader(data), profiler.TableOptions{})
	name := s.Name
	if err == nil {
		have := mapped(p.Accelerators, func(s runtime.Spec) string { return s.Name })
		if len(have) == 1 {
			name = have[0]
		} else if !slices.Contains(have, name) {
			err = fmt.Errorf("it has no accelerator %q, but %q", name, have)
		}
	}
	if err != nil {
		return nil, "", fmt.Errorf("%w: accelerator %q: %s: %w", config.ErrInvalid, s.Name, s.Local.Table, err)
	}
	times := map[profiler.CellName]time.Duration{}
	for i := range p.Cells {
		if c := &p.Cells[i]; c.Measured() {
			times[p.Name(c)] = c.P50
		}
	}
	return func(u runtime.Unit) (time.Duration, bool) {
		d, ok := times[profiler.CellName{Model: u.Model, Layer: u.Layer, Implementation: u.Implementation, Accelerator: name}]
		return d, ok
	}, fmt.Sprintf("%x", sha256.Sum256(data)), nil
}

// opening opens accelerators.
type opening = func(runtime.Spec) (runtime.Accelerator, error)

// opener opens accelerators for measuring, real or emulated, of which those of one device share it. If open is not nil, it
// opens the real ones.
func opener(open opening) opening {
	if open == nil {
		open = new(runtime.Devices).Open
	}
	return func(s runtime.Spec) (runtime.Accelerator, error) {
		if s.Provider != runtime.EmulatedProvider {
			return open(narrow(s))
		}
		latency, _, err := latencies(&s)
		if err != nil {
			return nil, err
		}
		return s.Emulate(latency, nil)
	}
}

// emulating are the accelerators as a plan holds them that runs: emulated ones with the latencies of these networks.
func (m *Machine) emulating(c *config.Config, networks []*runtime.Network) ([]plan.Accelerator, error) {
	out := mapped(m.Specs, runtime.Spec.Plan)
	for k := range out {
		if a := c.Accelerator(&m.Specs[k]); a != nil && a.Cache == "off" {
			out[k].Cache = "off"
		}
		if m.Specs[k].Local.Table == "" {
			continue
		}
		latency, _, err := latencies(&m.Specs[k])
		if err != nil {
			return nil, err
		}
		out[k].Emulated = runtime.Emulated(networks, latency)
	}
	return out, nil
}

// real is the machine with the accelerators of a plan, as applications find it.
type real struct {
	Machine
	w    *Workspace
	plan *plan.Plan
}

func (r *real) open(path string, o runtime.OpenOptions) (*runtime.Executor, error) {
	if err := r.w.fits(r.w.networks(), r.w.Profile); err != nil {
		return nil, err
	}
	o.Library, o.Root, o.Plugins, o.Engines = r.ORT.Path, r.w.folder, r.w.options.Plugins, ort.EnginesDir()
	o.Load, o.Open = r.loaded, r.w.options.open
	return runtime.Open(path, o)
}

// loaded is the model that a source in the plan stands for, which is loaded already.
func (r *real) loaded(source string, o models.Options) (*models.Model, error) {
	for i, m := range r.plan.Models {
		if m.Source == source && maps.Equal(m.Dims, o.Dims) {
			return r.w.Models[i].Network.Model, nil
		}
	}
	return nil, nil
}

func (m *Machine) machine() *Machine { return m }

// called is an accelerator and its cores for people: a device with all its streams, for the first of them.
func (m *Machine) called(s *runtime.Spec) string {
	name, cores := s.Name, s.Cores
	if streams := m.devices()[s.Of]; len(streams) > 1 {
		if s.Name != streams[0] {
			return ""
		}
		name, cores = fmt.Sprintf("%s with %d streams", s.Of, len(streams)), nil
		for i := range m.Specs {
			if m.Specs[i].Of == s.Of {
				cores = append(cores, m.Specs[i].Cores...)
			}
		}
	}
	if len(cores) == 0 {
		return name
	}
	return name + " on core " + strings.Trim(fmt.Sprint(cores), "[]")
}

// describe says in a sentence what was found and what it means.
func (m *Machine) describe() string {
	var list, emulated []string
	onlyCPU, alike := true, true
	for i := range m.Specs {
		s := &m.Specs[i]
		if d := m.called(s); d != "" {
			list = append(list, d)
		}
		if s.Provider == runtime.EmulatedProvider {
			emulated = append(emulated, fmt.Sprintf("%s from %s", s.Name, s.Options[optionTable]))
		}
		onlyCPU = onlyCPU && (s.Provider == "" || s.Provider == "cpu")
		alike = alike && s.Optimization == m.Specs[0].Optimization && max(1, s.Threads) == max(1, m.Specs[0].Threads)
	}
	text := fmt.Sprintf("%s, %d cores; accelerators: %s (ONNX Runtime %s)",
		m.Host.CPU, m.Host.LogicalCores, strings.Join(list, ", "), m.ORT.Version)
	switch {
	case !onlyCPU:
	case alike && len(m.Specs) > 1:
		text += ". No GPU was used: the accelerators are CPU cores that are alike, so that it matters when layers run, " +
			"and as which variants, but not where"
	case !alike:
		text += ". No GPU was used: the accelerators are CPU cores that differ in threads or graph optimisation, " +
			"so that layers prefer one or the other by up to a few times, not by the factors a GPU would show"
	}
	if len(emulated) > 0 {
		text += ". Emulated, with latencies that are no measurements: " + strings.Join(emulated, ", ")
	}
	if w := m.watchers(); w != "" {
		text += ". " + w
	} else if !runtime.FreeCore(m.Specs) {
		text += ". No core is left for releases and decisions: " +
			"they take time from the accelerators, which the release lag shows"
	}
	return text + "."
}

// header says in event logs what runs compute on.
func (m *Machine) header() eventlog.Machine {
	return eventlog.Machine{OS: m.Host.OS, Arch: m.Host.Arch, CPU: m.Host.CPU, Governor: m.Host.Governor,
		ORT: m.ORT.Version}
}

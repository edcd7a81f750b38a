package session

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/terastal/terastal/cmd/terastal/internal/config"
	"github.com/terastal/terastal/internal/hostinfo"
	"github.com/terastal/terastal/internal/ort"
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
}

// openMachine starts ONNX Runtime and tries the accelerators.
func openMachine(c *config.Config, o *Options) (m Machine, err error) {
	m.Host = hostinfo.Read(hostinfo.This())
	if m.ORT, err = ort.Start(o.ORT); err != nil {
		return m, err
	}
	m.Specs = c.Specs()
	if len(m.Specs) == 0 {
		m.Specs = o.Auto(m.ORT.Path, m.Host)
	}
	for k := range m.Specs {
		s := &m.Specs[k]
		if s.Provider == runtime.EmulatedProvider {
			err = emulation(s, &c.Accelerators[k], c, o.Root)
		} else if err = m.localize(s, k >= len(c.Accelerators) || c.Accelerators[k].Cache != "off", o.Plugins); err == nil {
			err = probe(m.ORT.Path, *s, o.Probe)
		}
		if err != nil {
			return m, err
		}
	}
	return m, nil
}

// probe tries an accelerator other than the CPU without risk to this process.
func probe(library string, s runtime.Spec, try func(string, runtime.Spec) error) error {
	if err := s.Validate(); err != nil {
		return err
	}
	if s.CPU() {
		return nil
	}
	if err := try(library, s); err != nil {
		return fmt.Errorf("accelerator %q: %w (`terastal doctor` says what is missing)", s.Name, err)
	}
	return nil
}

// localize finds what an accelerator needs on this machine: the library of a
// provider that is a plugin, and where its engines are kept. A configuration
// names neither: a library is code, and an engine is as good as code.
func (m *Machine) localize(s *runtime.Spec, keepEngines bool, plugins map[string]string) error {
	if s.CPU() {
		return nil
	}
	s.Provider = ort.ProviderName(s.Provider)
	var err error
	if s.Local.Library, err = s.Plugin(plugins); err != nil {
		// What is wrong with the configuration comes before what is missing.
		without := *s
		without.Device = ""
		if err := without.Validate(); err != nil {
			return err
		}
		return err
	}
	if s.Local.Library != "" {
		if s.LibrarySHA256, err = ort.LibrarySHA256(s.Local.Library); err != nil {
			return fmt.Errorf("accelerator %q: %w", s.Name, err)
		}
	}
	if keepEngines {
		s.Local.Engines, s.Local.Machine = ort.EnginesDir(), m.Host.Fingerprint()
	}
	return nil
}

// Options of an emulated accelerator's Spec. They tell profiles of different
// tables apart.
const (
	optionTable   = "table"
	optionSHA256  = "sha256"
	optionCompute = "compute"
)

// emulation resolves the table of an emulated accelerator, checks it, and
// completes the accelerator's options.
func emulation(s *runtime.Spec, a *config.Accelerator, c *config.Config, root string) (err error) {
	if s.Local.Table, err = c.Path(a.Table, root); err != nil {
		return err
	}
	_, sum, err := latencies(s)
	s.Options = map[string]string{optionTable: a.Table, optionSHA256: sum, optionCompute: fmt.Sprint(a.Compute)}
	return err
}

// latencies finds in its table what an emulated accelerator's layers take: in the
// rows for the accelerator of its name, or for the only one there is. It also
// returns the table's SHA-256.
func latencies(s *runtime.Spec) (of func(runtime.Unit) (time.Duration, bool), sha string, err error) {
	data, err := os.ReadFile(s.Local.Table)
	if err != nil {
		return nil, "", fmt.Errorf("accelerator %q: %w", s.Name, err)
	}
	p, err := profiler.ReadTable(bytes.NewReader(data), profiler.TableOptions{})
	name := s.Name
	if err == nil {
		var have []string
		for _, a := range p.Accelerators {
			have = append(have, a.Name)
		}
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

// openAccelerator opens one accelerator for measuring, real or emulated.
func openAccelerator(s runtime.Spec) (runtime.Accelerator, error) {
	if s.Provider != runtime.EmulatedProvider {
		return runtime.OpenORT(s)
	}
	latency, _, err := latencies(&s)
	if err != nil {
		return nil, err
	}
	e := runtime.Emulation{Name: s.Name, Latency: latency, Cores: s.Cores}
	if computes(&s) {
		inner := runtime.Spec{Name: s.Name, Optimization: s.Optimization, Threads: s.Threads, Cores: s.Cores}
		if e.Inner, err = runtime.OpenORT(inner); err != nil {
			return nil, err
		}
	}
	return runtime.OpenEmulated(e)
}

// computes reports whether an accelerator computes its layers.
func computes(s *runtime.Spec) bool {
	return s.Provider != runtime.EmulatedProvider || s.Options[optionCompute] == "true"
}

// planned are the accelerators as a plan holds them.
func (m *Machine) planned() []plan.Accelerator {
	var out []plan.Accelerator
	for _, s := range m.Specs {
		out = append(out, s.Plan())
	}
	return out
}

// emulating are the accelerators as a plan holds them that runs: emulated ones
// with the latencies of these networks.
func (m *Machine) emulating(c *config.Config, networks []*runtime.Network) ([]plan.Accelerator, error) {
	out := m.planned()
	for k := range out {
		if k < len(c.Accelerators) && c.Accelerators[k].Cache == "off" {
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
	folder  string // that models may be read from
	plugins map[string]string
}

func (r *real) open(path string, o runtime.OpenOptions) (*runtime.Executor, func(), error) {
	o.Library, o.Root, o.Plugins, o.Engines = r.ORT.Path, r.folder, r.plugins, ort.EnginesDir()
	e, err := runtime.Open(path, o)
	return e, func() { e.Close(context.Background()) }, err
}

func (m *Machine) machine() *Machine { return m }

// describe says in a sentence what was found and what it means.
func (m *Machine) describe() string {
	var list, emulated []string
	onlyCPU := true
	for _, s := range m.Specs {
		d := s.Name
		if len(s.Cores) > 0 {
			d += fmt.Sprintf(" on core %s", strings.Trim(fmt.Sprint(s.Cores), "[]"))
		}
		list = append(list, d)
		if s.Provider == runtime.EmulatedProvider {
			emulated = append(emulated, fmt.Sprintf("%s from %s", s.Name, s.Options[optionTable]))
		}
		onlyCPU = onlyCPU && (s.Provider == "" || s.Provider == "cpu")
	}
	text := fmt.Sprintf("%s, %d cores; accelerators: %s (ONNX Runtime %s)",
		m.Host.CPU, m.Host.LogicalCores, strings.Join(list, ", "), m.ORT.Version)
	if onlyCPU {
		text += ". No GPU was used: the accelerators are CPU cores that differ in graph optimisation, " +
			"so that layers prefer one or the other by up to a few times, not by the factors a GPU would show"
	}
	if len(emulated) > 0 {
		text += ". Emulated, with latencies that are no measurements: " + strings.Join(emulated, ", ")
	}
	if !runtime.FreeCore(m.Specs) {
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

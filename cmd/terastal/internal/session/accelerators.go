package session

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/terastal/terastal/cmd/terastal/internal/config"
	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/runtime"
)

// openAccelerator opens one accelerator, real or emulated; table is the file of
// the latter's latencies.
func openAccelerator(s *runtime.Spec, table string, trace *runtime.ORTTrace) (runtime.Accelerator, error) {
	if s.Provider != runtime.EmulatedProvider {
		return runtime.OpenTraced(*s, trace)
	}
	data, err := os.ReadFile(table)
	if err != nil {
		return nil, fmt.Errorf("accelerator %q: %w", s.Name, err)
	}
	latency, err := latencies(data, s)
	if err != nil {
		return nil, fmt.Errorf("%w: accelerator %q: %s: %w", config.ErrInvalid, s.Name, table, err)
	}
	e := runtime.Emulation{Name: s.Name, Latency: latency, Cores: s.Cores}
	if s.Options[optionCompute] == "true" {
		inner := runtime.Spec{Name: s.Name, Optimization: s.Optimization, Threads: s.Threads, Cores: s.Cores}
		if e.Inner, err = runtime.OpenTraced(inner, trace); err != nil {
			return nil, err
		}
	}
	return runtime.OpenEmulated(e)
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
func (f *Flow) emulation(s *runtime.Spec, c *config.Accelerator) (string, error) {
	path, err := f.Config.Path(c.Table, f.opts.Root)
	if err != nil {
		return "", err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("accelerator %q: %w", s.Name, err)
	}
	if _, err := latencies(data, s); err != nil {
		return "", fmt.Errorf("%w: accelerator %q: %s: %w", config.ErrInvalid, s.Name, path, err)
	}
	s.Options = map[string]string{optionTable: c.Table, optionSHA256: fmt.Sprintf("%x", sha256.Sum256(data)), optionCompute: fmt.Sprint(c.Compute)}
	return path, nil
}

// latencies finds what an emulated accelerator's layers take: in the rows of a
// latency table for the accelerator of its name, or for the only one there is.
func latencies(table []byte, s *runtime.Spec) (func(runtime.Unit) (time.Duration, bool), error) {
	p, err := profiler.ReadTable(bytes.NewReader(table), profiler.TableOptions{})
	if err != nil {
		return nil, err
	}
	name := s.Name
	if len(p.Accelerators) == 1 {
		name = p.Accelerators[0].Name
	}
	known := false
	times := map[profiler.CellName]time.Duration{}
	for i := range p.Cells {
		c := &p.Cells[i]
		n := p.Name(c)
		known = known || n.Accelerator == name
		if c.Measured() {
			times[n] = c.P50
		}
	}
	if !known {
		var names []string
		for _, a := range p.Accelerators {
			names = append(names, fmt.Sprintf("%q", a.Name))
		}
		return nil, fmt.Errorf("it has no accelerator %q, but %s", s.Name, strings.Join(names, ", "))
	}
	return func(u runtime.Unit) (time.Duration, bool) {
		d, ok := times[profiler.CellName{Model: u.Model, Layer: u.Layer, Implementation: u.Implementation, Accelerator: name}]
		return d, ok
	}, nil
}

// emulatedLatencies is what a plan holds of an emulated accelerator.
func (f *Flow) emulatedLatencies(k int) (map[string]map[string]map[string]time.Duration, error) {
	data, err := os.ReadFile(f.emulations[k])
	if err != nil {
		return nil, fmt.Errorf("accelerator %q: %w", f.Specs[k].Name, err)
	}
	latency, err := latencies(data, &f.Specs[k])
	if err != nil {
		return nil, err
	}
	return runtime.Emulated(f.Networks, latency), nil
}

// emulated lists the accelerators whose latencies come from tables.
func (f *Flow) emulated() []string {
	var out []string
	for _, s := range f.Specs {
		if s.Provider == runtime.EmulatedProvider {
			out = append(out, fmt.Sprintf("%s from %s", s.Name, s.Options[optionTable]))
		}
	}
	return out
}

// aboutEmulated is a sentence about them, if there are any.
func (f *Flow) aboutEmulated() string {
	if e := f.emulated(); len(e) > 0 {
		return ". Emulated, with latencies that are no measurements: " + strings.Join(e, ", ")
	}
	return ""
}

// localize finds what an accelerator needs on this machine: the library of a
// provider that is a plugin, and where its engines are kept. A configuration
// names neither: a library is code, and an engine is as good as code.
func (f *Flow) localize(s *runtime.Spec, k int) error {
	if s.CPU() {
		return nil
	}
	s.Provider = ort.ProviderName(s.Provider)
	var err error
	if s.Local.Library, err = s.Plugin(f.opts.Plugins); err != nil {
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
	if k >= len(f.Config.Accelerators) || f.Config.Accelerators[k].Cache != "off" {
		s.Local.Engines, s.Local.Machine = f.opts.Engines, f.Host.Fingerprint()
	}
	return nil
}

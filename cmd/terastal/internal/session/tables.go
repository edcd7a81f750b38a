package session

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/terastal/terastal/cmd/terastal/internal/config"
	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/eventlog"
	"github.com/terastal/terastal/sched/plan"
)

// OpenProfile plans a configuration from a profile alone, for simulating: accelerators and layers are the profile's,
// and ONNX Runtime, the accelerators and the model files are not touched. The configuration's models are found in the
// profile by name; of its accelerators, if it lists any, those names are used and must be in the profile.
func OpenProfile(c *config.Config, p *profiler.Profile, o Options) (*Session, error) {
	if err := needModels(c); err != nil {
		return nil, err
	}
	accelerators, err := within(c, p)
	if err != nil {
		return nil, err
	}
	part, err := p.Select(modelNames(c), accelerators)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", config.ErrInvalid, err)
	}
	for i := range c.Models {
		c.Models[i].Granularity = part.Models[i].Granularity
	}
	m := Machine{Host: part.Host, ORT: ort.Library{Version: part.ORT}, Specs: part.Accelerators}
	planned, err := newPlan(c, part, make([]plan.Model, len(c.Models)), mapped(m.Specs, runtime.Spec.Plan), func(*sched.System) {})
	if err != nil {
		return nil, err
	}
	return &Session{Config: c, Profile: part, Plan: planned, ground: &tables{m}, options: o}, nil
}

// within are the names of the configuration's accelerators in a profile; none for all. A device whose streams are
// automatic has as many as the profile.
func within(c *config.Config, p *profiler.Profile) ([]string, error) {
	for i := range c.Accelerators {
		a := &c.Accelerators[i]
		n := 0
		for _, s := range p.Accelerators {
			if s.OnDevice() == a.Name {
				n++
			}
		}
		if a.Streams == config.AutoStreams && n > 0 {
			if err := a.SetStreams(n); err != nil {
				return nil, err
			}
		}
		if want := cmp.Or(a.Streams, "1"); n > 0 && want != strconv.Itoa(n) {
			return nil, fmt.Errorf("%w: streams of %q is %s, but the profile has %d", config.ErrInvalid, a.Name, want, n)
		}
	}
	return mapped(c.Specs(), func(s runtime.Spec) string { return s.Name }), nil
}

// tables stand in for a machine: latencies that were measured elsewhere, or come from a table. Nothing can run on them.
type tables struct{ Machine }

func (t *tables) header() eventlog.Machine { return eventlog.Machine{} }

func (t *tables) open(string, runtime.OpenOptions) (*runtime.Executor, error) {
	return nil, errors.New("nothing can run on a profile alone")
}

// describe says what stands in for hardware.
func (t *tables) describe() string {
	names := map[string][]string{} // of accelerators, by where their latencies come from
	var order []string
	for _, s := range t.Specs {
		from := "measured on " + t.Host.CPU
		if s.Provider == profiler.TableProvider {
			from = "from " + s.Options["source"]
		}
		if names[from] == nil {
			order = append(order, from)
		}
		names[from] = append(names[from], s.Name)
	}
	var parts []string
	for _, from := range order {
		parts = append(parts, strings.Join(names[from], ", ")+" "+from)
	}
	return "No hardware: latencies are those of " + strings.Join(parts, "; ") + "."
}

// Prepare plans a configuration with whatever it takes: its profile is used if it fits, else measured. For simulating,
// a profile of tables or of another machine will do, and neither ONNX Runtime nor the accelerators are touched.
func Prepare(ctx context.Context, c *config.Config, simulated bool, o Options) (*Session, error) {
	if s, err := fromTables(c, simulated, o); s != nil || err != nil {
		return s, err
	}
	w, err := Open(ctx, c, o)
	if err != nil {
		return nil, err
	}
	if err := w.EnsureProfile(ctx); err != nil {
		return nil, err
	}
	return w.Plan()
}

// fromTables plans from a profile that only the simulator can use: of tables, or, where the options name it, of another
// machine. It returns nil where the profile is another one, or not there.
func fromTables(c *config.Config, simulated bool, o Options) (*Session, error) {
	path := cmp.Or(o.Profile, ownProfile(c))
	p, err := profiler.Read(path)
	if err != nil {
		return nil, nil // what follows says so, or measures one
	}
	measurable, why := p.Measurable()
	if measurable && simulated && o.Profile != "" {
		why = elsewhere(p, profiler.ThisHost())
		measurable = why == ""
	}
	switch {
	case measurable:
		return nil, nil
	case !simulated:
		return nil, Usagef("%s: %s, so that nothing can run on it: `terastal simulate` can use this profile, "+
			"others need one that `terastal profile` measured (--profile FILE or another --out)", path, why)
	}
	s, err := OpenProfile(c, p, o)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	o.Note("using the profile %s: %s; ONNX Runtime is not needed", path, why)
	return s, nil
}

// elsewhere says why a profile was not measured on this machine as it is; "" where it was.
func elsewhere(p *profiler.Profile, here profiler.Host) string {
	there := &p.Host
	gpu := slices.ContainsFunc(p.Accelerators, func(s runtime.Spec) bool { return s.Computes() && !s.CPU() })
	switch {
	case there.CPU != here.CPU || there.LogicalCores != here.LogicalCores:
		return fmt.Sprintf("it was measured on another machine, %s with %d cores", there.CPU, there.LogicalCores)
	case p.ORT != ort.Version:
		return "it was measured with ONNX Runtime " + p.ORT
	case gpu && (there.CUDA.Driver != here.CUDA.Driver || there.Kernel != here.Kernel):
		return "it was measured with another driver or kernel"
	case gpu && len(there.GPUs) > len(here.GPUs):
		return "it was measured with a GPU that this machine does not have"
	}
	return ""
}

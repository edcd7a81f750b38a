package session

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/terastal/terastal/cmd/terastal/internal/config"
	"github.com/terastal/terastal/internal/document"
	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/eventlog"
	"github.com/terastal/terastal/sched/plan"
)

// openProfile plans a configuration from a profile, or a plan, alone, for the simulator or for emulated accelerators:
// accelerators and layers are the profile's, and the accelerators and the model files are not touched. The
// configuration's models are found in the profile by name; of its accelerators, if it lists any, those names are used and
// must be in the profile.
func openProfile(c *config.Config, g *Given, simulated bool, o Options) (*Session, error) {
	if err := needModels(c); err != nil {
		return nil, err
	}
	accelerators, err := within(c, g.Profile)
	if err != nil {
		return nil, err
	}
	part, err := g.Profile.Select(modelNames(c), accelerators)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", config.ErrInvalid, err)
	}
	for i := range c.Models {
		c.Models[i].Granularity = part.Models[i].Granularity
	}
	specs, allow := part.Accelerators, g.allow
	if !simulated {
		specs = emulatedSpecs(part, g.Path)
		allow = func(s *sched.System) { g.allow(s); withoutLeads(s) }
	}
	if text := g.variants(); text != "" {
		o.Note("%s: %s", g.Path, text)
	}
	planned, err := newPlan(c, part, make([]plan.Model, len(c.Models)), mapped(specs, runtime.Spec.Plan), allow)
	if err != nil {
		return nil, err
	}
	return grounded(&Session{Config: c, Profile: part, Plan: planned, options: o}, simulated, g.Path)
}

// grounded gives a session that has only a profile what to play on: the simulator, for which the machine is what the
// profile knows of it, or emulated accelerators, which take as long as the source of the profile says.
func grounded(s *Session, simulated bool, source string) (*Session, error) {
	if simulated {
		p := s.Profile
		s.ground = &tables{Machine{Host: p.Host, ORT: ort.Library{Version: p.ORT}, Specs: p.Accelerators}}
		return s, nil
	}
	var err error
	s.ground, err = emulate(s, source)
	return s, err
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
// a profile of tables or of another machine will do, or a plan, which needs no configuration; neither ONNX Runtime nor
// the accelerators are touched. So they will where accelerators are to be emulated.
func Prepare(ctx context.Context, c *config.Config, simulated bool, o Options) (*Session, error) {
	if s, err := fromGiven(c, simulated, o); s != nil || err != nil {
		return s, err
	}
	w, err := Open(ctx, c, o)
	if simulated && o.Profile != "" && (errors.Is(err, config.ErrNoFile) || errors.Is(err, ort.ErrNotFound)) {
		return withoutModels(c, err, o)
	}
	if err != nil && missing(o.Profile) {
		return nil, fmt.Errorf("%w (the profile %s is not there, so that it was to be measured here)", err, o.Profile)
	}
	if err != nil {
		return nil, err
	}
	if err := w.EnsureProfile(ctx); err != nil {
		return nil, err
	}
	return w.Plan()
}

// missing reports whether a file was named that is not there.
func missing(path string) bool {
	_, err := os.Stat(path)
	return path != "" && errors.Is(err, fs.ErrNotExist)
}

// mistyped reports whether a profile that is named and missing is not one to be measured: no measurement writes a gzipped
// one, and none is made for a simulation in a folder that is missing, too.
func mistyped(path string, simulated bool) bool {
	return strings.HasSuffix(path, document.Gzipped) || simulated && path != "" && missing(filepath.Dir(path))
}

// fromGiven plans from what can only be simulated or emulated: from tables, or, where the options name it, from a
// profile of another machine or a plan. It returns nil where the profile is another one, or not there.
func fromGiven(c *config.Config, simulated bool, o Options) (*Session, error) {
	alone := len(c.Models) == 0 // then the document has to say everything
	if alone && o.Profile == "" {
		return nil, needModels(c)
	}
	path := cmp.Or(o.Profile, ownProfile(c))
	g, err := ReadGiven(path)
	if err != nil && (alone || o.Emulated || errors.Is(err, document.ErrKind)) {
		return nil, err
	}
	if errors.Is(err, fs.ErrNotExist) && mistyped(o.Profile, simulated) {
		return nil, fmt.Errorf("%w: correct --profile; one to be measured is a .json file in a folder that is there", err)
	}
	if err != nil {
		return nil, nil // what follows says so, or measures one
	}
	measurable, why := g.usable(simulated, o)
	switch {
	case alone && g.Plan == nil:
		return nil, Usagef("%s is a profile, which has no rates and deadlines: give them with --config FILE, give the plan that "+
			"was made from it, or have them chosen: --scenario %s%s", path, fileScenario, path)
	case measurable && !o.Emulated:
		return nil, nil
	case !simulated && !o.Emulated:
		return nil, Usagef("%s: %s, so that nothing can run on it: simulate it (`terastal simulate`), play it on accelerators "+
			"that only take the time (--emulated), or use a profile that `terastal profile` measured here (--profile FILE or "+
			"another --out)", path, why)
	}
	open := openProfile
	if alone {
		open = openPlanned
	}
	s, err := open(c, g, simulated, o)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	switch {
	case simulated && g.Plan != nil:
		o.Note("using the plan %s; ONNX Runtime is not needed", path)
	case simulated:
		o.Note("using the profile %s: %s; ONNX Runtime is not needed", path, why)
	}
	return s, nil
}

// withoutModels plans for the simulator from a profile of this machine where its models, or ONNX Runtime, are not there.
func withoutModels(c *config.Config, why error, o Options) (*Session, error) {
	g, err := ReadGiven(o.Profile)
	if err != nil {
		return nil, why
	}
	s, err := openProfile(c, g, true, o)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.Profile, err)
	}
	o.Note("simulating the profile %s alone: %v; without the models nobody can say whether they are the profile's, and layer "+
		"variants cannot be proven", o.Profile, why)
	return s, nil
}

// usable reports whether accelerators and models of this machine can be what the document is of; if not, why.
func (g *Given) usable(simulated bool, o Options) (bool, string) {
	if g.Plan != nil {
		return false, "it is a plan"
	}
	measurable, why := g.Profile.Measurable()
	if !measurable || o.Profile == "" {
		return measurable, why
	}
	here := profiler.ThisHost()
	if why = elsewhere(g.Profile, here); !simulated && g.Profile.Host.CPU == here.CPU &&
		g.Profile.Host.LogicalCores == here.LogicalCores {
		return true, "" // what else has changed is measured again
	}
	return why == "", why
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

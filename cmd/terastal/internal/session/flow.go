// Package session is the path that the verbs of the command line share: from a
// configuration to accelerators, layers, a profile, a plan, runs and their
// results. The public packages do the work; this one connects them.
package session

import (
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/terastal/terastal/cmd/terastal/internal/config"
	"github.com/terastal/terastal/internal/hostinfo"
	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/fluid"
	"github.com/terastal/terastal/sched/plan"
	"github.com/terastal/terastal/sched/traffic"
	"github.com/terastal/terastal/variants/design"
)

// Options say where a flow gets what the configuration does not name.
type Options struct {
	ORT string // explicit path of the ONNX Runtime library
	// Root is the folder that files may be read from; empty means the
	// configuration's.
	Root string
	// Resolve says where a model's source is to be opened from this process or
	// another; Open loads it from there.
	Resolve func(source string) (string, error)
	Open    func(resolved string, o models.Options) (*models.Model, error)
	// Auto proposes accelerators for the machine.
	Auto func(library string, host hostinfo.Info) ([]runtime.Spec, error)
	// Plugins are the libraries of providers by name, as the user gave them.
	Plugins map[string]string
	// Engines is the folder for compiled engines; "" keeps none.
	Engines string
	// Probe opens an accelerator in a process of its own, so that a provider
	// that crashes or writes to the terminal harms nothing here.
	Probe func(library string, s runtime.Spec) error
	// Worker makes the command that calls [Work] with its standard input and
	// [profiler.Output].
	Worker func() (*exec.Cmd, error)
	// Profile is where the profile is or will be, if not in the configuration's
	// output folder.
	Profile string
	// Progress shows long work; Note prints a line for people.
	Progress func(what string) Meter
	Note     func(format string, args ...any)
}

// Meter shows how far one piece of long work is.
type Meter interface {
	Set(share float64) // 0 to 1, from any goroutine
	Done()
}

// Flow holds what a configuration opens.
type Flow struct {
	Config   *config.Config
	Host     hostinfo.Info
	ORT      ort.Library
	Specs    []runtime.Spec
	Networks []*runtime.Network
	Profile  *profiler.Profile
	Tables   *sched.Tables
	Rates    []float64
	Planned  *plan.Plan
	// Load is the demand as a share of the fluid capacity.
	Load float64

	opts    Options
	watch   func(policy string, s runtime.Stats, total time.Duration)
	sources []source
	// designer has the variants in use; stages shows how far it is.
	designer design.Designer
	stages   stages
	drill    *runtime.Drill
	// traceORT asks for ortTrace, which is there once accelerators are open.
	traceORT bool
	ortTrace *runtime.ORTTrace
	traced   []tracedRun // by it, so far
	// emulations are the resolved tables of emulated accelerators, by index.
	emulations []string
	accs       []runtime.Accelerator
	programs   []*runtime.Program
	tables     bool // nothing is open: the profile is all there is
}

// Open starts ONNX Runtime, opens the accelerators, and loads and splits the
// models.
func Open(c *config.Config, o Options) (*Flow, error) {
	f := &Flow{Config: c, opts: o, Host: hostinfo.Read(hostinfo.This())}
	if err := f.open(); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (f *Flow) open() (err error) {
	c := f.Config
	if len(c.Models) == 0 {
		return fmt.Errorf("%w: no models: list at least one under `models:` in the --config file", config.ErrInvalid)
	}
	if f.ORT, err = ort.Start(f.opts.ORT); err != nil {
		return err
	}
	f.Specs = c.Specs()
	if len(f.Specs) == 0 {
		if f.Specs, err = f.opts.Auto(f.ORT.Path, f.Host); err != nil {
			return err
		}
	}
	faults, err := c.Drill()
	if err != nil {
		return err
	}
	f.drill = runtime.NewDrill(faults, c.Traffic.Seed)
	f.emulations = make([]string, len(f.Specs))
	for k := range f.Specs {
		s := &f.Specs[k]
		if s.Provider == runtime.EmulatedProvider {
			f.emulations[k], err = f.emulation(s, &c.Accelerators[k])
		} else {
			if err = f.localize(s, k); err == nil {
				err = f.probe(*s)
			}
		}
		if err != nil {
			return err
		}
	}
	for i := range c.Models {
		n, err := f.load(&c.Models[i])
		if err != nil {
			return err
		}
		f.Networks = append(f.Networks, n)
	}
	f.design()
	return f.attach()
}

// probe tries an accelerator other than the CPU without risk to this process.
func (f *Flow) probe(s runtime.Spec) error {
	if err := s.Validate(); err != nil {
		return err
	}
	if s.CPU() {
		return nil
	}
	if err := f.opts.Probe(f.ORT.Path, s); err != nil {
		return fmt.Errorf("accelerator %q: %w (`terastal doctor` says what is missing)", s.Name, err)
	}
	return nil
}

// source is where a model is opened from.
type source struct {
	Name        string   `json:"name"`
	Resolved    string   `json:"source"`
	Granularity string   `json:"granularity"`
	Dims        []string `json:"dims,omitempty"`
	// Variants are implementations beside the originals.
	Variants []plan.Variant `json:"variants,omitempty"`
}

func (f *Flow) load(mc *config.Model) (*runtime.Network, error) {
	if mc.Source == "" {
		return nil, fmt.Errorf("%w: model %q has no source: name an ONNX file or zoo:NAME (only a simulation of latency tables does without)", config.ErrInvalid, mc.Name)
	}
	resolved, err := f.opts.Resolve(mc.Source)
	if err != nil {
		return nil, fmt.Errorf("model %q: %w", mc.Name, err)
	}
	s := source{Name: mc.Name, Resolved: resolved, Granularity: mc.Granularity, Dims: mc.Dims}
	n, err := s.network(f.opts.Open, func(sha256 string) string {
		return profiler.PreviousCut(f.profilePath(), journal(f.profilePath()), sha256, mc.Granularity)
	})
	if err != nil {
		return nil, err
	}
	// Workers must make the same layers.
	s.Granularity = models.Cut(n.Layers).String()
	f.sources = append(f.sources, s)
	return n, nil
}

// network opens and splits the model. A granularity that measures is replaced
// by the cut that came of it before, if previous knows it.
func (s *source) network(open func(string, models.Options) (*models.Model, error), previous func(sha256 string) string) (*runtime.Network, error) {
	g, err := models.ParseGranularity(s.Granularity)
	if err != nil {
		return nil, fmt.Errorf("%w: model %q: %w", config.ErrInvalid, s.Name, err)
	}
	dims, err := (&config.Model{Dims: s.Dims}).Dimensions()
	if err != nil {
		return nil, err
	}
	m, err := open(s.Resolved, models.Options{Dims: dims})
	if err != nil {
		return nil, fmt.Errorf("model %q: %w", s.Name, err)
	}
	if g.Measures() {
		if cut, err := models.ParseGranularity(previous(m.SHA256())); err == nil {
			g = cut
		}
	}
	layers, err := m.Split(g)
	if err != nil {
		return nil, fmt.Errorf("model %q: %w", s.Name, err)
	}
	n := &runtime.Network{Name: s.Name, Model: m, Layers: layers, Granularity: s.Granularity}
	if err := n.Attach(s.Variants, os.ReadFile); err != nil {
		return nil, fmt.Errorf("model %q: %w", s.Name, err)
	}
	return n, nil
}

// Watch has runs report how they stand, ten times a second, with how long
// requests are released; a progress bar is then not shown. It is called on a
// goroutine of the run and must not keep the statistics' slices.
func (f *Flow) Watch(watch func(policy string, s runtime.Stats, total time.Duration)) {
	f.watch = watch
}

// Close frees everything the flow opened.
func (f *Flow) Close() {
	for _, p := range f.programs {
		p.Close()
	}
	for _, a := range f.accs {
		a.Close()
	}
	if f.ortTrace != nil {
		f.ortTrace.Close()
	}
	f.programs, f.accs, f.ortTrace = nil, nil, nil
}

// prepare opens the accelerators and loads the layers on them, once. What the
// profile says an accelerator cannot run is left out.
func (f *Flow) prepare() error {
	if f.programs != nil {
		return nil
	}
	if f.traceORT && f.ortTrace == nil {
		var err error
		if f.ortTrace, err = runtime.NewORTTrace(); err != nil {
			return err
		}
	}
	for k := len(f.accs); k < len(f.Specs); k++ {
		a, err := openAccelerator(&f.Specs[k], f.emulations[k], f.ortTrace)
		if err != nil {
			return err
		}
		f.accs = append(f.accs, f.drill.Wrap(a))
	}
	runtime.RoomFor(len(f.accs))
	total, done := 0, 0
	for _, n := range f.Networks {
		total += len(n.Layers) * len(f.accs)
		for _, us := range n.Variants {
			total += len(us) * len(f.accs)
		}
	}
	meter := f.opts.Progress("loading layers")
	defer meter.Done()
	for m, n := range f.Networks {
		one := *n
		if f.Profile != nil {
			one.Skip = f.Profile.Refusals(m)
		}
		p, err := runtime.Prepare(&one, f.accs, func() {
			done++
			meter.Set(float64(done) / float64(total))
		})
		if err != nil {
			return err
		}
		f.programs = append(f.programs, p)
	}
	return nil
}

// Plan sets the rates, compiles the system and computes the budgets.
func (f *Flow) Plan() error {
	for _, m := range f.designer.Stale() {
		return fmt.Errorf("%s: prove them again with `terastal variants accuracy --config FILE`, or set `variants: off`",
			f.designer.WhyStale(m))
	}
	q, err := profiler.ParseQuantile(f.Config.Cost)
	if err != nil {
		return err
	}
	deadlines := make([]time.Duration, len(f.Config.Models))
	f.Rates = f.Rates[:0]
	for i, m := range f.Config.Models {
		f.Rates = append(f.Rates, m.Rate)
		deadlines[i] = time.Second // replaced below
	}
	s, err := f.Profile.System(deadlines, q)
	if err != nil {
		return err
	}
	for i, m := range f.Config.Models {
		if m.After != "" {
			s.Models[i].Trigger = &sched.Trigger{Parent: m.After, Probability: m.Probability}
		}
	}
	f.designer.Allow(&s)
	if err := f.demand(s); err != nil {
		return err
	}
	for i, m := range f.Config.Models {
		s.Models[i].Deadline = m.Deadline
		if m.Deadline == 0 {
			s.Models[i].Deadline = time.Duration(math.Round(float64(time.Second) / f.Rates[i]))
		}
	}
	f.scale(f.Config.Traffic.Scale)
	models, accelerators, err := f.planned()
	if err != nil {
		return err
	}
	if f.Planned, f.Tables, err = plan.New(s, models, accelerators); err != nil {
		return err
	}
	f.Planned.Variants = f.designer.Documents(f.Profile)
	return nil
}

// planned lists what a plan says of models and accelerators. Without files and
// hardware it names them only.
func (f *Flow) planned() (models []plan.Model, accelerators []plan.Accelerator, err error) {
	for m, rate := range f.Rates {
		x := plan.Model{Name: f.Config.Models[m].Name, Rate: rate}
		if !f.tables {
			c, s := &f.Config.Models[m], &f.sources[m]
			x.Source, x.SHA256, x.Granularity, x.Cut = c.Source, f.Networks[m].Model.SHA256(), c.Granularity, s.Granularity
			if x.Dims, err = c.Dimensions(); err != nil {
				return nil, nil, err
			}
		}
		models = append(models, x)
	}
	for k, s := range f.Specs {
		a := s.Plan()
		if s.Provider == runtime.EmulatedProvider && !f.tables {
			if a.Emulated, err = f.emulatedLatencies(k); err != nil {
				return nil, nil, err
			}
		}
		accelerators = append(accelerators, a)
	}
	return models, accelerators, nil
}

// demand computes the load, and scales the rates if the configuration asks for
// another.
func (f *Flow) demand(s sched.System) error {
	t, err := sched.Compile(s)
	if err != nil {
		return err
	}
	capacity, err := fluid.CapacityOf(t, f.Rates)
	if err != nil {
		return err
	}
	f.Load = 1 / capacity.Scale
	if load := f.Config.Traffic.Load; load > 0 {
		f.scale(load * capacity.Scale)
	}
	return nil
}

// scale multiplies all rates, and with them the load.
func (f *Flow) scale(by float64) {
	for i := range f.Rates {
		f.Rates[i] *= by
	}
	f.Load *= by
}

// PlanPath is where a run's plan lies.
func (f *Flow) PlanPath() string { return filepath.Join(f.Config.Out, "plan.json") }

// Traffic is the configuration's traffic at the planned rates.
func (f *Flow) Traffic() (traffic.Config, error) {
	c := &f.Config.Traffic
	t := traffic.Config{Rates: f.Rates, Jitter: c.Jitter, BurstOn: c.BurstOn, BurstOff: c.BurstOff, Duration: c.Duration, Seed: c.Seed}
	var err error
	if t.Process, err = traffic.ParseProcess(c.Arrivals); err != nil {
		return t, err
	}
	if c.Phases == config.PhasesGiven {
		for _, m := range f.Config.Models {
			t.FirstRelease = append(t.FirstRelease, m.Phase)
		}
	} else if t.Phases, err = traffic.ParsePhases(c.Phases); err != nil {
		return t, err
	}
	if t.Process == traffic.Recorded {
		t.Recorded, err = f.readTrace(c.Trace)
	}
	return t, err
}

func (f *Flow) readTrace(name string) ([]traffic.Arrival, error) {
	path, err := f.Config.Path(name, f.opts.Root)
	if err != nil {
		return nil, err
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("arrivals: %w", err)
	}
	defer file.Close()
	var names []string
	for _, m := range f.Config.Models {
		names = append(names, m.Name)
	}
	out, err := traffic.Read(file, names)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return out, nil
}

// Hardware says in a sentence what was found and what it means.
func (f *Flow) Hardware() string {
	if f.tables {
		return f.describeTables()
	}
	var kinds []string
	for _, s := range f.Specs {
		p := s.Provider
		if p == "" {
			p = "cpu"
		}
		if !slices.Contains(kinds, p) {
			kinds = append(kinds, p)
		}
	}
	text := fmt.Sprintf("%s, %d cores; accelerators: %s (ONNX Runtime %s)", f.Host.CPU, f.Host.LogicalCores, f.describeSpecs(), f.ORT.Version)
	if len(kinds) == 1 && kinds[0] == "cpu" {
		text += ". No GPU was used: the accelerators are CPU cores that differ in graph optimisation, so that layers prefer one or the other by up to a few times, not by the factors a GPU would show"
	}
	text += f.aboutEmulated()
	if !runtime.FreeCore(f.Specs) {
		text += ". No core is left for releases and decisions: they take time from the accelerators, which the release lag shows"
	}
	return text + "."
}

func (f *Flow) describeSpecs() string {
	var out []string
	for _, s := range f.Specs {
		d := s.Name
		if len(s.Cores) > 0 {
			d += fmt.Sprintf(" on core %s", strings.Trim(fmt.Sprint(s.Cores), "[]"))
		}
		out = append(out, d)
	}
	return strings.Join(out, ", ")
}

// Discard is a progress function for when nobody looks.
func Discard(string) Meter { return nothing{} }

type nothing struct{}

func (nothing) Set(float64) {}
func (nothing) Done()       {}

// NoteTo prints notes as lines on w.
func NoteTo(w io.Writer) func(string, ...any) {
	return func(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) }
}

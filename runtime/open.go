package runtime

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"
	"time"

	"github.com/terastal/terastal/internal/hostinfo"
	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/plan"
)

// Library says which ONNX Runtime library is in use, and where it was found.
type Library = ort.Library

// Start finds and starts ONNX Runtime, with its telemetry off: the library at path if that is not empty, else the one
// that the environment variable ONNXRUNTIME_LIB names, else one in the user's cache folder (where
// scripts/setup-onnxruntime.sh puts it) or in the system's library folders. It has to be called before models are
// loaded or accelerators opened; calling it again does nothing.
func Start(path string) (Library, error) { return ort.Start(path) }

// OpenOptions say how a plan is opened, and, with [Options], how the requests of [Executor.Submit] are scheduled.
type OpenOptions struct {
	// Options hold from the first request on.
	Options
	// Root is a folder that models may be read from, besides the plan's own.
	Root string
	// Load, if not nil, is asked for every model first: for sources that are not files, such as zoo:resnet50, and for
	// models that are loaded already. Where it returns nil, the source is a file. The hash is checked in either case.
	Load func(source string, o models.Options) (*models.Model, error)
	// Library is the path of ONNX Runtime's library; empty: see Start.
	Library string
	// Plugins are the libraries of providers that are plugins, by provider;
	// those that are not listed are looked for where they are installed.
	Plugins map[string]string
	// Engines is the folder that compiled engines are kept in; empty keeps none.
	Engines string
	// Arithmetic is what becomes of 8-bit products on this processor, as variants.ProbeArithmetic finds out. A plan whose
	// variants were proven in another is refused. Empty: not checked, and the accuracy that was proven holds only on
	// the kind of processor that it was proven on.
	Arithmetic string
	// Open, if not nil, opens the accelerators that are not emulated, in place of a Devices: for kinds of your own.
	Open func(Spec) (Accelerator, error)
	// Wrap, if not nil, stands between the accelerators and the executor, as Drill.Wrap does.
	Wrap func(Accelerator) Accelerator
	// Trace, if not nil, collects what ONNX Runtime's profiler sees, which makes layers take longer.
	Trace *ORTTrace
	// Context, if not nil, ends loading and warming up when it ends, with its error.
	Context context.Context
	// Loaded, if not nil, is called with how much has been loaded.
	Loaded func(share float64)
	// Seed determines the inputs of requests that bring none.
	Seed uint64
}

// ErrPlan is wrapped by errors about a plan that cannot be opened here.
var ErrPlan = errors.New("the plan does not open")

// Open opens a plan: it starts ONNX Runtime unless that was done, opens the accelerators, loads the models, cuts them
// as planned, attaches the layer variants and loads every layer on every accelerator. Files that the plan names are
// read from its folder or from Root only, and models and variants have to be those that were planned. The executor is
// ready for Submit and Run; Close frees all that was opened.
func Open(path string, o OpenOptions) (*Executor, error) {
	p, tables, err := plan.Read(path)
	if err != nil {
		return nil, err
	}
	l := &loader{OpenOptions: o, plan: p, folders: []string{filepath.Dir(path)}}
	if o.Root != "" {
		l.folders = append(l.folders, o.Root)
	}
	var e *Executor
	if err = l.load(); err == nil {
		o.FreeCore = o.FreeCore || FreeCore(l.specs)
		e, err = Assemble(tables, l.networks, l.accs, o)
	} else {
		closeAccelerators(l.accs)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrPlan, path, err)
	}
	return e, nil
}

// Assemble is what Open does with the accelerators and networks of a plan: it loads the networks on the accelerators
// and makes an executor of them for the tables of their system. The executor owns the accelerators and closes them;
// after an error they are closed. Of the options it takes those about running, Wrap, Context, Loaded and Seed.
func Assemble(t *sched.Tables, networks []*Network, accs []Accelerator, o OpenOptions) (*Executor, error) {
	if o.Wrap != nil {
		accs = slices.Clone(accs)
		for k, a := range accs {
			accs[k] = o.Wrap(a)
		}
	}
	RoomFor(len(accs))
	ctx := o.Context
	if ctx == nil {
		ctx = context.Background()
	}
	total, done := 0, 0
	for _, n := range networks {
		total += n.units() * len(accs)
	}
	var programs []*Program
	free := func() {
		for _, p := range programs {
			p.Close()
		}
		closeAccelerators(accs)
	}
	for _, n := range networks {
		p, err := prepare(ctx, n, accs, func() {
			if done++; o.Loaded != nil {
				o.Loaded(float64(done) / float64(total))
			}
		})
		if err != nil {
			free()
			return nil, err
		}
		programs = append(programs, p)
	}
	e, err := newExecutor(ctx, t, programs, o.Seed)
	if err != nil {
		free()
		return nil, err
	}
	e.owned, e.serving.options, e.freeCore = free, o.Options, o.FreeCore
	return e, nil
}

func closeAccelerators(accs []Accelerator) {
	for _, a := range accs {
		a.Close()
	}
}

// loader opens what a plan names.
type loader struct {
	OpenOptions
	plan     *plan.Plan
	folders  []string // files are looked for in each
	specs    []Spec
	devices  Devices
	accs     []Accelerator
	networks []*Network
}

func (l *loader) load() error {
	if _, err := Start(l.Library); err != nil {
		return err
	}
	for k := range l.plan.Accelerators {
		a, err := l.accelerator(&l.plan.Accelerators[k])
		if err != nil {
			return err
		}
		l.accs = append(l.accs, a)
	}
	for m := range l.plan.Models {
		n, err := l.network(m)
		if err != nil {
			return fmt.Errorf("model %q: %w", l.plan.Models[m].Name, err)
		}
		l.networks = append(l.networks, n)
	}
	return nil
}

// RoomFor gives the Go scheduler processors besides those that the workers of
// so many accelerators hold while they compute.
func RoomFor(accelerators int) {
	if want := accelerators + 2; goruntime.GOMAXPROCS(0) < want {
		goruntime.GOMAXPROCS(want)
	}
}

// Plan is the accelerator as a plan holds it.
func (s Spec) Plan() plan.Accelerator {
	return plan.Accelerator{Name: s.Name, Provider: s.Provider, Options: s.Options, Optimization: s.Optimization,
		Threads: s.Threads, Cores: s.Cores, Device: s.Device, LibrarySHA256: s.LibrarySHA256, Of: s.Of, Stream: s.Stream,
		KeepWarm: s.KeepWarm}
}

// accelerator opens one accelerator.
func (l *loader) accelerator(a *plan.Accelerator) (Accelerator, error) {
	s := Spec{Name: a.Name, Provider: a.Provider, Options: a.Options, Optimization: a.Optimization,
		Threads: a.Threads, Cores: a.Cores, Device: a.Device, LibrarySHA256: a.LibrarySHA256, Of: a.Of, Stream: a.Stream,
		KeepWarm: a.KeepWarm}
	l.specs = append(l.specs, s)
	if s.Provider == EmulatedProvider {
		return s.Emulate(func(u Unit) (time.Duration, bool) {
			d, ok := a.Emulated[u.Model][u.Layer][u.Implementation]
			return d, ok
		}, l.Trace)
	}
	if l.Open != nil {
		return l.Open(s)
	}
	engines := l.Engines
	if a.Cache == "off" {
		engines = ""
	}
	if err := s.Localize(l.Plugins, engines); err != nil {
		return nil, err
	}
	if s.LibrarySHA256 != a.LibrarySHA256 {
		return nil, fmt.Errorf("accelerator %q: %s is not the library it was measured with; measure and plan again", s.Name,
			s.Local.Library)
	}
	return l.devices.OpenTraced(s, l.Trace)
}

// Localize finds what the accelerator needs on this machine: the library of a provider that is a plugin, among those
// given by provider or where it is installed, and its hash. Compiled engines are kept in the folder engines, if that is
// not empty.
func (s *Spec) Localize(plugins map[string]string, engines string) (err error) {
	if s.CPU() {
		return nil
	}
	s.Provider = ort.ProviderName(s.Provider)
	if s.Local.Library, err = s.plugin(plugins); err != nil {
		// What is wrong with the specification comes before what is missing.
		without := *s
		without.Device = ""
		return cmp.Or(without.Validate(), err)
	}
	if s.Local.Library != "" {
		if s.LibrarySHA256, err = ort.LibrarySHA256(s.Local.Library); err != nil {
			return fmt.Errorf("accelerator %q: %w", s.Name, err)
		}
	}
	if engines != "" {
		s.Local.Engines, s.Local.Machine = engines, hostinfo.Read(hostinfo.This()).Fingerprint()
	}
	return nil
}

// plugin is the library of the accelerator's provider: the given one of its name, "" where ONNX Runtime was built with
// the provider, else the installed one.
func (s *Spec) plugin(given map[string]string) (string, error) {
	provider := ort.ProviderName(s.Provider)
	if path := given[provider]; path != "" {
		return path, nil
	}
	built, err := ort.Available()
	if err != nil || slices.Contains(built, provider) {
		return "", err
	}
	path := ort.Installed(provider)
	if path == "" && slices.Contains(ort.Installable(), provider) {
		return "", fmt.Errorf("accelerator %q: the %s provider is not installed: "+
			"scripts/setup-onnxruntime.sh --with %[2]s does it", s.Name, provider)
	}
	return path, nil
}

// Emulated lists the latencies of an emulated accelerator for a plan.
func Emulated(networks []*Network, latency func(Unit) (time.Duration, bool)) plan.Latencies {
	out := plan.Latencies{}
	for _, n := range networks {
		out[n.Name] = map[string]map[string]time.Duration{}
		for l, layer := range n.Layers {
			times := map[string]time.Duration{}
			for _, u := range append([]Unit{{Name: Original}}, n.Variants[l]...) {
				if d, ok := latency(Unit{Model: n.Name, Layer: layer.Name, Implementation: u.Name}); ok {
					times[u.Name] = d
				}
			}
			out[n.Name][layer.Name] = times
		}
	}
	return out
}

// network loads a model, cuts it and attaches its variants.
func (l *loader) network(m int) (*Network, error) {
	p, s := &l.plan.Models[m], &l.plan.System.Models[m]
	model, err := l.model(p)
	if err != nil {
		return nil, err
	}
	if model.SHA256() != p.SHA256 {
		return nil, fmt.Errorf("%s has SHA-256 %.12s, the plan was made for %.12s; plan again", p.Source, model.SHA256(),
			p.SHA256)
	}
	n, err := NewNetwork(p.Name, model, p.Cut)
	if err != nil {
		return nil, err
	}
	n.Granularity = p.Granularity
	if len(n.Layers) != len(s.Layers) {
		return nil, fmt.Errorf("it splits into %d layers, the plan has %d; plan again", len(n.Layers), len(s.Layers))
	}
	for i := range l.plan.Variants {
		if v := &l.plan.Variants[i]; v.Model == p.Name && !v.Off {
			if err := l.attach(n, v); err != nil {
				return nil, err
			}
		}
	}
	for i, layer := range s.Layers {
		if !slices.EqualFunc(layer.Implementations[1:], n.Variants[i],
			func(im sched.Implementation, u Unit) bool { return im.Name == u.Name }) {
			return nil, fmt.Errorf("layer %q: its variants are not the plan's implementations; plan again", layer.Name)
		}
		if layer.Name != n.Layers[i].Name {
			return nil, fmt.Errorf("layer %d is %q, %q in the plan; plan again", i, n.Layers[i].Name, layer.Name)
		}
	}
	// What refused a layer when it was measured is not asked again.
	n.Skip = func(l, i, k int) error {
		if s.Layers[l].Implementations[i].Latency[k] < 0 {
			return fmt.Errorf("the plan says that it does not run there")
		}
		return nil
	}
	return n, nil
}

func (l *loader) model(p *plan.Model) (*models.Model, error) {
	o := models.Options{Dims: p.Dims}
	if p.Source == "" {
		return nil, errors.New("the plan names no file: it can only be simulated")
	}
	if l.Load != nil {
		if m, err := l.Load(p.Source, o); m != nil || err != nil {
			return m, err
		}
	}
	if scheme, _, is := strings.Cut(p.Source, ":"); is && !strings.ContainsAny(scheme, `/\.`) {
		return nil, fmt.Errorf("%s is not a file: OpenOptions.Load has to open it", p.Source)
	}
	path, err := find(p.Source, l.folders)
	if err != nil {
		return nil, err
	}
	return models.Load(path, o)
}

// find is the path of a file inside one of the folders. Names and links that lead out of them are refused.
func find(name string, folders []string) (string, error) {
	var last error
	for _, folder := range folders {
		root, err := os.OpenRoot(folder)
		if err != nil {
			return "", err
		}
		_, err = root.Stat(name)
		root.Close()
		if err == nil {
			return filepath.Join(folder, name), nil
		}
		if last == nil || errors.Is(last, fs.ErrNotExist) {
			last = err
		}
	}
	if errors.Is(last, fs.ErrNotExist) {
		return "", fmt.Errorf("there is no file %s in %s", name, strings.Join(folders, " or "))
	}
	return "", fmt.Errorf("%s: %w", name, last)
}

// attach makes a model's variants its implementations.
func (l *loader) attach(n *Network, v *plan.Variants) error {
	if l.Arithmetic != "" && v.Arithmetic != "" && v.Arithmetic != l.Arithmetic {
		return fmt.Errorf("its variants were proven for %s 8-bit arithmetic, this processor's is %s; prove them again",
			v.Arithmetic, l.Arithmetic)
	}
	if v.Device != "" {
		if here := hostinfo.Read(hostinfo.This()).Graphics(); here != v.Device {
			return fmt.Errorf("its variants were proven on %s, this machine has %s; prove them again",
				v.Device, cmp.Or(here, "no graphics processor"))
		}
	}
	return n.Attach(v.Chosen, func(file string) ([]byte, error) {
		path, err := find(file, l.folders[:1])
		if err != nil {
			return nil, err
		}
		return os.ReadFile(path)
	})
}

// FreeCore reports whether the accelerators leave a core over that this process may use.
func FreeCore(specs []Spec) bool {
	used := map[int]bool{}
	threads := 0
	for _, s := range specs {
		if !s.Computes() {
			continue // it sleeps
		}
		threads += max(1, s.Threads)
		for _, c := range s.Cores {
			used[c] = true
		}
	}
	return max(len(used), threads) < goruntime.NumCPU()
}

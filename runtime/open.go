package runtime

import (
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
	"github.com/terastal/terastal/sched/plan"
)

// OpenOptions say how a plan is opened, and, with [Options], how the requests of [Executor.Submit] are scheduled.
type OpenOptions struct {
	// Options hold from the first request on.
	Options
	// Root is a folder that models may be read from, besides the plan's own.
	Root string
	// Load opens the sources that are not files, such as zoo:resnet50. Nil refuses them.
	Load func(source string, o models.Options) (*models.Model, error)
	// Library is the path of ONNX Runtime's library; empty: see Start.
	Library string
	// Plugins are the libraries of providers that are plugins, by provider;
	// those that are not listed are looked for where they are installed.
	Plugins map[string]string
	// Engines is the folder that compiled engines are kept in; empty keeps none.
	Engines string
	// Arithmetic is what becomes of 8-bit products on this processor, as package variants finds out. A plan whose
	// variants were proven for another is refused. Empty: not checked.
	Arithmetic string
	// Wrap, if not nil, stands between the accelerators and the executor, as Drill.Wrap does.
	Wrap func(Accelerator) Accelerator
	// Trace, if not nil, collects what ONNX Runtime's profiler sees, which makes layers take longer.
	Trace *ORTTrace
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
	programs, err := l.load()
	if err != nil {
		l.close()
		return nil, fmt.Errorf("%w: %s: %w", ErrPlan, path, err)
	}
	e, err := NewExecutor(tables, programs, o.Seed)
	if err != nil {
		l.close()
		return nil, fmt.Errorf("%w: %s: %w", ErrPlan, path, err)
	}
	e.owned = l.close
	e.serving.options, e.freeCore = o.Options, FreeCore(l.specs())
	return e, nil
}

// loader opens what a plan names.
type loader struct {
	OpenOptions
	plan     *plan.Plan
	folders  []string // files are looked for in each
	accs     []Accelerator
	programs []*Program
}

func (l *loader) close() {
	for _, p := range l.programs {
		p.Close()
	}
	for _, a := range l.accs {
		a.Close()
	}
}

func (l *loader) load() ([]*Program, error) {
	if _, err := Start(l.Library); err != nil {
		return nil, err
	}
	for k := range l.plan.Accelerators {
		a, err := l.accelerator(&l.plan.Accelerators[k])
		if err != nil {
			return nil, err
		}
		if l.Wrap != nil {
			a = l.Wrap(a)
		}
		l.accs = append(l.accs, a)
	}
	var networks []*Network
	total, done := 0, 0
	for m := range l.plan.Models {
		n, err := l.network(m)
		if err != nil {
			return nil, fmt.Errorf("model %q: %w", l.plan.Models[m].Name, err)
		}
		networks = append(networks, n)
		total += n.units() * len(l.accs)
	}
	RoomFor(len(l.accs))
	for _, n := range networks {
		p, err := Prepare(n, l.accs, func() {
			if done++; l.Loaded != nil {
				l.Loaded(float64(done) / float64(total))
			}
		})
		if err != nil {
			return nil, err
		}
		l.programs = append(l.programs, p)
	}
	return l.programs, nil
}

// RoomFor gives the Go scheduler processors besides those that the workers of
// so many accelerators hold while they compute.
func RoomFor(accelerators int) {
	if want := accelerators + 2; goruntime.GOMAXPROCS(0) < want {
		goruntime.GOMAXPROCS(want)
	}
}

// specs are the plan's accelerators.
func (l *loader) specs() []Spec {
	var out []Spec
	for i := range l.plan.Accelerators {
		out = append(out, specOf(&l.plan.Accelerators[i]))
	}
	return out
}

func specOf(a *plan.Accelerator) Spec {
	return Spec{Name: a.Name, Provider: a.Provider, Options: a.Options, Optimization: a.Optimization,
		Threads: a.Threads, Cores: a.Cores, Device: a.Device, LibrarySHA256: a.LibrarySHA256}
}

// Plan is the accelerator as a plan holds it.
func (s Spec) Plan() plan.Accelerator {
	return plan.Accelerator{Name: s.Name, Provider: s.Provider, Options: s.Options, Optimization: s.Optimization,
		Threads: s.Threads, Cores: s.Cores, Device: s.Device, LibrarySHA256: s.LibrarySHA256}
}

// accelerator opens one accelerator.
func (l *loader) accelerator(a *plan.Accelerator) (Accelerator, error) {
	s := specOf(a)
	switch {
	case s.Provider == EmulatedProvider:
		return l.emulated(a, s)
	case s.CPU():
		return OpenTraced(s, l.Trace)
	}
	path, err := s.Plugin(l.Plugins)
	if err != nil {
		return nil, err
	}
	s.Local.Library = path
	if path != "" {
		sum, err := ort.LibrarySHA256(path)
		if err != nil {
			return nil, fmt.Errorf("accelerator %q: %w", s.Name, err)
		}
		if sum != s.LibrarySHA256 {
			return nil, fmt.Errorf("accelerator %q: %s is not the library it was measured with; measure and plan again", s.Name,
				path)
		}
	}
	if l.Engines != "" && a.Cache != "off" {
		s.Local.Engines, s.Local.Machine = l.Engines, hostinfo.Read(hostinfo.This()).Fingerprint()
	}
	return OpenTraced(s, l.Trace)
}

// Plugin is the library of the accelerator's provider: the given one of its name, "" where ONNX Runtime was built with
// the provider, else the installed one.
func (s Spec) Plugin(given map[string]string) (string, error) {
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

// emulated opens an accelerator whose latencies the plan holds.
func (l *loader) emulated(a *plan.Accelerator, s Spec) (Accelerator, error) {
	e := Emulation{Name: s.Name, Cores: s.Cores, Latency: func(u Unit) (time.Duration, bool) {
		d, ok := a.Emulated[u.Model][u.Layer][u.Implementation]
		return d, ok
	}}
	if s.computes() {
		var err error
		inner := Spec{Name: s.Name, Optimization: s.Optimization, Threads: s.Threads, Cores: s.Cores}
		if e.Inner, err = OpenTraced(inner, l.Trace); err != nil {
			return nil, err
		}
	}
	return OpenEmulated(e)
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
		fits := len(layer.Implementations) == 1+len(n.Variants[i])
		for j := 0; fits && j < len(n.Variants[i]); j++ {
			fits = layer.Implementations[j+1].Name == n.Variants[i][j].Name
		}
		if !fits {
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
	if scheme, _, is := strings.Cut(p.Source, ":"); is && !strings.ContainsAny(scheme, `/\.`) {
		if l.Load == nil {
			return nil, fmt.Errorf("%s is not a file: OpenOptions.Load has to open it", p.Source)
		}
		return l.Load(p.Source, o)
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
		if s.Provider == EmulatedProvider && !s.computes() {
			continue // it sleeps
		}
		threads += max(1, s.Threads)
		for _, c := range s.Cores {
			used[c] = true
		}
	}
	return max(len(used), threads) < goruntime.NumCPU()
}

// computes reports whether an emulated accelerator computes its layers, too.
func (s Spec) computes() bool {
	return s.Provider == EmulatedProvider && s.Options["compute"] == "true"
}

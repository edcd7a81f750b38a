package session

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/terastal/terastal/cmd/terastal/internal/config"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/plan"
)

// Workspace is a configuration whose accelerators and models are open for measuring, designing and planning.
type Workspace struct {
	Config  *config.Config
	Machine Machine
	Models  []*Model
	// Variants are the models' layer variants.
	Variants *Variants
	// Profile is what was measured; nil until then.
	Profile *profiler.Profile

	options Options
	folder  string // that files may be read from
	stages  stages
}

// Open starts ONNX Runtime, tries the accelerators, loads and splits the models, chooses accelerators where none are
// named, finds out how many streams pay where that is asked for, and gives the models the layer variants of an earlier
// plan. Nothing has to be closed.
func Open(ctx context.Context, c *config.Config, o Options) (*Workspace, error) {
	if err := needModels(c); err != nil {
		return nil, err
	}
	w := &Workspace{Config: c, options: o, stages: stages{open: o.Progress}}
	var err error
	if w.folder, err = c.Folder(o.Root); err != nil {
		return nil, err
	}
	if w.Machine, err = openMachine(c, &w.options); err != nil {
		return nil, err
	}
	// Probing waits for other processes, loading computes on one core for each model.
	probed := make(chan error, 1)
	var refused atomic.Bool
	go func() {
		err := w.Machine.try(&w.options)
		refused.Store(err != nil)
		probed <- err
	}()
	w.Models = make([]*Model, len(c.Models))
	err = together(len(c.Models), func(i int) (err error) {
		if !refused.Load() {
			w.Models[i], err = load(c, &c.Models[i], o.Root, w.profilePath())
		}
		return err
	})
	if err := cmp.Or(<-probed, err); err != nil {
		return nil, err
	}
	if w.Machine.automatic {
		if err := w.auto(ctx); err != nil {
			return nil, err
		}
	}
	if err := w.streams(ctx); err != nil {
		return nil, err
	}
	w.Variants = newVariants(w)
	return w, w.Variants.attach()
}

func needModels(c *config.Config) error {
	if len(c.Models) == 0 {
		return fmt.Errorf("%w: no models: list at least one under `models:` in the --config file", config.ErrInvalid)
	}
	return nil
}

// PlanPath is where a configuration's plan lies.
func PlanPath(c *config.Config) string { return filepath.Join(c.Out, "plan.json") }

// ownProfile is where a configuration's profile lies unless another is named.
func ownProfile(c *config.Config) string { return filepath.Join(c.Out, "profile.json") }

// profilePath is where the profile is that is being used or made.
func (w *Workspace) profilePath() string { return cmp.Or(w.options.Profile, ownProfile(w.Config)) }

// mapped lists what of says of every element.
func mapped[E, R any](list []E, of func(E) R) []R {
	var out []R
	for _, e := range list {
		out = append(out, of(e))
	}
	return out
}

// fits is an error where what is open does not fit into the memory of a device.
func (w *Workspace) fits(networks []*runtime.Network, p *profiler.Profile) error {
	for _, n := range w.Machine.needs(networks, p) {
		if err := n.fits(); err != nil {
			return err
		}
	}
	return nil
}

func (w *Workspace) networks() []*runtime.Network {
	return mapped(w.Models, func(m *Model) *runtime.Network { return m.Network })
}

// Plan plans from the profile.
func (w *Workspace) Plan() (*Session, error) {
	d := &w.Variants.designer
	for _, m := range d.Stale() {
		return nil, fmt.Errorf("%s: prove them again with `terastal variants accuracy --config FILE`, or set `variants: off`",
			d.WhyStale(m))
	}
	models, err := planned(w.Models, w.folder)
	if err != nil {
		return nil, err
	}
	accelerators, err := w.Machine.emulating(w.Config, w.networks())
	if err != nil {
		return nil, err
	}
	p, err := newPlan(w.Config, w.Profile, models, accelerators, func(s *sched.System) { d.Allow(s) })
	if err != nil {
		return nil, err
	}
	p.Document.Variants = d.Documents(w.Profile)
	for _, n := range w.Machine.needs(w.networks(), w.Profile) {
		w.options.Note("%s: %s", n.device, &n)
	}
	return &Session{Config: w.Config, Profile: w.Profile, Plan: p, options: w.options,
		ground: &real{w.Machine, w, p.Document}}, nil
}

// planned are models as a plan holds them, their rates left out.
func planned(models []*Model, folder string) ([]plan.Model, error) {
	var out []plan.Model
	for _, m := range models {
		source, err := m.source.inPlan(folder)
		if err != nil {
			return nil, err
		}
		x := plan.Model{Name: m.Name, Source: source, SHA256: m.Network.Model.SHA256(), Granularity: m.Granularity,
			Cut: m.source.Granularity}
		if x.Dims, err = m.Dimensions(); err != nil {
			return nil, err
		}
		out = append(out, x)
	}
	return out, nil
}

// EqualShares sets the rates so that every model demands the same share of one accelerator's time at its fastest; with
// the configuration's load they are scaled together. A demo has no rates to honour.
func (w *Workspace) EqualShares() error {
	paths, err := fastest(w.Profile)
	if err != nil {
		return fmt.Errorf("%w: %w", config.ErrInvalid, err)
	}
	for m, d := range paths {
		w.Models[m].Rate = 1 / d.Seconds()
	}
	return nil
}

// fastest is what every model takes where each of its layers runs where it is fastest.
func fastest(p *profiler.Profile) (paths []time.Duration, err error) {
	for m := range p.Models {
		d, ok := p.Latency(m, profiler.Fastest)
		if !ok {
			return nil, fmt.Errorf("model %q has a layer that runs nowhere", p.Models[m].Name)
		}
		paths = append(paths, d)
	}
	return paths, nil
}

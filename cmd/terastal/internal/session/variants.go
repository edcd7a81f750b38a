package session

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/terastal/terastal/cmd/terastal/internal/config"
	"github.com/terastal/terastal/models/dataset"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/eventlog"
	"github.com/terastal/terastal/sched/plan"
	"github.com/terastal/terastal/variants"
	"github.com/terastal/terastal/variants/accuracy"
	"github.com/terastal/terastal/variants/design"
)

// design has the designer work for the models and accelerators that are open.
func (f *Flow) design() {
	d := &f.designer
	d.Accelerators, d.Note, d.Progress = f.Specs, f.opts.Note, f.progress
	if name := f.Config.Arithmetic; name != config.AutoArithmetic {
		d.Arithmetic = variants.Arithmetic(name)
	}
	for i, n := range f.Networks {
		mc := &f.Config.Models[i]
		d.Models = append(d.Models, &design.Model{
			Network: n, Theta: mc.Theta, Off: !mc.UsesVariants(),
			Calibration: f.data(i, mc.Calibration, defaultCalibration),
			Labelled:    f.data(i, mc.Labelled, defaultLabelled),
			Metric: func(labelled bool) (accuracy.Metric, error) {
				metric, err := accuracy.Named(mc.Metric, n.Model.Outputs(), labelled)
				if err != nil {
					err = fmt.Errorf("%w: %w", config.ErrInvalid, err)
				}
				return metric, err
			},
		})
	}
}

// attach gives the models the variants of the plan that an earlier `variants
// design` left, where they are on and still fit.
func (f *Flow) attach() error {
	p, _, err := plan.Read(f.PlanPath())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		f.opts.Note("no layer variants are used: %v", err)
		return nil
	}
	misfits, err := f.designer.Use(p.Variants, func(file string) ([]byte, error) {
		return os.ReadFile(filepath.Join(f.Config.Out, file))
	})
	for _, name := range misfits {
		f.opts.Note("model %q: its variants in %s are for another model or granularity; "+
			"`terastal variants design` makes new ones", name, f.PlanPath())
	}
	if err != nil {
		return fmt.Errorf("%w: design its variants again or set `variants: off`", err)
	}
	return nil
}

// inUse is what the plan says about the variants that a model has in use, nil
// without any.
func (f *Flow) inUse(m int) *plan.Variants {
	if m >= len(f.designer.Models) {
		return nil
	}
	return f.designer.Models[m].InUse
}

// WithoutVariants drops the variants that Open found.
func (f *Flow) WithoutVariants() { f.designer.Clear() }

// TakeVariants makes variants that were fitted elsewhere a model's, and writes
// their files. They are unproven, and Plan refuses them, until Prove has measured
// their accuracy here.
func (f *Flow) TakeVariants(m int, from fs.FS) error {
	if err := f.designer.Take(f.designer.Models[m], from); err != nil {
		return err
	}
	return f.designer.Save(f.Config.Out)
}

// Design designs variants for the configured models, as package design does, and
// writes their files.
func (f *Flow) Design(ctx context.Context, o design.Options) error {
	whole := f.Config.Profile.Budget
	f.Config.Profile.Budget /= screened
	defer func() { f.Config.Profile.Budget = whole }()
	defer f.stages.done()
	if err := f.designer.Design(ctx, &bench{f, filepath.Join(f.Config.Out, "variants")}, o); err != nil {
		return err
	}
	return f.designer.Save(f.Config.Out)
}

// screened is the share of the budget that originals, and then candidates, are
// measured for to find those that are fast enough. What is chosen is measured
// with all of it, as a part of the profile that plans are made from.
const screened = 4

// bench measures for the designer, in separate processes.
type bench struct {
	*Flow
	folder string // to keep profiles in; "" keeps none
}

// Originals measures all layers without variants, unless that has been done, and
// computes budgets.
func (b *bench) Originals(ctx context.Context) (*profiler.Profile, *sched.Tables, error) {
	if b.LoadProfile(b.ProfilePath()) != nil { // of the same accelerators, without variants
		if err := b.EnsureProfile(ctx, filepath.Join(b.folder, "originals.profile.json"), false); err != nil {
			return nil, nil, err
		}
	}
	if err := b.Plan(); err != nil {
		return nil, nil, err
	}
	return b.Profile, b.Tables, nil
}

// Measure measures networks with their variants.
func (b *bench) Measure(ctx context.Context, networks []*runtime.Network,
	enough design.Enough) (*profiler.Profile, error) {
	p, err := b.measured(ctx, networks, "", enough)
	if err == nil && b.folder != "" {
		err = p.Write(filepath.Join(b.folder, "candidates.profile.json"))
	}
	return p, err
}

// ProveAgain proves the variants that a plan holds for another 8-bit arithmetic
// than this processor's, or leaves them out where there is nothing to prove them
// on. Without it, Plan fails where there are such.
func (f *Flow) ProveAgain(ctx context.Context) error {
	d := &f.designer
	defer f.stages.done()
	for _, m := range d.Stale() {
		why := d.WhyStale(m)
		if m.Labelled.Source == "" && m.Calibration.Source == "" {
			f.opts.Note("%s: they are not used; name labelled or calibration data in the configuration "+
				"to prove them again, or run `terastal variants design`", why)
			d.LeaveOut(m)
			continue
		}
		f.opts.Note("%s: proving them again", why)
		if _, err := d.Prove(ctx, m, nil); err != nil {
			return fmt.Errorf("%s, and they cannot be proven again: %w: design its variants again or set `variants: off`",
				why, err)
		}
	}
	return nil
}

// How many inputs are used unless the configuration says.
const (
	defaultCalibration = 500
	defaultLabelled    = 1000
)

// data says where data of a model are, of which at most count are used unless the
// configuration says how many.
func (f *Flow) data(m int, c config.Data, count int) design.Data {
	return design.Data{Source: c.Source, Open: func() (accuracy.Data, error) { return f.openData(m, c, count) }}
}

func (f *Flow) openData(m int, c config.Data, count int) (*dataset.Set, error) {
	if c.Source == "" {
		return nil, fmt.Errorf("%w: no source: name one in the configuration "+
			"(source: random fits to random inputs, which says little)", config.ErrInvalid)
	}
	s := dataset.Spec{Source: c.Source, Labels: c.Labels, First: c.First, Count: c.Count,
		Pixels: dataset.Pixels(f.Config.Models[m].Pixels)}
	made := c.Source == "random" || strings.HasPrefix(c.Source, "glyphs:")
	for _, path := range []*string{&s.Source, &s.Labels} {
		if *path == "" || path == &s.Source && made {
			continue
		}
		var err error
		if *path, err = f.Config.Path(*path, f.opts.Root); err != nil {
			return nil, err
		}
	}
	if s.Count == 0 && made {
		s.Count = count
	}
	set, err := dataset.Open(s, f.Networks[m].Model)
	if err == nil && c.Count == 0 && set.Len() > count {
		s.Count = count
		return dataset.Open(s, f.Networks[m].Model)
	}
	return set, err
}

// Accuracy is what the combinations of a model's variants keep.
type Accuracy struct {
	plan.Variants
	// Delivered is the mean normalised accuracy of the requests that a run
	// finished, every combination that they used measured; Finished how many
	// these were. Absent without a run.
	Delivered *float64 `json:"delivered,omitempty"`
	Finished  int      `json:"finished,omitempty"`
}

// Prove measures the accuracy of the models' combinations again, on labelled
// data where there are any. With the log of a run, the combinations that its
// requests used are among those measured.
func (f *Flow) Prove(ctx context.Context, log *eventlog.Log) ([]Accuracy, error) {
	defer f.stages.done()
	var out []Accuracy
	for _, m := range f.designer.Models {
		if m.InUse == nil || len(m.InUse.Chosen) == 0 {
			continue
		}
		used, err := usedIn(log, m.InUse)
		if err != nil {
			return nil, err
		}
		p, err := f.designer.Prove(ctx, m, slices.Sorted(maps.Keys(used)))
		if err != nil {
			return nil, err
		}
		a := Accuracy{Variants: *m.InUse}
		sum := 0.0
		for s, n := range used {
			x, _ := p.Of(s)
			sum += x * float64(n)
			a.Finished += n
		}
		if a.Finished > 0 {
			sum /= float64(a.Finished)
			a.Delivered = &sum
		}
		out = append(out, a)
	}
	return out, nil
}

// usedIn counts the combinations that a run's requests of a model used; nil
// without a log.
func usedIn(log *eventlog.Log, v *plan.Variants) (map[sched.VariantSet]int, error) {
	if log == nil {
		return nil, nil
	}
	sys := &log.Header.System
	m := slices.IndexFunc(sys.Models, func(x sched.Model) bool { return x.Name == v.Model })
	if m < 0 {
		return nil, fmt.Errorf("the log is of a run without model %q", v.Model)
	}
	var names []string
	for _, l := range sys.Models[m].Layers {
		for _, im := range l.Implementations[1:] {
			names = append(names, im.Name)
		}
	}
	if !slices.EqualFunc(names, v.Chosen, func(name string, c plan.Variant) bool { return name == c.Name }) {
		return nil, fmt.Errorf("the log is of a run with other variants of model %q", v.Model)
	}
	return log.Combinations()[m], nil
}

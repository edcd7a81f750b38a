package session

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/terastal/terastal/cmd/terastal/internal/config"
	"github.com/terastal/terastal/cmd/terastal/internal/result"
	"github.com/terastal/terastal/models"
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

// Variants are the layer variants of a workspace's models.
type Variants struct {
	w        *Workspace
	designer design.Designer
}

// newVariants makes a designer for the models and accelerators that are open.
func newVariants(w *Workspace) *Variants {
	v := &Variants{w: w}
	d := &v.designer
	d.Accelerators, d.Note, d.Progress = w.Machine.Specs, w.options.Note, w.stages.show
	d.Device, d.Open = w.Machine.Host.Graphics(), opener(w.options.open)
	if name := w.Config.Arithmetic; name != config.AutoArithmetic {
		d.Arithmetic = variants.Arithmetic(name)
	}
	for _, m := range w.Models {
		// Of data at most count are used unless the configuration says how many.
		data := func(c config.Data, count int) design.Data {
			return design.Data{Source: c.Source, Open: func() (accuracy.Data, error) {
				return openData(w.Config, m.Model, m.Network.Model, c, count, w.options.Root)
			}}
		}
		d.Models = append(d.Models, &design.Model{
			Network: m.Network, Theta: m.Theta, Floor: w.Config.Floor(m.Model), Off: !m.UsesVariants(),
			Calibration: data(m.Calibration, defaultCalibration),
			Labelled:    data(m.Labelled, defaultLabelled),
			Metric: func(labelled bool) (accuracy.Metric, error) {
				metric, err := accuracy.Named(m.Metric, m.Network.Model.Outputs(), labelled)
				if err != nil {
					err = fmt.Errorf("%w: %w", config.ErrInvalid, err)
				}
				return metric, err
			},
		})
	}
	return v
}

// attach gives the models the variants of the plan that an earlier `variants
// design` left, where they are on and still fit.
func (v *Variants) attach() error {
	p, _, err := plan.Read(PlanPath(v.w.Config))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		v.w.options.Note("no layer variants are used: %v", err)
		return nil
	}
	misfits, err := v.designer.Use(p.Variants, func(file string) ([]byte, error) {
		return os.ReadFile(filepath.Join(v.w.Config.Out, file))
	})
	for _, name := range misfits {
		v.w.options.Note("model %q: its variants in %s are for another model or granularity; "+
			"`terastal variants design` makes new ones", name, PlanPath(v.w.Config))
	}
	if err != nil {
		return fmt.Errorf("%w: design its variants again or set `variants: off`", err)
	}
	return nil
}

// Take makes variants that were fitted elsewhere a model's, and writes their files. They are unproven, and Plan refuses
// them, until Prove has measured their accuracy here.
func (v *Variants) Take(m int, from fs.FS) error {
	if err := v.designer.Take(v.designer.Models[m], from); err != nil {
		return err
	}
	return v.designer.Save(v.w.Config.Out)
}

// FamilyNames are the families that variants can be of.
func FamilyNames() []string {
	return mapped(variants.Families(), func(f variants.Family) string { return f.Name })
}

// CheckFamilies refuses names that no family has.
func CheckFamilies(names []string) error {
	for _, name := range names {
		if have := FamilyNames(); !slices.Contains(have, name) {
			return Usagef("--families: there is no %q, have %s", name, strings.Join(have, ", "))
		}
	}
	return nil
}

// Design designs variants for the configured models, as package design does, writes their files, measures the models
// with them, and writes the plan, which it names.
func (v *Variants) Design(ctx context.Context, o design.Options) (s *Session, path string, err error) {
	defer v.w.stages.done()
	b := &designBench{v.w, screened, filepath.Join(v.w.Config.Out, "variants")}
	if err := v.designer.Design(ctx, b, o); err != nil {
		return nil, "", err
	}
	if err := v.designer.Save(v.w.Config.Out); err != nil {
		return nil, "", err
	}
	return v.replan(ctx)
}

// replan plans with the variants as they are, and writes the plan, which it
// names. Layers are measured if the profile does not fit.
func (v *Variants) replan(ctx context.Context) (s *Session, path string, err error) {
	if err := v.w.EnsureProfile(ctx); err != nil {
		return nil, "", err
	}
	if s, err = v.w.Plan(); err != nil {
		return nil, "", err
	}
	path, err = s.WritePlan()
	return s, path, err
}

// screened is the share of the budget that originals, and then candidates, are measured for to find those that are fast
// enough. What is chosen is measured with all of it, as a part of the profile that plans are made from.
const screened = 0.25

// designBench measures for the designer.
type designBench struct {
	*Workspace
	budget float64 // the share of the configuration's
	folder string  // to keep profiles in; "" keeps none
}

// Originals measures all layers without variants, unless that has been done, and computes budgets.
func (b *designBench) Originals(ctx context.Context) (*profiler.Profile, *sched.Tables, error) {
	if b.loadProfile(ownProfile(b.Config)) != nil { // of the same accelerators, without variants
		if err := b.ensureProfile(ctx, filepath.Join(b.folder, "originals.profile.json"), false); err != nil {
			return nil, nil, err
		}
	}
	s, err := b.Plan()
	if err != nil {
		return nil, nil, err
	}
	return b.Profile, s.Plan.Tables, nil
}

// Measure measures networks with their variants.
func (b *designBench) Measure(ctx context.Context, networks []*runtime.Network,
	enough design.Enough) (*profiler.Profile, error) {
	p, err := b.measure(ctx, networks, b.budget, "", enough)
	if err == nil && b.folder != "" {
		err = p.Write(filepath.Join(b.folder, "candidates.profile.json"))
	}
	return p, err
}

// ProveAgain proves the variants that a plan holds for another device or 8-bit arithmetic than this machine's, or leaves
// them out where there is nothing to prove them on. Without it, Plan fails where there are such.
func (v *Variants) ProveAgain(ctx context.Context) error {
	d := &v.designer
	defer v.w.stages.done()
	for _, m := range d.Stale() {
		why := d.WhyStale(m)
		if !d.Computes(m) {
			v.w.options.Note("%s: they are not used; add such an accelerator, or run `terastal variants design`", why)
			d.LeaveOut(m)
			continue
		}
		if m.Labelled.Source == "" && m.Calibration.Source == "" {
			v.w.options.Note("%s: they are not used; name labelled or calibration data in the configuration "+
				"to prove them again, or run `terastal variants design`", why)
			d.LeaveOut(m)
			continue
		}
		v.w.options.Note("%s: proving them again", why)
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

// openData opens data of a model, at most count unless the configuration says how many.
func openData(c *config.Config, mc *config.Model, m *models.Model, d config.Data, count int,
	root string) (*dataset.Set, error) {
	if d.Source == "" {
		return nil, fmt.Errorf("%w: it has no source: name one in the configuration "+
			"(source: random fits to random inputs, which says little)", config.ErrInvalid)
	}
	s := dataset.Spec{Source: d.Source, Labels: d.Labels, First: d.First, Count: d.Count,
		Pixels: dataset.Pixels(mc.Pixels)}
	made := d.Source == "random" || strings.HasPrefix(d.Source, "glyphs:")
	for _, path := range []*string{&s.Source, &s.Labels} {
		if *path == "" || path == &s.Source && made {
			continue
		}
		var err error
		if *path, err = c.Path(*path, root); err != nil {
			return nil, err
		}
	}
	if s.Count == 0 && made {
		s.Count = count
	}
	set, err := dataset.Open(s, m)
	if err == nil && d.Count == 0 && set.Len() > count {
		s.Count = count
		return dataset.Open(s, m)
	}
	return set, err
}

// Prove measures the accuracy of the models' combinations again, on labelled data where there are any. With the log of
// a run, the combinations that its requests used are among those measured.
func (v *Variants) Prove(ctx context.Context, log *eventlog.Log) ([]result.Accuracy, error) {
	defer v.w.stages.done()
	var out []result.Accuracy
	for _, m := range v.designer.Models {
		if m.InUse == nil || len(m.InUse.Chosen) == 0 {
			continue
		}
		used, floor, err := usedIn(log, m.InUse)
		if err != nil {
			return nil, err
		}
		p, err := v.designer.Prove(ctx, m, slices.Sorted(maps.Keys(used)))
		if err != nil {
			return nil, err
		}
		out = append(out, delivered(m.InUse, p, used, floor))
	}
	return out, nil
}

// delivered is what a run's requests of a model kept, by a proof that measured every combination that they used.
func delivered(v *plan.Variants, p *plan.Proof, used map[sched.VariantSet]int, floor float64) result.Accuracy {
	out := result.Accuracy{Variants: *v, Floor: floor}
	account := eventlog.NewAccount(&sched.Model{Valid: p.Sets, Accuracy: p.Accuracy, AccuracyError: p.StandardError})
	for _, s := range slices.Sorted(maps.Keys(used)) {
		for range used[s] {
			account.Finish(s)
		}
	}
	if out.Finished = account.Finished(); out.Finished == 0 {
		return out
	}
	mean := account.Mean()
	out.Delivered = &mean
	if low, high := account.Interval(); !math.IsNaN(low) {
		out.Low, out.High = &low, &high
	}
	return out
}

// Accuracy is Prove with the log of a run, if its file is given, and writes the plan, which it names.
func (v *Variants) Accuracy(ctx context.Context, file string) (list []result.Accuracy, path string, err error) {
	var log *eventlog.Log
	if file != "" {
		if log, err = eventlog.Read(file); err != nil {
			return nil, "", err
		}
	}
	if list, err = v.Prove(ctx, log); err != nil {
		return nil, "", err
	}
	if len(list) == 0 {
		return nil, "", errors.New("there are no variants in use: `terastal variants design` makes them")
	}
	_, path, err = v.replan(ctx)
	return list, path, err
}

// usedIn counts the combinations that a run's requests of a model used, and says what was promised of their mean
// accuracy; nothing without a log.
func usedIn(log *eventlog.Log, v *plan.Variants) (used map[sched.VariantSet]int, floor float64, err error) {
	if log == nil {
		return nil, 0, nil
	}
	sys := &log.Header.System
	m := slices.IndexFunc(sys.Models, func(x sched.Model) bool { return x.Name == v.Model })
	if m < 0 {
		return nil, 0, fmt.Errorf("the log is of a run without model %q", v.Model)
	}
	var names []string
	for _, l := range sys.Models[m].Layers {
		for _, im := range l.Implementations[1:] {
			names = append(names, im.Name)
		}
	}
	if !slices.EqualFunc(names, v.Chosen, func(name string, c plan.Variant) bool { return name == c.Name }) {
		return nil, 0, fmt.Errorf("the log is of a run with other variants of model %q", v.Model)
	}
	return log.Combinations()[m], sys.Models[m].Floor, nil
}

package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"

	"github.com/terastal/terastal/cmd/terastal/internal/config"
	"github.com/terastal/terastal/internal/document"
	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/models/dataset"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/eventlog"
	"github.com/terastal/terastal/sched/plan"
	"github.com/terastal/terastal/variants"
)

// variantFile is a variant that a worker loads.
type variantFile struct {
	Layer  int    `json:"layer"`
	Name   string `json:"name"` // of the unit
	Path   string `json:"path"`
	SHA256 string `json:"sha256"`
}

// units loads variants as implementations of layers.
func units(layers []models.Layer, files []variantFile) (map[int][]runtime.Unit, error) {
	out := map[int][]runtime.Unit{}
	for _, f := range files {
		data, err := os.ReadFile(f.Path)
		if err != nil {
			return nil, fmt.Errorf("variant: %w", err)
		}
		if variants.SHA256(data) != f.SHA256 {
			return nil, fmt.Errorf("variant %s: %w: its SHA-256 is not the plan's", f.Path, document.ErrDamaged)
		}
		if f.Layer < 0 || f.Layer >= len(layers) {
			return nil, fmt.Errorf("variant %s is of layer %d, the model has %d", f.Path, f.Layer, len(layers))
		}
		u := variants.NewUnit(&layers[f.Layer], "", data)
		u.Name = f.Name
		out[f.Layer] = append(out[f.Layer], u)
	}
	return out, nil
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
	for _, v := range p.Variants {
		m := slices.IndexFunc(f.Config.Models, func(mc config.Model) bool { return mc.Name == v.Model })
		v.Off = m < 0 || !f.Config.Models[m].UsesVariants()
		if !v.Off && (v.SHA256 != f.Networks[m].Model.SHA256() || v.Granularity != f.Config.Models[m].Granularity) {
			f.opts.Note("model %q: its variants in %s are for another model or granularity; `terastal variants design` makes new ones", v.Model, f.PlanPath())
			v.Off = true
		}
		if v.Off {
			f.unused = append(f.unused, v)
			continue
		}
		if err := f.use(m, v); err != nil {
			return fmt.Errorf("model %q: %w: design its variants again or set `variants: off`", v.Model, err)
		}
	}
	return nil
}

// use makes a model's chosen variants its implementations.
func (f *Flow) use(m int, v plan.Variants) error {
	var files []variantFile
	for _, c := range v.Chosen {
		if !filepath.IsLocal(c.File) {
			return fmt.Errorf("variant %s leads outside the plan's folder", c.File)
		}
		path, err := filepath.Abs(filepath.Join(f.Config.Out, c.File))
		if err != nil {
			return err
		}
		files = append(files, variantFile{c.Layer, c.Name, path, c.SHA256})
	}
	us, err := units(f.Networks[m].Layers, files)
	if err != nil {
		return err
	}
	f.Networks[m].Variants, f.sources[m].Variants = us, files
	if f.known == nil {
		f.known = map[int]plan.Variants{}
	}
	v.Theta = f.Config.Models[m].Theta // may have changed since
	f.known[m] = v
	delete(f.stale, m)
	proven, err := f.provenHere(&v, us)
	if err != nil {
		return err
	}
	if !proven {
		f.unproven(m)
	}
	f.unused = slices.DeleteFunc(f.unused, func(old plan.Variants) bool { return old.Model == v.Model })
	return nil
}

// unproven has Plan refuse a model's variants until they are proven.
func (f *Flow) unproven(m int) {
	if f.stale == nil {
		f.stale = map[int]bool{}
	}
	f.stale[m] = true
}

// WithoutVariants drops the variants that Open found.
func (f *Flow) WithoutVariants() {
	for m := range f.Networks {
		f.Networks[m].Variants, f.sources[m].Variants = nil, nil
	}
	f.known, f.stale = nil, nil
}

// allow tells the scheduler which combinations it may use.
func (f *Flow) allow(s *sched.System) {
	for m, v := range f.known {
		proof(&v).Allow(&s.Models[m], v.Theta)
	}
}

func proof(v *plan.Variants) *variants.Proof {
	return &variants.Proof{Metric: v.Metric, Requests: v.Requests, Baseline: v.Baseline, Sets: v.Sets, Accuracy: v.Accuracy, Exhaustive: v.Exhaustive, Loss: v.Loss}
}

// prove measures accuracy, on labelled data where there are any.
func (d *designer) prove(ctx context.Context, m int, list []variants.Chosen, verify []sched.VariantSet,
	progress func(float64)) (*variants.Proof, string, error) {
	n, mc := d.Networks[m], &d.Config.Models[m]
	data, source, err := d.judged(m)
	if err != nil {
		return nil, "", err
	}
	if mc.Labelled.Source == "" {
		d.note(m, "there is no labelled data: accuracy is how far the model with variants agrees with the one without, on the calibration inputs")
	}
	metric, err := metric(mc.Metric, n, data.Labelled())
	if err != nil {
		return nil, "", fmt.Errorf("model %q: %w", n.Name, err)
	}
	o := variants.ProveOptions{Verify: verify, Workers: d.workers, Progress: progress}
	p, err := variants.Prove(ctx, n, list, data, metric, o)
	return p, source, err
}

// proveOne is prove for one model at a time: on all cores, with a meter.
func (d *designer) proveOne(ctx context.Context, m int, list []variants.Chosen,
	verify []sched.VariantSet) (*variants.Proof, string, error) {
	meter := d.opts.Progress("proving " + d.Networks[m].Name)
	defer meter.Done()
	d.workers = goruntime.NumCPU()
	return d.prove(ctx, m, list, verify, meter.Set)
}

// metric is the one of this name, or one that suits.
func metric(name string, n *runtime.Network, labelled bool) (variants.Metric, error) {
	out := n.Model.Outputs()
	classes := len(out) == 1 && out[0].Elements() > 1 && out[0].Elements() == out[0].Shape[len(out[0].Shape)-1]
	switch {
	case strings.HasPrefix(name, "top-") && !labelled:
		return variants.Metric{}, fmt.Errorf("%w: metric %s needs labels: name them under labelled", config.ErrInvalid, name)
	case name == "top-5":
		return variants.Top(5), nil
	case name == "top-1", name == "" && labelled:
		return variants.Top(1), nil
	case name == "agreement", name == "" && classes:
		return variants.Agreement(), nil
	}
	return variants.Fidelity(), nil
}

// How many inputs are used unless the configuration says.
const (
	defaultCalibration = 500
	defaultLabelled    = 1000
)

// data opens data of a model, at most count unless the configuration says how
// many.
func (f *Flow) data(m int, c config.Data, count int) (*dataset.Set, error) {
	if c.Source == "" {
		return nil, fmt.Errorf("%w: there is none: name it in the configuration (source: random fits to random inputs, which says little)", config.ErrInvalid)
	}
	s := dataset.Spec{Source: c.Source, Labels: c.Labels, First: c.First, Count: c.Count, Pixels: dataset.Pixels(f.Config.Models[m].Pixels)}
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
	d := &designer{Flow: f, notes: make([][]string, len(f.Networks))}
	var out []Accuracy
	for m := range f.Networks {
		v, ok := f.known[m]
		if !ok || len(v.Chosen) == 0 {
			continue
		}
		used, err := usedIn(log, &v)
		if err != nil {
			return nil, err
		}
		p, err := d.proveAgain(ctx, m, slices.Sorted(maps.Keys(used)))
		if err != nil {
			return nil, err
		}
		a := Accuracy{Variants: f.known[m]}
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

// unitOf is the i-th chosen variant of a model.
func (f *Flow) unitOf(m, i int) runtime.Unit {
	for _, l := range slices.Sorted(maps.Keys(f.Networks[m].Variants)) {
		us := f.Networks[m].Variants[l]
		if i < len(us) {
			return us[i]
		}
		i -= len(us)
	}
	return runtime.Unit{}
}

// workerOf starts the worker of an accelerator for these models.
func (f *Flow) workerOf(index int, sources []source) (profiler.Conn, error) {
	cmd, err := f.opts.Worker()
	if err != nil {
		return nil, err
	}
	line, err := json.Marshal(job{Library: f.ORT.Path, Specs: f.Specs, Index: index, Table: f.emulations[index], Local: f.Specs[index].Local, Models: sources, Seed: f.Config.Traffic.Seed})
	if err != nil {
		return nil, err
	}
	c, err := profiler.Start(cmd)
	if err != nil {
		return nil, err
	}
	// A worker that is gone already says why when it is asked.
	c.Write(append(line, '\n'))
	return c, nil
}

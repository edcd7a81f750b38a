package design

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/terastal/terastal/internal/document"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/plan"
	"github.com/terastal/terastal/variants"
	"github.com/terastal/terastal/variants/accuracy"
)

// Designer designs, adds and proves variants of networks, and knows which are in
// use. Its methods are called one at a time.
type Designer struct {
	// Models are in the order of profiles and task systems.
	Models []*Model
	// Accelerators are what variants are for, in the same order as there.
	Accelerators []runtime.Spec
	// Arithmetic is what becomes of 8-bit products on this processor. Empty, it
	// is tried when it is needed, for which ONNX Runtime has to be started.
	Arithmetic variants.Arithmetic
	// Device names the graphics processors that variants of lower precision are computed on. Empty, the machine is asked.
	Device string
	// Open opens an accelerator to compute such variants on; nil is runtime.OpenORT.
	Open func(runtime.Spec) (runtime.Accelerator, error)
	// Progress, if not nil, is called with what is going on and the share of it that is done, 0 to 1, from any goroutine.
	Progress func(what string, share float64)
	// Note, if not nil, is called with what people should know, one line each.
	Note func(format string, args ...any)

	unused []plan.Variants        // of an earlier plan
	on     *variants.Accelerators // while something may be computed
}

// Model is a network that variants are for, and what they are fitted to and judged by.
type Model struct {
	// Network is split into layers. Its variants are those in use: set them through the designer.
	Network *runtime.Network
	// Theta is the least share of the accuracy that a combination of variants has to keep.
	Theta float64
	// Floor is the least mean of that share over requests. Between 0 and 1, variants are designed for capacity.
	Floor float64
	// Off is true where no variants are to be used.
	Off bool
	// Calibration is what variants are fitted to. Labelled is what accuracy is
	// measured on; without labelled data it is measured on Calibration.
	Calibration, Labelled Data
	// Metric is how outputs are judged; nil for what suits, see [accuracy.Named].
	Metric func(labelled bool) (accuracy.Metric, error)
	// InUse is what documents say about the variants in use; nil without any.
	InUse *plan.Variants

	stale string // why the variants may not be used; empty where they may
}

// Data is where inputs of a model come from.
type Data struct {
	// Source is the name that documents give it; empty without data.
	Source string
	// Open opens them. Without data it may be nil, or return an error that says what to do.
	Open func() (accuracy.Data, error)
}

// ErrNoData is wrapped by the error about a model that has no inputs to fit to or to judge by.
var ErrNoData = errors.New("no data")

// calibration opens the inputs that variants are fitted to.
func (m *Model) calibration() (accuracy.Data, error) {
	data, err := m.Calibration.open()
	if err != nil {
		return nil, fmt.Errorf("model %q: calibration: %w", m.Network.Name, err)
	}
	return data, nil
}

func (d *Data) open() (accuracy.Data, error) {
	if d.Open == nil {
		return nil, ErrNoData
	}
	return d.Open()
}

func (d *Designer) note(format string, args ...any) {
	if d.Note != nil {
		d.Note(format, args...)
	}
}

// progress is how one piece of work says what share of it is done.
func (d *Designer) progress(what string) func(float64) {
	return func(share float64) {
		if d.Progress != nil {
			d.Progress(what, share)
		}
	}
}

// accelerators are their names.
func (d *Designer) accelerators() (names []string) {
	for _, s := range d.Accelerators {
		names = append(names, s.Name)
	}
	return names
}

// Use makes the variants of an earlier plan those in use. read reads files that the plan names. What the plan has for
// models that are off, not there or split in another way is kept for [Designer.Documents]. misfits names the models
// whose variants are for another model or split.
func (d *Designer) Use(list []plan.Variants, read func(file string) ([]byte, error)) (misfits []string, err error) {
	for _, v := range list {
		i := slices.IndexFunc(d.Models, func(m *Model) bool { return m.Network.Name == v.Model })
		v.Off = i < 0 || d.Models[i].Off
		if !v.Off && !d.Models[i].fits(&v) {
			misfits, v.Off = append(misfits, v.Model), true
		}
		if v.Off {
			d.unused = append(d.unused, v)
			continue
		}
		if err := d.Models[i].attach(v.Chosen, read); err != nil {
			return misfits, fmt.Errorf("model %q: %w", v.Model, err)
		}
		if err := d.use(d.Models[i], v); err != nil {
			return misfits, fmt.Errorf("model %q: %w", v.Model, err)
		}
	}
	return misfits, nil
}

// fits reports whether variants are for the model as it is.
func (m *Model) fits(v *plan.Variants) bool {
	return v.SHA256 == m.Network.Model.SHA256() && v.Granularity == m.Network.Granularity
}

// attach reads variants from files in the plan's folder.
func (m *Model) attach(list []plan.Variant, read func(file string) ([]byte, error)) error {
	return m.Network.Attach(list, func(file string) ([]byte, error) {
		if !filepath.IsLocal(file) {
			return nil, fmt.Errorf("%s leads outside the plan's folder", file)
		}
		return read(file)
	})
}

// use records that the network's variants are these.
func (d *Designer) use(m *Model, v plan.Variants) error {
	v.Theta = m.Theta // may have changed since
	m.InUse = &v
	d.unused = slices.DeleteFunc(d.unused, func(old plan.Variants) bool { return old.Model == v.Model })
	var err error
	m.stale, err = d.whyStale(m)
	return err
}

// FittedFile describes a folder of variants that were fitted elsewhere.
const FittedFile = "variants.json"

// Take makes variants that were fitted elsewhere a model's, in place of those that it has. They are unproven until
// [Designer.Prove] has measured their accuracy here.
func (d *Designer) Take(m *Model, from fs.FS) error {
	fail := func(err error) error { return fmt.Errorf("model %q: fitted variants: %w", m.Network.Name, err) }
	data, err := fs.ReadFile(from, FittedFile)
	if err != nil {
		return fail(err)
	}
	var v plan.Variants
	if err := json.Unmarshal(data, &v); err != nil {
		return fail(err)
	}
	if !m.fits(&v) {
		return fail(fmt.Errorf("they are for another model, or granularity %q", v.Granularity))
	}
	if err := m.attach(v.Chosen, func(file string) ([]byte, error) { return fs.ReadFile(from, file) }); err != nil {
		return fail(err)
	}
	v.Model, v.Accelerators = m.Network.Name, nil
	for i := range v.Chosen {
		if c := &v.Chosen[i]; c.File != "" {
			c.File = m.file(filepath.Base(c.File))
		}
	}
	if err := d.use(m, v); err != nil {
		return fail(err)
	}
	m.stale = cmp.Or(m.stale, "its variants are not proven")
	return nil
}

// file is where a variant of the model lies, relative to the plan.
func (m *Model) file(name string) string { return filepath.Join("variants", m.Network.Name, name) }

// Clear stops using all variants.
func (d *Designer) Clear() {
	for _, m := range d.Models {
		m.Network.Variants, m.InUse, m.stale = nil, nil, ""
	}
}

// LeaveOut stops using a model's variants; they stay in the documents.
func (d *Designer) LeaveOut(m *Model) {
	v := *m.InUse
	v.Off = true
	d.unused = append(d.unused, v)
	m.Network.Variants, m.InUse, m.stale = nil, nil, ""
}

// Allow puts the combinations of variants that may run into the task system.
func (d *Designer) Allow(s *sched.System) {
	for i, m := range d.Models {
		if m.InUse != nil {
			m.InUse.Allow(&s.Models[i], m.Theta)
		}
	}
}

// Documents are the variants in use and those kept for later, as plans hold them. Variants that were fitted elsewhere
// get their latencies from the profile.
func (d *Designer) Documents(p *profiler.Profile) (list []plan.Variants) {
	for i, m := range d.Models {
		if m.InUse == nil {
			continue
		}
		v := *m.InUse
		if v.Accelerators == nil {
			d.timed(&v, p, i)
		}
		list = append(list, v)
	}
	return append(list, d.unused...)
}

// timed fills in what variants of the model with this number in the profile take.
func (d *Designer) timed(v *plan.Variants, p *profiler.Profile, model int) {
	v.Accelerators, v.Chosen = d.accelerators(), slices.Clone(v.Chosen)
	for i := range v.Chosen {
		c := &v.Chosen[i]
		first := slices.IndexFunc(v.Chosen, func(x plan.Variant) bool { return x.Layer == c.Layer })
		c.Original, c.Latency = p.Medians(model, c.Layer, 0), p.Medians(model, c.Layer, 1+i-first)
		c.Wanted = nil
		for k, name := range v.Accelerators {
			if c.Gain(k) > 1 {
				c.Wanted = append(c.Wanted, name)
			}
		}
	}
}

// Save writes the files of the variants in use to a plan's folder.
func (d *Designer) Save(folder string) error {
	for _, m := range d.Models {
		if m.InUse == nil {
			continue
		}
		for _, c := range m.chosen() {
			if c.File == "" {
				continue // the layer's own model
			}
			if !filepath.IsLocal(c.File) {
				return fmt.Errorf("model %q: its name cannot be a folder's", m.Network.Name)
			}
			data, err := c.ONNX()
			if err != nil {
				return err
			}
			path := filepath.Join(folder, c.File)
			if old, err := os.ReadFile(path); err == nil && variants.SHA256(old) == c.SHA256 {
				continue
			}
			if err := document.WriteFile(path, data); err != nil {
				return err
			}
		}
	}
	return nil
}

// chosen are the variants in use with their models, in the order in which the scheduler numbers them.
func (m *Model) chosen() (list []*variants.Candidate) {
	if m.InUse == nil {
		return nil
	}
	var units []runtime.Unit
	for _, l := range slices.Sorted(maps.Keys(m.Network.Variants)) {
		units = append(units, m.Network.Variants[l]...)
	}
	for i, v := range m.InUse.Chosen {
		list = append(list, variants.Loaded(&m.Network.Layers[v.Layer], v, units[i].ONNX))
	}
	return list
}

// with is the network with other variants, in order of layers.
func (m *Model) with(list []*variants.Candidate) (*runtime.Network, error) {
	n := *m.Network
	n.Variants = map[int][]runtime.Unit{}
	for _, c := range list {
		u, err := c.Unit()
		if err != nil {
			return nil, err
		}
		n.Variants[c.Layer] = append(n.Variants[c.Layer], u)
	}
	return &n, nil
}

// document is a model's part of the plan, without variants yet.
func (d *Designer) document(m *Model) plan.Variants {
	n := m.Network
	return plan.Variants{Model: n.Name, SHA256: n.Model.SHA256(), Granularity: m.Network.Granularity, Theta: m.Theta,
		Accelerators: d.accelerators(), Bytes: 4 * n.Model.Parameters(), Chosen: []plan.Variant{}}
}

// current is a model's part of the plan as it is.
func (d *Designer) current(m *Model) plan.Variants {
	if m.InUse != nil {
		return *m.InUse
	}
	return d.document(m)
}

// record puts variants and their proof into a model's part of the plan. Variants that have no file yet get one.
func (m *Model) record(v *plan.Variants, list []*variants.Candidate, p *plan.Proof) error {
	v.Proof, v.Chosen = *p, []plan.Variant{}
	for i, c := range list {
		if c.File == "" {
			if err := m.name(c); err != nil {
				return err
			}
		}
		c.Alone, _ = p.Of(1 << i)
		v.Chosen = append(v.Chosen, c.Variant)
	}
	return nil
}

// name says what a variant is called and where it will lie. One that is the layer's own model has no file.
func (m *Model) name(c *variants.Candidate) error {
	u, err := c.Unit()
	if err != nil {
		return err
	}
	if c.Name = u.Name; u.ONNX == nil {
		c.SHA256 = m.Network.Layers[c.Layer].SHA256
		return nil
	}
	c.SHA256 = variants.SHA256(u.ONNX)
	c.File = m.file(fmt.Sprintf("%03d-%s-%s.onnx", c.Layer, c.Family, c.SHA256[:8]))
	return nil
}

// Bench is where a design measures: the machine's accelerators, as a rule in processes that may crash.
type Bench interface {
	// Originals is a profile of all models without variants, and the tables with budgets that follow from it.
	Originals(ctx context.Context) (*profiler.Profile, *sched.Tables, error)
	// Measure profiles networks with their variants, which are models of the
	// designer by name. enough may be nil; it is [profiler.Options.Enough].
	Measure(ctx context.Context, networks []*runtime.Network, enough Enough) (*profiler.Profile, error)
}

// Enough reports whether an implementation need not be timed any more, by index.
type Enough func(model, layer, implementation, accelerator int, times []time.Duration) bool

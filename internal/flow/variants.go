package flow

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
	"strings"
	"time"

	"github.com/terastal/terastal/internal/config"
	"github.com/terastal/terastal/internal/dataset"
	"github.com/terastal/terastal/internal/document"
	"github.com/terastal/terastal/models"
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
	f.unused = slices.DeleteFunc(f.unused, func(old plan.Variants) bool { return old.Model == v.Model })
	return nil
}

// WithoutVariants drops the variants that Open found.
func (f *Flow) WithoutVariants() {
	for m := range f.Networks {
		f.Networks[m].Variants, f.sources[m].Variants = nil, nil
	}
	f.known = nil
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

// DesignOptions say what variants are wanted.
type DesignOptions struct {
	// Speedup is how much faster than the original a variant has to be at
	// least; 0 leaves it to the budgets.
	Speedup float64
	// All designs variants for every layer on every accelerator where the
	// original takes longer than on the fastest, not only where a budget is
	// missed; unless Speedup says otherwise, to be as fast there as the original
	// on the fastest, which is the published rule for gamma.
	All bool
	// Families are those to consider; empty for all.
	Families []string
	// MaxLoss is how much of the accuracy a variant may cost alone, Together how
	// much all chosen ones may, both at most 1-theta. What costs more is left
	// out, the worst first.
	MaxLoss, Together float64
}

// Design measures, fits and proves variants for the configured models, writes
// them beside the plan, and makes them the models' implementations. What fails
// for one layer or model is noted; the rest goes on. Variants that users added
// stay, and are proven together with the new ones.
func (f *Flow) Design(ctx context.Context, o DesignOptions) error {
	added, err := f.added()
	if err != nil {
		return err
	}
	f.WithoutVariants()
	folder := filepath.Join(f.Config.Out, "variants")
	if err := f.EnsureProfile(ctx, filepath.Join(folder, "originals.profile.json"), false); err != nil {
		return err
	}
	if err := f.Plan(); err != nil {
		return err
	}
	d := &designer{Flow: f, o: o, folder: folder, notes: make([][]string, len(f.Networks))}
	d.targets()
	failed := func(m int, err error) *plan.Variants {
		f.opts.Note("no variants: %v", err)
		d.note(m, "%v", err)
		return d.document(m)
	}
	for m, n := range f.Networks {
		if len(d.wanted[m]) == 0 {
			continue
		}
		// Before anything is measured for it.
		if _, err := f.data(m, f.Config.Models[m].Calibration, defaultCalibration); err != nil {
			clear(d.wanted[m])
			if err := f.use(m, *failed(m, fmt.Errorf("model %q: calibration: %w", n.Name, err))); err != nil {
				return err
			}
		}
	}
	if err := d.measure(ctx); err != nil {
		return err
	}
	for m := range f.Networks {
		if len(d.wanted[m]) == 0 {
			continue
		}
		v, err := d.model(ctx, m)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			v = failed(m, err)
		}
		if err := f.use(m, *v); err != nil {
			return err
		}
	}
	return d.restore(ctx, added)
}

// designer is one design under way.
type designer struct {
	*Flow
	o          DesignOptions
	folder     string
	wanted     []map[int]map[int]float64       // by model, layer and accelerator: the speed-up
	candidates []map[int][]*variants.Candidate // by model and layer
	originals  []map[int][]time.Duration       // by model, layer and accelerator
	notes      [][]string
}

func (d *designer) note(m int, format string, args ...any) {
	d.notes[m] = append(d.notes[m], fmt.Sprintf(format, args...))
}

// targets finds where variants are wanted.
func (d *designer) targets() {
	sys := d.Tables.System()
	for range d.Networks {
		d.wanted = append(d.wanted, map[int]map[int]float64{})
	}
	want := func(m, l, k int, speedup float64) {
		if !d.Config.Models[m].UsesVariants() {
			return
		}
		if d.wanted[m][l] == nil {
			d.wanted[m][l] = map[int]float64{}
		}
		d.wanted[m][l][k] = max(d.wanted[m][l][k], speedup, d.o.Speedup)
	}
	for _, t := range variants.Targets(d.Tables) {
		want(t.Model, t.Layer, t.Accelerator, t.Speedup())
	}
	if !d.o.All {
		return
	}
	for m := range sys.Models {
		for l := range sys.Models[m].Layers {
			c := sys.Models[m].Layers[l].Implementations[0].Latency
			least := time.Duration(0)
			for _, x := range c {
				if x != sched.Unavailable && (least == 0 || x < least) {
					least = x
				}
			}
			for k, x := range c {
				if x == sched.Unavailable || x <= least {
					continue
				}
				speedup := d.o.Speedup
				if speedup == 0 { // as fast as the original where it is fastest
					speedup = float64(x) / float64(least)
				}
				want(m, l, k, speedup)
			}
		}
	}
}

// measure times all candidates on all accelerators, beside the originals.
func (d *designer) measure(ctx context.Context) error {
	folder, err := os.MkdirTemp("", "terastal-candidates-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	cpu := !slices.ContainsFunc(d.Specs, func(s runtime.Spec) bool { return !s.CPU() })
	var networks []*runtime.Network
	var sources []source
	var granularity []string
	var index []int
	for m, n := range d.Networks {
		d.candidates, d.originals = append(d.candidates, map[int][]*variants.Candidate{}), append(d.originals, map[int][]time.Duration{})
		if len(d.wanted[m]) == 0 {
			continue
		}
		one, s := *n, d.sources[m]
		for _, l := range slices.Sorted(maps.Keys(d.wanted[m])) {
			list, notes := variants.Candidates(&n.Layers[l], cpu)
			for _, err := range notes {
				if len(list) == 0 { // else some family applies
					d.note(m, "%v", err)
				}
			}
			list = slices.DeleteFunc(list, func(c *variants.Candidate) bool {
				return len(d.o.Families) > 0 && !slices.Contains(d.o.Families, c.Family)
			})
			for i, c := range list {
				data, err := c.ONNX()
				if err != nil {
					return err
				}
				path := filepath.Join(folder, fmt.Sprintf("%d-%d-%d.onnx", m, l, i))
				if err := os.WriteFile(path, data, 0o600); err != nil {
					return err
				}
				s.Variants = append(s.Variants, variantFile{l, fmt.Sprintf("%s %d", c.Name(), i), path, variants.SHA256(data)})
			}
			if len(list) > 0 {
				d.candidates[m][l] = list
			}
		}
		if len(s.Variants) == 0 {
			continue
		}
		if one.Variants, err = units(one.Layers, s.Variants); err != nil {
			return err
		}
		networks, sources, granularity, index = append(networks, &one), append(sources, s), append(granularity, d.Config.Models[m].Granularity), append(index, m)
	}
	if len(networks) == 0 {
		return nil
	}
	p, err := d.measured(ctx, profiler.Task{Specs: d.Specs, Networks: networks, Granularity: granularity,
		Start: func(k int) (profiler.Conn, error) { return d.workerOf(k, sources) }}, "")
	if err != nil {
		return err
	}
	if err := p.Write(filepath.Join(d.folder, "candidates.profile.json")); err != nil {
		return err
	}
	for i := range p.Cells {
		c := &p.Cells[i]
		m := index[c.Model]
		if c.Implementation == 0 {
			if d.originals[m][c.Layer] == nil {
				d.originals[m][c.Layer] = make([]time.Duration, len(d.Specs))
			}
			d.originals[m][c.Layer][c.Accelerator] = c.P50
			continue
		}
		x := d.candidates[m][c.Layer][c.Implementation-1]
		if x.Latency == nil {
			x.Latency = make([]time.Duration, len(d.Specs))
		}
		x.Latency[c.Accelerator] = c.P50
		if c.Refused != "" && d.wanted[m][c.Layer][c.Accelerator] > 0 {
			d.note(m, "layer %q: %s refuses %s: %s", d.Networks[m].Layers[c.Layer].Name, d.Specs[c.Accelerator].Name, x.Name(), c.Refused)
		}
	}
	return nil
}

// document is a model's part of the plan, without variants yet.
func (d *designer) document(m int) *plan.Variants {
	n, mc := d.Networks[m], &d.Config.Models[m]
	v := &plan.Variants{Model: n.Name, SHA256: n.Model.SHA256(), Granularity: mc.Granularity, Theta: mc.Theta, Bytes: 4 * n.Model.Parameters(), Notes: d.notes[m], Chosen: []plan.Variant{}}
	for _, s := range d.Specs {
		v.Accelerators = append(v.Accelerators, s.Name)
	}
	return v
}

// adoptable is the largest error of a variant that the layers behind are fitted
// to. One above will hardly pass the proof, and what it makes of the activations
// would spoil the fits of all that come after it.
const adoptable = 0.3

// model fits the candidates of a model, chooses, and proves.
func (d *designer) model(ctx context.Context, m int) (*plan.Variants, error) {
	n := d.Networks[m]
	data, err := d.data(m, d.Config.Models[m].Calibration, defaultCalibration)
	if err != nil {
		return nil, fmt.Errorf("model %q: calibration: %w", n.Name, err)
	}
	fitter, err := variants.NewFitter(n, data)
	if err != nil {
		return nil, err
	}
	defer fitter.Close()
	var chosen []*variants.Candidate
	frontier := map[*variants.Candidate]bool{}
	wanted := map[*variants.Candidate][]string{}
	meter := d.opts.Progress("fitting " + n.Name)
	layers := slices.Sorted(maps.Keys(d.candidates[m]))
	for i, l := range layers {
		list := d.worthFitting(m, l)
		err := fitter.Fit(ctx, l, list, func(share float64) { meter.Set((float64(i) + share) / float64(len(layers))) })
		if ctx.Err() != nil {
			meter.Done()
			return nil, ctx.Err()
		}
		if err != nil {
			d.note(m, "%v", err)
			for _, c := range list {
				c.Refused = err
			}
			continue
		}
		var here []*variants.Candidate
		for _, k := range slices.Sorted(maps.Keys(d.wanted[m][l])) {
			speedup := d.wanted[m][l][k]
			for _, c := range variants.Frontier(list, k) {
				frontier[c] = true
			}
			original := d.originals[m][l][k]
			c := variants.Choose(list, k, time.Duration(float64(original)/speedup))
			if c == nil {
				d.note(m, "layer %q on %s: no candidate is %.2fx as fast as the original and keeps what its fit promised", n.Layers[l].Name, d.Specs[k].Name, speedup)
				continue
			}
			wanted[c] = append(wanted[c], d.Specs[k].Name)
			if !slices.Contains(here, c) {
				here = append(here, c)
			}
		}
		slices.SortFunc(here, func(a, b *variants.Candidate) int { return cmp.Compare(b.Error, a.Error) })
		if len(here) > 0 && here[0].Error <= adoptable { // those behind are fitted to the worst
			if err := fitter.Adopt(here[0]); err != nil {
				meter.Done()
				return nil, err
			}
		}
		chosen = append(chosen, here...)
	}
	meter.Done()
	return d.finish(ctx, m, chosen, frontier, wanted)
}

// worthFitting leaves out what is no faster than the original on any
// accelerator where it is wanted.
func (d *designer) worthFitting(m, l int) (list []*variants.Candidate) {
	for _, c := range d.candidates[m][l] {
		fast := false
		for k := range d.wanted[m][l] {
			fast = fast || k < len(c.Latency) && c.Latency[k] > 0 && c.Latency[k] < d.originals[m][l][k]
		}
		if !fast {
			c.Refused = errSlow
			continue
		}
		list = append(list, c)
	}
	return list
}

var errSlow = errors.New("it is no faster than the original where a variant is wanted")

// finish proves the chosen variants and writes them.
func (d *designer) finish(ctx context.Context, m int, chosen []*variants.Candidate, frontier map[*variants.Candidate]bool, wanted map[*variants.Candidate][]string) (*plan.Variants, error) {
	n, mc := d.Networks[m], &d.Config.Models[m]
	if len(chosen) > sched.MaxBoundedVariants {
		d.note(m, "%d variants were chosen, at most %d can be used: those of the last layers are left out", len(chosen), sched.MaxBoundedVariants)
		chosen = chosen[:sched.MaxBoundedVariants]
	}
	var list []variants.Chosen
	for _, c := range chosen {
		data, err := c.ONNX()
		if err != nil {
			return nil, err
		}
		list = append(list, variants.Chosen{Layer: c.Layer, Name: c.Name(), ONNX: data})
	}
	v := d.document(m)
	if len(list) > 0 {
		proof, what, err := d.prove(ctx, m, list, nil)
		if err != nil {
			return nil, err
		}
		drop := map[int]bool{}
		for i, c := range chosen {
			if c.Accuracy, _ = proof.Of(1 << i); c.Accuracy < max(mc.Theta, 1-d.o.MaxLoss) {
				c.Refused = fmt.Errorf("alone it leaves %.4f of the %s", c.Accuracy, proof.Metric)
				drop[i] = true
			}
		}
		for i, together := range proof.Prune(drop, len(chosen), max(mc.Theta, 1-d.o.Together)) {
			chosen[i].Refused = fmt.Errorf("with it, the variants together leave %.4f of the %s", together, proof.Metric)
			drop[i] = true
		}
		for i, c := range chosen {
			if drop[i] {
				d.note(m, "layer %q: %s is not used: %v", n.Layers[c.Layer].Name, c.Name(), c.Refused)
			}
		}
		proof = proof.Without(drop, len(chosen))
		v.Metric, v.Data, v.Requests, v.Baseline = proof.Metric, what, proof.Requests, proof.Baseline
		v.Sets, v.Accuracy, v.Exhaustive, v.Loss = proof.Sets, proof.Accuracy, proof.Exhaustive, proof.Loss
		for i, c := range chosen {
			if drop[i] {
				continue
			}
			x := d.variant(m, c, frontier, wanted)
			x.SHA256 = variants.SHA256(list[i].ONNX)
			x.Name = variants.NewUnit(&n.Layers[c.Layer], c.Name(), list[i].ONNX).Name
			x.File = filepath.Join("variants", n.Name, fmt.Sprintf("%03d-%s-%s.onnx", c.Layer, c.Family, x.SHA256[:8]))
			if err := document.WriteFile(filepath.Join(d.Config.Out, x.File), list[i].ONNX); err != nil {
				return nil, err
			}
			v.Chosen = append(v.Chosen, x)
		}
	}
	for _, l := range slices.Sorted(maps.Keys(d.candidates[m])) {
		for _, c := range d.candidates[m][l] {
			v.Candidates = append(v.Candidates, d.variant(m, c, frontier, wanted))
		}
	}
	v.Notes = d.notes[m]
	return v, nil
}

func (d *designer) variant(m int, c *variants.Candidate, frontier map[*variants.Candidate]bool, wanted map[*variants.Candidate][]string) plan.Variant {
	x := plan.Variant{Layer: c.Layer, LayerName: d.Networks[m].Layers[c.Layer].Name, Family: c.Family, Parameters: c.Parameters, Bytes: c.Bytes, MACs: c.MACs,
		Promise: c.Promise, Error: c.Error, Alone: c.Accuracy, Latency: c.Latency, Original: d.originals[m][c.Layer], Wanted: wanted[c], Frontier: frontier[c]}
	if c.Refused != nil {
		x.Refused = c.Refused.Error()
	}
	return x
}

// prove measures accuracy, on labelled data where there are any.
func (d *designer) prove(ctx context.Context, m int, list []variants.Chosen, verify []sched.VariantSet) (*variants.Proof, string, error) {
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
	meter := d.opts.Progress("proving " + n.Name)
	defer meter.Done()
	p, err := variants.Prove(ctx, n, list, data, metric, verify, meter.Set)
	return p, source, err
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
		var list []variants.Chosen
		for i, c := range v.Chosen {
			list = append(list, variants.Chosen{Layer: c.Layer, Name: c.Name, ONNX: f.unitOf(m, i).ONNX})
		}
		used, err := usedIn(log, &v)
		if err != nil {
			return nil, err
		}
		p, what, err := d.prove(ctx, m, list, slices.Sorted(maps.Keys(used)))
		if err != nil {
			return nil, err
		}
		v.Metric, v.Data, v.Requests, v.Baseline = p.Metric, what, p.Requests, p.Baseline
		v.Sets, v.Accuracy, v.Exhaustive, v.Loss = p.Sets, p.Accuracy, p.Exhaustive, p.Loss
		for i := range v.Chosen {
			v.Chosen[i].Alone, _ = p.Of(1 << i)
		}
		f.known[m] = v
		a := Accuracy{Variants: v}
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

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
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/terastal/terastal/cmd/terastal/internal/config"
	"github.com/terastal/terastal/internal/document"
	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/models/dataset"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/plan"
	"github.com/terastal/terastal/variants"
)

// AddOptions say which variant is added where.
type AddOptions struct {
	// Model is a model's name, Layer one of its layers by name or number.
	Model, Layer string
	// File is the ONNX model, relative to the current folder. It has to lie in
	// the folder that models are read from.
	File string
	// Name tells apart the variants added to a layer; empty for the file's.
	Name string
	// MaxLoss is how much of the accuracy the variant may cost alone, Together
	// how much all of the model's may cost, both at most 1-theta.
	MaxLoss, Together float64
}

// UnknownError is about a name that the user gave and that nothing has.
type UnknownError struct{ text string }

func (e UnknownError) Error() string { return e.text }

func unknown(format string, args ...any) error { return UnknownError{fmt.Sprintf(format, args...)} }

// Why a variant is not added.
var (
	ErrSlower = errors.New("it is faster than the original on no accelerator")
	ErrLoss   = errors.New("it costs too much accuracy")
)

// Add checks, proves and measures a variant that was made elsewhere, and writes
// it, the profile and the plan. When it is refused, nothing is written. It
// reports false, and writes nothing either, when the layer has this variant. One
// that was added under the same name before is replaced.
func (f *Flow) Add(ctx context.Context, o AddOptions) (bool, error) {
	if _, _, err := plan.Read(f.PlanPath()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("%w: the variants in it would be lost; move the file away to begin without them", err)
	}
	m, l, err := f.find(o.Model, o.Layer)
	if err != nil {
		return false, err
	}
	if err := f.ProveAgain(ctx); err != nil {
		return false, err
	}
	if _, err := f.Arithmetic(); err != nil {
		return false, err
	}
	d := &designer{Flow: f, notes: make([][]string, len(f.Networks))}
	d.o.MaxLoss, d.o.Together = o.MaxLoss, o.Together
	c, x, err := d.read(m, l, o)
	if err != nil {
		return false, err
	}
	f.realign(m)
	list := f.inUse(m)
	if slices.ContainsFunc(list, func(old implementation) bool { return old.Layer == l && old.SHA256 == x.SHA256 }) {
		return false, nil
	}
	list = slices.DeleteFunc(list, func(old implementation) bool { return old.sameName(&x) })
	if len(list) == sched.MaxBoundedVariants {
		return false, fmt.Errorf("model %q has %d variants in use, more are not possible", o.Model, len(list))
	}
	if err := d.compare(ctx, m, c); err != nil {
		return false, fmt.Errorf("%s: %w", o.File, err)
	}
	x.Error = c.Error
	list, at := insert(list, x)
	proof, what, err := d.together(ctx, m, list)
	if err == nil {
		err = d.affordable(m, proof, at, len(list))
	}
	if err != nil {
		return false, fmt.Errorf("%s: %w", o.File, err)
	}
	p, err := d.time(ctx, m, list, at)
	if err != nil {
		return false, fmt.Errorf("%s: %w", o.File, err)
	}
	v, known := f.known[m]
	if !known {
		v = *d.document(m)
	}
	v.Candidates = slices.DeleteFunc(slices.Clone(v.Candidates), func(old plan.Variant) bool {
		return (&implementation{Variant: old}).sameName(&x)
	})
	d.record(&v, list, proof, what)
	v.Candidates, v.Notes = ordered(v.Candidates, v.Chosen[at]), merged(v.Notes, d.notes[m])
	return true, d.commit(m, v, &list[at], p)
}

// implementation is a variant in use and its ONNX model.
type implementation struct {
	plan.Variant
	onnx []byte
}

func isAdded(x plan.Variant) bool { return x.Family == variants.Added }

// sameName tells whether two variants were added under one name.
func (x *implementation) sameName(other *implementation) bool {
	return isAdded(x.Variant) && isAdded(other.Variant) && x.Layer == other.Layer && x.Parameters == other.Parameters
}

// inUse lists the variants that a model has.
func (f *Flow) inUse(m int) (list []implementation) {
	for i, c := range f.known[m].Chosen {
		list = append(list, implementation{c, f.unitOf(m, i).ONNX})
	}
	return list
}

// realign gives the latencies of a model's variants the columns of the
// accelerators that there are now, which may be others than in the plan.
func (f *Flow) realign(m int) {
	v, known := f.known[m]
	var names []string
	for _, s := range f.Specs {
		names = append(names, s.Name)
	}
	if !known || slices.Equal(v.Accelerators, names) {
		return
	}
	columns := func(old []time.Duration) []time.Duration {
		out := make([]time.Duration, len(names))
		for k, name := range names {
			if i := slices.Index(v.Accelerators, name); i >= 0 && i < len(old) {
				out[k] = old[i]
			}
		}
		return out
	}
	for _, list := range []*[]plan.Variant{&v.Chosen, &v.Candidates} {
		*list = slices.Clone(*list)
		for i := range *list {
			x := &(*list)[i]
			x.Latency, x.Original = columns(x.Latency), columns(x.Original)
		}
	}
	v.Accelerators = names
	f.known[m] = v
}

// insert adds a variant behind those of its layer, and says where.
func insert(list []implementation, x implementation) ([]implementation, int) {
	at := len(list)
	for at > 0 && list[at-1].Layer > x.Layer {
		at--
	}
	return slices.Insert(list, at, x), at
}

func ordered(list []plan.Variant, x plan.Variant) []plan.Variant {
	list = append(slices.Clone(list), x)
	slices.SortStableFunc(list, func(a, b plan.Variant) int { return a.Layer - b.Layer })
	return list
}

func merged(notes, more []string) []string {
	for _, n := range more {
		if !slices.Contains(notes, n) {
			notes = append(slices.Clone(notes), n)
		}
	}
	return notes
}

// find finds a model by name and a layer of it by name or number.
func (f *Flow) find(model, layer string) (m, l int, err error) {
	var names []string
	for _, n := range f.Networks {
		names = append(names, strconv.Quote(n.Name))
	}
	if m = slices.IndexFunc(f.Config.Models, func(mc config.Model) bool { return mc.Name == model }); m < 0 {
		return 0, 0, unknown("there is no model %q: the configuration has %s", model, strings.Join(names, ", "))
	}
	mc := &f.Config.Models[m]
	if !mc.UsesVariants() {
		return 0, 0, fmt.Errorf("%w: model %q has `variants: off`: remove that first", config.ErrInvalid, model)
	}
	l, err = findLayer(f.Networks[m].Layers, layer)
	if err != nil {
		return 0, 0, unknown("model %q: %v; `terastal models inspect %s --granularity %s` lists them",
			model, err, mc.Source, mc.Granularity)
	}
	return m, l, nil
}

// findLayer prefers names to numbers, since a layer may be called 7.
func findLayer(layers []models.Layer, name string) (int, error) {
	var names []string
	found := -1
	for i := range layers {
		if layers[i].Name == name && found >= 0 {
			return 0, fmt.Errorf("layers %d and %d are called %q: give the number", found, i, name)
		}
		if layers[i].Name == name {
			found = i
		}
		names = append(names, layers[i].Name)
	}
	if found >= 0 {
		return found, nil
	}
	if n, err := strconv.Atoi(name); err == nil {
		if n >= 0 && n < len(layers) {
			return n, nil
		}
		return 0, fmt.Errorf("there is no layer %d: they are 0 to %d", n, len(layers)-1)
	}
	var near []string
	for _, n := range nearest(name, names, 3) {
		near = append(near, fmt.Sprintf("%.80q", n))
	}
	return 0, fmt.Errorf("there is no layer %q: the nearest names are %s", name, strings.Join(near, ", "))
}

// nearest are the names that the fewest edits turn into the given one.
func nearest(name string, names []string, most int) []string {
	list := slices.Clone(names)
	slices.SortStableFunc(list, func(a, b string) int { return edits(name, a) - edits(name, b) })
	list = slices.Compact(list)
	return list[:min(most, len(list))]
}

// edits is the Levenshtein distance in bytes.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// maxName bounds the name of a variant, in bytes.
const maxName = 60

// read reads an ONNX file as a candidate for a layer.
func (d *designer) read(m, l int, o AddOptions) (*variants.Candidate, implementation, error) {
	fail := func(err error) (*variants.Candidate, implementation, error) { return nil, implementation{}, err }
	path, err := filepath.Abs(o.File)
	if err != nil {
		return fail(err)
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return fail(fmt.Errorf("there is no file %s", o.File))
	}
	if path, err = d.Config.Path(path, d.opts.Root); err != nil {
		return fail(err)
	}
	name := o.Name
	if name == "" {
		name = strings.TrimSuffix(filepath.Base(o.File), ".onnx")
	}
	if name == "" || len(name) > maxName || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return fail(unknown("%.80q cannot be a variant's name: give one of 1 to %d printable characters with --name", name, maxName))
	}
	n := d.Networks[m]
	model, err := models.Load(path, models.Options{})
	if err != nil {
		return fail(err)
	}
	c, err := variants.New(&n.Layers[l], name, model)
	if err != nil {
		return fail(fmt.Errorf("%s: %w", o.File, err))
	}
	data, err := c.ONNX()
	if err != nil {
		return fail(fmt.Errorf("%s: %w", o.File, err))
	}
	x := plan.Variant{Layer: l, LayerName: n.Layers[l].Name, Family: c.Family, Parameters: name, Bytes: c.Bytes, MACs: c.MACs}
	x.SHA256 = variants.SHA256(data)
	x.Name = variants.NewUnit(&n.Layers[l], c.Name(), data).Name
	x.File = filepath.Join("variants", n.Name, fmt.Sprintf("%03d-%s-%s.onnx", l, c.Family, x.SHA256[:8]))
	return c, implementation{x, data}, nil
}

// compare measures the candidate's error on calibration inputs, on labelled ones
// where there are none.
func (d *designer) compare(ctx context.Context, m int, c *variants.Candidate) error {
	mc := &d.Config.Models[m]
	spec, count := mc.Calibration, defaultCalibration
	if spec.Source == "" {
		spec, count = mc.Labelled, defaultLabelled
	}
	data, err := d.data(m, spec, count)
	if err != nil {
		return fmt.Errorf("model %q: calibration: %w", d.Networks[m].Name, err)
	}
	meter := d.opts.Progress("comparing with the original")
	defer meter.Done()
	return c.Compare(ctx, d.Networks[m], data, meter.Set)
}

// together proves variants of a model, in order of layers.
func (d *designer) together(ctx context.Context, m int, list []implementation) (*variants.Proof, string, error) {
	var chosen []variants.Chosen
	for _, x := range list {
		chosen = append(chosen, variants.Chosen{Layer: x.Layer, Name: x.Name, ONNX: x.onnx})
	}
	return d.proveOne(ctx, m, chosen, nil)
}

// affordable refuses a variant by what it costs alone and with the others.
func (d *designer) affordable(m int, p *variants.Proof, at, count int) error {
	theta := d.Config.Models[m].Theta
	alone, _ := p.Of(1 << at)
	if least := max(theta, 1-d.o.MaxLoss); alone < least {
		return fmt.Errorf("%w: alone it leaves %.4f of the %s, has to leave %.4f (theta is %v, --max-loss %v)",
			ErrLoss, alone, p.Metric, least, theta, d.o.MaxLoss)
	}
	left, least := p.Together(sched.VariantSet(1)<<count-1), max(theta, 1-d.o.Together)
	if left < least {
		return fmt.Errorf("%w: with it, all %d variants together leave %.4f of the %s, have to leave %.4f "+
			"(theta is %v, --max-together %v)",
			ErrLoss, count, left, p.Metric, least, theta, d.o.Together)
	}
	return nil
}

// record puts a proof and the variants it is of into a model's part of the plan.
func (d *designer) record(v *plan.Variants, list []implementation, p *variants.Proof, data string) {
	proven(v, p, data, d.arithmetic)
	v.Chosen = []plan.Variant{}
	for i, x := range list {
		x.Alone, _ = p.Of(1 << i)
		v.Chosen = append(v.Chosen, x.Variant)
	}
}

// time measures all layers with the variants of one model, of which the one at
// the given place has no file yet, and says how fast that one is.
func (d *designer) time(ctx context.Context, m int, list []implementation, at int) (*profiler.Profile, error) {
	folder, err := os.MkdirTemp("", "terastal-added-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(folder)
	var files []variantFile
	number := 1 // of the implementation in its layer
	for i, x := range list {
		path := filepath.Join(folder, "added.onnx")
		if i == at {
			err = os.WriteFile(path, x.onnx, 0o600)
		} else {
			path, err = filepath.Abs(filepath.Join(d.Config.Out, x.File))
		}
		if err != nil {
			return nil, err
		}
		if i < at && x.Layer == list[at].Layer {
			number++
		}
		files = append(files, variantFile{x.Layer, x.Name, path, x.SHA256})
	}
	n, x := d.Networks[m], &list[at]
	if n.Variants, err = units(n.Layers, files); err != nil {
		return nil, err
	}
	d.sources[m].Variants = files
	p, err := d.measured(ctx, d.task(), "", nil)
	if err != nil {
		return nil, err
	}
	x.Latency, x.Original, x.Wanted = make([]time.Duration, len(d.Specs)), make([]time.Duration, len(d.Specs)), nil
	refused := map[int]string{}
	for i := range p.Cells {
		switch c := &p.Cells[i]; {
		case c.Model != m || c.Layer != x.Layer:
		case c.Implementation == 0:
			x.Original[c.Accelerator] = c.P50
		case c.Implementation == number:
			x.Latency[c.Accelerator], refused[c.Accelerator] = c.P50, c.Refused
		}
	}
	return p, d.faster(x, refused)
}

// faster finds the accelerators on which a variant is faster than the original.
func (d *designer) faster(x *implementation, refused map[int]string) error {
	var found []string
	for k, s := range d.Specs {
		switch {
		case refused[k] != "":
			found = append(found, fmt.Sprintf("%s refuses it (%s)", s.Name, refused[k]))
		case x.Latency[k] == 0:
			found = append(found, fmt.Sprintf("it was not measured on %s", s.Name))
		case x.Original[k] == 0 || x.Latency[k] < x.Original[k]:
			x.Wanted = append(x.Wanted, s.Name)
		default:
			found = append(found, fmt.Sprintf("%.1f us on %s, the original %.1f us",
				microseconds(x.Latency[k]), s.Name, microseconds(x.Original[k])))
		}
	}
	if len(x.Wanted) == 0 {
		return fmt.Errorf("%w: %s", ErrSlower, strings.Join(found, "; "))
	}
	return nil
}

func microseconds(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// commit plans with the variants of a model, of which one is new, and writes
// that one's file, the profile and, last, the plan.
func (d *designer) commit(m int, v plan.Variants, x *implementation, p *profiler.Profile) error {
	if !filepath.IsLocal(x.File) {
		return fmt.Errorf("%w: model %q: its name cannot be a folder's", config.ErrInvalid, v.Model)
	}
	if d.known == nil {
		d.known = map[int]plan.Variants{}
	}
	d.known[m], d.Profile = v, p
	d.unused = slices.DeleteFunc(d.unused, func(old plan.Variants) bool { return old.Model == v.Model })
	if err := d.Plan(); err != nil {
		return err
	}
	if err := document.WriteFile(filepath.Join(d.Config.Out, x.File), x.onnx); err != nil {
		return err
	}
	path := d.ProfilePath()
	if err := d.replaceable(path); err != nil {
		aside, renamed := moveAside(path)
		if renamed != nil {
			return renamed
		}
		d.opts.Note("the profile is of other variants; moved it to %s", aside)
	}
	if err := profiler.RemoveJournal(journal(path)); err != nil {
		return err
	}
	if err := p.Write(path); err != nil {
		return err
	}
	for _, w := range p.Warnings {
		d.opts.Note("warning: %s", w.Text)
	}
	return d.Planned.Write(d.PlanPath())
}

// added finds the variants that users added, by model, and checks that they can
// be proven again. It says which are for another model.
func (f *Flow) added() (map[int][]implementation, error) {
	out := map[int][]implementation{}
	for m := range f.known {
		f.realign(m)
		list := slices.DeleteFunc(f.inUse(m), func(x implementation) bool { return !isAdded(x.Variant) })
		if len(list) == 0 {
			continue
		}
		if _, _, err := f.judged(m); err != nil {
			return nil, err
		}
		out[m] = list
	}
	for _, v := range f.unused {
		m := slices.IndexFunc(f.Config.Models, func(mc config.Model) bool { return mc.Name == v.Model })
		if m >= 0 && f.Config.Models[m].UsesVariants() && slices.ContainsFunc(v.Chosen, isAdded) {
			f.opts.Note("model %q: the variants that were added are for another model or granularity: "+
				"`terastal variants add` them again", v.Model)
		}
	}
	return out, nil
}

// restore proves the variants that users had added together with those that were
// designed since. Added ones stay: where all together cost too much, designed
// ones go, the worst first.
func (d *designer) restore(ctx context.Context, added map[int][]implementation) error {
	for _, m := range slices.Sorted(maps.Keys(added)) {
		v, known := d.known[m]
		if !known {
			v = *d.document(m)
		}
		list := d.inUse(m)
		if room := sched.MaxBoundedVariants - len(added[m]); len(list) > room {
			d.note(m, "%d variants would be in use, at most %d can be: those designed for the last layers are left out",
				len(list)+len(added[m]), sched.MaxBoundedVariants)
			list = list[:room]
		}
		for _, x := range added[m] {
			list, _ = insert(list, x)
		}
		proof, what, err := d.together(ctx, m, list)
		if err != nil {
			return err
		}
		keep, drop := map[int]bool{}, map[int]bool{}
		for i, x := range list {
			keep[i] = isAdded(x.Variant)
		}
		for i, left := range proof.PruneOthers(keep, drop, len(list), max(v.Theta, 1-d.o.Together)) {
			drop[i] = true
			d.note(m, "layer %q: %s %s is not used: with it and the added ones, the variants together leave %.4f of the %s",
				list[i].LayerName, list[i].Family, list[i].Parameters, left, proof.Metric)
		}
		var kept []implementation
		for i, x := range list {
			if !drop[i] {
				kept = append(kept, x)
			}
		}
		d.record(&v, kept, proof.Without(drop, len(list)), what)
		for _, x := range v.Chosen {
			if isAdded(x) {
				v.Candidates = ordered(v.Candidates, x)
			}
		}
		v.Notes = merged(v.Notes, d.notes[m])
		if err := d.use(m, v); err != nil {
			return err
		}
	}
	return nil
}

// judged is the data that a model's accuracy is measured on, and where they are
// from: labelled where there are any.
func (f *Flow) judged(m int) (*dataset.Set, string, error) {
	mc := &f.Config.Models[m]
	spec, count := mc.Labelled, defaultLabelled
	if spec.Source == "" {
		spec, count = mc.Calibration, defaultCalibration
	}
	data, err := f.data(m, spec, count)
	if err != nil {
		return nil, "", fmt.Errorf("model %q: labelled: %w", f.Networks[m].Name, err)
	}
	return data, spec.Source, nil
}

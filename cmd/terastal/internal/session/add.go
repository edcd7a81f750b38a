package session

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/terastal/terastal/cmd/terastal/internal/config"
	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/sched/plan"
	"github.com/terastal/terastal/variants"
	"github.com/terastal/terastal/variants/design"
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
	design.Limits
}

// UnknownError is about a name that the user gave and that nothing has.
type UnknownError struct{ text string }

func (e UnknownError) Error() string { return e.text }

func unknown(format string, args ...any) error { return UnknownError{fmt.Sprintf(format, args...)} }

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
	c, err := f.read(&f.Networks[m].Layers[l], o)
	if err != nil {
		return false, err
	}
	defer f.stages.done()
	p, err := f.designer.Add(ctx, &bench{Flow: f}, f.designer.Models[m], c, o.Limits)
	if err != nil {
		return false, fmt.Errorf("%s: %w", o.File, err)
	}
	if p == nil {
		return false, nil
	}
	return true, f.added(p)
}

// added plans with a variant that is new, and writes its file, the profile and,
// last, the plan.
func (f *Flow) added(p *profiler.Profile) error {
	f.Profile = p
	if err := f.Plan(); err != nil {
		return err
	}
	if err := f.designer.Save(f.Config.Out); err != nil {
		return err
	}
	path := f.ProfilePath()
	if err := f.replaceable(path); err != nil {
		aside, renamed := moveAside(path)
		if renamed != nil {
			return renamed
		}
		f.opts.Note("the profile is of other variants; moved it to %s", aside)
	}
	if err := profiler.RemoveJournal(journal(path)); err != nil {
		return err
	}
	if err := p.Write(path); err != nil {
		return err
	}
	for _, w := range p.Warnings {
		f.opts.Note("warning: %s", w.Text)
	}
	return f.Planned.Write(f.PlanPath())
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
func (f *Flow) read(l *models.Layer, o AddOptions) (*variants.Candidate, error) {
	path, err := filepath.Abs(o.File)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no file %s", o.File)
	}
	if path, err = f.Config.Path(path, f.opts.Root); err != nil {
		return nil, err
	}
	name := o.Name
	if name == "" {
		name = strings.TrimSuffix(filepath.Base(o.File), ".onnx")
	}
	if name == "" || len(name) > maxName || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return nil, unknown("%.80q cannot be a variant's name: give one of 1 to %d printable characters with --name",
			name, maxName)
	}
	model, err := models.Load(path, models.Options{})
	if err != nil {
		return nil, err
	}
	c, err := variants.New(l, name, model)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.File, err)
	}
	return c, nil
}

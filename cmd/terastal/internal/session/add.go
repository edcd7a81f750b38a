package session

import (
	"cmp"
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
	// File is the ONNX model, relative to the current folder. It has to lie in the folder that models are read from.
	File string
	// Name tells apart the variants added to a layer; empty for the file's.
	Name string
	design.Limits
}

// Add checks, proves and measures a variant that was made elsewhere, and writes it, the profile and the plan. When it
// is refused, nothing is written. One that was added under the same name before is replaced. It returns the plan's
// variants and its path, which is empty when the layer had the variant already.
func (v *Variants) Add(ctx context.Context, o AddOptions) (list []plan.Variants, path string, err error) {
	old, _, err := plan.Read(PlanPath(v.w.Config))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, "", fmt.Errorf("%w: the variants in it would be lost; move the file away to begin without them", err)
	}
	m, l, err := find(v.w.Models, o.Model, o.Layer)
	if err != nil {
		return nil, "", err
	}
	if err := v.ProveAgain(ctx); err != nil {
		return nil, "", err
	}
	file, err := o.path(v.w.Config, v.w.options.Root)
	if err != nil {
		return nil, "", err
	}
	c, err := o.read(file, &v.w.Models[m].Network.Layers[l])
	if err != nil {
		return nil, "", err
	}
	defer v.w.stages.done()
	p, err := v.designer.Add(ctx, &designBench{Workspace: v.w, budget: 1}, v.designer.Models[m], c, o.Limits)
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", o.File, err)
	}
	if p == nil {
		return old.Variants, "", nil
	}
	return v.added(p)
}

// added plans with a variant that is new, and writes its file, the profile and, last, the plan.
func (v *Variants) added(p *profiler.Profile) (list []plan.Variants, path string, err error) {
	v.w.Profile = p
	s, err := v.w.Plan()
	if err != nil {
		return nil, "", err
	}
	if err := v.designer.Save(v.w.Config.Out); err != nil {
		return nil, "", err
	}
	profile := ownProfile(v.w.Config)
	if err := v.w.clear(profile, MoveAside); err != nil {
		return nil, "", err
	}
	if err := v.w.keep(p, profile); err != nil {
		return nil, "", err
	}
	path, err = s.WritePlan()
	return s.Plan.Document.Variants, path, err
}

// find finds a model by name and a layer of it by name or number.
func find(list []*Model, model, layer string) (m, l int, err error) {
	if m = slices.IndexFunc(list, func(x *Model) bool { return x.Name == model }); m < 0 {
		names := mapped(list, func(x *Model) string { return strconv.Quote(x.Name) })
		return 0, 0, Usagef("there is no model %q: the configuration has %s", model, strings.Join(names, ", "))
	}
	x := list[m]
	if !x.UsesVariants() {
		return 0, 0, fmt.Errorf("%w: model %q has `variants: off`: remove that first", config.ErrInvalid, model)
	}
	l, err = findLayer(x.Network.Layers, layer)
	if err != nil {
		return 0, 0, Usagef("model %q: %v; `terastal models inspect %s --granularity %s` lists them",
			model, err, x.Source, x.Granularity)
	}
	return m, l, nil
}

// findLayer prefers names to numbers, since a layer may be called 7.
func findLayer(layers []models.Layer, name string) (int, error) {
	names := mapped(layers, func(l models.Layer) string { return l.Name })
	if found := slices.Index(names, name); found >= 0 {
		if again := slices.Index(names[found+1:], name); again >= 0 {
			return 0, fmt.Errorf("layers %d and %d are called %q: give the number", found, found+1+again, name)
		}
		return found, nil
	}
	if n, err := strconv.Atoi(name); err == nil {
		if n >= 0 && n < len(layers) {
			return n, nil
		}
		return 0, fmt.Errorf("there is no layer %d: they are 0 to %d", n, len(layers)-1)
	}
	near := mapped(nearest(name, names, 3), func(n string) string { return fmt.Sprintf("%.80q", n) })
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

// path is where the file lies, which has to be one that may be read.
func (o *AddOptions) path(c *config.Config, root string) (string, error) {
	path, err := filepath.Abs(o.File)
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("there is no file %s", o.File)
	}
	return c.Path(path, root)
}

// read reads the file as a candidate for a layer.
func (o *AddOptions) read(path string, l *models.Layer) (*variants.Candidate, error) {
	name := cmp.Or(o.Name, strings.TrimSuffix(filepath.Base(o.File), ".onnx"))
	unprintable := func(r rune) bool { return !unicode.IsPrint(r) }
	if name == "" || len(name) > maxName || strings.ContainsFunc(name, unprintable) {
		return nil, Usagef("%.80q cannot be a variant's name: give one of 1 to %d printable characters with --name",
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

package profiler

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/terastal/terastal/runtime"
)

// ErrMatch is wrapped when the layers of two profiles do not fit.
var ErrMatch = errors.New("layers do not match")

// MergeOptions say how Merge finds the layers that belong together.
type MergeOptions struct {
	// Models names the profile's model for a model of the table; others have
	// the same name in both.
	Models map[string]string
	// ByOrder matches layers by their position in place of their names; the
	// counts must agree.
	ByOrder bool
}

// Merge returns the profile with the accelerators of a table beside its own.
// Every layer of a model that both have must be matched. Models of the table
// that the profile does not have are left out, with a warning; a table's own
// implementations are added, and cannot run on the measured accelerators. What
// the table does not have cannot run on its accelerators.
func (p *Profile) Merge(t *Profile, o MergeOptions) (*Profile, error) {
	for name, as := range o.Models {
		if t.model(name) < 0 {
			return nil, fmt.Errorf("%w: the table has no model %q, it has %s", ErrMatch, name, quoted(t.modelNames()))
		}
		if p.model(as) < 0 {
			return nil, fmt.Errorf("%w: the profile has no model %q, it has %s", ErrMatch, as, quoted(p.modelNames()))
		}
	}
	for _, s := range t.Accelerators {
		if slices.Contains(p.acceleratorNames(), s.Name) {
			return nil, fmt.Errorf("%w: the profile has an accelerator %q already: give the table's another name", ErrMatch, s.Name)
		}
	}
	out := p.clone()
	first := len(out.Accelerators)
	out.Accelerators = append(out.Accelerators, t.Accelerators...)
	given := map[[4]int]*Cell{}
	var left []string
	owner := map[int]string{}
	for m := range t.Models {
		name := t.Models[m].Name
		as, ok := o.Models[name]
		if !ok {
			as = name
		}
		to := out.model(as)
		if to < 0 {
			left = append(left, name)
			continue
		}
		if other, twice := owner[to]; twice {
			return nil, fmt.Errorf("%w: the table's models %q and %q are both %q of the profile", ErrMatch, other, name, as)
		}
		owner[to] = name
		if err := out.take(t, m, to, first, o.ByOrder, given); err != nil {
			return nil, err
		}
	}
	if len(left) == len(t.Models) {
		return nil, fmt.Errorf("%w: the table has models %s, the profile %s: name those that are the same with a model map", ErrMatch, quoted(t.modelNames()), quoted(p.modelNames()))
	}
	if len(left) > 0 {
		out.Warnings = append(out.Warnings, Warning{WarnImport, "the table's models " + quoted(left) + " are not in the profile and were left out"})
	}
	out.fillCells(p, given)
	if _, err := out.table(); err != nil {
		return nil, err
	}
	return out, nil
}

// clone copies what Merge changes.
func (p *Profile) clone() *Profile {
	out := *p
	out.Accelerators = slices.Clone(p.Accelerators)
	out.Warnings = slices.Clone(p.Warnings)
	out.Models = slices.Clone(p.Models)
	for m := range out.Models {
		out.Models[m].Layers = slices.Clone(out.Models[m].Layers)
		for l := range out.Models[m].Layers {
			x := &out.Models[m].Layers[l]
			x.Implementations = slices.Clone(x.Implementations)
		}
	}
	return &out
}

// take adds a model's cells of the table to given, under the profile's indices.
func (p *Profile) take(t *Profile, from, to, firstAcc int, byOrder bool, given map[[4]int]*Cell) error {
	layers, err := p.matchLayers(&t.Models[from], &p.Models[to], byOrder)
	if err != nil {
		return err
	}
	implementation := make([][]int, len(layers)) // the profile's, by the table's
	for l, at := range layers {
		x := &p.Models[to].Layers[at]
		for i, name := range t.Models[from].Layers[l].Implementations {
			j := 0
			if i > 0 {
				if j = slices.Index(x.Implementations, name); j < 0 {
					j = len(x.Implementations)
					x.Implementations = append(x.Implementations, name)
				}
			}
			implementation[l] = append(implementation[l], j)
		}
	}
	for i := range t.Cells {
		if c := &t.Cells[i]; c.Model == from {
			given[[4]int{to, layers[c.Layer], implementation[c.Layer][c.Implementation], firstAcc + c.Accelerator}] = c
		}
	}
	return nil
}

// matchLayers finds the profile's layer for each of the table's.
func (p *Profile) matchLayers(t, model *Model, byOrder bool) ([]int, error) {
	if byOrder {
		if len(t.Layers) != len(model.Layers) {
			return nil, fmt.Errorf("%w: model %q has %d layers in the table and %d in the profile, which cannot be matched by order", ErrMatch, model.Name, len(t.Layers), len(model.Layers))
		}
		out := make([]int, len(t.Layers))
		for i := range out {
			out[i] = i
		}
		return out, nil
	}
	at := map[string]int{}
	for l := range model.Layers {
		if _, twice := at[model.Layers[l].Name]; twice {
			return nil, fmt.Errorf("%w: model %q has two layers %q: match by order", ErrMatch, model.Name, model.Layers[l].Name)
		}
		at[model.Layers[l].Name] = l
	}
	var out []int
	var missing, unmatched []string
	used := map[string]bool{}
	for i := range t.Layers {
		name := t.Layers[i].Name
		l, ok := at[name]
		if !ok || used[name] {
			unmatched = append(unmatched, name)
		}
		used[name] = true
		out = append(out, l)
	}
	for l := range model.Layers {
		if !used[model.Layers[l].Name] {
			missing = append(missing, model.Layers[l].Name)
		}
	}
	if len(missing)+len(unmatched) > 0 {
		var parts []string
		if len(unmatched) > 0 {
			parts = append(parts, fmt.Sprintf("%d of the table's %d layers are not in the profile: %s", len(unmatched), len(t.Layers), quoted(unmatched)))
		}
		if len(missing) > 0 {
			parts = append(parts, fmt.Sprintf("%d of the profile's %d are not in the table: %s", len(missing), len(model.Layers), quoted(missing)))
		}
		return nil, fmt.Errorf("%w: model %q: %s", ErrMatch, model.Name, strings.Join(parts, "; "))
	}
	return out, nil
}

// fillCells makes the cells from those of the old profile and the given ones.
func (p *Profile) fillCells(old *Profile, given map[[4]int]*Cell) {
	for i := range old.Cells {
		c := &old.Cells[i]
		given[[4]int{c.Model, c.Layer, c.Implementation, c.Accelerator}] = c
	}
	p.Cells = nil
	p.eachPlace(func(at [4]int) {
		c := Cell{Refused: notInTable}
		if known := given[at]; known != nil {
			c = *known
		} else if at[3] < len(old.Accelerators) {
			c.Refused = "not measured: it comes from a table"
		}
		c.Model, c.Layer, c.Implementation, c.Accelerator = at[0], at[1], at[2], at[3]
		p.Cells = append(p.Cells, c)
	})
}

func (p *Profile) model(name string) int {
	return slices.IndexFunc(p.Models, func(m Model) bool { return m.Name == name })
}

func (p *Profile) modelNames() []string {
	var names []string
	for _, m := range p.Models {
		names = append(names, m.Name)
	}
	return names
}

// Select returns the part of the profile that is about the named models and
// accelerators, in the order of the names; all accelerators if none is named.
func (p *Profile) Select(models, accelerators []string) (*Profile, error) {
	if len(accelerators) == 0 {
		accelerators = p.acceleratorNames()
	}
	ms := make([]int, len(p.Models))
	ks := make([]int, len(p.Accelerators))
	for i := range ms {
		ms[i] = -1
	}
	for i := range ks {
		ks[i] = -1
	}
	out := *p
	out.Accelerators, out.Models, out.Cells = nil, nil, nil
	for i, name := range models {
		m := p.model(name)
		if m < 0 {
			return nil, fmt.Errorf("the profile has no model %q, it has %s", name, quoted(p.modelNames()))
		}
		if ms[m] >= 0 {
			return nil, fmt.Errorf("model %q is named twice", name)
		}
		ms[m] = i
		out.Models = append(out.Models, p.Models[m])
	}
	for i, name := range accelerators {
		k := slices.IndexFunc(p.Accelerators, func(s runtime.Spec) bool { return s.Name == name })
		if k < 0 {
			return nil, fmt.Errorf("the profile has no accelerator %q, it has %s", name, quoted(p.acceleratorNames()))
		}
		if ks[k] >= 0 {
			return nil, fmt.Errorf("accelerator %q is named twice", name)
		}
		ks[k] = i
		out.Accelerators = append(out.Accelerators, p.Accelerators[k])
	}
	for _, c := range p.Cells {
		if c.Model, c.Accelerator = ms[c.Model], ks[c.Accelerator]; c.Model >= 0 && c.Accelerator >= 0 {
			out.Cells = append(out.Cells, c)
		}
	}
	out.Handoffs, out.Interference, out.Dispatches, out.Chains, out.Peaks = nil, nil, nil, nil, nil
	for _, h := range p.Handoffs {
		if h.Model, h.From, h.To = ms[h.Model], ks[h.From], ks[h.To]; h.Model >= 0 && h.From >= 0 && h.To >= 0 {
			out.Handoffs = append(out.Handoffs, h)
		}
	}
	for _, x := range p.Interference {
		if x.Accelerator, x.Busy = ks[x.Accelerator], ks[x.Busy]; x.Accelerator >= 0 && x.Busy >= 0 {
			out.Interference = append(out.Interference, x)
		}
	}
	for _, d := range p.Dispatches {
		if d.Accelerator = ks[d.Accelerator]; d.Accelerator >= 0 {
			out.Dispatches = append(out.Dispatches, d)
		}
	}
	for _, c := range p.Chains {
		if c.Model, c.Accelerator = ms[c.Model], ks[c.Accelerator]; c.Model >= 0 && c.Accelerator >= 0 {
			out.Chains = append(out.Chains, c)
		}
	}
	for _, x := range p.Peaks {
		if x.Accelerator = ks[x.Accelerator]; x.Accelerator >= 0 {
			out.Peaks = append(out.Peaks, x)
		}
	}
	return &out, nil
}

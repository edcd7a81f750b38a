package profiler

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrMatch is wrapped when the layers of two profiles do not fit.
var ErrMatch = errors.New("layers do not match")

// MergeOptions say how Merge finds the layers that belong together.
type MergeOptions struct {
	// Models names the profile's model for a model of the table; others have the same name in both.
	Models map[string]string
	// ByOrder matches layers by their position in place of their names; the counts must agree.
	ByOrder bool
}

// Merge returns the profile with the accelerators of a table added to its own. Every layer of a model that both have
// must be matched. Models of the table that the profile does not have are left out, with a warning; a table's own
// implementations are added, and cannot run on the measured accelerators. What the table does not have cannot run on
// its accelerators.
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
		if p.accelerator(s.Name) >= 0 {
			return nil, fmt.Errorf("%w: the profile has an accelerator %q already: give the table's another name",
				ErrMatch, s.Name)
		}
	}
	out := *p
	out.Accelerators = slices.Concat(p.Accelerators, t.Accelerators)
	out.Warnings, out.Models = slices.Clone(p.Warnings), slices.Clone(p.Models)
	out.Devices = slices.Concat(p.Devices, moved(t.Devices, len(p.Accelerators)))
	given := map[cellIndex]*Cell{}
	var left []string
	owner := map[int]string{}
	for m := range t.Models {
		name := t.Models[m].Name
		as := cmp.Or(o.Models[name], name)
		to := out.model(as)
		if to < 0 {
			left = append(left, name)
			continue
		}
		if other, twice := owner[to]; twice {
			return nil, fmt.Errorf("%w: the table's models %q and %q are both %q of the profile", ErrMatch, other, name, as)
		}
		owner[to] = name
		at := cellIndex{model: to, accelerator: len(p.Accelerators)}
		if err := out.take(t, m, at, o.ByOrder, given); err != nil {
			return nil, err
		}
	}
	if len(left) == len(t.Models) {
		return nil, fmt.Errorf("%w: the table has models %s, the profile %s: name those that are the same with a model map",
			ErrMatch, quoted(t.modelNames()), quoted(p.modelNames()))
	}
	out.warn(len(left) > 0, WarnImport, "the table's models %s are not in the profile and were left out", quoted(left))
	err := out.fill(func(at cellIndex) Cell {
		if c := cmp.Or(given[at], p.Cell(at.model, at.layer, at.implementation, at.accelerator)); c != nil {
			return *c
		}
		if at.accelerator < len(p.Accelerators) {
			return Cell{Refused: "not measured: it comes from a table"}
		}
		return Cell{Refused: notInTable}
	})
	return &out, err
}

// take adds the cells of a model of the table to given, under the profile's indices, which begin at first.
func (p *Profile) take(t *Profile, from int, first cellIndex, byOrder bool, given map[cellIndex]*Cell) error {
	m := &p.Models[first.model]
	layers, err := matchLayers(&t.Models[from], m, byOrder)
	if err != nil {
		return err
	}
	m.Layers = slices.Clone(m.Layers)
	for i := range t.Cells {
		c := &t.Cells[i]
		if c.Model != from {
			continue
		}
		at := cellIndex{first.model, layers[c.Layer], 0, first.accelerator + c.Accelerator}
		if c.Implementation > 0 {
			x, name := &m.Layers[at.layer], t.Name(c).Implementation
			if at.implementation = slices.Index(x.Implementations, name); at.implementation < 0 {
				at.implementation = len(x.Implementations)
				x.Implementations = append(slices.Clip(x.Implementations), name)
			}
		}
		given[at] = c
	}
	return nil
}

// matchLayers finds the profile's layer for each of the table's.
func matchLayers(t, model *Model, byOrder bool) ([]int, error) {
	var out []int
	if byOrder {
		if len(t.Layers) != len(model.Layers) {
			return nil, fmt.Errorf("%w: model %q has %d layers in the table and %d in the profile: they have no common order",
				ErrMatch, model.Name, len(t.Layers), len(model.Layers))
		}
		for i := range t.Layers {
			out = append(out, i)
		}
		return out, nil
	}
	at := map[string]int{}
	for l, x := range model.Layers {
		if _, twice := at[x.Name]; twice {
			return nil, fmt.Errorf("%w: model %q has two layers %q: match by order", ErrMatch, model.Name, x.Name)
		}
		at[x.Name] = l
	}
	var missing, unmatched []string
	used := map[string]bool{}
	for _, x := range t.Layers {
		l, ok := at[x.Name]
		if !ok || used[x.Name] {
			unmatched = append(unmatched, x.Name)
		}
		used[x.Name] = true
		out = append(out, l)
	}
	for _, x := range model.Layers {
		if !used[x.Name] {
			missing = append(missing, x.Name)
		}
	}
	var parts []string
	if len(unmatched) > 0 {
		parts = append(parts, fmt.Sprintf("%d of the table's %d layers are not in the profile: %s",
			len(unmatched), len(t.Layers), quoted(unmatched)))
	}
	if len(missing) > 0 {
		parts = append(parts, fmt.Sprintf("%d of the profile's %d are not in the table: %s",
			len(missing), len(model.Layers), quoted(missing)))
	}
	if len(parts) > 0 {
		return nil, fmt.Errorf("%w: model %q: %s", ErrMatch, model.Name, strings.Join(parts, "; "))
	}
	return out, nil
}

// Select returns the part of the profile that is about the named models and accelerators, in the order of the names;
// all accelerators if none is named.
func (p *Profile) Select(models, accelerators []string) (*Profile, error) {
	if len(accelerators) == 0 {
		accelerators = p.acceleratorNames()
	}
	ms, err := positions("model", p.modelNames(), models)
	if err != nil {
		return nil, err
	}
	ks, err := positions("accelerator", p.acceleratorNames(), accelerators)
	if err != nil {
		return nil, err
	}
	out := *p
	out.Models, out.Accelerators = nil, nil
	for _, name := range models {
		out.Models = append(out.Models, p.Models[p.model(name)])
	}
	for _, name := range accelerators {
		out.Accelerators = append(out.Accelerators, p.Accelerators[p.accelerator(name)])
	}
	m := func(i *int) bool { *i = ms[*i]; return *i >= 0 }
	k := func(i *int) bool { *i = ks[*i]; return *i >= 0 }
	out.Cells = kept(p.Cells, func(c *Cell) bool { return m(&c.Model) && k(&c.Accelerator) })
	out.Handoffs = kept(p.Handoffs, func(h *Handoff) bool { return m(&h.Model) && k(&h.From) && k(&h.To) })
	out.Interference = kept(p.Interference, func(x *Interference) bool { return k(&x.Accelerator) && k(&x.Busy) })
	out.Dispatches = kept(p.Dispatches, func(d *Dispatch) bool { return k(&d.Accelerator) })
	out.Chains = kept(p.Chains, func(c *Chain) bool { return m(&c.Model) && k(&c.Accelerator) })
	out.Peaks = kept(p.Peaks, func(x *Peak) bool { return k(&x.Accelerator) })
	out.Devices = kept(p.Devices, func(d *Device) (has bool) { *d, has = d.only(k); return has })
	return &out, out.arrange()
}

// positions tells for each name where it stands among the wanted ones, -1 if it is not wanted.
func positions(what string, have, wanted []string) ([]int, error) {
	at := slices.Repeat([]int{-1}, len(have))
	for i, name := range wanted {
		n := slices.Index(have, name)
		if n < 0 {
			return nil, fmt.Errorf("the profile has no %s %q, it has %s", what, name, quoted(have))
		}
		if at[n] >= 0 {
			return nil, fmt.Errorf("%s %q is named twice", what, name)
		}
		at[n] = i
	}
	return at, nil
}

// kept lists the items that renumber keeps, under the indices that it gives them.
func kept[T any](list []T, renumber func(*T) bool) []T {
	var out []T
	for _, x := range list {
		if renumber(&x) {
			out = append(out, x)
		}
	}
	return out
}

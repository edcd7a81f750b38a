package session

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"github.com/terastal/terastal/internal/document"
	"github.com/terastal/terastal/sched/plan"
)

// FittedFile describes a folder of variants that were fitted elsewhere.
const FittedFile = "variants.json"

// TakeVariants makes variants that were fitted elsewhere a model's
// implementations: their ONNX files are copied into the output folder, in place
// of those that the model has. They are unproven, and Plan refuses them, until
// Prove has measured their accuracy here.
func (f *Flow) TakeVariants(m int, from fs.FS) error {
	n := f.Networks[m]
	fail := func(err error) error { return fmt.Errorf("model %q: fitted variants: %w", n.Name, err) }
	data, err := fs.ReadFile(from, FittedFile)
	if err != nil {
		return fail(err)
	}
	var v plan.Variants
	if err := json.Unmarshal(data, &v); err != nil {
		return fail(err)
	}
	if v.SHA256 != n.Model.SHA256() || v.Granularity != f.Config.Models[m].Granularity {
		return fail(fmt.Errorf("they are for another model, or granularity %q", v.Granularity))
	}
	v.Model, v.Theta, v.Accelerators = n.Name, f.Config.Models[m].Theta, nil
	for i := range v.Chosen {
		c := &v.Chosen[i]
		onnx, err := fs.ReadFile(from, c.File)
		if err != nil {
			return fail(err)
		}
		c.File = filepath.Join("variants", n.Name, filepath.Base(c.File))
		if !filepath.IsLocal(c.File) {
			return fail(fmt.Errorf("%q is no folder's name", n.Name))
		}
		if err := document.WriteFile(filepath.Join(f.Config.Out, c.File), onnx); err != nil {
			return fail(err)
		}
	}
	if err := f.use(m, v); err != nil {
		return fail(err)
	}
	f.unproven(m)
	return nil
}

// timed fills in what variants that were fitted elsewhere take here.
func (f *Flow) timed(m int, v *plan.Variants) {
	if v.Accelerators != nil {
		return
	}
	v.Chosen = slices.Clone(v.Chosen)
	for _, s := range f.Specs {
		v.Accelerators = append(v.Accelerators, s.Name)
	}
	first := map[int]int{} // variant of each layer that comes first
	for i := range v.Chosen {
		c := &v.Chosen[i]
		if _, known := first[c.Layer]; !known {
			first[c.Layer] = i
		}
		c.Latency, c.Original, c.Wanted = make([]time.Duration, len(f.Specs)), make([]time.Duration, len(f.Specs)), nil
		for n := range f.Profile.Cells {
			x := &f.Profile.Cells[n]
			if x.Model != m || x.Layer != c.Layer {
				continue
			}
			switch x.Implementation {
			case 0:
				c.Original[x.Accelerator] = x.P50
			case 1 + i - first[c.Layer]:
				c.Latency[x.Accelerator] = x.P50
			}
		}
		for k, s := range f.Specs {
			if c.Gain(k) > 1 {
				c.Wanted = append(c.Wanted, s.Name)
			}
		}
	}
}

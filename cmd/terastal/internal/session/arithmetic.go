package session

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/terastal/terastal/cmd/terastal/internal/config"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/plan"
	"github.com/terastal/terastal/variants"
)

// Arithmetic is what becomes of 8-bit products on this processor, which is tried
// once, unless the configuration says what to take it for.
func (f *Flow) Arithmetic() (variants.Arithmetic, error) {
	if f.arithmetic != "" {
		return f.arithmetic, nil
	}
	var err error
	if name := f.Config.Arithmetic; name != "" && name != config.AutoArithmetic {
		f.arithmetic, err = variants.ParseArithmetic(name)
	} else {
		f.arithmetic, err = variants.ProbeArithmetic()
	}
	return f.arithmetic, err
}

// provenHere reports whether variants compute here what they did where they
// were proven.
func (f *Flow) provenHere(v *plan.Variants, us map[int][]runtime.Unit) (bool, error) {
	proven := variants.Arithmetic(v.Arithmetic)
	for _, l := range slices.Sorted(maps.Keys(us)) {
		for _, u := range us[l] {
			if same, err := variants.Same(u.ONNX, proven, ""); same || err != nil {
				if err != nil {
					return false, fmt.Errorf("variant %s: %w", u.Name, err)
				}
				continue
			}
			here, err := f.Arithmetic()
			if err != nil {
				return false, err
			}
			if same, err := variants.Same(u.ONNX, proven, here); !same || err != nil {
				return false, err
			}
		}
	}
	return true, nil
}

// proven puts a proof into a model's part of the plan.
func proven(v *plan.Variants, p *variants.Proof, data string, here variants.Arithmetic) {
	v.Arithmetic, v.Metric, v.Data, v.Requests, v.Baseline = string(here), p.Metric, data, p.Requests, p.Baseline
	v.Sets, v.Accuracy, v.Exhaustive, v.Loss = p.Sets, p.Accuracy, p.Exhaustive, p.Loss
}

// otherArithmetic says that a proof is of no use here.
func (f *Flow) otherArithmetic(m int) string {
	proven := f.known[m].Arithmetic
	if f.known[m].Metric == "" {
		return fmt.Sprintf("model %q: its variants are not proven", f.Networks[m].Name)
	}
	if proven == "" {
		proven = "unknown"
	}
	return fmt.Sprintf("model %q: its variants were proven for 8-bit arithmetic that is %s, here it is %s",
		f.Networks[m].Name, proven, f.arithmetic)
}

// ProveAgain proves the variants that a plan holds for another 8-bit arithmetic
// than this processor's, or leaves them out where there is nothing to prove them
// on. Without it, Plan fails where there are such.
func (f *Flow) ProveAgain(ctx context.Context) error {
	d := &designer{Flow: f, notes: make([][]string, len(f.Networks))}
	for _, m := range slices.Sorted(maps.Keys(f.stale)) {
		why := f.otherArithmetic(m)
		if mc := &f.Config.Models[m]; mc.Labelled.Source == "" && mc.Calibration.Source == "" {
			f.opts.Note("%s: they are not used; name labelled or calibration data in the configuration "+
				"to prove them again, or run `terastal variants design`", why)
			f.leaveOut(m)
			continue
		}
		f.opts.Note("%s: proving them again", why)
		if _, err := d.proveAgain(ctx, m, nil); err != nil {
			return fmt.Errorf("%s, and they cannot be proven again: %w: design its variants again or set `variants: off`",
				why, err)
		}
	}
	return nil
}

// leaveOut stops using a model's variants, which the plan keeps.
func (f *Flow) leaveOut(m int) {
	v := f.known[m]
	v.Off = true
	f.unused = append(f.unused, v)
	f.Networks[m].Variants, f.sources[m].Variants = nil, nil
	delete(f.known, m)
	delete(f.stale, m)
}

// proveAgain measures the accuracy of the variants that a model has, with the
// combinations in verify among those measured.
func (d *designer) proveAgain(ctx context.Context, m int, verify []sched.VariantSet) (*variants.Proof, error) {
	v := d.known[m]
	var list []variants.Chosen
	for i, c := range v.Chosen {
		list = append(list, variants.Chosen{Layer: c.Layer, Name: c.Name, ONNX: d.unitOf(m, i).ONNX})
	}
	here, err := d.Arithmetic()
	if err != nil {
		return nil, err
	}
	p, what, err := d.proveOne(ctx, m, list, verify)
	if err != nil {
		return nil, err
	}
	proven(&v, p, what, here)
	v.Chosen = slices.Clone(v.Chosen)
	for i := range v.Chosen {
		v.Chosen[i].Alone, _ = p.Of(1 << i)
	}
	d.known[m] = v
	delete(d.stale, m)
	return p, nil
}

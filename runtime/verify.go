package runtime

import (
	"bytes"
	"fmt"
	"math"
	"slices"

	"github.com/terastal/terastal/models"
)

// Tolerance of verification: outputs may differ from the whole model's by this share of the largest magnitude of the
// tensor, unless a layer was computed in less than float32: see Spec.Precision. Cutting keeps ORT from fusing across
// layers, so that sums are rounded differently.
const Tolerance = 1e-4

// Verification is the outcome of holding sampled requests, computed layer by
// layer under the schedule, against the whole model computed at once.
type Verification struct {
	// Verified is how many requests had outputs within the tolerance, Wrong how many had not.
	Verified int `json:"outputs_verified"`
	Wrong    int `json:"outputs_wrong"`
	// Tolerance is the largest that was applied, where it is not the package's.
	Tolerance float64 `json:"tolerance,omitempty"`
	// NotFinite is how many of the wrong had a difference that is not a number or
	// infinite, which the largest differences leave out.
	NotFinite int `json:"outputs_not_finite,omitempty"`
	// MaxAbsDiff is the largest absolute difference of any output element;
	// MaxRelDiff the same as a share of the largest magnitude in its tensor.
	MaxAbsDiff float64 `json:"max_abs_diff"`
	MaxRelDiff float64 `json:"max_rel_diff"`
	// Identical is how many of the verified were equal to the bit.
	Identical int `json:"outputs_identical"`
	// WithVariants is how many of all used variants.
	WithVariants int `json:"outputs_with_variants,omitempty"`
}

// Verify computes every model whole on the inputs of the samples and compares. What used variants is held against the
// same implementations, run again one after the other: that the schedule moved the right tensors, not that variants are
// accurate, which was measured when they were designed. The executor must not run or serve meanwhile.
func (e *Executor) Verify(samples []Sample) (Verification, error) {
	var v Verification
	references, err := e.references(samples)
	if err != nil {
		return v, fmt.Errorf("verify: %w", err)
	}
	for _, s := range samples {
		n := e.models[s.Model].Network
		right, same, finite := true, true, true
		tolerance := e.tolerance(s)
		if tolerance > Tolerance {
			v.Tolerance = max(v.Tolerance, tolerance)
		}
		reference := references[[2]int{s.Model, s.Input}]
		if slices.ContainsFunc(s.Ran, func(r Ran) bool { return r.Implementation > 0 }) {
			if reference, err = e.again(s); err != nil {
				return v, fmt.Errorf("verify: %w", err)
			}
			v.WithVariants++
		}
		for i, want := range reference {
			info := n.Model.Outputs()[i]
			d, err := models.Compare(info.Type, s.Outputs[i], want)
			if err != nil {
				return v, fmt.Errorf("verify: model %q output %q: %w", n.Name, info.Name, err)
			}
			if bounded(d.MaxAbs) && bounded(d.MaxRel) {
				v.MaxAbsDiff = max(v.MaxAbsDiff, d.MaxAbs)
				v.MaxRelDiff = max(v.MaxRelDiff, d.MaxRel)
			} else {
				finite = false
			}
			// Written so that a NaN difference is wrong.
			right = right && d.MaxRel <= tolerance
			same = same && bytes.Equal(s.Outputs[i], want)
		}
		if right {
			v.Verified++
		} else {
			v.Wrong++
		}
		if !finite {
			v.NotFinite++
		}
		if same {
			v.Identical++
		}
	}
	return v, nil
}

// Originals are what the whole models compute, at once and in an ordinary session on the CPU, from the inputs of the
// samples: by sample, the model's outputs. The executor must not run or serve meanwhile.
func (e *Executor) Originals(samples []Sample) ([][][]byte, error) {
	references, err := e.references(samples)
	if err != nil {
		return nil, fmt.Errorf("originals: %w", err)
	}
	var out [][][]byte
	for _, s := range samples {
		out = append(out, references[[2]int{s.Model, s.Input}])
	}
	return out, nil
}

// references are the whole models' outputs for the inputs that samples have, by model and input set.
func (e *Executor) references(samples []Sample) (map[[2]int][][]byte, error) {
	used := make([][]int, len(e.models))
	for _, s := range samples {
		if !slices.Contains(used[s.Model], s.Input) {
			used[s.Model] = append(used[s.Model], s.Input)
		}
	}
	out := map[[2]int][][]byte{}
	for m, sets := range used {
		if len(sets) == 0 {
			continue
		}
		var inputs [][]*Tensor
		for _, i := range sets {
			inputs = append(inputs, e.models[m].sets[i])
		}
		refs, err := e.models[m].Network.Reference(inputs)
		if err != nil {
			return nil, err
		}
		for n, i := range sets {
			out[[2]int{m, i}] = refs[n]
		}
	}
	return out, nil
}

func bounded(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }

// again computes a sample as it was computed, in the layers' order, on the accelerators' threads.
func (e *Executor) again(s Sample) ([][]byte, error) {
	slot, err := e.models[s.Model].NewSlot()
	if err != nil {
		return nil, err
	}
	defer slot.Close()
	slot.SetInputs(e.models[s.Model].sets[s.Input])
	for l, r := range s.Ran {
		var err error
		e.on(r.Accelerator, func() { err = slot.Run(l, r.Implementation, r.Accelerator) })
		if err != nil {
			return nil, err
		}
	}
	e.on(s.Ran[len(s.Ran)-1].Accelerator, func() { err = slot.Wait() })
	if err != nil {
		return nil, err
	}
	return slot.copyOutputs(nil), nil
}

package runtime

import (
	"bytes"
	"fmt"

	"github.com/terastal/terastal/models"
)

// Tolerance of verification: outputs may differ from the whole model's by this
// share of the largest magnitude of the tensor. Cutting keeps ORT from fusing
// across layers, so that sums are rounded differently.
const Tolerance = 1e-4

// Verification is the outcome of holding sampled requests, computed layer by
// layer under the schedule, against the whole model computed at once.
type Verification struct {
	// Verified is how many requests had outputs within Tolerance, Wrong how
	// many had not.
	Verified int `json:"outputs_verified"`
	Wrong    int `json:"outputs_wrong"`
	// MaxAbsDiff is the largest absolute difference of any output element;
	// MaxRelDiff the same as a share of the largest magnitude in its tensor.
	MaxAbsDiff float64 `json:"max_abs_diff"`
	MaxRelDiff float64 `json:"max_rel_diff"`
	// Identical is how many of the verified were equal to the bit.
	Identical int `json:"outputs_identical"`
	// WithVariants is how many of all used variants.
	WithVariants int `json:"outputs_with_variants,omitempty"`
}

// Verify computes every model whole on the inputs of the samples and compares.
// What used variants is held against the same implementations, run again one
// after the other: that the schedule moved the right tensors, not that variants
// are accurate, which was measured when they were designed.
func (e *Executor) Verify(samples []Sample) (Verification, error) {
	var v Verification
	references := map[int][][][]byte{}
	for _, s := range samples {
		n := e.programs[s.Model].Network
		if references[s.Model] == nil {
			ref, err := n.Reference(e.inputs[s.Model])
			if err != nil {
				return v, fmt.Errorf("verify: %w", err)
			}
			references[s.Model] = ref
		}
		right, same := true, true
		reference := references[s.Model][s.Input]
		if s.variants() {
			var err error
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
			v.MaxAbsDiff = max(v.MaxAbsDiff, d.MaxAbs)
			v.MaxRelDiff = max(v.MaxRelDiff, d.MaxRel)
			// Written so that a NaN difference is wrong.
			right = right && d.MaxRel <= Tolerance
			same = same && bytes.Equal(s.Outputs[i], want)
		}
		if right {
			v.Verified++
		} else {
			v.Wrong++
		}
		if same {
			v.Identical++
		}
	}
	return v, nil
}

// again computes a sample as it was computed, in the layers' order, on the
// calling thread.
func (e *Executor) again(s Sample) ([][]byte, error) {
	slot, err := e.programs[s.Model].NewSlot()
	if err != nil {
		return nil, err
	}
	defer slot.Close()
	slot.SetInputs(e.inputs[s.Model][s.Input])
	for l, r := range s.Ran {
		if err := slot.Run(l, r.Implementation, r.Accelerator); err != nil {
			return nil, err
		}
	}
	var out [][]byte
	for _, t := range slot.Outputs() {
		out = append(out, append([]byte(nil), t.Data...))
	}
	return out, nil
}

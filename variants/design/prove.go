package design

import (
	"context"
	"fmt"
	goruntime "runtime"
	"slices"

	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/plan"
	"github.com/terastal/terastal/variants"
	"github.com/terastal/terastal/variants/accuracy"
)

// arithmetic is what becomes of 8-bit products on this processor, which is tried once unless it was given.
func (d *Designer) arithmetic() (variants.Arithmetic, error) {
	var err error
	if d.Arithmetic == "" {
		d.Arithmetic, err = variants.ProbeArithmetic()
	}
	return d.Arithmetic, err
}

// provenHere reports whether a model's variants compute here what they did where they were proven.
func (d *Designer) provenHere(m *Model) (bool, error) {
	proven := variants.Arithmetic(m.InUse.Arithmetic)
	for l := range m.Network.Layers {
		for _, u := range m.Network.Variants[l] {
			same, err := variants.Same(u.ONNX, proven, "")
			if err != nil {
				return false, fmt.Errorf("variant %s: %w", u.Name, err)
			}
			if same {
				continue
			}
			here, err := d.arithmetic()
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

// Stale are the models whose variants may not be used: they are not proven, or for another 8-bit arithmetic.
// [Designer.Prove] proves them, [Designer.LeaveOut] does without.
func (d *Designer) Stale() []*Model {
	return slices.DeleteFunc(slices.Clone(d.Models), func(m *Model) bool { return !m.stale })
}

// WhyStale says why a model's variants may not be used.
func (d *Designer) WhyStale(m *Model) string {
	if m.InUse.Metric == "" {
		return fmt.Sprintf("model %q: its variants are not proven", m.Network.Name)
	}
	proven := m.InUse.Arithmetic
	if proven == "" {
		proven = "unknown"
	}
	return fmt.Sprintf("model %q: its variants were proven for 8-bit arithmetic that is %s, here it is %s",
		m.Network.Name, proven, d.Arithmetic)
}

// Prove measures the accuracy of the variants that a model has in use, with the
// combinations in verify among those measured.
func (d *Designer) Prove(ctx context.Context, m *Model, verify []sched.VariantSet) (*plan.Proof, error) {
	if _, err := d.arithmetic(); err != nil {
		return nil, err
	}
	p, _, err := d.prove(ctx, m, m.Network, verify, nil)
	if err != nil {
		return nil, err
	}
	v := *m.InUse
	if err := m.record(&v, m.chosen(), p); err != nil {
		return nil, err
	}
	m.InUse, m.stale = &v, false
	return p, nil
}

// judged opens what a model's accuracy is measured on, labelled data where there are any, and says where they are from.
func (m *Model) judged() (accuracy.Data, string, error) {
	from := &m.Labelled
	if from.Source == "" {
		from = &m.Calibration
	}
	data, err := from.open()
	if err != nil {
		return nil, "", fmt.Errorf("model %q: labelled: %w", m.Network.Name, err)
	}
	return data, from.Source, nil
}

// prove measures the accuracy of a network's variants on all cores; the network is the model's or one with others.
// notes are what people should know about the proof. progress may be nil.
func (d *Designer) prove(ctx context.Context, m *Model, n *runtime.Network, verify []sched.VariantSet,
	progress func(float64)) (p *plan.Proof, notes []string, err error) {
	data, source, err := m.judged()
	if err != nil {
		return nil, nil, err
	}
	if m.Labelled.Source == "" {
		notes = append(notes, "there is no labelled data: accuracy is how far the model with variants agrees "+
			"with the one without, on the calibration inputs")
	}
	labelled := data.Len() > 0 && data.Label(0) >= 0
	var metric accuracy.Metric
	if m.Metric != nil {
		metric, err = m.Metric(labelled)
	} else {
		metric, err = accuracy.Named("", n.Model.Outputs(), labelled)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("model %q: %w", n.Name, err)
	}
	if progress == nil {
		progress = d.progress("proving " + n.Name)
	}
	o := accuracy.Options{Verify: verify, Workers: goruntime.NumCPU(), Progress: progress}
	if p, err = accuracy.Prove(ctx, n, data, metric, o); err != nil {
		return nil, nil, err
	}
	p.Data, p.Arithmetic = source, string(d.Arithmetic)
	return p, notes, nil
}

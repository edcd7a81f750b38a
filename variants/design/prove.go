package design

import (
	"cmp"
	"context"
	"fmt"
	goruntime "runtime"
	"slices"

	"github.com/terastal/terastal/profiler"
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

// device names the graphics processors of this machine, unless that was given.
func (d *Designer) device() string {
	if d.Device == "" {
		d.Device = profiler.ThisHost().Graphics()
	}
	return d.Device
}

// on reports whether an accelerator runs what is for a provider.
func on(s runtime.Spec, provider string) bool {
	u := runtime.Unit{Provider: provider}
	return u.Suits(s.Provider) == nil
}

// compute lets variants that are for one provider be computed until the function that it returns is called. Nothing is
// opened before it is needed.
func (d *Designer) compute() (done func()) {
	if d.on != nil {
		return func() {}
	}
	d.on = variants.NewAccelerators(func(provider string) (runtime.Accelerator, error) {
		i := slices.IndexFunc(d.Accelerators, func(s runtime.Spec) bool { return on(s, provider) })
		switch {
		case i < 0:
			return nil, fmt.Errorf("no accelerator is of the provider %s", provider)
		case d.Open != nil:
			return d.Open(d.Accelerators[i])
		}
		return runtime.OpenORT(d.Accelerators[i])
	})
	return func() {
		d.on.Close()
		d.on = nil
	}
}

// Computes reports whether the variants that a model has in use can be computed here: whether there is an accelerator
// of the provider that they are for.
func (d *Designer) Computes(m *Model) bool { return d.missing(m) == "" }

// missing is a provider that a model's variants are for and no accelerator has; empty if there is none.
func (d *Designer) missing(m *Model) string {
	for l := range m.Network.Layers {
		for _, u := range m.Network.Variants[l] {
			if !slices.ContainsFunc(d.Accelerators, func(s runtime.Spec) bool { return on(s, u.Provider) }) {
				return u.Provider
			}
		}
	}
	return ""
}

// whyStale says why a model's variants compute something else here than where they were proven, empty where they do
// not.
func (d *Designer) whyStale(m *Model) (string, error) {
	if provider := d.missing(m); provider != "" {
		return fmt.Sprintf("its variants were proven on %s, which no accelerator here is", provider), nil
	}
	if anyLower(m.Network) && m.InUse.Device != d.device() {
		return fmt.Sprintf("its variants were proven on %s, here is %s", named(m.InUse.Device), named(d.device())), nil
	}
	if ok, err := d.provenHere(m); ok || err != nil {
		return "", err
	}
	return fmt.Sprintf("its variants were proven for 8-bit arithmetic that is %s, here it is %s",
		cmp.Or(m.InUse.Arithmetic, "unknown"), d.Arithmetic), nil
}

func named(device string) string { return cmp.Or(device, "a machine without a graphics processor") }

// anyLower reports whether a network has variants whose accuracy is that of one provider.
func anyLower(n *runtime.Network) bool {
	for _, units := range n.Variants {
		if slices.ContainsFunc(units, func(u runtime.Unit) bool { return u.Provider != "" }) {
			return true
		}
	}
	return false
}

// provenHere reports whether a model's variants compute in the 8-bit arithmetic of this processor what they did where
// they were proven.
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

// Stale are the models whose variants may not be used: they are not proven, or for another device or 8-bit arithmetic.
// [Designer.Prove] proves them, [Designer.LeaveOut] does without.
func (d *Designer) Stale() []*Model {
	return slices.DeleteFunc(slices.Clone(d.Models), func(m *Model) bool { return m.stale == "" })
}

// WhyStale says why a model's variants may not be used.
func (d *Designer) WhyStale(m *Model) string {
	return fmt.Sprintf("model %q: %s", m.Network.Name, m.stale)
}

// Prove measures the accuracy of the variants that a model has in use, with the
// combinations in verify among those measured.
func (d *Designer) Prove(ctx context.Context, m *Model, verify []sched.VariantSet) (*plan.Proof, error) {
	if _, err := d.arithmetic(); err != nil {
		return nil, err
	}
	defer d.compute()()
	p, _, err := d.prove(ctx, m, m.Network, accuracy.Options{Verify: verify})
	if err != nil {
		return nil, err
	}
	v := *m.InUse
	if err := m.record(&v, m.chosen(), p); err != nil {
		return nil, err
	}
	m.InUse, m.stale = &v, ""
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
// notes are what people should know about the proof. Options say which combinations, and who is told of progress.
func (d *Designer) prove(ctx context.Context, m *Model, n *runtime.Network,
	o accuracy.Options) (p *plan.Proof, notes []string, err error) {
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
	if o.Progress == nil {
		o.Progress = d.progress("proving " + n.Name)
	}
	o.Workers, o.Accelerators = goruntime.NumCPU(), d.on
	if p, err = accuracy.Prove(ctx, n, data, metric, o); err != nil {
		return nil, nil, err
	}
	p.Data, p.Arithmetic = source, string(d.Arithmetic)
	if anyLower(n) {
		p.Device = d.device()
	}
	return p, notes, nil
}

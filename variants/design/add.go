package design

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/plan"
	"github.com/terastal/terastal/variants"
	"github.com/terastal/terastal/variants/accuracy"
)

// Why a variant is not added.
var (
	ErrSlower = errors.New("it is faster than the original on no accelerator")
	ErrLoss   = errors.New("it costs too much accuracy")
)

// Add checks, proves and measures a variant that was made elsewhere, and makes it one of the model's in use. One that
// was added under the same name before is replaced. The profile is of all models with the variants that are then in
// use; it is nil when the layer has this variant already. After an error the variants in use are what they were.
// Nothing is written: see [Designer.Save].
func (d *Designer) Add(ctx context.Context, b Bench, m *Model, c *variants.Candidate,
	o Limits) (*profiler.Profile, error) {
	if _, err := d.arithmetic(); err != nil {
		return nil, err
	}
	defer d.compute()()
	if err := m.name(c); err != nil {
		return nil, err
	}
	d.realign(m)
	list := m.chosen()
	same := func(old *variants.Candidate) bool {
		return old.Layer == c.Layer && old.SHA256 == c.SHA256 && old.File != ""
	}
	if slices.ContainsFunc(list, same) {
		return nil, nil
	}
	list = slices.DeleteFunc(list, func(old *variants.Candidate) bool { return sameName(&old.Variant, &c.Variant) })
	if len(list) == sched.MaxBoundedVariants {
		return nil, fmt.Errorf("model %q has %d variants in use, more are not possible", m.Network.Name, len(list))
	}
	if err := d.compare(ctx, m, c); err != nil {
		return nil, err
	}
	list, at := insert(list, c)
	n, err := m.with(list)
	if err != nil {
		return nil, err
	}
	proof, notes, err := d.prove(ctx, m, n, accuracy.Options{})
	if err == nil {
		err = affordable(m, proof, at, len(list), o)
	}
	if err != nil {
		return nil, err
	}
	p, err := d.time(ctx, b, n, c)
	if err != nil {
		return nil, err
	}
	v := d.current(m)
	if err := m.record(&v, list, proof); err != nil {
		return nil, err
	}
	v.Candidates = slices.DeleteFunc(slices.Clone(v.Candidates),
		func(old plan.Variant) bool { return sameName(&old, &c.Variant) })
	v.Candidates, v.Notes = ordered(v.Candidates, c.Variant), merged(v.Notes, notes)
	return p, d.put(m, v, list)
}

func isAdded(x *plan.Variant) bool { return x.Family == variants.Added }

// sameName reports whether two variants were added under one name.
func sameName(a, b *plan.Variant) bool {
	return isAdded(a) && isAdded(b) && a.Layer == b.Layer && a.Parameters == b.Parameters
}

// realign gives the latencies of a model's variants the columns of the
// accelerators that there are now, which may be others than in the plan.
func (d *Designer) realign(m *Model) {
	names := d.accelerators()
	if m.InUse == nil || slices.Equal(m.InUse.Accelerators, names) {
		return
	}
	v := *m.InUse
	columns := func(old []time.Duration) []time.Duration {
		out := make([]time.Duration, len(names))
		for k, name := range names {
			if i := slices.Index(v.Accelerators, name); i >= 0 && i < len(old) {
				out[k] = old[i]
			}
		}
		return out
	}
	for _, list := range []*[]plan.Variant{&v.Chosen, &v.Candidates} {
		*list = slices.Clone(*list)
		for i := range *list {
			x := &(*list)[i]
			x.Latency, x.Original = columns(x.Latency), columns(x.Original)
		}
	}
	v.Accelerators = names
	m.InUse = &v
}

// insert adds a variant behind those of its layer, and says where.
func insert(list []*variants.Candidate, c *variants.Candidate) ([]*variants.Candidate, int) {
	at := len(list)
	for at > 0 && list[at-1].Layer > c.Layer {
		at--
	}
	return slices.Insert(list, at, c), at
}

func ordered(list []plan.Variant, x plan.Variant) []plan.Variant {
	list = append(slices.Clone(list), x)
	slices.SortStableFunc(list, func(a, b plan.Variant) int { return a.Layer - b.Layer })
	return list
}

func merged(notes, more []string) []string {
	for _, n := range more {
		if !slices.Contains(notes, n) {
			notes = append(slices.Clone(notes), n)
		}
	}
	return notes
}

// compare measures the candidate's error on calibration inputs, on labelled ones where there are none.
func (d *Designer) compare(ctx context.Context, m *Model, c *variants.Candidate) error {
	from := &m.Calibration
	if from.Source == "" {
		from = &m.Labelled
	}
	data, err := from.open()
	if err != nil {
		return fmt.Errorf("model %q: calibration: %w", m.Network.Name, err)
	}
	return c.Compare(ctx, m.Network, data, d.progress("comparing with the original"))
}

// affordable refuses a variant by what it costs alone and with the others.
func affordable(m *Model, p *plan.Proof, at, count int, o Limits) error {
	alone, _ := p.Of(1 << at)
	if least := max(m.Theta, 1-o.MaxLoss); alone < least {
		return fmt.Errorf("%w: alone it leaves %.4f of the %s, has to leave %.4f (theta is %v, max-loss %v)",
			ErrLoss, alone, p.Metric, least, m.Theta, o.MaxLoss)
	}
	left, least := p.Together(sched.VariantSet(1)<<count-1), max(m.Theta, 1-o.Together)
	if left < least {
		return fmt.Errorf("%w: with it, all %d variants together leave %.4f of the %s, have to leave %.4f "+
			"(theta is %v, max-together %v)",
			ErrLoss, count, left, p.Metric, least, m.Theta, o.Together)
	}
	return nil
}

// time measures all models, one of them with the variants that a new one is among, and says how fast that one is.
func (d *Designer) time(ctx context.Context, b Bench, with *runtime.Network,
	c *variants.Candidate) (*profiler.Profile, error) {
	var networks []*runtime.Network
	model := 0
	for i, m := range d.Models {
		n := m.Network
		if n.Name == with.Name {
			n, model = with, i
		}
		networks = append(networks, n)
	}
	p, err := b.Measure(ctx, networks, nil)
	if err != nil {
		return nil, err
	}
	number := 1 + slices.IndexFunc(with.Variants[c.Layer], func(u runtime.Unit) bool { return u.Name == c.Name })
	c.Original, c.Latency = p.Medians(model, c.Layer, 0), p.Medians(model, c.Layer, number)
	return p, d.faster(c, func(k int) string { return refusal(p, model, c.Layer, number, k) })
}

// faster finds the accelerators on which a variant is faster than the original.
func (d *Designer) faster(c *variants.Candidate, refused func(accelerator int) string) error {
	var found []string
	c.Wanted = nil
	for k, s := range d.Accelerators {
		switch why := refused(k); {
		case why != "":
			found = append(found, fmt.Sprintf("%s refuses it (%s)", s.Name, why))
		case c.Latency[k] == 0:
			found = append(found, fmt.Sprintf("it was not measured on %s", s.Name))
		case c.Original[k] == 0 || c.Latency[k] < c.Original[k]:
			c.Wanted = append(c.Wanted, s.Name)
		default:
			found = append(found, fmt.Sprintf("%.1f us on %s, the original %.1f us",
				microseconds(c.Latency[k]), s.Name, microseconds(c.Original[k])))
		}
	}
	if len(c.Wanted) == 0 {
		return fmt.Errorf("%w: %s", ErrSlower, strings.Join(found, "; "))
	}
	return nil
}

func microseconds(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// added finds the variants that users added, by model, and checks that they can
// be proven again. It notes which are for another model.
func (d *Designer) added() (map[*Model][]*variants.Candidate, error) {
	out := map[*Model][]*variants.Candidate{}
	for _, m := range d.Models {
		d.realign(m)
		list := slices.DeleteFunc(m.chosen(), func(c *variants.Candidate) bool { return !isAdded(&c.Variant) })
		if len(list) == 0 {
			continue
		}
		if _, _, err := m.judged(); err != nil {
			return nil, err
		}
		out[m] = list
	}
	for _, v := range d.unused {
		i := slices.IndexFunc(d.Models, func(m *Model) bool { return m.Network.Name == v.Model })
		if i >= 0 && !d.Models[i].Off && slices.ContainsFunc(v.Chosen, func(x plan.Variant) bool { return isAdded(&x) }) {
			d.note("model %q: the variants that were added are for another model or granularity: "+
				"add them again", v.Model)
		}
	}
	return out, nil
}

// rejoin proves the variants that users had added to a model together with those that were designed since. Added ones
// stay: where all together cost too much, designed ones go, the worst first.
func (r *run) rejoin(ctx context.Context, x *draft, added []*variants.Candidate) error {
	v := r.current(x.Model)
	list := x.Model.chosen()
	x.bought = nil // have earned their places
	if room := sched.MaxBoundedVariants - len(added); len(list) > room {
		x.note("%d variants would be in use, at most %d can be: those designed for the last layers are left out",
			len(list)+len(added), sched.MaxBoundedVariants)
		list = list[:room]
	}
	for _, c := range added {
		list, _ = insert(list, c)
	}
	if err := r.settle(ctx, x, &v, list, nil); err != nil {
		return err
	}
	for _, c := range x.chosen {
		if isAdded(&c.Variant) {
			v.Candidates = ordered(v.Candidates, c.Variant)
		}
	}
	v.Notes = merged(v.Notes, x.notes)
	return r.put(x.Model, v, x.chosen)
}

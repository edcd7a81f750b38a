package design

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/variants"
)

// trial is a network whose variants are the candidates of a model.
type trial struct {
	*draft
	network runtime.Network
	by      map[int][]*variants.Candidate // by layer, in the order of its variants
}

// measure times all candidates on all accelerators, in turn with the originals.
// Of those with the same shape, wherever they are, one is timed.
func (r *run) measure(ctx context.Context, b Bench) error {
	arithmetic, err := r.arithmetic()
	if err != nil {
		return err
	}
	var trials []*trial
	var networks []*runtime.Network
	alike := map[string]*variants.Candidate{} // by shape: the one that is measured
	var copies []*variants.Candidate
	for _, x := range r.drafts {
		x.candidates = map[int][]*variants.Candidate{}
		t := &trial{draft: x, network: *x.Network, by: map[int][]*variants.Candidate{}}
		t.network.Variants = map[int][]runtime.Unit{}
		for _, l := range slices.Sorted(maps.Keys(x.wanted)) {
			list := r.considered(x, l, arithmetic)
			if len(list) > 0 {
				x.candidates[l] = list
			}
			for i, c := range list {
				if r.hopeless(x, l, c) {
					c.Refusal = variants.ErrSlow
					continue
				}
				shape := c.Shape()
				if alike[shape] != nil {
					copies = append(copies, c)
					continue
				}
				alike[shape] = c
				u, err := c.Unit()
				if err != nil {
					return err
				}
				u.Name = fmt.Sprintf("%s %d", c, i)
				t.network.Variants[l], t.by[l] = append(t.network.Variants[l], u), append(t.by[l], c)
			}
		}
		if len(t.by) > 0 {
			trials, networks = append(trials, t), append(networks, &t.network)
		}
	}
	if len(trials) == 0 {
		return nil
	}
	p, err := b.Measure(ctx, networks, func(model, layer, _, accelerator int, times []time.Duration) bool {
		return trials[model].tooSlow(layer, accelerator, times[0])
	})
	if err != nil {
		return err
	}
	for i, t := range trials {
		t.read(r.Accelerators, p, i)
	}
	for _, c := range copies {
		same := alike[c.Shape()]
		c.Latency, c.Refusal = slices.Clone(same.Latency), same.Refusal
	}
	return nil
}

// read takes what originals and candidates take from a profile in which the trial has this number.
func (t *trial) read(accelerators []runtime.Spec, p *profiler.Profile, model int) {
	t.take(p, model)
	lower := map[string]bool{} // what is refused in lower precision was said
	for _, l := range slices.Sorted(maps.Keys(t.by)) {
		for i, c := range t.by[l] {
			c.Latency = p.Medians(model, l, i+1)
			for k, s := range accelerators {
				_, wanted := t.wanted[l][k]
				why := refusal(p, model, l, i+1, k)
				if why == "" || !wanted || !on(s, c.Provider) {
					continue
				}
				if c.Provider == "" {
					t.note("layer %q: %s refuses %s: %s", c.LayerName, s.Name, c, why)
					continue
				}
				c.Refusal = fmt.Errorf("%s refuses it: %s", s.Name, why)
				if !lower[c.String()] {
					t.note("%s refuses %s of layer %q, and maybe of others: %s", s.Name, c, c.LayerName, why)
				}
				lower[c.String()] = true
			}
		}
	}
}

// refusal is why an accelerator cannot run an implementation, empty where it can.
func refusal(p *profiler.Profile, model, layer, implementation, accelerator int) string {
	if c := p.Cell(model, layer, implementation, accelerator); c != nil {
		return c.Refused
	}
	return ""
}

// considered lists the candidates for a layer, of the families that were asked for and count where one is wanted.
func (r *run) considered(x *draft, l int, a variants.Arithmetic) []*variants.Candidate {
	list, notes := variants.Candidates(&x.Network.Layers[l], a, r.providers()...)
	wants := x.wants(l)
	lower := !slices.ContainsFunc(wants, func(w variants.Want) bool { return !w.Lower })
	if len(list) == 0 && !lower { // else some family applies, or none is missed
		for _, err := range notes {
			x.note("%v", err)
		}
	}
	return slices.DeleteFunc(list, func(c *variants.Candidate) bool {
		if len(r.Families) > 0 && !slices.Contains(r.Families, c.Family) {
			return true
		}
		if c.Provider == "" {
			return lower
		}
		return !slices.ContainsFunc(wants, func(w variants.Want) bool { return differs(r.Accelerators[w.Accelerator], c) })
	})
}

// providers are those of the accelerators that compute in lower precision.
func (r *run) providers() (list []string) {
	for _, s := range r.Accelerators {
		if !s.CPU() && s.Provider != runtime.EmulatedProvider && !slices.Contains(list, s.Provider) {
			list = append(list, s.Provider)
		}
	}
	return list
}

// differs reports whether an accelerator runs a candidate, and not in the way in which it runs originals.
func differs(s runtime.Spec, c *variants.Candidate) bool {
	if !on(s, c.Provider) {
		return false
	}
	for key, value := range c.Options {
		if s.Options[key] != value {
			return true
		}
	}
	return len(c.Options) == 0
}

// tooSlow reports whether a candidate that took at least this long in every run
// is slower than what is wanted on the accelerator.
func (x *draft) tooSlow(l, accelerator int, fastest time.Duration) bool {
	slow := false
	for _, w := range x.wants(l) {
		if w.Accelerator == accelerator {
			if fastest <= w.Most {
				return false
			}
			slow = true
		}
	}
	return slow
}

// hopeless reports whether a candidate need not be measured: it computes too much to be fast enough where it is wanted.
func (r *run) hopeless(x *draft, l int, c *variants.Candidate) bool {
	for _, w := range x.wants(l) {
		if w.Lower && c.Provider == "" {
			continue
		}
		if !r.Accelerators[w.Accelerator].CPU() || c.Least(x.originals[l][w.Accelerator]) <= w.Most {
			return false
		}
	}
	return true
}

package design

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	goruntime "runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/plan"
	"github.com/terastal/terastal/variants"
	"github.com/terastal/terastal/variants/accuracy"
)

// Limits say how much accuracy variants may cost, both at most 1-theta.
type Limits struct {
	// MaxLoss is how much of the accuracy a variant may cost alone, Together how much all chosen ones may.
	MaxLoss, Together float64
}

// Options say what variants are wanted.
type Options struct {
	// Speedup is how much faster than the original a variant has to be at least; 0 leaves it to the budgets.
	Speedup float64
	// All designs variants for every layer on every accelerator where the original takes longer than on the fastest,
	// not only where a budget is missed; unless Speedup says otherwise, to be as fast there as the original on the
	// fastest, which is the published rule for gamma.
	All bool
	// Families are those to consider; empty for all.
	Families []string
	// What costs more than the limits is left out, the worst first.
	Limits
}

// Design measures, fits and proves variants for the models and makes them those in use. What fails for one layer or
// model is noted, and the others are designed all the same. Variants that users added stay, and are proven together
// with the new ones. Nothing is written: see [Designer.Save].
func (d *Designer) Design(ctx context.Context, b Bench, o Options) error {
	added, err := d.added()
	if err != nil {
		return err
	}
	d.Clear()
	defer d.compute()()
	r := &run{Designer: d, Options: o}
	for _, m := range d.Models {
		r.drafts = append(r.drafts, &draft{Model: m, wanted: map[int]map[int]wanted{},
			short: map[int][]*variants.Candidate{}})
	}
	if err := r.screen(ctx, b); err != nil {
		return err
	}
	r.models(ctx, "fitting variants", r.fit)
	if err := cmp.Or(ctx.Err(), r.choose()); err != nil {
		return err
	}
	if err := r.measureChosen(ctx, b); err != nil {
		return err
	}
	r.models(ctx, "proving variants", r.finish)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	for _, x := range r.drafts {
		if x.err != nil {
			d.note("no variants: %v", x.err)
			x.note("%v", x.err)
			x.made, x.chosen = d.document(x.Model), nil
		}
		if x.err != nil || len(x.wanted) > 0 {
			x.made.Notes = x.notes
			if err := d.put(x.Model, x.made, x.chosen); err != nil {
				return err
			}
		}
		if list := added[x.Model]; len(list) > 0 {
			if err := r.rejoin(ctx, x, list); err != nil {
				return err
			}
		}
	}
	return nil
}

// put makes variants with their document those in use.
func (d *Designer) put(m *Model, v plan.Variants, list []*variants.Candidate) error {
	n, err := m.with(list)
	if err != nil {
		return err
	}
	m.Network.Variants = n.Variants
	return d.use(m, v)
}

// run is one design under way.
type run struct {
	*Designer
	Options
	drafts  []*draft // by model
	tables  *sched.Tables
	pricing *sched.Pricing
}

// draft is what one model gets.
type draft struct {
	*Model
	wanted     map[int]map[int]wanted        // by layer and accelerator
	originals  map[int][]time.Duration       // by layer and accelerator
	candidates map[int][]*variants.Candidate // by layer
	chosen     []*variants.Candidate         // in order of layers
	prices     []float64                     // by accelerator; nil where it is not designed for capacity
	short      map[int][]*variants.Candidate // by layer: those that capacity may be bought with
	bought     []*variants.Candidate         // those chosen for capacity
	made       plan.Variants
	notes      []string
	err        error // why it gets none
}

// wanted says what is wanted of a layer on an accelerator.
type wanted struct {
	speedup float64 // 0 where only capacity counts
	lower   bool    // for which only lower precision counts
	faster  bool    // whatever saves priced time is wanted
}

// wanting is what is wanted of a layer, by accelerator.
func (x *draft) wanting(l int) map[int]wanted {
	if x.wanted[l] == nil {
		x.wanted[l] = map[int]wanted{}
	}
	return x.wanted[l]
}

func (x *draft) note(format string, args ...any) {
	x.notes = append(x.notes, fmt.Sprintf(format, args...))
}

// wants are where variants of a layer are wanted.
func (x *draft) wants(l int) (out []variants.Want) {
	for _, k := range slices.Sorted(maps.Keys(x.wanted[l])) {
		original, w := x.originals[l][k], x.wanted[l][k]
		if w.speedup > 0 {
			most := time.Duration(float64(original) / w.speedup)
			out = append(out, variants.Want{Accelerator: k, Most: min(most, original-1), Lower: w.lower})
		}
		if w.faster {
			out = append(out, variants.Want{Accelerator: k, Most: min(x.worth(l, k), original-1), Faster: true})
		}
	}
	return out
}

// screen measures originals, finds where variants are wanted, and measures candidates.
func (r *run) screen(ctx context.Context, b Bench) error {
	profile, tables, err := b.Originals(ctx)
	if err != nil {
		return err
	}
	if err := r.buy(tables); err != nil {
		return err
	}
	r.targets(tables)
	for i, x := range r.drafts {
		x.take(profile, i)
		if len(x.wanted) == 0 {
			continue
		}
		// Before anything is measured for it.
		if _, x.err = x.calibration(); x.err != nil {
			clear(x.wanted)
		}
	}
	return r.measure(ctx, b)
}

// take reads what the originals take from a profile, in which the model has this number.
func (x *draft) take(p *profiler.Profile, model int) {
	x.originals = map[int][]time.Duration{}
	for l := range x.Network.Layers {
		x.originals[l] = p.Medians(model, l, 0)
	}
}

// targets finds where variants of the models that are not designed for capacity are wanted.
func (r *run) targets(t *sched.Tables) {
	want := func(m, l, k int, speedup float64) {
		if x := r.drafts[m]; !x.Off && x.prices == nil {
			w := x.wanting(l)
			w[k] = wanted{speedup: max(w[k].speedup, speedup, r.Speedup)}
		}
	}
	for _, t := range variants.Targets(t) {
		want(t.Model, t.Layer, t.Accelerator, t.Speedup())
	}
	r.eachOriginal(t, func(m, l, k int, latency, least time.Duration) {
		if r.All && latency > least { // as fast as the original where it is fastest
			want(m, l, k, cmp.Or(r.Speedup, float64(latency)/float64(least)))
		}
	})
	if !r.considers(variants.Lower) {
		return
	}
	r.eachOriginal(t, func(m, l, k int, _, _ time.Duration) {
		if x := r.drafts[m]; x.wanted[l][k] == (wanted{}) && on(r.Accelerators[k], "cuda") {
			want(m, l, k, variants.Worthwhile)
			if w, is := x.wanted[l][k]; is {
				w.lower = true
				x.wanted[l][k] = w
			}
		}
	})
}

// eachOriginal calls f with what the original of a layer takes on every accelerator that runs it, and with the least of
// these times.
func (r *run) eachOriginal(t *sched.Tables, f func(m, l, k int, latency, least time.Duration)) {
	for m, model := range t.System().Models {
		for l := range model.Layers {
			latency := model.Layers[l].Implementations[0].Latency
			least := sched.Unavailable
			for _, c := range latency {
				if c != sched.Unavailable && (least == sched.Unavailable || c < least) {
					least = c
				}
			}
			for k, c := range latency {
				if c != sched.Unavailable {
					f(m, l, k, c, least)
				}
			}
		}
	}
}

// considers reports whether some family of this kind is considered.
func (o *Options) considers(kind func(family string) bool) bool {
	return len(o.Families) == 0 || slices.ContainsFunc(o.Families, kind)
}

// models does something for all models that variants are wanted of, as many at a time as there are cores.
func (r *run) models(ctx context.Context, what string,
	do func(_ context.Context, _ *draft, progress func(float64)) error) {
	list := slices.DeleteFunc(slices.Clone(r.drafts), func(x *draft) bool { return len(x.wanted) == 0 || x.err != nil })
	if len(list) == 0 || ctx.Err() != nil {
		return
	}
	progress := r.progress(fmt.Sprintf("%s of %d models", what, len(list)))
	progress(0)
	var mu sync.Mutex
	shares, sum := make([]float64, len(list)), 0.0
	var all errgroup.Group
	all.SetLimit(goruntime.NumCPU())
	for i, x := range list {
		all.Go(func() error {
			x.err = do(ctx, x, func(share float64) {
				mu.Lock()
				defer mu.Unlock()
				sum += share - shares[i]
				shares[i] = share
				progress(sum / float64(len(list)))
			})
			return nil // the others are designed all the same
		})
	}
	all.Wait()
}

// expected is the largest error of a candidate that those behind are fitted to before it is chosen.
const expected = 0.1

// fit fits the candidates of a model, and chooses but where that depends on other models.
func (r *run) fit(ctx context.Context, x *draft, progress func(float64)) error {
	data, err := x.calibration()
	if err != nil {
		return err
	}
	fitter, err := variants.NewFitter(x.Network, data)
	if err != nil {
		return err
	}
	defer fitter.Close()
	fitter.Workers, fitter.Accelerators = goruntime.NumCPU(), r.on // of each: the last one has all cores for itself
	const fitting = 0.8                                            // of the time
	layers := slices.Sorted(maps.Keys(x.candidates))
	for i, l := range layers {
		err := r.layer(ctx, x, fitter, l, func(share float64) {
			progress(fitting * (float64(i) + share) / float64(len(layers)))
		})
		if err != nil {
			return err
		}
	}
	return r.compareAlone(ctx, x, func(share float64) { progress(fitting + (1-fitting)*share) })
}

// layer fits the candidates of a layer and chooses among them.
func (r *run) layer(ctx context.Context, x *draft, fitter *variants.Fitter, l int, progress func(float64)) error {
	list, wants := x.candidates[l], x.wants(l)
	for _, c := range list {
		c.Original = x.originals[l]
	}
	variants.Screen(list, wants)
	err := fitter.Fit(ctx, l, list, wants, progress)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		x.note("%v", err)
		for _, c := range list {
			c.Refusal = cmp.Or(c.Refusal, err)
		}
		return nil
	}
	var here []*variants.Candidate
	if x.prices != nil {
		x.short[l] = x.shorten(list, wants)
	}
	for _, w := range wants {
		name := r.Accelerators[w.Accelerator].Name
		counting := list
		if w.Lower {
			counting = slices.DeleteFunc(slices.Clone(list), func(c *variants.Candidate) bool { return !variants.Lower(c.Family) })
		}
		for _, c := range variants.Frontier(counting, w.Accelerator) {
			c.Frontier = true
		}
		if w.Faster { // chosen when all layers are fitted
			continue
		}
		c := variants.Choose(counting, w.Accelerator, w.Most)
		if c == nil {
			if !w.Lower { // there it is no lack
				x.note("layer %q on %s: no candidate is %.2fx as fast as the original and keeps what its fit promised",
					x.Network.Layers[l].Name, name, x.wanted[l][w.Accelerator].speedup)
			}
			continue
		}
		c.Wanted = append(c.Wanted, name)
		if !slices.Contains(here, c) {
			here = append(here, c)
		}
	}
	x.chosen = append(x.chosen, here...)
	for _, c := range x.short[l] {
		if c.Error <= expected && !slices.Contains(here, c) {
			here = append(here, c)
		}
	}
	slices.SortStableFunc(here, func(a, b *variants.Candidate) int { return cmp.Compare(b.Error, a.Error) })
	// Those behind are fitted to the worst. Lower precision changes next to nothing.
	i := slices.IndexFunc(here, func(c *variants.Candidate) bool { return c.Provider == "" })
	if i >= 0 && here[i].Error <= variants.Lossy {
		return fitter.Adopt(here[i])
	}
	return nil
}

// finish proves the chosen variants and leaves out those that cost too much.
func (r *run) finish(ctx context.Context, x *draft, progress func(float64)) error {
	if n := len(x.chosen); n > sched.MaxBoundedVariants {
		x.note("%d variants were chosen, at most %d can be used: those of the last layers are left out",
			n, sched.MaxBoundedVariants)
		x.chosen = x.chosen[:sched.MaxBoundedVariants]
	}
	x.made = r.document(x.Model)
	if len(x.chosen) > 0 {
		if err := r.settle(ctx, x, &x.made, x.chosen, progress); err != nil {
			return err
		}
	}
	for _, l := range slices.Sorted(maps.Keys(x.candidates)) {
		for _, c := range x.candidates[l] {
			if c.Refusal != nil {
				c.Refused = c.Refusal.Error()
			}
			x.made.Candidates = append(x.made.Candidates, c.Variant)
		}
	}
	return nil
}

// settle proves variants of a model together, leaves out those that cost too much, the worst first, and records the
// others. Variants that users added stay, whatever they cost.
func (r *run) settle(ctx context.Context, x *draft, v *plan.Variants, list []*variants.Candidate,
	progress func(float64)) error {
	n, err := x.with(list)
	if err != nil {
		return err
	}
	proof, notes, err := r.prove(ctx, x.Model, n, accuracy.Options{Progress: progress})
	if err != nil {
		return err
	}
	x.notes = append(x.notes, notes...)
	keep, drop := map[int]bool{}, map[int]bool{}
	for i, c := range list {
		keep[i] = isAdded(&c.Variant)
		if c.Alone, _ = proof.Of(1 << i); !keep[i] && c.Alone < max(x.Theta, 1-r.MaxLoss) {
			c.Refusal = fmt.Errorf("alone it leaves %.4f of the %s", c.Alone, proof.Metric)
			drop[i] = true
		}
	}
	for i, left := range proof.Prune(keep, drop, len(list), max(x.Theta, 1-r.Together)) {
		list[i].Refusal = fmt.Errorf("with it, the variants together leave %.4f of the %s", left, proof.Metric)
		drop[i] = true
	}
	x.earning(list, proof, drop)
	x.chosen = nil
	for i, c := range list {
		if drop[i] {
			x.note("layer %q: %s is not used: %v", c.LayerName, c, c.Refusal)
		} else {
			x.chosen = append(x.chosen, c)
		}
	}
	return x.Model.record(v, x.chosen, proof.Without(drop, len(list)))
}

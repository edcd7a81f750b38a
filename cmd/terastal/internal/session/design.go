package session

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"sync"
	"time"

	"github.com/terastal/terastal/internal/document"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/plan"
	"github.com/terastal/terastal/variants"
)

// DesignOptions say what variants are wanted.
type DesignOptions struct {
	// Speedup is how much faster than the original a variant has to be at
	// least; 0 leaves it to the budgets.
	Speedup float64
	// All designs variants for every layer on every accelerator where the
	// original takes longer than on the fastest, not only where a budget is
	// missed; unless Speedup says otherwise, to be as fast there as the original
	// on the fastest, which is the published rule for gamma.
	All bool
	// Families are those to consider; empty for all.
	Families []string
	// MaxLoss is how much of the accuracy a variant may cost alone, Together how
	// much all chosen ones may, both at most 1-theta. What costs more is left
	// out, the worst first.
	MaxLoss, Together float64
}

// Design measures, fits and proves variants for the configured models, writes
// them beside the plan, and makes them the models' implementations. What fails
// for one layer or model is noted; the rest goes on. Variants that users added
// stay, and are proven together with the new ones.
func (f *Flow) Design(ctx context.Context, o DesignOptions) error {
	added, err := f.added()
	if err != nil {
		return err
	}
	f.WithoutVariants()
	d := &designer{Flow: f, o: o, folder: filepath.Join(f.Config.Out, "variants")}
	d.notes = make([][]string, len(f.Networks))
	if err := d.screening(ctx); err != nil {
		return err
	}
	failed := func(m int, err error) *plan.Variants {
		f.opts.Note("no variants: %v", err)
		d.note(m, "%v", err)
		return d.document(m)
	}
	made, errs := d.models(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	for m := range f.Networks {
		if errs[m] != nil {
			made[m] = failed(m, errs[m])
		}
		if made[m] == nil {
			continue
		}
		if err := f.use(m, *made[m]); err != nil {
			return err
		}
	}
	return d.restore(ctx, added)
}

// screened is the share of the budget that originals, and then candidates, are
// measured for to find those that are fast enough. What is chosen is measured
// with all of it, as a part of the profile that plans are made from.
const screened = 4

// screening measures originals, finds where variants are wanted, and measures
// candidates.
func (d *designer) screening(ctx context.Context) error {
	whole := d.Config.Profile.Budget
	d.Config.Profile.Budget /= screened
	defer func() { d.Config.Profile.Budget = whole }()
	if d.LoadProfile(d.ProfilePath()) != nil { // of the same accelerators, without variants
		if err := d.EnsureProfile(ctx, filepath.Join(d.folder, "originals.profile.json"), false); err != nil {
			return err
		}
	}
	if err := d.Plan(); err != nil {
		return err
	}
	d.targets()
	d.unfit = make([]error, len(d.Networks))
	for m, n := range d.Networks {
		if len(d.wanted[m]) == 0 {
			continue
		}
		// Before anything is measured for it.
		if _, err := d.data(m, d.Config.Models[m].Calibration, defaultCalibration); err != nil {
			clear(d.wanted[m])
			d.unfit[m] = fmt.Errorf("model %q: calibration: %w", n.Name, err)
		}
	}
	return d.measure(ctx)
}

// models fits, chooses and proves for all models, as many at a time as there
// are cores. What is nil has no variants wanted, or an error.
func (d *designer) models(ctx context.Context) ([]*plan.Variants, []error) {
	made, errs := make([]*plan.Variants, len(d.Networks)), d.unfit
	var list []int
	for m := range d.Networks {
		if len(d.wanted[m]) > 0 {
			list = append(list, m)
		}
	}
	if len(list) == 0 {
		return made, errs
	}
	cores := max(1, goruntime.NumCPU())
	d.workers = cores // of each: the last one has all cores for itself
	meter := newShared(d.opts.Progress(fmt.Sprintf("fitting and proving variants of %d models", len(list))), len(list))
	defer meter.Done()
	places := make(chan struct{}, cores)
	var all sync.WaitGroup
	for n, m := range list {
		all.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			made[m], errs[m] = d.model(ctx, m, meter.part(n))
		})
	}
	all.Wait()
	return made, errs
}

// designer is one design under way.
type designer struct {
	*Flow
	o          DesignOptions
	folder     string
	wanted     []map[int]map[int]float64       // by model, layer and accelerator: the speed-up
	candidates []map[int][]*variants.Candidate // by model and layer
	originals  []map[int][]time.Duration       // by model, layer and accelerator
	unfit      []error                         // by model: why nothing can be fitted
	notes      [][]string
	workers    int // per model
}

// wants are where variants of a layer are wanted.
func (d *designer) wants(m, l int) (out []variants.Want) {
	for _, k := range slices.Sorted(maps.Keys(d.wanted[m][l])) {
		most := time.Duration(float64(d.originals[m][l][k]) / d.wanted[m][l][k])
		out = append(out, variants.Want{Accelerator: k, Most: min(most, d.originals[m][l][k]-1)})
	}
	return out
}

func (d *designer) note(m int, format string, args ...any) {
	d.notes[m] = append(d.notes[m], fmt.Sprintf(format, args...))
}

// targets finds where variants are wanted.
func (d *designer) targets() {
	sys := d.Tables.System()
	for range d.Networks {
		d.wanted = append(d.wanted, map[int]map[int]float64{})
	}
	want := func(m, l, k int, speedup float64) {
		if !d.Config.Models[m].UsesVariants() {
			return
		}
		if d.wanted[m][l] == nil {
			d.wanted[m][l] = map[int]float64{}
		}
		d.wanted[m][l][k] = max(d.wanted[m][l][k], speedup, d.o.Speedup)
	}
	for _, t := range variants.Targets(d.Tables) {
		want(t.Model, t.Layer, t.Accelerator, t.Speedup())
	}
	if !d.o.All {
		return
	}
	for m := range sys.Models {
		for l := range sys.Models[m].Layers {
			c := sys.Models[m].Layers[l].Implementations[0].Latency
			least := time.Duration(0)
			for _, x := range c {
				if x != sched.Unavailable && (least == 0 || x < least) {
					least = x
				}
			}
			for k, x := range c {
				if x == sched.Unavailable || x <= least {
					continue
				}
				speedup := d.o.Speedup
				if speedup == 0 { // as fast as the original where it is fastest
					speedup = float64(x) / float64(least)
				}
				want(m, l, k, speedup)
			}
		}
	}
}

// measure times all candidates on all accelerators, beside the originals.
func (d *designer) measure(ctx context.Context) error {
	folder, err := os.MkdirTemp("", "terastal-candidates-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	cpu := !slices.ContainsFunc(d.Specs, func(s runtime.Spec) bool { return !s.CPU() })
	arithmetic, err := d.Arithmetic()
	if err != nil {
		return err
	}
	d.originalTimes()
	var networks []*runtime.Network
	var sources []source
	var index []int
	var measured []map[int][]*variants.Candidate // by network and layer, in the order of their implementations
	alike := map[string]*variants.Candidate{}    // by shape: the one that is measured
	var copies []*variants.Candidate
	for m, n := range d.Networks {
		d.candidates = append(d.candidates, map[int][]*variants.Candidate{})
		if len(d.wanted[m]) == 0 {
			continue
		}
		here := map[int][]*variants.Candidate{}
		one, s := *n, d.sources[m]
		for _, l := range slices.Sorted(maps.Keys(d.wanted[m])) {
			list := d.considered(m, l, cpu, arithmetic)
			for i, c := range list {
				if d.hopeless(m, l, c) {
					c.Refused = variants.ErrSlow
					continue
				}
				shape := c.Shape()
				if alike[shape] != nil {
					copies = append(copies, c)
					continue
				}
				alike[shape] = c
				path := filepath.Join(folder, fmt.Sprintf("%d-%d-%d.onnx", m, l, i))
				file, err := written(c, fmt.Sprintf("%s %d", c.Name(), i), path)
				if err != nil {
					return err
				}
				here[l], s.Variants = append(here[l], c), append(s.Variants, file)
			}
			if len(list) > 0 {
				d.candidates[m][l] = list
			}
		}
		if len(s.Variants) == 0 {
			continue
		}
		if one.Variants, err = units(one.Layers, s.Variants); err != nil {
			return err
		}
		networks, sources, index = append(networks, &one), append(sources, s), append(index, m)
		measured = append(measured, here)
	}
	if len(networks) == 0 {
		return nil
	}
	t := d.task()
	t.Networks, t.Start = networks, func(k int) (profiler.Conn, error) { return d.workerOf(k, sources) }
	p, err := d.measured(ctx, t, "",
		func(model, layer, _, accelerator int, times []time.Duration) bool {
			return d.tooSlow(index[model], layer, accelerator, times[0])
		})
	if err != nil {
		return err
	}
	if err := p.Write(filepath.Join(d.folder, "candidates.profile.json")); err != nil {
		return err
	}
	d.take(p, index, measured)
	for _, c := range copies {
		c.Latency = slices.Clone(alike[c.Shape()].Latency)
	}
	return nil
}

// written is a candidate in a file that workers load.
func written(c *variants.Candidate, name, path string) (variantFile, error) {
	data, err := c.ONNX()
	if err != nil {
		return variantFile{}, err
	}
	return variantFile{c.Layer, name, path, variants.SHA256(data)}, os.WriteFile(path, data, 0o600)
}

// considered lists the candidates for a layer, of the families that were asked for.
func (d *designer) considered(m, l int, cpu bool, a variants.Arithmetic) []*variants.Candidate {
	list, notes := variants.Candidates(&d.Networks[m].Layers[l], cpu, a)
	if len(list) == 0 { // else some family applies
		for _, err := range notes {
			d.note(m, "%v", err)
		}
	}
	return slices.DeleteFunc(list, func(c *variants.Candidate) bool {
		return len(d.o.Families) > 0 && !slices.Contains(d.o.Families, c.Family)
	})
}

// take reads what originals and candidates take from the profile of the latter,
// whose models have these numbers and these candidates by layer.
func (d *designer) take(p *profiler.Profile, index []int, measured []map[int][]*variants.Candidate) {
	for i := range p.Cells {
		c := &p.Cells[i]
		m := index[c.Model]
		if c.Implementation == 0 {
			d.originals[m][c.Layer][c.Accelerator] = c.P50
			continue
		}
		x := measured[c.Model][c.Layer][c.Implementation-1]
		if x.Latency == nil {
			x.Latency = make([]time.Duration, len(d.Specs))
		}
		x.Latency[c.Accelerator] = c.P50
		if c.Refused != "" && d.wanted[m][c.Layer][c.Accelerator] > 0 {
			d.note(m, "layer %q: %s refuses %s: %s",
				d.Networks[m].Layers[c.Layer].Name, d.Specs[c.Accelerator].Name, x.Name(), c.Refused)
		}
	}
}

// originalTimes takes the originals' times from the profile.
func (d *designer) originalTimes() {
	for range d.Networks {
		d.originals = append(d.originals, map[int][]time.Duration{})
	}
	for i := range d.Profile.Cells {
		c := &d.Profile.Cells[i]
		if c.Implementation != 0 {
			continue
		}
		if d.originals[c.Model][c.Layer] == nil {
			d.originals[c.Model][c.Layer] = make([]time.Duration, len(d.Specs))
		}
		d.originals[c.Model][c.Layer][c.Accelerator] = c.P50
	}
}

// tooSlow reports whether a candidate that took at least this long in every run
// is slower than what is wanted on the accelerator.
func (d *designer) tooSlow(m, l, accelerator int, fastest time.Duration) bool {
	for _, w := range d.wants(m, l) {
		if w.Accelerator == accelerator {
			return fastest > w.Most
		}
	}
	return false
}

// hopeless reports whether a candidate need not be measured: it computes too
// much to be fast enough where it is wanted.
func (d *designer) hopeless(m, l int, c *variants.Candidate) bool {
	for _, w := range d.wants(m, l) {
		if !d.Specs[w.Accelerator].CPU() || c.Least(d.originals[m][l][w.Accelerator]) <= w.Most {
			return false
		}
	}
	return true
}

// document is a model's part of the plan, without variants yet.
func (d *designer) document(m int) *plan.Variants {
	n, mc := d.Networks[m], &d.Config.Models[m]
	v := &plan.Variants{Model: n.Name, SHA256: n.Model.SHA256(), Granularity: mc.Granularity, Theta: mc.Theta,
		Bytes: 4 * n.Model.Parameters(), Notes: d.notes[m], Chosen: []plan.Variant{}}
	for _, s := range d.Specs {
		v.Accelerators = append(v.Accelerators, s.Name)
	}
	return v
}

// adoptable is the largest error of a variant that the layers behind are fitted
// to. One above will hardly pass the proof, and what it makes of the activations
// would spoil the fits of all that come after it.
const adoptable = 0.3

// model fits the candidates of a model, chooses, and proves.
func (d *designer) model(ctx context.Context, m int, progress func(float64)) (*plan.Variants, error) {
	n := d.Networks[m]
	data, err := d.data(m, d.Config.Models[m].Calibration, defaultCalibration)
	if err != nil {
		return nil, fmt.Errorf("model %q: calibration: %w", n.Name, err)
	}
	fitter, err := variants.NewFitter(n, data)
	if err != nil {
		return nil, err
	}
	defer fitter.Close()
	fitter.Workers = d.workers
	const fitting = 0.7 // of the time, the rest is the proof
	picked := picks{frontier: map[*variants.Candidate]bool{}, wanted: map[*variants.Candidate][]string{}}
	layers := slices.Sorted(maps.Keys(d.candidates[m]))
	for i, l := range layers {
		list, wants := d.candidates[m][l], d.wants(m, l)
		variants.Screen(list, wants)
		err := fitter.Fit(ctx, l, list, wants, func(share float64) {
			progress(fitting * (float64(i) + share) / float64(len(layers)))
		})
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			d.note(m, "%v", err)
			for _, c := range list {
				c.Refused = cmp.Or(c.Refused, err)
			}
			continue
		}
		var here []*variants.Candidate
		for _, w := range wants {
			for _, c := range variants.Frontier(list, w.Accelerator) {
				picked.frontier[c] = true
			}
			c := variants.Choose(list, w.Accelerator, w.Most)
			if c == nil {
				d.note(m, "layer %q on %s: no candidate is %.2fx as fast as the original and keeps what its fit promised",
					n.Layers[l].Name, d.Specs[w.Accelerator].Name, d.wanted[m][l][w.Accelerator])
				continue
			}
			picked.wanted[c] = append(picked.wanted[c], d.Specs[w.Accelerator].Name)
			if !slices.Contains(here, c) {
				here = append(here, c)
			}
		}
		slices.SortFunc(here, func(a, b *variants.Candidate) int { return cmp.Compare(b.Error, a.Error) })
		if len(here) > 0 && here[0].Error <= adoptable { // those behind are fitted to the worst
			if err := fitter.Adopt(here[0]); err != nil {
				return nil, err
			}
		}
		picked.chosen = append(picked.chosen, here...)
	}
	return d.finish(ctx, m, &picked, func(share float64) { progress(fitting + (1-fitting)*share) })
}

// picks are a model's candidates that were chosen, in order of layers, those
// that no other beats, and the accelerators that each was chosen for.
type picks struct {
	chosen   []*variants.Candidate
	frontier map[*variants.Candidate]bool
	wanted   map[*variants.Candidate][]string
}

// finish proves the chosen variants and writes them.
func (d *designer) finish(ctx context.Context, m int, picked *picks, progress func(float64)) (*plan.Variants, error) {
	n, mc, chosen := d.Networks[m], &d.Config.Models[m], picked.chosen
	if len(chosen) > sched.MaxBoundedVariants {
		d.note(m, "%d variants were chosen, at most %d can be used: those of the last layers are left out",
			len(chosen), sched.MaxBoundedVariants)
		chosen = chosen[:sched.MaxBoundedVariants]
	}
	var list []variants.Chosen
	for _, c := range chosen {
		data, err := c.ONNX()
		if err != nil {
			return nil, err
		}
		list = append(list, variants.Chosen{Layer: c.Layer, Name: c.Name(), ONNX: data})
	}
	v := d.document(m)
	if len(list) > 0 {
		proof, what, err := d.prove(ctx, m, list, nil, progress)
		if err != nil {
			return nil, err
		}
		drop := map[int]bool{}
		for i, c := range chosen {
			if c.Accuracy, _ = proof.Of(1 << i); c.Accuracy < max(mc.Theta, 1-d.o.MaxLoss) {
				c.Refused = fmt.Errorf("alone it leaves %.4f of the %s", c.Accuracy, proof.Metric)
				drop[i] = true
			}
		}
		for i, together := range proof.Prune(drop, len(chosen), max(mc.Theta, 1-d.o.Together)) {
			chosen[i].Refused = fmt.Errorf("with it, the variants together leave %.4f of the %s", together, proof.Metric)
			drop[i] = true
		}
		for i, c := range chosen {
			if drop[i] {
				d.note(m, "layer %q: %s is not used: %v", n.Layers[c.Layer].Name, c.Name(), c.Refused)
			}
		}
		proof = proof.Without(drop, len(chosen))
		proven(v, proof, what, d.arithmetic)
		for i, c := range chosen {
			if drop[i] {
				continue
			}
			x := d.variant(m, c, picked)
			x.SHA256 = variants.SHA256(list[i].ONNX)
			x.Name = variants.NewUnit(&n.Layers[c.Layer], c.Name(), list[i].ONNX).Name
			x.File = filepath.Join("variants", n.Name, fmt.Sprintf("%03d-%s-%s.onnx", c.Layer, c.Family, x.SHA256[:8]))
			if err := document.WriteFile(filepath.Join(d.Config.Out, x.File), list[i].ONNX); err != nil {
				return nil, err
			}
			v.Chosen = append(v.Chosen, x)
		}
	}
	for _, l := range slices.Sorted(maps.Keys(d.candidates[m])) {
		for _, c := range d.candidates[m][l] {
			v.Candidates = append(v.Candidates, d.variant(m, c, picked))
		}
	}
	v.Notes = d.notes[m]
	return v, nil
}

func (d *designer) variant(m int, c *variants.Candidate, picked *picks) plan.Variant {
	x := plan.Variant{Layer: c.Layer, LayerName: d.Networks[m].Layers[c.Layer].Name, Family: c.Family, Parameters: c.Parameters,
		Bytes: c.Bytes, MACs: c.MACs, Promise: c.Promise, Error: c.Error, Alone: c.Accuracy,
		Latency: c.Latency, Original: d.originals[m][c.Layer], Wanted: picked.wanted[c], Frontier: picked.frontier[c]}
	if c.Refused != nil {
		x.Refused = c.Refused.Error()
	}
	return x
}

package variants

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/variants/internal/chain"
	"gorgonia.org/tensor"
)

// Data is what variants are fitted to.
type Data interface {
	Len() int
	// Inputs is one request: a tensor for each of the model's inputs, in order. It is not written to.
	Inputs(i int) ([]*tensor.Dense, error)
}

// Fitter fits candidates to a network's activations, layer after layer.
type Fitter struct {
	// Workers is how many candidates are fitted at once; 0 is one.
	Workers int
	// Accelerators compute the candidates that are for one provider. It may be nil where there are none.
	Accelerators *Accelerators

	reading sync.Mutex // guards data and streams
	network *runtime.Network
	data    Data
	clean   *chain.Stream // originals only
	own     *chain.Stream // with the variants that were adopted; clean until there is one
}

// NewFitter checks that the data are inputs of the network. At least minImages are needed.
func NewFitter(n *runtime.Network, d Data) (*Fitter, error) {
	if d == nil || d.Len() < minImages {
		return nil, fmt.Errorf("model %q: %w: at least %d inputs are needed", n.Name, errNoRows, minImages)
	}
	if _, err := chain.Read(n.Model, d, 0); err != nil {
		return nil, fmt.Errorf("model %q: %w", n.Name, err)
	}
	f := &Fitter{network: n, data: d, clean: chain.NewStream(n, d)}
	f.own = f.clean
	return f, nil
}

// minImages is the least that can be fitted to and checked with.
const minImages = 2 * checkEvery

// Adopt lets the layers that follow be fitted to what the candidate makes.
func (f *Fitter) Adopt(c *Candidate) error {
	data, err := c.ONNX()
	if err != nil {
		return err
	}
	if f.own == f.clean {
		f.own = f.clean.Branch(c.Layer)
	}
	f.own.Adopt(c.Layer, data)
	return nil
}

// Close frees what the fitter opened.
func (f *Fitter) Close() {
	f.clean.Close()
	f.own.Close()
}

// images calls visit with what arrives at a layer, and what would if all layers before it were originals. Where
// variants were adopted before it, every second image is one of the originals', since a request may use any of them.
func (f *Fitter) images(ctx context.Context, l int, only func(int) bool,
	visit func(image int, own, clean map[string][]byte) error) error {
	for i := range f.data.Len() {
		if err := ctx.Err(); err != nil {
			return err
		}
		if !only(i) {
			continue
		}
		own, clean, err := f.arriving(l, i)
		if err != nil {
			return err
		}
		if err := visit(i, own, clean); err != nil {
			return err
		}
	}
	return nil
}

// arriving is what images gives for one image.
func (f *Fitter) arriving(l, image int) (own, clean map[string][]byte, err error) {
	f.reading.Lock()
	defer f.reading.Unlock()
	if clean, err = f.clean.Before(l, image); err != nil {
		return nil, nil, err
	}
	if f.own == f.clean || image%2 == 0 {
		return clean, clean, nil
	}
	own, err = f.own.Before(l, image)
	return own, clean, err
}

// Fit fits candidates for one layer, those that were not refused, and measures their errors. Layers come in order. What
// cannot be fitted is refused; an error is about the layer as a whole. Where wants are given, those with fewer bits come
// first, and what then cannot be chosen any more is refused with ErrUnneeded; where speed alone is wanted, those of a family
// follow from the one that computes most to the first that loses too much, and the others are refused with ErrLossy.
// progress, if not nil, is called with the
// share that is done, from any goroutine.
func (f *Fitter) Fit(ctx context.Context, l int, list []*Candidate, wants []Want, progress func(float64)) error {
	layer := &f.network.Layers[l]
	fail := func(err error) error {
		return fmt.Errorf("model %q layer %q: %w", f.network.Name, layer.Name, err)
	}
	if progress == nil {
		progress = func(float64) {}
	}
	if err := f.clean.Keep(l); err != nil {
		return fail(err)
	}
	if f.own != f.clean {
		if err := f.own.Keep(l); err != nil {
			return fail(err)
		}
	}
	left := unfitted(list)
	if len(left) == 0 {
		return nil
	}
	// What the first operator reads is the same for all.
	var first *statistics
	replacing := slices.DeleteFunc(slices.Clone(left), func(c *Candidate) bool { return len(c.ops) == 0 })
	if len(replacing) > 0 {
		var err error
		if first, err = f.collect(ctx, replacing[0], 0, allGammas(replacing, 0)); err != nil {
			return fail(err)
		}
	}
	fit := func(some []*Candidate) error {
		err := f.each(len(some), func(i int) error { return f.fit(ctx, some[i], first) })
		if err == nil {
			err = f.measure(ctx, l, some)
		}
		progress(1 - float64(len(unfitted(list)))/float64(len(left)))
		return err
	}
	if len(wants) > 0 {
		precise := slices.DeleteFunc(slices.Clone(left), func(c *Candidate) bool { return !c.precise() })
		if err := fit(precise); err != nil {
			return fail(err)
		}
	}
	for next := closest(list, wants); len(next) > 0; next = closest(list, wants) {
		if err := fit(next); err != nil {
			return fail(err)
		}
	}
	return nil
}

// unfitted is the candidates that are neither fitted nor refused.
func unfitted(list []*Candidate) []*Candidate {
	return slices.DeleteFunc(slices.Clone(list), func(c *Candidate) bool { return c.fitted || c.Refusal != nil })
}

// each calls do with 0 to n-1, on as many goroutines as there are workers, and returns the first error.
func (f *Fitter) each(n int, do func(int) error) error {
	var all errgroup.Group
	all.SetLimit(max(1, f.Workers))
	for i := range n {
		all.Go(func() error { return do(i) })
	}
	return all.Wait()
}

func allGammas(list []*Candidate, op int) (gammas []int) {
	for _, c := range list {
		if r, ok := c.replacements[op].(*d2s); ok {
			gammas = append(gammas, r.gamma)
		}
	}
	return gammas
}

// collect gathers the statistics of one operator: what reaches it in the layer
// with the candidate's replacements before it, and what the original makes.
func (f *Fitter) collect(ctx context.Context, c *Candidate, op int, gammas []int) (*statistics, error) {
	o := c.ops[op]
	original := c.base.clone()
	original.expose(o.Output)
	target, err := newRunner(original, c.layer.Inputs, []string{o.Output}, "all")
	if err != nil {
		return nil, err
	}
	defer target.Close()
	var probe *chain.Runner
	boundary := false
	for _, t := range c.layer.Inputs {
		boundary = boundary || t.Name == o.Input
	}
	if !boundary {
		partial := c.upTo(op)
		partial.expose(o.Input)
		if probe, err = newRunner(partial, c.layer.Inputs, []string{o.Input}, "all"); err != nil {
			return nil, err
		}
		defer probe.Close()
	}
	s := newCollector(o, gammas, f.data.Len())
	defer s.finish()
	err = f.images(ctx, c.Layer, func(int) bool { return true }, func(i int, own, clean map[string][]byte) error {
		if err := target.Run(clean); err != nil {
			return err
		}
		in := own[o.Input]
		if probe != nil {
			if err := probe.Run(own); err != nil {
				return err
			}
			in = probe.Results[0]
		}
		s.add(i, floats(in), floats(target.Results[0]))
		return nil
	})
	return s.statistics, err
}

// fit sets the weights of a candidate, operator after operator.
func (f *Fitter) fit(ctx context.Context, c *Candidate, first *statistics) error {
	for i, r := range c.replacements {
		if r == nil || c.Refusal != nil {
			continue
		}
		s := first
		if i > 0 {
			var err error
			if s, err = f.collect(ctx, c, i, allGammas([]*Candidate{c}, i)); err != nil {
				return err
			}
		}
		promise, err := r.fit(s)
		if err != nil {
			c.Refusal = fmt.Errorf("%s: %w", c.ops[i].Name, err)
			return nil
		}
		if math.IsNaN(promise) || math.IsInf(promise, 0) {
			c.Refusal = ErrNotFinite
			return nil
		}
		c.Promise += promise * s.outputVariance() * float64(c.ops[i].OutH*c.ops[i].OutW)
	}
	c.fitted = c.Refusal == nil
	return nil
}

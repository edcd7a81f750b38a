package variants

import (
	"cmp"
	"context"
	"fmt"

	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/variants/internal/chain"
)

// measure runs the fitted candidates on the images for checking, behind originals, and compares.
func (f *Fitter) measure(ctx context.Context, l int, list []*Candidate) error {
	if len(list) == 0 {
		return nil
	}
	k, err := newCheck(&f.network.Layers[l], list, f.Accelerators)
	if err != nil {
		return err
	}
	defer k.close()
	kept := func(i int) bool { return i%checkEvery == checkEvery-1 }
	err = f.images(ctx, l, kept, func(_ int, _, clean map[string][]byte) error { return k.image(clean) })
	if err != nil {
		return err
	}
	variance, images := k.spread.variance(), float64(f.data.Len()/checkEvery)
	for _, x := range k.candidates {
		if x.Refusal == nil {
			x.Error = relative(x.squared, variance)
			x.Promise = relative(x.Promise*images, variance)
			x.judge()
		}
	}
	return nil
}

// Compare runs the candidate and the layer's original on what reaches the layer when the network computes each request
// of the data, without other variants, and sets Error. Only float32 outputs count; elements that are infinite or NaN in
// the original too are left out. An error matches [ErrNotFinite] when the candidate makes such a value where the
// original does not. progress, if not nil, is called with the share that is done.
func (c *Candidate) Compare(ctx context.Context, n *runtime.Network, d Data, progress func(float64)) error {
	fail := func(err error) error {
		return fmt.Errorf("model %q layer %q: %s: %w", n.Name, c.layer.Name, c, err)
	}
	if d == nil || d.Len() == 0 {
		return fail(fmt.Errorf("%w: there are no requests", errNoRows))
	}
	s := chain.NewStream(n, d)
	defer s.Close()
	own := *c // what the check refuses is an error here
	own.Refusal = nil
	k, err := newCheck(c.layer, []*Candidate{&own}, nil)
	if err != nil {
		return fail(err)
	}
	defer k.close()
	for i := range d.Len() {
		env, err := s.Before(c.Layer, i)
		if err == nil {
			err = k.image(env)
		}
		if err := cmp.Or(ctx.Err(), err, own.Refusal); err != nil {
			return fail(fmt.Errorf("input %d: %w", i, err))
		}
		if progress != nil {
			progress(float64(i+1) / float64(d.Len()))
		}
	}
	c.Error = relative(k.candidates[0].squared, k.spread.variance())
	return nil
}

// check holds candidates of a layer against its original.
type check struct {
	layer      *models.Layer
	original   *chain.Runner
	spread     spread // of the original's outputs
	candidates []*checked
}

type checked struct {
	*Candidate
	runner  *chain.Runner
	squared float64 // the error so far
}

func newCheck(l *models.Layer, list []*Candidate, on *Accelerators) (*check, error) {
	original, err := chain.OpenLayer(l, nil)
	if err != nil {
		return nil, err
	}
	k := &check{layer: l, original: original}
	for _, c := range list {
		if !c.fitted {
			continue
		}
		u, err := c.Unit()
		if err != nil {
			k.close()
			return nil, err
		}
		r, err := chain.OpenUnit(l, u, on)
		if err != nil {
			c.Refusal = fmt.Errorf("ONNX Runtime refuses it: %w", err)
			continue
		}
		k.candidates = append(k.candidates, &checked{Candidate: c, runner: r})
	}
	return k, nil
}

func (k *check) close() {
	k.original.Close()
	for _, x := range k.candidates {
		x.runner.Close()
	}
}

// image compares on one image.
func (k *check) image(in map[string][]byte) error {
	if err := k.original.Run(in); err != nil {
		return err
	}
	for o, t := range k.layer.Outputs {
		if t.Type == ort.Float {
			k.spread.add(o, floats(k.original.Results[o]))
		}
	}
	for _, x := range k.candidates {
		if x.Refusal == nil {
			x.Refusal = x.image(k, in)
		}
	}
	return nil
}

// image adds the squared errors of one image.
func (x *checked) image(k *check, in map[string][]byte) error {
	if err := x.runner.Run(in); err != nil {
		return fmt.Errorf("it fails: %w", err)
	}
	for o, t := range k.layer.Outputs {
		if t.Type != ort.Float {
			continue
		}
		got, want := floats(x.runner.Results[o]), floats(k.original.Results[o])
		if len(got) != len(want) {
			return fmt.Errorf("output %.80q has %d elements, the layer's has %d: %w", t.Name, len(got), len(want), ErrBoundary)
		}
		for i, w := range want {
			if w-w == 0 {
				off := float64(got[i]) - float64(w)
				x.squared += off * off
			}
		}
		if x.squared-x.squared != 0 {
			return fmt.Errorf("output %.80q: %w", t.Name, ErrNotFinite)
		}
	}
	return nil
}

// spread is what the variance of outputs follows from, by output.
type spread struct{ sum, squares, count []float64 }

// add takes the elements of an output that are finite.
func (s *spread) add(output int, v []float32) {
	for len(s.sum) <= output {
		s.sum, s.squares, s.count = append(s.sum, 0), append(s.squares, 0), append(s.count, 0)
	}
	sum, squares, count := s.sum[output], s.squares[output], s.count[output]
	for _, e := range v {
		if x := float64(e); x-x == 0 {
			sum, squares, count = sum+x, squares+x*x, count+1
		}
	}
	s.sum[output], s.squares[output], s.count[output] = sum, squares, count
}

// variance is that of all outputs, added up over their elements.
func (s *spread) variance() float64 {
	variance := 0.0
	for o, n := range s.count {
		if n > 0 {
			variance += s.squares[o] - s.sum[o]*s.sum[o]/n
		}
	}
	return variance
}

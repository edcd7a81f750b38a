package variants

import (
	"context"
	"fmt"
	"math"

	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/variants/internal/chain"
)

// measure runs the fitted candidates on the images for checking, behind originals, and compares.
func (f *Fitter) measure(ctx context.Context, l int, list []*Candidate) error {
	if len(list) == 0 {
		return nil
	}
	k := check{layer: &f.network.Layers[l]}
	defer k.close()
	if err := k.open(list); err != nil {
		return err
	}
	kept := func(i int) bool { return i%checkEvery == checkEvery-1 }
	err := f.images(ctx, l, kept, func(_ int, _, clean map[string][]byte) error { return k.image(clean) })
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

func (k *check) open(list []*Candidate) error {
	data, err := k.layer.ONNX()
	if err != nil {
		return err
	}
	names := chain.Names(k.layer.Outputs)
	if k.original, err = chain.Open(data, k.layer.Inputs, names, "all"); err != nil {
		return err
	}
	for _, c := range list {
		if !c.fitted {
			continue
		}
		if data, err = c.ONNX(); err != nil {
			return err
		}
		r, err := chain.Open(data, k.layer.Inputs, names, "all")
		if err != nil {
			c.Refusal = fmt.Errorf("ONNX Runtime refuses it: %w", err)
			continue
		}
		k.candidates = append(k.candidates, &checked{Candidate: c, runner: r})
	}
	return nil
}

func (k *check) close() {
	if k.original != nil {
		k.original.Close()
	}
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
		if x.Refusal != nil {
			continue
		}
		if err := x.runner.Run(in); err != nil {
			x.Refusal = fmt.Errorf("it fails: %w", err)
			continue
		}
		for o, t := range k.layer.Outputs {
			if t.Type != ort.Float {
				continue
			}
			want := floats(k.original.Results[o])
			for i, y := range floats(x.runner.Results[o]) {
				off := float64(y) - float64(want[i])
				x.squared += off * off
			}
		}
		if math.IsNaN(x.squared) || math.IsInf(x.squared, 0) {
			x.Refusal = ErrNotFinite
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

package plan

import (
	"math"
	"slices"
	"testing"

	"github.com/terastal/terastal/sched"
)

// A bound holds for everything that was measured, and is no larger than it has
// to be for single variants that do not interact.
func TestBound(t *testing.T) {
	p := Proof{Sets: []sched.VariantSet{0, 1, 2, 4, 3, 5, 6, 7}, Accuracy: []float64{1, .99, .98, 1.01, .95, .99, .99, .9}}
	p.BoundLosses(3)
	for i, s := range p.Sets {
		if 1-p.Accuracy[i] > p.Bound(s)+1e-12 {
			t.Errorf("%b lost %v, the bound is %v", s, 1-p.Accuracy[i], p.Bound(s))
		}
	}
	p = Proof{Sets: []sched.VariantSet{0, 1, 2, 3}, Accuracy: []float64{1, .99, .97, .96}}
	p.BoundLosses(2)
	if math.Abs(p.Loss[0]-.01) > 1e-12 || math.Abs(p.Loss[1]-.03) > 1e-12 {
		t.Errorf("losses %v", p.Loss)
	}
	m := sched.Model{Variants: 2}
	p.Allow(&m, 0.9)
	if len(m.Loss) != 2 || math.Abs(m.MaxLoss-.1) > 1e-12 || m.Valid != nil {
		t.Errorf("%+v", m)
	}
}

func TestPruneAndWithout(t *testing.T) {
	p := &Proof{Exhaustive: true, Sets: []sched.VariantSet{0, 1, 2, 4, 3, 5, 6, 7},
		Accuracy:      []float64{1, .99, .999, .99, .98, .7, .985, .6},
		StandardError: []float64{0, .001, .002, .003, .004, .005, .006, .007}}
	out := p.Prune(nil, nil, 3, .97)
	if len(out) != 1 || out[0] != .6 {
		t.Fatalf("left out %v, want the first: without it .985 is left", out)
	}
	q := p.Without(map[int]bool{0: true}, 3)
	if !slices.Equal(q.Sets, []sched.VariantSet{0, 1, 2, 3}) || !slices.Equal(q.Accuracy, []float64{1, .999, .99, .985}) ||
		!slices.Equal(q.StandardError, []float64{0, .002, .003, .006}) {
		t.Errorf("%+v", q)
	}
	m := sched.Model{Variants: 2}
	q.Allow(&m, .99)
	if !slices.Equal(m.Accuracy, []float64{1, .999, .99}) || !slices.Equal(m.AccuracyError, []float64{0, .002, .003}) {
		t.Errorf("allowed %+v", m)
	}
	q.StandardError = q.StandardError[:1] // of something else
	if q.Allow(&m, .99); m.AccuracyError != nil {
		t.Errorf("standard errors %v of %v", m.AccuracyError, m.Valid)
	}
	// Two variants of one layer are never together.
	p = &Proof{Exhaustive: true, Sets: []sched.VariantSet{0, 1, 2, 4, 5, 6},
		Accuracy: []float64{1, .99, .98, .99, .985, .9}}
	if out := p.Prune(nil, nil, 3, .95); len(out) != 1 || out[1] != .9 {
		t.Errorf("left out %v, want the second, without which .985 is left", out)
	}
}

// TestPromise: only a model that may use variants has a floor.
func TestPromise(t *testing.T) {
	for _, c := range []struct {
		m    sched.Model
		want float64
	}{
		{sched.Model{}, 0},
		{sched.Model{Variants: 1}, 0},
		{sched.Model{Variants: 1, Valid: []sched.VariantSet{0}}, 0},
		{sched.Model{Variants: 1, Valid: []sched.VariantSet{0, 1}}, 0.98},
		{sched.Model{Variants: 1, Loss: []float64{0.1}}, 0.98},
		{sched.Model{Variants: 1, Floor: 1}, 0},
	} {
		if Promise(&c.m, 0.98); c.m.Floor != c.want {
			t.Errorf("%+v: want %v", c.m, c.want)
		}
	}
}

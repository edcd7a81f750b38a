package variants

import (
	"errors"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/sched/plan"
)

// Data that are not the network's are refused.
func TestFitToDataThatDoNotFit(t *testing.T) {
	b := newNet(1, 16, 6, 6)
	b.conv("x", 16, 16, 3, 1, 1, 1, nil)
	n := b.network(t, "op")
	nan := func(i int, v []float32) {
		if i == 13 {
			v[0] = float32(math.NaN())
		}
	}
	for _, c := range []struct {
		name string
		data Data
		want string
	}{{"none", nil, "no calibration data"}, {"few", noise{n: 3, size: 576}.of(n), "at least 10"},
		{"too large", noise{n: 20, size: 577}.of(n), "float32[577] is given"}} {
		testkit.Refused(NewFitter(n, c.data))(t, c.want)
	}
	f := testkit.Must(NewFitter(n, noise{n: 20, size: 576, spoil: nan}.of(n)))(t)
	defer f.Close()
	testkit.Fails(t, f.Fit(t.Context(), 0, candidates(t, &n.Layers[0]), nil, nil), "NaN")
}

// Activations that overflow make no variant.
func TestActivationsThatOverflow(t *testing.T) {
	b := newNet(1, 8, 4, 4)
	x := b.node("Mul", []string{"x", b.floats([]float32{3e38}, 1)})
	b.conv(b.node("Mul", []string{x, b.floats([]float32{10}, 1)}), 8, 8, 3, 1, 1, 1, nil)
	n := b.network(t, "op")
	list := candidates(t, &n.Layers[len(n.Layers)-1])
	f := testkit.Must(NewFitter(n, noise{n: 20, size: 128}.of(n)))(t)
	defer f.Close()
	testkit.OK(t, f.Fit(t.Context(), len(n.Layers)-1, list, nil, nil))
	for _, c := range list {
		if c.Refusal == nil {
			t.Errorf("%s was not refused", c.String())
		}
	}
}

func TestFrontierAndChoose(t *testing.T) {
	make := func(us int, e float64) *Candidate {
		return &Candidate{Variant: plan.Variant{Latency: []time.Duration{0, time.Duration(us)}, Error: e}}
	}
	a, b, c, d := make(10, .5), make(20, .1), make(20, .2), make(30, .01)
	slow, refused, never := make(40, .05), make(5, 0), make(0, 0)
	refused.Refusal = ErrPromise
	list := []*Candidate{slow, d, c, refused, a, never, b}
	if got := Frontier(list, 1); !slices.Equal(got, []*Candidate{a, b, d}) {
		t.Errorf("frontier %v", got)
	}
	for most, want := range map[time.Duration]*Candidate{9: nil, 10: a, 29: b, 100: d} {
		if got := Choose(list, 1, most); got != want {
			t.Errorf("at most %d: %v, want %v", most, got, want)
		}
	}
	if got := Frontier(list, 0); len(got) != 0 {
		t.Errorf("on an accelerator that was not measured: %v", got)
	}
	x := &Candidate{Variant: plan.Variant{Promise: .1, Error: .3}}
	if x.judge(); !errors.Is(x.Refusal, ErrPromise) {
		t.Errorf("three times the promised error: %v", x.Refusal)
	}
	x = &Candidate{Variant: plan.Variant{Promise: .1, Error: math.NaN()}}
	if x.judge(); x.Refusal == nil {
		t.Error("an error that is no number was not refused")
	}
}

package variants

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/sched/plan"
)

// Where a candidate of 8 bits is fast enough and next to lossless, the others are not fitted; where it is not, those
// that are fast enough are. What is chosen is what would be chosen of all.
func TestWhatCannotBeChosenIsNotFitted(t *testing.T) {
	b := newNet(1, 16, 8, 8)
	b.conv("x", 16, 32, 3, 1, 1, 1, nil)
	n := b.network(t, "op")
	wants := []Want{{Most: 50 * time.Microsecond}, {Accelerator: 1, Most: 40 * time.Microsecond}}
	for name, c := range map[string]struct {
		slow map[string]bool // families too slow on accelerator 1
		want func(*Candidate) bool
	}{
		"8 bits suffice": {nil, (*Candidate).precise},
		"not on one":     {map[string]bool{"int8": true}, func(c *Candidate) bool { return true }},
		"nor some of the others": {map[string]bool{"int8": true, "pruned-int8": true, "d2s": true},
			func(c *Candidate) bool { return c.Family != "pruned-int8" && c.Family != "d2s" }},
	} {
		list := candidates(t, &n.Layers[0])
		all := candidates(t, &n.Layers[0])
		for i, x := range list {
			x.Latency = []time.Duration{30 * time.Microsecond, 35 * time.Microsecond}
			if c.slow[x.Family] {
				x.Latency[1] = 60 * time.Microsecond
			}
			all[i].Latency = x.Latency
		}
		f := testkit.Must(NewFitter(n, noise{n: 40, size: 1024}.of(n)))(t)
		defer f.Close()
		f.Workers = 3
		Screen(list, wants)
		testkit.OK(t, f.Fit(t.Context(), 0, list, wants, nil))
		f.Workers = 0
		testkit.OK(t, f.Fit(t.Context(), 0, all, nil, nil))
		for i, x := range list {
			if x.fitted != c.want(x) || !x.fitted && !errors.Is(x.Refusal, ErrUnneeded) {
				t.Errorf("%s: %s: fitted %v, %v", name, x.String(), x.fitted, x.Refusal)
			}
			if x.fitted && (x.Error != all[i].Error || x.Promise != all[i].Promise) {
				t.Errorf("%s: %s: error %v, promised %v; alone, one after the other: %v, %v", name, x.String(), x.Error, x.Promise,
					all[i].Error, all[i].Promise)
			}
		}
		for _, w := range wants {
			few, many := Choose(list, w.Accelerator, w.Most), Choose(all, w.Accelerator, w.Most)
			if few == nil || many == nil || few.String() != many.String() {
				t.Errorf("%s: of those fitted %v is chosen, of all %v", name, few, many)
			}
		}
	}
}

// Screening refuses what is fast enough nowhere, and what was not measured.
func TestScreen(t *testing.T) {
	us := time.Microsecond
	of := func(refusal error, latency ...time.Duration) *Candidate {
		return &Candidate{Variant: plan.Variant{Latency: latency}, Refusal: refusal}
	}
	list := []*Candidate{of(nil, 10*us, 99*us), of(nil, 99*us, 20*us), of(nil, 11*us, 21*us), of(nil, 0, 0), of(nil),
		of(ErrNotFinite, 10*us)}
	Screen(list, []Want{{Most: 10 * us}, {Accelerator: 1, Most: 20 * us}})
	for i, want := range []error{nil, nil, ErrSlow, ErrSlow, ErrSlow, ErrNotFinite} {
		if !errors.Is(list[i].Refusal, want) {
			t.Errorf("candidate %d: %v, want %v", i, list[i].Refusal, want)
		}
	}
}

// Of lossless candidates the fastest is chosen, of others the one with the least error.
func TestChooseCountsSmallErrorsAsNone(t *testing.T) {
	us := time.Microsecond
	of := func(latency time.Duration, e float64) *Candidate {
		return &Candidate{Variant: plan.Variant{Latency: []time.Duration{latency * us}, Error: e}}
	}
	for _, c := range []struct {
		list []*Candidate
		most time.Duration
		want int
	}{
		{[]*Candidate{of(10, 0.1), of(20, 0.001), of(30, 0.0001)}, 40 * us, 1},
		{[]*Candidate{of(10, 0.1), of(20, 0.01), of(30, 0.003)}, 40 * us, 2},
		{[]*Candidate{of(10, 0.1), of(20, 0.01), of(30, 0.0001)}, 25 * us, 1},
		{[]*Candidate{of(10, 0.1), of(20, 0.01), of(30, 0.0001)}, 5 * us, -1},
	} {
		got := Choose(c.list, 0, c.most)
		if slices.Index(c.list, got) != c.want {
			t.Errorf("of %v at most %v: chose %v, want number %d", c.list, c.most, got, c.want)
		}
	}
}

// Candidates for layers that differ in names and weights have the same shape;
// another parameter, geometry or operator makes it another.
func TestShape(t *testing.T) {
	b := newNet(1, 16, 8, 8)
	x := b.conv("x", 16, 16, 3, 1, 1, 1, nil)
	x = b.conv(x, 16, 16, 3, 1, 1, 1, nil)
	x = b.conv(x, 16, 16, 3, 1, 2, 1, nil)
	b.node("Relu", []string{b.conv(x, 16, 16, 3, 1, 0, 1, nil)})
	n := b.network(t, "op")
	var shapes [][]string
	for l := range n.Layers {
		var here []string
		for _, c := range candidates(t, &n.Layers[l]) {
			here = append(here, c.Shape())
		}
		sorted := slices.Clone(here)
		slices.Sort(sorted)
		if len(slices.Compact(sorted)) != len(here) {
			t.Errorf("layer %d: of %d candidates some have the same shape", l, len(here))
		}
		shapes = append(shapes, here)
	}
	if !slices.Equal(shapes[0], shapes[1]) {
		t.Error("two layers alike have candidates of other shapes")
	}
	for _, l := range []int{2, 3} {
		for i := range shapes[0] {
			if shapes[0][i] == shapes[l][i] {
				t.Errorf("layer %d, candidate %d: the same shape as in layer 0", l, i)
			}
		}
	}
}

// Fewer multiply-accumulates and 8 bits lower the bound, which holds what was measured of every family.
func TestLeast(t *testing.T) {
	c := &Candidate{Variant: plan.Variant{Family: "lowrank", MACs: 50}, OriginalMACs: 100}
	if got := c.Least(time.Millisecond); got != 400*time.Microsecond {
		t.Errorf("half of the multiply-accumulates: %v", got)
	}
	c.Family = "pruned-int8"
	if got := c.Least(time.Millisecond); got != 100*time.Microsecond {
		t.Errorf("half of them in 8 bits: %v", got)
	}
}

// Where every bit of speed counts, what is faster than a lossless candidate is fitted too, family by family from what
// computes most, until it loses too much; what is barely faster is not.
func TestClosest(t *testing.T) {
	us := time.Microsecond
	of := func(family string, macs int64, latency time.Duration) *Candidate {
		return &Candidate{Variant: plan.Variant{Family: family, MACs: macs, Latency: []time.Duration{latency}}}
	}
	fitted := func(c *Candidate, e float64) *Candidate {
		c.fitted, c.Error = true, e
		return c
	}
	faster, most := []Want{{Most: 90 * us, Faster: true}}, []Want{{Most: 90 * us}}
	both := []Want{{Most: 90 * us, Faster: true}, {Most: 45 * us}}
	for name, c := range map[string]struct {
		wants   []Want
		list    []*Candidate
		next    []int
		refused map[int]error
	}{
		"all are wanted": {nil, []*Candidate{of("a", 1, 99*us), of("a", 2, 0)}, []int{0, 1}, nil},
		"one of each family": {faster, []*Candidate{of("a", 1, 50*us), of("a", 3, 80*us), of("a", 2, 70*us), of("b", 1, 60*us)},
			[]int{1, 3}, nil},
		"after those that are fitted": {faster, []*Candidate{fitted(of("a", 3, 80*us), 0.2), of("a", 2, 70*us),
			of("b", 9, 60*us)}, []int{1, 2}, nil},
		"none that loses more than too much": {faster, []*Candidate{fitted(of("a", 3, 80*us), 0.31), of("a", 2, 70*us),
			of("a", 4, 70*us), of("b", 1, 60*us)}, []int{2, 3}, map[int]error{1: ErrLossy}},
		"none that can only lose more than one as fast": {faster, []*Candidate{fitted(of("a", 3, 80*us), 0.2),
			fitted(of("b", 3, 70*us), 0.1), of("a", 2, 71*us), of("a", 1, 69*us)}, []int{3}, map[int]error{2: ErrUnneeded}},
		"none that is as fast as a lossless one": {faster, []*Candidate{fitted(of("int8", 3, 60*us), 0.001),
			of("a", 2, 61*us), of("a", 1, 58*us), of("b", 1, 57*us)}, []int{3}, map[int]error{1: ErrUnneeded, 2: ErrUnneeded}},
		"a lossless one suffices": {most, []*Candidate{fitted(of("int8", 3, 60*us), 0.001), of("a", 2, 10*us)}, nil,
			map[int]error{1: ErrUnneeded}},
		"wanted for more than speed": {both, []*Candidate{of("a", 3, 80*us), of("a", 2, 40*us), of("a", 1, 30*us)},
			[]int{1, 2, 0}, nil},
	} {
		next := closest(c.list, c.wants)
		var got []int
		for _, x := range next {
			got = append(got, slices.Index(c.list, x))
		}
		if !slices.Equal(got, c.next) {
			t.Errorf("%s: %v are next, want %v", name, got, c.next)
		}
		for i, x := range c.list {
			if !errors.Is(x.Refusal, c.refused[i]) {
				t.Errorf("%s: %d is refused: %v, want %v", name, i, x.Refusal, c.refused[i])
			}
		}
	}
}

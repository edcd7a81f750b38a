package stats

import (
	"math"
	"math/rand/v2"
	"testing"
)

// Groups that say the same are one observation: asking each input five times narrows nothing.
func TestPairedRatioCountsInputs(t *testing.T) {
	var once, often []Pairs
	for i := range 200 {
		x, y := 1.0, 1.0
		if i%20 == 0 {
			x = 0
		}
		if i%50 == 1 {
			y = 0
		}
		var a, b Pairs
		a.Add(x, y)
		for range 5 {
			b.Add(x, y)
		}
		once, often = append(once, a), append(often, b)
	}
	r1, l1, h1 := PairedRatio(once)
	r2, l2, h2 := PairedRatio(append(often, Pairs{}))
	if math.Abs(r1-190.0/196) > 1e-12 || math.Abs(r1-r2)+math.Abs(l1-l2)+math.Abs(h1-h2) > 1e-9 {
		t.Errorf("once %v (%v to %v), five times %v (%v to %v)", r1, l1, h1, r2, l2, h2)
	}
	if r, l, h := PairedRatio([]Pairs{{N: 3}}); !math.IsNaN(r) || !math.IsNaN(l) || !math.IsNaN(h) {
		t.Errorf("originals that score nothing: %v, %v, %v", r, l, h)
	}
}

// The interval holds the truth in some 95 of 100 cases, also where differences are rare; without any it is not empty.
func TestPairedRatioCoverage(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, c := range []struct {
		n           int
		lost, found float64 // the shares of inputs that only one of the two gets right
	}{{100, .05, .05}, {300, .02, 0}, {500, .01, .005}, {1000, .002, .002}, {2000, .03, .01}} {
		const runs = 2000
		const right = .9 // of the original, on the others
		truth := (right + c.found) / (right + c.lost)
		held := 0
		for range runs {
			groups := make([]Pairs, c.n)
			for i := range groups {
				switch u := rng.Float64(); {
				case u < c.lost:
					groups[i].Add(0, 1)
				case u < c.lost+c.found:
					groups[i].Add(1, 0)
				case u < c.lost+c.found+right:
					groups[i].Add(1, 1)
				default:
					groups[i].Add(0, 0)
				}
			}
			if _, low, high := PairedRatio(groups); low <= truth && truth <= high {
				held++
			}
		}
		if share := float64(held) / runs; share < .93 || share > .995 {
			t.Errorf("n %d, lost %v, found %v: the interval holds the truth in %.1f %%", c.n, c.lost, c.found, 100*share)
		}
	}
	alike := make([]Pairs, 400)
	for i := range alike {
		alike[i].Add(1, 1)
	}
	if r, low, high := PairedRatio(alike); r != 1 || low > .9952 || low < .99 || high < 1.0048 {
		t.Errorf("no difference in 400: %v (%v to %v)", r, low, high)
	}
}

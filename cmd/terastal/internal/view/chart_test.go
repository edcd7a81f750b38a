package view

import (
	"encoding/xml"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/terastal/terastal/sched/plan"
)

// TestMissInterval: independent misses give Wilson's interval or close to it,
// clustered ones a wider one that holds the truth more often.
func TestMissInterval(t *testing.T) {
	for _, c := range []struct {
		missed    []bool
		low, high float64
	}{
		{nil, 0, 1},
		{make([]bool, 100), 0, 0.0370}, // Wilson's for 0 of 100
		{slices.Repeat([]bool{true}, 100), 0.9630, 1},
		{slices.Repeat([]bool{true, false}, 50), 0.4038, 0.5962}, // 50 of 100, evenly spread
	} {
		i := missInterval(c.missed)
		if math.Abs(i.low-c.low) > 1e-4 || math.Abs(i.high-c.high) > 1e-4 {
			t.Errorf("%d values: %.4f to %.4f, want %.4f to %.4f", len(c.missed), i.low, i.high, c.low, c.high)
		}
	}
	covered := map[bool]int{}
	const runs, n, p = 400, 2000, 0.1
	r := rand.New(rand.NewPCG(1, 2))
	for range runs {
		missed, state := make([]bool, n), r.Float64() < p
		for i := range missed { // a two-state chain with stretches of 20 misses
			if state {
				state = r.Float64() > 0.05
			} else {
				state = r.Float64() < 0.05*p/(1-p)
			}
			missed[i] = state
		}
		total := 0
		for _, m := range missed {
			if m {
				total++
			}
		}
		clustered, plain := missInterval(missed), wilson(float64(total)/n, n)
		if clustered.low <= p && p <= clustered.high {
			covered[true]++
		}
		if plain.low <= p && p <= plain.high {
			covered[false]++
		}
	}
	if covered[true] < runs*86/100 || covered[false] > runs*60/100 {
		t.Errorf("of %d runs the interval held the truth in %d, without regard to clusters in %d", runs, covered[true],
			covered[false])
	}
}

func TestScales(t *testing.T) {
	for _, c := range []struct {
		s    scale
		n    int
		want string
	}{
		{scale{min: 0, max: 1}, 5, "[0 0.2 0.4 0.6 0.8 1]"},
		{scale{min: 0, max: 11.5}, 6, "[0 2 4 6 8 10]"},
		{scale{min: .5, max: 3.5}, 6, "[0.5 1 1.5 2 2.5 3 3.5]"},
		{scale{min: 20, max: 4000, log: true}, 6, "[20 50 100 200 500 1000 2000]"},
		{scale{min: 3, max: 3}, 6, "[3]"},
		{scale{min: 1, max: 1e9, log: true}, 6, "[1 10 100 1000 10000 100000 1e+06 1e+07 1e+08 1e+09]"},
	} {
		var text []string
		for _, v := range c.s.ticks(c.n) {
			text = append(text, fmt.Sprintf("%.6g", v))
		}
		if got := "[" + strings.Join(text, " ") + "]"; got != c.want {
			t.Errorf("ticks of %+v: %s, want %s", c.s, got, c.want)
		}
	}
	for x, want := range map[float64]float64{0: 1, .05: .05, .93: 1, 21: 25, 99: 100, math.Inf(1): 1} {
		if got := niceMax(x); math.Abs(got-want) > 1e-9 {
			t.Errorf("niceMax(%v) = %v, want %v", x, got, want)
		}
	}
}

// TestFrontier: what is in use is ringed, what was refused hollow, and each layer
// has its line; a candidate without a time on the accelerator is left out.
func TestFrontier(t *testing.T) {
	us := func(x ...time.Duration) []time.Duration {
		for i := range x {
			x[i] *= time.Microsecond
		}
		return x
	}
	v := &plan.Variants{Model: "a <b>", Accelerators: []string{"one", "two"}, Candidates: []plan.Variant{
		{LayerName: "l", Family: "int8", Original: us(100, 100), Latency: us(50, 90), Error: .01, Frontier: true,
			Wanted: []string{"one"}},
		{LayerName: "l", Family: "d2s", Original: us(100, 100), Latency: us(25, 80), Error: .1, Frontier: true},
		{LayerName: "l", Family: "d2s", Original: us(100, 100), Latency: us(80, 80), Error: .2, Refused: "too slow"},
		{Layer: 1, LayerName: "k", Family: "d2s", Original: us(100, 100), Latency: us(0, 80), Error: .2}}}
	svg := drawFrontier(v, 0)
	if err := xml.Unmarshal([]byte(svg), new(struct{})); err != nil {
		t.Errorf("not well formed: %v", err)
	}
	for text, n := range map[string]int{`r="4"`: 3 + 2, `r="8"`: 1, `fill="none" stroke="#1f77b4"`: 1,
		`stroke="#bbb"`: 1, "L": 1, "2.00x, error 0.01": 1} {
		if got := strings.Count(svg, text); got != n {
			t.Errorf("%q is there %d times, want %d, in\n%s", text, got, n, svg)
		}
	}
}

package comparison

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/terastal/terastal/internal/sequential"
	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/sched/eventlog"
)

// run is what a policy got in one repeat, of models m0, m1, ... with so many requests each, all of which finished.
func run(policy string, requests int, miss, p50 []float64) eventlog.Metrics {
	m := eventlog.Metrics{Policy: policy, Driver: eventlog.Real}
	for i := range miss {
		m.Models = append(m.Models, eventlog.ModelMetrics{Model: "m" + string(rune('0'+i)), MissRate: miss[i],
			P50MS: p50[i], P99MS: 3 * p50[i],
			Totals: eventlog.Totals{Released: requests, Met: requests}})
		m.MeanMissRate += miss[i] / float64(len(miss))
	}
	return m
}

// noisy makes repeats of two models around the given figures. What is hard
// about a repeat is common to the policies with the same seed.
func noisy(policy string, rng *rand.Rand, hard []float64, miss, p50 float64) Runs {
	r := Runs{Policy: policy}
	for _, h := range hard {
		x := func(mean, sigma float64) []float64 {
			return []float64{mean + h*10*sigma + rng.NormFloat64()*sigma, mean + h*10*sigma + rng.NormFloat64()*sigma}
		}
		r.Repeats = append(r.Repeats, run(policy, 1000, x(miss, 0.002), x(p50, 0.1)))
	}
	return r
}

func hardness(rng *rand.Rand, n int) []float64 {
	out := make([]float64, n)
	for i := range out {
		out[i] = rng.NormFloat64()
	}
	return out
}

// TestPlanted: a difference is found, with its size, though it is small next to
// what repeats differ by among themselves; what is not there stays ~.
func TestPlanted(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	hard := hardness(rng, 8)
	runs := []Runs{noisy("fcfs", rng, hard, 0.2, 10), noisy("edf", rng, hard, 0.25, 8)}
	again := noisy("fcfs", rng, hard, 0.2, 10)
	c, err := Compare(runs, "fcfs", &again)
	testkit.OK(t, err)
	edf := &c.Policies[1]
	if d := edf.Miss; !d.Significant || math.Abs(*d.Difference-0.05) > 0.004 || *d.DifferenceLow > 0.05 ||
		*d.DifferenceHigh < 0.045 || *d.P > 0.01 {
		t.Errorf("5 points more misses: %+v", d)
	}
	if !edf.Models[1].P50.Significant || !edf.Models[0].P99.Significant || *edf.Models[1].P50.Difference > -1.8 {
		t.Errorf("2 ms less: %+v", edf.Models[1].P50)
	}
	if edf.Geomean == nil || math.Abs(*edf.Geomean-0.8) > 0.03 || *c.Policies[0].Geomean != 1 {
		t.Errorf("geometric means %v and %v, want 1 and 0.8", c.Policies[0].Geomean, edf.Geomean)
	}
	if what, tested := c.AA.Differs(); len(what) > 0 || tested != 7 || c.AA.Miss.P == nil {
		t.Errorf("the baseline differs from itself in %v of %d", what, tested)
	}
	if base := c.Policies[0].Miss; base.P != nil || base.Difference != nil || c.Confidence != 0.95 || c.Repeats != 8 ||
		c.Driver != eventlog.Real {
		t.Errorf("the baseline: %+v, %+v", base, c)
	}
}

// TestAA: a policy differs from itself in at most 5 % of the comparisons, the
// nominal rate, and not in far fewer where the number of repeats allows that.
func TestAA(t *testing.T) {
	sequential.Skip(t)
	rng := rand.New(rand.NewPCG(3, 4))
	const runs = 3000
	for n, least := range map[int]float64{1: 0, 3: 0, 5: 0, 6: 0.018, 8: 0.03, 10: 0.03} {
		found := 0
		for range runs {
			hard := hardness(rng, n)
			first, again := noisy("a", rng, hard, 0.2, 10), noisy("a", rng, hard, 0.2, 10)
			c, err := Compare([]Runs{first}, "a", &again)
			testkit.OK(t, err)
			if c.AA.Miss.Significant {
				found++
			}
		}
		// Four standard deviations of a share of 5 % over the runs are 1.6 %.
		if share := float64(found) / runs; share > 0.066 || share < least || n < Enough && found > 0 {
			t.Errorf("%d repeats: %.3f of the comparisons of a policy with itself found a difference", n, share)
		}
	}
}

// TestMeasure holds medians and intervals against a deliberately dumb account of them: an interval is the order
// statistics that leave at most 2.5 % of a fair coin's outcomes outside on each side.
func TestMeasure(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfN(rapid.Float64Range(0, 1), 1, 14).Draw(t, "values")
		r := Runs{Policy: "a"}
		for _, x := range values {
			r.Repeats = append(r.Repeats, run("a", 1000, []float64{x}, []float64{1}))
		}
		c := testkit.Must(Compare([]Runs{r}, "a", nil))(t)
		sorted := slices.Clone(values)
		slices.Sort(sorted)
		n := len(sorted)
		outside := func(k int) float64 { // fewer than k of n coins are heads
			count := 0
			for coins := range 1 << n {
				heads := 0
				for i := range n {
					heads += coins >> i & 1
				}
				if heads < k {
					count++
				}
			}
			return float64(count) / math.Pow(2, float64(n))
		}
		k := 1
		for k < (n+1)/2 && outside(k+1) <= 0.025 {
			k++
		}
		m := c.Policies[0].Miss
		if m.Low != sorted[k-1] || m.High != sorted[n-k] {
			t.Fatalf("interval %v to %v, want %v to %v", m.Low, m.High, sorted[k-1], sorted[n-k])
		}
		if covers := 1 - 2*outside(k); c.Confidence > covers+1e-12 || n < Enough && math.Abs(c.Confidence-covers) > 1e-12 {
			t.Fatalf("%d repeats: confidence %v is claimed, %v is covered", n, c.Confidence, covers)
		}
		below, above := 0, 0
		for _, x := range values {
			if x < m.Median {
				below++
			} else if x > m.Median {
				above++
			}
		}
		if 2*below > n || 2*above > n || !slices.Equal(m.Values, values) {
			t.Fatalf("median %v of %v, %v", m.Median, values, m.Values)
		}
	})
}

// TestOrderOfPolicies: what a policy gets does not depend on who else played.
func TestOrderOfPolicies(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	hard := hardness(rng, 7)
	a, b := noisy("a", rng, hard, 0.2, 10), noisy("b", rng, hard, 0.2, 9)
	one, err1 := Compare([]Runs{a, b}, "a", nil)
	two, err2 := Compare([]Runs{b, a}, "a", nil)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	if *one.Policies[1].Miss.P != *two.Policies[0].Miss.P || *one.Policies[1].Geomean != *two.Policies[0].Geomean {
		t.Error("the order of the policies changes what they got")
	}
	// The other way round, differences change sign and tests do not.
	three, err := Compare([]Runs{a, b}, "b", nil)
	if err != nil || *three.Policies[0].Miss.P != *one.Policies[1].Miss.P ||
		math.Abs(*three.Policies[0].Miss.Difference+*one.Policies[1].Miss.Difference) > 1e-12 {
		t.Errorf("with the other baseline: %v, %v", three.Policies[0].Miss, err)
	}
}

// TestUnclaimed: too few requests, or none, take claims and tests away.
func TestUnclaimed(t *testing.T) {
	with := func(requests int) Runs {
		r := Runs{Policy: "a"}
		for i := range 8 {
			r.Repeats = append(r.Repeats, run("a", requests, []float64{0.1}, []float64{float64(i + 1)}))
		}
		return r
	}
	for _, c := range []struct {
		requests       int
		miss, p50, p99 bool
	}{{459, true, true, true}, {458, true, true, false}, {29, true, true, false}, {28, false, true, false}, {7, false,
		true, false}, {6, false, false, false}} {
		again := with(c.requests)
		x := testkit.Must(Compare([]Runs{with(1000)}, "a", &again))(t)
		m := x.AA.Models[0]
		if m.Miss.Claimed != c.miss || m.P50.Claimed != c.p50 || m.P99.Claimed != c.p99 || (m.P99.P != nil) != c.p99 ||
			x.AA.Miss.Claimed != c.miss {
			t.Errorf("%d requests: %+v", c.requests, m)
		}
	}
	early := with(1000)
	early.Repeats[0].Models[0].Released, early.Repeats[0].Models[0].Met = 6, 6
	if x, err := Compare([]Runs{with(1000), early}, "a", nil); err != nil || x.Policies[1].Miss.Claimed ||
		x.Policies[1].Models[0].P50.Claimed {
		t.Errorf("few requests in one repeat only: %+v, %v", x, err)
	}
	none := with(1000)
	none.Repeats[3].Models[0].Totals = eventlog.Totals{Released: 1000, Dropped: 1000}
	none.Repeats[3].Models[0].P50MS = 0
	x := testkit.Must(Compare([]Runs{with(1000), none}, "a", nil))(t)
	if m := x.Policies[1].Models[0]; m.P50.Values != nil || m.P50.Claimed || m.P50.P != nil || !m.Miss.Claimed ||
		x.Policies[1].Geomean != nil {
		t.Errorf("nothing finished in one repeat: %+v", m)
	}
}

// TestEqualIsEqual: what floating point adds is no difference.
func TestEqualIsEqual(t *testing.T) {
	a, b := Runs{Policy: "a"}, Runs{Policy: "b"}
	for range 9 {
		tenth, fifth := 0.1, 0.2
		a.Repeats = append(a.Repeats, run("a", 1000, []float64{tenth + fifth}, []float64{1}))
		b.Repeats = append(b.Repeats, run("b", 1000, []float64{0.3}, []float64{1}))
	}
	c, err := Compare([]Runs{a, b}, "a", nil)
	if err != nil || c.Policies[1].Miss.Significant || *c.Policies[1].Miss.Difference != 0 {
		t.Errorf("%+v, %v", c.Policies[1].Miss, err)
	}
}

// TestEnergy: joules per met request are compared where every repeat has them.
func TestEnergy(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 10))
	hard := hardness(rng, 8)
	a, b, again := noisy("a", rng, hard, 0.1, 1), noisy("b", rng, hard, 0.1, 1), noisy("a", rng, hard, 0.1, 1)
	for i := range 8 {
		x := 2 + float64(i)/100
		a.PerMet, b.PerMet, again.PerMet = append(a.PerMet, x), append(b.PerMet, x-0.5), append(again.PerMet, x)
	}
	c := testkit.Must(Compare([]Runs{a, b}, "a", &again))(t)
	if m := c.Policies[1].PerMet; m == nil || !m.Significant || *m.Difference != -0.5 || math.Abs(m.Median-1.535) > 1e-9 {
		t.Errorf("half a joule less: %+v", m)
	}
	if base := c.Policies[0].PerMet; base == nil || base.P != nil || len(base.Values) != 8 {
		t.Errorf("the baseline: %+v", base)
	}
	if what, tested := c.AA.Differs(); c.AA.PerMet == nil ||
		slices.Contains(what, "the energy per met request") || tested != 8 {
		t.Errorf("the baseline again: %v of %d", what, tested)
	}
	a.PerMet[3] = 0
	c = testkit.Must(Compare([]Runs{a, b}, "a", nil))(t)
	if m := c.Policies[1].PerMet; c.Policies[0].PerMet != nil || m == nil || m.P != nil {
		t.Errorf("a repeat of the baseline without: %+v, %+v", c.Policies[0].PerMet, m)
	}
	b.PerMet = b.PerMet[:7]
	if c = testkit.Must(Compare([]Runs{a, b}, "a", nil))(t); c.Policies[1].PerMet != nil {
		t.Errorf("one repeat was not metered: %+v", c.Policies[1].PerMet)
	}
}

func TestCompareRefuses(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	a, b := noisy("a", rng, hardness(rng, 3), 0.1, 1), noisy("b", rng, hardness(rng, 2), 0.1, 1)
	other := Runs{Policy: "c", Repeats: []eventlog.Metrics{run("c", 9, []float64{0}, []float64{1}), {}, {}}}
	for want, runs := range map[string][]Runs{"nothing": nil, "b has 2 repeats, a 3": {a, b}, "other models": {a,
		other}, `baseline "a" is not among`: {b}} {
		testkit.Refused(Compare(runs, "a", nil))(t, want)
	}
	if _, err := Compare([]Runs{a}, "a", &b); err == nil {
		t.Error("an A/A run of other repeats was taken")
	}
}

// TestFind: the scale that a policy sustains is found to the resolution,
// wherever it lies, and each curve stays sorted and in its bracket.
func TestFind(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		truth := rapid.Float64Range(0.3, 1.9).Draw(t, "truth")
		resolution := rapid.Float64Range(0.001, 0.2).Draw(t, "resolution")
		scales, err := Scales(0.5, 1.6, 0.1)
		if err != nil || len(scales) != 12 || scales[11] != 1.6 {
			t.Fatal(scales, err)
		}
		asked := 0
		c := Curves{Limit: 0.01}
		c.Lines([]string{"a", "b"}, nil, nil)
		testkit.OK(t, c.Find(scales, resolution, func(asks []Ask) ([]Point, error) {
			var out []Point
			for _, a := range asks {
				miss := 0.0
				if a.Curve == 0 && a.Scale > truth {
					miss = a.Scale - truth + 0.011
				}
				asked++
				out = append(out, Point{Scale: a.Scale, Miss: miss, Low: max(0, miss-0.05), High: miss + 0.0001, Runs: 2})
			}
			return out, nil
		}))
		a, b := c.Curves[0], c.Curves[1]
		if b.SurelyNot != nil || *b.Surely != 1.6 || b.Exceeds != nil || *b.Sustains != 1.6 || len(b.Points) != 12 {
			t.Fatalf("a policy that never misses: %+v", b)
		}
		if !slices.IsSortedFunc(a.Points, func(x, y Point) int { return int(math.Copysign(1, x.Scale-y.Scale)) }) ||
			asked > 24+8 {
			t.Fatalf("%d points were asked for: %+v", asked, a.Points)
		}
		switch {
		case truth < 0.5:
			if a.Sustains != nil || *a.Exceeds != 0.5 {
				t.Fatalf("sustains nothing: %+v", a)
			}
		case truth >= 1.6:
			if a.Exceeds != nil || *a.Sustains != 1.6 {
				t.Fatalf("sustains everything: %+v", a)
			}
		default:
			// The interval holds what is sustained: it ends where misses are 5 points above the limit, some 0.05 further on.
			if a.Surely == nil || *a.Surely > truth || a.SurelyNot != nil && (*a.SurelyNot <= truth ||
				*a.SurelyNot < *a.Exceeds) {
				t.Fatalf("truth %v, surely %v, surely not %v", truth, a.Surely, a.SurelyNot)
			}
			if *a.Sustains > truth || *a.Exceeds <= truth || *a.Exceeds-*a.Sustains > resolution+1e-9 {
				t.Fatalf("truth %v within %v: %v to %v", truth, resolution, *a.Sustains, *a.Exceeds)
			}
		}
	})
}

// TestFindFloors: policies that spend accuracy have a curve for every floor, others one, and each is followed to every
// limit.
func TestFindFloors(t *testing.T) {
	c := Curves{Limit: 0.01, Further: []float64{0.05, 0.012}}
	c.Lines([]string{"fcfs", "pedf"}, []float64{1, 0.99}, func(policy string) bool { return policy == "pedf" })
	if len(c.Curves) != 3 || c.Curves[0].Floor != nil || *c.Curves[1].Floor != 1 || *c.Curves[2].Floor != 0.99 ||
		c.Curves[2].Policy != "pedf" {
		t.Fatalf("curves %+v", c.Curves)
	}
	// Misses grow by a point with every tenth beyond what a curve takes.
	takes := []float64{0.61, 0.73, 1.14}
	scales := testkit.Must(Scales(0.5, 1.6, 0.1))(t)
	seen := map[Ask]bool{}
	testkit.OK(t, c.Find(scales, 0.01, func(asks []Ask) (out []Point, _ error) {
		for _, a := range asks {
			if seen[a] {
				t.Errorf("%+v was asked for again", a)
			}
			seen[a] = true
			miss := max(0, 0.1*(a.Scale-takes[a.Curve]))
			out = append(out, Point{Scale: a.Scale, Miss: miss, Low: miss, High: miss, Runs: 2})
		}
		return out, nil
	}))
	for i := range c.Curves {
		for limit, most := range c.Limits() {
			x, want := c.Curves[i].At(limit), takes[i]+10*most
			if want > 1.6 {
				if x.Exceeds != nil || *x.Sustains != 1.6 {
					t.Errorf("curve %d, limit %v: %+v", i, most, x)
				}
			} else if math.Abs(*x.Sustains-want) > 0.011 || *x.Exceeds <= want {
				t.Errorf("curve %d, limit %v sustains %v and exceeds at %v, want about %v", i, most, *x.Sustains, *x.Exceeds, want)
			}
		}
	}
}

// TestFindInterrupted keeps the points that there are.
func TestFindInterrupted(t *testing.T) {
	stop := errors.New("stop")
	c := Curves{Limit: 0.01}
	c.Lines([]string{"a"}, nil, nil)
	err := c.Find([]float64{1, 2, 3}, 0.1, func([]Ask) ([]Point, error) {
		return []Point{{Scale: 1, Runs: 1}, {Scale: 2, Miss: 1, Low: 1, High: 1, Runs: 1}, {}}, stop
	})
	if a := c.Curves[0]; !errors.Is(err, stop) || len(a.Points) != 2 || *a.Sustains != 1 || *a.Exceeds != 2 ||
		a.Surely != nil || a.SurelyNot != nil {
		t.Errorf("%v, %+v", err, c.Curves)
	}
}

func TestScalesRefused(t *testing.T) {
	for _, x := range [][3]float64{{0, 1, 0.1}, {1, 0.5, 0.1}, {1, 2, 0}, {1, 2, -1}, {1, math.Inf(1), 1}, {1, 2, 1e-9},
		{math.NaN(), 2, 1}} {
		if s, err := Scales(x[0], x[1], x[2]); err == nil {
			t.Errorf("%v: %d scales", x, len(s))
		}
	}
	if s, err := Scales(1, 1, 0.1); err != nil || !slices.Equal(s, []float64{1}) {
		t.Errorf("one scale: %v, %v", s, err)
	}
}

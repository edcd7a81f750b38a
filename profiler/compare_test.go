package profiler_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/stats"
	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/runtime"
)

// synthetic is a profile of one model of layers on two accelerators, "a" and "b". sample gives the time of each of n
// samples.
func synthetic(layers, n int, sample func(layer, acc int) float64) *profiler.Profile {
	p := &profiler.Profile{Created: "2026-01-01T00:00:00Z", Host: profiler.Host{OS: "linux", Arch: "amd64", CPU: "test",
		LogicalCores: 2, AllowedCores: []int{0, 1}},
		ORT: "1.29.0", Accelerators: []runtime.Spec{{Name: "a"}, {Name: "b", Optimization: "basic", Threads: 2}}}
	m := profiler.Model{Name: "net", SHA256: "0123456789abcdef", Granularity: "op"}
	for l := range layers {
		m.Layers = append(m.Layers, profiler.Layer{Name: "/block/conv" + string(rune('a'+l)), SHA256: "x",
			Ops: []string{"Conv", "Relu"}, Shape: "1x8x7x7",
			MACs: 1000 * int64(l), Parameters: 7, Implementations: []string{"original"}})
		for k := range 2 {
			var ts []time.Duration
			for range n {
				ts = append(ts, time.Duration(sample(l, k)))
			}
			sorted := stats.Sorted(ts)
			low, high := stats.MedianCI(sorted)
			at := func(q float64) time.Duration { return stats.Quantile(sorted, q) }
			p.Cells = append(p.Cells, profiler.Cell{Layer: l, Accelerator: k, N: n, Min: sorted[0], Mean: at(.5), P50: at(.5),
				P90: at(.9), P95: at(.95), P99: at(.99),
				Low: low, High: high, Samples: ts})
		}
	}
	p.Models = append(p.Models, m)
	return p
}

// noisy samples around a centre per layer and accelerator.
func noisy(seed uint64, center func(layer, acc int) float64) func(int, int) float64 {
	rng := rand.New(rand.NewPCG(seed, 1))
	return func(l, k int) float64 { return center(l, k) * (1 + 0.01*rng.NormFloat64()) }
}

func flat(l, k int) float64 { return 1e6 }

// A profile agrees with itself, and with another measurement of the same except for the false alarms that a test at 5 %
// has.
func TestCompareSame(t *testing.T) {
	a := synthetic(24, 64, noisy(1, flat))
	c := testkit.Must(profiler.Compare(a, a))(t)
	if c.Summary != (profiler.Agreement{Cells: 48}) || len(c.Differences) != 0 || len(c.Accelerators) != 2 ||
		math.Abs(c.Accelerators[1].All.Change) > 1e-12 {
		t.Errorf("with itself: %+v", c)
	}
	c = testkit.Must(profiler.Compare(a, synthetic(24, 64, noisy(2, flat))))(t)
	if s := c.Summary; s.Cells != 48 || s.MedianChange > 0.003 || s.Beyond != 0 || s.Significant > 0.2 {
		t.Errorf("repeated: %+v", s)
	}
}

// A change of one layer is found, where it is and how large, by the test and by intervals; nothing else is.
func TestCompareChange(t *testing.T) {
	slower := func(l, k int) float64 {
		if l == 3 && k == 1 {
			return 1.25e6
		}
		return 1e6
	}
	for _, samples := range []bool{true, false} {
		a, b := synthetic(5, 128, noisy(1, flat)), synthetic(5, 128, noisy(1, slower))
		if !samples {
			for i := range a.Cells {
				a.Cells[i].Samples = a.Cells[i].Samples[:5]
			}
		}
		c := testkit.Must(profiler.Compare(a, b))(t)
		for _, acc := range c.Accelerators {
			for l, x := range acc.Cells {
				changed := acc.Accelerator == "b" && l == 3
				if x.Significant != changed || math.Abs(x.Change-map[bool]float64{true: 0.25}[changed]) > 0.01 ||
					(x.P != nil) != samples {
					t.Errorf("samples %v, accelerator %s, layer %d: %+v", samples, acc.Accelerator, l, x)
				}
			}
		}
		g := c.Accelerators[1].All
		if want := math.Pow(1.25, 0.2) - 1; math.Abs(g.Change-want) > 0.002 || g.FasterA != 1 || g.FasterB != 0 ||
			g.Cells != 5 {
			t.Errorf("geomean %+v, want a change of %v", g, want)
		}
		if math.Abs(c.Summary.Beyond-0.1) > 1e-9 {
			t.Errorf("summary %+v", c.Summary)
		}
	}
}

// Two accelerators of one profile: sums, the best of both, who is faster where.
func TestCompareAccelerators(t *testing.T) {
	p := synthetic(4, 32, noisy(1, func(l, k int) float64 { return []float64{1e6, 2e6}[(l+k)%2] }))
	c := testkit.Must(profiler.CompareAccelerators(p, "b", "a"))(t)
	if c.A != "b" || len(c.Accelerators) != 1 || c.Accelerators[0].Accelerator != "b against a" {
		t.Fatalf("%+v", c)
	}
	testkit.Equal(t, []profiler.Difference{{What: "settings", A: "cpu, optimization basic, threads 2",
		B: "cpu, optimization all, threads 1"}}, c.Differences)
	g := c.Accelerators[0].Models[0]
	near := func(d time.Duration, ms float64) bool { return math.Abs(d.Seconds()*1e3-ms) < 0.1 }
	if g.FasterA != 2 || g.FasterB != 2 || !near(g.SumA, 6) || !near(g.SumB, 6) || !near(g.SumBest, 4) ||
		c.Accelerators[0].Cells[0].Change > -0.4 {
		t.Errorf("%+v", g)
	}
	for _, names := range [][2]string{{"a", "none"}, {"none", "a"}, {"a", "a"}} {
		if _, err := profiler.CompareAccelerators(p, names[0], names[1]); err == nil {
			t.Errorf("%q was accepted", names)
		}
	}
	// A device stands for its first stream.
	p.Accelerators[0].Of = "gpu"
	if c := testkit.Must(profiler.CompareAccelerators(p, "b", "gpu"))(t); c.B != "gpu" || len(c.Accelerators) != 1 {
		t.Errorf("%+v", c)
	}
}

// What only one side has, or could not measure, is named and not compared.
func TestCompareParts(t *testing.T) {
	a, b := synthetic(3, 16, noisy(1, flat)), synthetic(4, 16, noisy(2, flat))
	b.Accelerators[1].Name = "c"
	b.Cells[0] = profiler.Cell{Refused: "no"}
	c := testkit.Must(profiler.Compare(a, b))(t)
	if len(c.OnlyA) != 3 || len(c.OnlyB) != 5 || len(c.Unmeasured) != 1 || c.Summary.Cells != 2 {
		t.Errorf("%+v", c)
	}
	if n := (profiler.CellName{Model: "net", Layer: "/block/convd", Implementation: "original",
		Accelerator: "a"}); !slices.Contains(c.OnlyB, n) {
		t.Errorf("only in B: %v", c.OnlyB)
	}
	b.Models[0].Name = "other"
	testkit.Refused(profiler.Compare(a, b))(t, profiler.ErrNothingInCommon, `"other"`)
}

// Layers may share a name; each is compared with the one in its turn.
func TestCompareTurns(t *testing.T) {
	a := synthetic(3, 16, noisy(1, func(l, k int) float64 { return float64(l+1) * 1e6 }))
	for l := range a.Models[0].Layers {
		a.Models[0].Layers[l].Name = "same"
	}
	c, err := profiler.Compare(a, a)
	if err != nil || c.Summary.Cells != 6 || c.Summary.Beyond != 0 {
		t.Fatalf("%+v, %v", c, err)
	}
	for l, x := range c.Accelerators[1].Cells {
		if off := x.A.P50.Seconds()*1e3 - float64(l+1); math.Abs(off) > 0.1 || x.B != x.A {
			t.Errorf("layer %d: %+v", l, x)
		}
	}
}

func TestCompareProvenance(t *testing.T) {
	a, b := synthetic(1, 16, noisy(1, flat)), synthetic(1, 16, noisy(1, flat))
	a.Host.Governor, b.Host.Governor = "powersave", "performance"
	b.ORT, b.Host.CPU = "1.30.0", "other"
	b.Accelerators[0].Options = map[string]string{"x": "y"}
	b.Models[0].SHA256 = "ff"
	c := testkit.Must(profiler.Compare(a, b))(t)
	want := []profiler.Difference{{What: "processor", A: "test", B: "other"}, {What: "ONNX Runtime", A: "1.29.0",
		B: "1.30.0"}, {What: "governor", A: "powersave", B: "performance"},
		{What: "accelerator a", A: "cpu, optimization all, threads 1", B: "cpu, x=y, optimization all, threads 1"},
		{What: "content of net", A: "0123456789ab", B: "ff"}}
	testkit.Equal(t, want, c.Differences)
}

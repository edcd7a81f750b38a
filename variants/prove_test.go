package variants

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/plan"
)

// classifier is a network of three layers with classes outputs.
func classifier(t *testing.T) *runtime.Network {
	b := newNet(1, 16, 6, 6)
	x := b.node("Relu", []string{b.conv("x", 16, 16, 3, 1, 1, 1, nil)})
	x = b.node("Relu", []string{b.conv(x, 16, 16, 3, 1, 1, 1, nil)})
	x = b.node("Relu", []string{b.conv(x, 16, 16, 3, 2, 1, 1, nil)})
	x = b.node("Flatten", []string{b.node("GlobalAveragePool", []string{x})})
	b.node("MatMul", []string{x, b.floats(b.random(16*5, 1), 16, 5)})
	return b.network(t, "op")
}

// give gives the network fitted variants of the first three layers; two of the
// second.
func give(t *testing.T, n *runtime.Network) {
	t.Helper()
	f, err := NewFitter(n, noise{n: 40, size: 576}.of(n))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n.Variants = map[int][]runtime.Unit{}
	for l, take := range [][]string{{"spatial rank 4"}, {"lowrank rank 4", "separable multiplier 1"}, {"pruned 8 of 16 channels"}} {
		list := candidates(t, &n.Layers[l])
		if err := f.Fit(t.Context(), l, list, nil, nil); err != nil {
			t.Fatal(err)
		}
		for _, name := range take {
			i := slices.IndexFunc(list, func(c *Candidate) bool { return c.String() == name })
			if i < 0 {
				t.Fatalf("no %s in layer %d", name, l)
			}
			u, err := list[i].Unit()
			if err != nil {
				t.Fatal(err)
			}
			n.Variants[l] = append(n.Variants[l], u)
		}
	}
}

// Combinations measured with shared prefixes are what each gives when the
// whole chain runs for it alone.
func TestProveAgainstEveryChainAlone(t *testing.T) {
	n := classifier(t)
	give(t, n)
	data := noise{n: 30, size: 576, classes: 5}.of(n)
	// A metric that tells apart any two outputs.
	sum := Metric{Name: "sum", Score: func(out, _ [][]float32, label int) float64 { return float64(out[0][label]) + 10 }}
	p, err := Prove(t.Context(), n, data, sum, ProveOptions{Workers: 3})
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Sets) != 2*3*2 || !p.Exhaustive || p.Sets[0] != 0 || p.Accuracy[0] != 1 {
		t.Fatalf("%d sets %v, exhaustive %v", len(p.Sets), p.Sets, p.Exhaustive)
	}
	for i, s := range p.Sets {
		if s&0b110 == 0b110 {
			t.Errorf("%b uses two variants of one layer", s)
		}
		total := 0.0
		for r := range data.n {
			in := raw(data.numbers(r))
			env := map[string][]byte{"x": in}
			v := 0
			for l := range n.Layers {
				onnx, err := n.Layers[l].ONNX()
				if err != nil {
					t.Fatal(err)
				}
				for _, u := range n.Variants[l] {
					if s>>v&1 != 0 {
						onnx = u.ONNX
					}
					v++
				}
				run, err := openRunner(onnx, n.Layers[l].Inputs, tensorNames(n.Layers[l].Outputs), "all")
				if err != nil {
					t.Fatal(err)
				}
				if err := advance(run, env); err != nil {
					t.Fatal(err)
				}
				run.close()
			}
			total += sum.Score([][]float32{floats(env["y"])}, nil, data.Label(r))
		}
		if want := total / float64(data.n) / p.Baseline; math.Abs(p.Accuracy[i]-want) > 1e-6 {
			t.Errorf("%b: accuracy %v, alone it gives %v", s, p.Accuracy[i], want)
		}
	}
	var m sched.Model
	m.Variants = 4
	p.Allow(&m, 0.999)
	for i, s := range p.Sets {
		at := slices.Index(m.Valid, s)
		if ok := s == 0 || p.Accuracy[i] >= 0.999; ok != (at >= 0) || ok && m.Accuracy[at] != p.Accuracy[i] {
			t.Errorf("%b of accuracy %v: valid %v", s, p.Accuracy[i], at >= 0)
		}
	}
}

// Beyond 2^10 combinations singles, pairs, a sample, those asked for and all at
// once are measured.
func TestCombinationsBeyondThousand(t *testing.T) {
	n := *classifier(t)
	n.Layers, n.Variants = slices.Repeat(n.Layers, 4), map[int][]runtime.Unit{}
	for l := range 12 {
		n.Variants[l] = make([]runtime.Unit, 1)
	}
	p := newProver(&n, Metric{})
	sets, exhaustive := p.combinations([]sched.VariantSet{0b101010101010})
	if exhaustive || !slices.Contains(sets, 1<<12-1) || !slices.Contains(sets, 0b101010101010) || !slices.Contains(sets, 1<<11|1) || len(sets) < 1+12+66+60 {
		t.Errorf("%d sets, exhaustive %v", len(sets), exhaustive)
	}
}

func TestMetrics(t *testing.T) {
	out, original := [][]float32{{.1, .5, .5, -1}}, [][]float32{{0, 1, 0, 0}}
	for _, c := range []struct {
		m     Metric
		label int
		want  float64
	}{{Top(1), 1, 1}, {Top(1), 2, 0}, {Top(2), 2, 1}, {Top(3), 0, 1}, {Top(3), 3, 0}, {Agreement(), -1, 1}} {
		if got := c.m.Score(out, original, c.label); got != c.want {
			t.Errorf("%s of label %d: %v, want %v", c.m.Name, c.label, got, c.want)
		}
	}
	nan := float32(math.NaN())
	if Top(1).Score([][]float32{{nan, 0}}, nil, 1) != 0 {
		t.Error("NaN lets a label win")
	}
	if got := Fidelity().Score(original, original, -1); got != 1 {
		t.Errorf("identical outputs: %v", got)
	}
	if got := Fidelity().Score([][]float32{{0, .5, 0, 0}}, original, -1); math.Abs(got-.75) > 1e-12 {
		t.Errorf("half the size: %v, want 0.75", got)
	}
}

func TestDataThatDoNotFit(t *testing.T) {
	n := classifier(t)
	good := noise{n: 20, size: 576, classes: 5}.of(n)
	nan := func(i int, v []float32) {
		if i == 13 {
			v[0] = float32(math.NaN())
		}
	}
	for _, c := range []struct {
		name string
		data Data
		want string
	}{
		{"none", nil, "no requests"},
		{"too small", noise{n: 20, size: 575, classes: 5}, "float32[575] is given"},
		{"labels beyond the classes", noise{n: 20, size: 576, classes: 6}.of(n), "request 5 has the label 5, the first output has classes 0 to 4"},
		{"no labels", noise{n: 20, size: 576}.of(n), "label -1"},
		{"NaN", noise{n: 20, size: 576, classes: 5, spoil: nan}.of(n), "input 13"},
	} {
		_, err := Prove(t.Context(), n, c.data, Top(1), ProveOptions{})
		if !errors.Is(err, ErrData) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	if _, err := Prove(t.Context(), n, good, Top(1), ProveOptions{}); err != nil {
		t.Error(err)
	}
	for _, c := range []struct {
		name string
		data Data
		want string
	}{{"none", nil, "no calibration data"}, {"few", noise{n: 3, size: 576}.of(n), "at least 10"}, {"too large", noise{n: 20, size: 577}.of(n), "float32[577] is given"}} {
		if _, err := NewFitter(n, c.data); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	f, err := NewFitter(n, noise{n: 20, size: 576, spoil: nan}.of(n))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Fit(t.Context(), 0, candidates(t, &n.Layers[0]), nil, nil); err == nil || !strings.Contains(err.Error(), "NaN") {
		t.Errorf("calibration with NaN: %v", err)
	}
}

// Activations that overflow make no variant.
func TestActivationsThatOverflow(t *testing.T) {
	b := newNet(1, 8, 4, 4)
	x := b.node("Mul", []string{"x", b.floats([]float32{3e38}, 1)})
	b.conv(b.node("Mul", []string{x, b.floats([]float32{10}, 1)}), 8, 8, 3, 1, 1, 1, nil)
	n := b.network(t, "op")
	list := candidates(t, &n.Layers[len(n.Layers)-1])
	f, err := NewFitter(n, noise{n: 20, size: 128}.of(n))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Fit(t.Context(), len(n.Layers)-1, list, nil, nil); err != nil {
		t.Fatal(err)
	}
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

package accuracy

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"gorgonia.org/tensor"

	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/internal/testkit/rig"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/variants"
	"github.com/terastal/terastal/variants/internal/chain"
)

// The network of the tests, with random weights: what it takes, and its classes.
const (
	network = "ds_cnn_kws"
	size    = 490
	classes = 12
)

// give gives the network variants of three layers, two of the second. They are
// not fitted: that they compute something else is all that matters here.
func give(t *testing.T, n *runtime.Network) {
	t.Helper()
	n.Variants = map[int][]runtime.Unit{}
	for l, take := range map[int][]int{0: {1}, 2: {0, 2}, 4: {1}} {
		list, _ := variants.Candidates(&n.Layers[l], variants.Exact)
		for _, i := range take {
			u := testkit.Must(list[i].Unit())(t)
			n.Variants[l] = append(n.Variants[l], u)
		}
	}
}

// noise is random inputs, each labelled with its number modulo classes.
type noise struct {
	n, size, classes int
	spoil            func(i int, v []float32)
}

func (d noise) Len() int { return d.n }

func (d noise) Inputs(i int) ([]*tensor.Dense, error) {
	rng := rand.New(rand.NewPCG(uint64(i), 7))
	v := make([]float32, d.size)
	for j := range v {
		v[j] = float32(rng.NormFloat64())
	}
	if d.spoil != nil {
		d.spoil(i, v)
	}
	shape := tensor.WithShape(1, 1, 49, 10)
	if d.size != size {
		shape = tensor.WithShape(d.size)
	}
	return []*tensor.Dense{tensor.New(shape, tensor.WithBacking(v))}, nil
}

func (d noise) Label(i int) int {
	if d.classes == 0 {
		return -1
	}
	return i % d.classes
}

// Combinations measured with shared prefixes are what each gives when the whole chain runs for it alone.
func TestProveAgainstEveryChainAlone(t *testing.T) {
	n := rig.Network(t, network, "op")
	give(t, n)
	data := noise{n: 30, size: size, classes: classes}
	// A metric that tells apart any two outputs.
	sum := Metric{Name: "sum", Score: func(out, _ [][]float32, label int) float64 { return float64(out[0][label]) + 10 }}
	p := testkit.Must(Prove(t.Context(), n, data, sum, Options{Workers: 3}))(t)
	if len(p.Sets) != 2*3*2 || !p.Exhaustive || p.Sets[0] != 0 || p.Accuracy[0] != 1 {
		t.Fatalf("%d sets %v, exhaustive %v", len(p.Sets), p.Sets, p.Exhaustive)
	}
	for i, s := range p.Sets {
		if s&0b110 == 0b110 {
			t.Errorf("%b uses two variants of one layer", s)
		}
		total := 0.0
		for r := range data.n {
			in := testkit.Must(chain.Read(n.Model, data, r))(t)
			env := map[string][]byte{n.Model.Inputs()[0].Name: in[0]}
			v := 0
			for l := range n.Layers {
				onnx := testkit.Must(n.Layers[l].ONNX())(t)
				for _, u := range n.Variants[l] {
					if s>>v&1 != 0 {
						onnx = u.ONNX
					}
					v++
				}
				run := testkit.Must(chain.Open(onnx, n.Layers[l].Inputs, chain.Names(n.Layers[l].Outputs), "all"))(t)
				testkit.OK(t, run.Advance(env))
				run.Close()
			}
			total += sum.Score([][]float32{ort.Numbers[float32](env[n.Model.Outputs()[0].Name])}, nil, data.Label(r))
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

// Beyond 2^10 combinations singles, pairs, a sample, those asked for and all at once are measured.
func TestCombinationsBeyondThousand(t *testing.T) {
	n := *rig.Network(t, network, "op")
	n.Layers, n.Variants = slices.Repeat(n.Layers, 4), map[int][]runtime.Unit{}
	for l := range 12 {
		n.Variants[l] = make([]runtime.Unit, 1)
	}
	p := newProver(&n, Metric{})
	if sets, exhaustive := p.combinations(Options{Alone: true}); exhaustive || len(sets) != 1+12 || sets[12] != 1<<11 {
		t.Errorf("alone: %b, all %v", sets, exhaustive)
	}
	sets, exhaustive := p.combinations(Options{Verify: []sched.VariantSet{0b101010101010}})
	if exhaustive || !slices.Contains(sets, 1<<12-1) || !slices.Contains(sets, 0b101010101010) ||
		!slices.Contains(sets, 1<<11|1) || len(sets) < 1+12+66+60 {
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
	n := rig.Network(t, network, "op")
	good := noise{n: 20, size: size, classes: classes}
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
		{"too small", noise{n: 20, size: size - 1, classes: classes}, "float32[489] is given"},
		{"labels beyond the classes", noise{n: 20, size: size, classes: classes + 1},
			"request 12 has the label 12, the first output has classes 0 to 11"},
		{"no labels", noise{n: 20, size: size}, "label -1"},
		{"NaN", noise{n: 20, size: size, classes: classes, spoil: nan}, "input 13"},
	} {
		testkit.Refused(Prove(t.Context(), n, c.data, Top(1), Options{}))(t, ErrData, c.want)
	}
	testkit.Must(Prove(t.Context(), n, good, Top(1), Options{}))(t)
}

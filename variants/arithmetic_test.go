package variants

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/variants/internal/chain"
)

// saturated adds two products in 16 bits, as x86 without VNNI does.
func saturated(x0, x1 uint8, w0, w1 int8) int {
	return min(math.MaxInt16, max(math.MinInt16, int(x0)*int(w0)+int(x1)*int(w1)))
}

func exactly(x0, x1 uint8, w0, w1 int8) int { return int(x0)*int(w0) + int(x1)*int(w1) }

// sum multiplies a patch with weights: pairs of neighbours first.
func sum(pair func(x0, x1 uint8, w0, w1 int8) int, x []uint8, w []int8) (total int) {
	for i := 0; i < len(w); i += 2 {
		if i+1 == len(w) {
			return total + pair(x[i], 0, w[i], 0)
		}
		total += pair(x[i], x[i+1], w[i], w[i+1])
	}
	return total
}

type kind struct {
	name string
	in   []int64
	make func(b *net)
}

func (k kind) size() int {
	size := 1
	for _, d := range k.in {
		size *= int(d)
	}
	return size
}

func (k kind) network(t *testing.T) *runtime.Network {
	b := newNet(k.in...)
	k.make(b)
	return b.network(t, "op")
}

// kinds are networks of one operator of every kind that is computed in 8 bits.
var kinds = []kind{
	{"3x3", []int64{1, 8, 6, 6}, func(b *net) { b.conv("x", 8, 16, 3, 1, 1, 1, nil) }},
	{"strided", []int64{1, 16, 7, 5}, func(b *net) { b.conv("x", 16, 24, 3, 2, 0, 1, nil) }},
	{"1x1", []int64{1, 32, 4, 4}, func(b *net) { b.conv("x", 32, 17, 1, 1, 0, 1, nil) }},
	{"of few channels", []int64{1, 3, 8, 8}, func(b *net) { b.conv("x", 3, 8, 5, 1, 2, 1, nil) }},
	{"grouped", []int64{1, 16, 6, 6}, func(b *net) { b.conv("x", 16, 16, 3, 1, 1, 2, nil) }},
	{"multiplied", []int64{1, 8, 6, 6}, func(b *net) { b.conv("x", 8, 16, 3, 1, 1, 8, nil) }},
	{"depthwise", []int64{1, 16, 6, 6}, func(b *net) { b.conv("x", 16, 16, 3, 1, 1, 16, nil) }},
	{"odd depthwise", []int64{1, 11, 6, 6}, func(b *net) { b.conv("x", 11, 11, 5, 1, 2, 11, nil) }},
	{"product", []int64{9, 48}, func(b *net) { b.node("MatMul", []string{"x", b.floats(b.random(48*20, 0.3), 48, 20)}) }},
	{"product of a row", []int64{1, 48}, func(b *net) {
		b.node("Gemm", []string{"x", b.floats(b.random(48*16, 0.3), 48, 16), b.floats(b.random(16, 1), 16)})
	}},
	{"older 3x3", []int64{1, 8, 6, 6}, func(b *net) { b.opset = 12; b.conv("x", 8, 16, 3, 1, 1, 1, nil) }},
}

// extreme gives a replacement weights, and stored inputs, whose sums are as far from zero as they get: all ends of
// their ranges, of one sign in a patch of every second output channel. The bias is zero.
func extreme(r *quantised) {
	o := r.op
	r.in, r.bias = affine{1, 0}, make([]float32, o.K)
	for i := range r.even { // powers of two divide exactly
		r.even[i] = float32(math.Pow(2, float64(i%3)))
	}
	d := o.patch()
	for i := range r.w {
		r.w[i] = int8(r.limit)
		if k := i / d; k%4 == 1 || k%4 >= 2 && i%(k%5+2) == 0 {
			r.w[i] = int8(-r.limit)
		}
	}
	for k := range r.scale {
		r.scale[k] = float32(math.Pow(2, float64(k%2)))
	}
	most := float64(d * 255 * r.limit)
	r.out = affineOf(-2*most, 2*most)
}

// pattern is a stored input: 255, and a zero at every so many.
func pattern(size, every int) []uint8 {
	x := make([]uint8, size)
	for i := range x {
		if i%every != every-1 {
			x[i] = 255
		}
	}
	return x
}

// want is what the replacement has to make of stored inputs, by integers and by pairs of neighbours along its weights.
func (r *quantised) want(x []uint8, pair func(x0, x1 uint8, w0, w1 int8) int) []float64 {
	o := r.op
	d, area := o.patch(), o.KernelH*o.KernelW
	var out []float64
	patch := make([]uint8, d)
	if o.linear() {
		for row := range len(x) / o.C {
			for k := range o.K {
				out = append(out, float64(sum(pair, x[row*o.C:], r.w[k*d:(k+1)*d]))*float64(r.scale[k]))
			}
		}
		return out
	}
	for k := range o.K {
		for y := range o.OutH {
			for z := range o.OutW {
				for i := range patch {
					c := k/(o.K/o.Group)*(o.C/o.Group) + i/area
					h := y*o.StrideH - o.Top + i%area/o.KernelW
					w := z*o.StrideW - o.Left + i%o.KernelW
					patch[i] = 0
					if h >= 0 && h < o.H && w >= 0 && w < o.W {
						patch[i] = x[(c*o.H+h)*o.W+w]
					}
				}
				out = append(out, float64(sum(pair, patch, r.w[k*d:(k+1)*d]))*float64(r.scale[k]))
			}
		}
	}
	return out
}

// compute runs a layer with a replacement on several stored inputs.
func compute(t *testing.T, n *runtime.Network, c *Candidate, level string, inputs ...[]uint8) (out [][]float64) {
	t.Helper()
	r := c.replacements[0].(*quantised)
	data := testkit.Must(c.ONNX())(t)
	l := &n.Layers[0]
	run := testkit.Must(chain.Open(data, l.Inputs, chain.Names(l.Outputs), level))(t)
	defer run.Close()
	o := r.op
	for _, x := range inputs {
		in := make([]float32, len(x))
		for i := range in {
			in[i] = float32(x[i])
			if r.even != nil {
				in[i] *= r.even[o.channel(i)]
			}
		}
		testkit.OK(t, run.Run(map[string][]byte{"x": raw(in)}))
		var y []float64
		for _, v := range floats(run.Results[0]) {
			y = append(y, float64(v))
		}
		out = append(out, y)
	}
	return out
}

// off is the largest difference, in steps of what the output is stored in.
func off(r *quantised, got, want []float64) (most float64) {
	step := float64(r.out.scale)
	if r.op.linear() {
		step = 1 // stays in 32 bits
	}
	for i := range want {
		most = max(most, math.Abs(got[i]-want[i])/step)
	}
	return most
}

// All forms of every operator compute what integers give, at the extremes: those for this processor's arithmetic, and
// on any processor those for arithmetics that saturate.
func TestInt8IsWhatIntegersGive(t *testing.T) {
	for _, k := range kinds {
		n := k.network(t)
		for _, a := range slices.Compact([]Arithmetic{arithmetic(t), Saturating, SaturatingThroughout}) {
			if a == SaturatingThroughout && !strings.HasSuffix(k.name, "depthwise") {
				continue // the same as the one before
			}
			for _, form := range []struct{ name, level string }{{integerForm, "all"}, {equalisedForm, "none"},
				{qdqForm, "all"}} {
				c := candidate(t, &n.Layers[0], func(o *Op) Replacement { return newInt8(o, form.name, a) })
				r := c.replacements[0].(*quantised)
				if form.name == qdqForm && r.op.Opset < qdqOpset {
					continue
				}
				extreme(r)
				inputs := [][]uint8{pattern(k.size(), math.MaxInt), pattern(k.size(), 3)}
				full := a.weightLimit(r.op.depthwise()) == fullWeight
				if saturates := !slices.Equal(r.want(inputs[0], saturated), r.want(inputs[0], exactly)); saturates != full {
					t.Errorf("%s, %s, for %s: pairs that saturate change its results: %v", k.name, r.Parameters(), a, saturates)
				}
				for i, got := range compute(t, n, c, form.level, inputs...) {
					if e := off(r, got, r.want(inputs[i], exactly)); e > 0.51 {
						t.Errorf("%s, %s at %s, for %s: a result is off by %.3g steps", k.name, r.Parameters(), form.level, a, e)
					}
				}
			}
		}
	}
}

// What the probe says is what operators with weights of 8 bits show here: exact,
// or for products what pairs that saturate give.
func TestProbeIsWhatOperatorsShow(t *testing.T) {
	a := arithmetic(t)
	wrong := map[bool]bool{} // by depthwise
	for _, k := range kinds {
		n := k.network(t)
		c := candidate(t, &n.Layers[0], func(o *Op) Replacement { return newQuantised(o, integerForm, fullWeight) })
		r := c.replacements[0].(*quantised)
		extreme(r)
		x := pattern(k.size(), math.MaxInt)
		got := compute(t, n, c, "all", x)[0]
		saturates := off(r, got, r.want(x, exactly)) > 0.51
		wrong[r.op.depthwise()] = wrong[r.op.depthwise()] || saturates
		if e := off(r, got, r.want(x, saturated)); saturates && r.op.linear() && e > 0.51 {
			t.Errorf("%s: the result is neither exact nor that of pairs that saturate, by %.3g", k.name, e)
		}
		if off(r, r.want(x, saturated), r.want(x, exactly)) < 1 {
			t.Errorf("%s: nothing would saturate: the test is of nothing", k.name)
		}
	}
	want := Exact
	switch {
	case wrong[true]:
		want = SaturatingThroughout
	case wrong[false]:
		want = Saturating
	}
	if a != want {
		t.Errorf("the probe says %s, operators show %s", a, want)
	}
	// With weights that do not fill 8 bits nothing may saturate anywhere.
	if list, err := tryAll(reducedWeight); err != nil || len(list) > 0 {
		t.Errorf("weights of 7 bits: %d trials are wrong, %v", len(list), err)
	}
}

// Forms that are fitted for an arithmetic that saturates give the same in it, on whatever arrives, and use all of the
// range that they have; those of 8 bits do not.
func TestSevenBitsDoNotSaturate(t *testing.T) {
	for _, c := range []struct {
		kind        string
		arithmetics []Arithmetic
	}{
		{"3x3", []Arithmetic{Exact, Saturating}},
		{"product", []Arithmetic{Exact, Saturating}},
		{"depthwise", []Arithmetic{Saturating, SaturatingThroughout}},
	} {
		k := kinds[slices.IndexFunc(kinds, func(k kind) bool { return k.name == c.kind })]
		n := k.network(t)
		for _, a := range c.arithmetics {
			seen := map[string]bool{qdqForm: true} // has the weights of "integer"
			list := slices.DeleteFunc(candidatesFor(t, &n.Layers[0], a), func(c *Candidate) bool {
				what := c.Family
				if what == "int8" {
					what, _, _ = strings.Cut(c.Parameters, ",")
				}
				drop := seen[what] || c.Family != "int8" && c.Family != "pruned-int8"
				seen[what] = true
				return drop
			})
			fitted(t, n, 0, noise{n: minImages, size: k.size()}, list)
			for _, c := range list {
				r, ok := c.replacements[0].(*quantised)
				if p, pruned := c.replacements[0].(*prunedInt8); !ok && pruned {
					r = p.inner
				}
				differs := slices.ContainsFunc(kindsOfInputs(r), func(x []uint8) bool {
					return !slices.Equal(r.want(x, saturated), r.want(x, exactly))
				})
				if full := a.weightLimit(r.op.depthwise()) == fullWeight; differs != full {
					t.Errorf("%s, %s for %s: saturation changes its results: %v", k.name, c.String(), a, differs)
				}
				largest := max(slices.Max(r.w), -slices.Min(r.w))
				if int(largest) != r.limit {
					t.Errorf("%s, %s for %s: its largest weight is %d of %d", k.name, c.String(), a, largest, r.limit)
				}
			}
		}
	}
}

// kindsOfInputs are 255 everywhere, and where the weights of one output channel have one sign.
func kindsOfInputs(r *quantised) [][]uint8 {
	o := r.op
	all := pattern(o.C*o.H*o.W, math.MaxInt)
	out := [][]uint8{all}
	for k := range min(4, o.K) {
		x := make([]uint8, len(all))
		for i := range x {
			if r.w[(k*o.patch()+o.channel(i)*o.KernelH*o.KernelW)%len(r.w)] > 0 {
				x[i] = 255
			}
		}
		out = append(out, x)
	}
	return out
}

// Whether a model may saturate is seen from what it stores.
func TestHolds(t *testing.T) {
	type on map[Arithmetic]bool
	for _, k := range kinds {
		n := k.network(t)
		for _, made := range arithmetics {
			for _, c := range candidatesFor(t, &n.Layers[0], made) {
				want := on{Exact: true, Saturating: true, SaturatingThroughout: true}
				if c.Family == "int8" || c.Family == "pruned-int8" {
					depthwise := c.ops[0].depthwise()
					want[Saturating] = made != Exact || depthwise
					want[SaturatingThroughout] = made == SaturatingThroughout || made == Saturating && !depthwise
				}
				data := testkit.Must(c.ONNX())(t)
				for a, want := range want {
					if got, err := a.Holds(data); got != want || err != nil {
						t.Errorf("%s: %s, made for %s, holds in %s: %v, %v", k.name, c.String(), made, a, got, err)
					}
					if got, err := Same(data, a, Exact); got != want || err != nil {
						t.Errorf("%s: %s, made for %s, is the same in %s: %v, %v", k.name, c.String(), made, a, got, err)
					}
				}
				if got, err := Same(data, "", Exact); got != want[SaturatingThroughout] || err != nil {
					t.Errorf("%s: %s, made for %s, is the same in an arithmetic unknown: %v, %v", k.name, c.String(), made, got, err)
				}
			}
		}
	}
	if _, err := Saturating.Holds([]byte("no model")); err == nil {
		t.Error("what is no model holds")
	}
}

// Names of arithmetics come back from documents, others are refused.
func TestParseArithmetic(t *testing.T) {
	for _, a := range arithmetics {
		if got, err := ParseArithmetic(string(a)); got != a || err != nil {
			t.Errorf("%s became %s, %v", a, got, err)
		}
	}
	if _, err := ParseArithmetic("auto"); err == nil {
		t.Error("auto is an arithmetic")
	}
}

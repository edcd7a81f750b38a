package variants

import (
	"bytes"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/terastal/terastal/internal/sequential"
	"github.com/terastal/terastal/internal/testkit"
)

// Full factorisations hold every operator, so that what a fit leaves is rounding alone, whatever the geometry. Each
// family's steps, layouts and biases would show here if any were wrong.
func TestFullFactorisationsReproduceTheLayer(t *testing.T) {
	sequential.Skip(t)
	for _, c := range []struct {
		name               string
		size, stride, pads int
	}{{"3x3", 3, 1, 1}, {"strided", 3, 2, 1}, {"unpadded 2x2", 2, 1, 0}, {"wide padding", 3, 1, 2}} {
		t.Run(c.name, func(t *testing.T) {
			b := newNet(1, 6, 9, 7)
			b.node("Relu", []string{b.conv("x", 6, 8, c.size, c.stride, c.pads, 1, nil)})
			n := b.network(t, "op")
			for family, replace := range map[string]func(*Op) Replacement{
				"lowrank":   func(o *Op) Replacement { return newLowRank(o, o.K) },
				"spatial":   func(o *Op) Replacement { return newSpatial(o, o.C*o.KernelH) },
				"separable": func(o *Op) Replacement { return newSeparable(o, o.KernelH*o.KernelW) },
				"grouped":   func(o *Op) Replacement { return newGrouped(o, 1) },
				"pruned":    func(o *Op) Replacement { return newPruned(o, o.C) },
			} {
				x := candidate(t, &n.Layers[0], replace)
				fitted(t, n, 0, noise{n: 100, size: 6 * 9 * 7}, one(x))
				if x.Refusal != nil || x.Error > 1e-9 {
					t.Errorf("%s: error %.3g, %v", family, x.Error, x.Refusal)
				}
			}
		})
	}
}

// A matrix product of full rank is reproduced too.
func TestFullFactorisationsReproduceAProduct(t *testing.T) {
	b := newNet(5, 12)
	b.node("Gemm", []string{"x", b.floats(b.random(12*16, 1), 16, 12), b.floats(b.random(16, 1), 16)},
		attribute{"transB", int64(1)}, attribute{"alpha", float32(0.5)}, attribute{"beta", float32(2)})
	n := b.network(t, "op")
	for family, replace := range map[string]func(*Op) Replacement{
		"lowrank": func(o *Op) Replacement { return newLowRank(o, o.C) },
		"pruned":  func(o *Op) Replacement { return newPruned(o, o.C) },
	} {
		x := candidate(t, &n.Layers[0], replace)
		fitted(t, n, 0, noise{n: 200, size: 60}, one(x))
		if x.Refusal != nil || x.Error > 1e-9 {
			t.Errorf("%s: error %.3g, %v", family, x.Error, x.Refusal)
		}
	}
}

// A D2S is a convolution on the outer map, with weights of a special form. A
// layer that is such a convolution is a D2S exactly, and the fit finds it.
func TestD2SOfAD2SIsRecovered(t *testing.T) {
	const gamma, c, k, size = 2, 8, 12, 3
	inner := newNet().random(k/4*c/4*size*size, 0.3)
	outer := make([]float32, k*c*size*size)
	for out := range gamma * gamma {
		for i := range k / 4 {
			for j := range c / 4 {
				for dy := range size {
					for dx := range size {
						// Inner rows begin a padding of gamma before the outer position's own.
						y, x := out/gamma+dy, out%gamma+dx
						to := ((out*k/4+i)*c + (y%gamma*gamma+x%gamma)*c/4 + j) * size * size
						outer[to+y/gamma*size+x/gamma] = inner[((i*c/4+j)*size+dy)*size+dx]
					}
				}
			}
		}
	}
	b := newNet(1, c, 8, 6)
	b.stored = nil
	zero := make([]float32, k)
	b.node("Conv", []string{"x", b.floats(outer, k, c, size, size), b.floats(zero, k)},
		attribute{"pads", []int64{1, 1, 1, 1}}, attribute{"kernel_shape", []int64{size, size}})
	n := b.network(t, "op")
	x := candidate(t, &n.Layers[0], func(o *Op) Replacement { return newD2S(o, gamma) })
	fitted(t, n, 0, noise{n: 100, size: c * 48}, one(x))
	if x.Refusal != nil || x.Error > 1e-9 {
		t.Fatalf("error %.3g, %v", x.Error, x.Refusal)
	}
	got := x.replacements[0].(*d2s).list[0].w
	for i := range inner {
		if math.Abs(float64(got[i]-inner[i])) > 1e-5 {
			t.Fatalf("weight %d is %v, was made from %v", i, got[i], inner[i])
		}
	}
	// What is no D2S is not reproduced.
	b = newNet(1, c, 8, 6)
	b.conv("x", c, k, size, 1, 1, 1, nil)
	n = b.network(t, "op")
	x = candidate(t, &n.Layers[0], func(o *Op) Replacement { return newD2S(o, gamma) })
	fitted(t, n, 0, noise{n: 100, size: c * 48}, one(x))
	if x.Error < 0.1 {
		t.Errorf("a random convolution as a D2S has the error %.3g", x.Error)
	}
}

// Every family gives a model with the layer's inputs, outputs and shapes in
// every geometry: ONNX Runtime runs it, and the errors are what was promised.
func TestEveryCandidateRuns(t *testing.T) {
	sequential.Skip(t)
	for _, c := range []struct {
		name          string
		size, s, p, w int
	}{{"3x3", 3, 1, 1, 10}, {"strided", 3, 2, 1, 10}, {"odd", 3, 2, 0, 9}, {"1x1", 1, 1, 0, 8},
		{"1x1 strided", 1, 2, 0, 7}, {"5x5 wide", 5, 1, 4, 8}} {
		t.Run(c.name, func(t *testing.T) {
			b := newNet(1, 16, int64(c.w), int64(c.w))
			x := b.node("Relu", []string{b.conv("x", 16, 32, c.size, c.s, c.p, 1, nil)})
			b.node("GlobalAveragePool", []string{x})
			n := b.network(t, "op")
			list := candidates(t, &n.Layers[0])
			fitted(t, n, 0, noise{n: 60, size: 16 * c.w * c.w}, list)
			seen := map[string]bool{}
			for _, x := range list {
				seen[x.Family] = true
				if x.Refusal != nil && !strings.Contains(x.Refusal.Error(), "refuses") &&
					!strings.Contains(x.Refusal.Error(), "promised") {
					t.Errorf("%s: %v", x.String(), x.Refusal)
				}
				if x.MACs > x.OriginalMACs || x.MACs <= 0 || x.Bytes <= 0 {
					t.Errorf("%s: %d MACs of %d, %d bytes", x.String(), x.MACs, x.OriginalMACs, x.Bytes)
				}
			}
			if !seen["d2s"] || !seen["lowrank"] || !seen["int8"] {
				t.Errorf("families %v", seen)
			}
		})
	}
}

// Weights and activations that 8 bits hold exactly stay what they are.
func TestInt8OfRepresentableNumbersIsExact(t *testing.T) {
	b := newNet(1, 4, 6, 6)
	w := make([]float32, 8*4*9)
	for i := range w {
		w[i] = float32((i*37)%255-127) / 64
	}
	w = slices.Clip(w)
	for k := range 8 { // each channel's scale is 1/64: it has both ends
		w[k*36] = 127.0 / 64
	}
	b.node("Conv", []string{"x", b.floats(w, 8, 4, 3, 3), b.floats(make([]float32, 8), 8)},
		attribute{"pads", []int64{1, 1, 1, 1}}, attribute{"kernel_shape", []int64{3, 3}})
	n := b.network(t, "op")
	x := candidate(t, &n.Layers[0], func(o *Op) Replacement { return newInt8(o, integerForm, Exact) })
	r := x.replacements[0].(*quantised)
	r.quantise(nil)
	for i, q := range r.w {
		if float32(q)*r.scale[i/36] != w[i] {
			t.Fatalf("weight %d: %v became %d x %v", i, w[i], q, r.scale[i/36])
		}
	}
}

// All forms of 8 bits are close, in convolutions, depthwise ones, and products.
func TestInt8IsClose(t *testing.T) {
	b := newNet(1, 8, 8, 8)
	x := b.node("Relu", []string{b.conv("x", 8, 16, 3, 1, 1, 1, nil)})
	x = b.node("Relu", []string{b.conv(x, 16, 16, 3, 1, 1, 16, nil)})
	x = b.node("Reshape", []string{x, b.ints([]int64{16, 64})})
	b.node("MatMul", []string{x, b.floats(b.random(64*8, 0.1), 64, 8)})
	n := b.network(t, "op")
	f := testkit.Must(NewFitter(n, noise{n: 60, size: 512}.of(n)))(t)
	defer f.Close()
	for l := range n.Layers {
		list := slices.DeleteFunc(candidates(t, &n.Layers[l]), func(c *Candidate) bool { return c.Family != "int8" })
		if len(list) != 3 {
			t.Fatalf("layer %d has %d candidates in 8 bits", l, len(list))
		}
		testkit.OK(t, f.Fit(t.Context(), l, list, nil, nil))
		for _, c := range list {
			if c.Refusal != nil || !(c.Error < 1e-3) || c.Error == 0 {
				t.Errorf("layer %d: %s: error %.3g, %v", l, c.String(), c.Error, c.Refusal)
			}
		}
	}
}

// Where channels differ in size, and the small ones have the large weights, a range for all loses them; equalised ones
// keep their bits, in every operator, with QuantizeLinear's scales by channel and in opsets before these.
func TestEqualisedChannelsKeepTheirBits(t *testing.T) {
	sequential.Skip(t)
	for name, make := range map[string]func(b *net){
		"convolution": func(b *net) {
			w := b.random(16*8*9, 0.2)
			for i := range w {
				w[i] *= float32(math.Pow(2, float64(i/9%8)))
			}
			b.conv("x", 8, 16, 3, 1, 1, 1, w)
		},
		"before opset 13": func(b *net) {
			b.opset = 12
			w := b.random(16*8, 0.2)
			for i := range w {
				w[i] *= float32(math.Pow(2, float64(i%8)))
			}
			b.conv("x", 8, 16, 1, 1, 0, 1, w)
		},
		"depthwise": func(b *net) {
			w := b.random(8*9, 0.2)
			for i := range w {
				w[i] *= float32(math.Pow(2, float64(i/9)))
			}
			b.conv("x", 8, 8, 3, 1, 1, 8, w)
		},
		"product": func(b *net) {
			w := b.random(8*16, 0.2)
			for i := range w {
				w[i] *= float32(math.Pow(2, float64(i/16)))
			}
			x := b.node("Transpose", []string{"x"}, attribute{"perm", []int64{0, 2, 3, 1}})
			b.node("MatMul", []string{x, b.floats(w, 8, 16)})
		},
	} {
		b := newNet(1, 8, 8, 8)
		make(b)
		n := b.network(t, "op")
		var list []*Candidate
		last := len(n.Layers) - 1
		for _, c := range candidates(t, &n.Layers[last]) {
			if c.Family == "int8" && !strings.HasPrefix(c.Parameters, qdqForm) {
				list = append(list, c)
			}
		}
		fitted(t, n, last, noise{n: 60, size: 512, spoil: func(_ int, v []float32) {
			for i := range v { // channel c is 2^-c in size
				v[i] *= float32(math.Pow(2, -float64(i/64)))
			}
		}}, list)
		if len(list) != 2 || !strings.HasPrefix(list[1].Parameters, equalisedForm) || list[1].Refusal != nil ||
			!(list[1].Error < list[0].Error/3) {
			for _, c := range list {
				t.Errorf("%s: %s: error %.3g, promised %.3g, %v", name, c.String(), c.Error, c.Promise, c.Refusal)
			}
		}
	}
}

// Numbers of a range that zero is not at the end of are stored shifted: each
// comes back within half a step, zero exactly, and what is outside as the end.
func TestAffineIsShifted(t *testing.T) {
	for _, c := range []struct {
		low, high float64
		zero      uint8
	}{{0, 2, 0}, {-1, 3, 64}, {-3, 1, 191}, {-2, 0, 255}, {1, 4, 0}, {-4, -1, 255}} {
		a := affineOf(c.low, c.high)
		if a.zero != c.zero || a.of(0) != 0 {
			t.Errorf("%v to %v: zero is stored as %d and comes back as %v, want %d", c.low, c.high, a.zero, a.of(0), c.zero)
		}
		step := float64(a.scale)
		for i := range 101 {
			x := c.low + (c.high-c.low)*float64(i)/100
			if math.Abs(a.of(x)-x) > step {
				t.Errorf("%v to %v: %v comes back as %v", c.low, c.high, x, a.of(x))
			}
		}
		if low, high := min(c.low, 0), max(c.high, 0); math.Abs(a.of(low-9)-low) > step ||
			math.Abs(a.of(high+9)-high) > step {
			t.Errorf("%v to %v: clips to %v and %v", c.low, c.high, a.of(low-9), a.of(high+9))
		}
	}
}

// In all forms, negative numbers are read and made as well as positive ones: with a zero point that is ignored anywhere
// they would be off by more than their size.
func TestInt8ShiftsByItsZeroPoints(t *testing.T) {
	sequential.Skip(t)
	for name, make := range map[string]func(b *net){
		"convolution": func(b *net) { b.conv("x", 8, 16, 3, 1, 0, 1, nil) },
		"depthwise":   func(b *net) { b.conv("x", 8, 8, 3, 1, 0, 8, nil) },
		"product":     func(b *net) { b.node("MatMul", []string{"x", b.floats(b.random(8*16, 0.3), 8, 16)}) },
	} {
		for _, mean := range []float32{-2, 2} {
			b := newNet(1, 8, 8, 8)
			make(b)
			n := b.network(t, "op")
			list := slices.DeleteFunc(candidates(t, &n.Layers[0]), func(c *Candidate) bool { return c.Family != "int8" })
			fitted(t, n, 0, noise{n: 60, size: 512, spoil: func(_ int, v []float32) {
				for i := range v {
					v[i] += mean
				}
			}}, list)
			for _, c := range list {
				if c.Refusal != nil || !(c.Error < 1e-3) {
					t.Errorf("%s, mean %v: %s: error %.3g, %v", name, mean, c.String(), c.Error, c.Refusal)
				}
				if zero := c.replacements[0].(*quantised).in.zero; zero == 0 || zero == 255 {
					t.Errorf("%s, mean %v: the zero point is %d: the test is of nothing", name, mean, zero)
				}
			}
		}
	}
}

// Half precision rounds to nearest, ties to even.
func TestToHalf(t *testing.T) {
	for x, want := range map[float32]uint16{0: 0, 1: 0x3c00, -2: 0xc000, 65504: 0x7bff, 1e9: 0x7bff, 6e-8: 1, 0.1: 0x2e66,
		1.0 / (1 << 14): 0x0400, 2049: 0x6800, 2051: 0x6802, 0.99999: 0x3c00} {
		if got := toHalf(x); got != want {
			t.Errorf("%v: %#04x, want %#04x", x, got, want)
		}
	}
}

// The same data give the same bytes.
func TestFitsAreRepeatable(t *testing.T) {
	sequential.Skip(t)
	var first [][]byte
	for run := range 2 {
		b := newNet(1, 16, 8, 8)
		b.conv("x", 16, 16, 3, 1, 1, 1, nil)
		n := b.network(t, "op")
		list := candidates(t, &n.Layers[0])
		fitted(t, n, 0, noise{n: 40, size: 1024}, list)
		for i, c := range list {
			data := testkit.Must(c.ONNX())(t)
			if run == 0 {
				first = append(first, data)
			} else if !bytes.Equal(first[i], data) {
				t.Errorf("%s differs", c.String())
			}
		}
	}
}

// Implied padding is what ONNX Runtime takes it for, on both sides.
func TestImpliedPadding(t *testing.T) {
	for _, mode := range []string{"SAME_UPPER", "SAME_LOWER", "VALID"} {
		b := newNet(1, 4, 8, 7)
		b.node("Conv", []string{"x", b.floats(b.random(8*4*16, 0.2), 8, 4, 4, 4)}, attribute{"auto_pad", mode},
			attribute{"strides", []int64{2, 1}}, attribute{"kernel_shape", []int64{4, 4}})
		n := b.network(t, "op")
		x := candidate(t, &n.Layers[0], func(o *Op) Replacement { return newPruned(o, o.C) })
		fitted(t, n, 0, noise{n: 100, size: 224}, one(x))
		if x.Refusal != nil || x.Error > 1e-9 {
			t.Errorf("%s: error %.3g, %v", mode, x.Error, x.Refusal)
		}
	}
}

// Layers of older models get 8 bits too, where a newer opset means the same.
func TestOlderOpsets(t *testing.T) {
	sequential.Skip(t)
	for op, want := range map[string]bool{"Relu": true, "HardSigmoid": false} {
		b := newNet(1, 8, 6, 6)
		b.opset = 8
		b.node(op, []string{b.conv("x", 8, 16, 3, 1, 1, 1, nil)})
		n := b.network(t, "op")
		list := candidates(t, &n.Layers[0])
		fitted(t, n, 0, noise{n: 40, size: 288}, list)
		i := slices.IndexFunc(list, func(c *Candidate) bool { return c.Family == "int8" })
		if (i >= 0) != want || want && !(list[i].Error < 1e-3) {
			t.Errorf("%s: int8 at %d of %d candidates", op, i, len(list))
		}
	}
}

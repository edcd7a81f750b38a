package variants

import (
	"math"
	"math/rand/v2"
	"testing"

	"gonum.org/v1/gonum/mat"

	"github.com/terastal/terastal/internal/ort/orttest"
	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/variants/internal/chain"
)

// What is computed from moments is what the rows themselves give: on both sides
// of the size from which products go to ONNX Runtime, and of whole chunks.
func TestMomentsAgainstTheRows(t *testing.T) {
	orttest.Start(t)
	for _, c := range []struct{ d, k, rows int }{{3, 2, 700}, {60, 5, 1200}, {60, 5, 40}} {
		m := testkit.Must(newMoments(c.d, c.k))(t)
		rng := rand.New(rand.NewPCG(1, 1))
		w := mat.NewDense(c.k, c.d, nil)
		for i := range w.RawMatrix().Data {
			w.RawMatrix().Data[i] = rng.NormFloat64()
		}
		b := make([]float64, c.k)
		for i := range b {
			b[i] = rng.NormFloat64()
		}
		want, n := 0.0, 0.0
		for r := range c.rows {
			checking := r%3 == 0
			z := m.row(checking)
			for i := range z {
				z[i] = rng.NormFloat64() + float64(i%4)
			}
			z[c.d] = 1
			if !checking {
				continue
			}
			n++
			for k := range c.k {
				off := z[c.d+1+k] - b[k]
				for i := range c.d {
					off -= w.At(k, i) * z[i]
				}
				want += off * off
			}
		}
		p := m.finish()
		if got := p.check.squaredError(w, b); math.Abs(got-want/n) > 1e-9*want/n {
			t.Errorf("%+v: squared error %v, the rows give %v", c, got, want/n)
		}
		// The fit of rows that are exactly linear is exact.
		exact, bias := testkit.Must2(p.solve(nil))(t)
		if e, v := p.fit.squaredError(exact, bias), p.fit.variance(); e > v {
			t.Errorf("%+v: a fit is worse than the mean: %v of %v", c, e, v)
		}
	}
	if _, err := newMoments(maxUnknowns, 1); err == nil {
		t.Error("moments without a bound")
	}
}

// The error of a candidate is what running it shows.
func TestErrorIsWhatRunningShows(t *testing.T) {
	b := newNet(1, 8, 6, 6)
	b.node("Relu", []string{b.conv("x", 8, 8, 3, 1, 1, 1, nil)})
	n := b.network(t, "op")
	d := noise{n: 50, size: 288}.of(n)
	c := candidate(t, &n.Layers[0], func(o *Op) Replacement { return newLowRank(o, 3) })
	fitted(t, n, 0, d, one(c))
	data := testkit.Must(c.ONNX())(t)
	original := testkit.Must(n.Layers[0].ONNX())(t)
	var runs []*chain.Runner
	for _, onnx := range [][]byte{original, data} {
		r := testkit.Must(chain.Open(onnx, n.Layers[0].Inputs, chain.Names(n.Layers[0].Outputs), "none"))(t)
		defer r.Close()
		runs = append(runs, r)
	}
	e, sum, squares, count := 0.0, 0.0, 0.0, 0.0
	for i := checkEvery - 1; i < d.n; i += checkEvery {
		in := raw(d.numbers(i))
		for _, r := range runs {
			testkit.OK(t, r.Run(map[string][]byte{"x": in}))
		}
		got := floats(runs[1].Results[0])
		for j, y := range floats(runs[0].Results[0]) {
			e += (float64(got[j]) - float64(y)) * (float64(got[j]) - float64(y))
			sum, squares, count = sum+float64(y), squares+float64(y)*float64(y), count+1
		}
	}
	if want := e / (squares - sum*sum/count); math.Abs(c.Error-want) > 1e-4*want || want < 0.01 {
		t.Errorf("error %v, running it shows %v", c.Error, want)
	}
	if c.Promise < c.Error/2 || c.Promise > 20*c.Error {
		t.Errorf("promised was %v, measured %v", c.Promise, c.Error)
	}
}

package fluid

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/sched"
)

// hurried draws a model of some layers on three accelerators: quick ones are not always cheap, variants are listed or
// have losses that add up, and its deadline is somewhat longer than what it takes at the least.
func hurried(r *rand.Rand) sched.System {
	const accs = 3
	latency := func() (out []time.Duration) {
		for range accs {
			out = append(out, time.Duration(1+r.IntN(40))*time.Millisecond)
		}
		return out
	}
	m := sched.Model{Name: "m", Deadline: time.Hour}
	most, shared, moves := r.IntN(4), r.IntN(2), r.IntN(2) == 0
	for range 3 + r.IntN(4) {
		x := sched.Layer{Implementations: []sched.Implementation{{Latency: latency()}}}
		for n := 1; n <= most && r.IntN(2) == 0; n++ {
			v := max(n*shared, (m.Variants+1)*(1-shared))
			m.Variants = max(m.Variants, v)
			x.Implementations = append(x.Implementations, sched.Implementation{Name: "v", Variant: v, Latency: latency()})
		}
		for from := 0; moves && from < accs; from++ {
			row := latency()
			row[from] = 0
			x.Handoff = append(x.Handoff, row)
		}
		m.Layers = append(m.Layers, x)
	}
	switch {
	case m.Variants == 0:
	case r.IntN(2) == 0:
		for set := range sched.VariantSet(1) << m.Variants {
			m.Valid, m.Accuracy = append(m.Valid, set), append(m.Accuracy, 1-r.Float64()*float64(set)/20)
		}
	default:
		m.MaxLoss = 0.1 * r.Float64()
		for range m.Variants {
			m.Loss = append(m.Loss, 0.1*r.Float64())
		}
	}
	return sched.System{Accelerators: []string{"a", "b", "c"}, Models: []sched.Model{m}}
}

// writtenOut is what the cheapest path within the deadline costs, of all written out.
func (m *work) writtenOut(price float64) float64 {
	low := math.Inf(1)
	var from func(l, at int, used sched.VariantSet, took time.Duration, cost float64)
	from = func(l, at int, used sched.VariantSet, took time.Duration, cost float64) {
		switch {
		case took > m.table.Deadline():
			return
		case l == len(m.cost):
			if used != 0 {
				cost += price * m.options.lossOf(used)
			}
			if cost < low {
				low = cost
			}
			return
		}
		j := sched.Job{Layer: int32(l), At: int32(at)}
		for i, on := range m.cost[l] {
			v := m.table.Variant(int32(l), int32(i))
			if !m.table.Allowed(used, v) {
				continue
			}
			for k, c := range on {
				from(l+1, k, used|v, took+m.table.Cost(&j, int32(i), k), cost+c)
			}
		}
	}
	from(0, sched.Idle, 0, 0, 0)
	return low
}

// TestLabels holds the cheapest path within a deadline, at any prices, against all paths written out: with labels it is
// found, without them the bound holds.
func TestLabels(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	searched := 0
	for n := range 3000 {
		sys := hurried(r)
		m := &sys.Models[0]
		least := testkit.Must(sched.Compile(sys))(t).Model(0).Remaining(0)
		m.Deadline = time.Duration(float64(least) * (1 + r.Float64()))
		p := testkit.Must(newProgram(testkit.Must(sched.Compile(sys))(t), []float64{1}, []float64{0.99}, nil))(t)
		p.limit(testkit.Must(sched.Compile(sys))(t))
		w := &p.models[0]
		if w.limit == nil {
			continue
		}
		dual, price := []float64{r.Float64(), r.Float64(), r.Float64()}, r.Float64()*r.Float64()
		w.price(dual)
		_, below, _ := w.hold(dual, price, w.options == nil, false)
		loss, bound, exact := w.hold(dual, price, w.options == nil, true)
		cost := price * loss
		for l, i := range w.chosen {
			cost += w.cost[l][i][w.at[l][i]]
		}
		searched += min(1, limitSteps-w.limit.steps)
		want := w.writtenOut(price)
		if !exact || below > want*(1+1e-9) || bound > want*(1+1e-9) || cost < want*(1-1e-9) || cost > want*(1+2*limitGap) {
			t.Fatalf("case %d: %v, at least %v (%v without labels), exact %v, want %v: %+v", n, cost, bound, below, exact, want, sys)
		}
	}
	if searched < 300 {
		t.Errorf("labels were needed in %d cases only", searched)
	}
}

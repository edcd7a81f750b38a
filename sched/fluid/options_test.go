package fluid

import (
	"math"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/sched"
	"pgregory.net/rapid"
)

// knapsacks draws a model with an additive bound, of layers with up to three variants that may share numbers, and the
// costs of their implementations.
func knapsacks(t *rapid.T) (m sched.Model, cost [][]float64) {
	draw := func(from, to int, label string) int { return rapid.IntRange(from, to).Draw(t, label) }
	m = sched.Model{Name: "m", Deadline: time.Hour, MaxLoss: float64(draw(0, 40, "most")) / 100, Loss: []float64{}}
	for range draw(1, 6, "layers") {
		latency := []time.Duration{1}
		layer, costs := sched.Layer{Implementations: []sched.Implementation{{Latency: latency}}}, []float64{10}
		for range draw(0, 3, "variants") {
			v := draw(max(1, m.Variants-1), m.Variants+1, "variant")
			if v > m.Variants {
				m.Variants, m.Loss = v, append(m.Loss, float64(draw(0, 20, "loss"))/100)
			}
			layer.Implementations = append(layer.Implementations, sched.Implementation{Variant: v, Latency: latency})
			costs = append(costs, float64(draw(1, 12, "cost")))
		}
		m.Layers, cost = append(m.Layers, layer), append(cost, costs)
	}
	return m, cost
}

// TestKnapsack holds the branch and bound against all combinations, and checks that a search cut short still proves a
// bound and returns a combination that is allowed.
func TestKnapsack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, cost := knapsacks(t)
		tables := testkit.Must(sched.Compile(sched.System{Accelerators: []string{"a"}, Models: []sched.Model{m}}))(t)
		o, price := newBounded(&m, tables.Model(0)), float64(rapid.IntRange(0, 60).Draw(t, "price"))
		want := math.Inf(1)
		var all func(l int, used sched.VariantSet, sum float64)
		all = func(l int, used sched.VariantSet, sum float64) {
			if l == len(m.Layers) {
				want = min(want, sum+price*o.of(used))
				return
			}
			for i, c := range cost[l] {
				if v := o.t.Variant(int32(l), int32(i)); o.t.Allowed(used, v) {
					all(l+1, used|v, sum+c)
				}
			}
		}
		all(0, 0, 0)
		for _, steps := range []int{boundedSteps, 12, 3, 1} {
			o.steps = steps
			ways := []options{o}
			if s := newSharing(o); s != nil {
				s.left = steps
				ways = append(ways, s)
			}
			for n, by := range ways {
				chosen := make([]int32, len(m.Layers))
				loss, low, exact := by.choose(cost, price, chosen)
				sum, used := price*loss, sched.VariantSet(0)
				for l, i := range chosen {
					sum += cost[l][i]
					used |= o.t.Variant(int32(l), i)
				}
				if !o.t.Allowed(used, used) || math.Abs(loss-o.of(used)) > 1e-12 || loss > o.most()+1e-12 {
					t.Fatalf("%d, %d steps: chosen %v with loss %v", n, steps, chosen, loss)
				}
				if low > want+1e-9 || sum < want-1e-9 || exact && (low < want-1e-6 || sum > want+1e-6) ||
					!exact && steps == boundedSteps {
					t.Fatalf("%d, %d steps: %v at cost %v, none below %v; the least is %v", n, steps, chosen, sum, low, want)
				}
			}
		}
	})
}

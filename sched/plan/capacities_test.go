package plan

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/sched"
)

// spending is a system of a model of 10 ms and its variant of 5 ms that loses 5 %, one of 10 ms and its variant of 8 ms
// that loses nothing, and one without variants, which keep these floors.
func spending(first, second float64) sched.System {
	model := func(name string, floor float64, latency time.Duration, accuracy float64) sched.Model {
		m := sched.Model{Name: name, Deadline: time.Second, Floor: floor, Layers: []sched.Layer{{Name: "l",
			Implementations: []sched.Implementation{{Name: "original", Latency: []time.Duration{10 * time.Millisecond}}}}}}
		if latency > 0 {
			m.Variants, m.Valid, m.Accuracy = 1, []sched.VariantSet{1}, []float64{accuracy}
			m.Layers[0].Implementations = append(m.Layers[0].Implementations,
				sched.Implementation{Name: "variant", Variant: 1, Latency: []time.Duration{latency}})
		}
		return m
	}
	return sched.System{Accelerators: []string{"x"}, Models: []sched.Model{
		model("a", first, 5*time.Millisecond, 0.95), model("b", second, 8*time.Millisecond, 1.01), model("c", 0, 0, 0)}}
}

func TestCapacities(t *testing.T) {
	rates := func() []Model { return []Model{{Rate: 10}, {Rate: 10}, {Rate: 10}} }
	at := func(busy float64) float64 { return 1 / busy }
	// Work in seconds per second by what requests of a take on average, in ms.
	work := func(a, b float64) float64 { return 10 * (a + b + 10) / 1000 }
	all := map[float64]float64{1: at(work(10, 10)), 0.999: at(work(10-5*0.02, 8)), 0.99: at(work(10-5*0.2, 8)),
		0.9: at(work(5, 8))}
	for _, c := range []struct {
		name          string
		first, second float64
		floors        []float64
		own           float64 // the capacity at the last of the floors that are not shown anyway
	}{
		{"none promised", 0, 0, []float64{1, 0.999, 0.99, 0.9}, 0},
		{"one of those shown", 0.99, 0.99, []float64{1, 0.999, 0.99, 0.9}, 0},
		{"another one", 0.98, 0.98, []float64{1, 0.999, 0.99, 0.98, 0.9}, at(work(10-5*0.4, 8))},
		{"different ones", 0.99, 1, []float64{1, 0.999, 0.99, 0.9, 0}, at(work(9, 10))},
		{"only one promises", 0.98, 0, []float64{1, 0.999, 0.99, 0.9, 0}, at(work(8, 10))},
	} {
		p, _ := testkit.Must2(New(spending(c.first, c.second), rates(), nil))(t)
		if len(p.Capacities) != len(c.floors) {
			t.Fatalf("%s: %+v", c.name, p.Capacities)
		}
		for i, x := range p.Capacities {
			want, shown := all[x.Floor]
			if !shown {
				want = c.own
			}
			if x.Floor != c.floors[i] || x.Scale > want*(1+1e-9) || x.Bound < want*(1-1e-9) || x.Bound > x.Scale*(1+2e-6) {
				t.Errorf("%s: %+v, want %v at floor %v", c.name, x, want, c.floors[i])
			}
		}
		if p.Capacities[0].Scale != p.Capacity.Scale {
			t.Errorf("%s: %v at floor 1, %v with originals", c.name, p.Capacities[0].Scale, p.Capacity.Scale)
		}
	}
}

// TestVariantPrices: with the order of package fluid; and plans with floors are read again.
func TestVariantPrices(t *testing.T) {
	nothing, accuracy := 0.0, 0.95
	some := 1 - accuracy
	p, _ := testkit.Must2(New(spending(0.98, 0.98), []Model{{Rate: 10}, {Rate: 10}, {Rate: 10}}, nil))(t)
	for i := range p.VariantPrices {
		p.VariantPrices[i].SavedUS = float64(int(p.VariantPrices[i].SavedUS + 0.5))
	}
	testkit.Equal(t, []VariantPrice{{"b", "l", "variant", 2000, &nothing}, {"a", "l", "variant", 5000, &some}},
		p.VariantPrices)
	testkit.Equal(t, []float64{0.1, 0, 0}, p.System.Pricing.Accuracy) // 5 ms for 5 %
	path := filepath.Join(t.TempDir(), "plan.json")
	testkit.OK(t, p.Write(path))
	got, _ := testkit.Must2(Read(path))(t)
	testkit.Equal(t, p, got)
	p.System.Models[0].Floor = 0 // variants are no capacity then
	testkit.OK(t, p.Write(path))
	testkit.Refused2(Read(path))(t, "stale plan")
}

// TestNoVariants: a plan without variants says nothing about them.
func TestNoVariants(t *testing.T) {
	p, _ := testkit.Must2(New(system(), []Model{{Rate: 100}}, nil))(t)
	if p.Capacities != nil || p.VariantPrices != nil || p.System.Pricing.Accuracy != nil {
		t.Errorf("%+v", p)
	}
}

package design

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/plan"
	"github.com/terastal/terastal/variants"
	"github.com/terastal/terastal/variants/accuracy"
)

// What requests cost at best is what the best mixture of two combinations costs: one of all that the layers' options
// make up.
func TestSpend(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		number := func(most int, what string) float64 { return float64(rapid.IntRange(0, most).Draw(t, what)) }
		layers := make([][]option, rapid.IntRange(1, 4).Draw(t, "layers"))
		all := []option{{}}
		for l := range layers {
			layers[l] = []option{{cost: 1 + number(50, "original")}}
			for range rapid.IntRange(0, 3).Draw(t, "variants") {
				layers[l] = append(layers[l], option{1 + number(50, "cost"), number(5, "loss")})
			}
			var next []option
			for _, a := range all {
				for _, b := range layers[l] {
					next = append(next, option{a.cost + b.cost, a.loss + b.loss})
				}
			}
			all = next
		}
		loss := number(30, "allowed") / 4
		want := math.Inf(1)
		for _, a := range all {
			if a.loss > loss {
				continue
			}
			want = min(want, a.cost)
			for _, b := range all {
				if b.loss > loss {
					want = min(want, a.cost+(loss-a.loss)/(b.loss-a.loss)*(b.cost-a.cost))
				}
			}
		}
		if got := spend(layers, loss); math.Abs(got-want) > 1e-9 {
			t.Fatalf("%v at %v: %v, want %v", layers, loss, got, want)
		}
		if got := mixed(all, loss); math.Abs(got-want) > 1e-9 {
			t.Fatalf("of all combinations: %v, want %v", got, want)
		}
	})
}

// pricedDraft is a model of two layers that take 100 us on either accelerator, of which the first costs nine times as
// much as the second but for the second layer, which it runs in 10 us.
func pricedDraft() *draft {
	return &draft{Model: &Model{Network: &runtime.Network{Layers: make([]models.Layer, 2)}, Theta: 0.9, Floor: 0.99},
		prices:    []float64{0.9, 0.1},
		originals: map[int][]time.Duration{0: {100 * us, 100 * us}, 1: {10 * us, 100 * us}},
		wanted:    map[int]map[int]wanted{},
	}
}

// A variant is worth what it saves of the least priced time, on whichever accelerator; one for an accelerator that costs
// nothing saves nothing.
func TestWorth(t *testing.T) {
	x := pricedDraft()
	for _, c := range []struct {
		layer, accelerator int
		want               float64 // us
	}{
		{0, 1, 100 / variants.Worthwhile}, {0, 0, 100 / variants.Worthwhile / 9}, {1, 0, 10 / variants.Worthwhile},
		{1, 1, 90 / variants.Worthwhile},
	} {
		got := x.worth(c.layer, c.accelerator)
		if math.Abs(microseconds(got)-c.want) > 0.01 {
			t.Errorf("layer %d on %d: %v, want %v us", c.layer, c.accelerator, got, c.want)
		}
	}
	x.originals[1] = []time.Duration{us / 100, 100 * us} // a layer that costs next to nothing
	if got := x.worth(1, 0); got > 0 {
		t.Errorf("a layer of next to no time is wanted in %v", got)
	}
	x.prices = []float64{1, 0}
	if got := x.worth(0, 1); got != 0 {
		t.Errorf("on an accelerator that costs nothing it is wanted in %v", got)
	}
}

func timed(layer int, e float64, times ...time.Duration) *variants.Candidate {
	return &variants.Candidate{Variant: plan.Variant{Layer: layer, Error: e, Latency: times}}
}

// Of what is fitted, those are left that something is to be said for: by priced time and error.
func TestShorten(t *testing.T) {
	x := pricedDraft()
	x.wanted[0] = map[int]wanted{0: {faster: true}, 1: {faster: true}}
	lossless, slower := timed(0, 0.0019, 100*us, 80*us), timed(0, 0.0001, 100*us, 81*us)
	lossy, elsewhere := timed(0, 0.1, 100*us, 40*us), timed(0, 0.1, 10*us, 100*us)
	worse, barely, bad := timed(0, 0.2, 100*us, 50*us), timed(0, 0.11, 100*us, 39*us), timed(0, 0.4, us, us)
	refused := timed(0, 0, us, us)
	refused.Refusal = variants.ErrPromise
	list := []*variants.Candidate{slower, lossy, bad, elsewhere, worse, refused, barely, lossless}
	got := x.shorten(list, x.wants(0))
	if !slices.Equal(got, []*variants.Candidate{lossless, lossy, elsewhere}) {
		t.Errorf("left: %v", got)
	}
}

// Variants stay only as long as requests cost more without them; of two of a layer, one may stay for what it loses and
// one for what it saves. Those that were not chosen for capacity stay.
func TestEarning(t *testing.T) {
	x := pricedDraft()
	list := []*variants.Candidate{timed(0, 0, 100*us, 80*us), timed(0, 0, 100*us, 79*us), timed(0, 0, 100*us, 30*us),
		timed(1, 0, 10*us, 100*us), timed(1, 0, 10*us, 100*us)}
	x.bought = list[:4]
	p := &plan.Proof{Exhaustive: true}
	for s := range sched.VariantSet(1 << len(list)) {
		if first, second := s&7, s&24; first&(first-1) != 0 || second&(second-1) != 0 {
			continue // two of a layer
		}
		p.Sets = append(p.Sets, s)
		p.Accuracy = append(p.Accuracy, 1-0.03*float64(s>>2&1)-0.2*float64(s>>3&1))
	}
	for _, c := range []struct {
		dropped, want []int
		exhaustive    bool
	}{{nil, []int{0, 3}, true}, {[]int{1}, []int{1, 3}, true}, {[]int{1}, []int{1}, false}} {
		p.Exhaustive = c.exhaustive
		drop := map[int]bool{}
		for _, v := range c.dropped {
			drop[v] = true
		}
		x.earning(list, p, drop)
		if got := slices.Sorted(maps.Keys(drop)); !slices.Equal(got, c.want) {
			t.Errorf("%v dropped, exhaustive %v: then %v, want %v", c.dropped, c.exhaustive, got, c.want)
		}
	}
	if list[0].Refusal != errIdle || list[1].Refusal != nil || len(x.notes) != 2 ||
		!strings.Contains(x.notes[0], "costs 80 % of the originals' accelerator time at an accuracy of 0.99") {
		t.Errorf("%v, %v, notes %q", list[0].Refusal, list[1].Refusal, x.notes)
	}
}

// alike stands in for a machine of two accelerators that take the same for everything: 8 bits are a little faster than
// the originals, spatial ones much, and all others slower.
type alike struct{ lowered }

func (b alike) Originals(ctx context.Context) (*profiler.Profile, *sched.Tables, error) {
	p, err := b.Measure(ctx, []*runtime.Network{b.network}, nil)
	if err != nil {
		return nil, nil, err
	}
	system, err := p.System([]time.Duration{time.Second}, profiler.P50)
	if err != nil {
		return nil, nil, err
	}
	tables, err := sched.Compile(system)
	return p, tables, err
}

func (b alike) Measure(_ context.Context, networks []*runtime.Network, _ Enough) (*profiler.Profile, error) {
	var table strings.Builder
	fmt.Fprintln(&table, "model,layer,implementation,accelerator,latency_us")
	row := func(network, layer, implementation string, took int) {
		for _, accelerator := range []string{"a", "b"} {
			fmt.Fprintf(&table, "%s,%s,%q,%s,%d\n", network, layer, implementation, accelerator, took)
		}
	}
	for _, n := range networks {
		for l := range n.Layers {
			row(n.Name, n.Layers[l].Name, "original", 100)
			for _, u := range n.Variants[l] {
				family, _, _ := strings.Cut(u.Name, " ")
				took := map[string]int{"int8": 90, "spatial": 50}[family]
				if took == 0 {
					took = 200
				}
				row(n.Name, n.Layers[l].Name, u.Name, took)
			}
		}
	}
	return profiler.ReadTable(strings.NewReader(table.String()), profiler.TableOptions{})
}

// Where requests may lose accuracy, variants are designed for layers that no budget excludes anywhere: those that lose
// nothing, and faster ones where they are worth what they lose. Elsewhere, and where something else is asked for, not.
func TestDesignForCapacity(t *testing.T) {
	for name, c := range map[string]struct {
		floor float64
		o     Options
		want  bool
	}{
		"a floor":      {0.8, Options{}, true},
		"originals":    {1, Options{}, false},
		"nothing":      {0, Options{}, false},
		"all layers":   {0.8, Options{All: true}, false},
		"some speedup": {0.8, Options{Speedup: 1.5}, false},
	} {
		n := network(t)
		d, m := designer(n, variants.Exact)
		m.Floor, m.Calibration = c.floor, inputs(n, 20)
		m.Metric = func(bool) (accuracy.Metric, error) { return accuracy.Fidelity(), nil }
		c.o.Families, c.o.Limits = []string{"int8", "spatial", "lowrank"}, Limits{MaxLoss: 0.5, Together: 0.5}
		testkit.OK(t, d.Design(t.Context(), alike{lowered{m.Network}}, c.o))
		if !c.want {
			if m.InUse != nil && len(m.InUse.Chosen) > 0 {
				t.Errorf("%s: variants in use: %+v", name, m.InUse.Chosen)
			}
			continue
		}
		families := map[string]int{}
		for i := range m.InUse.Chosen {
			v := &m.InUse.Chosen[i]
			families[v.Family]++
			if v.Alone == 0 || len(v.Wanted) != 2 {
				t.Errorf("%s: %+v", name, v)
			}
		}
		if families["int8"] == 0 || families["spatial"] == 0 || families["lowrank"] > 0 || len(m.InUse.Chosen) > most ||
			!m.InUse.Exhaustive {
			t.Errorf("%s: families in use %v", name, families)
		}
		for i := range m.InUse.Candidates {
			if v := &m.InUse.Candidates[i]; v.Refused == errIdle.Error() && v.Alone == 0 {
				t.Errorf("%s: %s was left out unseen", name, v.Name)
			}
		}
	}
}

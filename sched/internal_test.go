package sched

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/testkit"
)

// TestDraw: draws are uniform, and neither jobs, nor models, nor seeds that follow each other make them alike.
func TestDraw(t *testing.T) {
	const n = 20000
	for name, f := range map[string]func(i int) float64{
		"jobs":     func(i int) float64 { return draw(1, int64(i), 3) },
		"own jobs": func(i int) float64 { return draw(2, FirstOwnJob+int64(i), 0) },
		"models":   func(i int) float64 { return draw(1, 7, i) },
		"seeds":    func(i int) float64 { return draw(uint64(i), 7, 3) },
	} {
		var sum, product, low float64
		for i := range n {
			x, next := f(i), f(i+1)
			if x < 0 || x >= 1 {
				t.Fatalf("%s: draw %v", name, x)
			}
			sum += x
			product += (x - 0.5) * (next - 0.5)
			if x < 0.2 {
				low++
			}
		}
		// Five standard deviations.
		if d := math.Abs(sum/n - 0.5); d > 5*math.Sqrt(1.0/12/n) {
			t.Errorf("%s: the mean is %v", name, sum/n)
		}
		if d := math.Abs(low/n - 0.2); d > 5*math.Sqrt(0.16/n) {
			t.Errorf("%s: a share of %v is below 0.2", name, low/n)
		}
		if c := math.Abs(product / n); c > 5*math.Sqrt(1.0/144/n) {
			t.Errorf("%s: neighbours have a covariance of %v", name, product/n)
		}
	}
}

// TestAdaptedSums: after any run the sums over remaining layers are those of tables compiled from the adapted
// latencies; the tables it was cloned from stay as they were.
func TestAdaptedSums(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var s System
	s.Accelerators = []string{"x", "y"}
	m := Model{Name: "m", Deadline: time.Second, Variants: 1, Valid: []VariantSet{1}}
	for l := range 5 {
		layer := Layer{Name: fmt.Sprint(l), Implementations: []Implementation{{Name: "o",
			Latency: []time.Duration{1000, 1500}}}}
		if l == 2 {
			layer.Implementations[0].Latency[1] = Unavailable
			layer.Implementations = append(layer.Implementations,
				Implementation{Name: "v", Variant: 1, Latency: []time.Duration{800, 600}})
		}
		m.Layers = append(m.Layers, layer)
	}
	s.Models = []Model{m}
	original := testkit.Must(Compile(s))(t)
	tables := original.Clone()
	a := newAdaptation(tables)
	got := &tables.models[0]
	for range 2000 {
		row, k := rng.IntN(len(got.bit)), rng.IntN(2)
		if got.latency[row*2+k] >= Never {
			continue
		}
		l := 0
		for int(got.row[l+1]) <= row {
			l++
		}
		a.observe(&Tail{Layer: int32(l), From: Idle, Occupancy: Occupancy{Implementation: int32(row) - got.row[l]}}, k, time.Duration(rng.IntN(8000)))
		fresh := Model{Name: "m", Deadline: m.Deadline, Variants: 1, Valid: m.Valid}
		for l := range m.Layers {
			layer := Layer{Name: m.Layers[l].Name}
			for r := got.row[l]; r < got.row[l+1]; r++ {
				latency := slices.Clone(got.latency[r*2 : r*2+2])
				for k := range latency {
					if latency[k] >= Never {
						latency[k] = Unavailable
					}
				}
				layer.Implementations = append(layer.Implementations,
					Implementation{Variant: m.Layers[l].Implementations[r-got.row[l]].Variant, Latency: latency})
			}
			fresh.Layers = append(fresh.Layers, layer)
		}
		want := testkit.Must(Compile(System{Accelerators: s.Accelerators, Models: []Model{fresh}}))(t)
		if got, want := sums(tables), sums(want); !slices.Equal(got, want) {
			t.Fatalf("after row %d: sums %v, want %v", row, got, want)
		}
	}
	again := testkit.Must(Compile(s))(t)
	if !slices.Equal(original.models[0].latency, again.models[0].latency) || !slices.Equal(sums(original), sums(again)) {
		t.Errorf("adapting a clone changed the original")
	}
	for i, c := range got.latency {
		if base := original.models[0].latency[i]; base < Never && (c < base/2 || c > 4*base) {
			t.Errorf("latency %d is %v, the profile's %v", i, c, base)
		}
	}
}

// sums are those over remaining layers, of the first model.
func sums(t *Tables) (out []float64) {
	m := &t.models[0]
	for l := range m.mean {
		out = append(out, float64(m.remain[l]), float64(m.best[l]), m.mean[l])
	}
	return out
}

// TestRecent: the state remembers how the last ten jobs of each model ended.
func TestRecent(t *testing.T) {
	layer := Layer{Implementations: []Implementation{{Latency: []time.Duration{10}}}}
	tables := testkit.Must(Compile(System{Accelerators: []string{"x"}, Models: []Model{
		{Name: "a", Deadline: 100, Layers: []Layer{layer}}, {Name: "b", Deadline: 100, Layers: []Layer{layer}}}}))(t)
	e := testkit.Must(New(Config{Tables: tables, Policy: FCFS, Queue: 1}))(t)
	job := int64(0)
	release := func(n int) { // all but the first are dropped: the queue is full
		for range n {
			e.Step(Event{Kind: Release, Job: job})
			job++
		}
	}
	release(4)
	if got := e.state.Recent; got[0] != 0b111 || got[1] != 0 {
		t.Errorf("after three drops it is %b", got)
	}
	e.Step(Event{Kind: Complete})
	if got := e.state.Recent[0]; got != 0b1110 {
		t.Errorf("after a job that met its deadline it is %b", got)
	}
	release(13)
	if got := e.state.Recent[0]; got != 1<<10-1 {
		t.Errorf("after twelve drops it is %b", got)
	}
	var copied State
	copied.CopyFrom(&e.state)
	copied.Recent[0] = 0
	if e.state.Recent[0] == 0 {
		t.Errorf("a copy shares the memory of Recent")
	}
}

package plan

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/terastal/terastal/internal/document"
	"github.com/terastal/terastal/sched"
)

func system() sched.System {
	return sched.System{Accelerators: []string{"x", "y"}, Models: []sched.Model{{
		Name: "m", Deadline: 10 * time.Millisecond,
		Layers: []sched.Layer{{Name: "l", Implementations: []sched.Implementation{
			{Name: "original", Latency: []time.Duration{2 * time.Millisecond, sched.Unavailable}}}}},
	}}}
}

func TestRoundTrip(t *testing.T) {
	p, _, err := New(system(), []float64{100})
	if err != nil {
		t.Fatal(err)
	}
	// One layer of 2 ms, 100 times a second, on the one accelerator that can.
	if c := p.Capacity; c.Scale < 5*(1-1e-3) || c.Scale > 5*(1+1e-9) || p.Budgets[0].Layer[0] != 10*time.Millisecond {
		t.Errorf("capacity %+v, budgets %+v", p.Capacity, p.Budgets)
	}
	p.Variants = []Variants{{Model: "m", Theta: 0.9, Bytes: 400,
		Proof:  Proof{Metric: "top-1", Sets: []sched.VariantSet{0, 1}, Accuracy: []float64{1, 0.99}, Exhaustive: true},
		Chosen: []Variant{{LayerName: "l", Family: "int8", File: "variants/m/l.onnx", Bytes: 100, Latency: []time.Duration{time.Millisecond, 0}, Original: []time.Duration{3 * time.Millisecond, 0}}}}}
	if v := &p.Variants[0]; v.Overhead() != 0.25 || v.Chosen[0].Gain(0) != 3 || v.Chosen[0].Gain(1) != 0 || v.Chosen[0].Gain(2) != 0 {
		t.Errorf("overhead %v, gains %v, %v", v.Overhead(), v.Chosen[0].Gain(0), v.Chosen[0].Gain(1))
	}
	path := filepath.Join(t.TempDir(), "plan.json")
	if err := p.Write(path); err != nil {
		t.Fatal(err)
	}
	got, tables, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(p, got); diff != "" {
		t.Errorf("-written +read\n%s", diff)
	}
	if diff := cmp.Diff(tables.Budgets(0), p.Budgets[0]); diff != "" {
		t.Errorf("budgets -read +written\n%s", diff)
	}
}

// priced is the system with prices for this rate.
func priced(t *testing.T, rate float64) sched.System {
	p, _, err := New(system(), []float64{rate})
	if err != nil {
		t.Fatal(err)
	}
	return p.System
}

func TestRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "plan.json")
	bad := system()
	bad.Models = nil
	if _, _, err := New(bad, nil); !errors.Is(err, sched.ErrInvalidSystem) {
		t.Errorf("planned without models: %v", err)
	}
	if _, _, err := New(system(), []float64{1, 2}); err == nil || !strings.Contains(err.Error(), "2 rates for 1 models") {
		t.Errorf("planned with a rate too many: %v", err)
	}
	for _, c := range []struct {
		name string
		plan Plan
		want string
	}{
		{"a system that does not compile", Plan{System: bad}, "0 models"},
		{"a rate too few", Plan{System: system()}, "0 rates for 1 models"},
		{"no prices", Plan{System: system(), Rates: []float64{100}}, "stale plan"},
		{"prices of other rates", Plan{System: priced(t, 50), Rates: []float64{100}}, "stale plan"},
	} {
		if err := c.plan.Write(path); err != nil {
			t.Fatal(err)
		}
		if _, _, err := Read(path); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, want %q and the path", c.name, err, c.want)
		}
	}
	if err := document.Write(path, "log", 1, system()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Read(path); !errors.Is(err, document.ErrKind) {
		t.Errorf("a log was read as a plan: %v", err)
	}
}

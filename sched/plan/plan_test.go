package plan

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/document"
	"github.com/terastal/terastal/internal/testkit"
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
	p, _ := testkit.Must2(New(system(), []Model{{Rate: 100}}, nil))(t)
	// One layer of 2 ms, 100 times a second, on the one accelerator that can.
	if c := p.Capacity; c.Scale < 5*(1-1e-3) || c.Scale > 5*(1+1e-9) ||
		p.Models[0].Budgets.Layer[0] != 10*time.Millisecond {
		t.Errorf("capacity %+v, budgets %+v", p.Capacity, p.Models[0].Budgets)
	}
	p.Variants = []Variants{{Model: "m", Theta: 0.9, Bytes: 400,
		Proof: Proof{Metric: "top-1", Sets: []sched.VariantSet{0, 1}, Accuracy: []float64{1, 0.99}, Exhaustive: true},
		Chosen: []Variant{{LayerName: "l", Family: "int8", File: "variants/m/l.onnx", Bytes: 100,
			Latency: []time.Duration{time.Millisecond, 0}, Original: []time.Duration{3 * time.Millisecond, 0}}}}}
	if v := &p.Variants[0]; v.Overhead() != 0.25 || v.Chosen[0].Gain(0) != 3 || v.Chosen[0].Gain(1) != 0 ||
		v.Chosen[0].Gain(2) != 0 {
		t.Errorf("overhead %v, gains %v, %v", v.Overhead(), v.Chosen[0].Gain(0), v.Chosen[0].Gain(1))
	}
	path := filepath.Join(t.TempDir(), "plan.json")
	testkit.OK(t, p.Write(path))
	got, tables := testkit.Must2(Read(path))(t)
	testkit.Equal(t, p, got)
	testkit.Equal(t, tables.Budgets(0), p.Models[0].Budgets)
}

// priced is the system with prices for this rate.
func priced(t *testing.T, rate float64) sched.System {
	p, _ := testkit.Must2(New(system(), []Model{{Rate: rate}}, nil))(t)
	return p.System
}

func TestRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "plan.json")
	bad := system()
	bad.Models = nil
	testkit.Refused2(New(bad, nil, nil))(t, sched.ErrInvalidSystem)
	testkit.Refused2(New(system(), []Model{{}, {}}, nil))(t, "2 models and 2 accelerators for a system of 1 and 2")
	testkit.Refused2(New(system(), []Model{{Name: "other"}}, nil))(t, `model "other" is called "m"`)
	at100, both := []Model{{Rate: 100}}, make([]Accelerator, 2)
	for _, c := range []struct {
		name string
		plan Plan
		want string
	}{
		{"a system that does not compile", Plan{System: bad}, "0 models"},
		{"a model too few", Plan{System: system()}, "0 models and 0 accelerators"},
		{"no prices", Plan{System: system(), Models: at100, Accelerators: both}, "stale plan"},
		{"prices of other rates", Plan{System: priced(t, 50), Models: at100, Accelerators: both}, "stale plan"},
	} {
		testkit.OK(t, c.plan.Write(path))
		testkit.Refused2(Read(path))(t, c.want, path)
	}
	testkit.OK(t, document.Write(path, "log", 1, system()))
	testkit.Refused2(Read(path))(t, document.ErrKind)
	testkit.OK(t, document.Write(path, kind, version-1, system()))
	testkit.Refused2(Read(path))(t, document.ErrVersion, "terastal plan")
}

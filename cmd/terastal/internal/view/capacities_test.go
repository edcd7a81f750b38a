package view

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/plan"
)

// bargains is a plan of a model with a layer for each of these accuracies, and a variant of it that takes half as long
// as the original's 1 ms and has that accuracy alone; 0 is unknown. Losses add up.
func bargains(t *testing.T, floor float64, accuracies ...float64) *plan.Plan {
	t.Helper()
	m := sched.Model{Name: "m", Deadline: time.Second, Variants: len(accuracies), Floor: floor}
	for i := range accuracies {
		m.Layers = append(m.Layers, sched.Layer{Name: fmt.Sprint("l", i), Implementations: []sched.Implementation{
			{Name: "original", Latency: []time.Duration{time.Millisecond}},
			{Name: fmt.Sprint("v", i), Variant: i + 1, Latency: []time.Duration{time.Millisecond / 2}}}})
	}
	for set := range sched.VariantSet(1) << len(accuracies) {
		sum, known := 1.0, true
		for i, a := range accuracies {
			if set>>i&1 != 0 {
				sum, known = sum+a-1, known && a > 0
			}
		}
		if known {
			m.Valid, m.Accuracy = append(m.Valid, set), append(m.Accuracy, sum)
		}
	}
	s := sched.System{Accelerators: []string{"x"}, Models: []sched.Model{m}}
	p, _ := testkit.Must2(plan.New(s, []plan.Model{{Rate: 100}}, nil))(t)
	return p
}

func TestCapacities(t *testing.T) {
	var b bytes.Buffer
	Capacities(&b, bargains(t, 0.98, 0.96, 1, 0.99, 0))
	// Originals take 4 ms, the lossless variant saves half a one. At .98 a request may use that and the one that loses 1 %,
	// and one in four the one that loses 4 %.
	got := strings.Join(strings.Fields(b.String()), " ")
	for _, want := range []string{
		"1, originals only 250/s 1.000x", "0.999 290/s 1.159x", "0.99 333/s 1.333x", "0.98, as configured 348/s 1.391x",
		"0.9 400/s 1.600x",
		"m l1 v1 500.0 us nothing free l2 v2 500.0 us 1.00 % 500.0 us l0 v0 500.0 us 4.00 % 125.0 us l3 v3 500.0 us unknown",
		"a point is worth, at the floors as configured: m 125.0 us; a variant", "with their prices at these rates: x 1.00",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q", want)
		}
	}
	if t.Failed() {
		t.Log(b.String())
	}
}

// TestCapacitiesElsewhere: what is said of other plans.
func TestCapacitiesElsewhere(t *testing.T) {
	s := system("m")
	s.Models = s.Models[1:]
	plain, _ := testkit.Must2(plan.New(s, []plan.Model{{Rate: 100}}, nil))(t)
	for _, c := range []struct {
		name       string
		plan       *plan.Plan
		want, none string
		chart      bool
	}{
		{"no variants", plain, "", "accuracy", false},
		{"no promise", bargains(t, 0, 0.9), "1, originals only", "point is worth", true},
		{"lossless", bargains(t, 0.99, 1, 1.2), "more accuracy than variants can use", "point is worth", false},
		{"unknown", bargains(t, 0.99, 0), "unknown", "free", false},
	} {
		var b bytes.Buffer
		Capacities(&b, c.plan)
		if got := b.String(); !strings.Contains(got, c.want) || strings.Contains(got, c.none) {
			t.Errorf("%s: no %q, or %q, in\n%s", c.name, c.want, c.none, got)
		}
		if s := (&Page{Plan: c.plan}).capacities(); (len(s.Figures) > 0) != c.chart {
			t.Errorf("%s: %d charts", c.name, len(s.Figures))
		}
	}
}

// TestHopelessFirst: what nothing can help comes before everything else, in texts and pages, also where a page has logs
// only.
func TestHopelessFirst(t *testing.T) {
	p := testkit.Must(Open(folder(t, "mobile", 100*msec)))(t)
	p.Results[0].Models[1].NeedsMS = 12.31
	const line = "small meets its deadline of 6 ms nowhere: it would need 12.4 ms"
	var text strings.Builder
	Result(&text, &p.Results[0], "result.json")
	if got, _, _ := strings.Cut(text.String(), "\n"); got != line || strings.Count(text.String(), line) != 1 {
		t.Errorf("the text does not begin with the line, once:\n%s", text.String())
	}
	testkit.Equal(t, line+".", p.ran().Text[0])
	p.Results = nil
	p.Logs[0].Header.System.Models[1].Deadline = msec / 10
	if got := p.ran().Text[0]; !strings.HasPrefix(got, "small meets its deadline of 0.1 ms nowhere: it would need ") {
		t.Errorf("of logs: %s", got)
	}
}

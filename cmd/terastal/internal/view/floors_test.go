package view

import (
	"strings"
	"testing"

	"github.com/terastal/terastal/cmd/terastal/internal/comparison"
)

// atFloors are curves of a policy that floors mean nothing to, and of one with two floors. All sustain scale 1 at the
// first limit, the last more at the second.
func atFloors() *comparison.Curves {
	half, more, floor, originals, kept := 0.5, 1.5, 0.99, 1.0, 0.9934
	c := &comparison.Curves{Driver: "simulated", Limit: 0.01, Further: []float64{0.05}}
	for _, f := range []*float64{nil, &originals, &floor} {
		x := comparison.Curve{Policy: "pedf", Floor: f, Points: []comparison.Point{{Scale: 0.5, Load: 0.4, Runs: 2},
			{Scale: 1.5, Load: 1.2, Miss: 0.04, Runs: 2, Accuracy: &kept}}}
		x.Sustains, x.Exceeds = &half, &more
		x.Further = []comparison.Crossing{{Sustains: &half, Exceeds: &more}}
		switch f {
		case nil:
			x.Policy = "fcfs"
		case &floor:
			x.Further[0] = comparison.Crossing{Sustains: &more}
		}
		c.Curves = append(c.Curves, x)
	}
	return c
}

// TestFloors: what each floor buys is in the table, the chart and under a pointer, and nowhere without floors.
func TestFloors(t *testing.T) {
	c := atFloors()
	var b strings.Builder
	Curves(&b, c)
	words := strings.Join(strings.Fields(b.String()), " ")
	for _, want := range []string{"policy missed at most any floor 1 0.99", "fcfs 1 % 0.40 pedf 1 % 0.40 0.40",
		"pedf 5 % 0.40 1.20 or more", "policy scale at 1 % interval", "policy scale at 5 % interval", "pedf at 0.99 1.5 or more"} {
		if !strings.Contains(words, want) {
			t.Errorf("no %q in\n%s", want, &b)
		}
	}
	figures := floorFigures(c)
	if len(figures) != 2 || len(figures[1].Legend) != 2 {
		t.Fatalf("%d figures, %+v", len(figures), figures)
	}
	for _, want := range []string{"pedf at 0.99: load 1.20 or more, accuracy 0.9934", "fcfs: load 0.40", ">0.99<", ">1<"} {
		if !strings.Contains(string(figures[1].SVG), want) {
			t.Errorf("no %q in the chart\n%s", want, figures[1].SVG)
		}
	}
	for i := range c.Curves { // a limit that nothing looked at is within
		c.Curves[i].Sustains = nil
	}
	if figures := floorFigures(c); len(figures) != 1 {
		t.Errorf("%d figures, where none sustains anything at the first limit", len(figures))
	}
	c = atFloors()
	c.Curves = c.Curves[:1]
	b.Reset()
	Curves(&b, c)
	if len(floorFigures(c)) > 0 || strings.Contains(b.String(), "accuracy floor") {
		t.Errorf("floors that nobody asked for:\n%s", &b)
	}
	p := Page{Curves: []comparison.Curves{*atFloors()}}
	if s := p.swept(); len(s.Figures) != 3 || len(s.Tables) != 4 {
		t.Errorf("the page shows %d figures and %d tables", len(s.Figures), len(s.Tables))
	}
}

package result

import (
	"strings"
	"testing"

	"github.com/terastal/terastal/sched/plan"
)

// TestBroken: a floor is broken where the whole interval is below it.
func TestBroken(t *testing.T) {
	for _, c := range []struct {
		delivered, low, high, floor float64 // no interval where low is 0
		broken                      bool
	}{
		{0.98, 0.97, 0.9899, 0.99, true},
		{0.98, 0.97, 0.99, 0.99, false},
		{0.98, 0.97, 0.99, 0, false},
		{0.98, 0, 0, 0.99, true},
		{0.99, 0, 0, 0.99, false},
	} {
		a := Accuracy{Variants: plan.Variants{Model: "net"}, Delivered: &c.delivered, Finished: 70, Floor: c.floor}
		if c.low > 0 {
			a.Low, a.High = &c.low, &c.high
		}
		reasons := Broken([]Accuracy{{Floor: 1}, a}) // the first without a run
		text := strings.Join(reasons, "; ")
		if len(reasons) > 0 != c.broken || c.broken && !strings.Contains(text, "net kept 98 % of the accuracy") ||
			strings.Contains(text, "95 %") != (c.broken && c.low > 0) {
			t.Errorf("%+v: %q", c, text)
		}
	}
}

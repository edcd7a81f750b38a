package auto_test

import (
	"slices"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/testkit"
)

// TestProfile: a choice of cores and of streams of a GPU is a profile with the times that were measured.
func TestProfile(t *testing.T) {
	p, wanted := h100(t)
	c, _ := p.calibrated(t, wanted.Deadlines)
	if c.Profile() != nil {
		t.Error("a profile of accelerators that were not chosen yet")
	}
	c.Choice = testkit.Must(c.Choose(wanted))(t)
	got := c.Profile()
	if got == nil || len(got.Accelerators) != len(c.Choice.Accelerators) || len(got.Models) != len(c.Models) {
		t.Fatalf("%+v", got)
	}
	for k, a := range c.Choice.Accelerators {
		if got.Accelerators[k].Name != a.Name {
			t.Errorf("accelerator %d is %q, not %q", k, got.Accelerators[k].Name, a.Name)
		}
		want := p.brief(a).Latency[0][0]
		if !a.CPU() {
			n := len(got.Device(k).Accelerators)
			if streams := slices.Index([]int{1, 2, 4, 8}, n); streams > 0 {
				want = time.Duration(float64(want) * float64(n) * p.rates[0] / p.rates[streams])
			}
		}
		if took := got.Medians(0, 0, 0)[k]; took != want {
			t.Errorf("the first layer takes %v on %s, not %v", took, a.Name, want)
		}
	}
	c.Choice.Accelerators[0].Optimization = "layout" // of another version, perhaps
	if c.Choice.Accelerators[0].CPU() && c.Profile() != nil {
		t.Error("a profile of what was not measured")
	}
}

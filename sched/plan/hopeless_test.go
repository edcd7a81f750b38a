package plan_test

import (
	"testing"
	"time"

	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/plan"
)

// TestHopeless: a plan names the model that no path takes to its end in time, with what it needs, and counts it without
// its deadline.
func TestHopeless(t *testing.T) {
	const ms = time.Millisecond
	layer := func(latency ...time.Duration) sched.Layer {
		return sched.Layer{Implementations: []sched.Implementation{{Latency: latency}}}
	}
	there := layer(20*ms, ms+200)
	there.Handoff = [][]time.Duration{{0, 5 * ms}, {0, 0}}
	sys := sched.System{Accelerators: []string{"a", "b"}, Models: []sched.Model{
		{Name: "late", Deadline: 12 * ms, Layers: []sched.Layer{layer(7*ms, 30*ms), there}},
		{Name: "fine", Deadline: 7 * ms, Layers: []sched.Layer{layer(7*ms, 30*ms)}},
	}}
	p, _, err := plan.New(sys, []plan.Model{{Rate: 1}, {Rate: 1}}, nil)
	testkit.OK(t, err)
	testkit.Equal(t, []plan.Hopeless{{Model: "late", DeadlineMS: 12, NeedsMS: 13.0002}}, p.Hopeless)
	testkit.Equal(t, "late meets its deadline of 12 ms nowhere: it would need 13.1 ms", p.Hopeless[0].String())
	// The late one runs its first layer anywhere, 24.0002 of 37 times where the other one has to run.
	if want := 1000 / (7 + 7*24.0002/37); p.Capacity.Scale < want*(1-1e-6) || p.Capacity.Scale > want*(1+1e-6) {
		t.Errorf("capacity %v, want %v", p.Capacity.Scale, want)
	}
	for needs, want := range map[float64]string{0.1234: "0.124", 2: "2.00", 9.999: "10.00", 116: "116", 1234: "1240"} {
		got := plan.Hopeless{Model: "m", DeadlineMS: 0.1, NeedsMS: needs}.String()
		testkit.Equal(t, "m meets its deadline of 0.1 ms nowhere: it would need "+want+" ms", got)
	}
}

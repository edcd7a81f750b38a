package session

import (
	"math"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/fluid"
	"github.com/terastal/terastal/sched/plan"
)

// TestDemand: a load is a share of what meets its deadline, also where deadlines are periods, which get shorter with the
// load. The second accelerator takes 10 ms, the first 1 ms: up to 100 requests per second may use both.
func TestDemand(t *testing.T) {
	const ms = time.Millisecond
	system := sched.System{Accelerators: []string{"fast", "slow"}, Models: []sched.Model{{Name: "m", Deadline: time.Second,
		Layers: []sched.Layer{{Implementations: []sched.Implementation{{Latency: []time.Duration{ms, 10 * ms}}}}}}}}
	for _, c := range []struct {
		name             string
		rate, load       float64
		deadline         time.Duration // 0: the period
		found, requested float64       // the load, 0 for any, and requests per second
	}{
		{"as it is", 550, 0, time.Second, 0.5, 550},
		{"as it is, one accelerator in time", 500, 0, 9 * ms, 0.5, 500},
		{"scaled", 1, 0.5, time.Second, 0.5, 550},
		{"scaled, one accelerator in time", 1, 0.5, 9 * ms, 0.5, 500},
		{"a period long enough for both", 1, 0.05, 0, 0.05, 55},
		{"a period too short for one", 1, 0.5, 0, 0.5, 500},
		{"a period too short from rates that were not", 99, 0.8, 0, 0.8, 800},
		{"no rate has the load", 1, 0.095, 0, 0, 100},
	} {
		models := []plan.Model{{Rate: c.rate}}
		load := testkit.Must(demand(system, models, c.load, func(scale float64) {
			if system.Models[0].Deadline = c.deadline; c.deadline == 0 {
				system.Models[0].Deadline = time.Duration(float64(time.Second) / (models[0].Rate * scale))
			}
		}))(t)
		if c.found > 0 && math.Abs(load-c.found) > 1e-5 || math.Abs(models[0].Rate/c.requested-1) > 1e-5 {
			t.Errorf("%s: load %v at %v/s, want %v at %v/s", c.name, load, models[0].Rate, c.found, c.requested)
		}
		capacity := testkit.Must(fluid.CapacityOf(testkit.Must(sched.Compile(system))(t), []float64{models[0].Rate}))(t)
		if math.Abs(1/capacity.Scale-load) > 1e-5 {
			t.Errorf("%s: load %v, said to be %v", c.name, 1/capacity.Scale, load)
		}
	}
}

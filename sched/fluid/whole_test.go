package fluid_test

import (
	"testing"
	"time"

	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/fluid"
	"github.com/terastal/terastal/sched/internal/schedtest"
)

// TestWholeModels: what cannot choose layer by layer serves less, and does not run where one layer does not.
func TestWholeModels(t *testing.T) {
	const ms, none = time.Millisecond, sched.Unavailable
	sys := capacitySystem([]time.Duration{ms, 9 * ms, ms}, []time.Duration{9 * ms, ms, none})
	sys.Models[0].Energy = [][]float64{{1, 2, 3}, {4, 5, 6}}
	tables := schedtest.Compile(t, sys)
	whole := testkit.Must(fluid.WholeModels(tables))(t)
	m := whole.System().Models[0]
	testkit.Equal(t, []time.Duration{10 * ms, 10 * ms, none}, m.Layers[0].Implementations[0].Latency)
	testkit.Equal(t, [][]float64{{5, 7, 3}}, m.Energy)
	layers := testkit.Must(fluid.CapacityOf(tables, []float64{100}))(t)
	models := testkit.Must(fluid.CapacityOf(whole, []float64{100}))(t)
	if layers.Scale < 10 || models.Scale < 2*(1-1e-6) || models.Bound > 2*(1+1e-6) {
		t.Errorf("layer by layer %v, whole models %v", layers, models)
	}
	apart := schedtest.Compile(t, capacitySystem([]time.Duration{ms, none}, []time.Duration{none, ms}))
	testkit.Refused(fluid.WholeModels(apart))(t, `whole models: invalid task system: model "m"`)
}

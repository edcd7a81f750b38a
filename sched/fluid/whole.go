package fluid

import (
	"fmt"
	"time"

	"github.com/terastal/terastal/sched"
)

// WholeModels are the tables of a system that runs whole models, as systems do that cannot split them: every model has
// one layer, whose latency and energy on an accelerator are the sums of its originals' there. A model of which some layer
// does not run on an accelerator does not run there; one that is left without any is an error. The capacity of these
// tables is what can be served without choosing layer by layer.
func WholeModels(t *sched.Tables) (*sched.Tables, error) {
	sys := t.System()
	out := sched.System{Accelerators: sys.Accelerators, Devices: sys.Devices}
	for i := range sys.Models {
		out.Models = append(out.Models, wholeModel(&sys.Models[i], len(sys.Accelerators)))
	}
	merged, err := sched.Compile(out)
	if err != nil {
		return nil, fmt.Errorf("whole models: %w", err)
	}
	return merged, nil
}

func wholeModel(m *sched.Model, accelerators int) sched.Model {
	whole := sched.Model{Name: m.Name, Deadline: m.Deadline, Trigger: m.Trigger}
	im := sched.Implementation{Name: "whole", Latency: make([]time.Duration, accelerators)}
	energy := make([]float64, accelerators)
	for k := range im.Latency {
		for l := range m.Layers {
			c := m.Layers[l].Implementations[0].Latency[k]
			if c == sched.Unavailable {
				im.Latency[k] = sched.Unavailable
				break
			}
			im.Latency[k] += c
			if m.Energy != nil {
				energy[k] += m.Energy[l][k]
			}
		}
	}
	if m.Energy != nil {
		whole.Energy = [][]float64{energy}
	}
	whole.Layers = []sched.Layer{{Name: "whole", Implementations: []sched.Implementation{im}}}
	return whole
}

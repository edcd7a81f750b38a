package scenario_test

import (
	"slices"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/scenario"
)

// Every published model has a latency on every kind of accelerator, and those of the scenarios are the same.
func TestModels(t *testing.T) {
	names := testkit.Must(scenario.Models())(t)
	if len(names) < 17 || !slices.Contains(names, "resnet50") || !slices.IsSorted(names) {
		t.Errorf("models %v", names)
	}
	s := sched.System{}
	for _, k := range scenario.Kinds() {
		s.Accelerators = append(s.Accelerators, k.Name)
	}
	for _, name := range names {
		m := testkit.Must(scenario.Model(name, scenario.Kinds()))(t)
		m.Deadline = time.Second
		s.Models = append(s.Models, m)
	}
	testkit.OK(t, s.Validate())
	heavy := testkit.Must(scenario.Load("paper/mcv_heavy"))(t)
	i := slices.Index(names, "resnet50")
	j := slices.IndexFunc(heavy.System.Models, func(m sched.Model) bool { return m.Name == "resnet50" })
	for l, layer := range heavy.System.Models[j].Layers {
		for n, im := range layer.Implementations {
			got := s.Models[i].Layers[l].Implementations[n]
			if got.Name != im.Name || got.Latency[0] != im.Latency[0] || got.Latency[2] != im.Latency[1] {
				t.Errorf("layer %q: %+v, the scenario has %+v", layer.Name, got, im)
			}
		}
	}
	testkit.Refused(scenario.Model("nothing", scenario.Kinds()))(t, scenario.ErrUnknown, "resnet50")
}

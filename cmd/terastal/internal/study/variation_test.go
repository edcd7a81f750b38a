package study_test

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/terastal/terastal/cmd/terastal/internal/study"
	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/fluid"
	"github.com/terastal/terastal/sched/scenario"
)

// TestVary: every variation of every scenario is a valid system under
// the same load, and is what its name says.
func TestVary(t *testing.T) {
	for _, name := range scenario.Names() {
		for _, v := range study.Variations() {
			before, err := scenario.Load(name)
			testkit.OK(t, err)
			s := testkit.Must(scenario.Load(name))(t)
			s.System.Devices = []sched.Device{{Name: "a", Accelerators: []int{0, 1}}}
			if len(s.System.Accelerators) > 2 {
				s.System.Devices = append(s.System.Devices, sched.Device{Name: "b", Accelerators: []int{2}})
			}
			if s, err = study.Vary(s, v.Name); err != nil {
				t.Fatalf("%s, %s: %v", name, v.Name, err)
			}
			if a, b := scale(t, before), scale(t, s); math.Abs(a-b) > 1e-4*a {
				t.Errorf("%s, %s: rates can grow by %v, before by %v", name, v.Name, b, a)
			}
			for m := range s.Rates {
				a := before.Rates[m] * before.System.Models[m].Deadline.Seconds()
				if b := s.Rates[m] * s.System.Models[m].Deadline.Seconds(); math.Abs(a-b) > 1e-6 {
					t.Errorf("%s, %s: model %d has %v requests per deadline, before %v", name, v.Name, m, b, a)
				}
			}
			was, is := before.System.Models[0].Layers[0].Implementations, s.System.Models[0].Layers[0].Implementations
			switch v.Name {
			case "originals":
				for _, m := range s.System.Models {
					for _, l := range m.Layers {
						if len(l.Implementations) != 1 {
							t.Errorf("%s: model %s, layer %s has variants", name, m.Name, l.Name)
						}
					}
				}
			case "one-accelerator":
				testkit.Equal(t, []sched.Device{{Name: "a", Accelerators: []int{0}}}, s.System.Devices)
				if len(s.System.Accelerators) != 1 || len(is[0].Latency) != 1 || is[0].Latency[0] != was[0].Latency[0] {
					t.Errorf("%s: %d accelerators, latencies %v", name, len(s.System.Accelerators), is[0].Latency)
				}
			case "skewed":
				for k, factor := range []time.Duration{1, 4, 16}[:len(s.System.Accelerators)] {
					if a, b := was[0].Latency[k], is[0].Latency[k]; b != factor*a {
						t.Errorf("%s: accelerator %d takes %v, before %v", name, k, b, a)
					}
				}
			}
		}
	}
	s := testkit.Must(scenario.Load("paper/mcv_light"))(t)
	testkit.Refused(study.Vary(s, "none"))(t, "have originals, one-accelerator, "+
		"skewed")
}

// scale is the factor by which a scenario's rates can grow if there were no deadlines.
func scale(t *testing.T, s *scenario.Scenario) float64 {
	t.Helper()
	sys := s.System
	sys.Models = slices.Clone(sys.Models)
	for m := range sys.Models {
		sys.Models[m].Deadline = time.Hour
	}
	tables := testkit.Must(sched.Compile(sys))(t)
	c := testkit.Must(fluid.CapacityOf(tables, s.Rates))(t)
	return c.Scale
}

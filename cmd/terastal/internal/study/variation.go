package study

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/fluid"
	"github.com/terastal/terastal/sched/scenario"
)

// Variation changes a scenario into one that is unlike the published ones.
type Variation struct {
	Name  string
	Short string
	vary  func(*sched.System)
}

// Variations lists them.
func Variations() []Variation {
	return []Variation{
		{"originals", "no layer has variants", originals},
		{"one-accelerator", "only the first accelerator is there",
			func(s *sched.System) { s.Accelerators = s.Accelerators[:1] }},
		{"skewed", "the second accelerator is 4 times as slow, the third 16 times", skew},
	}
}

// Vary returns the scenario, which it changes, with the named variation, under its own name. Rates change by the factor
// by which the variation changes the fluid capacity, and deadlines by its inverse, so that the load stays: that of the
// work alone, for which deadlines do not matter.
func Vary(s *scenario.Scenario, name string) (*scenario.Scenario, error) {
	var names []string
	for _, v := range Variations() {
		if v.Name != name {
			names = append(names, v.Name)
			continue
		}
		before, err := unhurried(s)
		if err != nil {
			return nil, err
		}
		v.vary(&s.System)
		trim(&s.System)
		after, err := unhurried(s)
		if err != nil {
			return nil, err
		}
		for m := range s.Rates {
			s.Rates[m] *= after / before
			d := &s.System.Models[m].Deadline
			*d = time.Duration(float64(*d) * before / after)
		}
		return s, nil
	}
	return nil, fmt.Errorf("unknown variation %q, have %s", name, strings.Join(names, ", "))
}

// capacity is the scale of a scenario's rates at which they are its capacity.
func capacity(s *scenario.Scenario) (float64, error) {
	t, err := sched.Compile(s.System)
	if err != nil {
		return 0, fmt.Errorf("scenario %s: %w", s.Name, err)
	}
	c, err := fluid.CapacityOf(t, s.Rates)
	return c.Scale, err
}

// unhurried is capacity if there were no deadlines.
func unhurried(s *scenario.Scenario) (float64, error) {
	const enough = 24 * time.Hour // for all paths of a scenario
	x := *s
	x.System.Models = slices.Clone(x.System.Models)
	for m := range x.System.Models {
		x.System.Models[m].Deadline = enough
	}
	return capacity(&x)
}

func originals(s *sched.System) {
	for m := range s.Models {
		for l := range s.Models[m].Layers {
			layer := &s.Models[m].Layers[l]
			layer.Implementations = layer.Implementations[:1]
		}
		s.Models[m].Variants, s.Models[m].Valid, s.Models[m].Accuracy = 0, nil, nil
	}
}

func skew(s *sched.System) {
	each(s, func(im *sched.Implementation) {
		factor := time.Duration(1)
		for k := range im.Latency {
			if im.Latency[k] != sched.Unavailable {
				im.Latency[k] *= factor
			}
			factor *= 4
		}
	})
}

// trim leaves what is known of the accelerators that are there.
func trim(s *sched.System) {
	gone := func(k int) bool { return k >= len(s.Accelerators) }
	var devices []sched.Device
	for _, d := range s.Devices {
		if d.Accelerators = slices.DeleteFunc(slices.Clone(d.Accelerators), gone); len(d.Accelerators) > 0 {
			devices = append(devices, d)
		}
	}
	s.Devices = devices
	each(s, func(im *sched.Implementation) { im.Latency = im.Latency[:len(s.Accelerators)] })
	for m := range s.Models {
		for l := range s.Models[m].Energy {
			s.Models[m].Energy[l] = s.Models[m].Energy[l][:len(s.Accelerators)]
		}
		for l := range s.Models[m].Layers {
			layer := &s.Models[m].Layers[l]
			layer.Handoff = layer.Handoff[:min(len(layer.Handoff), len(s.Accelerators))]
			for from := range layer.Handoff {
				layer.Handoff[from] = layer.Handoff[from][:len(s.Accelerators)]
			}
		}
	}
}

func each(s *sched.System, change func(*sched.Implementation)) {
	for m := range s.Models {
		for l := range s.Models[m].Layers {
			for i := range s.Models[m].Layers[l].Implementations {
				change(&s.Models[m].Layers[l].Implementations[i])
			}
		}
	}
}

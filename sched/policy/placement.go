package policy

import (
	"cmp"
	"math"
	"slices"

	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/fluid"
)

// placementNodes bounds the search for a placement. The first complete one takes a node for every model.
const placementNodes = 100_000

// placement says where each model runs as a whole, for servers that decide that once: by model, the accelerators of
// its device.
type placement [][]int32

// newPlacement places each model on one device, as an operator does who knows rates and times: no model where it takes
// more than half of its deadline if it takes less elsewhere, and so that the busiest device has the least to do, then
// all together. A model that takes more than half everywhere goes where it is fastest. whole are the tables of whole
// models, t the real ones, which know devices and rates.
func newPlacement(t, whole *sched.Tables) placement {
	s := &placing{groups: devices(t.System()), busiest: math.Inf(1)}
	s.load, s.found = make([]float64, len(s.groups)), make([]int, len(whole.System().Models))
	s.at = slices.Clone(s.found)
	rates := ratesOf(t)
	for m, rate := range rates {
		s.choices = append(s.choices, s.fitting(whole, m, rate))
		s.order = append(s.order, m)
	}
	slices.SortStableFunc(s.order, func(a, b int) int { return cmp.Compare(s.choices[b][0].work, s.choices[a][0].work) })
	s.place(0, 0, 0)
	out := make(placement, len(rates))
	for m, g := range s.found {
		for _, k := range s.groups[g] {
			if whole.Model(int32(m)).Latency(0, 0)[k] < sched.Never {
				out[m] = append(out[m], k)
			}
		}
	}
	return out
}

// devices are the accelerators of each device, those of no device alone.
func devices(sys *sched.System) (out [][]int32) {
	var seen [sched.MaxAccelerators]bool
	for k := range sys.Accelerators {
		if seen[k] {
			continue
		}
		group := []int32{int32(k)}
		if d := slices.IndexFunc(sys.Devices, func(d sched.Device) bool { return slices.Contains(d.Accelerators, k) }); d >= 0 {
			group = nil
			for _, k := range sys.Devices[d].Accelerators {
				seen[k] = true
				group = append(group, int32(k))
			}
		}
		out = append(out, group)
	}
	return out
}

// ratesOf are the models' rates where the system knows them, else one request per relative deadline, or what triggers
// cause. Only their ratios mean something.
func ratesOf(t *sched.Tables) []float64 {
	sys := t.System()
	if sys.Pricing != nil {
		return sys.Pricing.Rates
	}
	rates := make([]float64, len(sys.Models))
	for m := range rates {
		rates[m] = 1 / float64(sys.Models[m].Deadline)
	}
	return fluid.EffectiveRates(t, rates)
}

// placing is a search for a placement, depth first: models with much work first, each on the device that is least busy
// with it first.
type placing struct {
	groups  [][]int32
	order   []int            // of models
	choices [][]deviceChoice // by model, those with little work first
	load    []float64        // by device, of the models placed so far
	at      []int            // by model: its device
	nodes   int

	found          []int // the best so far
	busiest, total float64
}

// deviceChoice is a device that a model may be placed on, and the share of its time that the model takes there.
type deviceChoice struct {
	device int
	work   float64
}

// fitting are the devices that a model may be placed on.
func (s *placing) fitting(whole *sched.Tables, m int, rate float64) (out []deviceChoice) {
	t := whole.Model(int32(m))
	fastest, low := deviceChoice{}, sched.Never
	for g, group := range s.groups {
		least, n := sched.Never, 0
		for _, k := range group {
			if c := t.Latency(0, 0)[k]; c < sched.Never {
				least = min(least, c)
				n++
			}
		}
		if n == 0 {
			continue
		}
		c := deviceChoice{g, rate * float64(least) / float64(n)}
		if least <= t.Deadline()/2 {
			out = append(out, c)
		}
		if least < low {
			fastest, low = c, least
		}
	}
	if out == nil {
		return []deviceChoice{fastest}
	}
	slices.SortStableFunc(out, func(a, b deviceChoice) int { return cmp.Compare(a.work, b.work) })
	return out
}

// place places the n-th model and those after it, where those before it take so much of the busiest device and of all.
func (s *placing) place(n int, busiest, total float64) {
	const equal = 1e-12 // whatever the order in which work is added up
	if busiest > s.busiest*(1+equal) || busiest >= s.busiest*(1-equal) && total >= s.total*(1-equal) {
		return
	}
	if n == len(s.order) {
		s.busiest, s.total = busiest, total
		copy(s.found, s.at)
		return
	}
	m := s.order[n]
	choices := slices.Clone(s.choices[m])
	slices.SortStableFunc(choices, func(a, b deviceChoice) int {
		return cmp.Compare(s.load[a.device]+a.work, s.load[b.device]+b.work)
	})
	for _, c := range choices {
		if s.nodes++; s.nodes > placementNodes && !math.IsInf(s.busiest, 1) {
			return
		}
		before := s.load[c.device]
		s.load[c.device] += c.work
		s.at[m] = c.device
		s.place(n+1, max(busiest, s.load[c.device]), total+c.work)
		s.load[c.device] = before
	}
}

// served makes a policy of servers that place each model once and run it as a whole: its inner policy sees whole
// models, and where each may run.
func served(of func(whole *sched.Tables, on placement) sched.Policy) sched.Constructor {
	return func(c sched.Config) (sched.Policy, error) {
		t := c.Tables
		return Whole(func(c sched.Config) (sched.Policy, error) {
			return of(c.Tables, newPlacement(t, c.Tables)), nil
		})(c)
	}
}

package session

import (
	"fmt"
	"math"
	"os"
	"slices"
	"time"

	"github.com/terastal/terastal/cmd/terastal/internal/config"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/fluid"
	"github.com/terastal/terastal/sched/plan"
	"github.com/terastal/terastal/sched/traffic"
)

// Planned is what was planned.
type Planned struct {
	Document *plan.Plan
	Tables   *sched.Tables
	// Load is the demand as a share of the fluid capacity.
	Load float64
}

// newPlan sets the rates that a configuration asks for, compiles the system of its profile and computes the budgets.
// The models and accelerators of the document are given without rates; allow completes the system with the combinations
// of variants that may be used. They keep the configuration's accuracy floors.
func newPlan(c *config.Config, p *profiler.Profile, models []plan.Model, accelerators []plan.Accelerator,
	allow func(*sched.System)) (*Planned, error) {
	q, err := profiler.ParseQuantile(c.Cost)
	if err != nil {
		return nil, err
	}
	deadlines := make([]time.Duration, len(c.Models))
	for i, m := range c.Models {
		models[i].Rate, deadlines[i] = m.Rate, time.Second // the latter replaced below
	}
	s, err := p.System(deadlines, q)
	if err != nil {
		return nil, err
	}
	for i := range c.Models {
		s.Models[i].Trigger = trigger(&c.Models[i])
	}
	leads(c, &s)
	allow(&s)
	for i := range c.Models {
		plan.Promise(&s.Models[i], c.Floor(&c.Models[i]))
	}
	load, err := demand(s, models, c.Traffic.Load, func(scale float64) {
		for i := range c.Models {
			s.Models[i].Deadline = dueAt(&c.Models[i], models[i].Rate*scale)
		}
	})
	if err != nil {
		return nil, err
	}
	return planAt(c.Traffic.Scale, load, s, models, accelerators)
}

// dueAt is after how long requests of a model are due at a rate: its deadline, or its period.
func dueAt(m *config.Model, rate float64) time.Duration {
	if m.Deadline != 0 {
		return m.Deadline
	}
	return time.Duration(math.Round(float64(time.Second) / rate))
}

// trigger is what releases a model's requests; nil where they come by themselves.
func trigger(m *config.Model) *sched.Trigger {
	if m.After == "" {
		return nil
	}
	return &sched.Trigger{Parent: m.After, Probability: m.Probability}
}

// demandSteps bounds the search for the scale that has a load, sameLoad is how close it has to come.
const (
	demandSteps = 40
	sameLoad    = 2e-6
)

// demand is the load of the models' rates. Where another is asked for, it scales the rates. due, if not nil, sets the
// system's deadlines where rates have a scale.
func demand(s sched.System, models []plan.Model, load float64, due func(scale float64)) (float64, error) {
	rates := mapped(models, func(m plan.Model) float64 { return m.Rate })
	capacity := func(scale float64) (float64, error) {
		if due != nil {
			due(scale)
		}
		t, err := sched.Compile(s)
		if err != nil {
			return 0, err
		}
		c, err := fluid.CapacityOf(t, rates)
		return c.Scale, err
	}
	most, err := capacity(1)
	if err != nil || load <= 0 {
		return 1 / most, err
	}
	// Deadlines that are periods are shorter at higher rates, where more paths are too slow: look for the scale again where
	// the capacity is another there. Where it jumps no scale has the load.
	scale, low, high := load*most, 0.0, math.Inf(1)
	for step := 0; ; step++ {
		c, err := capacity(scale)
		if err != nil {
			return 0, err
		}
		found := scale / c
		if math.Abs(found-load) <= sameLoad*load {
			break
		}
		if step == demandSteps {
			load = found
			break
		}
		if found > load {
			high = scale
		} else {
			low = scale
		}
		if scale = load * c; !(scale > low && scale < high) {
			scale = min((low+high)/2, 2*low)
		}
	}
	scaleRates(models, scale)
	if due != nil {
		due(1)
	}
	return load, nil
}

func scaleRates(models []plan.Model, by float64) {
	for i := range models {
		models[i].Rate *= by
	}
}

// planAt plans at a scale of the rates, which have the given load.
func planAt(scale, load float64, s sched.System, models []plan.Model,
	accelerators []plan.Accelerator) (*Planned, error) {
	scaleRates(models, scale)
	document, tables, err := plan.New(s, models, accelerators)
	if err != nil {
		return nil, err
	}
	return &Planned{document, tables, load * scale}, nil
}

// traffic is the configuration's traffic at the planned rates. Files are read from root, or the configuration's folder.
func (p *Planned) traffic(c *config.Config, root string) (traffic.Config, error) {
	o := &c.Traffic
	t := traffic.Config{Rates: p.Document.Rates(), Jitter: o.Jitter, BurstOn: o.BurstOn, BurstOff: o.BurstOff,
		Duration: o.Duration, Seed: o.Seed, Process: o.Process()}
	var err error
	if o.Phases == config.PhasesGiven {
		for _, m := range c.Models {
			t.FirstRelease = append(t.FirstRelease, m.Phase)
		}
	} else if t.Phases, err = traffic.ParsePhases(o.Phases); err != nil {
		return t, err
	}
	if t.Process == traffic.Recorded {
		t.Recorded, err = readTrace(c, root)
	}
	return t, err
}

func readTrace(c *config.Config, root string) ([]traffic.Arrival, error) {
	path, err := c.Path(c.Traffic.Trace, root)
	if err != nil {
		return nil, err
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("arrivals: %w", err)
	}
	defer file.Close()
	out, err := traffic.Read(file, modelNames(c))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return out, nil
}

func modelNames(c *config.Config) []string {
	return mapped(c.Models, func(m config.Model) string { return m.Name })
}

// scaled is traffic at a multiple of its rates, with another seed.
func scaled(t traffic.Config, scale float64, seed uint64) traffic.Config {
	t.Seed, t.Rates = seed, slices.Clone(t.Rates)
	for m := range t.Rates {
		t.Rates[m] *= scale
	}
	return t
}

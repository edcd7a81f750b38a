package session

import (
	"github.com/terastal/terastal/cmd/terastal/internal/config"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/plan"
)

// OpenScenario opens a scenario that ships, or that a profile or a plan makes, for the simulator, or for running in real
// time: every accelerator is then emulated and takes as long as the tables say, and the networks compute nothing. Rates
// and deadlines are the scenario's; the configuration says the rest.
func OpenScenario(c *config.Config, name string, simulated bool, o Options) (*Session, error) {
	s, g, err := loadScenario(name)
	if err != nil {
		return nil, err
	}
	promise(c, &s.System, g)
	x := playing{name: s.Name, system: s.System, models: mapped(s.Rates, func(r float64) plan.Model { return plan.Model{Rate: r} })}
	if g != nil {
		x.profile = g.Profile
	}
	if s.Note != "" {
		o.Note("%s: %s", s.Name, s.Note)
	}
	return x.open(c, simulated, o)
}

// promise gives the models of a scenario the accuracy floor that was asked for. Where none was, those of a plan have
// their own, and published ones have none.
func promise(c *config.Config, s *sched.System, g *Given) {
	if !c.Promised() && g != nil {
		return
	}
	for m := range s.Models {
		plan.Promise(&s.Models[m], c.PublishedFloor())
	}
}

// playing is a task system whose latencies are known, to be simulated or played on emulated accelerators.
type playing struct {
	name   string // of what says how long layers take
	system sched.System
	models []plan.Model // with their rates
	// accelerators and variants are as a plan holds them; nil where no plan did.
	accelerators []plan.Accelerator
	variants     []plan.Variants
	profile      *profiler.Profile // nil if there is the system alone
}

func (x playing) open(c *config.Config, simulated bool, o Options) (*Session, error) {
	profile := x.profile
	if profile == nil {
		var err error
		if profile, err = profiler.FromSystem(&x.system, profiler.TableOptions{Source: x.name}); err != nil {
			return nil, err
		}
	}
	for m := range x.system.Models {
		granularity := profile.Models[m].Granularity
		c.Models = append(c.Models, config.Model{Name: x.system.Models[m].Name, Rate: x.models[m].Rate, Granularity: granularity})
	}
	accelerators := x.accelerators
	if !simulated {
		withoutLeads(&x.system)
		accelerators = mapped(emulatedSpecs(profile, x.name), runtime.Spec.Plan)
	}
	load, err := demand(x.system, x.models, c.Traffic.Load, nil)
	if err != nil {
		return nil, err
	}
	planned, err := planAt(c.Traffic.Scale, load, x.system, x.models, accelerators)
	if err != nil {
		return nil, err
	}
	planned.Document.Variants = x.variants
	return grounded(&Session{Config: c, Profile: profile, Plan: planned, options: o}, simulated, x.name)
}

package session

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/terastal/terastal/cmd/terastal/internal/config"
	"github.com/terastal/terastal/internal/document"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/fluid"
	"github.com/terastal/terastal/sched/plan"
	"github.com/terastal/terastal/sched/scenario"
)

// Given is a document that says how long layers take, of this machine or of any other: a profile, or a plan, which has
// rates and deadlines as well.
type Given struct {
	Path string
	// Profile is the profile; where a plan is given, it holds the latencies and handoffs that decisions expect, without
	// distributions, and the accelerators are tables.
	Profile *profiler.Profile
	Plan    *plan.Plan // nil where a profile is given
}

// ReadGiven reads a profile or a plan, which may be gzipped.
func ReadGiven(path string) (*Given, error) {
	p, err := profiler.Read(path)
	if err == nil {
		return &Given{Path: path, Profile: p}, nil
	}
	if !errors.Is(err, document.ErrKind) {
		return nil, err
	}
	made, _, planErr := plan.Read(path)
	if errors.Is(planErr, document.ErrKind) {
		return nil, fmt.Errorf("%w, or a plan", err)
	}
	if planErr != nil {
		return nil, planErr
	}
	g := &Given{Path: path, Plan: made}
	if g.Profile, err = profiler.FromSystem(&made.System, profiler.TableOptions{Source: path}); err != nil {
		return nil, fmt.Errorf("plan %s: %w", path, err)
	}
	for i := range made.Models {
		g.Profile.Models[i].Granularity = made.Models[i].Granularity
	}
	return g, nil
}

// allow gives models their variants' combinations by the plan, which a profile does not have.
func (g *Given) allow(s *sched.System) {
	if g.Plan == nil {
		return
	}
	for i := range s.Models {
		m := &s.Models[i]
		n := slices.IndexFunc(g.Plan.System.Models, func(x sched.Model) bool { return x.Name == m.Name })
		if n < 0 || g.Plan.System.Models[n].Variants == 0 {
			continue
		}
		from := g.Plan.System.Models[n]
		m.Variants, m.Valid, m.Accuracy, m.AccuracyError = from.Variants, from.Valid, from.Accuracy, from.AccuracyError
		m.Loss, m.MaxLoss = from.Loss, from.MaxLoss
		for l := range m.Layers {
			for k := range m.Layers[l].Implementations {
				m.Layers[l].Implementations[k].Variant = from.Layers[l].Implementations[k].Variant
			}
		}
	}
}

// variants says that variants are left out, where they are; "" where not.
func (g *Given) variants() string {
	has := func(m profiler.Model) bool {
		return slices.ContainsFunc(m.Layers, func(l profiler.Layer) bool { return len(l.Implementations) > 1 })
	}
	if g.Plan != nil || !slices.ContainsFunc(g.Profile.Models, has) {
		return ""
	}
	return "layer variants are left out: their accuracy is not in a profile, but in the plan that was made with it; give " +
		"that with --profile to simulate them"
}

// fileScenario begins the name of a scenario that is a profile or a plan in a file.
const fileScenario = "profile:"

// LoadScenario loads a scenario that ships, or makes one of a profile or a plan: "profile:FILE".
func LoadScenario(name string) (*scenario.Scenario, error) {
	s, _, err := loadScenario(name)
	return s, err
}

// loadScenario also returns the document that the scenario was made of; nil for one that ships.
func loadScenario(name string) (*scenario.Scenario, *Given, error) {
	path, is := strings.CutPrefix(name, fileScenario)
	if !is {
		s, err := scenario.Load(name)
		if err != nil {
			return nil, nil, UsageError{fmt.Errorf("%w, or %sFILE for a profile or a plan", err, fileScenario)}
		}
		return s, nil, nil
	}
	g, err := ReadGiven(path)
	if err != nil {
		return nil, nil, err
	}
	s := &scenario.Scenario{Name: name}
	if g.Plan != nil {
		s.Source, s.System, s.Rates = "the plan "+path, g.Plan.System, g.Plan.Rates()
		s.System.Pricing = nil // those of its rates are computed again
		for m := range s.System.Models {
			if s.System.Models[m].Trigger != nil {
				s.Rates[m] = 0
			}
		}
		return s, g, nil
	}
	s.Source = fmt.Sprintf("the profile %s, measured on %s with %d cores on %s", path, g.Profile.Host.CPU,
		g.Profile.Host.LogicalCores, day(g.Profile.Created))
	s.Note = fmt.Sprintf("rates and deadlines were chosen: every model demands the same share of its fastest path's time, at "+
		"scale 1 all of the capacity, and is due after %d times that path", generous)
	s.System, s.Rates, err = chosen(g.Profile)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return s, g, nil
}

func day(created string) string {
	date, _, _ := strings.Cut(created, "T")
	return date
}

// generous is how many times its fastest path a request is due after, where nobody says.
const generous = 5

// chosen is the system of a profile with rates and deadlines that suit it.
func chosen(p *profiler.Profile) (s sched.System, rates []float64, err error) {
	paths, err := fastest(p)
	if err != nil {
		return s, nil, err
	}
	rates = mapped(paths, func(d time.Duration) float64 { return 1 / d.Seconds() })
	deadlines := mapped(paths, func(d time.Duration) time.Duration { return generous * d })
	if s, err = p.System(deadlines, profiler.P50); err != nil {
		return s, nil, err
	}
	t, err := sched.Compile(s)
	if err != nil {
		return s, nil, err
	}
	c, err := fluid.CapacityOf(t, rates)
	for m := range rates {
		rates[m] *= c.Scale
	}
	return s, rates, err
}

// openPlanned plans again from a plan, at the rates and floors that the configuration changes.
func openPlanned(c *config.Config, g *Given, simulated bool, o Options) (*Session, error) {
	s := g.Plan.System
	s.Models = slices.Clone(s.Models)
	s.Pricing = nil
	if c.Promised() {
		for m := range s.Models {
			plan.Promise(&s.Models[m], c.Accuracy)
		}
	}
	return playing{name: g.Path, system: s, models: slices.Clone(g.Plan.Models), accelerators: g.Plan.Accelerators,
		variants: g.Plan.Variants, profile: g.Profile}.open(c, simulated, o)
}

package session

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/terastal/terastal/cmd/terastal/internal/config"
	"github.com/terastal/terastal/cmd/terastal/internal/study"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/fluid"
	"github.com/terastal/terastal/sched/scenario"
	"github.com/terastal/terastal/sched/traffic"
)

// Check refuses numbers that nothing can be simulated with.
func (o *StudyOptions) Check() error {
	if o.Seeds < 1 || !(o.Noise >= 0 && o.Noise <= 3) || !(o.Interference >= 0 && o.Interference <= 100) {
		return Usagef("--seeds %d, --noise %v, --interference %v: seeds must be positive, "+
			"noise 0 to 3, interference 0 to 100",
			o.Seeds, o.Noise, o.Interference)
	}
	if o.Noise > 0 && o.Durations != "" {
		return Usagef("--noise and --durations both say what layers take: leave one out")
	}
	return nil
}

// Plain reports whether the options ask for no more than one simulation of what was measured.
func (o *StudyOptions) Plain() bool { return *o == StudyOptions{Seeds: 1} }

// StudyScenario simulates a published scenario under the traffic and the policies of a configuration.
func StudyScenario(ctx context.Context, name string, c *config.Config, o StudyOptions,
	progress func(string) Meter) (*study.Document, []study.Result, error) {
	if err := o.Check(); err != nil {
		return nil, nil, err
	}
	if o.Durations != "" {
		return nil, nil, Usagef("--durations is for configurations: a scenario has one latency per layer")
	}
	d, cell, so, err := ofScenario(name, c)
	if err != nil {
		return nil, nil, err
	}
	cell.Noise, so.Seeds, so.Interference = o.Noise, o.Seeds, o.Interference
	results, err := studyPolicies(ctx, cell, so, c.Policies, progress("simulating "+name))
	if err != nil {
		return nil, nil, err
	}
	d.Add(results, o.Seeds)
	return d, results, nil
}

// ofScenario is a published scenario under the traffic of a configuration: a cell
// without a policy, how to simulate it, and a document of it without results.
func ofScenario(name string, c *config.Config) (d *study.Document, cell study.Cell, so study.Options, err error) {
	fail := func(err error) (*study.Document, study.Cell, study.Options, error) {
		return nil, cell, so, UsageError{err}
	}
	s, err := scenario.Load(name)
	if err != nil {
		return fail(err)
	}
	cell = study.Cell{Scenario: s.Name, Jitter: c.Traffic.Jitter, Scale: c.Traffic.Scale}
	if cell.Arrivals, err = traffic.ParseProcess(c.Traffic.Arrivals); err != nil {
		return fail(err)
	}
	if cell.Phases, err = traffic.ParsePhases(c.Traffic.Phases); err != nil {
		return fail(err)
	}
	if cell.Drop, err = sched.ParseDrop(c.Drop); err != nil {
		return fail(err)
	}
	switch {
	case cell.Arrivals == traffic.Recorded:
		return fail(errors.New("a scenario has no recorded arrivals"))
	case c.Traffic.Load > 0:
		return fail(errors.New("--load is for configurations; use --scale"))
	case slices.Contains(c.Policies, runtime.Unscheduled):
		return fail(errUnscheduled())
	}
	d = &study.Document{Scenario: s.Name, Source: s.Source, Note: s.Note}
	t, err := sched.Compile(s.System)
	if err == nil {
		d.Capacity, err = fluid.CapacityOf(t, s.Rates)
	}
	so = study.Options{FirstSeed: c.Traffic.Seed, Duration: c.Traffic.Duration, Adapt: c.Adapt, Queue: c.Queue,
		Systems: map[string]scenario.Scenario{s.Name: *s}}
	return d, cell, so, err
}

// studyPolicies simulates a cell under every policy.
func studyPolicies(ctx context.Context, cell study.Cell, so study.Options, policies []string,
	meter Meter) ([]study.Result, error) {
	defer meter.Done()
	var cells []study.Cell
	for _, p := range policies {
		cell.Policy = p
		cells = append(cells, cell)
	}
	so.Progress = meter.Set
	return study.Run(ctx, cells, so)
}

// ListedScenario is a published scenario.
type ListedScenario struct {
	Name         string   `json:"name"`
	Accelerators []string `json:"accelerators"`
	Models       []string `json:"models"`
}

// Scenarios lists the published scenarios.
func Scenarios() ([]ListedScenario, error) {
	var out []ListedScenario
	for _, name := range scenario.Names() {
		s, err := scenario.Load(name)
		if err != nil {
			return nil, err
		}
		x := ListedScenario{Name: name, Accelerators: s.System.Accelerators}
		for m := range s.System.Models {
			model := &s.System.Models[m]
			text := fmt.Sprintf("%s %g", model.Name, s.Rates[m])
			if model.Trigger != nil {
				text = fmt.Sprintf("%s after %s", model.Name, model.Trigger.Parent)
			}
			x.Models = append(x.Models, text)
		}
		out = append(out, x)
	}
	return out, nil
}

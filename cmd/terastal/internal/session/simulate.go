package session

import (
	"context"
	"fmt"
	goruntime "runtime"

	"github.com/terastal/terastal/cmd/terastal/internal/config"
	"github.com/terastal/terastal/cmd/terastal/internal/study"
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

// Plain reports whether the options ask for no more than one simulation of what
// was measured.
func (o *StudyOptions) Plain() bool { return *o == StudyOptions{Seeds: 1} }

// StudyScenario simulates a published scenario under the traffic and the policies
// of a configuration.
func StudyScenario(ctx context.Context, name string, c *config.Config, o StudyOptions,
	progress func(string) Meter) (*study.Document, []study.Result, error) {
	s, err := scenario.Load(name)
	if err != nil {
		return nil, nil, UsageError{err}
	}
	cells, err := o.cells(s.Name, c)
	if err != nil {
		return nil, nil, err
	}
	t, err := sched.Compile(s.System)
	if err != nil {
		return nil, nil, err
	}
	capacity, err := fluid.CapacityOf(t, s.Rates)
	if err != nil {
		return nil, nil, err
	}
	meter := progress("simulating " + name)
	defer meter.Done()
	results, err := study.Run(ctx, cells, study.Options{Seeds: o.Seeds, FirstSeed: c.Traffic.Seed,
		Duration: c.Traffic.Duration, Workers: goruntime.NumCPU(), Interference: o.Interference, Progress: meter.Set})
	if err != nil {
		return nil, nil, err
	}
	d := &study.Document{Scenario: s.Name, Source: s.Source, Note: s.Note, Capacity: capacity}
	d.Add(results, o.Seeds)
	return d, results, nil
}

// cells are the configured traffic under each policy, for a scenario.
func (o *StudyOptions) cells(name string, c *config.Config) ([]study.Cell, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	cell := study.Cell{Scenario: name, Jitter: c.Traffic.Jitter, Scale: c.Traffic.Scale, Noise: o.Noise}
	var err error
	if cell.Arrivals, err = traffic.ParseProcess(c.Traffic.Arrivals); err != nil {
		return nil, UsageError{err}
	}
	if cell.Phases, err = traffic.ParsePhases(c.Traffic.Phases); err != nil {
		return nil, UsageError{err}
	}
	if cell.Drop, err = sched.ParseDrop(c.Drop); err != nil {
		return nil, UsageError{err}
	}
	switch {
	case cell.Arrivals == traffic.Recorded:
		return nil, Usagef("a scenario has no recorded arrivals")
	case c.Traffic.Load > 0:
		return nil, Usagef("--load is for configurations; use --scale")
	case o.Durations != "":
		return nil, Usagef("--durations is for configurations: a scenario has one latency per layer")
	}
	var cells []study.Cell
	for _, p := range c.Policies {
		cell.Policy = p
		cells = append(cells, cell)
	}
	return cells, nil
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

package session

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/terastal/terastal/cmd/terastal/internal/config"
	"github.com/terastal/terastal/cmd/terastal/internal/result"
	"github.com/terastal/terastal/cmd/terastal/internal/study"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/eventlog"
	"github.com/terastal/terastal/sched/fluid"
	"github.com/terastal/terastal/sched/plan"
	"github.com/terastal/terastal/sched/scenario"
	"github.com/terastal/terastal/sched/sim"
	"github.com/terastal/terastal/sched/traffic"
)

// simulator plays in virtual time.
type simulator struct {
	*Session
	traffic traffic.Config
}

func (s *Session) onSimulator() (*simulator, error) {
	t, err := s.Plan.traffic(s.Config, s.options.Root)
	if err != nil {
		return nil, err
	}
	if err := s.simulable(); err != nil {
		return nil, err
	}
	return &simulator{s, t}, nil
}

// simulable refuses policies that cannot be simulated, and says what else the simulation leaves out.
func (s *Session) simulable() error {
	if err := checkScheduled(s.Config.Policies); err != nil {
		return err
	}
	if len(s.Config.Faults) > 0 {
		s.options.Note("%s", faultless)
	}
	return nil
}

// faultless says what becomes of drills in simulations.
const faultless = "faults strike real runs only: the simulation has none"

func (s *simulator) close() {}

// labelled is nothing: nothing is computed.
func (s *simulator) labelled() []result.LabelledAccuracy { return nil }

// play simulates one policy and writes its log and trace.
func (s *simulator) play(_ context.Context, t turn) (*result.PolicyResult, bool, error) {
	load := scaled(s.traffic, t.scale, t.seed)
	arrivals, err := load.Arrivals()
	if err != nil {
		return nil, false, err
	}
	c := s.Config
	log := &eventlog.Log{Header: eventlog.Header{Driver: eventlog.Simulated, Policy: t.policy, Drop: c.Drop,
		Queue: c.Queue, Seed: load.Seed, Adapt: c.Adapt, ClosedLoop: load.Process == traffic.ClosedLoop,
		Until: load.Duration, System: *s.Plan.Tables.System(), Rates: load.Rates, Duration: load.Duration}}
	var records eventlog.Buffer
	engine, err := log.Header.Engine(&records, nil)
	if err != nil {
		return nil, false, err
	}
	drawn, err := s.Profile.Durations(load.Seed)
	if err != nil {
		return nil, false, err
	}
	if _, err := sim.Run(sim.Config{Arrivals: arrivals, Engine: engine, Duration: drawn,
		Interference: s.Profile.Slowdowns(), Contention: s.Profile.Contentions()}); err != nil {
		return nil, false, err
	}
	log.Records = records
	p := &result.PolicyResult{Metrics: log.Metrics()}
	return p, false, s.log(log, p, &t)
}

// Values of StudyOptions.Durations.
const (
	// Measured draws from the measured distributions; accelerators slow each other down as measured.
	Measured = "measured"
	// Expected takes what decisions expect.
	Expected = "expected"
)

// durations makes the function that says how long layers of a profile take; nil for what decisions expect.
func durations(p *profiler.Profile, models []sched.Model, what string) (func(uint64) sim.Durations, error) {
	switch what {
	case Expected:
		return nil, nil
	case Measured, "":
		if _, err := p.Durations(1); err != nil {
			return nil, err
		}
		return func(seed uint64) sim.Durations {
			d, _ := p.Durations(seed) // checked above
			return d
		}, nil
	}
	q, err := profiler.ParseQuantile(what)
	if err != nil {
		return nil, fmt.Errorf("%w: durations: %w, or %s or %s", config.ErrInvalid, err, Measured, Expected)
	}
	system, err := p.System(mapped(models, func(m sched.Model) time.Duration { return m.Deadline }), q)
	if err != nil {
		return nil, err
	}
	truth, err := sched.Compile(system)
	if err != nil {
		return nil, err
	}
	return func(uint64) sim.Durations { return sim.Exactly(truth) }, nil
}

// StudyOptions are what a study of the configuration varies.
type StudyOptions struct {
	Seeds int
	// Durations says what layers take: Measured, Expected or a statistic of the
	// profile. Empty is Measured, or Expected if there is Noise.
	Durations string
	// Noise is the sigma of a lognormal factor on what decisions expect.
	Noise float64
	// Interference is how much longer layers take for every other accelerator that is busy, besides what was measured.
	Interference float64
	// Taken says which cores others take; see parseTaken.
	Taken string
}

// Study simulates the configuration under every policy over several seeds.
func (s *Session) Study(ctx context.Context, o StudyOptions) ([]study.Result, error) {
	cell, so, err := s.study(o)
	if err != nil {
		return nil, err
	}
	return studyPolicies(ctx, cell, so, s.Config.Policies, s.options.Progress("simulating"))
}

// study is the configuration as a cell without a policy, and how to simulate it.
func (s *Session) study(o StudyOptions) (cell study.Cell, so study.Options, err error) {
	c := s.Config
	t, err := s.Plan.traffic(c, s.options.Root)
	if err != nil {
		return cell, so, err
	}
	if err := s.simulable(); err != nil {
		return cell, so, err
	}
	const name = "configuration"
	cell = study.Cell{Scenario: name, Arrivals: t.Process, Scale: 1, Drop: c.DropRule(), Noise: o.Noise}
	system := scenario.Scenario{Name: name, System: *s.Plan.Tables.System(), Rates: t.Rates}
	so = study.Options{Seeds: o.Seeds, FirstSeed: t.Seed, Duration: t.Duration, Adapt: c.Adapt, Queue: c.Queue,
		Interference: o.Interference, Systems: map[string]scenario.Scenario{name: system},
		Traffic: func(c *study.Cell, seed uint64) traffic.Config { return scaled(t, c.Scale, seed) }}
	if o.Durations == "" && o.Noise > 0 {
		o.Durations = Expected
	}
	if o.Durations == "" || o.Durations == Measured {
		so.Slowdowns, so.Contention = s.Profile.Slowdowns(), s.Profile.Contentions()
	}
	so.Durations, err = durations(s.Profile, system.System.Models, o.Durations)
	if err == nil && o.Taken != "" {
		var taken []sim.Taken
		taken, err = parseTaken(o.Taken, s.Profile)
		so.Durations = straggling(so.Durations, s.Plan.Tables, taken)
	}
	return cell, so, err
}

// Check refuses numbers that nothing can be simulated with.
func (o *StudyOptions) Check() error {
	if o.Seeds < 1 || !(o.Noise >= 0 && o.Noise <= 3) || !(o.Interference >= 0 && o.Interference <= 100) {
		return Usagef("--seeds %d, --noise %v, --interference %v: seeds must be positive, "+
			"noise 0 to 3, interference 0 to 100",
			o.Seeds, o.Noise, o.Interference)
	}
	if o.Noise > 0 && o.Taken != "" {
		return Usagef("--taken is for durations without --noise: leave one out")
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
	if o.Durations != "" || o.Taken != "" {
		return nil, nil, Usagef("--durations and --taken are for configurations: a scenario has one latency per layer, " +
			"and no cores")
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
	s, g, err := loadScenario(name)
	if err != nil {
		return nil, cell, so, err
	}
	cell = study.Cell{Scenario: s.Name, Jitter: c.Traffic.Jitter, Scale: c.Traffic.Scale, Drop: c.DropRule(),
		Arrivals: c.Traffic.Process()}
	cell.Phases, err = traffic.ParsePhases(c.Traffic.Phases)
	switch {
	case err != nil:
	case cell.Arrivals == traffic.Recorded:
		err = errors.New("a scenario has no recorded arrivals")
	case len(c.Faults) > 0:
		err = errors.New(faultless)
	default:
		err = checkScheduled(c.Policies)
	}
	if err != nil {
		return nil, cell, so, UsageError{err}
	}
	promise(c, &s.System, g)
	d = &study.Document{Scenario: s.Name, Source: s.Source, Note: s.Note}
	t, err := sched.Compile(s.System)
	if err == nil {
		d.Hopeless = plan.HopelessOf(t)
		d.Capacity, err = fluid.CapacityOf(t, s.Rates)
	}
	if c.Traffic.Load > 0 {
		cell.Scale *= c.Traffic.Load * d.Capacity.Scale
	}
	so = study.Options{FirstSeed: c.Traffic.Seed, Duration: c.Traffic.Duration, Adapt: c.Adapt, Queue: c.Queue,
		Systems: map[string]scenario.Scenario{s.Name: *s}}
	return d, cell, so, err
}

// studyPolicies simulates a cell under every policy.
func studyPolicies(ctx context.Context, cell study.Cell, so study.Options, policies []string,
	meter Meter) ([]study.Result, error) {
	defer meter.Done()
	so.Progress = meter.Set
	return study.Run(ctx, mapped(policies, func(p string) study.Cell {
		cell.Policy = p
		return cell
	}), so)
}

// ListedScenario is a scenario that ships.
type ListedScenario struct {
	Name         string   `json:"name"`
	Source       string   `json:"source"`
	Note         string   `json:"note,omitempty"`
	Accelerators []string `json:"accelerators"`
	Models       []string `json:"models"`
}

// Scenarios lists the scenarios that ship.
func Scenarios() ([]ListedScenario, error) {
	var out []ListedScenario
	for _, name := range scenario.Names() {
		s, err := scenario.Load(name)
		if err != nil {
			return nil, err
		}
		x := ListedScenario{Name: name, Source: s.Source, Note: s.Note, Accelerators: s.System.Accelerators}
		for m := range s.System.Models {
			model := &s.System.Models[m]
			text := fmt.Sprintf("%s %.4g", model.Name, s.Rates[m])
			if model.Trigger != nil {
				text = fmt.Sprintf("%s after %s", model.Name, model.Trigger.Parent)
			}
			x.Models = append(x.Models, text)
		}
		out = append(out, x)
	}
	return out, nil
}

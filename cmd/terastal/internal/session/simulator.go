package session

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/terastal/terastal/cmd/terastal/internal/config"
	"github.com/terastal/terastal/cmd/terastal/internal/result"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/eventlog"
	"github.com/terastal/terastal/sched/sim"
	"github.com/terastal/terastal/sched/traffic"
)

// simulator plays in virtual time.
type simulator struct {
	config  *config.Config
	profile *profiler.Profile
	system  *sched.System
	traffic traffic.Config
	out     output
}

func (s *Session) onSimulator() (*simulator, error) {
	t, err := s.Plan.traffic(s.Config, s.options.Root)
	if err != nil {
		return nil, err
	}
	if slices.Contains(s.Config.Policies, runtime.Unscheduled) {
		return nil, errUnscheduled()
	}
	return &simulator{config: s.Config, profile: s.Profile, system: s.Plan.Tables.System(), traffic: t,
		out: output{s.Config.Out, s.ground.header()}}, nil
}

func (s *simulator) driver() string { return eventlog.Simulated }
func (s *simulator) close()         {}

// play simulates one policy and writes its log and trace.
func (s *simulator) play(_ context.Context, t turn) (*result.PolicyResult, bool, error) {
	load := scaled(s.traffic, t.scale, t.seed)
	arrivals, err := load.Arrivals()
	if err != nil {
		return nil, false, err
	}
	c := s.config
	log := &eventlog.Log{Header: eventlog.Header{Driver: eventlog.Simulated, Policy: t.policy, Drop: c.Drop,
		Queue: c.Queue, Seed: load.Seed, Adapt: c.Adapt, ClosedLoop: load.Process == traffic.ClosedLoop,
		Until: load.Duration, System: *s.system, Rates: load.Rates, Duration: load.Duration}}
	var records eventlog.Buffer
	engine, err := log.Header.Engine(&records, nil)
	if err != nil {
		return nil, false, err
	}
	drawn, err := s.profile.Durations(load.Seed)
	if err != nil {
		return nil, false, err
	}
	if _, err := sim.Run(sim.Config{Arrivals: arrivals, Engine: engine, Duration: drawn,
		Interference: s.profile.Slowdowns()}); err != nil {
		return nil, false, err
	}
	log.Records = records
	p := &result.PolicyResult{Metrics: log.Metrics()}
	return p, false, s.out.log(log, p, &t)
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
	var deadlines []time.Duration
	for _, m := range models {
		deadlines = append(deadlines, m.Deadline)
	}
	system, err := p.System(deadlines, q)
	if err != nil {
		return nil, err
	}
	truth, err := sched.Compile(system)
	if err != nil {
		return nil, err
	}
	return func(uint64) sim.Durations { return sim.Exactly(truth) }, nil
}

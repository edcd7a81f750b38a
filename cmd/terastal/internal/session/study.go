package session

import (
	"context"
	"slices"

	"github.com/terastal/terastal/cmd/terastal/internal/study"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/scenario"
	"github.com/terastal/terastal/sched/traffic"
)

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
	drop, err := sched.ParseDrop(c.Drop)
	if err != nil {
		return cell, so, err
	}
	if slices.Contains(c.Policies, runtime.Unscheduled) {
		return cell, so, errUnscheduled()
	}
	const name = "configuration"
	cell = study.Cell{Scenario: name, Arrivals: t.Process, Scale: 1, Drop: drop, Noise: o.Noise}
	system := scenario.Scenario{Name: name, System: *s.Plan.Tables.System(), Rates: t.Rates}
	so = study.Options{Seeds: o.Seeds, FirstSeed: t.Seed, Duration: t.Duration, Adapt: c.Adapt, Queue: c.Queue,
		Interference: o.Interference, Systems: map[string]scenario.Scenario{name: system},
		Traffic: func(c *study.Cell, seed uint64) traffic.Config { return scaled(t, c.Scale, seed) }}
	if o.Durations == "" && o.Noise > 0 {
		o.Durations = Expected
	}
	if o.Durations == "" || o.Durations == Measured {
		so.Slowdowns = s.Profile.Slowdowns()
	}
	so.Durations, err = durations(s.Profile, system.System.Models, o.Durations)
	return cell, so, err
}

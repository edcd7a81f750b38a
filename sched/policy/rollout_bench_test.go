package policy

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/internal/schedtest"
	"github.com/terastal/terastal/sched/scenario"
	"github.com/terastal/terastal/sched/sim"
	"github.com/terastal/terastal/sched/traffic"
)

// watched is a rollout that tells of each search around its run.
type watched struct {
	*rollout
	share float64
	run   func(*search) int
}

func (w watched) Detach(float64) func() int {
	w.rollout.Detach(w.share)
	return func() int { return w.run(w.search) }
}

// searches simulates rollouts with every wanted search outside of the engine, taking
// so long and such a share of the accelerators.
func searches(t testkit.T, sys sched.System, arrivals []traffic.Arrival, share float64, took time.Duration,
	run func(*search) int) {
	of := func(c sched.Config) (sched.Policy, error) {
		p, err := newRollout(c, defaultRollout())
		return watched{p, share, run}, err
	}
	testkit.Must(sim.Run(sim.Config{Arrivals: arrivals, SearchTime: took,
		Engine: sched.Config{Tables: schedtest.Compile(t, sys), Policy: of, Drop: sched.DropLate}}))(t)
}

// BenchmarkSearch measures every search of a published scenario under Poisson traffic, for a second of it.
func BenchmarkSearch(b *testing.B) {
	for _, name := range []string{"paper/mcv_light", "paper/mcv_heavy", "paper/ar_social@4K"} {
		for _, scale := range []float64{1, 1.3} {
			b.Run(fmt.Sprintf("%s/scale=%v", name, scale), func(b *testing.B) {
				s := testkit.Must(scenario.Load(name))(b)
				for m := range s.Rates {
					s.Rates[m] *= scale
				}
				traffic := traffic.Config{Rates: s.Rates, Process: traffic.Poisson, Duration: time.Second, Seed: 1}
				arrivals := testkit.Must(traffic.Arrivals())(b)
				var took []time.Duration
				events := 0
				for b.Loop() {
					searches(b, s.System, arrivals, 0, 1, func(s *search) int {
						start := time.Now()
						found := s.run()
						took = append(took, time.Since(start))
						events += s.rolled
						return found
					})
				}
				slices.Sort(took)
				var sum time.Duration
				for _, x := range took {
					sum += x
				}
				b.ReportMetric(float64(took[len(took)/2]), "p50-ns")
				b.ReportMetric(float64(took[len(took)*99/100]), "p99-ns")
				b.ReportMetric(float64(sum)/float64(events), "ns/event")
			})
		}
	}
}

package sched_test

import (
	"slices"
	"testing"
	"time"

	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/scenario"
	"github.com/terastal/terastal/sched/sim"
)

// BenchmarkRollout runs a scenario and reports how long decisions take.
func BenchmarkRollout(b *testing.B) {
	for _, name := range []string{"paper/mcv_heavy", "paper/ar_social@4K"} {
		b.Run(name, func(b *testing.B) {
			s, err := scenario.Load(name)
			if err != nil {
				b.Fatal(err)
			}
			rates := slices.Clone(s.Rates)
			for m := range rates {
				rates[m] *= 1.3
			}
			traffic := sched.Traffic{Rates: rates, Process: sched.Poisson, Duration: time.Second, Seed: 1}
			arrivals, err := traffic.Arrivals()
			if err != nil {
				b.Fatal(err)
			}
			tables := compile(b, s.System)
			var took []time.Duration
			for b.Loop() {
				cfg := sched.Config{Tables: tables, Policy: sched.Timed(newPolicy(b, "rollout", tables), &took), Drop: sched.DropLate}
				if _, err := sim.Run(sim.Config{Arrivals: arrivals, Engine: cfg}); err != nil {
					b.Fatal(err)
				}
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2]), "p50-ns")
			b.ReportMetric(float64(took[len(took)*99/100]), "p99-ns")
			var sum time.Duration
			for _, x := range took {
				sum += x
			}
			b.ReportMetric(float64(sum)/float64(len(took)), "mean-ns")
		})
	}
}

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
	"github.com/terastal/terastal/sched/traffic"
)

// searches runs the engine over the arrivals with predicted durations, with
// every wanted search outside of it, as if it had begun so long ago, and tells of
// each around its run.
func searches(engine *sched.Engine, arrivals []traffic.Arrival, accs int, share float64, age time.Duration,
	run func(*search) int) {
	p := engine.Policy().(*rollout)
	p.Detach(share)
	ends := make([]time.Duration, accs)
	step := func(ev sched.Event) {
		for _, d := range engine.Step(ev) {
			ends[d.Accelerator] = d.Finish
		}
	}
	for next := 0; ; {
		ev := sched.Event{Kind: sched.Release, At: 1 << 62}
		if next < len(arrivals) {
			a := arrivals[next]
			ev = sched.Event{Kind: sched.Release, At: a.At, Start: a.At, Job: int64(next), Model: a.Model}
		}
		for k, end := range ends {
			if end > 0 && end <= ev.At {
				ev = sched.Event{Kind: sched.Complete, At: end, Accelerator: k}
			}
		}
		switch {
		case ev.At == 1<<62:
			return
		case ev.Kind == sched.Release:
			next++
		default:
			ends[ev.Accelerator] = 0
		}
		step(ev)
		if p.Prepare(engine.State()) {
			step(sched.Event{Kind: sched.Searched, At: ev.At, Start: ev.At - age, Found: run(p.search)})
		}
	}
}

// BenchmarkSearch measures every search of a published scenario under Poisson
// traffic, for a second of it.
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
				tables := schedtest.Compile(b, s.System)
				var took []time.Duration
				events := 0
				for b.Loop() {
					engine := newEngine(b, sched.Config{Tables: tables, Policy: Named("rollout"), Drop: sched.DropLate})
					searches(engine, arrivals, len(s.System.Accelerators), 0, 0, func(s *search) int {
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

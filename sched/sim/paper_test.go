package sim_test

import (
	"testing"
	"time"

	"github.com/terastal/terastal/internal/sequential"
	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/policy"
	"github.com/terastal/terastal/sched/scenario"
	"github.com/terastal/terastal/sched/sim"
	"github.com/terastal/terastal/sched/traffic"
)

// outcomes counts released and missed jobs by model, and layers.
type outcomes struct {
	released, missed []float64
	layers           int
}

func (o *outcomes) Record(r sched.Record) {
	switch {
	case r.Kind == sched.Released:
		o.released[r.Model]++
	case r.Kind == sched.Completed:
		o.layers++
	case r.Kind == sched.Ended && r.Outcome != sched.Met:
		o.missed[r.Model]++
	}
}

// play simulates one seed of two seconds, late requests dropped.
func play(t testing.TB, s *scenario.Scenario, tables *sched.Tables, name string, seed uint64) *outcomes {
	t.Helper()
	traffic := traffic.Config{Rates: s.Rates, Duration: 2 * time.Second, Seed: seed}
	arrivals := testkit.Must(traffic.Arrivals())(t)
	o := &outcomes{released: make([]float64, len(s.Rates)), missed: make([]float64, len(s.Rates))}
	testkit.Must(sim.Run(sim.Config{Arrivals: arrivals,
		Engine: sched.Config{Tables: tables, Policy: policy.Named(name), Drop: sched.DropLate, Recorder: o}}))(t)
	return o
}

func heavy(t testing.TB) (*scenario.Scenario, *sched.Tables) {
	t.Helper()
	s := testkit.Must(scenario.Load("paper/mcv_heavy"))(t)
	tables := testkit.Must(sched.Compile(s.System))(t)
	return s, tables
}

// On the published mcv_heavy, periodic with random phases, Terastal misses at least 60, 50 and 60 % less than FCFS, EDF
// and DREAM, and less than .02, over the seeds 1 to 24; they give 82, 70 and 78 % and .0145. The mean of 24 seeds has a
// standard error of about .007: over 240 they are 67, 59 and 59.5 % and .0251, which the second half pins.
func TestPaper(t *testing.T) {
	sequential.Skip(t)
	s, tables := heavy(t)
	for _, c := range []struct {
		seeds      uint64
		most       float64 // of terastal's mean miss rate
		reductions [3]float64
	}{
		{24, 0.02, [3]float64{0.6, 0.5, 0.6}},
		{240, 0.027, [3]float64{0.6, 0.5, 0.55}},
	} {
		if c.seeds > 24 && testing.Short() {
			continue
		}
		bases := []string{"fcfs", "edf", "dream"}
		miss := map[string]float64{}
		for _, policy := range append(bases, "terastal", "terastal-novariants") {
			for seed := range c.seeds {
				o := play(t, s, tables, policy, seed+1)
				for m := range o.released {
					miss[policy] += o.missed[m] / o.released[m] / float64(len(s.Rates)) / float64(c.seeds)
				}
			}
			t.Logf("%d seeds: %-20s %.4f", c.seeds, policy, miss[policy])
		}
		for i, base := range bases {
			if got := 1 - miss["terastal"]/miss[base]; got < c.reductions[i] {
				t.Errorf("%d seeds: terastal misses %.1f %% less than %s, want at least %.0f %%", c.seeds, 100*got, base,
					100*c.reductions[i])
			}
		}
		if miss["terastal"] > c.most || miss["terastal"] > miss["terastal-novariants"] {
			t.Errorf("%d seeds: terastal misses %.4f, want at most %.3f and at most what it does without variants, %.4f",
				c.seeds, miss["terastal"], c.most, miss["terastal-novariants"])
		}
	}
}

// BenchmarkSimulate reports layers/s, simulated layer runs per second on one core, counted by a recorder.
func BenchmarkSimulate(b *testing.B) {
	s, tables := heavy(b)
	for _, p := range policy.All() {
		b.Run(p.Name, func(b *testing.B) {
			layers := 0
			for b.Loop() {
				layers += play(b, s, tables, p.Name, 1).layers
			}
			b.ReportMetric(float64(layers)/b.Elapsed().Seconds(), "layers/s")
		})
	}
}

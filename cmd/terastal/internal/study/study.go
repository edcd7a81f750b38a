// Package study simulates grids of scenarios, traffic and policies over many
// seeds, in parallel, and summarises them with confidence intervals.
package study

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"gonum.org/v1/gonum/stat"
	"gonum.org/v1/gonum/stat/distuv"

	"github.com/terastal/terastal/internal/stats"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/eventlog"
	"github.com/terastal/terastal/sched/fluid"
	"github.com/terastal/terastal/sched/plan"
	"github.com/terastal/terastal/sched/policy"
	"github.com/terastal/terastal/sched/scenario"
	"github.com/terastal/terastal/sched/sim"
	"github.com/terastal/terastal/sched/traffic"
)

// Cell is one point of a grid: a scenario under some traffic with one policy.
type Cell struct {
	Scenario string
	Arrivals traffic.Process
	Phases   traffic.Phases
	Jitter   float64
	Scale    float64 // multiplies all rates; deadlines stay
	Drop     sched.DropPolicy
	Noise    float64 // sigma of the lognormal factor of mean 1 on every layer's duration
	// Floor, if not zero, is the accuracy floor of every model that has variants, in place of the scenario's own.
	Floor  float64
	Policy string
}

// Options say how every cell is simulated.
type Options struct {
	Seeds int
	// Systems are further scenarios by name, besides the published ones.
	Systems map[string]scenario.Scenario
	// Policies are further policies by name, besides those that package policy knows.
	Policies map[string]sched.Constructor
	// Durations, if not nil, says how long layers take, by seed; the cells' Noise then has to be zero.
	Durations func(seed uint64) sim.Durations
	// Interference is how much longer layers take for every other accelerator
	// that is busy: 0.1 means 10 %. See sim.Config.
	Interference float64
	// Slowdowns, if not nil, says so for every pair, and is added to it; see sim.Config.Interference.
	Slowdowns [][]float64
	// Contention is what the streams of devices cost each other; see sim.Config.
	Contention []sim.Contention
	// Drift is how much slower accelerators become and recover from, over DriftPeriod; see sim.Drifting.
	Drift float64
	// Stall, if not zero, is how long all accelerators wait once in every StallEvery; see sim.Stalls.
	Stall, StallEvery time.Duration
	// Overhead is added to every layer's time, unpredicted.
	Overhead time.Duration
	// SearchTime, if not zero, is how long a search takes that policies make
	// next to the engine; zero makes searches part of decisions, in no time.
	SearchTime time.Duration
	// Adapt corrects predictions while simulating; see sched.Config.
	Adapt bool
	// Queue bounds the jobs of one model in the system; see sched.Config.
	Queue int
	// Traffic, if not nil, makes a cell's traffic, at its scale, instead of the cell itself.
	Traffic func(c *Cell, seed uint64) traffic.Config
	// FirstSeed is the first of them; zero means 1.
	FirstSeed uint64
	Duration  time.Duration
	Workers   int // zero means one per processor
	// Progress, if not nil, is called from several goroutines with the share done.
	Progress func(float64)
}

// Result summarises a cell over its seeds.
type Result struct {
	Cell
	Seeds int
	// Miss is the mean over seeds of the mean over models of the miss rate; Low
	// and High enclose it with 95 % confidence (Student's t over seeds).
	Miss, Low, High float64
	// Load is the share of the scenario's capacity that its originals take at this scale: see [fluid.CapacityOf].
	Load float64
	// Stalls says what accelerators waited for, as in "50ms/500ms"; "" for nothing.
	Stalls string
	// Bound is the least mean miss rate of any schedule at these mean rates: the fluid bound of sched.Tables.MissBound.
	Bound float64
	// BySeed holds the mean over models per seed, for paired comparisons.
	BySeed []float64
	Summary
}

// Summary is what a cell's requests got over all seeds.
type Summary struct {
	// Models holds, over all seeds together, what each model's requests got; its miss rates are means over seeds.
	Models []eventlog.ModelMetrics `json:"models"`
	// Accuracy is the mean normalised accuracy of finished requests over models;
	// nil when that of a variant set that was used is unknown.
	Accuracy *float64 `json:"normalized_accuracy,omitempty"`
	// Utilization is the mean share of the time that each accelerator was busy.
	Utilization map[string]float64 `json:"utilization"`
}

// Run simulates the cells. Results come in the order of the cells.
func Run(ctx context.Context, cells []Cell, o Options) ([]Result, error) {
	if o.Seeds < 1 {
		return nil, fmt.Errorf("%d seeds, need at least 1", o.Seeds)
	}
	systems, err := prepare(cells, o.Systems)
	if err != nil {
		return nil, err
	}
	out := make([]Result, len(cells))
	var done atomic.Int64
	var g errgroup.Group
	g.SetLimit(cmp.Or(o.Workers, runtime.GOMAXPROCS(0)))
	for i, c := range cells {
		g.Go(func() (err error) {
			if ctx.Err() != nil {
				return nil
			}
			out[i], err = run(systems[floored{c.Scenario, c.Floor}], c, o)
			if o.Progress != nil {
				o.Progress(float64(done.Add(1)) / float64(len(cells)))
			}
			return err
		})
	}
	return out, errors.Join(g.Wait(), ctx.Err())
}

// Floored is a copy of the system in which every model that may use variants promises a mean normalised accuracy of its
// finished requests of at least the floor; 0 promises nothing.
func Floored(s sched.System, floor float64) sched.System {
	s.Models = slices.Clone(s.Models)
	for m := range s.Models {
		plan.Promise(&s.Models[m], floor)
	}
	return s
}

// floored is a scenario by name, with the floor of its models.
type floored struct {
	scenario string
	floor    float64
}

// prepared is a scenario that all its cells share.
type prepared struct {
	*scenario.Scenario
	tables *sched.Tables
	prices *sched.Pricing // at the scenario's rates, and its floors
	scale  float64        // of the scenario's rates, at which they are its capacity
}

func prepare(cells []Cell, own map[string]scenario.Scenario) (map[floored]prepared, error) {
	systems := map[floored]prepared{}
	for _, c := range cells {
		key := floored{c.Scenario, c.Floor}
		if _, ok := systems[key]; ok {
			continue
		}
		s, ok := own[c.Scenario]
		if !ok {
			published, err := scenario.Load(c.Scenario)
			if err != nil {
				return nil, err
			}
			s = *published
		}
		if c.Floor != 0 {
			s.System = Floored(s.System, c.Floor)
		}
		t, prices, err := priced(&s)
		if err != nil {
			return nil, fmt.Errorf("scenario %s: %w", c.Scenario, err)
		}
		capacity, err := fluid.CapacityOf(t, s.Rates)
		if err != nil {
			return nil, fmt.Errorf("scenario %s: %w", c.Scenario, err)
		}
		systems[key] = prepared{&s, t, prices, capacity.Scale}
	}
	return systems, nil
}

// priced compiles the scenario's system and tells it what policies know of the traffic, unless it says so itself: its
// rates, as a plan does.
func priced(s *scenario.Scenario) (*sched.Tables, *sched.Pricing, error) {
	t, err := sched.Compile(s.System)
	if err != nil {
		return nil, nil, err
	}
	prices, err := fluid.Price(t, s.Rates)
	if err != nil || s.System.Pricing != nil {
		return t, prices, err
	}
	s.System.Pricing = prices
	t, err = sched.Compile(s.System)
	return t, prices, err
}

func run(p prepared, c Cell, o Options) (Result, error) {
	r := Result{Cell: c, Seeds: o.Seeds, Load: c.Scale / p.scale, Stalls: o.stalls(),
		Summary: Summary{Models: make([]eventlog.ModelMetrics, len(p.System.Models)), Utilization: map[string]float64{}}}
	all := newTally(&p.System)
	for n := range uint64(o.Seeds) {
		t, end, err := simulate(p, c, max(1, o.FirstSeed)+n, &o)
		if err != nil {
			return r, fmt.Errorf("scenario %s, policy %s: %w", c.Scenario, c.Policy, err)
		}
		mean := 0.0
		for m := range t.models {
			miss := t.models[m].MissRate()
			mean += miss / float64(len(t.models))
			r.Models[m].MissRate += miss / float64(o.Seeds)
			all.models[m].add(&t.models[m], t.accounts[m])
		}
		for k, busy := range t.busy {
			r.Utilization[p.System.Accelerators[k]] += float64(busy) / float64(max(1, end)) / float64(o.Seeds)
		}
		r.BySeed = append(r.BySeed, mean)
	}
	rates := fluid.EffectiveRates(p.tables, p.Rates)
	accuracy := 0.0
	for m := range r.Models {
		r.Models[m].AccuracyFloor = p.System.Models[m].Floor
		all.models[m].summarise(&r.Models[m])
		accuracy += all.models[m].meanAccuracy() / float64(len(r.Models))
		r.Models[m].Model, r.Models[m].RatePerS = p.System.Models[m].Name, rates[m]*c.Scale
		r.Models[m].DeadlineMS = p.System.Models[m].Deadline.Seconds() * 1e3
		r.Models[m].LayersRun = (r.Models[m].Met + r.Models[m].Late) * len(p.System.Models[m].Layers)
	}
	r.Accuracy = known(accuracy)
	r.Miss, r.Low, r.High = Interval(r.BySeed)
	r.Bound = fluid.MissBound(p.tables, p.prices, scaled(p.Rates, c.Scale))
	return r, nil
}

// Interval returns the mean and its 95 % confidence interval by Student's t. Of one value it is that value.
func Interval(xs []float64) (mean, low, high float64) {
	mean, sd := stat.MeanStdDev(xs, nil)
	if len(xs) < 2 {
		return mean, mean, mean
	}
	t := distuv.StudentsT{Mu: 0, Sigma: 1, Nu: float64(len(xs) - 1)}.Quantile(0.975)
	half := t * sd / math.Sqrt(float64(len(xs)))
	return mean, mean - half, mean + half
}

// Paired compares the mean miss rates of a and b over the same seeds: the p value of a two-sided paired t test, and 1
// where fewer than two seeds or no differences leave nothing to test.
func Paired(a, b []float64) (p float64) {
	d := make([]float64, min(len(a), len(b)))
	for i := range d {
		d[i] = a[i] - b[i]
	}
	mean, sd := stat.MeanStdDev(d, nil)
	switch {
	case len(d) < 2 || (sd == 0 && mean == 0):
		return 1
	case sd == 0:
		return 0
	}
	t := math.Abs(mean) / (sd / math.Sqrt(float64(len(d))))
	return 2 * distuv.StudentsT{Mu: 0, Sigma: 1, Nu: float64(len(d) - 1)}.Survival(t)
}

// simulate runs one seed.
func simulate(p prepared, c Cell, seed uint64, o *Options) (*tally, time.Duration, error) {
	released := c.trafficOf(p.Rates, seed, o.Duration)
	if o.Traffic != nil {
		released = o.Traffic(&c, seed)
	}
	arrivals, err := released.Arrivals()
	if err != nil {
		return nil, 0, err
	}
	of, ok := o.Policies[c.Policy]
	if !ok {
		of = policy.Named(c.Policy)
	}
	t := newTally(&p.System)
	cfg := sim.Config{Arrivals: arrivals, Engine: sched.Config{Tables: p.tables, Policy: of, Drop: c.Drop,
		Queue: o.Queue, Recorder: t, Seed: seed,
		ClosedLoop: released.Process == traffic.ClosedLoop, Until: released.Duration, Adapt: o.Adapt}}
	if o.Interference > 0 || o.Slowdowns != nil {
		cfg.Interference = o.interference(len(p.System.Accelerators))
	}
	switch {
	case o.Durations != nil:
		cfg.Duration = o.Durations(seed)
	case c.Noise > 0:
		cfg.Duration = sim.Lognormal(c.Noise, p.tables, seed)
	}
	if o.Drift > 0 || o.Overhead > 0 {
		if cfg.Duration == nil {
			cfg.Duration = sim.Exactly(p.tables)
		}
		drifting := sim.Drifting(cfg.Duration, o.Drift, DriftPeriod, len(p.System.Accelerators), seed)
		cfg.Duration = sim.Delayed(drifting, o.Overhead)
	}
	cfg.SearchTime, cfg.Contention = o.SearchTime, o.Contention
	cfg.Stalls = sim.Stalls{Length: o.Stall, Period: o.StallEvery, Seed: seed}
	end, err := sim.Run(cfg)
	return t, end, err
}

// DriftPeriod is that of Options.Drift.
const DriftPeriod = 500 * time.Millisecond

// stalls says which there are.
func (o *Options) stalls() string {
	if o.Stall == 0 {
		return ""
	}
	return fmt.Sprintf("%v/%v", o.Stall, o.StallEvery)
}

// interference is between any two of n accelerators.
func (o *Options) interference(n int) [][]float64 {
	out := make([][]float64, n)
	for k := range out {
		out[k] = make([]float64, n)
		for other := range out[k] {
			if o.Slowdowns != nil {
				out[k][other] = o.Slowdowns[k][other]
			}
			if other != k {
				out[k][other] += o.Interference
			}
		}
	}
	return out
}

// trafficOf is the cell's traffic at its scale of the given rates.
func (c *Cell) trafficOf(base []float64, seed uint64, duration time.Duration) traffic.Config {
	return traffic.Config{Rates: scaled(base, c.Scale), Process: c.Arrivals, Phases: c.Phases, Jitter: c.Jitter,
		FirstRelease: aligned(*c, len(base), seed), BurstOn: BurstOn, BurstOff: BurstOff, Duration: duration, Seed: seed}
}

func scaled(base []float64, scale float64) []float64 {
	rates := make([]float64, len(base))
	for m, r := range base {
		rates[m] = r * scale
	}
	return rates
}

// aligned are the first releases of streams that all begin at once: within a microsecond, in an order that the seed
// draws. Exactly at once, the run would be one trajectory that hangs on how ties are broken.
func aligned(c Cell, models int, seed uint64) []time.Duration {
	if c.Arrivals != traffic.Periodic || c.Phases != traffic.AlignedPhases {
		return nil
	}
	rng := rand.New(rand.NewPCG(seed, 0x616c6967))
	out := make([]time.Duration, models)
	for m := range out {
		out[m] = time.Duration(rng.IntN(int(time.Microsecond)))
	}
	return out
}

// Lengths of the phases of bursty traffic in studies.
const (
	BurstOn  = 200 * time.Millisecond
	BurstOff = 200 * time.Millisecond
)

// tally counts what a run's records say; it is a sched.Recorder.
type tally struct {
	system *sched.System
	models []count
	// accounts are those of models, of one run: windows do not reach from one to the next.
	accounts []*eventlog.Account
	busy     []time.Duration
	used     map[int64]sched.VariantSet // of jobs that used any
}

// count is one model's share of a tally.
type count struct {
	eventlog.Totals
	latency  []time.Duration // of finished jobs
	variants int             // layer runs of finished jobs that used one
	// Over the finished jobs of whole runs: what they kept of the accuracy, what they are held to have kept, and the least
	// window.
	accuracy, delivered, worst float64
}

func (c *count) add(o *count, a *eventlog.Account) {
	if n := float64(a.Finished()); n > 0 {
		c.accuracy += n * a.Mean()
		c.delivered += n * a.Delivered()
		if len(c.latency) == 0 || !(a.Worst() >= c.worst) { // the least, or unknown
			c.worst = a.Worst()
		}
	}
	c.Totals.Add(o.Totals)
	c.latency = append(c.latency, o.latency...)
	c.variants += o.variants
}

// summarise fills in everything but names, rates, the miss rate and the accuracy floor, which is there.
func (c *count) summarise(m *eventlog.ModelMetrics) {
	m.Totals, m.VariantsUsed = c.Totals, c.variants
	slices.Sort(c.latency)
	for q, to := range map[float64]*float64{0.50: &m.P50MS, 0.90: &m.P90MS, 0.99: &m.P99MS} {
		*to = stats.Quantile(c.latency, q).Seconds() * 1e3
	}
	m.NormalizedAccuracy = known(c.meanAccuracy())
	if n := len(c.latency); n > 0 && m.AccuracyFloor > 0 {
		m.DeliveredAccuracy, m.WorstWindow = known(c.delivered/float64(n)), known(c.worst)
	}
}

// meanAccuracy is over finished jobs: 1 of none, NaN where it was never measured.
func (c *count) meanAccuracy() float64 {
	if len(c.latency) == 0 {
		return 1
	}
	return c.accuracy / float64(len(c.latency))
}

// known is x, nil for NaN.
func known(x float64) *float64 {
	if math.IsNaN(x) {
		return nil
	}
	return &x
}

func newTally(s *sched.System) *tally {
	t := &tally{system: s, models: make([]count, len(s.Models)), busy: make([]time.Duration, len(s.Accelerators)),
		used: map[int64]sched.VariantSet{}}
	for m := range s.Models {
		t.accounts = append(t.accounts, eventlog.NewAccount(&s.Models[m]))
	}
	return t
}

// Record counts.
func (t *tally) Record(r sched.Record) {
	switch r.Kind {
	case sched.Released:
		t.models[r.Model].Released++
	case sched.Completed:
		t.busy[r.Accelerator] += r.At - r.Start
		if r.Implementation > 0 {
			v := t.system.Models[r.Model].Layers[r.Layer].Implementations[r.Implementation].Variant
			t.used[r.Job] |= 1 << (v - 1)
		}
	case sched.Ended:
		t.end(&r)
	}
}

func (t *tally) end(r *sched.Record) {
	c := &t.models[r.Model]
	c.Count(r.Outcome)
	if r.Outcome == sched.Met || r.Outcome == sched.Late {
		used := t.used[r.Job]
		c.latency = append(c.latency, r.At-r.Start)
		t.accounts[r.Model].Finish(used)
		c.variants += used.Len()
	}
	delete(t.used, r.Job)
}

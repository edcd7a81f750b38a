package session

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"time"

	"github.com/terastal/terastal/cmd/terastal/internal/config"
	"github.com/terastal/terastal/cmd/terastal/internal/result"
	"github.com/terastal/terastal/cmd/terastal/internal/study"
	"github.com/terastal/terastal/internal/document"
	"github.com/terastal/terastal/internal/hostinfo"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/eventlog"
	"github.com/terastal/terastal/sched/scenario"
	"github.com/terastal/terastal/sched/sim"
	"github.com/terastal/terastal/sched/traffic"
)

// newResult describes the flow's plan.
func (f *Flow) newResult(driver string) *result.Result {
	c := &f.Config.Traffic
	r := &result.Result{Driver: driver, Hardware: f.Hardware(), Host: f.Host, ORT: f.ORT.Version, Accelerators: f.Specs, Valid: true,
		Traffic: result.TrafficInfo{Arrivals: c.Arrivals, Phases: c.Phases, Jitter: c.Jitter, DurationS: c.Duration.Seconds(), Seed: c.Seed, Drop: f.Config.Drop, Load: f.Load}}
	if driver == eventlog.Real {
		r.ClockStepNS = int64(result.ClockStep())
	}
	r.Models = f.ModelInfos()
	return r
}

// ModelInfos describes the planned models.
func (f *Flow) ModelInfos() []result.ModelInfo {
	var out []result.ModelInfo
	sys := f.Tables.System()
	for m := range sys.Models {
		b := f.Tables.Budgets(m)
		info := result.ModelInfo{Name: sys.Models[m].Name, Granularity: f.Config.Models[m].Granularity, Layers: len(sys.Models[m].Layers),
			RatePerS: f.Rates[m], DeadlineMS: sys.Models[m].Deadline.Seconds() * 1e3, LatencyMS: map[string]float64{},
			Level: b.Level, Infeasible: b.Infeasible, Preferred: map[string]int{}}
		for k, name := range sys.Accelerators {
			if d, ok := f.Profile.Latency(m, k); ok {
				info.LatencyMS[name] = d.Seconds() * 1e3
			}
		}
		if d, ok := f.Profile.Latency(m, profiler.Fastest); ok {
			info.FastestMS = d.Seconds() * 1e3
		}
		for _, l := range sys.Models[m].Layers {
			best := -1
			for k, c := range l.Implementations[0].Latency {
				if c != sched.Unavailable && (best < 0 || c < l.Implementations[0].Latency[best]) {
					best = k
				}
			}
			info.Preferred[sys.Accelerators[best]]++
		}
		if v := f.inUse(m); v != nil && len(v.Chosen) > 0 {
			info.Variants, info.AccuracyMetric, info.AccuracyRequests, info.AccuracyOriginal = len(v.Chosen), v.Metric, v.Requests, v.Baseline
		}
		out = append(out, info)
	}
	return out
}

// samplesPerModel is how many requests of each model are verified in a run.
const samplesPerModel = 8

// Run plays the same traffic under every policy on the real accelerators,
// verifies sampled outputs and writes logs, traces and result.json to the
// configuration's folder.
func (f *Flow) Run(ctx context.Context) (*result.Result, error) {
	if err := f.checkTraceORT(); err != nil {
		return nil, err
	}
	p, err := f.onHardware()
	if err != nil {
		return nil, err
	}
	defer p.close()
	return f.playOnce(ctx, p)
}

// onHardware opens everything that runs on the real accelerators need.
func (f *Flow) onHardware() (*player, error) {
	if err := f.prepare(); err != nil {
		return nil, err
	}
	traffic, err := f.Traffic()
	if err != nil {
		return nil, err
	}
	drop, err := sched.ParseDrop(f.Config.Drop)
	if err != nil {
		return nil, err
	}
	ex, err := runtime.NewExecutor(f.Tables, f.programs, traffic.Seed)
	if err != nil {
		return nil, err
	}
	if err := f.setInputs(ex); err != nil {
		ex.Close(context.Background())
		return nil, err
	}
	if err := f.Planned.Write(f.PlanPath()); err != nil {
		ex.Close(context.Background())
		return nil, err
	}
	return &player{driver: eventlog.Real, close: func() { ex.Close(context.Background()) }, play: func(ctx context.Context, turn playing) (*result.PolicyResult, bool, error) {
		o := runtime.Options{Policy: turn.policy, Drop: drop, Queue: f.Config.Queue, Adapt: f.Config.Adapt, Traffic: scaled(traffic, turn.scale, turn.seed),
			FreeCore: runtime.FreeCore(f.Specs), Quiet: true, Realtime: f.Config.Realtime, Retries: f.Config.Retries, Hang: f.hang()}
		if ex.Computes() {
			o.Samples = samplesPerModel
		}
		return f.runPolicy(ctx, ex, o, turn)
	}}, nil
}

// runPolicy plays the traffic under one policy and writes its log and trace.
func (f *Flow) runPolicy(ctx context.Context, ex *runtime.Executor, o runtime.Options, turn playing) (p *result.PolicyResult, interrupted bool, err error) {
	meter := Discard("")
	if f.watch != nil {
		o.Progress = func(s runtime.Stats) { f.watch(o.Policy, s, o.Traffic.Duration) }
	} else {
		meter = f.opts.Progress("running " + turn.title)
		o.Progress = func(s runtime.Stats) { meter.Set(float64(s.At) / float64(o.Traffic.Duration)) }
	}
	run := ex.Run
	if o.Policy == runtime.Unscheduled {
		run = ex.RunUnscheduled
	}
	before := hostinfo.ReadCounters(hostinfo.This())
	f.drill.Begin()
	begin := time.Now()
	r, err := run(ctx, o)
	elapsed := time.Since(begin)
	f.drill.End()
	machine := hostinfo.ReadCounters(hostinfo.This()).Sub(before)
	meter.Done()
	if err != nil {
		return nil, false, err
	}
	p = &result.PolicyResult{Metrics: r.Log.Metrics(), Execution: result.NewExecution(r, machine)}
	p.Notes = append(p.Notes, machine.GPULimits(elapsed)...)
	notes := p.Notes
	if !turn.alone { // in many runs, those about the machine are summed up later
		notes = r.Notes
	}
	for _, n := range notes {
		f.opts.Note("%s: %s", turn.title, n)
	}
	if o.Samples > 0 {
		v, err := ex.Verify(r.Samples)
		if err != nil {
			return nil, false, err
		}
		p.Verification = &v
		if f.Config.SaveOutputs && turn.first {
			if err := f.saveOutputs(o.Policy, r.Samples); err != nil {
				return nil, false, err
			}
		}
	}
	p.DecisionP50NS, p.DecisionP99NS = int64(r.Decisions.Quantile(.5)), int64(r.Decisions.Quantile(.99))
	if f.ortTrace != nil && o.Policy != runtime.Unscheduled { // whose sessions are its own
		r.Log.Header.Distorted = distortedByTrace
		f.traced = append(f.traced, tracedRun{r.Log, r.Started, p})
	}
	return p, r.Interrupted, f.writeLog(r.Log, p, turn)
}

// hang is how long a layer may run: ten times its 99th percentile, and at
// least a second.
func (f *Flow) hang() func(sched.Dispatch) time.Duration {
	return func(d sched.Dispatch) time.Duration {
		if c := f.Profile.Cell(d.Model, d.Layer, d.Implementation, d.Accelerator); c != nil {
			return max(time.Second, 10*c.P99)
		}
		return time.Second
	}
}

// Simulate plays the same traffic in virtual time; layers take what was
// measured, and longer while other accelerators are busy.
func (f *Flow) Simulate() (*result.Result, error) {
	p, err := f.onSimulator()
	if err != nil {
		return nil, err
	}
	return f.playOnce(context.Background(), p)
}

// onSimulator makes what plays in virtual time.
func (f *Flow) onSimulator() (*player, error) {
	traffic, err := f.Traffic()
	if err != nil {
		return nil, err
	}
	if slices.Contains(f.Config.Policies, runtime.Unscheduled) {
		return nil, errUnscheduled()
	}
	return &player{driver: eventlog.Simulated, close: func() {}, play: func(_ context.Context, turn playing) (*result.PolicyResult, bool, error) {
		traffic := scaled(traffic, turn.scale, turn.seed)
		arrivals, err := traffic.Arrivals()
		if err != nil {
			return nil, false, err
		}
		log, err := f.simulate(turn.policy, traffic, arrivals)
		if err != nil {
			return nil, false, err
		}
		p := &result.PolicyResult{Metrics: log.Metrics()}
		return p, false, f.writeLog(log, p, turn)
	}}, nil
}

// errUnscheduled is returned where a model of time would be needed.
func errUnscheduled() error {
	return fmt.Errorf("%w: %q has no model of time: it runs on real hardware only", config.ErrInvalid, runtime.Unscheduled)
}

func (f *Flow) simulate(name string, t traffic.Config, arrivals []traffic.Arrival) (*eventlog.Log, error) {
	log := &eventlog.Log{Header: eventlog.Header{Driver: eventlog.Simulated, Policy: name, Drop: f.Config.Drop, Queue: f.Config.Queue,
		Seed: t.Seed, Adapt: f.Config.Adapt, ClosedLoop: t.Process == traffic.ClosedLoop, Until: t.Duration,
		System: *f.Tables.System(), Rates: t.Rates, Duration: t.Duration}}
	var records eventlog.Buffer
	engine, err := log.Header.Engine(&records, nil)
	if err != nil {
		return nil, err
	}
	drawn, err := f.Profile.Durations(t.Seed)
	if err != nil {
		return nil, err
	}
	if _, err := sim.Run(sim.Config{Arrivals: arrivals, Engine: engine, Duration: drawn, Interference: f.Profile.Slowdowns()}); err != nil {
		return nil, err
	}
	log.Records = records
	return log, nil
}

// StudyOptions are what a study of the configuration varies.
type StudyOptions struct {
	Seeds int
	// Durations says what layers take: Measured, Expected or a statistic of the
	// profile. Empty is Measured, or Expected if there is Noise.
	Durations string
	// Noise is the sigma of a lognormal factor on what decisions expect.
	Noise float64
	// Interference is how much longer layers take for every other accelerator
	// that is busy, beside what was measured.
	Interference float64
}

// Values of StudyOptions.Durations.
const (
	// Measured draws from the measured distributions; accelerators slow each
	// other down as measured.
	Measured = "measured"
	// Expected takes what decisions expect.
	Expected = "expected"
)

// Study simulates the configuration under every policy over several seeds.
func (f *Flow) Study(ctx context.Context, o StudyOptions) ([]study.Result, error) {
	cell, so, err := f.study(o)
	if err != nil {
		return nil, err
	}
	var cells []study.Cell
	for _, p := range f.Config.Policies {
		cell.Policy = p
		cells = append(cells, cell)
	}
	meter := f.opts.Progress("simulating")
	defer meter.Done()
	so.Progress = meter.Set
	return study.Run(ctx, cells, so)
}

// study is the configuration as a cell without a policy, and how to simulate it.
func (f *Flow) study(o StudyOptions) (cell study.Cell, so study.Options, err error) {
	t, err := f.Traffic()
	if err != nil {
		return cell, so, err
	}
	drop, err := sched.ParseDrop(f.Config.Drop)
	if err != nil {
		return cell, so, err
	}
	if slices.Contains(f.Config.Policies, runtime.Unscheduled) {
		return cell, so, errUnscheduled()
	}
	const name = "configuration"
	cell = study.Cell{Scenario: name, Arrivals: t.Process, Scale: 1, Drop: drop, Noise: o.Noise}
	so = study.Options{Seeds: o.Seeds, FirstSeed: t.Seed, Duration: t.Duration, Adapt: f.Config.Adapt, Queue: f.Config.Queue,
		Systems: map[string]scenario.Scenario{name: {Name: name, System: *f.Tables.System(), Rates: f.Rates}},
		Traffic: func(c *study.Cell, seed uint64) traffic.Config { return scaled(t, c.Scale, seed) }}
	so.Interference = o.Interference
	if o.Durations == "" && o.Noise > 0 {
		o.Durations = Expected
	}
	if o.Durations == "" || o.Durations == Measured {
		so.Slowdowns = f.Profile.Slowdowns()
	}
	so.Durations, err = f.durations(o.Durations)
	return cell, so, err
}

// scaled is traffic at a multiple of its rates, with a seed of its own.
func scaled(t traffic.Config, scale float64, seed uint64) traffic.Config {
	t.Seed, t.Rates = seed, slices.Clone(t.Rates)
	for m := range t.Rates {
		t.Rates[m] *= scale
	}
	return t
}

// writeLog writes a policy's log, and in the first repeat its trace, and names
// them in its result.
func (f *Flow) writeLog(log *eventlog.Log, p *result.PolicyResult, turn playing) error {
	if turn.unlogged {
		return nil
	}
	stem := filepath.Join(f.Config.Out, turn.stem(log.Header.Driver))
	p.Log = stem + ".log.json"
	log.Header.Machine = f.machine()
	if err := log.Write(p.Log); err != nil || !turn.first {
		return err
	}
	p.Trace = stem + ".trace.json"
	return WriteTrace(log, p.Trace)
}

// machine says what runs compute on; simulations of tables from elsewhere do on
// nothing.
func (f *Flow) machine() eventlog.Machine {
	if f.tables {
		return eventlog.Machine{}
	}
	return eventlog.Machine{OS: f.Host.OS, Arch: f.Host.Arch, CPU: f.Host.CPU, Governor: f.Host.Governor, ORT: f.ORT.Version}
}

// WriteTrace writes the log's Chrome trace, with what happened inside its
// layers, to path, atomically.
func WriteTrace(log *eventlog.Log, path string, inside ...eventlog.Span) error {
	return document.WriteStream(path, func(w io.Writer) error { return log.WriteTrace(w, inside...) })
}

// WriteResult writes result.json, or simulated.json, to the configuration's
// folder.
func (f *Flow) WriteResult(r *result.Result) error {
	data, err := indented(r)
	if err != nil {
		return err
	}
	return document.WriteFile(filepath.Join(f.Config.Out, r.FileName()), data)
}

// EqualShares sets the rates so that every model demands the same share of one
// accelerator's time at its fastest; with the configuration's load they are
// scaled together. A demo has no rates of its own to honour.
func (f *Flow) EqualShares() error {
	for m := range f.Config.Models {
		d, ok := f.Profile.Latency(m, profiler.Fastest)
		if !ok {
			return fmt.Errorf("%w: model %q has a layer that runs nowhere", config.ErrInvalid, f.Config.Models[m].Name)
		}
		f.Config.Models[m].Rate = 1 / d.Seconds()
	}
	return nil
}

// durations makes the function that says how long layers take; nil for what
// decisions expect.
func (f *Flow) durations(what string) (func(uint64) sim.Durations, error) {
	switch what {
	case Expected:
		return nil, nil
	case Measured, "":
		if _, err := f.Profile.Durations(1); err != nil {
			return nil, err
		}
		return func(seed uint64) sim.Durations {
			d, _ := f.Profile.Durations(seed) // checked above
			return d
		}, nil
	}
	q, err := profiler.ParseQuantile(what)
	if err != nil {
		return nil, fmt.Errorf("%w: durations: %w, or %s or %s", config.ErrInvalid, err, Measured, Expected)
	}
	var deadlines []time.Duration
	for _, m := range f.Tables.System().Models {
		deadlines = append(deadlines, m.Deadline)
	}
	s, err := f.Profile.System(deadlines, q)
	if err != nil {
		return nil, err
	}
	truth, err := sched.Compile(s)
	if err != nil {
		return nil, err
	}
	return func(uint64) sim.Durations { return sim.Exactly(truth) }, nil
}

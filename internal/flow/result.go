package flow

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/renameio/v2"

	"github.com/terastal/terastal/internal/config"
	"github.com/terastal/terastal/internal/document"
	"github.com/terastal/terastal/internal/hostinfo"
	"github.com/terastal/terastal/internal/study"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/eventlog"
	"github.com/terastal/terastal/sched/scenario"
	"github.com/terastal/terastal/sched/sim"
)

// Result is what a run or simulation of several policies on the same arrivals
// gave: the document that --json prints and that result.json holds.
type Result struct {
	Driver       string         `json:"driver"`
	Hardware     string         `json:"hardware"`
	Host         hostinfo.Info  `json:"host"`
	ORT          string         `json:"onnxruntime"`
	Accelerators []runtime.Spec `json:"accelerators"`
	Traffic      TrafficInfo    `json:"traffic"`
	Models       []ModelInfo    `json:"models"`
	Policies     []PolicyResult `json:"policies"`
	// Valid is false when the run cannot support what it says; Reasons say why
	// and what to change.
	Valid   bool     `json:"valid"`
	Reasons []string `json:"invalid_reasons,omitempty"`
}

// TrafficInfo is the traffic that all policies got.
type TrafficInfo struct {
	Arrivals  string  `json:"arrivals"`
	Phases    string  `json:"phases"`
	Jitter    float64 `json:"jitter"`
	DurationS float64 `json:"duration_s"`
	Seed      uint64  `json:"seed"`
	Drop      string  `json:"drop"`
	// Load is the demand as a share of the measured capacity: the fluid bound,
	// which no schedule exceeds.
	Load float64 `json:"load"`
}

// ModelInfo is what was planned for a model.
type ModelInfo struct {
	Name        string  `json:"name"`
	Granularity string  `json:"granularity"`
	Layers      int     `json:"layers"`
	RatePerS    float64 `json:"rate_per_s"`
	DeadlineMS  float64 `json:"deadline_ms"`
	// LatencyMS is the sum of the layers' medians on each accelerator, where
	// all layers run there; FastestMS with each layer where it is fastest.
	LatencyMS map[string]float64 `json:"latency_ms"`
	FastestMS float64            `json:"fastest_ms"`
	// Level and Infeasible are Algorithm 1's; Preferred counts the layers that
	// are fastest on each accelerator.
	Level      int            `json:"budget_level"`
	Infeasible bool           `json:"infeasible,omitempty"`
	Preferred  map[string]int `json:"preferred_layers"`
}

// PolicyResult is one policy's run.
type PolicyResult struct {
	eventlog.Metrics
	DecisionP50NS int64 `json:"decision_ns_p50,omitempty"`
	DecisionP99NS int64 `json:"decision_ns_p99,omitempty"`
	*runtime.Verification
	*Execution
	Log   string `json:"log,omitempty"`
	Trace string `json:"trace,omitempty"`
}

// newResult describes the flow's plan.
func (f *Flow) newResult(driver string) *Result {
	c := &f.Config.Traffic
	r := &Result{Driver: driver, Hardware: f.Hardware(), Host: f.Host, ORT: f.ORT.Version, Accelerators: f.Specs, Valid: true,
		Traffic: TrafficInfo{Arrivals: c.Arrivals, Phases: c.Phases, Jitter: c.Jitter, DurationS: c.Duration.Seconds(), Seed: c.Seed, Drop: f.Config.Drop, Load: f.Load}}
	r.Models = f.ModelInfos()
	return r
}

// ModelInfos describes the planned models.
func (f *Flow) ModelInfos() []ModelInfo {
	var out []ModelInfo
	sys := f.Tables.System()
	for m := range sys.Models {
		b := f.Tables.Budgets(m)
		info := ModelInfo{Name: sys.Models[m].Name, Granularity: f.Config.Models[m].Granularity, Layers: len(sys.Models[m].Layers),
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
		out = append(out, info)
	}
	return out
}

// samplesPerModel is how many requests of each model are verified in a run.
const samplesPerModel = 8

// Run plays the same traffic under every policy on the real accelerators,
// verifies sampled outputs and writes logs, traces and result.json to the
// configuration's folder.
func (f *Flow) Run(ctx context.Context) (*Result, error) {
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
	ex, err := runtime.NewExecutor(f.Tables, f.accs, f.programs, traffic.Seed)
	if err != nil {
		return nil, err
	}
	defer ex.Close()
	if err := f.setInputs(ex); err != nil {
		return nil, err
	}
	if err := f.Planned.Write(f.PlanPath()); err != nil {
		return nil, err
	}
	result := f.newResult(eventlog.Real)
	for _, policy := range f.Config.Policies {
		o := runtime.Options{Policy: policy, Drop: drop, Queue: f.Config.Queue, Adapt: f.Config.Adapt, Traffic: traffic,
			FreeCore: f.spareCore(), Quiet: true, Realtime: f.Config.Realtime, Retries: f.Config.Retries, Hang: f.hang()}
		if ex.Computes() {
			o.Samples = samplesPerModel
		}
		p, interrupted, err := f.runPolicy(ctx, ex, o)
		if err != nil {
			return nil, fmt.Errorf("policy %s: %w", policy, err)
		}
		result.Policies = append(result.Policies, *p)
		result.judge(p)
		if len(p.Lost) > 0 && len(f.Config.Faults) == 0 {
			result.invalid("%s lost accelerators: %s", policy, strings.Join(p.Lost, ", "))
		}
		if interrupted {
			result.invalid("it was interrupted during policy %s", policy)
			break
		}
	}
	return result, f.WriteResult(result)
}

// runPolicy plays the traffic under one policy and writes its log and trace.
func (f *Flow) runPolicy(ctx context.Context, ex *runtime.Executor, o runtime.Options) (p *PolicyResult, interrupted bool, err error) {
	meter := Discard("")
	if f.watch != nil {
		o.Progress = func(s runtime.Stats) { f.watch(o.Policy, s, o.Traffic.Duration) }
	} else {
		meter = f.opts.Progress("running " + o.Policy)
		o.Progress = func(s runtime.Stats) { meter.Set(float64(s.At) / float64(o.Traffic.Duration)) }
	}
	run := ex.Run
	if o.Policy == runtime.Unscheduled {
		run = ex.RunUnscheduled
	}
	f.drill.Begin()
	before, begin := hostinfo.ReadCounters(hostinfo.This()), time.Now()
	r, err := run(ctx, o)
	limits := hostinfo.ReadCounters(hostinfo.This()).Sub(before).GPULimits(time.Since(begin))
	f.drill.End()
	meter.Done()
	if err != nil {
		return nil, false, err
	}
	p = &PolicyResult{Metrics: r.Log.Metrics(), Execution: execution(r)}
	p.Notes = append(p.Notes, limits...)
	for _, n := range p.Notes {
		f.opts.Note("%s: %s", o.Policy, n)
	}
	if o.Samples > 0 {
		v, err := ex.Verify(r.Samples)
		if err != nil {
			return nil, false, err
		}
		p.Verification = &v
		if f.Config.SaveOutputs {
			if err := f.saveOutputs(o.Policy, r.Samples); err != nil {
				return nil, false, err
			}
		}
	}
	p.DecisionP50NS, p.DecisionP99NS = int64(r.Decisions.Quantile(.5)), int64(r.Decisions.Quantile(.99))
	return p, r.Interrupted, f.writeLog(r.Log, p)
}

// hang is how long a layer may run: ten times its 99th percentile, and at
// least a second.
func (f *Flow) hang() func(sched.Dispatch) time.Duration {
	type cell struct{ model, layer, implementation, accelerator int }
	slow := map[cell]time.Duration{}
	for i := range f.Profile.Cells {
		c := &f.Profile.Cells[i]
		slow[cell{c.Model, c.Layer, c.Implementation, c.Accelerator}] = c.P99
	}
	return func(d sched.Dispatch) time.Duration {
		return max(time.Second, 10*slow[cell{d.Model, d.Layer, d.Implementation, d.Accelerator}])
	}
}

// Simulate plays the same traffic in virtual time; layers take what was
// measured, and longer while other accelerators are busy.
func (f *Flow) Simulate() (*Result, error) {
	traffic, err := f.Traffic()
	if err != nil {
		return nil, err
	}
	arrivals, err := traffic.Arrivals()
	if err != nil {
		return nil, err
	}
	result := f.newResult(eventlog.Simulated)
	for _, name := range f.Config.Policies {
		if name == runtime.Unscheduled {
			return nil, fmt.Errorf("%w: %q has no model of time: it runs on real hardware only", config.ErrInvalid, name)
		}
		log, err := f.simulate(name, traffic, arrivals)
		if err != nil {
			return nil, err
		}
		p := PolicyResult{Metrics: log.Metrics()}
		if err := f.writeLog(log, &p); err != nil {
			return nil, err
		}
		result.Policies = append(result.Policies, p)
		result.judge(&p)
	}
	return result, f.WriteResult(result)
}

func (f *Flow) simulate(name string, traffic sched.Traffic, arrivals []sched.Arrival) (*eventlog.Log, error) {
	log := &eventlog.Log{Header: eventlog.Header{Driver: eventlog.Simulated, Policy: name, Drop: f.Config.Drop, Queue: f.Config.Queue,
		Seed: traffic.Seed, Adapt: f.Config.Adapt, ClosedLoop: traffic.Process == sched.ClosedLoop, Until: traffic.Duration,
		System: *f.Tables.System(), Rates: traffic.Rates, Duration: traffic.Duration}}
	var records eventlog.Buffer
	engine, err := log.Header.Engine(&records)
	if err != nil {
		return nil, err
	}
	drawn, err := f.Profile.Durations(traffic.Seed)
	if err != nil {
		return nil, err
	}
	if _, err := sim.Run(sim.Config{Arrivals: arrivals, Engine: engine, Duration: drawn, Interference: f.Profile.Slowdowns()}); err != nil {
		return nil, fmt.Errorf("policy %s: %w", name, err)
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
	traffic, err := f.Traffic()
	if err != nil {
		return nil, err
	}
	drop, err := sched.ParseDrop(f.Config.Drop)
	if err != nil {
		return nil, err
	}
	const name = "configuration"
	var cells []study.Cell
	for _, p := range f.Config.Policies {
		if p == runtime.Unscheduled {
			return nil, fmt.Errorf("%w: %q has no model of time: it runs on real hardware only", config.ErrInvalid, p)
		}
		cells = append(cells, study.Cell{Scenario: name, Arrivals: traffic.Process, Scale: 1, Drop: drop, Noise: o.Noise, Policy: p})
	}
	so := study.Options{Seeds: o.Seeds, FirstSeed: traffic.Seed, Duration: traffic.Duration, Adapt: f.Config.Adapt, Queue: f.Config.Queue,
		Systems: map[string]scenario.Scenario{name: {Name: name, System: *f.Tables.System(), Rates: f.Rates}},
		Traffic: func(seed uint64) sched.Traffic {
			t := traffic
			t.Seed = seed
			return t
		}}
	so.Interference = o.Interference
	if o.Durations == "" && o.Noise > 0 {
		o.Durations = Expected
	}
	if o.Durations == "" || o.Durations == Measured {
		so.Slowdowns = f.Profile.Slowdowns()
	}
	if so.Durations, err = f.durations(o.Durations); err != nil {
		return nil, err
	}
	meter := f.opts.Progress("simulating")
	defer meter.Done()
	so.Progress = meter.Set
	return study.Run(ctx, cells, so)
}

// writeLog writes a policy's log and trace and names them in its result.
func (f *Flow) writeLog(log *eventlog.Log, p *PolicyResult) error {
	stem := filepath.Join(f.Config.Out, p.Policy)
	if log.Header.Driver == eventlog.Simulated {
		stem += "-simulated"
	}
	p.Log, p.Trace = stem+".log.json", stem+".trace.json"
	if err := log.Write(p.Log); err != nil {
		return err
	}
	return WriteTrace(log, p.Trace)
}

// WriteTrace writes the log's Chrome trace to path, atomically.
func WriteTrace(log *eventlog.Log, path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("write trace: %w", err)
	}
	t, err := renameio.NewPendingFile(path, renameio.WithPermissions(0o644))
	if err != nil {
		return fmt.Errorf("write trace: %w", err)
	}
	defer t.Cleanup()
	if err := log.WriteTrace(t); err != nil {
		return err
	}
	return t.CloseAtomicallyReplace()
}

// WriteResult writes result.json, or simulated.json, to the configuration's
// folder.
func (f *Flow) WriteResult(r *Result) error {
	data, err := indented(r)
	if err != nil {
		return err
	}
	return document.WriteFile(filepath.Join(f.Config.Out, r.FileName()), data)
}

// FileName is the name of the result's file in the output folder.
func (r *Result) FileName() string {
	if r.Driver == eventlog.Simulated {
		return "simulated.json"
	}
	return "result.json"
}

// Limits beyond which a run says nothing about the schedule.
const (
	minJobs = 30 // released per model: below, one miss is more than 3 %
	// A release that goes unnoticed for longer than this share of the shortest
	// deadline, in the 99th percentile, while an accelerator is idle, is a fault
	// of the machine that the policies pay for.
	maxLagShare = 0.25
)

// judge marks the result invalid where the policy's run cannot support it.
func (r *Result) judge(p *PolicyResult) {
	shortest := slices.MinFunc(p.Models, func(a, b eventlog.ModelMetrics) int { return int(a.DeadlineMS*1e6 - b.DeadlineMS*1e6) }).DeadlineMS
	for _, m := range p.Models {
		if m.Released < minJobs {
			r.invalid("%d requests of %s were released, a miss rate needs at least %d: raise --duration", m.Released, m.Model, minJobs)
		}
	}
	// Without a scheduler, noticing releases late is what is being measured.
	if lag := p.IdleLagP99US / 1e3; lag > maxLagShare*shortest && p.Policy != runtime.Unscheduled {
		r.invalid("%s noticed releases up to %.1f ms late (p99) while an accelerator was idle, the shortest deadline is %.1f ms: stop what else runs, leave a core free for the scheduler or lower the rates", p.Policy, lag, shortest)
	}
	if !p.Balanced() {
		r.invalid("%s: the totals do not balance", p.Policy)
	}
	if v := p.Verification; v != nil {
		if v.Wrong > 0 {
			r.invalid("%s: %d of %d sampled outputs differ from the whole model's by more than %.0e of their size", p.Policy, v.Wrong, v.Wrong+v.Verified, runtime.Tolerance)
		}
		if v.Verified+v.Wrong == 0 {
			r.invalid("%s finished none of the sampled requests, so that no output was verified", p.Policy)
		}
	}
}

// invalid adds a reason, once: some hold for all policies.
func (r *Result) invalid(format string, args ...any) {
	r.Valid = false
	if reason := fmt.Sprintf(format, args...); !slices.Contains(r.Reasons, reason) {
		r.Reasons = append(r.Reasons, reason)
	}
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

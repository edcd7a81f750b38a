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
)

// Session is a planned configuration and what it can be played on.
type Session struct {
	Config  *config.Config
	Profile *profiler.Profile
	Plan    *Planned

	ground  ground
	options Options
}

// ground is what a session stands on: a machine with models, emulated accelerators, or tables alone.
type ground interface {
	// machine is what latencies are of.
	machine() *Machine
	// describe says in a sentence what there is, and what that means.
	describe() string
	// header says in event logs what runs compute on.
	header() eventlog.Machine
	// open opens the plan that lies at path.
	open(path string, o runtime.OpenOptions) (*runtime.Executor, error)
}

// WritePlan writes the plan to the output folder, with the built-in networks that it names, and says where.
func (s *Session) WritePlan() (path string, err error) {
	if _, here := s.ground.(*real); here { // else nothing opens them
		for i := range s.Plan.Document.Models {
			if err := writeBuiltIn(s.Config.Out, &s.Plan.Document.Models[i]); err != nil {
				return "", err
			}
		}
	}
	path = PlanPath(s.Config)
	return path, s.Plan.Document.Write(path)
}

// Real says how runs on accelerators are watched.
type Real struct {
	// Watch is told how a run stands, ten times a second, with how long requests are released; a progress bar is then not
	// shown. It is called on a goroutine of the run and must not keep the statistics' slices. It may be nil.
	Watch func(policy string, s runtime.Stats, total time.Duration)
	// TraceORT puts what ONNX Runtime's profiler saw into the traces. Its times
	// are then distorted, and the result is INVALID.
	TraceORT bool
}

// Run plays the same traffic under every policy on the real accelerators, verifies sampled outputs and writes logs,
// traces and result.json to the configuration's folder.
func (s *Session) Run(ctx context.Context, o Real) (*result.Result, error) {
	h, err := s.onHardware(ctx, o)
	if err != nil {
		return nil, err
	}
	defer h.close()
	stage := s.stage(h, eventlog.Real)
	if err := stage.all(ctx, s.Config.Policies); err != nil {
		return nil, err
	}
	if err := h.traced.write(stage.doc, s.options.Note); err != nil {
		return nil, err
	}
	return stage.written(s.Config.Out)
}

// Simulate plays the same traffic in virtual time; layers take what was
// measured, and longer while other accelerators are busy.
func (s *Session) Simulate() (*result.Result, error) {
	p, err := s.onSimulator()
	if err != nil {
		return nil, err
	}
	stage := s.stage(p, eventlog.Simulated)
	if err := stage.all(context.Background(), s.Config.Policies); err != nil {
		return nil, err
	}
	return stage.written(s.Config.Out)
}

// ModelInfos describes the planned models.
func (s *Session) ModelInfos() []result.ModelInfo {
	var out []result.ModelInfo
	sys := s.Plan.Tables.System()
	for m := range sys.Models {
		b, model := s.Plan.Tables.Budgets(m), &sys.Models[m]
		info := result.ModelInfo{Name: model.Name, Granularity: s.Config.Models[m].Granularity, Layers: len(model.Layers),
			RatePerS: s.Plan.Document.Models[m].Rate, DeadlineMS: model.Deadline.Seconds() * 1e3,
			AccuracyFloor: model.Floor, LatencyMS: map[string]float64{}, Level: b.Level, Infeasible: b.Infeasible, Preferred: map[string]int{}}
		for k, name := range sys.Accelerators {
			if d, ok := s.Profile.Latency(m, k); ok {
				info.LatencyMS[name] = d.Seconds() * 1e3
			}
		}
		if d, ok := s.Profile.Latency(m, profiler.Fastest); ok {
			info.FastestMS = d.Seconds() * 1e3
		}
		for _, l := range model.Layers {
			best := -1
			for k, c := range l.Implementations[0].Latency {
				if c != sched.Unavailable && (best < 0 || c < l.Implementations[0].Latency[best]) {
					best = k
				}
			}
			info.Preferred[sys.Accelerators[best]]++
		}
		for _, v := range s.Plan.Document.Variants {
			if v.Model == model.Name && !v.Off && len(v.Chosen) > 0 {
				info.Variants, info.AccuracyMetric, info.AccuracyRequests, info.AccuracyOriginal =
					len(v.Chosen), v.Metric, v.Requests, v.Baseline
			}
		}
		for _, h := range s.Plan.Document.Hopeless {
			if h.Model == model.Name {
				info.NeedsMS = h.NeedsMS
			}
		}
		out = append(out, info)
	}
	return out
}

// checkScheduled refuses policies that would need a model of time where there is none.
func checkScheduled(policies []string) error {
	if i := slices.IndexFunc(policies, runtime.IsUnscheduled); i >= 0 {
		return fmt.Errorf("%w: %q has no model of time: play it on real or emulated accelerators", config.ErrInvalid, policies[i])
	}
	return nil
}

package session

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/terastal/terastal/cmd/terastal/internal/config"
	"github.com/terastal/terastal/cmd/terastal/internal/result"
	"github.com/terastal/terastal/internal/document"
	"github.com/terastal/terastal/internal/energy"
	"github.com/terastal/terastal/internal/hostinfo"
	"github.com/terastal/terastal/internal/numpy"
	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/models/dataset"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
)

// samplesPerModel is how many requests of each model are verified in a run.
const samplesPerModel = 8

// hardware plays on accelerators, real or emulated.
type hardware struct {
	Real
	session  *Session
	executor *runtime.Executor
	drill    *runtime.Drill
	meter    *energy.Meter
	// run holds what all runs have in common.
	run    runtime.Options
	traced *tracer
	// scores are of requests on labelled data.
	scores scores
}

func (h *hardware) close() {
	if h.executor != nil {
		h.executor.Close(context.Background())
	}
	h.meter.Close()
	h.traced.close()
}

// onHardware writes the plan and opens all that it runs on, until ctx ends.
func (s *Session) onHardware(ctx context.Context, o Real) (_ *hardware, err error) {
	c := s.Config
	h := &hardware{Real: o, session: s, meter: energy.Open(energy.This())}
	defer func() {
		if err != nil {
			h.close()
		}
	}()
	faults, err := c.Drill()
	if err != nil {
		return nil, err
	}
	h.drill = runtime.NewDrill(faults, c.Traffic.Seed)
	for device, streams := range s.ground.machine().devices() {
		h.drill.Device(device, streams)
	}
	if h.traced, err = newTracer(s, o.TraceORT); err != nil {
		return nil, err
	}
	t, err := s.Plan.traffic(c, s.options.Root)
	if err != nil {
		return nil, err
	}
	h.run = runtime.Options{Drop: c.DropRule(), Queue: c.Queue, Adapt: c.Adapt, Traffic: t, Quiet: true, Realtime: c.Realtime,
		Retries: c.Retries, Hang: hang(s.Profile)}
	path, err := s.WritePlan()
	if err != nil {
		return nil, err
	}
	meter := s.options.Progress("loading layers")
	h.executor, err = s.ground.open(path,
		runtime.OpenOptions{Wrap: h.drill.Wrap, Trace: h.traced.ort(), Context: ctx, Loaded: meter.Set, Seed: t.Seed})
	meter.Done()
	if err != nil {
		return nil, err
	}
	if h.executor.Computes() {
		h.run.Samples = samplesPerModel
	}
	for _, n := range h.meter.Notes() {
		s.options.Note("%s", n)
	}
	return h, h.setInputs(s)
}

// labelled leaves out where the originals score nothing: nothing is a share of it.
func (h *hardware) labelled() (out []result.LabelledAccuracy) {
	for _, a := range h.scores.accuracies() {
		if a.Original > 0 {
			out = append(out, a)
			continue
		}
		h.session.options.Note("%s, %s: the original's %s is %v on %d labelled requests, so that nothing can be a share of it: "+
			"are labels and preprocessing right?", a.Policy, a.Model, a.Metric, a.Original, a.Requests)
	}
	return out
}

// play plays the traffic under one policy and writes its log and trace.
func (h *hardware) play(ctx context.Context, t turn) (p *result.PolicyResult, interrupted bool, err error) {
	o := h.run
	o.Policy, o.Traffic = t.policy, scaled(o.Traffic, t.scale, t.seed)
	r, p, err := h.measured(ctx, o, t.title)
	if err != nil {
		return nil, false, err
	}
	notes := p.Notes
	if !t.alone { // in many runs, those about the machine are summed up later
		notes = r.Notes
	}
	for _, n := range notes {
		h.session.options.Note("%s: %s", t.title, n)
	}
	if o.Samples > 0 {
		if err := h.lookAt(r.Samples, t, p); err != nil {
			return nil, false, err
		}
	}
	if text := p.Places(); text != "" && t.first {
		h.session.options.Note("%s: %s", t.title, text)
	}
	p.DecisionP50NS, p.DecisionP99NS = int64(r.Decisions.Quantile(.5)), int64(r.Decisions.Quantile(.99))
	h.traced.add(r.Log, r.Started, p)
	return p, r.Interrupted, h.session.log(r.Log, p, &t)
}

// lookAt verifies what sampled requests computed, and scores it where their inputs are labelled.
func (h *hardware) lookAt(samples []runtime.Sample, t turn, p *result.PolicyResult) error {
	verified := spread(samples, samplesPerModel)
	v, err := h.executor.Verify(verified)
	if err != nil {
		return err
	}
	p.Verification = &v
	if h.session.Config.SaveOutputs && t.first {
		if err := h.saveOutputs(t.policy, verified); err != nil {
			return err
		}
	}
	return h.scores.add(h.executor, t.policy, samples)
}

// saveOutputs writes what sampled requests computed, a .npy file for every output:
// OUT/outputs/POLICY/MODEL-inputN-NAME.npy, of which the latest request with an input stays.
func (h *hardware) saveOutputs(policy string, samples []runtime.Sample) error {
	for _, s := range samples {
		name := h.executor.Models()[s.Model]
		model := h.executor.Model(name)
		for i, t := range model.Outputs() {
			file, err := numpy.Encode(t.Type, t.Shape, s.Outputs[i])
			if err != nil {
				return fmt.Errorf("model %q: output %q: %w", name, t.Name, err)
			}
			path := filepath.Join(h.session.Config.Out, "outputs", policy,
				fmt.Sprintf("%s-input%d-%s.npy", plain(name), s.Input, plain(t.Name)))
			if err := document.WriteFile(path, file); err != nil {
				return err
			}
		}
	}
	return nil
}

// work is what every thread of the machine has done, which tells who took the cores of accelerators that are pinned;
// nothing where none is, since it takes long on machines with many threads.
func (h *hardware) work() hostinfo.Work {
	if !slices.ContainsFunc(h.session.ground.machine().Specs, func(s runtime.Spec) bool { return len(s.Cores) > 0 }) {
		return hostinfo.Work{}
	}
	return hostinfo.ReadWork(hostinfo.This())
}

// measured runs, and takes the counters of the machine and its energy before and after.
func (h *hardware) measured(ctx context.Context, o runtime.Options,
	title string) (*runtime.Result, *result.PolicyResult, error) {
	meter := Discard("")
	if h.Watch != nil {
		o.Progress = func(s runtime.Stats) { h.Watch(o.Policy, s, o.Traffic.Duration) }
	} else {
		meter = h.session.options.Progress("running " + title)
		o.Progress = func(s runtime.Stats) { meter.Set(float64(s.At) / float64(o.Traffic.Duration)) }
	}
	run := h.executor.Run
	if runtime.IsUnscheduled(o.Policy) {
		run = h.executor.RunUnscheduled
	}
	work := h.work() // before the counters, so that they do not count it
	before := hostinfo.ReadCounters(hostinfo.This())
	h.drill.Begin()
	h.meter.Start()
	r, err := run(ctx, o)
	took := h.meter.Stop()
	h.drill.End()
	machine := hostinfo.ReadCounters(hostinfo.This()).Sub(before)
	cores := h.work().Since(work)
	meter.Done()
	if err != nil {
		return nil, nil, err
	}
	p := &result.PolicyResult{Metrics: r.Log.Metrics(), Execution: result.NewExecution(r, machine)}
	r.Log.Header.Taken = p.Take(r, h.session.ground.machine().Specs, cores)
	p.Notes = append(p.Notes, machine.GPULimits(took.Took)...)
	p.Notes = append(p.Notes, h.session.ground.machine().lowered()...)
	for i := range p.Devices {
		h.power(&p.Devices[i])
	}
	p.Energy = result.NewEnergy(took, p.Met)
	return r, p, nil
}

// power says what a device draws, by the profile, and whether it is kept warm.
func (h *hardware) power(d *result.Device) {
	for k, s := range h.session.ground.machine().Specs {
		if !slices.Contains(d.Accelerators, s.Name) {
			continue
		}
		d.KeepWarm = d.KeepWarm || s.KeepWarm
		if x := h.session.Profile.Device(k); x != nil {
			d.IdleW, d.WarmW = x.IdleW, x.WarmW
		}
	}
}

// hang is how long a layer may run: ten times its 99th percentile, and at least a second.
func hang(p *profiler.Profile) func(sched.Dispatch) time.Duration {
	return func(d sched.Dispatch) time.Duration {
		if c := p.Cell(d.Model, d.Layer, d.Implementation, d.Accelerator); c != nil {
			return max(time.Second, 10*c.P99)
		}
		return time.Second
	}
}

// maxInputs bounds how many inputs the requests of a model cycle through, unless they are small: then it is how many
// bytes they have.
const (
	maxInputs     = 256
	maxInputBytes = 64 << 20
)

// inputRoom is how many inputs of a model may be held.
func inputRoom(m *models.Model) int {
	bytes := 0
	for _, t := range m.Inputs() {
		bytes += int(t.Bytes())
	}
	return max(maxInputs, maxInputBytes/max(1, bytes))
}

// setInputs gives the executor the input data that the configuration names.
func (h *hardware) setInputs(s *Session) error {
	for m := range s.Config.Models {
		c := &s.Config.Models[m]
		if c.Inputs == "" {
			continue
		}
		model := h.executor.Model(c.Name)
		of, count := config.Data{Source: c.Inputs}, maxInputs
		if c.Inputs == config.LabelledInputs {
			of, count = c.Labelled, min(inputRoom(model), defaultLabelled)
			of.Count = min(of.Count, inputRoom(model))
		}
		data, err := openData(s.Config, c, model, of, count, s.options.Root)
		if err != nil {
			return fmt.Errorf("%w: model %q: %w", config.ErrInvalid, c.Name, err)
		}
		sets := make([]runtime.Tensors, data.Len())
		for i := range sets {
			set, err := data.Inputs(i)
			if err != nil {
				return fmt.Errorf("%w: model %q: input %d of %s: %w", config.ErrInvalid, c.Name, i, of.Source, err)
			}
			sets[i] = runtime.Tensors{}
			for j, t := range model.Inputs() {
				sets[i][t.Name] = set[j]
			}
		}
		if err := h.executor.SetInputs(c.Name, sets); err != nil {
			return err
		}
		s.options.Note("%s: %d inputs from %s", c.Name, len(sets), of.Source)
		if c.Inputs == config.LabelledInputs {
			if err := h.label(m, model, data); err != nil {
				return fmt.Errorf("%w: model %q: %w", config.ErrInvalid, c.Name, err)
			}
		}
	}
	return nil
}

// label has the outputs of a model's requests kept and scored.
func (h *hardware) label(m int, model *models.Model, data *dataset.Set) error {
	if h.run.Samples == 0 {
		return nil
	}
	l, err := newLabelled(&h.session.Config.Models[m], model, data)
	if err != nil {
		return err
	}
	n := len(h.session.Config.Models)
	if h.run.Outputs == nil {
		h.run.Outputs, h.scores.models = make([]int, n), make([]*labelled, n)
	}
	l.floor = h.session.Plan.Tables.System().Models[m].Floor
	h.run.Outputs[m], h.scores.models[m] = scoredOutputs(model), l
	return nil
}

package sched

import (
	"cmp"
	"fmt"
	"time"
)

// DefaultQueue is the default of Config.Queue.
const DefaultQueue = 64

// Config is what an Engine needs.
type Config struct {
	// Tables is the compiled system.
	Tables *Tables
	// Policy makes the policy that decides.
	Policy Constructor
	// Drop says when waiting jobs are given up. The zero value never does.
	Drop DropPolicy
	// Queue bounds the jobs of one model that are in the system at once; a
	// release beyond it is dropped. Zero means DefaultQueue.
	Queue int
	// Recorder receives every record; nil for none.
	Recorder Recorder
	// Seed draws whether a completion releases a dependent model's request, where that has a probability below 1. The draw
	// depends on the seed and the parent's job only.
	Seed uint64
	// ClosedLoop releases a request of a model whenever one of it ends; models
	// with a trigger excepted, and requests that found the queue full.
	ClosedLoop bool
	// Until is the instant from which on the engine releases nothing by itself,
	// neither for triggers nor for the closed loop; zero means no such instant.
	Until time.Duration
	// Adapt corrects the tables' latencies towards what completions report, so that predictions follow a machine that
	// becomes slower or faster: a moving average over about 16 runs, kept between half and four times the profile. The
	// engine and its policy then work on a copy of the tables.
	Adapt bool
}

// FirstOwnJob is the ID of the first job that the engine releases by itself, for
// a trigger or a closed loop; IDs of a driver's releases stay below it.
const FirstOwnJob = int64(1) << 40

func (c *Config) validate() error {
	switch {
	case c.Tables == nil:
		return fmt.Errorf("no tables: compile a system first")
	case c.Policy == nil:
		return fmt.Errorf("no policy")
	case c.Queue < 0:
		return fmt.Errorf("queue bound %d, must not be negative", c.Queue)
	case int(c.Drop) >= len(dropNames):
		return fmt.Errorf("drop policy %d does not exist", c.Drop)
	}
	return nil
}

// EventKind is what an Event reports to the engine.
type EventKind uint8

const (
	// Release: a job of Model arrived.
	Release EventKind = iota
	// Complete: the layer on Accelerator ended.
	Complete
	// Fail: the layer on Accelerator failed; its job is failed with Detail.
	Fail
	// AcceleratorDown: Accelerator takes no more layers. Whatever runs there has to be failed or completed on its own.
	AcceleratorDown
	// AcceleratorUp: Accelerator is back.
	AcceleratorUp
	// Stop: waiting jobs are dropped, running ones after their layer, and so is every later release.
	Stop
	// Searched: the search that began at Start with the state of that instant came to Found. See Searcher.
	Searched
	// Requeue: the layer on Accelerator failed with Detail, and its job waits for the same layer again.
	Requeue
	// Ending: the layer on Accelerator is predicted to end at Until, so that the next may be decided; see Device.Lead.
	Ending
)

// Event is one input of the engine.
type Event struct {
	Kind EventKind
	// At is when it happened; events never go back in time.
	At time.Duration
	// Job and Model name the job of a Release; job IDs must be unique and not negative.
	Job   int64
	Model int
	// Start is, for a Release, the scheduled release from which the deadline
	// counts; for a Complete, when the layer really began.
	Start time.Duration
	// Deadline is the absolute deadline of a Release; zero means Start plus the model's.
	Deadline time.Duration
	// Until is, for an Ending, when the layer is predicted to end; before At it means At.
	Until time.Duration
	// Accelerator is the one a Complete, Fail, Requeue, Ending, AcceleratorDown or AcceleratorUp is about.
	Accelerator int
	// Detail is the reason of a Fail, Requeue or AcceleratorDown.
	Detail string
	// Found is what a Searched came to.
	Found int
}

// Dispatch tells the driver to start a layer now: at once, or when those have ended that it waits for, the one before
// it on its accelerator and the one before it in its job.
type Dispatch struct {
	Job            int64
	Model          int
	Layer          int
	Implementation int
	Accelerator    int
	// From is the accelerator that ran the job's layer before, or Idle.
	From int
	// Start is when it is predicted to begin: now, or when what it waits for ends and its device is awake. Finish is the
	// predicted end: handoff and latency from there.
	Start, Finish time.Duration
	Reason        Reason
}

// Engine is the state machine. It is not safe for concurrent use.
type Engine struct {
	invariants invariants
	cfg        Config
	policy     Policy
	observer   Observer // the policy, if it is one
	t          *Tables
	state      State
	active     []int32       // jobs in the system, by model
	overdue    time.Duration // no job's deadline is before it
	stopped    bool
	event      EventKind // of the current step
	own        int64     // ID of the next job that it releases by itself
	due        []int32   // models of which it releases a job in this step
	adapt      *adaptation
	done       Tail             // the layer that the step is about
	doomed     map[int64]string // why jobs fail when what they run has ended
	choices    []Choice
	dispatches []Dispatch
	// In a lookahead: who is told how jobs end, and how much longer layers take than the tables say.
	ended func(j Job, o Outcome, at time.Duration)
	slow  float64
}

// New returns an engine at time zero with all accelerators idle.
func New(cfg Config) (*Engine, error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("engine: %w", err)
	}
	cfg.Queue = cmp.Or(cfg.Queue, DefaultQueue)
	if cfg.Adapt {
		cfg.Tables = cfg.Tables.Clone()
	}
	p, err := cfg.Policy(cfg)
	if err != nil {
		return nil, err
	}
	e := newEngine(cfg)
	e.setPolicy(p)
	if cfg.Adapt {
		e.adapt = newAdaptation(e.t)
	}
	return &e, nil
}

// newEngine returns an engine without a policy.
func newEngine(cfg Config) Engine {
	n := len(cfg.Tables.models)
	e := Engine{cfg: cfg, t: cfg.Tables, active: make([]int32, n), own: FirstOwnJob, slow: 1,
		doomed: map[int64]string{}}
	e.state.Recent = make([]uint16, n)
	for range e.t.accs {
		e.state.Accelerators = append(e.state.Accelerators, Occupancy{Job: Idle})
		if len(e.t.system.Devices) > 0 {
			e.state.Tails = append(e.state.Tails, Tail{Occupancy: Occupancy{Job: Idle}})
		}
	}
	return e
}

// setPolicy makes the policy decide from now on.
func (e *Engine) setPolicy(p Policy) {
	e.policy = p
	e.observer, _ = p.(Observer)
}

// Policy is what the engine decides by.
func (e *Engine) Policy() Policy { return e.policy }

// State is the engine's state, to read until the next Step.
func (e *Engine) State() *State { return &e.state }

// Active is how many jobs are released and have not ended.
func (e *Engine) Active() int { return len(e.state.Jobs) }

// Step takes one event and returns what to start now. The slice is valid until the next call. An event that contradicts
// the state (time going back, a completion on an idle accelerator) is a broken invariant of the driver and panics.
func (e *Engine) Step(ev Event) []Dispatch {
	if ev.At < e.state.Now {
		broken("event at %v after one at %v", ev.At, e.state.Now)
	}
	if ev.Accelerator < 0 || ev.Accelerator >= e.t.accs {
		broken("no accelerator %d", ev.Accelerator)
	}
	e.state.Now, e.event = ev.At, ev.Kind
	switch ev.Kind {
	case Release:
		e.release(&ev)
	case Complete:
		e.complete(&ev)
	case Fail:
		e.fail(&ev)
	case AcceleratorDown, AcceleratorUp:
		e.service(&ev)
	case Requeue:
		e.requeue(&ev)
	case Ending:
		e.ending(&ev)
	case Stop:
		e.stopped = true
		e.record(Record{Kind: Stopped, Accelerator: Idle})
	case Searched:
		e.searched(&ev)
	default:
		broken("event kind %d does not exist", ev.Kind)
	}
	e.releaseOwn()
	e.drop()
	if len(e.state.Jobs) == 0 && ev.Kind != Release {
		e.releaseOwn()
	}
	e.dispatch()
	e.invariants.check(e)
	return e.dispatches
}

// releaseOwn releases what the event caused. What is dropped later in the same step comes back, in a closed loop, with
// the next event, so that a job without hope cannot keep the step from ending; at once if no job is left to bring it.
func (e *Engine) releaseOwn() {
	for _, m := range e.due {
		if e.stopped || (e.cfg.Until > 0 && e.state.Now >= e.cfg.Until) {
			break
		}
		e.admit(Job{ID: e.own, Model: m, On: Idle, At: Idle, Release: e.state.Now,
			Deadline: e.state.Now + e.t.models[m].deadline, Ready: e.state.Now})
		e.own++
	}
	e.due = e.due[:0]
}

func (e *Engine) release(ev *Event) {
	if ev.Model < 0 || ev.Model >= len(e.t.models) {
		broken("release of model %d", ev.Model)
	}
	if ev.Job < 0 || e.state.find(ev.Job) >= 0 {
		broken("job %d released twice", ev.Job)
	}
	if ev.Deadline == 0 {
		ev.Deadline = ev.Start + e.t.models[ev.Model].deadline
	}
	if ev.Job >= FirstOwnJob {
		broken("job %d is released from outside, IDs from %d are the engine's", ev.Job, FirstOwnJob)
	}
	e.admit(Job{ID: ev.Job, Model: int32(ev.Model), On: Idle, At: Idle,
		Release: ev.Start, Deadline: ev.Deadline, Ready: ev.At})
}

// admit takes a new job in, or drops it where the queue is full.
func (e *Engine) admit(j Job) {
	e.record(Record{Kind: Released, Model: j.Model, Job: j.ID, Accelerator: Idle, Start: j.Release, Until: j.Deadline})
	if int(e.active[j.Model]) >= e.cfg.Queue {
		e.outcome(&j, Dropped, DropReasonQueueFull)
		return
	}
	e.active[j.Model]++
	e.overdue = min(e.overdue, j.Deadline)
	e.state.Jobs = append(e.state.Jobs, j)
}

func (e *Engine) complete(ev *Event) {
	i, t := e.finish(ev.Accelerator)
	if e.cfg.Recorder != nil {
		e.record(Record{Kind: Completed, Model: t.Model, Job: t.Job, Layer: t.Layer,
			Implementation: t.Implementation, Accelerator: int32(ev.Accelerator), Start: ev.Start})
	}
	if e.adapt != nil {
		if len(e.state.Tails) > 0 { // without what waking cost
			ev.Start = min(ev.At, max(ev.Start, t.Started))
		}
		e.adapt.observe(t, ev.Accelerator, ev.At-ev.Start)
	}
	if e.observer != nil {
		e.observer.Completed(t.Free-t.Started, max(0, ev.At-t.Started))
	}
	if fell := len(e.doomed) > 0 && e.fall(i); t.Last && !fell {
		e.completed(i, ev.Accelerator)
	}
}

// completed moves the job at index i on from the layer that accelerator k ran.
func (e *Engine) completed(i, k int) {
	j := &e.state.Jobs[i]
	m := &e.t.models[j.Model]
	j.On, j.At, j.Ready = Idle, int32(k), e.state.Now
	j.Layer++
	if int(j.Layer) < m.layers {
		return
	}
	for _, tr := range m.triggers {
		if tr.probability == 1 || draw(e.cfg.Seed, j.ID, tr.model) < tr.probability {
			e.due = append(e.due, int32(tr.model))
		}
	}
	if e.state.Now > j.Deadline {
		e.end(i, Late, "")
	} else {
		e.end(i, Met, "")
	}
}

func (e *Engine) fail(ev *Event) {
	if i, t := e.finish(ev.Accelerator); t.Last {
		e.end(i, Failed, ev.Detail)
	} else {
		e.failBehind(i, t, ev)
	}
}

// vacate makes an accelerator idle.
func (e *Engine) vacate(k int) {
	e.state.Accelerators[k] = Occupancy{Job: Idle, Down: e.state.Accelerators[k].Down}
	if len(e.state.Tails) > 0 {
		e.state.Tails[k].Ended = e.state.Now
	}
}

// requeue keeps the tensors where the layer before left them, and a variant that the failed attempt used as used.
func (e *Engine) requeue(ev *Event) {
	i, t := e.finish(ev.Accelerator)
	if !t.Last {
		broken("job %d is to wait for layer %d again, and has moved on", t.Job, t.Layer)
	}
	e.record(Record{Kind: Requeued, Model: t.Model, Job: t.Job, Layer: t.Layer, Accelerator: int32(ev.Accelerator),
		Implementation: t.Implementation, Detail: ev.Detail})
	e.state.Jobs[i].On, e.state.Jobs[i].Ready = Idle, ev.At
	e.fall(i)
}

// searched tells the policy what a search found.
func (e *Engine) searched(ev *Event) {
	p, ok := e.policy.(Searcher)
	if !ok {
		broken("a search ended of a policy that does not search")
	}
	p.Searched(ev.Found, ev.At-ev.Start)
	e.record(Record{Kind: RuleFound, Accelerator: Idle, Implementation: int32(ev.Found), Start: ev.Start})
}

func (e *Engine) service(ev *Event) {
	kind, a := Up, &e.state.Accelerators[ev.Accelerator]
	if a.Down = ev.Kind == AcceleratorDown; a.Down {
		kind = Down
	}
	e.record(Record{Kind: kind, Accelerator: int32(ev.Accelerator), Detail: ev.Detail})
}

func (e *Engine) dispatch() {
	if len(e.state.Tails) > 0 {
		e.wake()
	}
	e.choices = e.policy.Select(&e.state, e.choices[:0])
	e.dispatches = e.dispatches[:0]
	for i := range e.choices {
		c := &e.choices[i]
		e.occupy(c)
		if e.ended == nil {
			e.dispatched(c)
		}
	}
}

// occupy applies one choice of the policy, which has to keep the contract of Policy.Select.
func (e *Engine) occupy(c *Choice) {
	j := &e.state.Jobs[c.Job]
	m := &e.t.models[j.Model]
	k := int(c.Accelerator)
	if !j.Waiting() {
		broken("policy dispatched job %d, which runs on accelerator %d", j.ID, j.On)
	}
	if !e.state.Idle(k) {
		broken("policy dispatched to accelerator %d, which is not idle", k)
	}
	if c.Implementation < 0 || c.Implementation >= m.Implementations(j.Layer) {
		broken("layer %d of model %d has no implementation %d", j.Layer, j.Model, c.Implementation)
	}
	variant := m.Variant(j.Layer, c.Implementation)
	if !m.Allowed(j.Used, variant) {
		broken("variants %#x with %#x are not a valid set of model %d", j.Used, variant, j.Model)
	}
	cost := m.Cost(j, c.Implementation, k)
	if cost >= Never {
		broken("implementation %d of layer %d of model %d does not run on accelerator %d",
			c.Implementation, j.Layer, j.Model, k)
	}
	if e.slow != 1 {
		cost = time.Duration(e.slow * float64(cost))
	}
	j.On = c.Accelerator
	j.Used |= variant
	a := &e.state.Accelerators[k]
	start := max(e.state.Now, a.Free, j.Ready)
	a.Job, a.Free, a.Implementation, a.Started = j.ID, start+cost, c.Implementation, start
}

// dispatched tells the driver of a choice that was applied.
func (e *Engine) dispatched(c *Choice) {
	j := &e.state.Jobs[c.Job]
	a := &e.state.Accelerators[c.Accelerator]
	if e.cfg.Recorder != nil {
		start := a.Started
		if start == e.state.Now {
			start = 0
		}
		e.record(Record{Kind: Dispatched, Model: j.Model, Job: j.ID, Layer: j.Layer, Implementation: c.Implementation,
			Accelerator: c.Accelerator, Start: start, Until: a.Free, Reason: c.Reason})
	}
	e.dispatches = append(e.dispatches, Dispatch{Job: j.ID, Model: int(j.Model), Layer: int(j.Layer), From: int(j.At),
		Implementation: int(c.Implementation), Accelerator: int(c.Accelerator), Start: a.Started, Finish: a.Free,
		Reason: c.Reason})
}

// end removes the job at index i with its outcome.
func (e *Engine) end(i int, o Outcome, detail string) {
	j := e.state.Jobs[i]
	e.state.Jobs = append(e.state.Jobs[:i], e.state.Jobs[i+1:]...) // in order of arrival
	if len(e.doomed) > 0 {
		delete(e.doomed, j.ID)
	}
	e.active[j.Model]--
	e.outcome(&j, o, detail)
}

func (e *Engine) outcome(j *Job, o Outcome, detail string) {
	recent := &e.state.Recent[j.Model]
	if *recent = *recent << 1 & (1<<recentJobs - 1); o == Dropped {
		*recent |= 1
	}
	if e.cfg.ClosedLoop && e.t.system.Models[j.Model].Trigger == nil && detail != DropReasonQueueFull {
		e.due = append(e.due, j.Model)
	}
	switch {
	case e.ended != nil:
		e.ended(*j, o, e.state.Now)
	case e.observer != nil:
		e.observer.Ended(*j, o, e.state.Now)
	}
	e.record(Record{Kind: Ended, Outcome: o, Model: j.Model, Job: j.ID, Layer: j.Layer, Accelerator: j.On,
		Start: j.Release, Until: j.Deadline, Detail: detail})
}

// draw is a number from 0 up to 1 that depends on its arguments only (SplitMix64's finaliser over their mixture).
func draw(seed uint64, job int64, model int) float64 {
	x := seed ^ uint64(job)*0x9e3779b97f4a7c15 ^ uint64(model+1)*0xbf58476d1ce4e5b9
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return float64((x^x>>31)>>11) / (1 << 53)
}

func (e *Engine) record(r Record) {
	if e.cfg.Recorder != nil {
		r.At = e.state.Now
		e.cfg.Recorder.Record(r)
	}
}

// broken panics: an invariant is violated, which is a bug in a driver or a policy, never bad input. Callers test first,
// so that formatting costs nothing while the invariant holds.
func broken(format string, args ...any) {
	panic("sched: " + fmt.Sprintf(format, args...))
}

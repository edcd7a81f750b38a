package sched

import (
	"fmt"
	"strings"
	"time"
)

// DropPolicy says when the engine gives up a waiting job.
type DropPolicy uint8

const (
	// DropNone never gives up: late jobs run to their end.
	DropNone DropPolicy = iota
	// DropLate drops a job that waits past its deadline.
	DropLate
	// DropHopeless drops a waiting job that would miss its deadline even if
	// every remaining layer started at once on its best accelerator.
	DropHopeless
	// DropSmart is DREAM's smart frame drop: a waiting job that would miss its
	// deadline even at its fastest is dropped when more than one job is
	// predicted to miss, nothing depends on its model, and fewer than 2 of the
	// model's last 10 jobs were dropped.
	DropSmart
)

var dropNames = [...]string{"none", "late", "hopeless", "smart"}

func (d DropPolicy) String() string { return dropNames[d] }

// ParseDrop reads "none", "late", "hopeless" or "smart".
func ParseDrop(s string) (DropPolicy, error) {
	for i, n := range dropNames {
		if s == n {
			return DropPolicy(i), nil
		}
	}
	return 0, fmt.Errorf("unknown drop policy %q, have %s", s, strings.Join(dropNames[:], ", "))
}

// Reasons of drops, as they appear in Record.Detail.
const (
	DropReasonLate      = "past its deadline"
	DropReasonHopeless  = "cannot meet its deadline"
	DropReasonQueueFull = "queue full"
	DropReasonStopped   = "run stopped"
	DropReasonSmart     = "smart drop"
)

// DefaultQueue is the default of Config.Queue.
const DefaultQueue = 64

// Config is what an Engine needs.
type Config struct {
	// Tables is the compiled system.
	Tables *Tables
	// Policy decides; it must not be shared with another engine.
	Policy Policy
	// Drop says when waiting jobs are given up. The zero value never does.
	Drop DropPolicy
	// Queue bounds the jobs of one model that are in the system at once; a
	// release beyond it is dropped. Zero means DefaultQueue.
	Queue int
	// Recorder receives every record; nil for none.
	Recorder Recorder
	// Seed draws whether a completion releases a dependent model's request,
	// where that has a probability below 1. The draw depends on the seed and
	// the parent's job only.
	Seed uint64
	// ClosedLoop releases a request of a model whenever one of it ends; models
	// with a trigger excepted, and requests that found the queue full.
	ClosedLoop bool
	// Until is the instant from which on the engine releases nothing by itself,
	// neither for triggers nor for the closed loop; zero means no such instant.
	Until time.Duration
	// Adapt corrects the tables' latencies towards what completions report, so
	// that predictions follow a machine that becomes slower or faster: a moving
	// average over about 16 runs, kept between half and four times the profile.
	// The tables are then changed: give the engine and its policy a Clone.
	Adapt bool
	// SearchShare is the share of all accelerators' time that a search beside
	// the engine takes from them while it runs: 0 on a spare core, 1/A where it
	// shares that of one of A accelerators. See Engine.SearchBeside.
	SearchShare float64
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

// searcher is a policy that searches beside the engine.
type searcher interface {
	takeOut() *Search
	prepare(state *State, s *Search) bool
	apply(f Found, age time.Duration)
}

// SearchBeside takes the policy's searches out of Step: from now on the driver
// runs them and steps the engine by what they find. It returns nil where the
// policy does not search, or only inside Step.
func (e *Engine) SearchBeside() *Search {
	if p, ok := e.cfg.Policy.(searcher); ok {
		return p.takeOut()
	}
	return nil
}

// Prepare makes the search ready to run from the engine's present state, and
// reports whether the policy wants it to run at all. The search has to be that
// of SearchBeside, and not running.
func (e *Engine) Prepare(s *Search) bool {
	return e.cfg.Policy.(searcher).prepare(&e.state, s)
}

// searched hands the policy what a search found.
func (e *Engine) searched(ev Event) {
	p, ok := e.cfg.Policy.(searcher)
	if !ok {
		broken("a search ended of a policy that does not search")
	}
	p.apply(ev.Found, ev.At-ev.Start)
	e.record(Record{Kind: RuleFound, Accelerator: Idle, Implementation: int32(ev.Found.Rule), Start: ev.Start})
}

// configured is a policy that wants to know the engine that it decides for.
type configured interface{ configure(cfg *Config) }

// EventKind is what an Event reports to the engine.
type EventKind uint8

const (
	// Release: a job of Model arrived.
	Release EventKind = iota
	// Complete: the layer on Accelerator ended.
	Complete
	// Fail: the layer on Accelerator failed; its job is failed with Detail.
	Fail
	// AcceleratorDown: Accelerator takes no more layers. Whatever runs there
	// has to be failed or completed on its own.
	AcceleratorDown
	// AcceleratorUp: Accelerator is back.
	AcceleratorUp
	// Stop: waiting jobs are dropped, running ones after their layer, and so is
	// every later release.
	Stop
	// Searched: the search that began at Start with the state of that instant
	// came to Found.
	Searched
	// Requeue: the layer on Accelerator failed with Detail, and its job waits
	// for the same layer again.
	Requeue
)

// Event is one input of the engine.
type Event struct {
	Kind EventKind
	// At is when it happened; events never go back in time.
	At time.Duration
	// Job and Model name the job of a Release; job IDs must be unique and not
	// negative.
	Job   int64
	Model int
	// Start is, for a Release, the scheduled release from which the deadline
	// counts; for a Complete, when the layer really began.
	Start time.Duration
	// Deadline is the absolute deadline of a Release; zero means Start plus the
	// model's.
	Deadline time.Duration
	// Accelerator is the one a Complete, Fail, Requeue, AcceleratorDown or
	// AcceleratorUp is about.
	Accelerator int
	// Detail is the reason of a Fail, Requeue or AcceleratorDown.
	Detail string
	// Found is what a Searched is about.
	Found Found
}

// Dispatch tells the driver to start a layer now.
type Dispatch struct {
	Job            int64
	Model          int
	Layer          int
	Implementation int
	Accelerator    int
	// From is the accelerator that ran the job's layer before, or Idle.
	From int
	// Finish is the predicted end: handoff and latency from now.
	Finish time.Duration
	Reason Reason
}

// Engine is the state machine. It is not safe for concurrent use.
type Engine struct {
	invariants invariants
	cfg        Config
	dropper    dropper // the policy, if it is one
	watcher    watcher // the same
	pacer      pacer   // the same
	judge      judge   // nil but in rollouts
	slow       float64 // in rollouts, how much longer layers take than the tables say; 0 in others
	t          *Tables
	state      State
	active     []int32       // jobs in the system, by model
	overdue    time.Duration // no job's deadline is before it
	stopped    bool
	event      EventKind // of the current step
	own        int64     // ID of the next job of its own
	due        []release // own releases that this step causes
	adapt      *adaptation
	choices    []Choice
	dispatches []Dispatch
}

// release is a job that the engine releases by itself.
type release struct{ model int }

// New returns an engine at time zero with all accelerators idle.
func New(cfg Config) (*Engine, error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("engine: %w", err)
	}
	if cfg.Queue == 0 {
		cfg.Queue = DefaultQueue
	}
	if p, ok := cfg.Policy.(configured); ok {
		p.configure(&cfg)
	}
	e := &Engine{cfg: cfg, t: cfg.Tables, active: make([]int32, len(cfg.Tables.models)), own: FirstOwnJob}
	e.setPolicy(cfg.Policy)
	e.state.Recent = make([]uint16, len(e.t.models))
	if cfg.Adapt {
		e.adapt = newAdaptation(e.t)
	}
	for range e.t.accs {
		e.state.Accelerators = append(e.state.Accelerators, Occupancy{Job: Idle})
	}
	return e, nil
}

// pacer is a policy that wants to know how long layers take.
type pacer interface {
	paced(predicted, took time.Duration)
}

// setPolicy makes the policy decide from now on.
func (e *Engine) setPolicy(p Policy) {
	e.cfg.Policy = p
	e.dropper, _ = p.(dropper)
	e.watcher, _ = p.(watcher)
	e.pacer, _ = p.(pacer)
}

// CopyFrom makes the engine go on as o does, an engine of the same system and
// configuration. What policies have learned is not copied. It allocates nothing
// once the engine has had as many jobs.
func (e *Engine) CopyFrom(o *Engine) {
	e.adopt(&o.state)
	e.own, e.stopped = o.own, o.stopped
	e.due = append(e.due[:0], o.due...)
	e.invariants.resume()
}

// adopt makes the engine's state equal to s, as if it had come there by events.
func (e *Engine) adopt(s *State) {
	e.state.CopyFrom(s)
	clear(e.active)
	e.own, e.due, e.stopped, e.overdue = rolledJobs, e.due[:0], false, never
	for i := range s.Jobs {
		j := &s.Jobs[i]
		e.active[j.Model]++
		e.own = max(e.own, j.ID+1)
		e.overdue = min(e.overdue, j.Deadline)
	}
	e.invariants.adopt(s)
}

// Active is how many jobs are released and have not ended.
func (e *Engine) Active() int { return len(e.state.Jobs) }

// Step takes one event and returns what to start now. The slice is valid until
// the next call. An event that contradicts the state (time going back, a
// completion on an idle accelerator) is a broken invariant of the driver and
// panics.
func (e *Engine) Step(ev Event) []Dispatch {
	if ev.At < e.state.Now {
		broken("event at %v after one at %v", ev.At, e.state.Now)
	}
	e.state.Now, e.event = ev.At, ev.Kind
	switch ev.Kind {
	case Release:
		e.release(ev)
	case Complete:
		e.complete(ev)
	case Fail:
		e.fail(ev)
	case AcceleratorDown, AcceleratorUp:
		e.service(ev)
	case Requeue:
		e.requeue(ev)
	case Stop:
		e.stopped = true
		e.record(Record{Kind: Stopped, Accelerator: Idle})
	case Searched:
		e.searched(ev)
	default:
		broken("event kind %d does not exist", ev.Kind)
	}
	e.releaseOwn()
	e.drop()
	e.dispatch()
	e.invariants.check(e)
	return e.dispatches
}

// rolled goes on after an event that was applied already, without records: what
// rollouts do, which keep the engine's contract.
func (e *Engine) rolled(at time.Duration) {
	e.state.Now = at
	if len(e.due) > 0 {
		e.releaseOwn()
	}
	e.drop()
	e.dispatch()
}

// releaseOwn releases what the event caused. What is dropped later in the same
// step comes back, in a closed loop, with the next event, so that a job without
// hope cannot keep the step from ending.
func (e *Engine) releaseOwn() {
	for _, r := range e.due {
		if e.stopped || (e.cfg.Until > 0 && e.state.Now >= e.cfg.Until) {
			break
		}
		e.admit(Job{ID: e.own, Model: int32(r.model), On: Idle, At: Idle, Release: e.state.Now,
			Deadline: e.state.Now + e.t.models[r.model].deadline, Ready: e.state.Now})
		e.own++
	}
	e.due = e.due[:0]
}

func (e *Engine) release(ev Event) {
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

// running returns the index of the job on the event's accelerator.
func (e *Engine) running(ev Event) int {
	if ev.Accelerator < 0 || ev.Accelerator >= e.t.accs {
		broken("no accelerator %d", ev.Accelerator)
	}
	a := &e.state.Accelerators[ev.Accelerator]
	if a.Job == Idle {
		broken("accelerator %d ended a layer but runs none", ev.Accelerator)
	}
	i := e.state.find(a.Job)
	if i < 0 {
		broken("accelerator %d runs unknown job %d", ev.Accelerator, a.Job)
	}
	return i
}

func (e *Engine) complete(ev Event) {
	i := e.running(ev)
	a := &e.state.Accelerators[ev.Accelerator]
	j := &e.state.Jobs[i]
	m := &e.t.models[j.Model]
	if e.cfg.Recorder != nil {
		e.record(Record{Kind: Completed, Model: j.Model, Job: j.ID, Layer: j.Layer,
			Implementation: a.Row - m.row[j.Layer], Accelerator: int32(ev.Accelerator), Start: ev.Start})
	}
	if e.adapt != nil {
		e.adapt.observe(j, int(a.Row), ev.Accelerator, ev.At-ev.Start)
	}
	if e.pacer != nil {
		e.pacer.paced(a.Free-a.Started, ev.At-a.Started)
	}
	e.completed(i, ev.Accelerator)
}

// completed moves the job at index i on from the layer that accelerator k ran.
func (e *Engine) completed(i, k int) {
	j := &e.state.Jobs[i]
	m := &e.t.models[j.Model]
	a := &e.state.Accelerators[k]
	a.Job, a.Free, a.Row, a.Started = Idle, 0, 0, 0
	j.On, j.At, j.Ready = Idle, int32(k), e.state.Now
	j.Layer++
	if int(j.Layer) < m.layers {
		return
	}
	for _, tr := range m.triggers {
		if tr.probability == 1 || draw(e.cfg.Seed, j.ID, tr.model) < tr.probability {
			e.due = append(e.due, release{tr.model})
		}
	}
	if e.state.Now <= j.Deadline {
		e.end(i, Met, "")
	} else {
		e.end(i, Late, "")
	}
}

func (e *Engine) fail(ev Event) {
	i := e.running(ev)
	a := &e.state.Accelerators[ev.Accelerator]
	*a = Occupancy{Job: Idle, Down: a.Down}
	e.end(i, Failed, ev.Detail)
}

// requeue keeps the tensors where the layer before left them, and a variant
// that the failed attempt used counted as used.
func (e *Engine) requeue(ev Event) {
	i := e.running(ev)
	a := &e.state.Accelerators[ev.Accelerator]
	j := &e.state.Jobs[i]
	e.record(Record{Kind: Requeued, Model: j.Model, Job: j.ID, Layer: j.Layer,
		Implementation: a.Row - e.t.models[j.Model].row[j.Layer], Accelerator: int32(ev.Accelerator), Detail: ev.Detail})
	*a = Occupancy{Job: Idle, Down: a.Down}
	j.On, j.Ready = Idle, ev.At
}

func (e *Engine) service(ev Event) {
	if ev.Accelerator < 0 || ev.Accelerator >= e.t.accs {
		broken("no accelerator %d", ev.Accelerator)
	}
	down := ev.Kind == AcceleratorDown
	kind := Up
	if down {
		kind = Down
	}
	e.state.Accelerators[ev.Accelerator].Down = down
	e.record(Record{Kind: kind, Accelerator: int32(ev.Accelerator), Detail: ev.Detail})
}

// dropper is a policy that gives up jobs by a rule of its own, beside the
// engine's drop policy.
type dropper interface {
	// drops reports whether the waiting job at this index is to be dropped.
	drops(s *State, job int) bool
}

// drop gives up the waiting jobs that the drop policy, the scheduling policy or
// a stop says to.
func (e *Engine) drop() {
	own := e.dropper
	if !e.stopped && own == nil && (e.cfg.Drop == DropNone || e.cfg.Drop == DropLate && e.state.Now <= e.overdue) {
		return
	}
	e.overdue = never
	for i := 0; i < len(e.state.Jobs); {
		reason := ""
		if e.state.Jobs[i].Waiting() {
			reason = e.dropReason(i, own)
		}
		if reason == "" {
			e.overdue = min(e.overdue, e.state.Jobs[i].Deadline)
			i++
			continue
		}
		e.end(i, Dropped, reason)
	}
}

// dropReason says why the waiting job at index i is to be dropped; empty if it
// is not.
func (e *Engine) dropReason(i int, own dropper) string {
	j := &e.state.Jobs[i]
	switch {
	case e.stopped:
		return DropReasonStopped
	case e.cfg.Drop == DropLate && e.state.Now > j.Deadline:
		return DropReasonLate
	case e.cfg.Drop == DropHopeless && e.state.Now+e.t.models[j.Model].best[j.Layer] > j.Deadline:
		return DropReasonHopeless
	case own != nil && own.drops(&e.state, i), e.cfg.Drop == DropSmart && smartDrop(e.t, &e.state, i):
		return DropReasonSmart
	}
	return ""
}

func (e *Engine) dispatch() {
	e.choices = e.cfg.Policy.Select(&e.state, e.choices[:0])
	e.dispatches = e.dispatches[:0]
	for i := range e.choices {
		c := &e.choices[i]
		e.occupy(c)
		if e.judge == nil {
			e.dispatches = append(e.dispatches, e.dispatched(c))
		}
	}
}

// occupy applies one choice of the policy, which has to keep the contract of
// Policy.Select.
func (e *Engine) occupy(c *Choice) {
	j := &e.state.Jobs[c.Job]
	m := &e.t.models[j.Model]
	k := int(c.Accelerator)
	row := m.row[j.Layer] + c.Implementation
	if !j.Waiting() {
		broken("policy dispatched job %d, which runs on accelerator %d", j.ID, j.On)
	}
	if !e.state.idle(k) {
		broken("policy dispatched to accelerator %d, which is not idle", k)
	}
	if c.Implementation < 0 || row >= m.row[j.Layer+1] {
		broken("layer %d of model %d has no implementation %d", j.Layer, j.Model, c.Implementation)
	}
	if !m.allowed(j.Used, m.bit[row]) {
		broken("variants %#x with %#x are not a valid set of model %d", j.Used, m.bit[row], j.Model)
	}
	cost := e.t.cost(m, j, int(row), k)
	if cost >= never {
		broken("implementation %d of layer %d of model %d does not run on accelerator %d", c.Implementation, j.Layer, j.Model, k)
	}
	if e.slow > 0 {
		cost = time.Duration(e.slow * float64(cost))
	}
	j.On = c.Accelerator
	j.Used |= m.bit[row]
	a := &e.state.Accelerators[k]
	a.Job, a.Free, a.Row, a.Started = j.ID, e.state.Now+cost, row, e.state.Now
}

// dispatched is what the driver is told of a choice that was applied.
func (e *Engine) dispatched(c *Choice) Dispatch {
	j := &e.state.Jobs[c.Job]
	finish := e.state.Accelerators[c.Accelerator].Free
	e.record(Record{Kind: Dispatched, Model: j.Model, Job: j.ID, Layer: j.Layer, Implementation: c.Implementation,
		Accelerator: c.Accelerator, Until: finish, Reason: c.Reason})
	return Dispatch{Job: j.ID, Model: int(j.Model), Layer: int(j.Layer), Implementation: int(c.Implementation),
		Accelerator: int(c.Accelerator), From: int(j.At), Finish: finish, Reason: c.Reason}
}

// end removes the job at index i with its outcome.
func (e *Engine) end(i int, o Outcome, detail string) {
	j := e.state.Jobs[i]
	e.state.remove(i)
	e.active[j.Model]--
	e.outcome(&j, o, detail)
}

func (e *Engine) outcome(j *Job, o Outcome, detail string) {
	recent := &e.state.Recent[j.Model]
	*recent = (*recent<<1 | b2u(o == Dropped)) & (1<<recentJobs - 1)
	if e.cfg.ClosedLoop && e.t.system.Models[j.Model].Trigger == nil && detail != DropReasonQueueFull {
		e.due = append(e.due, release{int(j.Model)})
	}
	if e.watcher != nil {
		e.watcher.ended(*j, o, e.state.Now)
	}
	if e.judge != nil {
		e.judge.judge(*j, o, e.state.Now)
	}
	if e.cfg.Recorder == nil {
		return
	}
	e.record(Record{Kind: Ended, Outcome: o, Model: j.Model, Job: j.ID, Layer: j.Layer, Accelerator: j.On,
		Start: j.Release, Until: j.Deadline, Detail: detail})
}

// watcher is a policy that learns from how jobs end.
type watcher interface {
	ended(j Job, o Outcome, at time.Duration)
}

func b2u(b bool) uint16 {
	if b {
		return 1
	}
	return 0
}

// draw is a number from 0 up to 1 that depends on its arguments only
// (SplitMix64's finaliser over their mixture).
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

// broken panics: an invariant is violated, which is a bug in a driver or a
// policy, never bad input. Callers test first, so that formatting costs nothing
// while the invariant holds.
func broken(format string, args ...any) {
	panic("sched: " + fmt.Sprintf(format, args...))
}

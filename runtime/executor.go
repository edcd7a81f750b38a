package runtime

import (
	"context"
	"errors"
	"fmt"
	goruntime "runtime"
	"slices"
	"sync"
	"time"

	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/eventlog"
)

// inputSets is how many different inputs each model's requests cycle through.
const inputSets = 4

// Executor runs traffic on real accelerators.
type Executor struct {
	tables   *sched.Tables
	accs     []Accelerator
	programs []*Program
	inputs   [][][]*Tensor // by model, set and model input
	free     [][]*Slot     // by model: slots no request uses
}

// NewExecutor checks that the programs fit the system the tables were compiled
// from: same models, layers and implementations, prepared on the same
// accelerators, wherever the tables say they run. seed determines the requests'
// input data.
func NewExecutor(t *sched.Tables, accs []Accelerator, programs []*Program, seed uint64) (*Executor, error) {
	e := &Executor{tables: t, accs: accs, programs: programs, free: make([][]*Slot, len(programs))}
	if err := e.check(); err != nil {
		return nil, fmt.Errorf("executor: %w", err)
	}
	for m, p := range programs {
		var sets [][]*Tensor
		for n := range inputSets {
			set, err := p.Network.Inputs(seed + uint64(n))
			if err != nil {
				e.Close()
				return nil, fmt.Errorf("executor: %w", err)
			}
			sets = append(sets, set)
		}
		e.inputs = append(e.inputs, sets)
		slot, err := p.NewSlot()
		if err != nil {
			e.Close()
			return nil, fmt.Errorf("executor: %w", err)
		}
		e.free[m] = append(e.free[m], slot)
	}
	return e, nil
}

func (e *Executor) check() error {
	sys := e.tables.System()
	if len(sys.Accelerators) != len(e.accs) || len(sys.Models) != len(e.programs) {
		return fmt.Errorf("the system has %d accelerators and %d models, %d and %d are loaded",
			len(sys.Accelerators), len(sys.Models), len(e.accs), len(e.programs))
	}
	for k, a := range e.accs {
		if a.Name() != sys.Accelerators[k] {
			return fmt.Errorf("accelerator %d is %q in the system, %q is loaded", k, sys.Accelerators[k], a.Name())
		}
	}
	for m, p := range e.programs {
		model := &sys.Models[m]
		if len(model.Layers) != len(p.Network.Layers) {
			return fmt.Errorf("model %q has %d layers in the system, %d are loaded", model.Name, len(model.Layers), len(p.Network.Layers))
		}
		for l, layer := range model.Layers {
			if len(layer.Implementations) > p.Implementations(l) {
				return fmt.Errorf("model %q layer %q has %d implementations in the system, %d are loaded",
					model.Name, layer.Name, len(layer.Implementations), p.Implementations(l))
			}
			for i, im := range layer.Implementations {
				for k, c := range im.Latency {
					if c != sched.Unavailable && !p.Runs(l, i, k) {
						return fmt.Errorf("model %q layer %q is to run on %q, which refused it: %w", model.Name, layer.Name, e.accs[k].Name(), p.Refused[l][i][k])
					}
				}
			}
		}
	}
	return nil
}

// Close frees the executor's tensors; programs and accelerators stay the
// caller's.
func (e *Executor) Close() {
	for _, slots := range e.free {
		for _, s := range slots {
			s.Close()
		}
	}
	for _, sets := range e.inputs {
		for _, set := range sets {
			for _, t := range set {
				t.Close()
			}
		}
	}
	e.free, e.inputs = nil, nil
}

// Options describe one run.
type Options struct {
	Policy string
	Drop   sched.DropPolicy
	Queue  int // see sched.Config
	// Adapt corrects predictions while running; see sched.Config.
	Adapt bool
	// Traffic is played from its first arrival to its last.
	Traffic sched.Traffic
	// Samples is how many finished requests of each model keep their outputs
	// for verification, spread over the run.
	Samples int
	// Spin makes the release goroutine spin for the last millisecond before a
	// release. It needs a core that no accelerator uses.
	Spin bool
	// Progress, if not nil, is called now and then with the time since the
	// start.
	Progress func(time.Duration)
}

// Sample is a request whose outputs were kept.
type Sample struct {
	Model   int
	Job     int64
	Input   int      // index of its input set
	Outputs [][]byte // by model output
	Ran     []Ran    // by layer
}

// variants reports whether a layer was not computed by its original.
func (s *Sample) variants() bool {
	return slices.ContainsFunc(s.Ran, func(r Ran) bool { return r.Implementation > 0 })
}

// Result is what a run gave.
type Result struct {
	Log *eventlog.Log
	// Decisions are the durations of all engine steps.
	Decisions []time.Duration
	Samples   []Sample
	// Interrupted is true when the context ended the run early.
	Interrupted bool
}

// Run plays the traffic under the policy until every job has its outcome.
// When ctx ends first, running layers finish, everything else is dropped, and
// the result is complete all the same.
func (e *Executor) Run(ctx context.Context, o Options) (*Result, error) {
	arrivals, err := o.Traffic.Arrivals()
	if err != nil {
		return nil, err
	}
	tables := e.tables
	if o.Adapt {
		tables = tables.Clone()
	}
	policy, err := sched.NewPolicy(o.Policy, tables)
	if err != nil {
		return nil, err
	}
	closed := o.Traffic.Process == sched.ClosedLoop
	r := &run{Executor: e, opts: o, arrivals: arrivals, mail: make([]chan sched.Dispatch, len(e.accs)),
		records: make(eventlog.Buffer, 0, e.expectedRecords(arrivals)), steps: make([]time.Duration, 0, e.expectedRecords(arrivals)),
		slots: map[int64]*Slot{}, done: make(chan struct{})}
	r.engine, err = sched.New(sched.Config{Tables: tables, Policy: policy, Drop: o.Drop, Queue: o.Queue, Recorder: r,
		Seed: o.Traffic.Seed, Adapt: o.Adapt, ClosedLoop: closed, Until: o.Traffic.Duration})
	if err != nil {
		return nil, err
	}
	r.planSamples()
	if err := r.play(ctx); err != nil {
		return nil, err
	}
	queue := o.Queue
	if queue == 0 {
		queue = sched.DefaultQueue
	}
	log := &eventlog.Log{Records: r.records, Header: eventlog.Header{Driver: eventlog.Real, Policy: o.Policy, Drop: o.Drop.String(),
		Queue: queue, Seed: o.Traffic.Seed, Adapt: o.Adapt, ClosedLoop: closed, Until: o.Traffic.Duration, System: *e.tables.System(), Rates: o.Traffic.Rates, Duration: o.Traffic.Duration}}
	return &Result{Log: log, Decisions: r.steps, Samples: r.samples, Interrupted: ctx.Err() != nil}, nil
}

// expectedRecords is how many records the run will write, up to a bound on what
// is set aside at once: two per layer and two per job.
func (e *Executor) expectedRecords(arrivals []sched.Arrival) int {
	const most = 1 << 19
	n := 0
	for _, a := range arrivals {
		if n += 2 * (1 + len(e.programs[a.Model].Network.Layers)); n > most {
			return most
		}
	}
	return n
}

// run is the state of one Executor.Run. The mutex guards everything below it;
// what is above is set before the workers start.
type run struct {
	*Executor
	opts     Options
	arrivals []sched.Arrival
	start    time.Time
	mail     []chan sched.Dispatch // by accelerator: its next layer
	done     chan struct{}         // closed when everything is over

	mu      sync.Mutex
	next    int // the first arrival that has not been released
	engine  *sched.Engine
	now     time.Duration // of the last event
	records eventlog.Buffer
	steps   []time.Duration
	slots   map[int64]*Slot // by job that has started
	running int
	over    bool
	samples []Sample
	// sampleFrom holds, by model, the jobs from which on samples are yet due.
	sampleFrom [][]int64
}

// Record keeps a record and frees the tensors of a job that ended.
func (r *run) Record(rec sched.Record) {
	r.records.Record(rec)
	if rec.Kind != sched.Ended {
		return
	}
	if s := r.slots[rec.Job]; s != nil {
		delete(r.slots, rec.Job)
		r.free[rec.Model] = append(r.free[rec.Model], s)
	}
}

// planSamples spreads the requests whose outputs are kept over each model's
// jobs: from each of these on, the first that gets to its end is kept.
func (r *run) planSamples() {
	byModel := make([][]int64, len(r.programs))
	for i, a := range r.arrivals {
		byModel[a.Model] = append(byModel[a.Model], int64(i))
	}
	r.sampleFrom = make([][]int64, len(r.programs))
	for m, jobs := range byModel {
		// A closed loop and triggers release more jobs than the arrivals tell;
		// any of them will do.
		for n := range r.opts.Samples {
			from := int64(0)
			if len(jobs) > 0 {
				from = jobs[n*len(jobs)/r.opts.Samples]
			}
			r.sampleFrom[m] = append(r.sampleFrom[m], from)
		}
	}
}

// sampled decides whether the outputs of a layer are kept, which those of a
// model's last layer are when it is time for the next sample.
func (r *run) sampled(d sched.Dispatch) bool {
	from := r.sampleFrom[d.Model]
	if d.Layer != len(r.programs[d.Model].Network.Layers)-1 || len(from) == 0 || d.Job < from[0] {
		return false
	}
	r.sampleFrom[d.Model] = from[1:]
	return true
}

// play runs workers and releases to the end.
func (r *run) play(ctx context.Context) error {
	ready := make(chan error, len(r.accs))
	var workers sync.WaitGroup
	for k := range r.accs {
		r.mail[k] = make(chan sched.Dispatch, 1)
		workers.Go(func() { r.work(k, ready) })
	}
	var failed error
	for range r.accs {
		failed = errors.Join(failed, <-ready)
	}
	// Releases start only when every worker stands; workers touch start only
	// after their first dispatch, which is sent after this.
	r.start = time.Now()
	if failed == nil {
		r.release(ctx)
		<-r.done
	}
	for _, m := range r.mail {
		close(m)
	}
	workers.Wait()
	return failed
}

func (r *run) since() time.Duration { return time.Since(r.start) }

// release wakes up for every arrival and issues what is due, or a stop when ctx
// ends.
func (r *run) release(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for i, a := range r.arrivals {
		if !r.wait(ctx, timer, a.At) {
			break
		}
		r.releaseDue()
		if r.opts.Progress != nil && i%16 == 0 {
			r.opts.Progress(a.At)
		}
	}
	if ctx.Err() == nil {
		select {
		case <-r.done:
			return
		case <-ctx.Done():
		}
	}
	r.stop()
}

// releaseDue issues the arrivals whose time has come, if a worker has not done
// so already.
func (r *run) releaseDue() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.due(r.since())
	r.settle()
}

// stop ends the run early.
func (r *run) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.next = len(r.arrivals)
	if !r.over {
		r.step(sched.Event{Kind: sched.Stop, At: r.since()}, sched.Idle)
	}
	r.settle()
}

// due releases every arrival up to now. Workers call it too before they report
// a completion: when no core is free for the release goroutine, releases are
// noticed at the end of a layer, which is when the policy can act on them.
func (r *run) due(now time.Duration) {
	for ; r.next < len(r.arrivals) && r.arrivals[r.next].At <= now; r.next++ {
		a := r.arrivals[r.next]
		r.step(sched.Event{Kind: sched.Release, At: now, Start: a.At, Job: int64(r.next), Model: a.Model}, sched.Idle)
	}
}

// wait sleeps until the instant; false when ctx ended first.
func (r *run) wait(ctx context.Context, timer *time.Timer, until time.Duration) bool {
	const spin = time.Millisecond
	left := until - r.since()
	if r.opts.Spin {
		left -= spin
	}
	if left > 0 {
		timer.Reset(left)
		select {
		case <-timer.C:
		case <-ctx.Done():
			return false
		}
	}
	for r.opts.Spin && r.since() < until {
	}
	return ctx.Err() == nil
}

// work runs the layers dispatched to accelerator k.
func (r *run) work(k int, ready chan<- error) {
	// Not unlocked: the pinned thread ends with the goroutine.
	goruntime.LockOSThread()
	if err := Pin(r.accs[k].Cores()); err != nil {
		ready <- fmt.Errorf("accelerator %q: %w", r.accs[k].Name(), err)
		return
	}
	ready <- nil
	for d := range r.mail[k] {
		for again := true; again; {
			d, again = r.execute(d)
		}
	}
}

// execute runs one layer, reports its end, and returns the accelerator's next
// layer if the engine has one.
func (r *run) execute(d sched.Dispatch) (sched.Dispatch, bool) {
	r.mu.Lock()
	slot, sampled := r.slots[d.Job], r.sampled(d)
	r.mu.Unlock()
	start := r.since()
	err := slot.Run(d.Layer, d.Implementation, d.Accelerator)
	ev := sched.Event{Kind: sched.Complete, At: r.since(), Start: start, Accelerator: d.Accelerator}
	switch {
	case err != nil:
		ev.Kind, ev.Detail = sched.Fail, err.Error()
	case sampled:
		r.keep(d, slot)
	}
	return r.report(ev)
}

// report gives the engine the end of a layer, with the releases that came due
// before it, and returns the accelerator's next layer.
func (r *run) report(ev sched.Event) (sched.Dispatch, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.due(ev.At)
	r.running--
	d, ok := r.step(ev, ev.Accelerator)
	r.settle()
	return d, ok
}

// keep copies the outputs of a request that is to be verified.
func (r *run) keep(d sched.Dispatch, slot *Slot) {
	s := Sample{Model: d.Model, Job: d.Job, Input: int(d.Job % inputSets), Ran: slices.Clone(slot.ran)}
	for _, t := range slot.Outputs() {
		s.Outputs = append(s.Outputs, append([]byte(nil), t.Data...))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.samples = append(r.samples, s)
}

// step gives the engine an event, hands the dispatches to the workers, and
// returns the one for accelerator own. An event that another thread's has
// overtaken happens with it. The caller holds the mutex.
func (r *run) step(ev sched.Event, own int) (mine sched.Dispatch, ok bool) {
	ev.At = max(ev.At, r.now)
	r.now = ev.At
	before := time.Now()
	dispatches := r.engine.Step(ev)
	r.steps = append(r.steps, time.Since(before))
	for _, d := range dispatches {
		r.running++
		if d.Layer == 0 {
			r.admit(d)
		}
		if d.Accelerator == own {
			mine, ok = d, true
		} else {
			r.mail[d.Accelerator] <- d
		}
	}
	return mine, ok
}

// admit gives a starting request its tensors.
func (r *run) admit(d sched.Dispatch) {
	var slot *Slot
	if free := r.free[d.Model]; len(free) > 0 {
		slot = free[len(free)-1]
		r.free[d.Model] = free[:len(free)-1]
	} else {
		var err error
		if slot, err = r.programs[d.Model].NewSlot(); err != nil {
			// The same tensors were made when the executor was: only memory
			// can be missing.
			panic(fmt.Sprintf("runtime: %v", err))
		}
	}
	slot.SetInputs(r.inputs[d.Model][d.Job%inputSets])
	r.slots[d.Job] = slot
}

// settle ends the run when no job is left, and drops what no accelerator will
// ever serve.
func (r *run) settle() {
	if r.over || r.next < len(r.arrivals) || r.running > 0 {
		return
	}
	if r.engine.Active() > 0 {
		r.engine.Step(sched.Event{Kind: sched.Stop, At: r.now})
	}
	r.over = true
	close(r.done)
}

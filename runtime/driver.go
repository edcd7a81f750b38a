package runtime

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/eventlog"
	"github.com/terastal/terastal/sched/traffic"
)

// ErrBusy is what an executor answers that already runs or serves.
var ErrBusy = errors.New("the executor is in use")

// driver drives one engine in real time: a run of traffic, or a server. The
// lock guards everything below it; what is above is set before the workers
// start.
type driver struct {
	*Executor
	opts      Options
	arrivals  []traffic.Arrival
	queue     int
	start     time.Time
	workers   []*worker
	threads   []int         // of the workers
	done      chan struct{} // closed when everything is over
	helpers   sync.WaitGroup
	meter     *gcMeter
	undo      []func()
	header    eventlog.Header
	wanted    chan int      // models that need another slot
	restocked chan struct{} // closed when no more are made

	mu        lock
	next      int // the first arrival that has not been released
	leader    int // the idle worker that waits for it, or sched.Idle
	engine    *sched.Engine
	now       time.Duration // of the last event
	log       *recording
	stats     Stats
	steps     Histogram
	flights   []*Slot // of requests that have started
	running   int
	open      bool  // more requests may be submitted
	jobs      int64 // submitted so far
	over      bool
	wakes     uint64 // workers to wake once the lock is released
	lateSlots int
	notes     []string
	pending   map[int64]*Pending // by job
	// What searches beside the engine, if the policy does.
	search     *sched.Search
	searching  bool
	searchFrom time.Duration // when the state was taken that it starts from
	seeker     word
	wakeSeeker bool // once the lock is released
	searches   Histogram
	samples    []Sample
	// sampleFrom holds, by model, the jobs from which on samples are yet due.
	sampleFrom [][]int64
}

// newDriver prepares a run: nothing is started yet.
func (e *Executor) newDriver(o Options, arrivals []traffic.Arrival, open bool) (*driver, error) {
	if !e.busy.CompareAndSwap(false, true) {
		return nil, ErrBusy
	}
	d, err := e.prepareDriver(o, arrivals, open)
	if err != nil {
		e.busy.Store(false)
	}
	return d, err
}

func (e *Executor) prepareDriver(o Options, arrivals []traffic.Arrival, open bool) (*driver, error) {
	tables := e.tables
	if o.Adapt {
		tables = tables.Clone()
	}
	o.Policy = cmp.Or(o.Policy, DefaultPolicy)
	policy, err := sched.NewPolicy(o.Policy, tables)
	if err != nil {
		return nil, err
	}
	d := &driver{Executor: e, opts: o, arrivals: arrivals, queue: o.Queue, open: open, leader: sched.Idle, done: make(chan struct{}),
		wanted: make(chan int, len(e.programs)), restocked: make(chan struct{}), pending: map[int64]*Pending{}}
	if d.queue == 0 {
		d.queue = sched.DefaultQueue
	}
	if d.opts.Hang == nil {
		d.opts.Hang = func(x sched.Dispatch) time.Duration { return max(time.Second, 10*e.tables.Cost(x)) }
	}
	d.flights = make([]*Slot, 0, d.queue*len(e.programs))
	d.stats = d.newStats()
	closed := !open && o.Traffic.Process == traffic.ClosedLoop
	until := o.Traffic.Duration
	if open {
		until = 0
	}
	share := 0.0
	if !o.FreeCore { // searches run on the accelerators' cores
		share = 1 / float64(len(e.accs))
	}
	d.engine, err = sched.New(sched.Config{Tables: tables, Policy: policy, Drop: o.Drop, Queue: o.Queue, Recorder: d,
		Seed: o.Traffic.Seed, Adapt: o.Adapt, ClosedLoop: closed, Until: until, SearchShare: share})
	if err != nil {
		return nil, err
	}
	d.search = d.engine.SearchBeside()
	d.header = eventlog.Header{Driver: eventlog.Real, Policy: o.Policy, Drop: o.Drop.String(), Queue: d.queue, Seed: o.Traffic.Seed,
		Adapt: o.Adapt, ClosedLoop: closed, Until: until, System: *e.tables.System(), Rates: o.Traffic.Rates, Duration: o.Traffic.Duration, SearchBeside: d.search != nil}
	if open {
		d.header.Rates = make([]float64, len(e.programs))
	}
	if err := e.stockAll(d.queue); err != nil {
		return nil, err
	}
	if o.Log {
		d.log = newRecording(d.expectedRecords())
	}
	d.planSamples()
	return d, nil
}

// begin starts the workers and everything beside them.
func (d *driver) begin() error {
	d.meter = newGCMeter()
	ready := make(chan error, len(d.accs))
	for k, a := range d.accs {
		w := &worker{k: k, accelerator: a, spin: d.spins(k), ended: make(chan struct{}), begin: make(chan struct{})}
		d.workers = append(d.workers, w)
		go d.work(w, ready)
	}
	var failed error
	for range d.accs {
		failed = errors.Join(failed, <-ready)
	}
	if d.opts.Quiet {
		for _, w := range d.workers {
			d.threads = append(d.threads, w.thread)
		}
		d.undo = append(d.undo, quieten(d.threads), calm())
	}
	d.start = time.Now()
	if failed == nil {
		d.mu.Lock()
		for k, w := range d.workers {
			if d.lost[k].Load() { // hangs since an earlier run
				w.lost = true
				d.step(sched.Event{Kind: sched.AcceleratorDown, Accelerator: k, Detail: "it hangs"}, sched.Idle)
			}
		}
		d.settle()
		d.unlock()
	} else {
		d.over = true
	}
	for _, w := range d.workers {
		close(w.begin)
	}
	if failed != nil {
		close(d.done)
		close(d.wanted)
		close(d.restocked)
		d.end()
		return failed
	}
	go d.restock()
	if d.log != nil {
		d.helpers.Go(func() { d.log.make(d.done) })
	}
	d.helpers.Go(d.watch)
	if d.search != nil {
		d.helpers.Go(d.seek)
	}
	if d.opts.FreeCore && len(d.arrivals) > 0 {
		d.helpers.Go(d.release)
	}
	return nil
}

// end waits for what begin started, hanging workers excepted, and gives the
// executor back.
func (d *driver) end() *Result {
	for _, w := range d.workers {
		d.mu.Lock()
		lost := w.lost
		d.unlock()
		if !lost {
			<-w.ended
		}
	}
	d.helpers.Wait()
	select {
	case <-d.restocked:
	default:
		close(d.wanted)
		<-d.restocked
	}
	for i := len(d.undo) - 1; i >= 0; i-- {
		d.undo[i]()
	}
	r := d.finish()
	r.GC = d.meter.read()
	if d.log != nil {
		r.Log = &eventlog.Log{Header: d.header, Records: d.log.all()}
	}
	d.busy.Store(false)
	return r
}

func (d *driver) since() time.Duration { return time.Since(d.start) }

// unlock releases the lock and wakes the workers that were given something.
func (d *driver) unlock() {
	wakes, seeker := d.wakes, d.wakeSeeker
	d.wakes, d.wakeSeeker = 0, false
	d.mu.Unlock()
	if seeker {
		d.seeker.wake()
	}
	for k := 0; wakes != 0; k++ {
		if wakes&1 != 0 {
			d.workers[k].mail.wake()
		}
		wakes >>= 1
	}
}

// stop ends the run early.
func (d *driver) stop() {
	d.mu.Lock()
	defer d.unlock()
	d.next, d.open = len(d.arrivals), false
	if !d.over {
		d.step(sched.Event{Kind: sched.Stop, At: d.since()}, sched.Idle)
	}
	d.settle()
}

// due releases every arrival up to now, and returns the layer that accelerator
// own is given. Workers call it before they report a completion, idle ones when
// it is time: no other thread is needed for a release to be acted on.
func (d *driver) due(now time.Duration, own int) (mine assignment, ok bool) {
	for ; d.next < len(d.arrivals) && d.arrivals[d.next].At <= now; d.next++ {
		a := d.arrivals[d.next]
		x, is := d.step(sched.Event{Kind: sched.Release, At: now, Start: a.At, Job: int64(d.next), Model: a.Model}, own)
		if is {
			mine, ok = x, true
		}
	}
	return mine, ok
}

// step gives the engine an event, hands the dispatches to the workers, and
// returns the one for accelerator own. An event that another thread's has
// overtaken happens with it. The caller holds the lock.
func (d *driver) step(ev sched.Event, own int) (mine assignment, ok bool) {
	ev.At = max(ev.At, d.now)
	d.now = ev.At
	before := d.since()
	dispatches := d.engine.Step(ev)
	d.beside()
	d.steps.Add(d.since() - before)
	for _, x := range dispatches {
		a := d.assign(x)
		w := d.workers[x.Accelerator]
		w.running, w.dispatch, w.from = true, x, d.now
		d.running++
		if d.leader == x.Accelerator {
			d.leader = sched.Idle
		}
		if x.Accelerator == own {
			mine, ok = a, true
		} else {
			w.next = a
			d.post(w, mailLayer)
		}
	}
	if len(dispatches) > 0 {
		d.elect()
	}
	return mine, ok
}

// assign completes a dispatch with the request's tensors; without, when none
// are left.
func (d *driver) assign(x sched.Dispatch) assignment {
	a := assignment{Dispatch: x}
	if a.slot = d.flight(x.Job); a.slot == nil {
		if s := d.take(x.Model); s != nil {
			d.board(s, &a)
		}
	}
	a.sample = d.sampled(x)
	return a
}

// elect makes an idle worker wait for the next arrival when nobody does.
func (d *driver) elect() {
	if d.leader != sched.Idle || d.next >= len(d.arrivals) {
		return
	}
	for _, w := range d.workers {
		if !w.running && !w.lost && w.back == 0 {
			d.leader = w.k
			d.post(w, mailLook)
			return
		}
	}
}

// settle ends the run when no job is left, and drops what no accelerator will
// ever serve.
func (d *driver) settle() {
	if d.over || d.open || d.next < len(d.arrivals) || d.running > 0 {
		return
	}
	if d.engine.Active() > 0 {
		for _, w := range d.workers {
			if w.back != 0 {
				return // it will be back in service
			}
		}
		d.engine.Step(sched.Event{Kind: sched.Stop, At: d.now})
	}
	d.over = true
	d.tellSeeker(seekNoMore)
	for _, w := range d.workers {
		d.post(w, mailLook)
	}
	close(d.done)
}

// note keeps a doubt about the run. The caller holds the lock.
func (d *driver) note(format string, args ...any) {
	d.notes = append(d.notes, fmt.Sprintf(format, args...))
}

// planSamples spreads the requests whose outputs are kept over each model's
// jobs: from each of these on, the first that gets to its end is kept.
func (d *driver) planSamples() {
	byModel := make([][]int64, len(d.programs))
	for i, a := range d.arrivals {
		byModel[a.Model] = append(byModel[a.Model], int64(i))
	}
	d.sampleFrom = make([][]int64, len(d.programs))
	for m, jobs := range byModel {
		// A closed loop and triggers release more jobs than the arrivals tell;
		// any of them will do.
		for n := range d.opts.Samples {
			from := int64(0)
			if len(jobs) > 0 {
				from = jobs[n*len(jobs)/d.opts.Samples]
			}
			d.sampleFrom[m] = append(d.sampleFrom[m], from)
		}
	}
}

// sampled decides whether the outputs of a layer are kept, which those of a
// model's last layer are when it is time for the next sample.
func (d *driver) sampled(x sched.Dispatch) bool {
	from := d.sampleFrom[x.Model]
	if len(from) == 0 || x.Layer != len(d.programs[x.Model].Network.Layers)-1 || x.Job < from[0] {
		return false
	}
	d.sampleFrom[x.Model] = from[1:]
	return true
}

// keep copies the outputs of a request that is to be verified.
func (d *driver) keep(a *assignment) {
	s := Sample{Model: a.Model, Job: a.Job, Input: int(a.Job % int64(len(d.inputs[a.Model]))), Ran: slices.Clone(a.slot.ran)}
	for _, t := range a.slot.Outputs() {
		s.Outputs = append(s.Outputs, append([]byte(nil), t.Data...))
	}
	d.mu.Lock()
	defer d.unlock()
	d.samples = append(d.samples, s)
}

// release is the thread that notices arrivals on a core of its own.
func (d *driver) release() {
	lockThread()
	sharpen()
	for {
		d.mu.Lock()
		d.due(d.since(), sched.Idle)
		d.settle()
		over, at := d.over, forever
		if d.next < len(d.arrivals) {
			at = d.arrivals[d.next].At
		}
		d.unlock()
		if over || at == forever {
			return
		}
		for left := at - d.since(); left > 0; left = at - d.since() {
			if left > releaseSpin {
				sleep(min(left-releaseSpin, watchEvery))
				if d.finished() {
					return
				}
			}
		}
	}
}

// releaseSpin is how long before an arrival the release thread stops sleeping:
// sleeps end late by up to some 50 us.
const releaseSpin = 100 * time.Microsecond

// finished reports whether the run is over.
func (d *driver) finished() bool {
	select {
	case <-d.done:
		return true
	default:
		return false
	}
}

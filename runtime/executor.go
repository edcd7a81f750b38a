package runtime

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/eventlog"
	"github.com/terastal/terastal/sched/traffic"
)

// DefaultPolicy schedules where no other policy is named.
const DefaultPolicy = "pedf"

// inputSets is how many different random inputs each model's requests cycle through.
const inputSets = 4

// Executor runs requests on real accelerators: recorded or generated traffic
// with Run, requests as they come with Submit. It does one of them at a time.
type Executor struct {
	tables   *sched.Tables
	models   []*loaded
	accs     []Accelerator
	threads  []*thread     // by accelerator
	devices  []DeviceStats // that accelerators have memories on
	runs     uint64        // so far, servers included
	notes    []string      // what did not become ordinary
	lost     []atomic.Bool // by accelerator: a kernel of it hangs
	closing  atomic.Bool   // what hangs is waited for no more
	busy     atomic.Bool   // a run or a server is under way
	serving  serving
	ordinary []Placed // where models ran without a scheduler; nil before they did
	freeCore bool     // the accelerators leave one over, whatever options say
	owned    func()   // closes what Open opened; nil where programs and accelerators are the caller's
}

// loaded is a model as an executor runs it.
type loaded struct {
	*Program
	sets  [][]*Tensor  // inputs that requests cycle through when they bring none
	pins  []func()     // free the memory of sets that is pinned
	free  []*Slot      // slots that no request uses
	fixed []*Slot      // of these, those with captured kernels
	made  atomic.Int64 // slots there are; one that hung is taken off when it returns
}

// set is the index of the inputs that a job reads.
func (m *loaded) set(job int64) int { return int(job % int64(len(m.sets))) }

// last reports whether a layer is the model's last.
func (m *loaded) last(layer int) bool { return layer == len(m.Network.Layers)-1 }

// NewExecutor checks that the programs fit the system the tables were compiled from: same models, layers and
// implementations, all prepared on the system's accelerators, wherever the tables say they run. seed determines the
// input data of requests that bring none. Programs and accelerators stay the caller's; [Open] makes an executor that
// owns them.
func NewExecutor(t *sched.Tables, programs []*Program, seed uint64) (*Executor, error) {
	return newExecutor(context.Background(), t, programs, seed)
}

func newExecutor(ctx context.Context, t *sched.Tables, programs []*Program, seed uint64) (*Executor, error) {
	e := &Executor{tables: t}
	for _, p := range programs {
		e.models, e.accs = append(e.models, &loaded{Program: p}), programs[0].accs
	}
	if err := e.check(); err != nil {
		return nil, fmt.Errorf("executor: %w", err)
	}
	e.lost = make([]atomic.Bool, len(e.accs))
	for _, a := range e.accs {
		e.threads = append(e.threads, newThread(a))
	}
	for _, m := range e.models {
		if err := m.begin(seed); err != nil {
			e.release()
			return nil, fmt.Errorf("executor: %w", err)
		}
	}
	e.warmUp(ctx)
	if err := ctx.Err(); err != nil {
		e.release()
		return nil, fmt.Errorf("executor: %w", err)
	}
	return e, nil
}

// begin makes a model's inputs and its first slot.
func (m *loaded) begin(seed uint64) error {
	for n := range inputSets {
		set, err := m.Network.Inputs(seed + uint64(n))
		if err != nil {
			return err
		}
		if set, err = m.pin(set); err != nil {
			return err
		}
		m.sets = append(m.sets, set)
	}
	return m.stock(1)
}

// pin moves inputs to memory that the first device copies without a detour, if it offers any.
func (m *loaded) pin(set []*Tensor) ([]*Tensor, error) {
	if len(m.devices) == 0 {
		return set, nil
	}
	for i, t := range set {
		data, free, err := m.devices[0].memory.NewPinned(int(t.Bytes()) + alignment)
		if data == nil || err != nil {
			return set, err
		}
		m.pins = append(m.pins, free)
		data = align(data)[:t.Bytes()]
		copy(data, t.Data)
		pinned, err := NewTensor(t.Tensor, data)
		if err != nil {
			return nil, err
		}
		t.Close()
		set[i] = pinned
	}
	return set, nil
}

// on runs f on an accelerator's thread, or here where that hangs. The executor does not run or serve.
func (e *Executor) on(k int, f func()) {
	if e.lost[k].Load() {
		f()
		return
	}
	e.threads[k].do(f)
}

func (e *Executor) check() error {
	sys := e.tables.System()
	if len(sys.Accelerators) != len(e.accs) || len(sys.Models) != len(e.models) {
		return fmt.Errorf("the system has %d accelerators and %d models, %d and %d are loaded",
			len(sys.Accelerators), len(sys.Models), len(e.accs), len(e.models))
	}
	for k, a := range e.accs {
		if a.Name() != sys.Accelerators[k] {
			return fmt.Errorf("accelerator %d is %q in the system, %q is loaded", k, sys.Accelerators[k], a.Name())
		}
	}
	queues := map[string]string{}
	for _, a := range e.accs {
		m := MemoryOf(a)
		if m == nil || m.Queue() == "" {
			continue
		}
		if other, taken := queues[m.Queue()]; taken {
			return fmt.Errorf("accelerators %q and %q are one device (%s), which takes work from one thread only: "+
				"keep one of them", other, a.Name(), m.Queue())
		}
		queues[m.Queue()] = a.Name()
	}
	for m, p := range e.models {
		model := &sys.Models[m]
		if p.Network.Name != model.Name || !slices.EqualFunc(p.accs, e.accs, sameName) {
			return fmt.Errorf("model %d is %q in the system, %q is loaded, and all have to be on the same accelerators", m,
				model.Name, p.Network.Name)
		}
		if len(model.Layers) != len(p.Network.Layers) {
			return fmt.Errorf("model %q has %d layers in the system, %d are loaded", model.Name, len(model.Layers),
				len(p.Network.Layers))
		}
		for l, layer := range model.Layers {
			if len(layer.Implementations) > p.Implementations(l) {
				return fmt.Errorf("model %q layer %q has %d implementations in the system, %d are loaded",
					model.Name, layer.Name, len(layer.Implementations), p.Implementations(l))
			}
			for i, im := range layer.Implementations {
				for k, c := range im.Latency {
					if c != sched.Unavailable && !p.Runs(l, i, k) {
						return fmt.Errorf("model %q layer %q is to run on %q, which refused it: %w", model.Name, layer.Name,
							e.accs[k].Name(), p.Refused(l, i, k))
					}
				}
			}
		}
	}
	return nil
}

// Models are the names of the models that take requests.
func (e *Executor) Models() []string {
	var out []string
	for _, p := range e.models {
		out = append(out, p.Network.Name)
	}
	return out
}

// Model is the model of this name, which tells its inputs and outputs; nil for other names.
func (e *Executor) Model(name string) *models.Model {
	if m := e.index(name); m >= 0 {
		return e.models[m].Network.Model
	}
	return nil
}

func sameName(a, b Accelerator) bool { return a.Name() == b.Name() }

// SetInputs replaces the inputs that a model's requests cycle through when they
// bring none. The executor reads them where they are. It must not run or serve.
func (e *Executor) SetInputs(model string, sets []Tensors) error {
	m := e.index(model)
	if m < 0 || len(sets) == 0 {
		return fmt.Errorf("inputs of model %q: there is no such model, or no input", model)
	}
	var wrapped [][]*Tensor
	for _, set := range sets {
		ts, err := set.wrap(e.models[m].Network.Model.Inputs())
		if err != nil {
			closeAll(slices.Concat(wrapped...))
			return fmt.Errorf("inputs of model %q: %w", model, err)
		}
		wrapped = append(wrapped, ts)
	}
	closeAll(slices.Concat(e.models[m].sets...))
	e.models[m].sets = wrapped
	return nil
}

// index is that of the model of this name, or -1.
func (e *Executor) index(model string) int {
	return slices.IndexFunc(e.models, func(m *loaded) bool { return m.Network.Name == model })
}

// Close stops serving (see Stop) and frees the executor's tensors, and what [Open] opened. Tensors that a hanging
// accelerator may still touch are left as they are, and so is all that lies on a device that hangs: freeing it would
// wait for the device.
func (e *Executor) Close(ctx context.Context) {
	e.Stop(ctx)
	e.closing.Store(true)
	e.release()
	if e.owned != nil {
		e.owned()
	}
}

func (e *Executor) release() {
	hangs := false
	for k := range e.lost {
		hangs = hangs || e.lost[k].Load()
	}
	for _, m := range e.models {
		for _, s := range slices.Concat(m.fixed, m.free) {
			if m.hangs() {
				break
			}
			for k, t := range e.threads {
				if s.captured != nil && !e.lost[k].Load() {
					t.do(func() { s.release(k) })
				}
			}
			s.Close()
		}
		if !hangs {
			closeAll(slices.Concat(m.sets...))
			for _, free := range m.pins {
				free()
			}
		}
		m.free, m.fixed, m.sets, m.pins = nil, nil, nil, nil // the rest is for a worker that hangs
	}
	for k, t := range e.threads {
		if e.owned != nil && !e.lost[k].Load() {
			t.do(func() {
				for _, m := range e.models {
					m.closeOn(k)
				}
			})
		}
		close(t.work)
		if !e.lost[k].Load() {
			<-t.closed
		}
	}
	e.threads = nil
}

func closeAll(tensors []*Tensor) {
	for _, t := range tensors {
		t.Close()
	}
}

// Options describe one run.
type Options struct {
	// Policy is a policy's name; empty means DefaultPolicy.
	Policy string
	// NewPolicy, if not nil, makes a policy that package policy does not know; Policy is then what the log calls it.
	NewPolicy sched.Constructor
	Drop      sched.DropPolicy
	Queue     int // see sched.Config
	// Adapt corrects predictions while running; see sched.Config.
	Adapt bool
	// Traffic is played from its first arrival to its last; Serve uses its seed only.
	Traffic traffic.Config
	// Samples is how many finished requests of each model keep their outputs for verification, spread over the run.
	Samples int
	// Outputs is, by model, how many finished requests keep their outputs, where these are more than Samples: to look at
	// what was computed. Nil is for no more. Each costs a copy on the thread that ran its last layer.
	Outputs []int
	// FreeCore says that the accelerators leave a core over; what Open opened knows by itself. Another thread then
	// notices releases on time even while all accelerators are busy. Without one, releases are noticed at the ends of
	// layers and by idle workers.
	FreeCore bool
	// Realtime, if positive, asks for this real-time priority (SCHED_FIFO, 1 to 99) for the workers. Where it is
	// refused the run does without, and a note says so.
	Realtime int
	// Quiet prepares the process for the run and undoes it afterwards: the garbage collector rests (up to half a
	// gigabyte of garbage), and threads other than the workers no longer interrupt them (SCHED_BATCH).
	Quiet bool
	// Retries is how often a layer that fails is run again before its request fails, elsewhere if another accelerator
	// can: the one it failed on is out of service for 10 ms, twice as long each time. A layer whose result overwrites
	// its own input is not run again.
	Retries int
	// Hang is how long a layer may run before its accelerator is given up; nil
	// means the larger of 1 s and ten times its latency in the tables.
	Hang func(sched.Dispatch) time.Duration
	// Progress, if not nil, is called ten times a second with how the run stands. It must not keep the slices.
	Progress func(Stats)
	// Log keeps every record for Result.Log; Run always does, Serve only if
	// this is set: some 90 bytes per record, two records per layer and request.
	Log bool
}

// samples is how many requests of a model keep their outputs.
func (o *Options) samples(model int) int {
	if model < len(o.Outputs) {
		return max(o.Samples, o.Outputs[model])
	}
	return o.Samples
}

// Sample is a request whose outputs were kept.
type Sample struct {
	Model   int
	Job     int64
	Input   int      // index of its input set
	Outputs [][]byte // by model output
	Ran     []Ran    // by layer
	// Tolerance is that of the place where the whole model ran; 0 where it ran in layers.
	Tolerance float64
}

// Result is what a run gave.
type Result struct {
	// Log is nil where none was kept.
	Log *eventlog.Log
	// Started is when the log's clock was zero.
	Started time.Time
	// Stats are the totals.
	Stats Stats
	// Decisions are the durations of all engine steps.
	Decisions Histogram
	// Searches are the durations of the policy's searches next to the engine.
	Searches Histogram
	Samples  []Sample
	// Interrupted is true when the context ended the run early.
	Interrupted bool
	// Workers describe what the accelerators' threads did.
	Workers []WorkerStats
	// Devices describe those that accelerators have memories on.
	Devices []DeviceStats
	// GC is what the garbage collector did during the run.
	GC GCStats
	// LateSlots is how many requests found no tensors set aside for them, so that they were allocated on the way.
	LateSlots int
	// Lost are the accelerators that a hanging layer took out of service.
	Lost []string
	// Places are where models ran in a run without a scheduler, Ignored the options that mean nothing then.
	Places  []Placed
	Ignored []string
	// Notes are doubts about the run, such as a refused real-time priority or an accelerator that was lost.
	Notes []string
}

// Run plays the traffic under the policy until every job has its outcome. When ctx ends first, running layers finish,
// everything else is dropped, and the result is complete all the same. A layer that hangs takes its accelerator out of
// service; Run returns without waiting for it.
func (e *Executor) Run(ctx context.Context, o Options) (*Result, error) {
	arrivals, err := o.Traffic.Arrivals()
	if err != nil {
		return nil, err
	}
	o.Log = true
	d, err := e.newDriver(o, arrivals, false)
	if err != nil {
		return nil, err
	}
	if err := d.begin(); err != nil {
		return nil, err
	}
	return d.wait(ctx), nil
}

package profiler

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	goruntime "runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/terastal/terastal/internal/hostinfo"
	"github.com/terastal/terastal/internal/stats"
	"github.com/terastal/terastal/runtime"
)

// Options of a measurement.
type Options struct {
	// Precision is the half-width of the median's 95 % confidence interval, as
	// a share of the median, at which a cell is done. Zero means 2 %.
	Precision float64
	// Budget bounds the time spent measuring each accelerator; cells that are
	// not done by then are marked unstable. Zero means 10 s.
	Budget time.Duration
	// Solo measures one accelerator at a time while the others rest.
	Solo bool
	// Seed orders the layers within each round.
	Seed uint64
	// Progress, if not nil, is called with the share done, 0 to 1, from a
	// goroutine of the measurement.
	Progress func(float64)
	// Now is when the measurement is made, for the document.
	Now time.Time
	// Host and ORT go into the document.
	Host hostinfo.Info
	ORT  string
}

const (
	warmups    = 2    // untimed rounds, the first of which fills the tensors
	minSamples = 12   // below it the interval means little
	maxSamples = 4096 // per cell; bounds memory
)

// Measure times every layer of the programs, which must be prepared on the
// accelerators in the order of specs. granularity names how each model was
// split. A program's kernels must not be in use.
func Measure(ctx context.Context, accs []runtime.Accelerator, specs []runtime.Spec, programs []*runtime.Program, granularity []string, o Options) (*Profile, error) {
	if o.Precision == 0 {
		o.Precision = 0.02
	}
	if o.Budget == 0 {
		o.Budget = 10 * time.Second
	}
	if o.Progress == nil {
		o.Progress = func(float64) {}
	}
	p := &Profile{Created: o.Now.UTC().Format(time.RFC3339), Host: o.Host, ORT: o.ORT, Accelerators: specs}
	for m, prog := range programs {
		p.Models = append(p.Models, describe(prog, granularity[m]))
	}
	benches := make([]*bench, len(accs))
	for k := range accs {
		benches[k] = &bench{k: k, cores: accs[k].Cores(), programs: programs, o: &o}
	}
	var errs []error
	if o.Solo {
		for k, b := range benches {
			report := func(share float64) { o.Progress((float64(k) + share) / float64(len(benches))) }
			errs = append(errs, together(ctx, []*bench{b}, report)...)
		}
	} else {
		errs = together(ctx, benches, o.Progress)
	}
	for k, err := range errs {
		if err != nil {
			return nil, fmt.Errorf("profile accelerator %q: %w", accs[k].Name(), err)
		}
	}
	for _, b := range benches {
		p.Cells = append(p.Cells, b.cells()...)
	}
	p.Handoffs = handoffs(programs, benches)
	unstable := 0
	for i := range p.Cells {
		if p.Cells[i].Unstable {
			unstable++
		}
	}
	if unstable > 0 {
		p.Warnings = append(p.Warnings, Warning{WarnUnstable, fmt.Sprintf("%d of %d cells did not reach %.1f %% precision within %v per accelerator: the machine is noisy or the budget short",
			unstable, len(p.Cells), o.Precision*100, o.Budget)})
	}
	return p, nil
}

func describe(prog *runtime.Program, granularity string) Model {
	n := prog.Network
	m := Model{Name: n.Name, SHA256: n.Model.SHA256(), Granularity: granularity}
	for l := range n.Layers {
		x := &n.Layers[l]
		layer := Layer{Name: x.Name, SHA256: x.SHA256, Ops: x.Ops, MACs: x.MACs, Parameters: x.Parameters, Implementations: []string{"original"}, Shape: shapeText(x.Outputs)}
		for _, v := range n.Variants[l] {
			layer.Implementations = append(layer.Implementations, v.Name)
		}
		m.Layers = append(m.Layers, layer)
	}
	return m
}

// together runs the benches at the same time; all keep working until all are
// done, so that each is measured under the same load to its end.
func together(ctx context.Context, benches []*bench, progress func(float64)) []error {
	errs := make([]error, len(benches))
	var wg sync.WaitGroup
	var unfinished atomic.Int32
	unfinished.Store(int32(len(benches)))
	for i, b := range benches {
		wg.Go(func() {
			// Not unlocked: the pinned thread ends with the goroutine.
			goruntime.LockOSThread()
			each := progress
			if i > 0 { // one speaks for all: they end together
				each = func(float64) {}
			}
			errs[i] = b.run(ctx, &unfinished, each)
		})
	}
	wg.Wait()
	return errs
}

// bench measures one accelerator.
type bench struct {
	k        int
	cores    []int
	programs []*runtime.Program
	o        *Options
	slots    []*runtime.Slot
	times    [][][][]time.Duration     // by model, layer, implementation
	converts []map[int][]time.Duration // by model and tensor
}

func (b *bench) run(ctx context.Context, unfinished *atomic.Int32, progress func(float64)) error {
	done := false
	finish := func() {
		if !done {
			done = true
			unfinished.Add(-1)
		}
	}
	defer finish()
	if err := runtime.Pin(b.cores); err != nil {
		return err
	}
	for _, p := range b.programs {
		s, err := p.NewSpreadSlot()
		if err != nil {
			return err
		}
		defer s.Close()
		in, err := p.Network.Inputs(b.o.Seed)
		if err != nil {
			return err
		}
		for _, t := range in {
			defer t.Close()
		}
		s.SetInputs(in)
		b.slots = append(b.slots, s)
		byLayer := make([][][]time.Duration, len(p.Network.Layers))
		for l := range byLayer {
			byLayer[l] = make([][]time.Duration, p.Implementations(l))
		}
		b.times = append(b.times, byLayer)
		b.converts = append(b.converts, b.conversions(p))
	}
	order := b.order()
	rng := rand.New(rand.NewPCG(b.o.Seed, uint64(b.k)))
	begin := time.Now()
	// The first round runs in order, so that every tensor holds what it should.
	for round := -warmups; unfinished.Load() > 0; round++ {
		for _, at := range order {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := b.time(at, round >= 0); err != nil {
				return err
			}
		}
		rng.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		spent := time.Since(begin)
		share := min(1, spent.Seconds()/b.o.Budget.Seconds())
		progress(share)
		if round+1 >= minSamples && (share >= 1 || round%8 == 0 && b.precise()) || share >= 3 && round >= 0 {
			finish()
		}
	}
	progress(1)
	return nil
}

// conversions are the tensors that any handoff to this accelerator converts.
func (b *bench) conversions(p *runtime.Program) map[int][]time.Duration {
	times := make(map[int][]time.Duration)
	for l := range p.Network.Layers {
		for from := range p.Accelerators() {
			for _, t := range p.Conversions(l, from, b.k) {
				times[t] = nil
			}
		}
	}
	return times
}

// handoffs sums the medians of the conversions that each change of
// accelerator needs.
func handoffs(programs []*runtime.Program, benches []*bench) []Handoff {
	var list []Handoff
	for m, p := range programs {
		for l := range p.Network.Layers {
			for from := range benches {
				for to, b := range benches {
					h := Handoff{Model: m, Layer: l, From: from, To: to}
					for _, t := range p.Conversions(l, from, to) {
						h.Tensors++
						h.P50 += max(1, stats.Quantile(stats.Sorted(b.converts[m][t]), 0.5))
					}
					if h.Tensors > 0 {
						list = append(list, h)
					}
				}
			}
		}
	}
	return list
}

// place is one implementation of one layer, or the conversion of a tensor.
type place struct{ model, layer, implementation, tensor int }

// noTensor marks a place that is a layer.
const noTensor = -1

// order lists what this accelerator can run, each model's layers in order; of
// each layer the original last, so that what the next reads is its output.
// Conversions come last, when there is something to convert.
func (b *bench) order() []place {
	var out []place
	for m, p := range b.programs {
		for l := range p.Network.Layers {
			for i := p.Implementations(l) - 1; i >= 0; i-- {
				if p.Runs(l, i, b.k) {
					out = append(out, place{m, l, i, noTensor})
				}
			}
		}
	}
	for m, converts := range b.converts {
		for _, t := range slices.Sorted(maps.Keys(converts)) {
			out = append(out, place{model: m, tensor: t})
		}
	}
	return out
}

// time runs one layer and keeps how long it took if asked.
func (b *bench) time(at place, keep bool) error {
	start := time.Now()
	if at.tensor != noTensor {
		err := b.slots[at.model].Convert(at.tensor)
		took := time.Since(start)
		if times := b.converts[at.model]; keep && len(times[at.tensor]) < maxSamples {
			times[at.tensor] = append(times[at.tensor], took)
		}
		return err
	}
	if err := b.slots[at.model].Run(at.layer, at.implementation, b.k); err != nil {
		return err
	}
	took := time.Since(start)
	if times := &b.times[at.model][at.layer][at.implementation]; keep && len(*times) < maxSamples {
		*times = append(*times, took)
	}
	return nil
}

// precise reports whether every cell's median is known to the target.
func (b *bench) precise() bool {
	for _, layers := range b.times {
		for _, impls := range layers {
			for _, times := range impls {
				if len(times) > 0 && !precise(stats.Sorted(times), b.o.Precision) {
					return false
				}
			}
		}
	}
	return true
}

func precise(sorted []time.Duration, target float64) bool {
	low, high := stats.MedianCI(sorted)
	return len(sorted) >= minSamples && float64(high-low)/2 <= target*float64(stats.Quantile(sorted, 0.5))
}

func (b *bench) cells() []Cell {
	var out []Cell
	for m, layers := range b.times {
		for l, impls := range layers {
			for i, times := range impls {
				c := Cell{Model: m, Layer: l, Implementation: i, Accelerator: b.k}
				if err := b.programs[m].Refused[l][i][b.k]; err != nil {
					c.Refused = err.Error()
				} else {
					c.fill(times, b.o.Precision)
				}
				out = append(out, c)
			}
		}
	}
	return out
}

func (c *Cell) fill(times []time.Duration, precision float64) {
	slices.Sort(times)
	var sum time.Duration
	for _, t := range times {
		sum += t
	}
	// A clock that ticks coarsely can read zero; a latency is never zero.
	at := func(q float64) time.Duration { return max(1, stats.Quantile(times, q)) }
	c.N, c.Min = len(times), max(1, times[0])
	c.Mean = max(1, sum/time.Duration(len(times)))
	c.P50, c.P90, c.P95, c.P99 = at(.5), at(.9), at(.95), at(.99)
	c.Low, c.High = stats.MedianCI(times)
	c.Unstable = !precise(times, precision)
}

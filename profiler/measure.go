package profiler

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/terastal/terastal/internal/hostinfo"
	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/internal/stats"
	"github.com/terastal/terastal/runtime"
)

// Task is what is to be measured.
type Task struct {
	// Accelerators are those of the system, in the order of the profile.
	Accelerators []runtime.Spec
	// Networks are the models in layers, with their variants.
	Networks []*runtime.Network
	// Seed makes the networks' inputs, and orders the layers within each round.
	Seed uint64
	// Start starts the measuring process of an accelerator, by index, with the function [Start]; that of the first of a
	// device's streams measures them all. If it is nil, all accelerators are measured in this process: for those that are
	// trusted not to crash it.
	Start func(accelerator int) (Conn, error)
	// Open opens an accelerator in the process that measures it; nil stands for the Open of a [runtime.Devices].
	Open func(runtime.Spec) (runtime.Accelerator, error)
	// Auto is how many streams of a device [Streams] found to pay, by the device's name, for the profile.
	Auto map[string]int

	clocks map[int]clock // of accelerators with another host clock than the system's
}

// Options of a measurement.
type Options struct {
	// Precision is the half-width of the median's 95 % confidence interval, as a share of the median, at which a cell
	// is done. Zero means 2 %.
	Precision float64
	// Budget bounds the time spent measuring, after everything has been loaded; cells that are not done by then are
	// marked unstable. A dozen rounds are made all the same unless they take three times the budget. Zero means 20 s.
	Budget time.Duration
	// Timeout is how long a single layer may take before its process is taken to hang. Zero means 30 s.
	Timeout time.Duration
	// Journal is a file that keeps what has been measured while the measurement runs; one that an earlier measurement
	// of the same left is continued. It stays there: remove it ([RemoveJournal]) when the profile is written. Empty
	// means none.
	Journal string
	// Progress, if not nil, is called with what is being done and the share of it that is complete, 0 to 1, from any
	// goroutine.
	Progress func(what string, share float64)
	// Enough, if not nil, is asked every few rounds about an implementation that is no original, with its times so far,
	// sorted: true when it need not be timed any more, however little is known.
	Enough func(model, layer, implementation, accelerator int, times []time.Duration) bool
	// Now and Host go into the document: when and where it is measured. Their zero values mean the present, and
	// [ThisHost] at the beginning of the measurement.
	Now  time.Time
	Host Host
}

const (
	minSamples  = 12   // below it the interval means little
	maxSamples  = 4096 // per cell; bounds memory
	keptSamples = 128  // per cell, in the document

	// Every so many cycles through all accelerators, one has whole models too, one has every accelerator measured next to
	// every other, and one has devices measured with several streams busy.
	chainsEvery  = 8
	chainsAt     = 1 // the first round does not count
	minChains    = 4 // unless the budget ends
	crowdedEvery = 8
	crowdedAt    = 5
	contendedAt  = 3
	// deviceRounds is how many rounds of a cycle a device gets: they are short, and getting it to work as it does under
	// load takes a while.
	deviceRounds = 4
	// enoughContended is how many rounds next to each number of busy streams there are at most.
	enoughContended = 8

	// enoughEvery is after how many cycles it is asked what need not be timed any more, and leastTimes how often that
	// has been timed at least.
	enoughEvery = 4
	leastTimes  = 3

	// leastRenewed is the budget from which on loading everything again is worth its time.
	leastRenewed = 5 * time.Second

	dispatchTime = 300 * time.Millisecond
	peakTimeout  = time.Minute
	// deviceTimeout is how long resting and waking may take.
	deviceTimeout = 2 * time.Minute
)

// Measure times every layer of the task's networks on every accelerator.
//
// When ctx ends, it stops after the layers under way and returns what it has with the context's error; the profile is
// then marked partial, or nil when there is nothing yet.
func Measure(ctx context.Context, t Task, o Options) (*Profile, error) {
	o = o.withDefaults()
	if o.Host.LogicalCores == 0 {
		o.Host = ThisHost()
	}
	m := &measurement{Task: t.withDefaults(), Options: o}
	for k := range t.Accelerators {
		if streamsOf(t.Accelerators, k)[0] == k {
			m.drivers = append(m.drivers, newDriver(m, k))
		}
		m.of = append(m.of, m.drivers[slices.IndexFunc(m.drivers, func(d *driver) bool { return slices.Contains(d.streams, k) })])
	}
	defer m.close()
	if err := m.open(); err != nil {
		return nil, err
	}
	err := m.measure(ctx)
	if err != nil && ctx.Err() == nil {
		return nil, err
	}
	p, incomplete := m.profile(err != nil)
	if err == nil {
		return p, incomplete
	}
	if !slices.ContainsFunc(p.Cells, func(c Cell) bool { return c.Measured() }) {
		return nil, ctx.Err()
	}
	p.warn(true, WarnPartial, "the measurement was stopped before its end")
	return p, ctx.Err()
}

func (t Task) withDefaults() Task {
	if t.Start == nil {
		t.Start = func(k int) (Conn, error) { return inProcess(t, k), nil }
	}
	return t
}

func (o Options) withDefaults() Options {
	o.Precision = cmp.Or(o.Precision, 0.02)
	o.Budget = cmp.Or(o.Budget, 20*time.Second)
	o.Timeout = cmp.Or(o.Timeout, 30*time.Second)
	if o.Progress == nil {
		o.Progress = func(string, float64) {}
	}
	return o
}

type measurement struct {
	Task
	Options
	drivers []*driver
	of      []*driver // by accelerator: the one that measures it
	journal *os.File
	before  time.Duration // spent by those who began it

	mu    sync.Mutex // guards the journal, loads and begin
	cells int
	seen  int
	begin time.Time // of measuring, later by what renewing took

	renewed bool
	counted hostinfo.Counters // when it began
}

// open takes up the journal.
func (m *measurement) open() error {
	for _, n := range m.Networks {
		for l := range n.Layers {
			m.cells += (1 + len(n.Variants[l])) * len(m.Accelerators)
		}
	}
	if m.Journal == "" {
		return nil
	}
	var entries []entry
	var err error
	head := heading{Journal: journalVersion, Key: m.key(), Created: created(m.Now), Auto: m.Auto, Machine: machine(m.Host)}
	for _, n := range m.Networks {
		model := describe(n)
		model.Layers = nil
		head.Models = append(head.Models, model)
	}
	m.journal, entries, err = openJournal(m.Journal, head)
	if err != nil {
		return err
	}
	for n, e := range entries {
		if !in(e.Accelerator, len(m.of)) {
			err = errors.New("an accelerator that does not exist")
		} else {
			err = m.of[e.Accelerator].take(e)
		}
		if err != nil {
			return fmt.Errorf("%w %s: line %d: %w: remove the file", ErrJournal, m.Journal, n+2, err)
		}
		m.before += e.Spent
	}
	return nil
}

// key tells apart measurements that must not be mixed.
func (m *measurement) key() string {
	h := sha256.New()
	e := json.NewEncoder(h)
	e.Encode([]any{version, ort.Version, m.Accelerators, m.Seed})
	e.Encode([]any{m.Host.CPU, m.Host.AllowedCores, m.Host.Kernel, m.Host.CUDA})
	for _, n := range m.Networks {
		e.Encode(describe(n))
		for l := range n.Layers {
			for _, v := range n.Variants[l] {
				e.Encode([]any{v.ONNX, v.Provider, v.Options})
			}
		}
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

func (m *measurement) close() {
	m.each(func(d *driver) error { return d.close() })
	m.journal.Close() // nil without one
}

// note writes to the journal.
func (m *measurement) note(e entry) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.journal == nil {
		return nil
	}
	return writeLine(m.journal, e)
}

// loading counts a cell that was loaded.
func (m *measurement) loading() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.seen++
	m.Progress("loading layers", min(1, float64(m.seen)/float64(max(1, m.cells))))
}

func (m *measurement) spent() time.Duration { return m.before + time.Since(m.begin) }

func (m *measurement) measure(ctx context.Context) error {
	if err := m.start(ctx); err != nil {
		return err
	}
	if err := m.peaks(ctx); err != nil {
		return err
	}
	m.begin = time.Now()
	m.counted = hostinfo.ReadCounters(hostinfo.This())
	for n := 0; ; n++ {
		if err := m.cycle(ctx, n); err != nil {
			return err
		}
		done := m.done(n)
		switch {
		case m.renewable() && (done || m.spent() >= m.Budget/2):
			if err := m.renew(ctx); err != nil {
				return err
			}
		case done:
			if err := m.devices(ctx); err != nil {
				return err
			}
			return m.dispatches(ctx)
		}
	}
}

// start has all measuring processes loaded and warm.
func (m *measurement) start(ctx context.Context) error {
	return errors.Join(m.each(func(d *driver) error { return d.start(ctx) })...)
}

// each does something with all drivers at once.
func (m *measurement) each(do func(*driver) error) []error {
	errs := make([]error, len(m.drivers))
	var all sync.WaitGroup
	for i, d := range m.drivers {
		all.Go(func() { errs[i] = do(d) })
	}
	all.Wait()
	return errs
}

// renewable reports whether the processes are to be replaced once, at half time. How memory happens to be laid out in a
// process makes layers some percent faster or slower in all of its runs; two processes average over that, and what they
// differ by says how far repeated measurements do.
func (m *measurement) renewable() bool {
	return !m.renewed && m.before == 0 && m.Budget >= leastRenewed
}

// renew replaces the processes, but those of devices: there it takes long, and how the host's memory is laid out does
// not matter. The time it takes is not measuring time.
func (m *measurement) renew(ctx context.Context) error {
	m.renewed = true
	begin := time.Now()
	for _, d := range m.drivers {
		if d.satisfied = false; !d.apart {
			d.close()
		}
	}
	err := m.start(ctx)
	m.begin = m.begin.Add(time.Since(begin))
	return err
}

// peaks measures the rooflines.
func (m *measurement) peaks(ctx context.Context) error {
	for _, d := range m.drivers {
		if d.peak != nil {
			continue
		}
		if err := d.once(ctx, request{Ask: askPeak}, peakTimeout); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// cycle is a round on every accelerator that needs more, and every so often one on each while others are busy.
func (m *measurement) cycle(ctx context.Context, n int) error {
	for _, d := range m.drivers {
		if n > 0 && d.satisfied {
			continue
		}
		if n%enoughEvery == enoughEvery-1 {
			d.suffices()
		}
		rounds := 1
		if d.events {
			rounds = deviceRounds
		}
		for i := range rounds {
			err := d.round(ctx, func(p place) bool {
				return !d.enough[p] && (!p.Do.model() || i == 0 && n%chainsEvery == chainsAt)
			}, company{})
			if err != nil {
				return err
			}
		}
		m.Progress("measuring", min(1, m.spent().Seconds()/m.Budget.Seconds()))
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	switch n % crowdedEvery {
	case crowdedAt:
		return m.crowd(ctx)
	case contendedAt:
		return m.contend(ctx)
	}
	return nil
}

// contend is a round on every device with streams next to each number of other busy ones, until there are enough.
func (m *measurement) contend(ctx context.Context) error {
	for _, d := range m.drivers {
		for n := 1; n < len(d.streams); n++ {
			if d.contentions(n) >= enoughContended {
				continue
			}
			err := d.round(ctx, func(p place) bool { return p.Do == layerRun && !d.enough[p] }, company{streams: n})
			if err := cmp.Or(err, ctx.Err()); err != nil {
				return err
			}
		}
	}
	return nil
}

// crowd is a round on every accelerator next to each other one.
func (m *measurement) crowd(ctx context.Context) error {
	for _, d := range m.drivers {
		for _, busy := range m.drivers {
			if d == busy {
				continue
			}
			err := d.round(ctx, func(p place) bool { return p.Do == layerRun && !d.enough[p] }, company{busy: busy})
			if err := cmp.Or(err, ctx.Err()); err != nil {
				return err
			}
		}
	}
	return nil
}

// done reports whether enough has been measured, after cycle n.
func (m *measurement) done(n int) bool {
	share := m.spent().Seconds() / m.Budget.Seconds()
	rounds := math.MaxInt
	for _, d := range m.drivers {
		rounds = min(rounds, d.rounds)
	}
	if share >= 3 && rounds > 0 {
		return true
	}
	if rounds < minSamples {
		return false
	}
	all := true
	for _, d := range m.drivers {
		if n%8 == 0 && !d.satisfied {
			d.satisfied = d.precise()
		}
		all = all && d.satisfied
	}
	return all || share >= 1
}

// precise reports whether every cell's median is known to the target.
func (d *driver) precise() bool {
	for p, times := range d.solo {
		switch {
		case p.Do == chainRun && len(times) < minChains:
			return false
		case p.Do != layerRun || d.dead[p] != "" || d.enough[p]:
		case len(times)-d.split[p] < minSamples || !precise(stats.Sorted(times), d.Precision):
			return false
		}
	}
	return true
}

// suffices asks what need not be timed any more.
func (d *driver) suffices() {
	if d.Enough == nil {
		return
	}
	for p, times := range d.solo {
		if p.Do == layerRun && p.Implementation > 0 && !d.enough[p] && len(times) >= leastTimes {
			d.enough[p] = d.Enough(p.Model, p.Layer, p.Implementation, d.k, stats.Sorted(times))
		}
	}
}

func precise(sorted []time.Duration, target float64) bool {
	low, high := stats.MedianCI(sorted)
	return len(sorted) >= minSamples && float64(high-low)/2 <= target*float64(stats.Quantile(sorted, 0.5))
}

// devices measures what is the same for all streams of a device: its memory, and what noticing an end and waking cost.
func (m *measurement) devices(ctx context.Context) error {
	for _, d := range m.drivers {
		if !d.apart || d.device != nil {
			continue
		}
		m.Progress("resting and waking devices", min(1, m.spent().Seconds()/m.Budget.Seconds()))
		if err := d.once(ctx, request{Ask: askDevice}, d.Timeout+deviceTimeout); err != nil {
			return err
		}
		d.undescribed = d.device == nil
	}
	return ctx.Err()
}

// dispatches measures what the executor needs between layers, where models are not so slow that it could not matter.
func (m *measurement) dispatches(ctx context.Context) error {
	for _, d := range m.drivers {
		var chains time.Duration
		for p, times := range d.solo {
			if p.Do == chainRun {
				chains += median(times)
			}
		}
		length := max(dispatchTime, 4*chains)
		// Layers of memories with events are submitted before those ahead of them end: there is nothing in between.
		if d.gaps != nil || chains == 0 || length > 10*time.Second || d.events {
			continue
		}
		m.Progress("running the executor", min(1, m.spent().Seconds()/m.Budget.Seconds()))
		if err := d.once(ctx, request{Ask: askDispatch, For: length, Lead: d.lead()}, d.Timeout+10*length); err != nil {
			return err
		}
	}
	return ctx.Err()
}

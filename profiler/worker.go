package profiler

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	goruntime "runtime"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/traffic"
)

// Setup is what a worker measures: networks on one accelerator of a system.
type Setup struct {
	Networks []*runtime.Network
	// Specs are all accelerators of the system, Index the one measured.
	Specs []runtime.Spec
	Index int
	// Accelerator is the one measured, open.
	Accelerator runtime.Accelerator
	Seed        uint64 // of the inputs
}

// Serve answers the requests of a measurement until in ends. It takes the
// calling thread for as long, and pins it to the accelerator's cores: call it
// on a goroutine that ends with it, or in a process of its own.
func Serve(in io.Reader, out io.Writer, s Setup) error {
	w := &worker{Setup: s, wire: newLines(in, out), requests: make(chan request)}
	defer w.close()
	readErr := make(chan error, 1)
	quit := make(chan struct{})
	defer close(quit)
	go func() {
		defer close(w.requests)
		for {
			var r request
			if err := w.wire.read(&r); err != nil {
				// Whatever runs must not go on for nobody.
				w.halt.Store(true)
				readErr <- err
				return
			}
			if r.Ask == askHalt {
				w.halt.Store(true)
				continue
			}
			select {
			case w.requests <- r:
			case <-quit:
				return
			}
		}
	}()
	// Not unlocked: the pinned thread ends with the goroutine.
	goruntime.LockOSThread()
	if err := runtime.Pin(s.Accelerator.Cores()); err != nil {
		return w.wire.write(reply{Error: err.Error()})
	}
	defer runtime.Quieten()()
	// Collections would hit single layers; there is next to no garbage.
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	for n := 1; ; n++ {
		r, ok := <-w.requests
		if !ok {
			if err := <-readErr; err != io.EOF {
				return err
			}
			return nil
		}
		a, err := w.answer(r)
		if err != nil {
			a = reply{Error: err.Error()}
		}
		if err := w.wire.write(a); err != nil {
			return err
		}
		if n%collectEvery == 0 {
			goruntime.GC()
		}
	}
}

// collectEvery is after how many requests garbage is collected.
const collectEvery = 64

type worker struct {
	Setup
	wire     *lines
	requests chan request
	halt     atomic.Bool // after the current place

	programs []*runtime.Program
	spread   []*runtime.Slot // timed layer by layer
	chained  []*runtime.Slot
	wholes   []*runtime.Program // nil where there is none
	whole    []*runtime.Slot
	inputs   [][]*runtime.Tensor
	places   []place
}

func (w *worker) close() {
	for _, s := range slices.Concat(w.spread, w.chained, w.whole) {
		if s != nil {
			s.Close()
		}
	}
	for _, set := range w.inputs {
		for _, t := range set {
			t.Close()
		}
	}
	for _, p := range slices.Concat(w.programs, w.wholes) {
		if p != nil {
			p.Close()
		}
	}
}

func (w *worker) answer(r request) (reply, error) {
	switch r.Ask {
	case askLoad:
		return w.load(r.Skip)
	case askRun:
		return w.run(r.Places), nil
	case askBusy:
		return w.busy(r.Places)
	case askRest: // the end of what askBusy began
		return reply{Done: true}, nil
	case askDispatch:
		return w.dispatch(r.For)
	case askPeak:
		p, err := measurePeak(w.Accelerator)
		return reply{Done: true, Peak: p}, err
	}
	return reply{}, fmt.Errorf("unknown request %q", r.Ask)
}

// anyOther takes everything, so that a layer may be refused by all others.
var anyOther = runtime.Spec{Name: "(any other)", Optimization: "none"}

// absent stands for an accelerator that another worker drives.
type absent struct{ runtime.Spec }

func (a *absent) Name() string                                 { return a.Spec.Name }
func (*absent) Cores() []int                                   { return nil }
func (a *absent) Prepare(runtime.Unit) (runtime.Kernel, error) { return a, nil }
func (*absent) Close() error                                   { return nil }
func (*absent) Run(_, _ []*runtime.Tensor) error {
	return errors.New("profiler: driven by another worker")
}

// observed tells of every unit that is loaded.
type observed struct {
	runtime.Accelerator
	w  *worker
	at place // what Skip was asked about last
}

// Memory is the observed accelerator's.
func (o *observed) Memory() runtime.Memory {
	if a, has := o.Accelerator.(interface{ Memory() runtime.Memory }); has {
		return a.Memory()
	}
	return nil
}

func (o *observed) Prepare(u runtime.Unit) (runtime.Kernel, error) {
	if err := o.w.wire.write(reply{Loading: &o.at}); err != nil {
		return nil, err
	}
	before, begin := ort.Allocated(), time.Now()
	k, err := o.Accelerator.Prepare(u)
	l := loaded{place: o.at, Took: time.Since(begin)}
	l.Memory = max(0, ort.Allocated()-before)
	if err != nil {
		l.Refused = err.Error()
	}
	return k, errors.Join(err, o.w.wire.write(reply{Loaded: &l}))
}

// load prepares everything and lists the places.
func (w *worker) load(skips []skip) (reply, error) {
	accs := make([]runtime.Accelerator, len(w.Specs))
	for k, s := range w.Specs {
		accs[k] = &absent{s}
	}
	o := &observed{Accelerator: w.Accelerator, w: w}
	accs[w.Index] = o
	accs = append(accs, &absent{anyOther})
	a := reply{Done: true}
	for m, n := range w.Networks {
		one := *n
		one.Skip = func(layer, implementation, accelerator int) error {
			if accelerator != w.Index {
				return nil
			}
			o.at = place{Do: layerRun, Model: m, Layer: layer, Implementation: implementation}
			return skipped(skips, o.at)
		}
		p, err := runtime.Prepare(&one, accs, nil)
		if err != nil {
			return a, err
		}
		w.programs = append(w.programs, p)
		in, err := n.Inputs(w.Seed)
		if err != nil {
			return a, err
		}
		w.inputs = append(w.inputs, in)
		spread, err := p.NewSpreadSlot()
		if err != nil {
			return a, err
		}
		spread.SetInputs(in)
		w.spread = append(w.spread, spread)
		a.Models = append(a.Models, n.Model.SHA256())
		if err := w.loadWhole(m, o, skips); err != nil {
			return a, err
		}
	}
	w.places = w.list()
	a.Places, a.Moves = w.places, w.allMoves()
	return a, nil
}

func skipped(skips []skip, at place) error {
	for _, s := range skips {
		if s.place == at {
			return errors.New(s.Reason)
		}
	}
	return nil
}

// maxWhole bounds the weights of models that are loaded a second time as a
// whole.
const maxWhole = 1 << 30

// loadWhole makes what a model's chain is held against, where all its layers
// run.
func (w *worker) loadWhole(m int, o *observed, skips []skip) error {
	n, p := w.Networks[m], w.programs[m]
	w.chained, w.wholes, w.whole = append(w.chained, nil), append(w.wholes, nil), append(w.whole, nil)
	var weights int64
	for l := range n.Layers {
		if !p.Runs(l, 0, w.Index) {
			return nil
		}
		weights += 4 * n.Layers[l].Parameters
	}
	var err error
	if w.chained[m], err = p.NewSlot(); err != nil {
		return err
	}
	o.at = place{Do: wholeRun, Model: m}
	if weights > maxWhole || skipped(skips, o.at) != nil {
		return nil
	}
	uncut, err := models.ParseGranularity("model")
	if err != nil {
		return err
	}
	layers, err := n.Model.Split(uncut)
	if err != nil {
		return err
	}
	whole, err := runtime.Prepare(&runtime.Network{Name: n.Name, Model: n.Model, Layers: layers}, []runtime.Accelerator{o}, nil)
	if err != nil {
		return nil // refused: then there is nothing to compare with
	}
	w.wholes[m] = whole
	w.whole[m], err = whole.NewSlot()
	return err
}

// list numbers what this accelerator can run. Of each layer the original comes
// last, so that what the next one reads is its output.
func (w *worker) list() []place {
	var out []place
	for m, p := range w.programs {
		moved := map[activity][]int{}
		for l := range p.Network.Layers {
			for i := p.Implementations(l) - 1; i >= 0; i-- {
				if p.Runs(l, i, w.Index) {
					out = append(out, place{Do: layerRun, Model: m, Layer: l, Implementation: i})
				}
			}
			for _, x := range w.moves(m, l) {
				for do, tensors := range x.tensors() {
					moved[do] = append(moved[do], tensors...)
				}
			}
		}
		for _, do := range []activity{conversion, download, upload} {
			slices.Sort(moved[do])
			for _, t := range slices.Compact(moved[do]) {
				out = append(out, place{Do: do, Model: m, Tensor: t})
			}
		}
		if w.chained[m] != nil {
			out = append(out, place{Do: chainRun, Model: m})
		}
		if w.wholes[m] != nil {
			out = append(out, place{Do: wholeRun, Model: m})
		}
	}
	return out
}

// moves lists what this accelerator does when a request comes from each other
// one before a layer, or goes there.
func (w *worker) moves(model, layer int) []move {
	var out []move
	for other := range w.Specs {
		_, convert, to := w.programs[model].Moves(layer, other, w.Index)
		if len(convert)+len(to) > 0 {
			out = append(out, move{Model: model, Layer: layer, From: other, To: w.Index, Convert: convert, Upload: to})
		}
		if from, _, _ := w.programs[model].Moves(layer, w.Index, other); len(from) > 0 {
			out = append(out, move{Model: model, Layer: layer, From: w.Index, To: other, Download: from})
		}
	}
	return out
}

func (w *worker) allMoves() []move {
	var out []move
	for m, p := range w.programs {
		for l := range p.Network.Layers {
			out = append(out, w.moves(m, l)...)
		}
	}
	return out
}

// run times the places, in order, until one fails or it is to halt.
func (w *worker) run(places []int) reply {
	a := reply{Done: true, Times: make([]time.Duration, 0, len(places))}
	for _, i := range places {
		if w.halt.Load() {
			break
		}
		took, err := w.time(i)
		if err != nil {
			a.Failed = err.Error()
			break
		}
		a.Times = append(a.Times, took)
	}
	return a
}

// time does one thing and says how long it took. A clock that ticks coarsely
// can read zero; nothing takes no time.
func (w *worker) time(i int) (time.Duration, error) {
	if i < 0 || i >= len(w.places) {
		return 0, fmt.Errorf("there is no place %d", i)
	}
	p := w.places[i]
	var begin time.Time
	var err error
	switch p.Do {
	case conversion:
		begin = time.Now()
		err = w.spread[p.Model].Convert(p.Tensor)
	case upload:
		begin = time.Now()
		err = w.spread[p.Model].Upload(p.Tensor, w.Index)
	case download:
		begin = time.Now()
		err = w.spread[p.Model].Download(p.Tensor, w.Index)
	case chainRun:
		s := w.chained[p.Model]
		s.SetInputs(w.inputs[p.Model])
		begin = time.Now()
		for l := 0; l < len(w.Networks[p.Model].Layers) && err == nil; l++ {
			err = s.Run(l, 0, w.Index)
		}
	case wholeRun:
		s := w.whole[p.Model]
		s.SetInputs(w.inputs[p.Model])
		begin = time.Now()
		err = s.Run(0, 0, 0)
	default:
		run := w.spread[p.Model].Run
		if p.Implementation > 0 {
			run = w.spread[p.Model].RunBetween
		}
		begin = time.Now()
		err = run(p.Layer, p.Implementation, w.Index)
	}
	return max(1, time.Since(begin)), err
}

// busy works on the places until the next request, which is then answered. It
// says so when it has begun.
func (w *worker) busy(places []int) (reply, error) {
	if len(places) == 0 {
		return reply{}, errors.New("nothing to be busy with")
	}
	for n := 0; ; n++ {
		if _, err := w.time(places[n%len(places)]); err != nil {
			return reply{Done: true, Failed: err.Error()}, nil
		}
		if n == 0 {
			if err := w.wire.write(reply{Done: true}); err != nil {
				return reply{}, err
			}
		}
		select {
		case r, ok := <-w.requests:
			if !ok {
				return reply{}, io.EOF
			}
			return w.answer(r)
		default:
		}
	}
}

// dispatch runs the models in the real executor, one request of each at a time,
// on this accelerator alone, and gives the times between a layer's end and the
// next one's start.
func (w *worker) dispatch(length time.Duration) (reply, error) {
	var system sched.System
	for _, s := range w.Specs {
		system.Accelerators = append(system.Accelerators, s.Name)
	}
	system.Accelerators = append(system.Accelerators, anyOther.Name)
	var programs []*runtime.Program
	var rates []float64
	for m, p := range w.programs {
		if w.chained[m] == nil {
			continue
		}
		model := sched.Model{Name: w.Networks[m].Name, Deadline: time.Second}
		for l := range w.Networks[m].Layers {
			latency := slices.Repeat([]time.Duration{sched.Unavailable}, len(system.Accelerators))
			latency[w.Index] = time.Millisecond
			model.Layers = append(model.Layers, sched.Layer{Name: w.Networks[m].Layers[l].Name,
				Implementations: []sched.Implementation{{Name: "original", Latency: latency}}})
		}
		system.Models = append(system.Models, model)
		programs, rates = append(programs, p), append(rates, 1)
	}
	a := reply{Done: true}
	if len(programs) == 0 {
		return a, nil
	}
	tables, err := sched.Compile(system)
	if err != nil {
		return a, err
	}
	ex, err := runtime.NewExecutor(tables, programs, w.Seed)
	if err != nil {
		return a, err
	}
	defer ex.Close(context.Background())
	a.Times, err = gaps(ex, traffic.Config{Rates: rates, Process: traffic.ClosedLoop, Duration: length, Seed: w.Seed}, w.Index)
	return a, err
}

// shuffled is the order of one round: runs of consecutive layers, at most twice
// segment-1 of them, in random order, with everything else in between.
func shuffled(places []place, wanted func(place) bool, rng *rand.Rand) []int {
	const segment = 8
	var pieces [][]int
	left := 0 // places that the current run may still take
	for i, p := range places {
		if !wanted(p) {
			continue
		}
		last := len(pieces) - 1
		follows := last >= 0 && p.Do == layerRun && places[pieces[last][len(pieces[last])-1]].Do == layerRun &&
			places[pieces[last][len(pieces[last])-1]].Model == p.Model
		if !follows || left == 0 && p.Layer != places[pieces[last][len(pieces[last])-1]].Layer {
			pieces = append(pieces, nil)
			last++
			left = 1 + rng.IntN(2*segment-1)
		} else if p.Layer == places[pieces[last][len(pieces[last])-1]].Layer {
			left++ // another implementation of the same layer
		}
		left--
		pieces[last] = append(pieces[last], i)
	}
	rng.Shuffle(len(pieces), func(i, j int) { pieces[i], pieces[j] = pieces[j], pieces[i] })
	return slices.Concat(pieces...)
}

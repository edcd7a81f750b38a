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

// Serve is the work of a measuring process: it opens an accelerator of the task,
// by index, and answers the requests of a measurement until in ends. The task's
// accelerators and networks are those of the measurement, in the same order. It
// takes the calling thread for as long, and pins it to the accelerator's cores:
// call it in a process that does nothing else.
func Serve(in io.Reader, out io.Writer, t Task, accelerator int) error {
	s := &server{Task: t, k: accelerator, wire: newLines(in, out), requests: make(chan request)}
	defer s.close()
	readErr := make(chan error, 1)
	quit := make(chan struct{})
	defer close(quit)
	go func() { readErr <- s.receive(quit) }()
	// Not unlocked: the pinned thread ends with the goroutine.
	goruntime.LockOSThread()
	unusable := s.open()
	defer runtime.Quieten()()
	// Collections would hit single layers; there is next to no garbage.
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	for n := 1; ; n++ {
		r, ok := <-s.requests
		if !ok {
			if err := <-readErr; err != io.EOF {
				return err
			}
			return nil
		}
		var a reply
		err := unusable
		if err == nil {
			a, err = s.answer(r)
		}
		if err != nil {
			a = reply{Error: err.Error()}
		}
		if err := s.wire.write(a); err != nil {
			return err
		}
		if n%collectEvery == 0 {
			goruntime.GC()
		}
	}
}

// receive hands requests on until there are no more, and says why.
func (s *server) receive(quit <-chan struct{}) error {
	defer close(s.requests)
	for {
		var r request
		if err := s.wire.read(&r); err != nil {
			// Whatever runs must not run on for nobody.
			s.halt.Store(true)
			return err
		}
		if r.Ask == askHalt {
			s.halt.Store(true)
			continue
		}
		select {
		case s.requests <- r:
		case <-quit:
			return nil
		}
	}
}

// open opens the accelerator and pins the calling thread to its cores.
func (s *server) open() error {
	if !in(s.k, len(s.Accelerators)) {
		return fmt.Errorf("the task has no accelerator %d", s.k)
	}
	if s.Open == nil {
		s.Open = runtime.OpenORT
	}
	var err error
	if s.accelerator, err = s.Open(s.Accelerators[s.k]); err != nil {
		return err
	}
	return runtime.Pin(s.accelerator.Cores())
}

// collectEvery is after how many requests garbage is collected.
const collectEvery = 64

type server struct {
	Task
	k           int // of the accelerator
	accelerator runtime.Accelerator

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

func (s *server) close() {
	for _, slot := range slices.Concat(s.spread, s.chained, s.whole) {
		if slot != nil {
			slot.Close()
		}
	}
	for _, set := range s.inputs {
		for _, t := range set {
			t.Close()
		}
	}
	for _, p := range slices.Concat(s.programs, s.wholes) {
		if p != nil {
			p.Close()
		}
	}
	if s.accelerator != nil {
		s.accelerator.Close()
	}
}

func (s *server) answer(r request) (reply, error) {
	switch r.Ask {
	case askLoad:
		return s.load(r.Skip)
	case askRun:
		return s.run(r.Places), nil
	case askBusy:
		return s.busy(r.Places)
	case askRest: // the end of what askBusy began
		return reply{Done: true}, nil
	case askDispatch:
		return s.dispatch(r.For)
	case askPeak:
		p, err := measurePeak(s.accelerator)
		return reply{Done: true, Peak: p}, err
	}
	return reply{}, fmt.Errorf("unknown request %q", r.Ask)
}

// anyOther takes everything, so that a layer may be refused by all others.
var anyOther = runtime.Spec{Name: "(any other)", Optimization: "none"}

// absent stands for an accelerator that another process measures.
type absent struct{ runtime.Spec }

func (a *absent) Name() string                                 { return a.Spec.Name }
func (*absent) Cores() []int                                   { return nil }
func (a *absent) Prepare(runtime.Unit) (runtime.Kernel, error) { return a, nil }
func (*absent) Close() error                                   { return nil }
func (*absent) Run(_, _ []*runtime.Tensor) error {
	return errors.New("profiler: measured by another process")
}

// observed tells of every unit that is loaded.
type observed struct {
	runtime.Accelerator
	s  *server
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
	if err := o.s.wire.write(reply{Loading: &o.at}); err != nil {
		return nil, err
	}
	before, begin := ort.Allocated(), time.Now()
	k, err := o.Accelerator.Prepare(u)
	l := loaded{place: o.at, Took: time.Since(begin)}
	l.Memory = max(0, ort.Allocated()-before)
	if err != nil {
		l.Refused = err.Error()
	}
	return k, errors.Join(err, o.s.wire.write(reply{Loaded: &l}))
}

// load prepares everything and lists the places.
func (s *server) load(skips []skip) (reply, error) {
	accs := make([]runtime.Accelerator, len(s.Accelerators))
	for k, spec := range s.Accelerators {
		accs[k] = &absent{spec}
	}
	o := &observed{Accelerator: s.accelerator, s: s}
	accs[s.k] = o
	accs = append(accs, &absent{anyOther})
	a := reply{Done: true}
	for m, n := range s.Networks {
		one := *n
		one.Skip = func(layer, implementation, accelerator int) error {
			if accelerator != s.k {
				return nil
			}
			o.at = place{Do: layerRun, Model: m, Layer: layer, Implementation: implementation}
			return skipped(skips, o.at)
		}
		p, err := runtime.Prepare(&one, accs, nil)
		if err != nil {
			return a, err
		}
		s.programs = append(s.programs, p)
		in, err := n.Inputs(s.Seed)
		if err != nil {
			return a, err
		}
		s.inputs = append(s.inputs, in)
		spread, err := p.NewSpreadSlot()
		if err != nil {
			return a, err
		}
		spread.SetInputs(in)
		s.spread = append(s.spread, spread)
		a.Models = append(a.Models, n.Model.SHA256())
		if err := s.loadWhole(m, o, skips); err != nil {
			return a, err
		}
	}
	s.places = s.list()
	a.Places, a.Moves = s.places, s.allMoves()
	return a, nil
}

func skipped(skips []skip, at place) error {
	for _, x := range skips {
		if x.place == at {
			return errors.New(x.Reason)
		}
	}
	return nil
}

// maxWhole bounds the weights of models that are loaded a second time as a
// whole.
const maxWhole = 1 << 30

// loadWhole makes what a model's chain is held against, where all its layers
// run.
func (s *server) loadWhole(m int, o *observed, skips []skip) error {
	n, p := s.Networks[m], s.programs[m]
	s.chained, s.wholes, s.whole = append(s.chained, nil), append(s.wholes, nil), append(s.whole, nil)
	var weights int64
	for l := range n.Layers {
		if !p.Runs(l, 0, s.k) {
			return nil
		}
		weights += 4 * n.Layers[l].Parameters
	}
	var err error
	if s.chained[m], err = p.NewSlot(); err != nil {
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
	s.wholes[m] = whole
	s.whole[m], err = whole.NewSlot()
	return err
}

// list numbers what this accelerator can run. Of each layer the original comes
// last, so that what the next one reads is its output.
func (s *server) list() []place {
	var out []place
	for m, p := range s.programs {
		moved := map[activity][]int{}
		for l := range p.Network.Layers {
			for i := p.Implementations(l) - 1; i >= 0; i-- {
				if p.Runs(l, i, s.k) {
					out = append(out, place{Do: layerRun, Model: m, Layer: l, Implementation: i})
				}
			}
			for _, x := range s.moves(m, l) {
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
		if s.chained[m] != nil {
			out = append(out, place{Do: chainRun, Model: m})
		}
		if s.wholes[m] != nil {
			out = append(out, place{Do: wholeRun, Model: m})
		}
	}
	return out
}

// moves lists what this accelerator does when a request comes from each other
// one before a layer, or goes there.
func (s *server) moves(model, layer int) []move {
	var out []move
	for other := range s.Accelerators {
		_, convert, to := s.programs[model].Moves(layer, other, s.k)
		if len(convert)+len(to) > 0 {
			out = append(out, move{Model: model, Layer: layer, From: other, To: s.k, Convert: convert, Upload: to})
		}
		if from, _, _ := s.programs[model].Moves(layer, s.k, other); len(from) > 0 {
			out = append(out, move{Model: model, Layer: layer, From: s.k, To: other, Download: from})
		}
	}
	return out
}

func (s *server) allMoves() []move {
	var out []move
	for m, p := range s.programs {
		for l := range p.Network.Layers {
			out = append(out, s.moves(m, l)...)
		}
	}
	return out
}

// run times the places, in order, until one fails or it is to halt.
func (s *server) run(places []int) reply {
	a := reply{Done: true, Times: make([]time.Duration, 0, len(places))}
	for _, i := range places {
		if s.halt.Load() {
			break
		}
		took, err := s.time(i)
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
func (s *server) time(i int) (time.Duration, error) {
	if i < 0 || i >= len(s.places) {
		return 0, fmt.Errorf("there is no place %d", i)
	}
	p := s.places[i]
	var begin time.Time
	var err error
	switch p.Do {
	case conversion:
		begin = time.Now()
		err = s.spread[p.Model].Convert(p.Tensor)
	case upload:
		begin = time.Now()
		err = s.spread[p.Model].Upload(p.Tensor, s.k)
	case download:
		begin = time.Now()
		err = s.spread[p.Model].Download(p.Tensor, s.k)
	case chainRun:
		slot := s.chained[p.Model]
		slot.SetInputs(s.inputs[p.Model])
		begin = time.Now()
		for l := 0; l < len(s.Networks[p.Model].Layers) && err == nil; l++ {
			err = slot.Run(l, 0, s.k)
		}
	case wholeRun:
		slot := s.whole[p.Model]
		slot.SetInputs(s.inputs[p.Model])
		begin = time.Now()
		err = slot.Run(0, 0, 0)
	default:
		run := s.spread[p.Model].Run
		if p.Implementation > 0 {
			run = s.spread[p.Model].RunBetween
		}
		begin = time.Now()
		err = run(p.Layer, p.Implementation, s.k)
	}
	return max(1, time.Since(begin)), err
}

// busy works on the places until the next request, which is then answered. It
// says so when it has begun.
func (s *server) busy(places []int) (reply, error) {
	if len(places) == 0 {
		return reply{}, errors.New("nothing to be busy with")
	}
	for n := 0; ; n++ {
		if _, err := s.time(places[n%len(places)]); err != nil {
			return reply{Done: true, Failed: err.Error()}, nil
		}
		if n == 0 {
			if err := s.wire.write(reply{Done: true}); err != nil {
				return reply{}, err
			}
		}
		select {
		case r, ok := <-s.requests:
			if !ok {
				return reply{}, io.EOF
			}
			return s.answer(r)
		default:
		}
	}
}

// dispatch runs the models in the real executor, one request of each at a time,
// on this accelerator alone, and gives the times between a layer's end and the
// next one's start.
func (s *server) dispatch(length time.Duration) (reply, error) {
	var system sched.System
	for _, spec := range append(slices.Clone(s.Accelerators), anyOther) {
		system.Accelerators = append(system.Accelerators, spec.Name)
	}
	var programs []*runtime.Program
	var rates []float64
	for m, p := range s.programs {
		if s.chained[m] == nil {
			continue
		}
		model := sched.Model{Name: s.Networks[m].Name, Deadline: time.Second}
		for l := range s.Networks[m].Layers {
			latency := slices.Repeat([]time.Duration{sched.Unavailable}, len(system.Accelerators))
			latency[s.k] = time.Millisecond
			model.Layers = append(model.Layers, sched.Layer{Name: s.Networks[m].Layers[l].Name,
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
	ex, err := runtime.NewExecutor(tables, programs, s.Seed)
	if err != nil {
		return a, err
	}
	defer ex.Close(context.Background())
	a.Times, err = gaps(ex, traffic.Config{Rates: rates, Process: traffic.ClosedLoop, Duration: length, Seed: s.Seed}, s.k)
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

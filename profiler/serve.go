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
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/traffic"
)

// Serve is the work of a measuring process: it opens an accelerator of the task, by index, and answers the requests of
// a measurement until in ends. The task's accelerators and networks are those of the measurement, in the same order;
// networks have to be cut in the same places, so that a granularity that measures will not do (see [models.Cut]). Serve
// takes the calling thread for as long, and pins it to the accelerator's cores: call it in a process that does nothing
// else. See the package's documentation for why.
func Serve(in io.Reader, out io.Writer, t Task, accelerator int) error {
	s := &server{Task: t, k: accelerator, wire: newLines(in, out), requests: make(chan request)}
	defer s.close()
	readErr := make(chan error, 1)
	quit := make(chan struct{})
	defer close(quit)
	go func() {
		err := receive(s.wire, s.requests, quit, func(r request) bool {
			if r.Ask == askHalt {
				s.halt.Store(true)
			}
			return r.Ask == askHalt
		})
		s.halt.Store(true) // whatever runs must not run on for nobody
		readErr <- err
	}()
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

	models []*model
	places []place
}

// model is a network, loaded.
type model struct {
	*runtime.Program
	inputs  []*runtime.Tensor
	spread  *runtime.Slot    // timed layer by layer
	chained *runtime.Slot    // nil unless all layers run
	whole   *runtime.Slot    // of uncut
	uncut   *runtime.Program // nil where the model does not run as a whole
}

func (m *model) close() {
	for _, slot := range []*runtime.Slot{m.spread, m.chained, m.whole} {
		if slot != nil {
			slot.Close()
		}
	}
	for _, t := range m.inputs {
		t.Close()
	}
	for _, p := range []*runtime.Program{m.Program, m.uncut} {
		if p != nil {
			p.Close()
		}
	}
}

func (s *server) close() {
	for _, m := range s.models {
		m.close()
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

// among puts an accelerator in its place among the absent ones.
func (s *server) among(own runtime.Accelerator) []runtime.Accelerator {
	accs := make([]runtime.Accelerator, len(s.Accelerators))
	for k, spec := range s.Accelerators {
		accs[k] = &absent{spec}
	}
	accs[s.k] = own
	return accs
}

// observed tells of every unit that is loaded.
type observed struct {
	runtime.Accelerator
	s     *server
	at    place // what Skip was asked about last
	skips []failure
}

// skipped says why a place that comes next must not be loaded.
func (o *observed) skipped(at place) error {
	o.at = at
	for _, x := range o.skips {
		if x.place == at {
			return errors.New(x.Reason)
		}
	}
	return nil
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
func (s *server) load(skips []failure) (reply, error) {
	o := &observed{Accelerator: s.accelerator, s: s, skips: skips}
	accs := append(s.among(o), &absent{anyOther})
	a := reply{Done: true}
	for i, n := range s.Networks {
		one := *n
		one.Skip = func(layer, implementation, accelerator int) error {
			if accelerator != s.k {
				return nil
			}
			return o.skipped(place{Do: layerRun, Model: i, Layer: layer, Implementation: implementation})
		}
		m := &model{}
		s.models = append(s.models, m)
		a.Models = append(a.Models, n.Model.SHA256())
		var err error
		if m.Program, err = runtime.Prepare(&one, accs, nil); err != nil {
			return a, err
		}
		if m.inputs, err = n.Inputs(s.Seed); err != nil {
			return a, err
		}
		if m.spread, err = m.NewSpreadSlot(); err != nil {
			return a, err
		}
		m.spread.SetInputs(m.inputs)
		if err := s.loadWhole(i, o); err != nil {
			return a, err
		}
		a.Moves = append(a.Moves, s.moves(i)...)
	}
	s.list(a.Moves)
	a.Places = s.places
	return a, nil
}

// maxWhole bounds the weights of models that are loaded a second time as a whole.
const maxWhole = 1 << 30

// loadWhole makes what a model's chain is held against, where all its layers run.
func (s *server) loadWhole(i int, o *observed) error {
	m, n := s.models[i], s.Networks[i]
	var weights int64
	for l := range n.Layers {
		if !m.Runs(l, 0, s.k) {
			return nil
		}
		weights += 4 * n.Layers[l].Parameters
	}
	var err error
	if m.chained, err = m.NewSlot(); err != nil {
		return err
	}
	if weights > maxWhole || o.skipped(place{Do: wholeRun, Model: i}) != nil {
		return nil
	}
	whole, err := runtime.NewNetwork(n.Name, n.Model, "model")
	if err != nil {
		return err
	}
	if m.uncut, err = runtime.Prepare(whole, []runtime.Accelerator{o}, nil); err != nil {
		m.uncut = nil
		return nil // refused: then there is nothing to compare with
	}
	m.whole, err = m.uncut.NewSlot()
	return err
}

// list numbers what this accelerator can run. Of each layer the original comes last, so that what the next one reads is
// its output.
func (s *server) list(moves []move) {
	for i, m := range s.models {
		for l := range m.Network.Layers {
			for impl := m.Implementations(l) - 1; impl >= 0; impl-- {
				if m.Runs(l, impl, s.k) {
					s.places = append(s.places, place{Do: layerRun, Model: i, Layer: l, Implementation: impl})
				}
			}
		}
		moved := map[activity][]int{}
		for _, x := range moves {
			if x.Model != i {
				continue
			}
			for do, tensors := range x.tensors() {
				moved[do] = append(moved[do], tensors...)
			}
		}
		for _, do := range []activity{conversion, download, upload} {
			slices.Sort(moved[do])
			for _, t := range slices.Compact(moved[do]) {
				s.places = append(s.places, place{Do: do, Model: i, Tensor: t})
			}
		}
		if m.chained != nil {
			s.places = append(s.places, place{Do: chainRun, Model: i})
		}
		if m.uncut != nil {
			s.places = append(s.places, place{Do: wholeRun, Model: i})
		}
	}
}

// moves lists what this accelerator does when a request comes from each other one before a layer, or goes there.
func (s *server) moves(i int) []move {
	var out []move
	m := s.models[i]
	for l := range m.Network.Layers {
		for other := range s.Accelerators {
			_, convert, to := m.Moves(l, other, s.k)
			if len(convert)+len(to) > 0 {
				out = append(out, move{Model: i, Layer: l, From: other, To: s.k, Convert: convert, Upload: to})
			}
			if from, _, _ := m.Moves(l, s.k, other); len(from) > 0 {
				out = append(out, move{Model: i, Layer: l, From: s.k, To: other, Download: from})
			}
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

// time does one thing and says how long it took. A clock that ticks coarsely can read zero; nothing takes no time.
func (s *server) time(i int) (time.Duration, error) {
	if !in(i, len(s.places)) {
		return 0, fmt.Errorf("there is no place %d", i)
	}
	p := s.places[i]
	m := s.models[p.Model]
	var run func() error
	switch p.Do {
	case conversion:
		run = func() error { return m.spread.Convert(p.Tensor) }
	case upload:
		run = func() error { return m.spread.Upload(p.Tensor, s.k) }
	case download:
		run = func() error { return m.spread.Download(p.Tensor, s.k) }
	case chainRun:
		m.chained.SetInputs(m.inputs)
		run = func() error {
			for l := range m.Network.Layers {
				if err := m.chained.Run(l, 0, s.k); err != nil {
					return err
				}
			}
			return nil
		}
	case wholeRun:
		m.whole.SetInputs(m.inputs)
		run = func() error { return m.whole.Run(0, 0, 0) }
	default:
		layer := m.spread.Run
		if p.Implementation > 0 {
			layer = m.spread.RunBetween
		}
		run = func() error { return layer(p.Layer, p.Implementation, s.k) }
	}
	begin := time.Now()
	err := run()
	if a, has := s.accelerator.(interface{ Memory() runtime.Memory }); err == nil && has && a.Memory() != nil {
		err = a.Memory().Wait()
	}
	return max(1, time.Since(begin)), err
}

// busy works on the places until the next request, which is then answered. It says so when it has begun.
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

// dispatch runs the models in the real executor, one request of each at a time, on this accelerator alone, and gives
// the times between a layer's end and the next one's start.
func (s *server) dispatch(length time.Duration) (reply, error) {
	name := func(a runtime.Spec) string { return a.Name }
	system := sched.System{Accelerators: append(names(s.Accelerators, name), anyOther.Name)}
	var programs []*runtime.Program
	var rates []float64
	for _, m := range s.models {
		if m.chained == nil {
			continue
		}
		x := sched.Model{Name: m.Network.Name, Deadline: time.Second}
		for _, l := range m.Network.Layers {
			latency := slices.Repeat([]time.Duration{sched.Unavailable}, len(system.Accelerators))
			latency[s.k] = time.Millisecond
			x.Layers = append(x.Layers, sched.Layer{Name: l.Name,
				Implementations: []sched.Implementation{{Name: original, Latency: latency}}})
		}
		system.Models = append(system.Models, x)
		programs, rates = append(programs, m.Program), append(rates, 1)
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
	work := traffic.Config{Rates: rates, Process: traffic.ClosedLoop, Duration: length, Seed: s.Seed}
	a.Times, err = gaps(ex, work, s.k)
	return a, err
}

// shuffled is the order of one round: runs of consecutive layers, at most twice segment-1 of them, in random order,
// with everything else in between.
func shuffled(places []place, wanted func(place) bool, rng *rand.Rand) []int {
	const segment = 8
	var pieces [][]int
	left := 0 // places that the current run may still take
	for i, p := range places {
		if !wanted(p) {
			continue
		}
		last := place{Do: chainRun} // none that a layer could follow
		if n := len(pieces); n > 0 {
			last = places[pieces[n-1][len(pieces[n-1])-1]]
		}
		same := p.Layer == last.Layer // another implementation of it
		switch {
		case p.Do != layerRun || last.Do != layerRun || last.Model != p.Model || left == 0 && !same:
			pieces = append(pieces, nil)
			left = 1 + rng.IntN(2*segment-1)
		case same:
			left++
		}
		left--
		pieces[len(pieces)-1] = append(pieces[len(pieces)-1], i)
	}
	rng.Shuffle(len(pieces), func(i, j int) { pieces[i], pieces[j] = pieces[j], pieces[i] })
	return slices.Concat(pieces...)
}

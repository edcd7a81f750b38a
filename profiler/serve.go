package profiler

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	goruntime "runtime"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	"github.com/terastal/terastal/runtime"
)

// Serve is the work of a measuring process: it opens an accelerator of the task, by index, and answers the requests of
// a measurement until in ends. The task's accelerators and networks are those of the measurement, in the same order;
// networks have to be cut in the same places, so that a granularity that measures will not do (see [models.Cut]). Serve
// takes the calling thread for as long, and pins it to the accelerator's cores: call it in a process that does nothing
// else. See the package's documentation for why.
func Serve(in io.Reader, out io.Writer, t Task, accelerator int) error {
	s := &server{Task: t, k: accelerator, clock: t.clocks[accelerator], wire: newLines(in, out),
		requests: make(chan request), rng: rand.New(rand.NewPCG(t.Seed, uint64(accelerator)))}
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

// open opens the accelerator, and the other streams of its device, and pins the calling thread to its cores.
func (s *server) open() error {
	if !in(s.k, len(s.Accelerators)) {
		return fmt.Errorf("the task has no accelerator %d", s.k)
	}
	if s.Open == nil {
		s.Open = new(runtime.Devices).Open
	}
	for _, k := range streamsOf(s.Accelerators, s.k) {
		a, err := s.Open(s.Accelerators[k])
		if err != nil {
			return err
		}
		if k == s.k {
			s.accelerator, s.memory = a, runtime.MemoryOf(a)
			continue
		}
		x, err := newStream(a)
		if err != nil {
			a.Close()
			return err
		}
		s.streams = append(s.streams, x)
		s.others = append(s.others, k)
	}
	if err := runtime.Pin(s.accelerator.Cores()); err != nil {
		return err
	}
	if s.memory != nil {
		s.room, _, _ = s.memory.Room() // 0 where it does not tell
	}
	var err error
	s.pacer, err = newPacer(s.memory)
	return err
}

// collectEvery is after how many requests garbage is collected.
const collectEvery = 64

type server struct {
	Task
	k           int // of the accelerator
	clock       clock
	accelerator runtime.Accelerator

	wire     *lines
	requests chan request
	halt     atomic.Bool // after the current place

	models []*model
	places []place
	took   map[place]time.Duration // when they were timed last

	// Of an accelerator with memory of its own:
	memory  runtime.Memory
	pacer   *pacer    // nil where the memory has no events
	streams []*stream // the others of the device
	others  []int     // which accelerators they are
	warm    map[int]bool
	room    int64         // that was free at first
	chains  int           // that each stream runs, when streams are tried
	idle    time.Time     // since when the device may rest
	wait0   time.Duration // what waiting for nothing takes, where there are no events
	rng     *rand.Rand
}

// model is a network, loaded.
type model struct {
	*runtime.Program
	inputs  []*runtime.Tensor
	spread  *runtime.Slot    // timed layer by layer
	chained *runtime.Slot    // nil unless all layers run
	plain   *runtime.Slot    // the same without captured layers; nil where there are none
	whole   *runtime.Slot    // of uncut
	graph   *runtime.Slot    // the same, captured; nil where it cannot be
	uncut   *runtime.Program // nil where the model does not run as a whole
}

func (m *model) close() {
	for _, slot := range []*runtime.Slot{m.spread, m.chained, m.plain, m.whole, m.graph} {
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
	for _, x := range s.streams {
		x.release()
	}
	for _, m := range s.models {
		m.close()
	}
	s.pacer.close()
	for _, x := range s.streams {
		x.thread.close()
		x.accelerator.Close()
	}
	if s.accelerator != nil {
		s.accelerator.Close()
	}
	s.models, s.pacer, s.streams, s.accelerator, s.memory = nil, nil, nil, nil, nil
}

func (s *server) answer(r request) (reply, error) {
	switch r.Ask {
	case askLoad:
		return s.load(r.Skip)
	case askRun:
		return s.run(r)
	case askReady:
		return s.capture()
	case askBusy:
		return s.busy(r.Places)
	case askRest: // the end of what askBusy began
		return reply{Done: true}, nil
	case askDispatch:
		return s.dispatch(r.For, r.Lead)
	case askDevice:
		return s.describe()
	case askStreams:
		return s.try(r.Streams)
	case askPeak:
		p, err := s.measurePeak()
		return reply{Done: true, Peak: p}, err
	}
	return reply{}, fmt.Errorf("unknown request %q", r.Ask)
}

// run times the places, in order, until one fails or it is to halt, while other streams are busy.
func (s *server) run(r request) (reply, error) {
	a := reply{Done: true, Times: make([]time.Duration, 0, len(r.Places))}
	if !in(r.Streams, 1+len(s.streams)) || r.Streams > 0 && len(s.streams[0].chains) == 0 {
		return a, nil // no model runs there as a whole
	}
	for _, i := range r.Places {
		if !in(i, len(s.places)) {
			return a, fmt.Errorf("there is no place %d", i)
		}
	}
	rest, err := occupy(s.streams[:r.Streams])
	if err != nil {
		return a, err
	}
	list := r.Places
	for len(list) > 0 && a.Failed == "" && !s.halt.Load() {
		n := 1
		var times []time.Duration
		if s.pacer != nil && s.places[list[0]].Do.follows() {
			for n < len(list) && s.places[list[n]].Do.follows() {
				n++
			}
			times, err = s.paced(list[:n])
		} else if s.memory != nil && s.places[list[0]].Do == layerRun {
			for n < len(list) && s.places[list[n]].Do == layerRun {
				n++
			}
			times, err = s.bundled(list[:n])
		} else {
			times, err = s.timed(list[0])
		}
		a.Times = append(a.Times, times...)
		if err != nil {
			a.Failed = err.Error()
		}
		if len(times) == 0 {
			break
		}
		list = list[len(times):]
	}
	return a, rest()
}

// timed is one place's time on the host's clock.
func (s *server) timed(i int) ([]time.Duration, error) {
	if err := s.warmUp(i); err != nil {
		return nil, err
	}
	if s.pacer != nil && s.places[i].Do.model() {
		return s.series(i)
	}
	took, err := s.once(i)
	if err != nil {
		return nil, err
	}
	s.took[s.places[i]] = took
	return []time.Duration{took}, nil
}

// once does one thing, to its end, and says how long it took. A clock that ticks coarsely can read zero; nothing takes
// no time.
func (s *server) once(i int) (time.Duration, error) {
	begin := s.clock.time()
	err := s.submit(i)
	if err == nil && s.memory != nil {
		err = s.wait(s.places[i].Do)
	}
	return max(1, s.clock.time().Sub(begin)), err
}

// wait returns when what was submitted is complete.
func (s *server) wait(do activity) error {
	if do == conversion || do == download && s.pacer == nil { // these are
		return nil
	}
	return s.memory.Wait()
}

// submit does one thing. Where the accelerator has memory of its own it is complete when it was waited for.
func (s *server) submit(i int) error {
	p := s.places[i]
	m := s.models[p.Model]
	// On a device, the inputs of chains that have run stay there, and so do the outputs.
	whole := func(slot *runtime.Slot, layers, on int) error {
		c := chain{slot, m.inputs, layers, on}
		if s.pacer != nil && s.warm[i] {
			return c.again()
		}
		return c.submit()
	}
	layers := len(m.Network.Layers)
	switch p.Do {
	case conversion:
		return m.spread.Convert(p.Tensor)
	case upload:
		return m.spread.Upload(p.Tensor, s.k)
	case download:
		return m.spread.Download(p.Tensor, s.k)
	case chainRun:
		return whole(m.chained, layers, s.k)
	case plainRun:
		return whole(m.plain, layers, s.k)
	case wholeRun:
		return whole(m.whole, 1, 0)
	case graphRun:
		return whole(m.graph, 1, 0)
	}
	if s.memory != nil && (p.Layer == 0 || p.Layer == layers-1) {
		m.spread.SetInputs(m.inputs) // they are copied, and so are the outputs
	}
	if p.Implementation > 0 {
		return m.spread.RunBetween(p.Layer, p.Implementation, s.k)
	}
	return m.spread.Run(p.Layer, p.Implementation, s.k)
}

// busy works on the places until the next request, which is then answered. It says so when it has begun.
func (s *server) busy(places []int) (reply, error) {
	if len(places) == 0 || slices.ContainsFunc(places, func(i int) bool { return !in(i, len(s.places)) }) {
		return reply{}, errors.New("nothing to be busy with")
	}
	work := func(i int) error { _, err := s.once(i); return err }
	if s.pacer != nil {
		work = func(i int) error {
			if err := s.submit(i); err != nil {
				return err
			}
			return s.pacer.queue.push()
		}
	}
	for n := 0; ; n++ {
		err := work(places[n%len(places)])
		if err == nil && n == 0 {
			if err := s.wire.write(reply{Done: true}); err != nil {
				return reply{}, err
			}
		}
		if err == nil {
			select {
			case r, ok := <-s.requests:
				if !ok {
					return reply{}, io.EOF
				}
				if err = s.settle(); err == nil {
					return s.answer(r)
				}
			default:
				continue
			}
		}
		return reply{Done: true, Failed: err.Error()}, nil
	}
}

// settle waits for what was submitted without waiting.
func (s *server) settle() error {
	if s.pacer == nil {
		return nil
	}
	s.idle = s.clock.time()
	return s.memory.Wait()
}

// segment is how many layers follow each other, on average.
const segment = 8

// shuffled is the order of one round: runs of consecutive layers, at most twice segment-1 of them, in random order,
// with everything else in between.
func shuffled(places []place, wanted func(place) bool, rng *rand.Rand) []int {
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

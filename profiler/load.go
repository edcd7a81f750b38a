package profiler

import (
	"errors"
	"slices"
	"time"

	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/runtime"
)

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

// among puts the device's accelerators in their places among the absent ones.
func (s *server) among(own func(runtime.Accelerator) runtime.Accelerator) []runtime.Accelerator {
	accs := make([]runtime.Accelerator, len(s.Accelerators))
	for k, spec := range s.Accelerators {
		accs[k] = &absent{spec}
	}
	accs[s.k] = own(s.accelerator)
	for i, k := range s.others {
		accs[k] = own(s.streams[i].accelerator)
	}
	return accs
}

// loading is what is about to be loaded, and what must not be.
type loading struct {
	at    place // what Skip was asked about last
	skips []failure
}

// observed tells of every unit that is loaded.
type observed struct {
	runtime.Accelerator
	s *server
	*loading
}

// skipped says why a place that comes next must not be loaded.
func (o *loading) skipped(at place) error {
	o.at = at
	for _, x := range o.skips {
		if x.place == at {
			return errors.New(x.Reason)
		}
	}
	return nil
}

// Memory is the observed accelerator's.
func (o *observed) Memory() runtime.Memory { return runtime.MemoryOf(o.Accelerator) }

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
	o := &loading{skips: skips}
	observe := func(a runtime.Accelerator) runtime.Accelerator { return &observed{a, s, o} }
	accs := append(s.among(observe), &absent{anyOther})
	s.warm, s.took = map[int]bool{}, map[place]time.Duration{}
	a := reply{Done: true, Apart: s.memory != nil, Events: s.pacer != nil}
	for i, n := range s.Networks {
		one := *n
		one.Skip = func(layer, implementation, accelerator int) error {
			if accelerator != s.k && !slices.Contains(s.others, accelerator) {
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
		if err := s.loadChains(m); err != nil {
			return a, err
		}
		if err := s.loadWhole(i, observe(s.accelerator).(*observed)); err != nil {
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

// loadChains makes what a model's chains run in, on all streams, where all its layers run.
func (s *server) loadChains(m *model) (err error) {
	layers := len(m.Network.Layers)
	for l := range layers {
		if !m.Runs(l, 0, s.k) {
			return nil
		}
	}
	if m.chained, err = s.newSlot(m.Program); err != nil {
		return err
	}
	for i, x := range s.streams {
		slot, err := m.NewSlot()
		if err != nil {
			return err
		}
		x.chains = append(x.chains, chain{slot, m.inputs, layers, s.others[i]})
	}
	return nil
}

// loadWhole makes what a model's chain is held against, where all its layers run.
func (s *server) loadWhole(i int, o *observed) error {
	m, n := s.models[i], s.Networks[i]
	var weights int64
	for l := range n.Layers {
		weights += 4 * n.Layers[l].Parameters
	}
	var err error
	if m.chained == nil || weights > maxWhole || o.skipped(place{Do: wholeRun, Model: i}) != nil {
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
	m.whole, err = s.newSlot(m.uncut)
	return err
}

// newSlot makes what a chain is timed in. On a device its inputs stay where they are.
func (s *server) newSlot(p *runtime.Program) (*runtime.Slot, error) {
	if s.pacer != nil {
		return p.NewSpreadSlot()
	}
	return p.NewSlot()
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
	for l := 1; l < len(m.Network.Layers); l++ { // nothing comes from anywhere before the first
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

package runtime

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/sched"
)

const (
	// warmTries is how often an implementation of a layer is run at most until its runs are ordinary.
	warmTries = 8
	// captureFor is for how long layers are captured before a run. What is not captured then runs all the same.
	captureFor = 20 * time.Second
)

// stalls reports whether a layer took so much longer than predicted that it says nothing about the layer.
func stalls(took, predicted time.Duration) bool { return took > 3*predicted+time.Millisecond }

// agree reports whether two runs of a layer took as long, but for noise.
func agree(a, b time.Duration) bool { return max(a, b)-min(a, b) < min(a, b)/2+200*time.Microsecond }

// warmUp has every accelerator do once what it will do in runs, on the thread that will do it: providers compile and
// search when a kernel first runs, and keep what they find for the thread. Then it captures what can be captured. The
// first stream of a device is warmed up before the others, which disturb each other's searches for fast kernels. It ends
// early when the context does.
func (e *Executor) warmUp(ctx context.Context) {
	odd := make([][]string, len(e.accs))
	warm := func(k, slot int) {
		if e.threads[k].err != nil || !computes(e.accs[k]) {
			return
		}
		e.threads[k].do(func() {
			for m := range e.models {
				odd[k] = append(odd[k], e.warm(ctx, m, k, slot)...)
			}
		})
	}
	roomy := e.roomy()
	first, others := e.order()
	for _, ks := range [][]int{first, others} {
		var all sync.WaitGroup
		for _, k := range ks {
			if roomy {
				all.Go(func() { warm(k, k) })
			} else { // for the tensors of one request
				warm(k, 0)
			}
		}
		all.Wait()
	}
	for k, names := range odd {
		if len(names) > 0 {
			e.notes = append(e.notes, fmt.Sprintf("accelerator %q: %d layers take longer than predicted whenever they run, "+
				"such as %s", e.accs[k].Name(), len(names), names[0]))
		}
	}
	for k, t := range e.threads {
		if t.err == nil {
			t.do(func() { e.meet(k) })
		}
	}
	for _, a := range e.accs {
		if n, has := as[interface{ Notes() []string }](a); has {
			for _, text := range n.Notes() {
				if !slices.Contains(e.notes, text) {
					e.notes = append(e.notes, text)
				}
			}
		}
	}
	e.countDevices()
	e.captureAll(ctx)
	e.measureRoom()
}

// order is which accelerators are warmed up first, and which after them: further streams of their devices.
func (e *Executor) order() (first, others []int) {
	known := map[string]bool{}
	for k, a := range e.accs {
		if m := MemoryOf(a); m != nil && known[m.Device()] {
			others = append(others, k)
			continue
		} else if m != nil {
			known[m.Device()] = true
		}
		first = append(first, k)
	}
	return first, others
}

// roomy reports whether there is memory for a request of every model on each accelerator at once.
func (e *Executor) roomy() bool {
	for _, m := range e.models {
		if err := m.stock(len(e.accs)); err != nil || len(m.free) < len(e.accs) {
			return false
		}
	}
	return true
}

// planned is the latency of an implementation in the tables; false where the plan does not run it.
func (e *Executor) planned(model, layer, implementation, k int) (time.Duration, bool) {
	is := e.tables.System().Models[model].Layers[layer].Implementations
	if implementation >= len(is) || is[implementation].Latency[k] == sched.Unavailable {
		return 0, false
	}
	return is[implementation].Latency[k], true
}

// each calls f with every implementation of a model that the plan runs on an accelerator, the originals last.
func (e *Executor) each(model, k int, f func(layer, implementation int, planned time.Duration)) {
	p := e.models[model]
	for l := range p.cells {
		for i := len(p.cells[l]) - 1; i >= 0; i-- {
			if planned, runs := e.planned(model, l, i, k); runs {
				f(l, i, planned)
			}
		}
	}
}

// warm runs a model's implementations on an accelerator until they are ordinary, on one of its slots, and names those
// that never are. What fails now fails again when it is needed.
func (e *Executor) warm(ctx context.Context, model, k, slot int) (odd []string) {
	m := e.models[model]
	s := m.free[slot]
	s.SetInputs(m.sets[0])
	e.each(model, k, func(l, i int, planned time.Duration) {
		if ctx.Err() == nil && !s.ordinary(l, i, k, planned) {
			odd = append(odd, fmt.Sprintf("layer %q of %q", m.Network.Layers[l].Name, m.Network.Name))
		}
	})
	for i := range m.tensors {
		if t := &m.tensors[i]; t.convert != nil && s.tensors[i] != nil && s.tensors[t.twin] != nil {
			_ = s.Convert(i)
		}
	}
	if m.streams != nil && m.streams[k] != nil {
		s.copyAll(k)
	}
	return odd
}

// meet has an accelerator wait once for the other streams of its device, which have nothing to do.
func (e *Executor) meet(k int) {
	for _, m := range e.models {
		for o, other := range m.streams {
			if on := m.streams[k]; on != nil && other != nil && o != k && other.device == on.device && other.seq > 0 {
				_ = on.memory.After(other.events[other.seq%marks])
			}
		}
	}
}

// ordinary runs a layer until it takes as long as predicted, twice on an accelerator with a memory; false if it never
// does.
func (s *Slot) ordinary(layer, implementation, k int, planned time.Duration) bool {
	var before time.Duration
	there := s.program.on(k) != nil
	for n := range warmTries {
		start := time.Now()
		err := compute(&assignment{Dispatch: sched.Dispatch{Layer: layer, Implementation: implementation, Accelerator: k},
			slot: s})
		if err == nil {
			err = s.Wait()
		}
		if err != nil {
			return true
		}
		took := time.Since(start)
		if !stalls(took, planned) && (!there || n > 0 && agree(took, before)) {
			return true
		}
		before = took
	}
	return false
}

// copyAll copies every tensor that an accelerator may have to copy, both ways.
func (s *Slot) copyAll(k int) {
	on := s.program.streams[k]
	there := s.devices[on.device]
	for i, t := range there.tensors {
		if t == nil || s.tensors[i] == nil {
			continue
		}
		if on.memory.Copy(s.tensors[i], t) == nil && s.program.tensors[i].place >= 0 {
			_ = on.memory.Copy(t, s.tensors[i])
		}
	}
	_ = on.memory.Wait()
}

// countDevices lists the devices of the accelerators.
func (e *Executor) countDevices() {
	for k, a := range e.accs {
		m := MemoryOf(a)
		if m == nil {
			continue
		}
		at := slices.IndexFunc(e.devices, func(d DeviceStats) bool { return d.Name == m.Device() })
		if at < 0 {
			at = len(e.devices)
			e.devices = append(e.devices, DeviceStats{Name: m.Device()})
		}
		e.devices[at].Accelerators = append(e.devices[at].Accelerators, k)
	}
}

// spareCaptured is for how many more slots of a model layers are captured than a device has streams: for requests that
// wait in the middle while others run. With one, a policy that interleaves many ran 3 of 10 layers uncaptured on an H100.
const spareCaptured = 3

// captureAll captures every layer of every model for as many slots as can be used at once, the first slots of all
// models before further ones, until captureFor is over.
func (e *Executor) captureAll(ctx context.Context) {
	defer e.sortFixed()
	most := 0
	for _, d := range e.devices {
		most = max(most, len(d.Accelerators)+spareCaptured)
	}
	until := time.Now().Add(captureFor)
	for n := range most {
		for i, m := range e.models {
			if err := m.stock(n + 1); err != nil || n >= len(m.free) {
				continue
			}
			s := m.free[n]
			for d := range e.devices {
				for _, k := range e.devices[d].Accelerators {
					if ctx.Err() != nil || !m.captures(k) {
						continue
					}
					if time.Now().After(until) {
						e.notes = append(e.notes, fmt.Sprintf("after %v of capturing, %d of %d buffers of each model are captured: "+
							"other requests run their layers uncaptured", captureFor, n, most))
						return
					}
					if e.threads[k].err == nil {
						e.threads[k].do(func() { e.capture(i, d, k, s) })
					}
				}
			}
		}
	}
}

// captures reports whether an accelerator's kernels can be captured at all.
func (p *Program) captures(accelerator int) (can bool) {
	p.each(func(_, k int, c *cell) {
		if k == accelerator && !can {
			_, can = c.kernel.(Capturer)
		}
	})
	return can
}

// sortFixed puts the slots with captured kernels apart.
func (e *Executor) sortFixed() {
	for _, m := range e.models {
		all := m.free
		m.free = nil
		for _, s := range slices.Backward(all) {
			m.give(s)
		}
	}
}

// capture captures a model's layers on one accelerator for one slot, and replays them once. What cannot be captured
// runs all the same, and so does everything if the outputs are others then.
func (e *Executor) capture(model, device, k int, s *Slot) {
	m := e.models[model]
	s.SetInputs(m.sets[0])
	plain, failed := s.chain(k)
	e.each(model, k, func(l, i int, _ time.Duration) {
		if err := s.Capture(l, i, k); err != nil {
			e.uncaptured(device, Uncaptured{m.Network.Name, m.Network.Layers[l].Name, m.name(l, i), why(err)})
		}
	})
	if failed != nil || s.captured == nil || s.captured[k] == nil {
		return
	}
	s.SetInputs(m.sets[0])
	replayed, err := s.chain(k)
	for o, info := range m.Network.Model.Outputs() {
		if err != nil {
			break
		}
		d, different := models.Compare(info.Type, replayed[o], plain[o])
		if different != nil || !(d.MaxRel <= Tolerance) {
			err = fmt.Errorf("output %q is another one when the layers are captured", info.Name)
		}
	}
	if err != nil {
		s.release(k)
		e.uncaptured(device, Uncaptured{Model: m.Network.Name, Why: why(err)})
	}
}

// chain runs the originals of all layers on an accelerator and returns copies of the outputs.
func (s *Slot) chain(k int) ([][]byte, error) {
	for l := range s.program.cells {
		if !s.program.Runs(l, 0, k) {
			return nil, s.program.Refused(l, 0, k)
		}
		if err := s.Run(l, 0, k); err != nil {
			return nil, err
		}
	}
	if err := s.Wait(); err != nil {
		return nil, err
	}
	return s.copyOutputs(nil), nil
}

// name is what an implementation of a layer is called.
func (p *Program) name(layer, implementation int) string {
	if implementation == 0 {
		return Original
	}
	return p.Network.Variants[layer][implementation-1].Name
}

// why is an error without what every such error says.
func why(err error) string {
	text := strings.TrimPrefix(err.Error(), ErrUncaptured.Error()+": ")
	if errors.Is(err, ErrUncaptured) {
		text = strings.TrimSuffix(text, ": "+ErrUncaptured.Error())
	}
	return text
}

// uncaptured notes once what is not captured.
func (e *Executor) uncaptured(device int, u Uncaptured) {
	d := &e.devices[device]
	if !slices.ContainsFunc(d.Uncaptured, func(x Uncaptured) bool {
		return x.Model == u.Model && x.Layer == u.Layer && x.Implementation == u.Implementation
	}) {
		d.Uncaptured = append(d.Uncaptured, u)
	}
}

// measureRoom notes how much of the devices' memory all that was loaded takes.
func (e *Executor) measureRoom() {
	for i := range e.devices {
		d := &e.devices[i]
		k := d.Accelerators[0]
		if e.threads[k].err != nil {
			continue
		}
		e.threads[k].do(func() {
			if free, total, err := MemoryOf(e.accs[k]).Room(); err == nil && total > 0 {
				d.Free, d.Total = free, total
			}
		})
		if u, has := as[interface{ DeviceUse() DeviceUse }](e.accs[k]); has {
			d.Needed = u.DeviceUse().All
		}
	}
}

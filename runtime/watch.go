package runtime

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/terastal/terastal/sched"
)

const (
	// watchEvery is how often layers that run too long are looked for, and progress is reported.
	watchEvery = 100 * time.Millisecond
	// tooMany failed layers in a row take an accelerator out of service for a
	// while: one whose device is gone fails fast and would attract all work.
	tooMany = 3
	// firstRest and longestRest are for how long.
	firstRest   = 10 * time.Millisecond
	longestRest = time.Second
)

// watch looks for layers that hang and reports progress until the run is over.
func (d *driver) watch() {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	var stats Stats
	for {
		select {
		case <-d.done:
			return
		case <-tick.C:
		}
		d.mu.Lock()
		if w := d.hanging(d.since()); w != nil {
			w.giveUp()
		}
		if !d.crew.inService() { // and would notice releases
			d.due(d.since(), sched.Idle)
			d.settle()
		}
		report := d.opts.Progress != nil
		if report {
			d.snapshot(&stats)
		}
		d.unlock()
		if report {
			d.opts.Progress(stats)
		}
	}
}

// hanging is the accelerator whose layer runs far too long, nil where there is none. Of several it is the one whose
// layer began first: the others may only wait for what that one holds, and get on, or fail, when it is given up.
func (d *driver) hanging(now time.Duration) (first *worker) {
	for _, w := range d.crew.all {
		if w.running == 0 || w.answering || w.lost {
			continue
		}
		g := &w.given[0]
		// The limit is kept even if this thread wakes up late.
		if long := max(d.opts.Hang(g.dispatch)-2*watchEvery, watchEvery); now-g.from >= long &&
			(first == nil || g.from < first.given[0].from) {
			first = w
		}
	}
	return first
}

// giveUp gives up an accelerator that hangs: it is out of service until its layer returns, at least until the run is
// over, and the request fails.
func (w *worker) giveUp() {
	d, x := w.d, w.given[0].dispatch
	now := d.since()
	w.lost = true
	d.lost[w.k].Store(true)
	w.stick(true)
	for i := range w.running { // the one behind it does not get on either
		g := &w.given[i]
		p := d.models[g.dispatch.Model]
		if g.slot != nil && !g.slot.hanging {
			g.slot.hanging = true
			w.stuck = append(w.stuck, g.slot)
		}
		p.hang(p.at(&g.dispatch).kernel, true)
	}
	model := &d.tables.System().Models[x.Model]
	detail := fmt.Sprintf("layer %q of %q hangs on %q", model.Layers[x.Layer].Name, model.Name, w.accelerator.Name())
	d.journal.note("%s: it ran longer than %v; the accelerator is out of service", detail, d.opts.Hang(x))
	d.step(sched.Event{Kind: sched.AcceleratorDown, At: now, Accelerator: w.k, Detail: detail}, sched.Idle)
	for w.running > 0 {
		d.finish(w, sched.Event{Kind: sched.Fail, At: now, Detail: detail}, sched.Idle)
	}
	d.appoint()
	d.settle()
}

// stick says that nothing gets on, or does again, of what the worker has submitted for requests of any model.
func (w *worker) stick(hangs bool) {
	for _, m := range w.d.models {
		if w.memory != nil {
			m.streams[w.k].stuck.Store(hangs)
		}
	}
}

// returned takes in that a layer given up has returned after all. After the last one tensors and kernels are free again,
// and later runs may use the accelerator.
func (w *worker) returned(a *assignment) {
	d := w.d
	p := d.models[a.Model]
	p.hang(p.at(&a.Dispatch).kernel, false)
	if len(w.queue) > 0 {
		return
	}
	w.stick(false)
	for _, s := range w.stuck {
		if s.hanging = false; !slices.Contains(d.slots.bound, s) { // else its request is about to end elsewhere
			s.Close()
			s.owner.made.Add(-1)
		}
	}
	w.stuck = nil
	d.lost[w.k].Store(false)
}

// failed takes in a layer's error: its request fails, or waits to try again. The accelerator rests after an error that
// is to be retried, so that another one gets the layer if it can, and after too many errors. A request that has moved on
// from the layer, which was announced, fails in any case.
func (w *worker) failed(a *assignment, ev sched.Event, err error, announced bool) (assignment, bool) {
	d := w.d
	ev.Kind, ev.Detail = sched.Fail, err.Error()
	if errors.Is(err, ErrTensorsLost) { // by another accelerator
		return d.finish(w, ev, w.k)
	}
	if !errors.Is(err, ErrNoRoom) { // which is not for ever
		w.errors++
	}
	retry := !announced && a.slot != nil && a.slot.attempts < d.opts.Retries && a.slot.lost == nil &&
		d.models[a.Model].intact(&a.Dispatch)
	if retry {
		a.slot.attempts++
		ev.Kind = sched.Requeue
	}
	if retry || w.errors >= tooMany {
		rest := min(firstRest<<min(max(w.errors, 1)-1, 10), longestRest)
		if !retry {
			rest = min(firstRest<<min(w.errors-tooMany, 10), longestRest)
		}
		w.back = ev.At + rest
		d.step(sched.Event{Kind: sched.AcceleratorDown, At: ev.At, Accelerator: w.k,
			Detail: fmt.Sprintf("rests for %v after an error", rest)}, sched.Idle)
	}
	return d.finish(w, ev, w.k)
}

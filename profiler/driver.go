package profiler

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

const (
	// attempts is how often a place may fail or take its process with it.
	attempts = 3
	// strays is how often a process may be lost where no place is to blame before its places run one at a time for good.
	strays = 3
	// loadTimeout bounds each step of loading: the largest is that ONNX Runtime optimises a whole model.
	loadTimeout = 5 * time.Minute
)

// driver keeps one measuring process running, and what that has measured.
type driver struct {
	*measurement
	k    int
	rng  *rand.Rand
	conn Conn
	wire *lines
	in   chan reply    // closed when the process is gone
	quit chan struct{} // closed when nobody listens any more

	places  []place // of the process that runs
	known   []place // of the last one in the journal
	moves   []move
	solo    map[place][]time.Duration
	crowded []map[place][]time.Duration // by busy accelerator
	// streams are the accelerators on the device, of which this one, the first, is measured for all.
	streams   []int
	contended []map[place][]time.Duration // by number of other streams that are busy
	apart     bool                        // it has memory of its own
	events    bool                        // and a clock
	plain     bool                        // nothing is captured: that took a process with it
	device    *Device
	// undescribed is true when what the streams have in common could not be measured.
	undescribed bool
	captured    []int // layers that are captured as graphs, by model
	loads       map[place]loaded
	tried       map[place]int
	enough      map[place]bool // need not be timed any more
	dead        map[place]string
	stray       int // processes lost without a place to blame
	rounds      int // that are kept
	fresh       bool
	longest     time.Duration // that a round has taken
	peak        *Peak
	gaps        []time.Duration
	// satisfied is true when every cell is known to the precision.
	satisfied bool
	// split is how many samples each place had when the process was started last.
	split map[place]int
}

func newDriver(m *measurement, k int) *driver {
	d := &driver{measurement: m, k: k, rng: rand.New(rand.NewPCG(m.Seed, uint64(k))), solo: map[place][]time.Duration{},
		loads: map[place]loaded{}, tried: map[place]int{}, enough: map[place]bool{}, dead: map[place]string{}}
	for range m.Accelerators {
		d.crowded = append(d.crowded, map[place][]time.Duration{})
	}
	d.streams = streamsOf(m.Accelerators, k)
	for range d.streams {
		d.contended = append(d.contended, map[place][]time.Duration{})
	}
	return d
}

// lostError says that a process is gone, and why.
type lostError struct{ reason string }

func (e lostError) Error() string { return e.reason }

// call asks and returns the answer, or a lostError. Each message may take as long as the timeout. When ctx ends, the
// process is told to halt after its current place.
func (d *driver) call(ctx context.Context, r request, timeout time.Duration, notice func(reply) error) (reply, error) {
	if err := d.wire.write(r); err != nil {
		return reply{}, d.lost("")
	}
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	done := ctx.Done()
	for {
		select {
		case a, ok := <-d.in:
			switch {
			case !ok:
				return a, d.lost("")
			case a.Error != "":
				return a, fmt.Errorf("accelerator %q: %s", d.Accelerators[d.k].Name, a.Error)
			case a.Done:
				return a, nil
			}
			if err := notice(a); err != nil {
				return a, err
			}
			timer.Reset(timeout)
		case <-timer.C:
			return reply{}, d.lost(fmt.Sprintf("hung: no answer within %v", timeout))
		case <-done:
			done = nil
			if r.Ask == askLoad { // nothing that could be kept
				d.conn.Kill()
				d.close()
				return reply{}, ctx.Err()
			}
			if err := d.wire.write(request{Ask: askHalt}); err != nil {
				return reply{}, d.lost("")
			}
		}
	}
}

// lost ends the process and says why it is gone.
func (d *driver) lost(reason string) error {
	if reason != "" {
		d.conn.Kill()
	}
	if err := d.close(); reason == "" {
		reason = "ended without a word"
		if err != nil {
			reason = err.Error()
		}
	}
	return lostError{reason}
}

// close ends the process and says how it ended.
func (d *driver) close() error {
	if d.conn == nil {
		return nil
	}
	close(d.quit)
	err := d.conn.Close()
	d.conn = nil
	return err
}

// contentions is how many rounds there are next to so many busy streams.
func (d *driver) contentions(streams int) int {
	most := 0
	for _, times := range d.contended[streams] {
		most = max(most, len(times))
	}
	return most
}

// lead is the device's, as far as it is known.
func (d *driver) lead() time.Duration {
	if d.device == nil {
		return 0
	}
	return d.device.Lead
}

// connect starts a process.
func (d *driver) connect() error {
	conn, err := d.Start(d.k)
	if err != nil {
		return err
	}
	d.conn, d.wire, d.in, d.quit = conn, newLines(conn, conn), make(chan reply), make(chan struct{})
	go receive(d.wire, d.in, d.quit, func(reply) bool { return false })
	return nil
}

// start has a process loaded and warm, whatever it takes, or says why that cannot be.
func (d *driver) start(ctx context.Context) error {
	for d.conn == nil {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := d.connect(); err != nil {
			return err
		}
		if err := d.load(ctx); err != nil {
			return err
		}
		if d.conn != nil {
			if err := d.warm(ctx); err != nil {
				return err
			}
		}
		if d.conn != nil && d.events && !d.plain {
			if err := d.capture(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// capture has the process capture what it can, and get the other streams ready. One that is lost over it is not asked
// again.
func (d *driver) capture(ctx context.Context) error {
	a, ok, err := d.ask(ctx, request{Ask: askReady}, loadTimeout)
	if !ok {
		d.plain = true
		return err
	}
	d.captured = a.Captured
	return d.list(a.Places)
}

// list takes the places that the process has.
func (d *driver) list(places []place) error {
	d.places = places
	if slices.Equal(d.known, d.places) {
		return nil
	}
	return d.record(entry{Places: d.places})
}

// load has the process load everything. When it is lost, conn is nil afterwards.
func (d *driver) load(ctx context.Context) error {
	var skips []failure
	for p, reason := range d.dead {
		skips = append(skips, failure{p, reason})
	}
	var at *place
	a, err := d.call(ctx, request{Ask: askLoad, Skip: skips}, loadTimeout, func(r reply) error {
		if r.Loading != nil {
			at = r.Loading
		}
		if r.Loaded == nil {
			return nil
		}
		at = nil
		d.loading()
		if _, again := d.loads[r.Loaded.place]; again {
			return nil
		}
		return d.record(entry{Loaded: r.Loaded})
	})
	var lost lostError
	switch {
	case errors.As(err, &lost) && at != nil:
		return d.blame(*at, "while it was loaded: "+lost.reason)
	case errors.As(err, &lost):
		// Where no place is to blame, it is tried a few times.
		if d.stray++; d.stray >= attempts {
			return fmt.Errorf("accelerator %q: its measuring process was lost %d times, the last time: %s",
				d.Accelerators[d.k].Name, d.stray, lost.reason)
		}
		return nil
	case err != nil:
		return err
	}
	for m, n := range d.Networks {
		if m >= len(a.Models) || a.Models[m] != n.Model.SHA256() {
			return fmt.Errorf("model %q changed while it was measured", n.Name)
		}
	}
	d.moves, d.apart, d.events = a.Moves, a.Apart, a.Events
	return d.list(a.Places)
}

// blame counts a failure of a place.
func (d *driver) blame(p place, reason string) error {
	return d.record(entry{Failed: &failure{p, reason}})
}

// warm runs every place once, in order and one at a time, so that every tensor holds what it should and a place that
// takes the process with it is known.
func (d *driver) warm(ctx context.Context) error {
	for i, p := range d.places {
		for d.dead[p] == "" {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			ok, err := d.single(ctx, i, nil)
			if err != nil || d.conn == nil {
				return err
			}
			if ok {
				break
			}
		}
	}
	d.fresh = true
	d.split = map[place]int{}
	for p, times := range d.solo {
		d.split[p] = len(times)
	}
	return nil
}

// single runs one place and keeps its time if keep is not nil; false if it failed.
func (d *driver) single(ctx context.Context, i int, keep func(int, time.Duration)) (bool, error) {
	a, err := d.call(ctx, request{Ask: askRun, Places: []int{i}}, d.Timeout, nil)
	var lost lostError
	switch {
	case errors.As(err, &lost):
		return false, d.blame(d.places[i], lost.reason)
	case err != nil:
		return false, err
	case a.Failed != "":
		return false, d.blame(d.places[i], a.Failed)
	case len(a.Times) == 1 && keep != nil:
		keep(i, a.Times[0])
	}
	return true, nil
}

// company is what works while a round is timed: another accelerator if that is not nil, and so many other streams.
type company struct {
	busy    *driver
	streams int
}

// round times what is wanted once, in a new order, next to the company. Times go to the journal. The round after a start
// does not count.
func (d *driver) round(ctx context.Context, wanted func(place) bool, with company) error {
	busy := with.busy
	if err := d.start(ctx); err != nil {
		return err
	}
	list := shuffled(d.places, func(p place) bool { return d.dead[p] == "" && wanted(p) }, d.rng)
	if len(list) == 0 {
		d.rounds++
		return nil
	}
	if busy != nil {
		if ok, err := busy.occupy(ctx); !ok || err != nil {
			return err
		}
	}
	begin := time.Now()
	e, err := d.times(ctx, list, with.streams)
	e.Spent, e.Streams = time.Since(begin), with.streams
	d.longest = max(d.longest, e.Spent)
	if busy != nil {
		e.Busy = &busy.k
		_, _, rest := busy.ask(context.Background(), request{Ask: askRest}, d.Timeout)
		err = cmp.Or(err, rest)
	}
	switch {
	case err != nil:
		return err
	case d.fresh && with == company{}:
		d.fresh = false
		return nil
	case len(e.At) == 0:
		return nil
	}
	return d.record(e)
}

// times runs the listed places. A process that is lost costs its round.
func (d *driver) times(ctx context.Context, list []int, streams int) (entry, error) {
	var e entry
	add := func(i int, t time.Duration) { e.At, e.Times = append(e.At, i), append(e.Times, t) }
	if d.stray >= strays {
		if streams > 0 {
			return e, nil
		}
		for _, i := range list {
			if ctx.Err() != nil || d.conn == nil {
				break
			}
			if _, err := d.single(ctx, i, add); err != nil {
				return e, err
			}
		}
		return e, nil
	}
	timeout := d.Timeout + 10*d.longest
	if streams > 0 {
		timeout += loadTimeout // they may have to be warmed up
	}
	a, ok, err := d.ask(ctx, request{Ask: askRun, Places: list, Streams: streams}, timeout)
	if !ok {
		return e, err
	}
	for n, t := range a.Times {
		add(list[n], t)
	}
	if a.Failed != "" {
		return e, d.blame(d.places[list[len(a.Times)]], a.Failed)
	}
	return e, nil
}

// occupy makes the process busy; false if it cannot be.
func (d *driver) occupy(ctx context.Context) (bool, error) {
	if err := d.start(ctx); err != nil {
		return false, err
	}
	list := shuffled(d.places, func(p place) bool { return p.Do == layerRun && d.dead[p] == "" }, d.rng)
	if len(list) == 0 {
		return false, nil
	}
	a, ok, err := d.ask(ctx, request{Ask: askBusy, Places: list}, d.Timeout)
	return ok && a.Failed == "", err
}

// ask is call where no place is to blame for a process that is lost: it is counted, and ok is false.
func (d *driver) ask(ctx context.Context, r request, timeout time.Duration) (a reply, ok bool, err error) {
	a, err = d.call(ctx, r, timeout, nil)
	if errors.As(err, new(lostError)) {
		d.stray++
		return a, false, nil
	}
	return a, err == nil, err
}

// once asks for something that may fail without harm.
func (d *driver) once(ctx context.Context, r request, timeout time.Duration) error {
	if err := d.start(ctx); err != nil {
		return err
	}
	a, _, _ := d.ask(ctx, r, timeout)
	if a.Peak == nil && len(a.Times) == 0 && a.Device == nil {
		return nil
	}
	return d.record(entry{Peak: a.Peak, Gaps: a.Times, Device: a.Device})
}

// record takes what is new, and writes it to the journal.
func (d *driver) record(e entry) error {
	e.Accelerator = d.k
	if err := d.take(e); err != nil {
		return err
	}
	return d.note(e)
}

// take takes an entry, of the journal or new.
func (d *driver) take(e entry) error {
	switch {
	case e.Places != nil:
		d.known = e.Places
	case e.Loaded != nil:
		d.loads[e.Loaded.place] = *e.Loaded
	case e.Failed != nil:
		p := e.Failed.place
		if d.tried[p]++; d.tried[p] >= attempts {
			d.dead[p] = fmt.Sprintf("failed %d times: %s", attempts, e.Failed.Reason)
		}
	case e.Peak != nil:
		d.peak = e.Peak
	case e.Gaps != nil:
		d.gaps = e.Gaps
	case e.Device != nil:
		d.device = e.Device
	default:
		return d.keep(e)
	}
	return nil
}

// keep takes what a round gave.
func (d *driver) keep(e entry) error {
	if len(e.At) != len(e.Times) || e.Busy != nil && !in(*e.Busy, len(d.Accelerators)) || !in(e.Streams, len(d.streams)) ||
		slices.ContainsFunc(e.At, func(i int) bool { return !in(i, len(d.known)) }) {
		return errors.New("a round of places that do not exist")
	}
	to := d.solo
	switch {
	case e.Streams > 0:
		to = d.contended[e.Streams]
	case e.Busy != nil:
		to = d.crowded[*e.Busy]
	default:
		d.rounds++
	}
	for n, i := range e.At {
		if p := d.known[i]; len(to[p]) < maxSamples {
			to[p] = append(to[p], e.Times[n])
		}
	}
	return nil
}

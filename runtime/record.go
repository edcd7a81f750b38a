package runtime

import (
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/eventlog"
)

const (
	// firstRecords bounds what is set aside for records at the start, chunkRecords
	// is what is added whenever that is full.
	firstRecords = 1 << 19
	chunkRecords = 1 << 14
)

// recording keeps records in chunks that are made, and their memory touched,
// before they are needed, so that keeping one takes a copy and nothing else.
type recording struct {
	full  []eventlog.Buffer
	now   eventlog.Buffer
	spare chan eventlog.Buffer
	used  chan struct{} // tells the maker that the spare one was taken
}

func newRecording(expected int) *recording {
	return &recording{full: make([]eventlog.Buffer, 0, 1<<10), now: newChunk(max(expected, chunkRecords)), spare: make(chan eventlog.Buffer, 1), used: make(chan struct{}, 1)}
}

func newChunk(n int) eventlog.Buffer {
	c := make(eventlog.Buffer, n)
	for i := 0; i < n; i += 32 { // one record per page at least
		c[i].At = 1
	}
	return c[:0]
}

// make keeps a spare chunk until done is closed.
func (r *recording) make(done <-chan struct{}) {
	for {
		select {
		case r.spare <- newChunk(chunkRecords):
		case <-done:
			return
		}
		select {
		case <-r.used:
		case <-done:
			return
		}
	}
}

func (r *recording) add(rec sched.Record) {
	if len(r.now) == cap(r.now) {
		r.full = append(r.full, r.now)
		select {
		case r.now = <-r.spare:
			r.used <- struct{}{}
		default:
			r.now = newChunk(chunkRecords)
		}
	}
	r.now = append(r.now, eventlog.Record(rec))
}

// all is everything recorded.
func (r *recording) all() eventlog.Buffer {
	if len(r.full) == 0 {
		return r.now
	}
	n := len(r.now)
	for _, c := range r.full {
		n += len(c)
	}
	out := make(eventlog.Buffer, 0, n)
	for _, c := range r.full {
		out = append(out, c...)
	}
	return append(out, r.now...)
}

// Record takes in what the engine did: it is kept, counted, and ends requests.
func (d *driver) Record(rec sched.Record) {
	if d.log != nil {
		d.log.add(rec)
	}
	d.count(&rec)
	if rec.Kind != sched.Ended {
		return
	}
	slot := d.land(rec.Job)
	if slot != nil && !slot.hanging {
		d.free[rec.Model] = append(d.free[rec.Model], slot)
	}
	if p := d.pending[rec.Job]; p != nil {
		delete(d.pending, rec.Job)
		if slot == nil || !slot.hanging { // else a kernel may still read them
			p.free()
		}
		p.end(&rec)
	}
}

// expectedRecords is how many records the run will write, up to a bound on what
// is set aside at once: two per layer and two per job.
func (d *driver) expectedRecords() int {
	n := 0
	for _, a := range d.arrivals {
		if n += 2 * (1 + len(d.programs[a.Model].Network.Layers)); n > firstRecords {
			return firstRecords
		}
	}
	return n
}

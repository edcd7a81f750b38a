package runtime

import (
	"fmt"
	"slices"

	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/eventlog"
	"github.com/terastal/terastal/sched/traffic"
)

// journal is what is kept of a run.
type journal struct {
	log     *recording // nil where no records are kept
	stats   Stats
	keeper  keeper
	steps   Histogram // durations of the engine's steps
	samples sampler
	notes   []string // doubts about the run
}

// add keeps a record and counts it.
func (j *journal) add(rec *sched.Record) {
	if j.log != nil {
		j.log.add(rec)
	}
	j.stats.count(rec)
	j.keeper.count(rec, &j.stats)
}

// note keeps a doubt about the run.
func (j *journal) note(format string, args ...any) {
	j.notes = append(j.notes, fmt.Sprintf(format, args...))
}

// Record takes in what the engine did: it is kept, counted, and ends requests.
func (d *driver) Record(rec sched.Record) {
	d.journal.add(&rec)
	if rec.Kind != sched.Ended {
		return
	}
	slot := d.slots.unbind(rec.Job)
	hangs := slot != nil && slot.hanging
	if slot != nil && !hangs {
		d.models[rec.Model].give(slot)
	}
	if p := d.releases.pending[rec.Job]; p != nil {
		delete(d.releases.pending, rec.Job)
		if !hangs { // else a kernel may still read them
			p.free()
		}
		p.end(&rec)
	}
}

// result is that of a run that is over.
func (d *driver) result() *Result {
	d.mu.Lock()
	defer d.unlock()
	j := &d.journal
	r := &Result{Started: d.start, Decisions: j.steps, Searches: d.seeker.took, Samples: j.samples.kept,
		LateSlots: d.slots.late, Notes: slices.Concat(d.notes, j.notes), GC: d.meter.read(),
		Devices: slices.Clone(d.devices)}
	d.snapshot(&r.Stats)
	r.Stats.At = d.now
	for _, w := range d.crew.all {
		if w.lost {
			r.Lost = append(r.Lost, w.stats.Accelerator)
		} else {
			r.Workers = append(r.Workers, w.stats)
		}
	}
	if j.log != nil {
		r.Log = &eventlog.Log{Header: d.header, Records: j.log.all()}
	}
	return r
}

// sampler chooses the requests whose outputs are kept.
type sampler struct {
	// from holds, by model, the jobs from which on samples are yet due.
	from [][]int64
	// room has, by model, samples with memory to copy to.
	room [][]*Sample
	kept []Sample
}

// plan spreads so many samples over each model's jobs: from each of these on, the first that gets to its end is kept. A
// closed loop and triggers release more jobs than the arrivals tell; any of them will do.
func (s *sampler) plan(arrivals []traffic.Arrival, models int, samples func(model int) int) {
	byModel := make([][]int64, models)
	for i, a := range arrivals {
		byModel[a.Model] = append(byModel[a.Model], int64(i))
	}
	s.from = make([][]int64, models)
	all := 0
	for m, jobs := range byModel {
		n := samples(m)
		all += n
		for i := range n {
			from := int64(0)
			if len(jobs) > 0 {
				from = jobs[i*len(jobs)/n]
			}
			s.from[m] = append(s.from[m], from)
		}
	}
	s.kept, s.room = make([]Sample, 0, all), make([][]*Sample, models)
}

// provide sets memory for n samples of a model aside, and touches it: copying to new memory takes several times as long.
func (s *sampler) provide(model, n int, p *Program) {
	layers, size := len(p.Network.Layers), 0
	for _, t := range p.Network.Model.Outputs() {
		size += int(t.Bytes())
	}
	memory, ran := make([]byte, n*size), make([]Ran, n*layers)
	for i := 0; i < len(memory); i += 1 << 10 {
		memory[i] = 1
	}
	for i := range ran {
		ran[i].Accelerator = sched.Idle
	}
	for range n {
		x := &Sample{Ran: ran[:0:layers]}
		ran = ran[layers:]
		for _, t := range p.Network.Model.Outputs() {
			x.Outputs = append(x.Outputs, memory[:t.Bytes():t.Bytes()])
			memory = memory[t.Bytes():]
		}
		s.room[model] = append(s.room[model], x)
	}
}

// due is where the outputs of a job's last layer are to be kept; nil if they are not.
func (s *sampler) due(model int, job int64) *Sample {
	from := s.from[model]
	if len(from) == 0 || job < from[0] {
		return nil
	}
	s.from[model] = from[1:]
	room := s.room[model]
	if len(room) == 0 {
		return &Sample{}
	}
	s.room[model] = room[1:]
	return room[0]
}

// expectedRecords is how many records a run will write, up to a bound on what
// is set aside at once: two per layer and two per job.
func (e *Executor) expectedRecords(arrivals []traffic.Arrival) int {
	n := 0
	for _, a := range arrivals {
		n += 2 * (1 + len(e.models[a.Model].Network.Layers))
	}
	return min(n, firstRecords)
}

const (
	// firstRecords bounds what is set aside for records at the start, chunkRecords is what is added whenever that is full.
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
	return &recording{full: make([]eventlog.Buffer, 0, 1<<10), now: newChunk(max(expected, chunkRecords)),
		spare: make(chan eventlog.Buffer, 1), used: make(chan struct{}, 1)}
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

func (r *recording) add(rec *sched.Record) {
	if len(r.now) == cap(r.now) {
		r.full = append(r.full, r.now)
		select {
		case r.now = <-r.spare:
			r.used <- struct{}{}
		default:
			r.now = newChunk(chunkRecords)
		}
	}
	r.now = append(r.now, eventlog.Record(*rec))
}

// all is everything recorded.
func (r *recording) all() eventlog.Buffer {
	if len(r.full) == 0 {
		return r.now
	}
	return slices.Concat(append(r.full, r.now)...)
}

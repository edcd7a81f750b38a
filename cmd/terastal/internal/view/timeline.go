package view

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/terastal/terastal/sched"
)

// maxTimeline bounds how many layer runs and requests the timeline holds, over all
// logs: each takes some 12 to 16 bytes of the file.
const maxTimeline = 200_000

// timeline is the data that the script draws from. Times are in units of 100 ns from the start of the run.
type timeline struct {
	Unit    int64            `json:"unit_ns"`
	Systems []timelineSystem `json:"systems"`
	Reasons []string         `json:"reasons"`
	Details []string         `json:"details"`
	Logs    []timelineLog    `json:"logs"`
	// First is the log that is shown first: that with the fewest misses.
	First int `json:"first"`
}

type timelineSystem struct {
	Accelerators []string        `json:"accelerators"`
	Models       []timelineModel `json:"models"`
}

type timelineModel struct {
	Name   string     `json:"name"`
	Layers [][]string `json:"layers"` // name, then the names of the implementations
}

// timelineLog is one run. Jobs and runs are variable-length integers (as encoding/binary's; those marked ± zigzag) in
// base64. Per job, in order of release records: ±id - (id before + 1), model, ±release - the one before, noticed -
// release, deadline - release, outcome, end - noticed, detail. Per layer run, in order of ends: ±job - the one before,
// layer, accelerator, implementation, reason, ±dispatch - end before on that accelerator, begin - dispatch, ±start -
// begin, end - start, ±predicted finish - end. Begin is later than the dispatch where a layer was decided before the one
// before it had ended, on the accelerator or of the request.
type timelineLog struct {
	Label   string     `json:"label"`
	System  int        `json:"system"`
	End     int64      `json:"end"`   // of what is shown
	Whole   int64      `json:"whole"` // of the run
	Jobs    string     `json:"jobs"`
	Runs    string     `json:"runs"`
	NJobs   int        `json:"n_jobs"`
	NRuns   int        `json:"n_runs"`
	Outages [][3]int64 `json:"outages"`
}

const timelineUnit = 100 * time.Nanosecond

func units(t time.Duration) int64 { return int64(t / timelineUnit) }

// newTimeline encodes the first log of every series, whole or up to the instant
// at which all together reach the bound. It returns nil when there is no log.
func newTimeline(all []*series, bound int) (t *timeline, note string) {
	logged := slices.DeleteFunc(slices.Clone(all), func(s *series) bool { return len(s.logs) == 0 })
	if len(logged) == 0 {
		return nil, ""
	}
	until, whole := window(logged, bound)
	t = &timeline{Unit: int64(timelineUnit), Reasons: []string{}, Details: []string{}}
	for _, s := range logged {
		t.Logs = append(t.Logs, t.encode(s.label, s.logs[0], until))
	}
	for _, s := range ranked(all) {
		if len(s.logs) > 0 {
			t.First = slices.Index(logged, s)
			break
		}
	}
	if !whole {
		note = fmt.Sprintf("The timeline holds the first %s of the run, to keep this file small; everything else on this "+
			"page is about the whole run.", secondsText(until))
	}
	return t, note
}

// window is the instant up to which the logs have no more layer runs and requests than the bound.
func window(logged []*series, bound int) (until time.Duration, whole bool) {
	var at []time.Duration
	for _, s := range logged {
		l := s.logs[0]
		for i := range l.jobs {
			at = append(at, l.jobs[i].noticed)
		}
		for i := range l.spans {
			at = append(at, l.spans[i].end)
		}
	}
	slices.Sort(at)
	if len(at) <= bound {
		return 1 << 62, true
	}
	return at[bound] - 1, false
}

// indexOf is where text is in the list, which it is added to if it is not there.
func indexOf(list *[]string, s string) int64 {
	i := slices.Index(*list, s)
	if i < 0 {
		i = len(*list)
		*list = append(*list, s)
	}
	return int64(i)
}

func (t *timeline) system(s *sched.System) int {
	x := timelineSystem{Accelerators: s.Accelerators}
	for _, m := range s.Models {
		tm := timelineModel{Name: m.Name}
		for _, l := range m.Layers {
			names := []string{l.Name}
			for _, im := range l.Implementations {
				names = append(names, im.Name)
			}
			tm.Layers = append(tm.Layers, names)
		}
		x.Models = append(x.Models, tm)
	}
	same := func(y timelineSystem) bool {
		alike := func(a, b timelineModel) bool {
			return a.Name == b.Name && slices.EqualFunc(a.Layers, b.Layers, slices.Equal)
		}
		return slices.Equal(x.Accelerators, y.Accelerators) && slices.EqualFunc(x.Models, y.Models, alike)
	}
	if i := slices.IndexFunc(t.Systems, same); i >= 0 {
		return i
	}
	t.Systems = append(t.Systems, x)
	return len(t.Systems) - 1
}

// unsigned appends integers that are not negative.
func unsigned(to []byte, of ...int64) []byte {
	for _, x := range of {
		to = binary.AppendUvarint(to, uint64(x))
	}
	return to
}

func (t *timeline) encode(label string, l *history, until time.Duration) timelineLog {
	out := timelineLog{Label: label, System: t.system(&l.Header.System), Outages: [][3]int64{}}
	var jobs, runs []byte
	id, release := int64(-1), int64(0)
	for i := range l.jobs {
		j := &l.jobs[i]
		out.Whole = max(out.Whole, units(j.end))
		if j.noticed > until {
			continue
		}
		at, noticed := units(j.release), units(j.noticed)
		jobs = unsigned(binary.AppendVarint(jobs, j.id-id-1), int64(j.model))
		jobs = unsigned(binary.AppendVarint(jobs, at-release), max(0, noticed-at), units(j.deadline)-at, int64(j.outcome),
			units(j.end)-noticed, indexOf(&t.Details, j.detail))
		id, release = j.id, at
		out.End = max(out.End, units(min(j.end, until)))
		out.NJobs++
	}
	before, ends := 0, make([]int64, len(l.Header.System.Accelerators))
	for i := range l.spans {
		s := &l.spans[i]
		if s.end > until {
			break
		}
		from, begin, start, end := units(s.dispatched), units(s.begin), units(s.start), units(s.end)
		runs = unsigned(binary.AppendVarint(runs, int64(s.job-before)), int64(s.layer), int64(s.accelerator),
			int64(s.implementation), indexOf(&t.Reasons, s.reason.String()))
		runs = unsigned(binary.AppendVarint(runs, from-ends[s.accelerator]), begin-from)
		runs = unsigned(binary.AppendVarint(runs, start-begin), end-start)
		runs = binary.AppendVarint(runs, units(s.predicted)-end)
		before, ends[s.accelerator] = s.job, end
		out.NRuns++
	}
	for _, o := range l.outages {
		if o.from <= until {
			out.Outages = append(out.Outages, [3]int64{int64(o.accelerator), units(o.from), units(min(o.to, until))})
		}
	}
	out.Jobs, out.Runs = base64.StdEncoding.EncodeToString(jobs), base64.StdEncoding.EncodeToString(runs)
	return out
}

package view

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/terastal/terastal/cmd/terastal/internal/table"
	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/eventlog"
)

// TestTimeline decodes what the script decodes and holds it against the log.
func TestTimeline(t *testing.T) {
	p := &Page{Logs: []NamedLog{{"a", simulate(t, "mobile", "terastal", eventlog.Real, 500*msec)}}}
	h := newHistory(p.Logs[0].Log)
	tl, note := newTimeline(p.allSeries(), maxTimeline)
	if note != "" || tl.Logs[0].NJobs != len(h.jobs) || tl.Logs[0].NRuns != len(h.spans) || len(h.spans) < 300 {
		t.Fatalf("%d jobs, %d runs of %d, %d: %s", tl.Logs[0].NJobs, tl.Logs[0].NRuns, len(h.jobs), len(h.spans), note)
	}
	ints := decoder(t, tl.Logs[0].Jobs)
	id, release := int64(-1), int64(0)
	for i := range h.jobs {
		j := &h.jobs[i]
		id += ints.signed() + 1
		model := ints.unsigned()
		release += ints.signed()
		noticed, deadline, outcome := release+ints.unsigned(), release+ints.unsigned(), ints.unsigned()
		end, detail := noticed+ints.unsigned(), tl.Details[ints.unsigned()]
		if id != j.id || int(model) != j.model || release != units(j.release) || deadline != units(j.deadline) ||
			sched.Outcome(outcome) != j.outcome || end != units(j.end) || detail != j.detail {
			t.Fatalf("job %d is %d, model %d, from %d to %d, due %d, outcome %d %q; want %+v", i, id, model, release, end,
				deadline, outcome, detail, *j)
		}
	}
	ints.finished()
	ints = decoder(t, tl.Logs[0].Runs)
	at, ends, layers := int64(0), [2]int64{}, make([]int, len(h.jobs))
	for i := range h.spans {
		s := &h.spans[i]
		at += ints.signed()
		k, implementation, reason := ints.unsigned(), ints.unsigned(), tl.Reasons[ints.unsigned()]
		from := ends[k] + ints.signed()
		start := from + ints.unsigned()
		end := start + ints.unsigned()
		predicted := end + ints.signed()
		ends[k] = end
		if int(at) != s.job || int(k) != s.accelerator || int(implementation) != s.implementation ||
			reason != s.reason.String() || layers[at] != s.layer ||
			from != units(s.dispatched) || start != units(s.start) || end != units(s.end) || predicted != units(s.predicted) {
			t.Fatalf("run %d differs from %+v", i, *s)
		}
		layers[at]++
	}
	ints.finished()
}

// ints reads variable-length integers.
type ints struct {
	t    *testing.T
	data []byte
}

func decoder(t *testing.T, text string) *ints {
	data := testkit.Must(base64.StdEncoding.DecodeString(text))(t)
	return &ints{t, data}
}

func (d *ints) unsigned() (x int64) {
	for shift := 0; ; shift += 7 {
		b := d.data[0]
		d.data = d.data[1:]
		x |= int64(b&127) << shift
		if b < 128 {
			return x
		}
	}
}

func (d *ints) signed() int64 {
	x := d.unsigned()
	return x>>1 ^ -(x & 1)
}

func (d *ints) finished() {
	if len(d.data) != 0 {
		d.t.Errorf("%d bytes are left", len(d.data))
	}
}

// TestSizeIsBounded: a long run is cut in the timeline, says so, and leaves the
// file below 5 MB; what else the page says is of the whole.
func TestSizeIsBounded(t *testing.T) {
	l := simulate(t, "mobile", "terastal", eventlog.Real, 150*time.Second)
	p := &Page{Logs: []NamedLog{{"a", l}}}
	data := testkit.Must(p.HTML())(t)
	if len(data) > 5e6 || len(data) < 2e6 {
		t.Errorf("the page has %d bytes", len(data))
	}
	tl, note := newTimeline(p.allSeries(), maxTimeline)
	if n := tl.Logs[0].NJobs + tl.Logs[0].NRuns; n > maxTimeline || n < maxTimeline-2 || !strings.Contains(note,
		"The timeline holds the first ") || !strings.Contains(string(data), table.Keep(note)) {
		t.Errorf("%d entries of %d, %q", n, maxTimeline, note)
	}
	released := 0
	for _, m := range l.Metrics().Models {
		released += m.Released
	}
	if !strings.Contains(string(data), plural(released, "request")+" released") {
		t.Errorf("the page does not speak of all %d requests", released)
	}
}

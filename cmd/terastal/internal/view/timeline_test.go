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

// TestTimeline: what the script decodes is what the log has, also where layers are decided ahead on streams of a device.
func TestTimeline(t *testing.T) {
	decoded(t, simulate(t, "mobile", "terastal", eventlog.Real, 500*msec))
	s := system("mobile")
	s.Devices = []sched.Device{{Name: "gpu", Accelerators: []int{0, 1}, Lead: 200 * time.Microsecond,
		Waking: []sched.Waking{{Idle: msec, Extra: 90 * time.Microsecond}}}}
	h := decoded(t, simulateOn(t, s, "terastal", eventlog.Real, 500*msec))
	ahead, ends := 0, make([]time.Duration, 2)
	for i := range h.spans {
		x := &h.spans[i]
		if x.begin > x.dispatched {
			ahead++
		}
		if x.start < x.begin || x.start < ends[x.accelerator] {
			t.Fatalf("run %d starts before it can, or before %v: %+v", i, ends[x.accelerator], *x)
		}
		if off := x.predicted - x.end; off < -100*time.Microsecond || off > 100*time.Microsecond {
			t.Fatalf("run %d is predicted to end %v off: %+v", i, off, *x)
		}
		ends[x.accelerator] = x.end
	}
	if ahead < 100 {
		t.Errorf("%d of %d layers were decided ahead", ahead, len(h.spans))
	}
}

// decoded decodes the timeline of a log and holds it against the log.
func decoded(t *testing.T, l *eventlog.Log) *history {
	t.Helper()
	p := &Page{Logs: []NamedLog{{"a", l}}}
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
	at, ends := int64(0), [2]int64{}
	for i := range h.spans {
		s := &h.spans[i]
		at += ints.signed()
		layer, k, implementation, reason := ints.unsigned(), ints.unsigned(), ints.unsigned(), tl.Reasons[ints.unsigned()]
		from := ends[k] + ints.signed()
		begin := from + ints.unsigned()
		start := begin + ints.signed()
		end := start + ints.unsigned()
		predicted := end + ints.signed()
		ends[k] = end
		if int(at) != s.job || int(k) != s.accelerator || int(implementation) != s.implementation ||
			reason != s.reason.String() || int(layer) != s.layer || begin != units(s.begin) ||
			from != units(s.dispatched) || start != units(s.start) || end != units(s.end) || predicted != units(s.predicted) {
			t.Fatalf("run %d differs from %+v", i, *s)
		}
	}
	ints.finished()
	return h
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

package eventlog

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/policy"
)

// parsedEvent is a trace event as a viewer reads it: instants and durations are whole nanoseconds, the rest cut off.
type parsedEvent struct {
	Name, Ph, Cat, ID, S, BP string
	TS                       float64
	Dur                      *float64
	PID, TID                 int
	Args                     map[string]any
}

func (e *parsedEvent) at() time.Duration  { return time.Duration(e.TS * 1e3) }
func (e *parsedEvent) end() time.Duration { return e.at() + time.Duration(*e.Dur*1e3) }

type track struct{ pid, tid int }

func (e *parsedEvent) track() track { return track{e.PID, e.TID} }

func parseTrace(t testkit.T, l *Log, inside ...Span) []parsedEvent {
	t.Helper()
	var out bytes.Buffer
	testkit.OK(t, l.WriteTrace(&out, inside...))
	var trace struct {
		DisplayTimeUnit string
		OtherData       map[string]any
		TraceEvents     []parsedEvent
	}
	d := json.NewDecoder(&out)
	d.DisallowUnknownFields()
	testkit.OK(t, d.Decode(&trace))
	// Viewers sort by time and keep the order of what happens at once.
	slices.SortStableFunc(trace.TraceEvents, func(a, b parsedEvent) int {
		if (a.Ph == "M") != (b.Ph == "M") {
			return map[bool]int{true: -1, false: 1}[a.Ph == "M"]
		}
		return int(a.at() - b.at())
	})
	return trace.TraceEvents
}

// checkTrace holds a trace against the format: spans of a track nest or follow each other, asynchronous spans open and
// close, flows start, step and finish in order and bind to spans of their request, counters are never negative and the
// level ones end at zero, every track has a name and a place.
func checkTrace(t testkit.T, l *Log, inside ...Span) []parsedEvent {
	t.Helper()
	events := parseTrace(t, l, inside...)
	c := traceChecker{map[track]int{}, map[track]bool{}, map[track][]parsedEvent{}, map[string]time.Duration{},
		map[string]string{}, map[string]float64{}, 0}
	for _, e := range events {
		if what := c.event(e); what != "" {
			t.Fatalf("%+v: %s", e, what)
		}
	}
	if len(c.async) > 0 {
		t.Errorf("never closed: %v", slices.Collect(maps.Keys(c.async)))
	}
	for id, f := range c.flows {
		if len(f) < 2 || f != "s"+strings.Repeat("t", len(f)-2)+"f" {
			t.Errorf("flow %s is %s", id, f)
		}
	}
	for name, x := range c.counters {
		if x != 0 && !strings.HasSuffix(name, " total") && !strings.HasSuffix(name, " kept") {
			t.Errorf("counter %s ends at %v", name, x)
		}
	}
	for tr := range c.used {
		if c.named[tr] != 2 {
			t.Errorf("track %v has %d of name and place", tr, c.named[tr])
		}
	}
	want := 0
	for _, r := range l.Records {
		if r.Kind == sched.Completed {
			want++
		}
	}
	if c.completed != want {
		t.Errorf("%d spans of %d layers", c.completed, want)
	}
	return events
}

// traceChecker follows a trace.
type traceChecker struct {
	named     map[track]int
	used      map[track]bool
	open      map[track][]parsedEvent
	async     map[string]time.Duration
	flows     map[string]string
	counters  map[string]float64
	completed int
}

// event says what is wrong with the next event.
func (c *traceChecker) event(e parsedEvent) string {
	if e.Ph != "M" && e.Ph != "C" && e.Ph != "b" && e.Ph != "e" {
		c.used[e.track()] = true
	}
	switch e.Ph {
	case "M":
		c.named[e.track()]++
	case "X":
		return c.span(e)
	case "b":
		key := e.Cat + e.ID
		if _, is := c.async[key]; is {
			return "it opens what is open"
		}
		c.async[key] = e.at()
	case "e":
		key := e.Cat + e.ID
		if from, is := c.async[key]; !is || e.at() < from {
			return fmt.Sprintf("it closes what was opened at %v, %v", from, is)
		}
		delete(c.async, key)
	case "s", "t", "f":
		c.flows[e.ID] += e.Ph
		open := c.open[e.track()]
		if len(open) == 0 || open[len(open)-1].at() != e.at() ||
			traceID(int64(open[len(open)-1].Args["request"].(float64))) != e.ID {
			return "it binds to no span of its request"
		}
		if (e.Ph == "s") != (e.BP == "") {
			return "it binds to the next span"
		}
	case "C":
		if e.PID != tracePIDScheduler || len(e.Args) == 0 {
			return "a counter elsewhere, or of nothing"
		}
		for key, v := range e.Args {
			name, x := e.Name+" "+key, v.(float64)
			if x < 0 || strings.HasSuffix(name, " total") && x < c.counters[name] {
				return fmt.Sprintf("counter %s goes from %v to %v", name, c.counters[name], x)
			}
			c.counters[name] = x
		}
	case "i":
		if e.S != "t" && e.S != "g" {
			return "an instant of no scope"
		}
	default:
		return "no such phase"
	}
	return ""
}

func (c *traceChecker) span(e parsedEvent) string {
	if e.Dur == nil || *e.Dur < 0 {
		return "it has no length"
	}
	open := c.open[e.track()]
	for len(open) > 0 && open[len(open)-1].end() <= e.at() {
		open = open[:len(open)-1]
	}
	if len(open) > 0 {
		if p := &open[len(open)-1]; e.end() > p.end() || e.Cat != catInside {
			return fmt.Sprintf("it overlaps %s %v to %v", p.Name, p.at(), p.end())
		}
	} else if e.Cat == catInside {
		return "it is inside nothing"
	}
	c.open[e.track()] = append(open, e)
	if e.PID == tracePIDAccelerators && e.Cat != catDispatch && e.Cat != catFailed && e.Cat != catInside {
		c.completed++
	}
	return ""
}

// TestTrace: traces of logs of all kinds keep to the format.
func TestTrace(t *testing.T) {
	checkTrace(t, handMade())
	checkTrace(t, &Log{Header: Header{System: small(), Rates: []float64{1, 1}}})
	for _, p := range policy.All() {
		checkTrace(t, simulated(t, p.Name, sched.DropLate, time.Second))
	}
	if events := checkTrace(t, requeuing()); !slices.ContainsFunc(events,
		func(e parsedEvent) bool { return e.Name == "two conv failed" }) {
		t.Error("the failed attempt has no span")
	}
}

// requeuing is a log with a failed attempt, a rule found, and an accelerator that is still out of service at the end.
func requeuing() *Log {
	l := handMade()
	l.Records = []Record{
		released(0, 0, 0, 0, 20),
		dispatched(0, 0, 0, 0, 0, 0, 2),
		{Kind: sched.Down, At: 3 * msec, Accelerator: 0, Detail: "rests"},
		{Kind: sched.Requeued, At: 3 * msec, Job: 0, Accelerator: 0, Detail: "bad"},
		{Kind: sched.RuleFound, At: 4 * msec, Start: 1 * msec, Implementation: 7, Accelerator: -1},
		dispatched(5, 0, 0, 0, 1, 1, 8),
		{Kind: sched.RuleFound, At: 6 * msec, Start: 3 * msec, Implementation: 2, Accelerator: -1},
		completed(9, 6, 0, 0, 0, 1, 1),
		dispatched(9, 0, 0, 1, 0, 1, 10),
		completed(10, 9, 0, 0, 1, 0, 1),
		ended(10, 0, 0, 2, sched.Met, -1, 0, 20, ""),
	}
	return l
}

// TestTraceByHand: what a small log's trace says, line by line.
func TestTraceByHand(t *testing.T) {
	l := requeuing()
	testkit.OK(t, l.Validate())
	var got []string
	for _, e := range checkTrace(t, l) {
		if e.Ph == "M" || e.Ph == "C" && !strings.HasPrefix(e.Name, "two requests") {
			continue
		}
		line := fmt.Sprintf("%d.%d %s %s %v", e.PID, e.TID, e.Ph, e.Name, e.TS/1e3)
		if e.Dur != nil {
			line += fmt.Sprintf("+%v", *e.Dur/1e3)
		}
		if e.Ph == "C" {
			line += fmt.Sprint(" ", e.Args)
		}
		got = append(got, line)
	}
	want := strings.Split(strings.TrimSpace(`
3.0 C two requests 0 map[running:0 waiting:0]
1.1 b two 0
3.0 C two requests 0 map[running:1 waiting:0]
2.1 X two conv failed 0+3
3.1 X rule 7 1+3
2.1 b x out of service 3
3.0 C two requests 3 map[running:0 waiting:1]
3.1 X rule 2 4+2
2.2 X dispatch 5+1
3.0 C two requests 5 map[running:1 waiting:0]
2.2 X two conv d2s 6+3
2.2 s request 6
2.2 X two fc 9+1
2.2 f request 9
3.0 C two requests 9 map[running:1 waiting:0]
1.1 e two 10
3.0 C two requests 10 map[running:0 waiting:0]
2.1 e x out of service 10`), "\n")
	slices.Sort(got)
	slices.Sort(want)
	testkit.Equal(t, want, got)
}

// TestTraceOfAccuracy: where a floor is promised, a counter follows what the last requests kept.
func TestTraceOfAccuracy(t *testing.T) {
	l := requeuing()
	m := &l.Header.System.Models[0]
	m.Accuracy, m.Floor = []float64{0.75}, 0.5
	got := map[float64]any{}
	for _, e := range checkTrace(t, l) {
		if e.Ph == "C" && strings.HasSuffix(e.Name, " accuracy") {
			if e.Name != "two accuracy" {
				t.Errorf("a counter of a model without a floor: %+v", e)
			}
			got[e.TS/1e3] = e.Args["kept"]
		}
	}
	testkit.Equal(t, map[float64]any{0: 1.0, 10: 0.75}, got)
}

// TestTraceInside: what happened inside layers lies below them whatever the clocks say.
func TestTraceInside(t *testing.T) {
	const us = time.Microsecond
	l := requeuing()
	span := func(name string, from, to time.Duration) Span {
		return Span{Accelerator: 1, Name: name, Start: from, End: to, Args: map[string]string{"operator": "Conv"}}
	}
	spans := []Span{
		span("before all", 1*msec, 2*msec),
		span("early", 6*msec-2*us, 7*msec),
		span("outer", 7*msec-us, 8*msec),
		span("inner", 7*msec, 8*msec),
		span("late", 8*msec, 9*msec+us),
		span("next", 9*msec-us, 10*msec),
		span("after all", 11*msec, 12*msec),
		{Accelerator: 9, Name: "nowhere"},
	}
	slices.Reverse(spans)
	var got []string
	for _, e := range checkTrace(t, l, spans...) {
		if e.Cat == catInside {
			got = append(got, fmt.Sprintf("%s %v-%v", e.Name, e.at(), e.end()))
			if e.Args["operator"] != "Conv" {
				t.Errorf("%+v", e)
			}
		}
	}
	want := []string{"early 6ms-7ms", "outer 7ms-8ms", "inner 7ms-8ms", "late 8ms-9ms", "next 9ms-10ms"}
	testkit.Equal(t, want, got)
}

// TestTraceTimesAreExact: whoever multiplies by a thousand and cuts off the rest gets the nanoseconds back.
func TestTraceTimesAreExact(t *testing.T) {
	for i := range 1_000_000 {
		d := time.Duration(i * 104729 % 3_600_000_000_000)
		if got := time.Duration(us(d) * 1e3); got != d {
			t.Fatalf("%d ns are read as %d", d, got)
		}
	}
}

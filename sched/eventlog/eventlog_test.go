package eventlog

import (
	"encoding/json"
	"errors"
	"io"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/document"
	"github.com/terastal/terastal/internal/stats"
	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/policy"
	"github.com/terastal/terastal/sched/sim"
	"github.com/terastal/terastal/sched/traffic"
)

const msec = time.Millisecond

// small is a system of two models on two accelerators: "two" has two layers, the
// first with a variant; "one" has one, which runs on accelerator 0 only.
func small() sched.System {
	return sched.System{Accelerators: []string{"x", "y"}, Models: []sched.Model{
		{Name: "two", Deadline: 20 * msec, Variants: 1, Valid: []sched.VariantSet{1}, Layers: []sched.Layer{
			{Name: "conv", Implementations: []sched.Implementation{
				{Name: "original", Latency: []time.Duration{2 * msec, 8 * msec}},
				{Name: "d2s", Variant: 1, Latency: []time.Duration{2 * msec, 3 * msec}}}},
			{Name: "fc", Implementations: []sched.Implementation{{Name: "original",
				Latency: []time.Duration{1 * msec, 1 * msec}}}}}},
		{Name: "one", Deadline: 4 * msec, Layers: []sched.Layer{
			{Name: "conv", Implementations: []sched.Implementation{{Name: "original",
				Latency: []time.Duration{4 * msec, sched.Unavailable}}}}}},
	}}
}

// Shorthands for hand-made records; times are milliseconds.
func released(at, start, job, model, until int) Record {
	return Record{Kind: sched.Released, At: time.Duration(at) * msec, Start: time.Duration(start) * msec, Job: int64(job),
		Model: int32(model), Until: time.Duration(until) * msec, Accelerator: -1}
}

func dispatched(at, job, model, layer, impl, acc, until int) Record {
	return Record{Kind: sched.Dispatched, At: time.Duration(at) * msec, Job: int64(job), Model: int32(model),
		Layer:          int32(layer),
		Implementation: int32(impl), Accelerator: int32(acc), Until: time.Duration(until) * msec, Reason: sched.MeetsBudget}
}

func completed(at, start, job, model, layer, impl, acc int) Record {
	return Record{Kind: sched.Completed, At: time.Duration(at) * msec, Start: time.Duration(start) * msec, Job: int64(job),
		Model: int32(model), Layer: int32(layer), Implementation: int32(impl), Accelerator: int32(acc)}
}

func ended(at, job, model, layer int, o sched.Outcome, acc, start, until int, detail string) Record {
	return Record{Kind: sched.Ended, At: time.Duration(at) * msec, Job: int64(job), Model: int32(model),
		Layer: int32(layer), Outcome: o,
		Accelerator: int32(acc), Start: time.Duration(start) * msec, Until: time.Duration(until) * msec, Detail: detail}
}

// handMade is a log in which every outcome and record kind occurs:
//
//	job 0, two: variant on y, then fc on x; met at 9 after 9 ms
//	job 1, one: on x from 1 to 5, late by 1: after 5 ms
//	job 2, one: dropped at 9
//	job 3, two: fails on y at 13, after its variant ran there
//	job 4, one: met at 20, after 4 ms
func handMade() *Log {
	return &Log{
		Header: Header{Driver: Simulated, Policy: "terastal", Drop: "late", Queue: 8, System: small(),
			Rates: []float64{10, 20}, Duration: 20 * msec},
		Records: []Record{
			released(0, 0, 0, 0, 20),
			dispatched(0, 0, 0, 0, 1, 1, 3),
			released(1, 0, 1, 1, 4),
			dispatched(1, 1, 1, 0, 0, 0, 5),
			completed(5, 1, 1, 1, 0, 0, 0),
			ended(5, 1, 1, 1, sched.Late, -1, 0, 4, ""),
			completed(6, 2, 0, 0, 0, 1, 1),
			dispatched(6, 0, 0, 1, 0, 0, 7),
			released(8, 4, 2, 1, 8),
			completed(9, 7, 0, 0, 1, 0, 0),
			ended(9, 0, 0, 2, sched.Met, -1, 0, 20, ""),
			ended(9, 2, 1, 0, sched.Dropped, -1, 4, 8, sched.DropReasonLate),
			released(10, 10, 3, 0, 30),
			dispatched(10, 3, 0, 0, 1, 1, 13),
			completed(12, 10, 3, 0, 0, 1, 1),
			dispatched(12, 3, 0, 1, 0, 1, 13),
			{Kind: sched.Down, At: 13 * msec, Accelerator: 1, Detail: "lost"},
			ended(13, 3, 0, 1, sched.Failed, 1, 10, 30, "lost"),
			{Kind: sched.Up, At: 14 * msec, Accelerator: 1},
			released(16, 16, 4, 1, 20),
			dispatched(16, 4, 1, 0, 0, 0, 20),
			completed(20, 16, 4, 1, 0, 0, 0),
			ended(20, 4, 1, 1, sched.Met, -1, 16, 20, ""),
			{Kind: sched.Stopped, At: 20 * msec, Accelerator: -1},
		},
	}
}

func TestMetricsByHand(t *testing.T) {
	l := handMade()
	testkit.OK(t, l.Validate())
	m := l.Metrics()
	if m.Policy != "terastal" || m.Driver != Simulated {
		t.Errorf("policy %q, driver %q", m.Policy, m.Driver)
	}
	if want := (Totals{Released: 5, Met: 2, Late: 1, Dropped: 1, Failed: 1}); m.Totals != want || !m.Balanced() {
		t.Errorf("totals %+v, want %+v", m.Totals, want)
	}
	two, one := m.Models[0], m.Models[1]
	if want := (Totals{Released: 2, Met: 1, Failed: 1}); two.Model != "two" || two.Totals != want || two.MissRate != 0.5 {
		t.Errorf("model two: %+v", two)
	}
	if want := (Totals{Released: 3, Met: 1, Late: 1, Dropped: 1}); one.Model != "one" || one.Totals != want ||
		!near(one.MissRate, 2.0/3) {
		t.Errorf("model one: %+v", one)
	}
	if !near(m.MeanMissRate, (0.5+2.0/3)/2) {
		t.Errorf("mean miss rate %v", m.MeanMissRate)
	}
	// Latencies are of finished jobs: 9 ms; and 4 and 5 ms.
	if two.P50MS != 9 || two.P99MS != 9 || one.P50MS != 4 || one.P90MS != 5 || one.P99MS != 5 {
		t.Errorf("latencies of two %v %v, of one %v %v %v", two.P50MS, two.P99MS, one.P50MS, one.P90MS, one.P99MS)
	}
	if two.RatePerS != 10 || one.RatePerS != 20 || two.DeadlineMS != 20 || one.DeadlineMS != 4 {
		t.Errorf("rates or deadlines: %+v %+v", two, one)
	}
	// The failed job's variant is not counted.
	if c := l.Combinations(); c[0][1] != 1 || c[1][0] != one.Met+one.Late || c[0][0]+c[0][1] != two.Met+two.Late {
		t.Errorf("combinations %v", c)
	}
	if want := []VariantUse{{"conv", "d2s", 1}}; !slices.Equal(two.Variants, want) || one.Variants != nil {
		t.Errorf("variants used: %v, %v", two.Variants, one.Variants)
	}
	if two.VariantsUsed != 1 || one.VariantsUsed != 0 {
		t.Errorf("variants used: %d, %d", two.VariantsUsed, one.VariantsUsed)
	}
	if two.LayersRun != 2 || two.VariantShare() != 0.5 || one.VariantShare() != 0 ||
		!near(m.VariantShare(), 1.0/float64(two.LayersRun+one.LayersRun)) {
		t.Errorf("layers run: %d, %d, as variants %v, %v, %v", two.LayersRun, one.LayersRun, two.VariantShare(),
			one.VariantShare(), m.VariantShare())
	}
	if kept := m.AccuracyKept(); kept != nil {
		t.Errorf("accuracy kept over all models, of which one was never measured: %v", *kept)
	}
	measured := 0.7
	m.Models[0].NormalizedAccuracy = &measured
	if kept := m.AccuracyKept(); kept == nil || !near(*kept, (0.7+2)/3) {
		t.Errorf("accuracy kept over all finished jobs: %v", kept)
	}
	if one.NormalizedAccuracy == nil || *one.NormalizedAccuracy != 1 {
		t.Errorf("accuracy of one: %v", one.NormalizedAccuracy)
	}
	if !reflect.DeepEqual(two.DropReasons, map[string]int{"lost": 1}) ||
		!reflect.DeepEqual(one.DropReasons, map[string]int{sched.DropReasonLate: 1}) {
		t.Errorf("drop reasons %v, %v", two.DropReasons, one.DropReasons)
	}
	// Of 20 ms, x ran 4 + 2 + 4, y ran 4 + 2.
	if !near(m.Utilization["x"], 0.5) || !near(m.Utilization["y"], 0.3) || len(m.Utilization) != 2 {
		t.Errorf("utilization %v", m.Utilization)
	}
	// Lags are 0, 1, 4, 0 and 0 ms.
	if m.ReleaseLagP50US != 0 || m.ReleaseLagP99US != 4000 {
		t.Errorf("release lags %v, %v us", m.ReleaseLagP50US, m.ReleaseLagP99US)
	}
}

// TestMetricsOfAccuracy: what requests kept is held against the floor, in a log that was read back, too.
func TestMetricsOfAccuracy(t *testing.T) {
	l := handMade()
	m := &l.Header.System.Models[0]
	m.Valid, m.Accuracy, m.AccuracyError, m.Floor = []sched.VariantSet{0, 1}, []float64{1, 0.95}, []float64{0, 0.01}, 0.96
	path := filepath.Join(t.TempDir(), "log.json")
	testkit.OK(t, l.Write(path))
	got := testkit.Must(Read(path))(t).Metrics()
	testkit.Equal(t, l.Metrics(), got)
	two, one := &got.Models[0], &got.Models[1]
	for what, c := range map[string]struct {
		got  *float64
		want float64
	}{
		"kept": {two.NormalizedAccuracy, 0.95}, "low": {two.AccuracyLow, 0.95 - 0.01*stats.Normal95}, "high": {two.AccuracyHigh, 0.95 + 0.01*stats.Normal95},
		"floor": {&two.AccuracyFloor, 0.96}, "delivered": {two.DeliveredAccuracy, 0.95}, "window": {two.WorstWindow, 0.95},
		"of one": {one.NormalizedAccuracy, 1},
	} {
		if c.got == nil || !near(*c.got, c.want) {
			t.Errorf("%s: %v, want %v", what, c.got, c.want)
		}
	}
	if one.AccuracyFloor != 0 || one.DeliveredAccuracy != nil || one.WorstWindow != nil || one.AccuracyLow != nil {
		t.Errorf("a model without variants: %+v", one)
	}
	m.Accuracy[1] = 1.1 // earns no credit
	if two := l.Metrics().Models[0]; *two.NormalizedAccuracy != 1.1 || *two.DeliveredAccuracy != 1 || *two.WorstWindow != 1 {
		t.Errorf("measured above the original: %v, %v, %v", *two.NormalizedAccuracy, *two.DeliveredAccuracy, *two.WorstWindow)
	}
	m.AccuracyError = []float64{0, -1}
	if err := l.Validate(); err == nil {
		t.Error("a negative standard error is accepted")
	}
}

func near(a, b float64) bool { return a-b < 1e-12 && b-a < 1e-12 }

func TestMetricsOfNothing(t *testing.T) {
	m := (&Log{Header: Header{System: small(), Rates: []float64{1, 1}}}).Metrics()
	if m.Released != 0 || m.MeanMissRate != 0 || m.Utilization["x"] != 0 || m.Models[0].P99MS != 0 {
		t.Errorf("%+v", m)
	}
	testkit.Must(json.Marshal(m))(t)
}

// TestRoundTrip: a log read back is the log written.
func TestRoundTrip(t *testing.T) {
	l := handMade()
	l.Records[0].Job = 0 // the zero ID is an ID
	path := filepath.Join(t.TempDir(), "log.json")
	testkit.OK(t, l.Write(path))
	got := testkit.Must(Read(path))(t)
	testkit.Equal(t, l, got)
	if _, err := Read(path + "x"); err == nil {
		t.Error("a missing file was read")
	}
}

func TestDecodeRefuses(t *testing.T) {
	encode := func(kind string, schema int, change func(*Log)) []byte {
		l := handMade()
		change(l)
		return testkit.Must(document.Encode(kind, schema, l))(t)
	}
	text := func(body string) []byte {
		return testkit.Must(document.Encode("log", version, json.RawMessage(body)))(t)
	}
	for _, c := range []struct {
		name string
		data []byte
		want error
		says string
	}{
		{"a plan", encode("plan", version, func(*Log) {}), document.ErrKind, "plan"},
		{"an earlier version", encode("log", version-1, func(*Log) {}), document.ErrVersion, "make it again"},
		{"a contradiction", encode("log", version, func(l *Log) { l.Records[3].Accelerator = 1 }), ErrInvalid, "busy"},
		{"an unknown kind", text(`{"records":[{"kind":"pause"}]}`), document.ErrDamaged, `unknown record kind "pause"`},
		{"an unknown outcome", text(`{"records":[{"kind":"end","outcome":"lost"}]}`), document.ErrDamaged,
			`unknown outcome "lost"`},
		{"a record that is none", text(`{"records":[7]}`), document.ErrDamaged, "number"},
		{"no system", text(`{}`), ErrInvalid, "accelerators"},
	} {
		testkit.Refused(decode(c.data))(t, c.want, c.says)
	}
}

// TestValidate takes the hand-made log and breaks it in every way that Validate knows.
func TestValidate(t *testing.T) {
	at := func(i int, change func(*Record)) func(*Log) { return func(l *Log) { change(&l.Records[i]) } }
	without := func(i int) func(*Log) { return func(l *Log) { l.Records = slices.Delete(l.Records, i, i+1) } }
	for _, c := range []struct {
		name   string
		change func(*Log)
		want   string
	}{
		{"a system without accelerators", func(l *Log) { l.Header.System.Accelerators = nil }, "0 accelerators"},
		{"rates of another system", func(l *Log) { l.Header.Rates = []float64{1} }, "1 rates for 2 models"},
		{"a core taken from no accelerator", func(l *Log) { l.Header.Taken = []sim.Taken{{Accelerator: 9}} }, "accelerator 9"},
		{"time goes back", at(4, func(r *Record) { r.At = 0 }), "record 4 (complete): at 0s, after one at 1ms"},
		{"an instant before the start", at(0, func(r *Record) { r.Start = -1 }), "instant -1 ns"},
		{"an instant beyond all", at(3, func(r *Record) { r.Until = 1 << 62 }), "instant 4611686018427387904 ns"},
		{"release of no model", at(0, func(r *Record) { r.Model = 2 }), "no model 2"},
		{"release of a negative model", at(0, func(r *Record) { r.Model = -1 }), "no model -1"},
		{"a second release", at(2, func(r *Record) { r.Job = 0 }), "request 0 released twice"},
		{"a negative job", at(0, func(r *Record) { r.Job = -1 }), "request -1 released twice"},
		{"a deadline before the release", at(2, func(r *Record) { r.Until = 0 }), "deadline"},
		{"a job never released", at(1, func(r *Record) { r.Job = 9 }), "request 9 was not released"},
		{"a job that has ended", at(7, func(r *Record) { r.Job = 1 }), "request 1 has ended"},
		{"another model's job", at(1, func(r *Record) { r.Model = 1 }), "request 0 is of model 0, not 1"},
		{"a layer out of turn", at(1, func(r *Record) { r.Layer = 1 }), "request 0 is at layer 0 of 2, not 1"},
		{"a job that runs already", func(l *Log) { l.Records[2] = dispatched(1, 0, 0, 0, 0, 0, 3) }, "request 0 already runs"},
		{"an implementation that is none", at(1, func(r *Record) { r.Implementation = 2 }), "no implementation 2"},
		{"a negative implementation", at(1, func(r *Record) { r.Implementation = -1 }), "no implementation -1"},
		{"no such accelerator", at(1, func(r *Record) { r.Accelerator = 2 }), "no accelerator 2"},
		{"no accelerator", at(1, func(r *Record) { r.Accelerator = -1 }), "no accelerator -1"},
		{"a busy accelerator", at(3, func(r *Record) { r.Accelerator = 1 }), "accelerator 1 is busy"},
		{"an accelerator that cannot run it", at(20, func(r *Record) { r.Accelerator = 1 }), "cannot run on accelerator 1"},
		{"an accelerator out of service", func(l *Log) {
			l.Records = slices.Insert(l.Records, 1, Record{Kind: sched.Down, Accelerator: 1})
		}, "accelerator 1 is out of service"},
		{"completion elsewhere", at(6, func(r *Record) { r.Accelerator = 0 }), "does not run on accelerator 0"},
		{"completion of another layer", at(6, func(r *Record) { r.Layer = 1 }), "request 0 layer 1 does not run"},
		{"completion of another implementation", at(6, func(r *Record) { r.Implementation = 0 }), "does not run"},
		{"completion nowhere", at(6, func(r *Record) { r.Accelerator = 7 }), "no accelerator 7"},
		{"a start after the end", at(6, func(r *Record) { r.Start = 7 * msec }),
			"not between its dispatch at 0s and its end at 6ms"},
		{"a start before the dispatch", at(9, func(r *Record) { r.Start = 5 * msec }), "not between its dispatch at 6ms"},
		{"no outcome", at(10, func(r *Record) { r.Outcome = sched.Pending }), "ends without an outcome"},
		{"met with a layer to go", at(11, func(r *Record) { r.Outcome = sched.Met }), "is met after 0 layers"},
		{"late with a layer to go", at(11, func(r *Record) { r.Outcome = sched.Late }), "is late after 0 layers"},
		{"met after the deadline", at(5, func(r *Record) { r.Outcome = sched.Met }),
			"is met at 5ms with its deadline at 4ms"},
		{"late within the deadline", at(10, func(r *Record) { r.Outcome = sched.Late }),
			"is late at 9ms with its deadline at 20ms"},
		{"another release at the end", at(10, func(r *Record) { r.Start = 1 }), "but is from 0s"},
		{"another deadline at the end", at(10, func(r *Record) { r.Until = 21 * msec }), "to 20ms"},
		{"another layer at the end", at(10, func(r *Record) { r.Layer = 1 }), "at layer 2"},
		{"failed while waiting", at(11, func(r *Record) { r.Outcome = sched.Failed }), "is failed on accelerator -1"},
		{"dropped while running", at(17, func(r *Record) { r.Outcome = sched.Dropped }), "is dropped on accelerator 1"},
		{"failed on another accelerator", at(17, func(r *Record) { r.Accelerator = 0 }), "but runs on 1"},
		{"down of no accelerator", at(16, func(r *Record) { r.Accelerator = 2 }), "no accelerator 2"},
		{"up of no accelerator", at(18, func(r *Record) { r.Accelerator = -1 }), "no accelerator -1"},
		{"a job without an end", without(22), "request 4 has no outcome"},
		{"an end too many", func(l *Log) { l.Records = slices.Insert(l.Records, 6, l.Records[5]) }, "request 1 has ended"},
	} {
		l := handMade()
		c.change(l)
		testkit.Fails(t, l.Validate(), ErrInvalid, c.want)
	}
}

// simulated is a log of a busy run.
func simulated(t testing.TB, name string, drop sched.DropPolicy, duration time.Duration) *Log {
	t.Helper()
	sys := small()
	tables := testkit.Must(sched.Compile(sys))(t)
	traffic := traffic.Config{Rates: []float64{150, 100}, Process: traffic.Poisson, Duration: duration, Seed: 11}
	arrivals := testkit.Must(traffic.Arrivals())(t)
	l := &Log{Header: Header{Driver: Simulated, Policy: name, Drop: drop.String(), Queue: 4, Seed: 11, System: sys,
		Rates: traffic.Rates, Duration: traffic.Duration}}
	testkit.Must(sim.Run(sim.Config{Arrivals: arrivals, Engine: sched.Config{Tables: tables, Policy: policy.Named(name),
		Drop: drop, Queue: 4, Recorder: (*Buffer)(&l.Records)}}))(t)
	return l
}

// TestReplay: the records of a run are those that the engine gives again.
func TestReplay(t *testing.T) {
	for _, p := range policy.All() {
		for _, drop := range []sched.DropPolicy{sched.DropNone, sched.DropLate, sched.DropHopeless} {
			l := simulated(t, p.Name, drop, time.Second)
			if err := l.Validate(); err != nil {
				t.Fatalf("%s: %v", p.Name, err)
			}
			decisions := 0
			for _, r := range l.Records {
				if r.Kind == sched.Dispatched {
					decisions++
				}
			}
			compared, difference, err := l.Replay(nil)
			if err != nil || difference != "" || compared != decisions || decisions < 100 {
				t.Errorf("%s, drop %v: compared %d of %d decisions: %s %v", p.Name, drop, compared, decisions, difference, err)
			}
		}
	}
}

// TestReplayForeignPolicy: a log of a policy that no name finds replays with its constructor, and with no other.
func TestReplayForeignPolicy(t *testing.T) {
	l := simulated(t, "edf", sched.DropLate, time.Second)
	l.Header.Policy = "ours"
	testkit.Refused2(l.Replay(nil))(t, `unknown policy "ours"`)
	if n, difference, err := l.Replay(sched.EDF); err != nil || difference != "" || n < 100 {
		t.Errorf("%d decisions, %s, %v", n, difference, err)
	}
	if _, difference, err := l.Replay(sched.LLF); err != nil || difference == "" {
		t.Errorf("with another policy: %q, %v", difference, err)
	}
}

// TestReplayDifference: a changed decision, event or header is noticed.
func TestReplayDifference(t *testing.T) {
	first := func(l *Log, kind sched.RecordKind, from int) *Record {
		for i := from; i < len(l.Records); i++ {
			if l.Records[i].Kind == kind {
				return &l.Records[i]
			}
		}
		t.Fatalf("no %v from record %d on", kind, from)
		return nil
	}
	for _, c := range []struct {
		name   string
		change func(*Log)
		want   string
	}{
		{"another accelerator", func(l *Log) { r := first(l, sched.Dispatched, 50); r.Accelerator = 1 - r.Accelerator },
			"the log has"},
		{"another prediction", func(l *Log) { first(l, sched.Dispatched, 50).Until++ }, "the log has"},
		{"another reason", func(l *Log) { first(l, sched.Dispatched, 50).Reason = 99 }, "the log has"},
		{"a decision left out", func(l *Log) {
			i := slices.IndexFunc(l.Records, func(r Record) bool { return r.Kind == sched.Dispatched })
			l.Records = slices.Delete(l.Records, i, i+1)
		}, "the log has"},
		{"an invented decision", func(l *Log) { l.Records = slices.Insert(l.Records, 0, dispatched(0, 1, 0, 0, 0, 0, 2)) },
			"which no recorded event causes"},
		{"cut short", func(l *Log) { l.Records = l.Records[:1] }, "the log ends, the engine adds"},
		{"another policy", func(l *Log) { l.Header.Policy = "fcfs" }, "the log has"},
		{"an engine's own job from outside", func(l *Log) {
			for i := range l.Records {
				if r := &l.Records[i]; r.Kind < sched.Down {
					r.Job += sched.FirstOwnJob
				}
			}
		}, "which no recorded event causes"},
	} {
		l := simulated(t, "terastal", sched.DropLate, time.Second)
		c.change(l)
		if _, difference, err := l.Replay(nil); err != nil || !strings.Contains(difference, c.want) {
			t.Errorf("%s: %q, %v; want %q", c.name, difference, err, c.want)
		}
	}
	for _, c := range []struct {
		name   string
		change func(*Header)
		want   string
	}{
		{"unknown policy", func(h *Header) { h.Policy = "guess" }, "unknown policy"},
		{"unknown drop", func(h *Header) { h.Drop = "guess" }, "unknown drop"},
		{"bad queue", func(h *Header) { h.Queue = -1 }, "queue"},
		{"bad system", func(h *Header) { h.System.Models = nil }, "0 models"},
	} {
		l := simulated(t, "terastal", sched.DropLate, time.Second)
		c.change(&l.Header)
		testkit.Refused2(l.Replay(nil))(t, c.want)
	}
}

// failing is a writer that breaks after n bytes.
type failing struct{ n int }

func (w *failing) Write(p []byte) (int, error) {
	if w.n -= len(p); w.n < 0 {
		return 0, errors.New("disk full")
	}
	return len(p), nil
}

func TestTraceWriteError(t *testing.T) {
	l := simulated(t, "fcfs", sched.DropNone, time.Second)
	for _, n := range []int{0, 1, 10000} {
		testkit.Fails(t, l.WriteTrace(&failing{n}), "disk full")
	}
}

// FuzzDecode: whatever the body of a log, nothing that reads it panics, and a log
// that is accepted survives a round trip.
func FuzzDecode(f *testing.F) {
	for _, l := range []*Log{handMade(), {Header: Header{Policy: "edf", Drop: "none", System: small(),
		Rates: []float64{1, 1}}}} {
		data := testkit.Must(json.Marshal(l))(f)
		f.Add(data)
	}
	for _, change := range []func(*sched.Model){
		func(m *sched.Model) { m.Accuracy, m.AccuracyError = []float64{0.95}, []float64{0.01} },
		func(m *sched.Model) { m.Valid, m.Loss, m.MaxLoss = nil, []float64{0.05}, 0.1 },
		func(m *sched.Model) { m.Valid, m.Loss, m.MaxLoss = nil, []float64{1e308}, 1 },
	} {
		l := handMade()
		change(&l.Header.System.Models[0])
		l.Header.System.Models[0].Floor = 0.99
		f.Add(testkit.Must(json.Marshal(l))(f))
	}
	for _, p := range []string{"fcfs", "edf", "terastal"} {
		l := simulated(f, p, sched.DropLate, 80*msec)
		end := slices.IndexFunc(l.Records[20:], func(r Record) bool { return r.Kind == sched.Released }) + 20
		l.Records = l.Records[:end]
		data := testkit.Must(json.Marshal(l))(f)
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		data, err := document.Encode("log", version, json.RawMessage(body))
		if err != nil {
			return
		}
		if l, err := decode(data); err == nil {
			readAll(t, l)
		}
	})
}

// FuzzRecords: the same for logs whose records were changed. Every five bytes of edits change one field of one record.
func FuzzRecords(f *testing.F) {
	f.Add(false, []byte{})
	f.Add(true, []byte{1, 0, 0, 0, 2, 30, 7, 0, 0, 9})
	f.Add(true, []byte{3, 9, 255, 255, 255, 4, 6, 0, 0, 1})
	made := simulated(f, "terastal", sched.DropLate, 80*msec)
	f.Fuzz(func(t *testing.T, long bool, edits []byte) {
		l := handMade()
		if long {
			*l = *made
			l.Records = slices.Clone(made.Records)
		}
		for ; len(edits) >= 5; edits = edits[5:] {
			r := &l.Records[(int(edits[0])|int(edits[3])<<8)%len(l.Records)]
			x := int64(int8(edits[4]))
			switch edits[1] % 12 {
			case 0:
				r.Kind = sched.RecordKind(edits[4]) % (sched.Stopped + 1)
			case 1:
				r.Outcome = sched.Outcome(edits[4]) % (sched.Failed + 1)
			case 2:
				r.Reason = sched.Reason(edits[4])
			case 3:
				r.Model = int32(x)
			case 4:
				r.Layer = int32(x)
			case 5:
				r.Implementation = int32(x)
			case 6:
				r.Accelerator = int32(x)
			case 7:
				r.Job = x << (edits[2] % 60)
			case 8:
				r.At = time.Duration(x << (edits[2] % 60))
			case 9:
				r.Start = time.Duration(x << (edits[2] % 60))
			case 10:
				r.Until = time.Duration(x << (edits[2] % 60))
			case 11:
				*r = l.Records[(int(edits[2])|int(edits[4])<<8)%len(l.Records)]
			}
		}
		if l.Validate() == nil {
			readAll(t, l)
		}
	})
}

// readAll uses a valid log in every way there is.
func readAll(t *testing.T, l *Log) {
	m := l.Metrics()
	if !m.Balanced() {
		t.Errorf("unbalanced: %+v", m.Totals)
	}
	testkit.Must(json.Marshal(m))(t)
	// An unknown policy or drop rule is an error; a panic is a bug.
	_, _, _ = l.Replay(nil)
	if n := len(l.Records); n > 0 && l.Records[n-1].At > 1<<50 { // beyond what the format's numbers tell apart
		parseTrace(t, l)
	} else {
		checkTrace(t, l)
	}
	testkit.OK(t, errors.Join(WriteJobsCSV(io.Discard, l), WriteLayersCSV(io.Discard, l),
		WriteBench(io.Discard, l)))
	data := testkit.Must(document.Encode("log", version, l))(t)
	if _, err := decode(data); err != nil {
		t.Errorf("after a round trip: %v", err)
	}
}

// decode reads a log from memory; see Read.
func decode(data []byte) (*Log, error) {
	var l Log
	if err := document.Decode(data, kind, version, &l); err != nil {
		return nil, err
	}
	if err := l.Validate(); err != nil {
		return nil, err
	}
	return &l, nil
}

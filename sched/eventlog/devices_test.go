package eventlog

import (
	"encoding/json"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/internal/schedtest"
	"github.com/terastal/terastal/sched/policy"
	"pgregory.net/rapid"
)

// drawn is the log of an engine that got random events: layers of devices that are announced before they end, that fail
// then and before, accelerators that leave and come back. Nil stands for a policy that cannot run the system.
func drawn(t *rapid.T) *Log {
	sys := schedtest.RichSystem(t)
	schedtest.Devices(t, &sys)
	c := schedtest.Config(t)
	name := rapid.SampledFrom(policy.All()).Draw(t, "policy").Name
	if schedtest.Chance(t, 20, "whole") {
		name += "-model"
	}
	var records Buffer
	c.Tables, c.Policy, c.Recorder = schedtest.Compile(t, sys), policy.Named(name), &records
	engine, err := sched.New(c)
	if err != nil {
		return nil
	}
	schedtest.Drive(t, &sys, engine)
	return &Log{Header: Header{Driver: Simulated, Policy: name, Drop: c.Drop.String(), Queue: c.Queue, Seed: c.Seed,
		Adapt: c.Adapt, ClosedLoop: c.ClosedLoop, Until: c.Until, System: sys, Rates: make([]float64, len(sys.Models))},
		Records: records}
}

// TestAnyLog: whatever happens on devices, the log is valid, can be read and replayed, balances, and no view of it shows
// two layers at once on an accelerator or of a request.
func TestAnyLog(t *testing.T) {
	kinds := map[sched.RecordKind]int{}
	schedtest.CheckSome(t, 2, func(t *rapid.T) {
		l := drawn(t)
		if l == nil {
			return
		}
		for _, r := range l.Records {
			kinds[r.Kind]++
		}
		testkit.OK(t, l.Validate())
		var again []Record
		testkit.OK(t, json.Unmarshal(testkit.Must(json.Marshal(l.Records))(t), &again))
		if !slices.Equal(again, l.Records) {
			t.Fatalf("wrote %+v\nread %+v", l.Records, again)
		}
		dispatches := 0
		for _, r := range l.Records {
			if r.Kind == sched.Dispatched {
				dispatches++
			}
		}
		if n, difference, err := l.Replay(nil); err != nil || difference != "" || n != dispatches {
			t.Fatalf("%d of %d decisions replayed: %s, %v", n, dispatches, difference, err)
		}
		if m := l.Metrics(); !m.Balanced() {
			t.Fatalf("totals %+v", m.Totals)
		}
		checkRuns(t, l, dispatches)
		checkTrace(t, l)
		testkit.OK(t, WriteJobsCSV(io.Discard, l))
		testkit.OK(t, WriteLayersCSV(io.Discard, l))
	})
	t.Logf("records: %v", kinds)
}

// checkRuns: every dispatch has one end, accelerators end layers in the order in which they got them, and neither they
// nor requests run two at once.
func checkRuns(t *rapid.T, l *Log, dispatches int) {
	type last struct {
		dispatched, ended time.Duration
	}
	accelerators, jobs := map[int32]last{}, map[int64]last{}
	runs := l.Runs()
	if len(runs) != dispatches {
		t.Fatalf("%d runs of %d dispatches", len(runs), dispatches)
	}
	for _, r := range runs {
		d, at := r.Dispatched, r.Ended.At
		a, j := accelerators[d.Accelerator], jobs[d.Job]
		if d.At < a.dispatched || r.Begin < a.ended || d.At < j.dispatched || r.Begin < j.ended || r.Begin > at {
			t.Fatalf("%+v of %+v begins at %v, after %+v and %+v", *r.Ended, *d, r.Begin, a, j)
		}
		if r.Ended.Kind != sched.Doomed && r.Ended.Kind != sched.Ended && r.Ended.Accelerator != d.Accelerator {
			t.Fatalf("%+v ends as %+v", *d, *r.Ended)
		}
		accelerators[d.Accelerator], jobs[d.Job] = last{d.At, at}, last{d.At, at}
	}
}

// ahead is a log in which job 0's first layer on x is announced at 2 and ends at 4, when its second, on y, and job 1 on x
// have been decided.
func ahead() *Log {
	sys := small()
	sys.Devices = []sched.Device{{Name: "gpu", Accelerators: []int{0, 1}, Lead: msec}}
	announced := func(at int, job int64, model, layer, impl, acc int, until int) Record {
		return Record{Kind: sched.Announced, At: time.Duration(at) * msec, Job: job, Model: int32(model), Layer: int32(layer),
			Implementation: int32(impl), Accelerator: int32(acc), Until: time.Duration(until) * msec}
	}
	later := func(r Record, start int) Record {
		r.Start = time.Duration(start) * msec
		return r
	}
	return &Log{
		Header: Header{Driver: Real, Policy: "terastal", Drop: "none", Queue: 8, System: sys, Rates: []float64{1, 1}},
		Records: []Record{
			released(0, 0, 0, 0, 20),
			dispatched(0, 0, 0, 0, 0, 0, 3),
			released(1, 1, 1, 1, 20),
			announced(2, 0, 0, 0, 0, 0, 3),
			later(dispatched(2, 0, 0, 1, 0, 1, 7), 3),
			later(dispatched(2, 1, 1, 0, 0, 0, 6), 3),
			completed(4, 0, 0, 0, 0, 0, 0),
			announced(7, 0, 0, 1, 0, 1, 8),
			completed(8, 4, 0, 0, 1, 0, 1),
			ended(8, 0, 0, 2, sched.Met, -1, 0, 20, ""),
			completed(9, 4, 1, 1, 0, 0, 0),
			ended(9, 1, 1, 1, sched.Met, -1, 1, 20, ""),
		},
	}
}

func TestRunsAhead(t *testing.T) {
	l := ahead()
	testkit.OK(t, l.Validate())
	var begins, predicted []time.Duration
	for _, r := range l.Runs() {
		begins, predicted = append(begins, r.Begin/msec), append(predicted, r.Predicted()/msec)
	}
	if !slices.Equal(begins, []time.Duration{0, 4, 4}) || !slices.Equal(predicted, []time.Duration{3, 4, 3}) {
		t.Errorf("runs begin at %v ms and were to take %v ms", begins, predicted)
	}
	for _, e := range checkTrace(t, l) {
		if e.Cat == catDispatch { // every layer began when it could
			t.Errorf("a wait from %v to %v", e.at(), e.end())
		}
	}
	// x had a layer from 0 to 4 and from 4 to 9, y from 4 to 8.
	if m := l.Metrics(); !near(m.Utilization["x"], 1) || !near(m.Utilization["y"], 4.0/9) {
		t.Errorf("utilization %v", m.Utilization)
	}
}

func TestValidateAhead(t *testing.T) {
	for _, c := range []struct {
		name string
		at   int
		with Record // zero: leave it out
		want string
	}{
		{"no announcement", 3, Record{}, "already runs"},
		{"an end before the layer before", 6, completed(4, 3, 1, 1, 0, 0, 0), "before another"},
		{"an end before it is decided", 6, completed(4, 3, 0, 0, 1, 0, 1), "before the one before"},
		{"another implementation", 6, completed(4, 0, 0, 0, 0, 1, 0), "before another"},
		{"dropped too early", 6, ended(4, 0, 0, 0, sched.Dropped, 0, 0, 20, "late"), "is dropped on accelerator 0"},
		{"announced again", 5, ahead().Records[3], "does not run"},
	} {
		l := ahead()
		if c.with == (Record{}) {
			l.Records = slices.Delete(l.Records, c.at, c.at+1)
		} else {
			l.Records[c.at] = c.with
		}
		t.Run(c.name, func(t *testing.T) { testkit.Fails(t, l.Validate(), ErrInvalid, c.want) })
	}
}

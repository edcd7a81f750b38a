package eventlog

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/terastal/terastal/sched"
)

// traceEvent is one entry of the Chrome trace event format, which Perfetto and
// chrome://tracing open. Times are microseconds.
type traceEvent struct {
	Name string         `json:"name"`
	Cat  string         `json:"cat,omitempty"`
	Ph   string         `json:"ph"`
	TS   float64        `json:"ts"`
	Dur  float64        `json:"dur,omitempty"`
	PID  int            `json:"pid"`
	TID  int            `json:"tid"`
	ID   string         `json:"id,omitempty"`
	S    string         `json:"s,omitempty"`
	BP   string         `json:"bp,omitempty"`
	Args map[string]any `json:"args,omitempty"`
}

// Process numbers of the trace: one track per accelerator, one per model.
const (
	tracePIDAccelerators = 1
	tracePIDModels       = 2
)

// WriteTrace writes the log in the Chrome trace event format: a track per
// accelerator with the layers it ran, linked by flows from layer to layer of a
// request, and a track per model with its requests from release to end.
func (l *Log) WriteTrace(w io.Writer) error {
	b := bufio.NewWriter(w)
	t := &tracer{w: b, enc: json.NewEncoder(b)}
	t.start()
	t.meta("process_name", tracePIDAccelerators, 0, "accelerators")
	t.meta("process_name", tracePIDModels, 0, "requests")
	for k, name := range l.Header.System.Accelerators {
		t.meta("thread_name", tracePIDAccelerators, k+1, name)
	}
	for m := range l.Header.System.Models {
		t.meta("thread_name", tracePIDModels, m+1, l.Header.System.Models[m].Name)
	}
	predicted := map[int64]*Record{} // by job: its running layer's dispatch
	for i := range l.Records {
		r := &l.Records[i]
		switch r.Kind {
		case sched.Dispatched:
			predicted[r.Job] = r
		case sched.Released:
			t.request(l, r, "b", r.Start, map[string]any{"job": r.Job, "deadline_ms": ms(r.Until), "release_lag_us": us(r.At - r.Start)})
		case sched.Completed:
			t.layer(l, r, predicted[r.Job])
		case sched.Ended:
			t.request(l, r, "e", r.At, map[string]any{"outcome": r.Outcome.String(), "reason": r.Detail})
			if r.Outcome != sched.Met {
				t.add(traceEvent{Name: r.Outcome.String(), Cat: "miss", Ph: "i", S: "t", TS: us(r.At),
					PID: tracePIDModels, TID: int(r.Model) + 1, Args: map[string]any{"job": r.Job, "reason": r.Detail}})
			}
			delete(predicted, r.Job)
		}
	}
	t.end()
	if t.err != nil {
		return fmt.Errorf("write trace: %w", t.err)
	}
	return b.Flush()
}

// tracer writes events as a JSON array and keeps the first error.
type tracer struct {
	w     *bufio.Writer
	enc   *json.Encoder
	wrote bool
	err   error
}

func (t *tracer) start() { t.text(`{"displayTimeUnit":"ms","traceEvents":[`) }
func (t *tracer) end()   { t.text("]}\n") }

func (t *tracer) text(s string) {
	if t.err == nil {
		_, t.err = t.w.WriteString(s)
	}
}

func (t *tracer) add(e traceEvent) {
	if t.wrote {
		t.text(",")
	}
	t.wrote = true
	if t.err == nil {
		t.err = t.enc.Encode(e)
	}
}

func (t *tracer) meta(what string, pid, tid int, name string) {
	t.add(traceEvent{Name: what, Ph: "M", PID: pid, TID: tid, Args: map[string]any{"name": name}})
}

// request opens ("b") or closes ("e") a request's span on its model's track.
func (t *tracer) request(l *Log, r *Record, ph string, at time.Duration, args map[string]any) {
	t.add(traceEvent{Name: l.Header.System.Models[r.Model].Name, Cat: "request", Ph: ph, TS: us(at),
		PID: tracePIDModels, TID: int(r.Model) + 1, ID: fmt.Sprint(r.Job), Args: args})
}

// layer writes the span of one layer and the flow that links it to the layers
// before and after it.
func (t *tracer) layer(l *Log, r *Record, d *Record) {
	args := map[string]any{"job": r.Job, "layer": r.Layer,
		"implementation": l.Header.System.Models[r.Model].Layers[r.Layer].Implementations[r.Implementation].Name}
	if d != nil {
		args["predicted_us"] = us(d.Until - d.At)
		args["reason"] = d.Reason.String()
	}
	span := traceEvent{Name: l.label(r), Cat: l.Header.System.Models[r.Model].Name, Ph: "X", TS: us(r.Start), Dur: us(r.At - r.Start),
		PID: tracePIDAccelerators, TID: int(r.Accelerator) + 1, Args: args}
	t.add(span)
	last := int(r.Layer) == len(l.Header.System.Models[r.Model].Layers)-1
	flow := traceEvent{Name: "request", Cat: "flow", Ph: "t", BP: "e", TS: us(r.Start), PID: span.PID, TID: span.TID, ID: fmt.Sprint(r.Job)}
	switch {
	case last && r.Layer == 0:
		return
	case r.Layer == 0:
		flow.Ph, flow.BP = "s", ""
	case last:
		flow.Ph = "f"
	}
	t.add(flow)
}

func us(d time.Duration) float64 { return float64(d) / 1e3 }

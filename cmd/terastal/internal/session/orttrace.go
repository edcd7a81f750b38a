package session

import (
	"fmt"
	"slices"
	"time"

	"github.com/terastal/terastal/cmd/terastal/internal/config"
	"github.com/terastal/terastal/cmd/terastal/internal/result"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched/eventlog"
)

// distortedByTrace says why the times of a run are not to be trusted that was traced with ONNX Runtime's profiler.
const distortedByTrace = "ONNX Runtime's profiler was on, which makes layers take longer"

// maxTracedLayers bounds the runs of layers that are traced: ONNX Runtime keeps
// some hundred bytes for every node of each until the end.
const maxTracedLayers = 500_000

// tracer puts what ONNX Runtime's profiler saw into the traces of runs. Sessions serve all policies, and tell what they
// did when all is over. A nil tracer traces nothing.
type tracer struct {
	*runtime.ORTTrace
	runs []tracedRun
}

// tracedRun is a run whose trace waits for ONNX Runtime's spans.
type tracedRun struct {
	log     *eventlog.Log
	started time.Time
	result  *result.PolicyResult
}

// newTracer makes a tracer where one is asked for. It refuses what would take
// too much memory to trace, and what has nothing to trace.
func newTracer(s *Session, wanted bool) (*tracer, error) {
	if !wanted {
		return nil, nil
	}
	if !slices.ContainsFunc(s.ground.machine().Specs, runtime.Spec.Computes) {
		return nil, fmt.Errorf("%w: --ort-trace: all accelerators are emulated, ONNX Runtime runs nothing on them: leave "+
			"it out", config.ErrInvalid)
	}
	runs := 0.0
	for m, model := range s.Plan.Tables.System().Models {
		layers := len(model.Layers) * len(s.Config.Policies)
		runs += s.Plan.Document.Models[m].Rate * s.Config.Traffic.Duration.Seconds() * float64(layers)
	}
	if runs > maxTracedLayers {
		return nil, fmt.Errorf("%w: --ort-trace keeps every node of every layer that runs in memory: "+
			"about %.0f runs of layers are expected, at most %d can be traced; use a shorter --duration or fewer --policies",
			config.ErrInvalid, runs, maxTracedLayers)
	}
	trace, err := runtime.NewORTTrace()
	if err != nil {
		return nil, err
	}
	return &tracer{ORTTrace: trace}, nil
}

// ort is what accelerators are opened with.
func (t *tracer) ort() *runtime.ORTTrace {
	if t == nil {
		return nil
	}
	return t.ORTTrace
}

func (t *tracer) close() {
	if t != nil {
		t.ORTTrace.Close()
	}
}

// add remembers a run.
func (t *tracer) add(log *eventlog.Log, started time.Time, p *result.PolicyResult) {
	if t == nil || runtime.IsUnscheduled(p.Policy) { // which has other sessions
		return
	}
	log.Header.Distorted = distortedByTrace
	t.runs = append(t.runs, tracedRun{log, started, p})
}

// write writes the traces again, with ONNX Runtime's spans.
func (t *tracer) write(doc *result.Result, note func(string, ...any)) error {
	if t == nil {
		return nil
	}
	for _, r := range t.runs {
		doc.Doubt(result.Doubt{About: "ort-trace",
			Text: distortedByTrace + ": take times and miss rates from a run without --ort-trace"})
		x := t.Spans(r.log, r.started)
		x.Notes = append(x.Notes, distortedByTrace)
		for _, n := range x.Notes {
			note("%s: %s", r.result.Policy, n)
		}
		r.result.Notes = append(r.result.Notes, x.Notes...)
		if err := writeTrace(r.log, r.result.Trace, x.Spans...); err != nil {
			return err
		}
	}
	return nil
}

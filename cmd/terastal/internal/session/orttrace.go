package session

import (
	"fmt"
	"time"

	"github.com/terastal/terastal/cmd/terastal/internal/config"
	"github.com/terastal/terastal/cmd/terastal/internal/result"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched/eventlog"
)

// distortedByTrace says why the times of a run are not to be trusted that was
// traced with ONNX Runtime's profiler.
const distortedByTrace = "ONNX Runtime's profiler was on, which makes layers take longer"

// maxTracedLayers bounds the runs of layers that are traced: ONNX Runtime keeps
// some hundred bytes for every node of each until the end.
const maxTracedLayers = 500_000

// TraceORT makes the run to come put what ONNX Runtime's profiler saw into its
// traces. Its times are then distorted, and its result is INVALID.
func (f *Flow) TraceORT() { f.traceORT = true }

// tracedRun is a run whose trace waits for ONNX Runtime's spans: sessions serve
// all policies, and tell what they did when all is over.
type tracedRun struct {
	log     *eventlog.Log
	started time.Time
	result  *result.PolicyResult
}

// checkTraceORT refuses what would take too much memory to trace, and what has
// nothing to trace.
func (f *Flow) checkTraceORT() error {
	if !f.traceORT {
		return nil
	}
	computes := false
	for _, s := range f.Specs {
		computes = computes || s.Provider != runtime.EmulatedProvider || s.Options[optionCompute] == "true"
	}
	if !computes {
		return fmt.Errorf("%w: --ort-trace: all accelerators are emulated, ONNX Runtime runs nothing on them: leave it out", config.ErrInvalid)
	}
	runs := 0.0
	for m, n := range f.Networks {
		runs += f.Rates[m] * f.Config.Traffic.Duration.Seconds() * float64(len(n.Layers)*len(f.Config.Policies))
	}
	if runs > maxTracedLayers {
		return fmt.Errorf("%w: --ort-trace keeps every node of every layer that runs in memory: about %.0f runs of layers are expected, at most %d can be traced; use a shorter --duration or fewer --policies", config.ErrInvalid, runs, maxTracedLayers)
	}
	return nil
}

// traceInside writes the traces again, with ONNX Runtime's spans.
func (f *Flow) traceInside(doc *result.Result) error {
	for _, r := range f.traced {
		doc.Doubt(result.Doubt{About: "ort-trace", Text: distortedByTrace + ": take times and miss rates from a run without --ort-trace"})
		t := f.ortTrace.Spans(r.log, r.started)
		t.Notes = append(t.Notes, distortedByTrace)
		for _, n := range t.Notes {
			f.opts.Note("%s: %s", r.result.Policy, n)
		}
		r.result.Notes = append(r.result.Notes, t.Notes...)
		if err := WriteTrace(r.log, r.result.Trace, t.Spans...); err != nil {
			return err
		}
	}
	return nil
}

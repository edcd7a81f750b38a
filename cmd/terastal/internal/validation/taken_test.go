package validation

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/sched/eventlog"
	"github.com/terastal/terastal/sched/sim"
)

// TestTaken: cores that the run says others took are in the predictions; without them the 99th percentiles are far off.
func TestTaken(t *testing.T) {
	taken := []sim.Taken{{Accelerator: 0, Threads: 1, Caller: true, Share: .2, Burst: 10 * time.Millisecond,
		Slice: 1400 * us}, {Accelerator: 1, Threads: 2, Share: .3, Burst: 10 * time.Millisecond, Slice: 1400 * us}}
	log := world{noise: .05, durations: func(of sim.Durations, r *rand.Rand) sim.Durations {
		return sim.Straggling(of, taken, r.Uint64())
	}}.play(t, pairOfModels(), "fcfs", 3)
	predict := func(log *eventlog.Log) *Validation {
		return testkit.Must(Validate(Input{Log: log, Predictor: FromSystem(&log.Header.System)}))(t)
	}
	blind := predict(log)
	log.Header.Taken = taken
	for m, told := range predict(log).Models {
		real := told.Real.P99MS
		if off := math.Abs(told.Predicted.P99MS-real) / real; off > .2 {
			t.Errorf("%s: p99 %.2f ms, predicted %.2f", told.Model, real, told.Predicted.P99MS)
		}
		if unaware := blind.Models[m].Predicted.P99MS; unaware > .7*real {
			t.Errorf("%s: p99 %.2f ms, predicted %.2f without a word of what was taken", told.Model, real, unaware)
		}
	}
}
